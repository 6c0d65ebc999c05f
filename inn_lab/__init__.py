"""inn_lab: a laboratory for iterative and sparse recurrent neural networks."""

from typing import TYPE_CHECKING, Any

from inn_lab import _openmp  # noqa: F401

if TYPE_CHECKING:
    from inn_lab.loading import Loaded, load  # noqa: F401

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`inn_lab.load`, whose imports take seconds."""
    if name in ("Loaded", "load"):
        from inn_lab import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""inn_lab: a laboratory for iterative and sparse recurrent neural networks.

The names in `__all__` are its library (docs/library.md). They need no Hydra, Lightning or MLflow, but for `load`, which looks
for the laboratory's runs. Everything else is the laboratory's own, and may change.
"""

import importlib
from typing import TYPE_CHECKING, Any

from inn_lab import _openmp  # noqa: F401

if TYPE_CHECKING:
    from inn_lab.loading import Loaded, load
    from inn_lab.models import INN, LayeredINN, Sequential2D, fix
    from inn_lab.sparse import Sparse, count_weights, sparsify

__version__ = "0.1.0"
__all__ = ["INN", "LayeredINN", "Loaded", "Sequential2D", "Sparse", "count_weights", "fix", "load", "sparsify"]

_WHERE = {
    "loading": ("Loaded", "load"),
    "models": ("INN", "LayeredINN", "Sequential2D", "fix"),
    "sparse": ("Sparse", "count_weights", "sparsify"),
}


def __getattr__(name: str) -> Any:
    """The library's names; torch is imported at the first of them, since that takes seconds."""
    for module, names in _WHERE.items():
        if name in names:
            globals()[name] = getattr(importlib.import_module(f"inn_lab.{module}"), name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

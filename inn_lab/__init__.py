"""inn_lab: a laboratory for iterative and sparse recurrent neural networks."""

from inn_lab import _openmp  # noqa: F401

__version__ = "0.1.0"

"""inn_lab: a laboratory for iterative and sparse recurrent neural networks."""

__version__ = "0.1.0"

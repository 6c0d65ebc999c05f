"""inn_lab: a laboratory for iterative and sparse recurrent neural networks."""

import os

__version__ = "0.1.0"

# torch and numba each have threads of their own on the same cores. By default those of GNU OpenMP spin for milliseconds where
# they wait, and with two jobs on a machine a step of 3 ms then takes 200. Read when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

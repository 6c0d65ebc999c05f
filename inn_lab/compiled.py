"""Kernels that numba compiles, which is imported when the first one is called, since that takes long."""

import importlib
from collections.abc import Callable

import torch


def kernel(module: str, name: str) -> Callable[..., None]:
    """A compiled function of a module, which will run on as many threads as torch."""
    threads = torch.get_num_threads()
    import numba

    found = getattr(importlib.import_module(module), name)
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # numba sets it while it is imported
    numba.set_num_threads(min(threads, most))
    if torch.get_num_threads() != threads:  # numba's start has set OpenMP's number, which is torch's too
        torch.set_num_threads(threads)
    return found

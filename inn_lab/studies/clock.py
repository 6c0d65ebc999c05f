"""The clock of the studies that take times."""

import time
from collections.abc import Callable

import torch

WARM = 2  # calls before the clock starts: the first ones pay for what is made once and kept
LEAST = 3  # calls that are timed, however long they take


def times(work: Callable[[], object], repeats: int, seconds: float, device: torch.device) -> list[float]:
    """The milliseconds of each call of `work`: `repeats` calls, fewer where those so far took `seconds`, at least 3."""
    taken: list[float] = []
    total = 0.0
    while len(taken) < LEAST or (len(taken) < repeats and total < seconds):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        taken.append(1000 * (time.perf_counter() - start))
        total += taken[-1] / 1000
    return taken


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

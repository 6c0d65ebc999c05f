"""Schedules: functions of the number of all updates, which return the factor that `lr` has at each. `schedule=` names one.

The factor at an update follows from its number, from 0, and nothing else: a run that was cut off goes on with it. `updates` is
None where a clock ends the training; only what needs no end is defined then.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from inn_lab.errors import ConfigError
from inn_lab.ranges import BIG, each, real

Factor = Callable[[int], float]
BATCHES = {None: None, "one_batch": 1, "overfit": 1, "profile": 10}  # by `debug`, how many of each part an epoch takes
_SHARE = real(lambda v: 0 <= v < 1, "a fraction of all updates, in [0, 1)", 0.1)
Warmup = Annotated[float, _SHARE]
Places = Annotated[Sequence[float], each(_SHARE, 100)]
Least = Annotated[float, real(lambda v: 0 <= v <= 1, "a fraction of lr, in [0, 1]", 0.01)]
Gamma = Annotated[float, real(lambda v: 0 < v <= BIG, "a positive factor, at most 1e9", 0.1)]
CLOCK = "it needs the number of all updates, and a clock ends the training (trainer.max_time)"


def constant(updates: int | None, *, warmup: Warmup) -> Factor:
    """1 at all updates, after the first `warmup` · updates, in which it rises linearly (as in all schedules)."""
    if updates is None and warmup:
        raise ConfigError(f"warmup={warmup}: {CLOCK}; set it to 0, or trainer.max_time=null")
    return _warmed(lambda update: 1.0, _length(warmup, updates or 0))


def cosine(updates: int | None, *, warmup: Warmup, least: Least) -> Factor:
    """Falls from 1 to `least` along half a cosine (Loshchilov and Hutter 2017, Eq. 5, without restarts)."""
    total = _known(updates, "cosine")
    start = _length(warmup, total)

    def factor(update: int) -> float:
        done = min(1.0, (update - start) / max(1, total - start))
        return least + (1 - least) * (1 + math.cos(math.pi * done)) / 2

    return _warmed(factor, start)


def step(updates: int | None, *, warmup: Warmup, at: Places, gamma: Gamma) -> Factor:
    """Is multiplied by `gamma` at each of the places `at`, fractions of all updates."""
    total = _known(updates, "step")
    return _warmed(lambda update: gamma ** sum(update >= place * total for place in at), _length(warmup, total))


def _warmed(factor: Factor, length: int) -> Factor:
    """1/length, 2/length, … at the first updates (Goyal et al. 2017, 2.2), then `factor`."""
    return lambda update: (update + 1) / length if update < length else factor(update)


def _length(warmup: float, updates: int) -> int:
    return round(warmup * updates)


def _known(updates: int | None, name: str) -> int:
    if updates is None:
        raise ConfigError(f"schedule={name}: {CLOCK}; take schedule=constant, or set trainer.max_time=null")
    return updates


def updates(data: Any, epochs: int, debug: str | None) -> int:
    """How many updates these are: one a batch."""
    batches = -(-data.sizes["train"] // data.batch_size)
    return epochs * min(batches, BATCHES[debug] or batches)

"""The progress of a job while it trains: in words, and for the launcher that listens."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise

SILENT = 30  # seconds without a line after which a job prints that it is at work
LOOK = 1.0  # seconds between two checks of this
BARS, WIDE = "▁▂▃▄▅▆▇█", 10  # of a curve: heights from 0 to 1, and how many it has at most
TOLD = 0.3  # least seconds between two messages to the launcher: if it is busy, a full pipe would stop the training


@dataclass(frozen=True)
class Standing:
    """The progress at the beginning and after each epoch."""

    epoch: int  # how many are done
    epochs: int | None  # of how many; None where a clock ends the training
    acc_end: float | None = None  # on the validation data
    left: float | None = None  # seconds of training
    curve: tuple[float, ...] = ()  # acc_end by epoch, to be drawn

    def __str__(self) -> str:
        of = f"/{self.epochs}" if self.epochs else ""
        score = "" if self.acc_end is None else f" · val ACC_end {self.acc_end:.3f}"
        score += f" {drawn(self.curve)}" if self.curve else ""
        left = "" if self.left is None else f" · {duration(self.left)} left"
        return f"epoch {self.epoch}{of}{score}{left}"

    def after(self, seconds: float) -> "Standing":
        """The same progress, so many seconds later."""
        return self if self.left is None else replace(self, left=max(0.0, self.left - seconds))


@dataclass(frozen=True)
class Waits:
    """Whether a job waits for another, and takes no processor."""

    now: bool


listener: Callable[[Standing | Waits], object] | None = None  # of this process: the launcher of its sweep, if there is one
_now: Standing | None = None  # the last progress of this process' job
_told = _heard = _said = 0.0  # times of the last progress, the last message to the listener and the last printed line


def tell(now: Standing, shown: bool = False) -> None:
    """Passes the progress on to the listener. shown: whether a person sees it already, in a bar."""
    global _now, _told, _heard, _said
    _now, _told = now, time.monotonic()
    _said = _told if shown else _said
    if listener and _told - _heard >= TOLD:
        _heard = _told
        _send(now)


def _send(said: Standing | Waits) -> None:
    if listener:
        with suppress(OSError):  # a launcher that is gone takes its jobs with it, in order
            listener(said)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Around the time in which this job waits for what another one makes."""
    say(f"waits for {what}, which another job makes")
    _send(Waits(True))
    try:
        yield
    finally:
        _send(Waits(False))


def say(line: str) -> None:
    global _said
    _said = time.monotonic()
    print(line, flush=True)


@contextmanager
def at_work(title: str) -> Iterator[None]:
    """Prints that the job is at work whenever nothing was printed for half a minute: an epoch may take long."""
    global _now, _said
    begun = _said = time.monotonic()
    _now, over = None, threading.Event()

    def watch() -> None:
        while not over.wait(max(LOOK, _said + SILENT - time.monotonic())):
            if (time_now := time.monotonic()) - _said >= SILENT:
                where = f"{_now.after(time_now - _told)} · " if _now else ""
                say(f"{title} · {where}at work for {duration(time_now - begun)}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def drawn(curve: Sequence[float]) -> str:
    """Values from 0 to 1 as bars. Of more than `WIDE` each bar is the mean of its part."""
    bars, top = min(WIDE, len(curve)), len(BARS) - 1
    edges = [len(curve) * bar // bars for bar in range(bars + 1)]
    means = (sum(curve[start:stop]) / (stop - start) for start, stop in pairwise(edges))
    return "".join(BARS[max(0, min(top, int(mean * len(BARS))))] if math.isfinite(mean) else "?" for mean in means)


def duration(seconds: float) -> str:
    """Seconds in words: 1 min 20 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"

"""Where a job stands while it trains, in words; and who hears of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

SILENT = 30  # seconds after which a job that has said nothing says that it is at work
LOOK = 1.0  # seconds between two looks whether it has
TOLD = 0.3  # seconds between two words to the launcher, which may be busy: a pipe that is full would stop the training


@dataclass(frozen=True)
class Standing:
    """What is known at the beginning, and after each epoch."""

    epoch: int  # how many are done
    epochs: int | None  # of how many; None where a clock ends the training
    acc_end: float | None = None  # on the validation data
    left: float | None = None  # seconds of training

    def __str__(self) -> str:
        of = f"/{self.epochs}" if self.epochs else ""
        score = "" if self.acc_end is None else f" · val ACC_end {self.acc_end:.3f}"
        left = "" if self.left is None else f" · {duration(self.left)} left"
        return f"epoch {self.epoch}{of}{score}{left}"

    def after(self, seconds: float) -> "Standing":
        """The same so much later."""
        return self if self.left is None else replace(self, left=max(0.0, self.left - seconds))


listener: Callable[[Standing], object] | None = None  # of this process: a sweep's launcher, if it started it
_now: Standing | None = None  # this process' job, as it told last
_told = _heard = _said = 0.0  # when it told, when the listener last heard it, and when it last printed a line


def tell(now: Standing, shown: bool = False) -> None:
    """shown: whether a person sees it already, in a bar."""
    global _now, _told, _heard, _said
    _now, _told = now, time.monotonic()
    _said = _told if shown else _said
    if listener and _told - _heard >= TOLD:
        _heard = _told
        with suppress(OSError):  # a launcher that is gone takes its jobs with it, in order
            listener(now)


def say(line: str) -> None:
    global _said
    _said = time.monotonic()
    print(line, flush=True)


@contextmanager
def at_work(title: str) -> Iterator[None]:
    """Says that the job is at work wherever it has said nothing for half a minute: an epoch, or a step, may take long."""
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


def duration(seconds: float) -> str:
    """Seconds as people say them: 1 min 20 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"

"""Where a job stands while it trains, in words; and who hears of it."""

from collections.abc import Callable
from dataclasses import dataclass

listener: "Callable[[Standing], object] | None" = None  # of this process: a sweep's launcher, if it started it


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


def duration(seconds: float) -> str:
    """Seconds as people say them: 1 min 20 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"

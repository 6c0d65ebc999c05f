"""A run's progress while it trains: a bar in a terminal, elsewhere some lines. A sweep's launcher gets it too."""

import sys
import time
from dataclasses import replace
from typing import Any

from inn_lab import _torchvision  # noqa: F401  (before Lightning)

# isort: split
import pytorch_lightning as L
from pytorch_lightning.callbacks import Timer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from inn_lab import standing
from inn_lab.standing import Standing

LINES = 10  # how many lines a run prints where there is no terminal, beside those of `standing.at_work`


class ShowProgress(L.Callback):
    """`━━━━━━ epoch 12/60 · val ACC_end 0.412 · 57 s left · loss 1.620`. Only the launcher hears it where it is not `shown`."""

    def __init__(self, title: str, shown: bool) -> None:
        self.title, self.shown = title, shown
        self.bar: Progress | None = None
        self.curve: list[float] = []  # of this attempt

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.started, self.before = time.perf_counter(), trainer.current_epoch  # epochs of earlier attempts
        callbacks = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it without saying so
        self.clock = next((callback for callback in callbacks if isinstance(callback, Timer)), None)
        now = Standing(self.before, None if self.clock else trainer.max_epochs)
        if self.shown and sys.stdout.isatty():
            columns = [BarColumn(bar_width=12), TextColumn("{task.description}")]
            self.bar = Progress(*columns, console=Console(file=sys.stdout))
            self.task = self.bar.add_task(str(now), total=trainer.max_epochs, completed=self.before)
            self.bar.start()
        standing.tell(now, shown=self.bar is not None)

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        done, total, time_now = trainer.current_epoch + 1, trainer.max_epochs or 0, time.perf_counter()
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        left, loss = None, f"loss {values['val/loss']:.3f}"
        if not module.diverged:  # then it ends here
            left = (time_now - self.started) / (done - self.before) * (total - done)
            left = min(left, self.clock.time_remaining() or 0.0) if self.clock else left
        now = Standing(done, None if self.clock else total, values["val/acc_end"], left)
        self.curve.append(values["val/acc_end"])
        if self.bar:
            self.bar.update(self.task, completed=done, description=f"{now} · {loss}")
        elif self.shown and (done == total or done % max(1, total // LINES) == 0):
            standing.say(f"{self.title} · {now} · {loss}")
        standing.tell(replace(now, curve=tuple(self.curve)), shown=self.bar is not None)

    def stop(self) -> None:
        if self.bar:
            self.bar.stop()

    def on_train_end(self, *_: Any) -> None:
        self.stop()

    def on_exception(self, *_: Any) -> None:
        self.stop()

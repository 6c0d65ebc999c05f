"""What a person sees while a run trains: a bar in a terminal, else a line now and then."""

import sys
import time
from typing import Any

from inn_lab import _torchvision  # noqa: F401  (before Lightning)

# isort: split
import pytorch_lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINES = 10  # how many lines a run prints where there is no terminal


class ShowProgress(L.Callback):
    """`job 2 · R=0.05  ━━━━━━  epoch 12/60 · val acc_end 0.41 · loss 1.62 · 1.2 s/epoch · 0:00:57 left`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.started, self.before = time.perf_counter(), trainer.current_epoch  # epochs of earlier attempts
        if sys.stdout.isatty():
            columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn()]
            self.bar = Progress(*columns, console=Console(file=sys.stdout))
            self.task = self.bar.add_task(self.title, total=trainer.max_epochs, completed=self.before, note="")
            self.bar.start()

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        done, total = trainer.current_epoch + 1, trainer.max_epochs
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        note = f"epoch {done}/{total} · val acc_end {values['val/acc_end']:.3f} · loss {values['val/loss']:.3f}"
        note += f" · {values['time/epoch_s']:.2f} s/epoch"
        if self.bar:
            self.bar.update(self.task, completed=done, note=note)
        elif done == total or done % max(1, total // LINES) == 0:
            left = (time.perf_counter() - self.started) / (done - self.before) * (total - done)
            print(f"{self.title} · {note} · {left:.0f} s left", flush=True)

    def stop(self) -> None:
        if self.bar:
            self.bar.stop()

    def on_train_end(self, *_: Any) -> None:
        self.stop()

    def on_exception(self, *_: Any) -> None:
        self.stop()

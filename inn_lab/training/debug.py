"""What `debug=` adds to a training: does a network learn one batch, and where does the time go?"""

from typing import Any

from inn_lab import _torchvision  # noqa: F401  (before Lightning)

# isort: split
import pytorch_lightning as L
import torch

from inn_lab.tracking import Run

ROWS = 20  # of the table of operators


class Overfit(L.Callback):
    """Ends the training when every answer to the training batch is right, and says whether its loss fell."""

    def __init__(self, title: str) -> None:
        self.title, self.losses, self.acc_end = title, list[float](), 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.acc_end = float(trainer.callback_metrics["train/acc_end"])
        trainer.should_stop |= self.acc_end == 1

    def on_train_end(self, *_: Any) -> None:
        learnt = "learnt" if self.acc_end == 1 else "NOT learnt"
        fell = "fell" if self.losses[-1] < self.losses[0] else "did NOT fall"
        count = f"{len(self.losses)} update{'s' * (len(self.losses) != 1)}"
        loss = f"its loss {fell}, from {self.losses[0]:.3g} to {self.losses[-1]:.3g}"
        print(f"{self.title} · one batch, {count}: {learnt}, ACC_end {self.acc_end:.3f}; {loss}", flush=True)


class Profile(L.Callback):
    """Takes the times of all of torch's operators in the second epoch's training (in the first much is done once); prints them
    as a table, and keeps it as profile.txt among the run's artifacts."""

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, cuda = run, device.type == "cuda"
        activity, self.by = torch.profiler.ProfilerActivity, f"self_{'device' if cuda else 'cpu'}_time_total"
        self.profile = torch.profiler.profile(activities=[activity.CPU, *([activity.CUDA] if cuda else [])], acc_events=True)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:  # Lightning's batch is an epoch, see `Training`
        if trainer.current_epoch == 1:
            self.profile.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            self.profile.stop()
            table = self.profile.key_averages().table(sort_by=self.by, row_limit=ROWS)
            self.run.file("profile.txt", lambda path: path.write_text(table))
            print(table, flush=True)

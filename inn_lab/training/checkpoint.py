"""Checkpoints from which a run that was cut off ends as if nothing had happened: on the CPU bit for bit."""

import io
import time
from pathlib import Path
from typing import Any

from inn_lab import _torchvision  # noqa: F401  (before Lightning)

# isort: split
import pytorch_lightning as L
import torch

from inn_lab.records import write_atomically
from inn_lab.seeding import put_random_states, random_states


class Checkpoint(L.Callback):
    """Writes what an epoch ended with to `path`, every `seconds`, and whatever was last when a run is interrupted (`flush`).

    A checkpoint holds the epoch, the weights, the optimizer, the best epoch, all random states, the seconds trained and whether
    the training diverged. It is taken when the next epoch starts: by then the last one's metrics are in the journal. The data
    need no state: seed and epoch say all. Nor does the schedule: the number of the update does.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._last: dict[str, Any] | None = None  # taken, not yet written
        self._random: dict[str, Any] | None = None
        self._before = 0.0  # seconds trained by earlier attempts

    def restore(self, trainer: L.Trainer, module: Any) -> float:
        """Brings module and trainer to where the checkpoint stands, if there is one; returns the seconds trained until then.

        A checkpoint that cannot be read is said and passed over: the run starts from its beginning.
        """
        if not self.path.exists():
            return 0.0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=False)
            keys = ("model", "optimizer", "random", "epoch", "seconds", "diverged", "best")
            model, optimizer, states, epoch, seconds, diverged, best = (state[key] for key in keys)
        except Exception as error:  # whatever a damaged file makes of itself
            print(f"{self.path} cannot be read ({type(error).__name__}): the run starts from its beginning", flush=True)
            self.path.unlink()
            return 0.0
        module.model.load_state_dict(model)
        module.best.restore(best)
        if module.followed:
            module.followed.restore(state["patterns"])
        module.optimizer_state, self._random, self._before, module.diverged = optimizer, states, seconds, diverged
        progress: Any = trainer.fit_loop.epoch_progress.current  # it has all four, and says so of two
        progress.ready = progress.started = progress.processed = progress.completed = epoch
        return seconds

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self._started = self._written = time.monotonic()
        if self._random:
            put_random_states(self._random)

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        self._take(trainer, module)
        if time.monotonic() - self._written >= self.seconds:
            self.flush()

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        self._take(trainer, module)
        self.flush()

    def _take(self, trainer: L.Trainer, module: Any) -> None:
        epoch = trainer.fit_loop.epoch_progress.current.completed
        if epoch == 0:
            return
        self._last = copied(
            {
                "epoch": epoch,
                "model": module.model.state_dict(),
                "optimizer": trainer.optimizers[0].state_dict(),
                "random": random_states(),
                "seconds": self._before + time.monotonic() - self._started,
                "diverged": module.diverged,
            }
        ) | {"best": module.best.state()}
        if module.followed:
            self._last["patterns"] = module.followed.state()

    def flush(self) -> None:
        """Writes what was taken last."""
        if self._last is not None:
            content = io.BytesIO()
            torch.save(self._last, content)
            write_atomically(self.path, content.getbuffer())
            self._last, self._written = None, time.monotonic()


def copied(value: Any) -> Any:
    """A copy of nested tables and tensors, on the CPU: training goes on in the originals."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value

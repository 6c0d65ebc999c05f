"""The one LightningModule: any model, any data, any objective."""

import math
import time
from collections.abc import Iterator
from typing import Any

from inn_lab import _torchvision  # noqa: F401  (before Lightning, which imports torchvision through torchmetrics)

# isort: split
import pytorch_lightning as L
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from inn_lab.models.base import Model
from inn_lab.tracking import Run
from inn_lab.training.objectives import Objective
from inn_lab.training.optimizer import adam


class Training(L.LightningModule):
    """Trains `model` on `data` for `objective` with Adam (Kingma & Ba 2015).

    Logs by epoch PART/loss, PART/acc_end, PART/acc_seq (Hershey 2023, Eqs. 2.19, 2.20) for train and val, and time/epoch_s,
    the seconds that drawing and training on an epoch take; at the end those of test. `answers` then holds the test's logits
    and true classes. After a loss that is no finite number, in whatever pass, there is no further epoch: `diverged`. `earlier`
    says for how many epochs the model was trained before: the training data are those of the epochs that follow.

    Lightning is handed a whole epoch as one batch: its loop costs about as much per step as a small sparse network does, so
    the batches are looped over here, and Lightning keeps the epochs, the devices, logging, and stopping.
    """

    automatic_optimization = False

    def __init__(
        self, model: Model, data: Any, objective: Objective, lr: float, clip: float | None = None, earlier: int = 0
    ) -> None:
        super().__init__()
        self.model, self.data, self.objective, self.lr, self.clip, self.earlier = model, data, objective, lr, clip, earlier
        self.answers: list[tuple[Tensor, Tensor]] = []
        self.optimizer_state: dict[str, Any] | None = None  # a checkpoint's, to go on from
        self.diverged = False

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = adam(self.model, self.lr)
        if self.optimizer_state:
            optimizer.load_state_dict(self.optimizer_state)
        return optimizer

    # The data are tensors on the device already: batches by index, no worker processes.
    def train_dataloader(self) -> "Pass":
        return Pass(self.data.batches("train", self.earlier + self.current_epoch))

    def val_dataloader(self) -> "Pass":
        return Pass(self.data.batches("val"))

    def test_dataloader(self) -> "Pass":
        return Pass(self.data.batches("test"))

    def training_step(self, batches: Any, _: int) -> None:
        start = time.perf_counter()
        (optimizer,) = self.trainer.optimizers
        for loss in self.losses("train", batches):
            optimizer.zero_grad()
            loss.backward()
            if self.clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            optimizer.step()
        self.log("time/epoch_s", time.perf_counter() - start, on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, batches: Any, _: int) -> None:
        for _loss in self.losses("val", batches):
            pass

    def on_train_epoch_end(self) -> None:
        self.trainer.should_stop |= self.diverged

    def test_step(self, batches: Any, _: int) -> None:
        for _loss in self.losses("test", batches):
            pass

    def losses(self, part: str, batches: Any) -> Iterator[Tensor]:
        """The loss of each batch, one after the other; logs their mean and the accuracies when all have been taken."""
        sums = torch.zeros(())
        for x, y in batches:
            outputs = self.objective.read(self.model(x), x)  # (B, T, O)
            loss = self.objective.loss(outputs, y)
            with torch.no_grad():  # summed on the device, read once a pass: no wait for the device at each step
                end, seq = self.objective.correct(outputs, y)
                sums = sums + torch.stack([loss.detach() * len(y), end, seq, torch.full_like(seq, len(y))])
            if part == "test":
                answer, true = self.objective.answer(outputs, y)
                self.answers.append((answer.float().cpu(), true.cpu()))
            yield loss
        loss_sum, end, seq, n = sums.tolist()
        self.diverged |= not math.isfinite(loss_sum)
        values = {"loss": loss_sum / n, "acc_end": end / n, "acc_seq": seq / n, **self.model.told()}
        logged = {f"{part}/{key}": value for key, value in values.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=1)


class Pass:
    """All batches of one pass over the data, which Lightning takes for a loader with one batch."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        yield self.batches


class ToMLflow(Logger):
    """Lightning's metrics into the lab's MLflow run, by epoch."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    @property
    def name(self) -> str:
        return "mlflow"

    @property
    def version(self) -> str | None:
        return self.run.id

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The runner has logged the whole configuration."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        epoch = int(values.pop("epoch", 0))
        self.run.metrics(values, epoch)

"""The one LightningModule: any model, any data, any objective."""

import time
from typing import Any

from inn_lab import _torchvision  # noqa: F401  (before Lightning, which imports torchvision through torchmetrics)

# isort: split
import pytorch_lightning as L
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from inn_lab.tracking import Run
from inn_lab.training.objectives import Objective


class Training(L.LightningModule):
    """Trains `model` on `data` for `objective` with Adam (Kingma & Ba 2015).

    Logs by epoch PART/loss, PART/acc_end, PART/acc_seq (Hershey 2023, Eqs. 2.19, 2.20) for train and val, and time/epoch_s,
    the seconds that drawing and training on an epoch take; at the end those of test. `answers` then holds the test's logits
    and true classes.
    """

    def __init__(self, model: torch.nn.Module, data: Any, objective: Objective, lr: float) -> None:
        super().__init__()
        self.model, self.data, self.objective, self.lr = model, data, objective, lr
        self.sums: Tensor | None = None
        self.answers: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.lr, fused=True)

    # The data are tensors on the device already: batches by index, no worker processes.
    def train_dataloader(self) -> Any:
        return self.data.batches("train", self.current_epoch)

    def val_dataloader(self) -> Any:
        return self.data.batches("val")

    def test_dataloader(self) -> Any:
        return self.data.batches("test")

    def step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = batch
        outputs = self.model(x)  # (B, T, O)
        loss = self.objective.loss(outputs, y)
        with torch.no_grad():  # summed on the device, read once an epoch: no wait for the device at each step
            end, seq = self.objective.correct(outputs, y)
            sums = torch.stack([loss.detach() * len(y), end, seq, torch.full_like(seq, len(y))])
            self.sums = sums if self.sums is None else self.sums + sums
        return loss, outputs

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.step(batch)[0]

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.step(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        _, outputs = self.step(batch)
        self.answers.append((self.objective.answer(outputs).float().cpu(), batch[1].cpu()))

    def report(self, part: str) -> None:
        loss, end, seq, n = self.sums.tolist()
        self.sums = None
        self.log_dict({f"{part}/loss": loss / n, f"{part}/acc_end": end / n, f"{part}/acc_seq": seq / n})

    def on_train_epoch_start(self) -> None:
        self.started = time.perf_counter()

    def on_validation_epoch_start(self) -> None:
        if self.sums is not None:  # Lightning validates inside the training epoch: what is summed so far is the training's
            self.report("train")
            self.log("time/epoch_s", time.perf_counter() - self.started)

    def on_validation_epoch_end(self) -> None:
        self.report("val")

    def on_test_epoch_end(self) -> None:
        self.report("test")


class ToMLflow(Logger):
    """Lightning's metrics into the lab's MLflow run, by epoch."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    @property
    def name(self) -> str:
        return "mlflow"

    @property
    def version(self) -> str:
        return self.run.id

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The runner has logged the whole configuration."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        epoch = int(values.pop("epoch", 0))
        self.run.metrics(values, epoch)

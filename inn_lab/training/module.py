"""The one LightningModule: any model, any data, any objective."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

from inn_lab import _torchvision  # noqa: F401  (before Lightning, which imports torchvision through torchmetrics)

# isort: split
import pytorch_lightning as L
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from inn_lab.models.base import Model
from inn_lab.tracking import Run
from inn_lab.training.best import Best
from inn_lab.training.objectives import Objective
from inn_lab.training.optimizers import on_device, scaled, set_rate
from inn_lab.training.patterns import Followed
from inn_lab.training.replay import Replay, changed
from inn_lab.training.rewiring import Method
from inn_lab.training.schedules import BATCHES, Factor, updates
from inn_lab.trials import Trial


class Training(L.LightningModule):
    """Trains `model` on `data` for `objective`.

    Logs by epoch PART/loss, PART/acc_end, PART/acc_seq (Hershey 2023, Eqs. 2.19, 2.20) for train and val, and time/epoch_s,
    the seconds that drawing and training on an epoch take; at the end those of test. `answers` then holds the test's logits
    and true classes. After a loss that is no finite number, in whatever pass, there is no further epoch: `diverged`. `earlier`
    says for how many epochs the model was trained before: the training data are those of the epochs that follow. At each update
    the optimizer's learning rate is multiplied by the `factor` at that update's number, from 0. `best` says which epoch was the
    best, and when there is no further one. With `debug` an epoch takes the first `BATCHES` of each part alone, and with
    "overfit" it is the same one each time. `method` changes the patterns of the model's matrices in training. The `trial` of a
    search is asked after each epoch but the last whether it is `hopeless`; then there is no further one. With `replay` a GPU
    replays the steps, and it is told why where that cannot be.

    Without an optimizer it can be tested, and not trained.

    Lightning is handed a whole epoch as one batch: its loop costs about as much per step as a small sparse network does, so
    the batches are looped over here, and Lightning keeps the epochs, the devices, logging, and stopping.
    """

    automatic_optimization = False

    def __init__(
        self,
        model: Model,
        data: Any,
        objective: Objective,
        optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer] | None = None,
        factor: Factor = lambda update: 1.0,
        clip: float | None = None,
        earlier: int = 0,
        best: Best | None = None,
        debug: str | None = None,
        method: Method | None = None,
        trial: Trial | None = None,
        replay: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.data, self.objective, self.clip, self.earlier = model, data, objective, clip, earlier
        self.make_optimizer, self.factor, self.best, self.debug = optimizer, factor, best or Best(), debug
        self.method, self.followed, self.trial = method, None, trial
        if method:
            spent = partial(model.spent, data.steps) if isinstance(model, Model) else dict
            self.followed = Followed(partial(method.matrices, model), spent)
        self.answers: list[tuple[Tensor, Tensor]] = []
        self.replay = Replay(self.step, self._changed, replay) if replay else None
        self.sums = torch.zeros(4)  # of a pass: losses, right answers at the end and at all steps, examples
        self.optimizer_state: dict[str, Any] | None = None  # a checkpoint's, to go on from
        self.diverged = self.hopeless = False

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.make_optimizer is not None
        optimizer = scaled(self.make_optimizer(self.model.parameters()), self.model)
        self.rates = [group["lr"] for group in optimizer.param_groups]  # a checkpoint's have their factor in them
        if self.optimizer_state:
            optimizer.load_state_dict(self.optimizer_state)
        on_device(optimizer, self.device)
        return optimizer

    # The data are tensors on the device already: batches by index, no worker processes.
    def train_dataloader(self) -> "Pass":
        return self.first("train", 0 if self.debug == "overfit" else self.earlier + self.current_epoch)

    def val_dataloader(self) -> "Pass":
        return self.first("val")

    def test_dataloader(self) -> "Pass":
        return self.first("test")

    def first(self, part: str, epoch: int = 0) -> "Pass":
        return Pass(islice(self.data.batches(part, epoch), BATCHES[self.debug]))

    def training_step(self, batches: Any, _: int) -> None:
        start = time.perf_counter()
        (optimizer,) = self.trainer.optimizers
        self._begin()
        for update, (x, y) in enumerate(batches, updates(self.data, self.current_epoch, self.debug)):
            for group, lr in zip(optimizer.param_groups, self.rates, strict=True):
                set_rate(group, lr * self.factor(update))
            if self.method and self.method.due(update):
                self.step(x, y, self.method.around(update, self.model, optimizer))
                if self.replay:
                    self.replay.clear()
            else:
                (self.replay or self.step)(x, y)
        self._tell("train")
        self.log("time/epoch_s", time.perf_counter() - start, on_step=False, on_epoch=True, batch_size=1)

    def step(self, x: Tensor, y: Tensor, around: AbstractContextManager[None] | None = None) -> None:
        """One update of the weights. `around` stands around the backward pass."""
        (optimizer,) = self.trainer.optimizers
        loss = self._loss("train", x, y)
        optimizer.zero_grad()
        with around or nullcontext():
            loss.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        optimizer.step()

    def _changed(self) -> list[Tensor]:
        return changed(self.model, self.trainer.optimizers[0], self.sums)

    def validation_step(self, batches: Any, _: int) -> None:
        self._measure("val", batches)

    def on_train_epoch_end(self) -> None:
        if self.followed:
            self.log_dict(self.followed.told(), on_step=False, on_epoch=True)
        self.best.see(self.current_epoch, float(self.trainer.callback_metrics["val/acc_end"]), self.model)
        self.trainer.should_stop |= self.diverged or self.best.over
        if self.trial and not self.trainer.should_stop and self.current_epoch + 1 != self.trainer.max_epochs:
            value = float(self.trainer.callback_metrics[self.trial.search.metric])
            self.hopeless = self.trainer.should_stop = self.trial.hopeless(self.current_epoch, value)

    def on_train_end(self) -> None:
        if self.replay:
            self.replay.clear()  # what was recorded holds memory of the device

    def test_step(self, batches: Any, _: int) -> None:
        self._measure("test", batches)

    def _measure(self, part: str, batches: Any) -> None:
        self._begin()
        for x, y in batches:
            self._loss(part, x, y)
        self._tell(part)

    def _begin(self) -> None:
        """A pass begins. Its sums stay where they are, so that a step can be replayed."""
        if self.sums.device != self.device:
            with torch.inference_mode(False):  # Lightning validates in it, and trains with the same sums
                self.sums = torch.zeros(4, device=self.device)
        self.sums.zero_()

    def _loss(self, part: str, x: Tensor, y: Tensor) -> Tensor:
        """The loss of a batch, which is summed up with its accuracies."""
        outputs = self.objective.read(self.model(x), x)  # (B, T, O)
        loss = self.objective.loss(outputs, y)
        with torch.no_grad():  # summed on the device, read once a pass: no wait for the device at each step
            end, seq = self.objective.correct(outputs, y)
            self.sums += torch.stack([loss.detach() * len(y), end, seq, torch.full_like(seq, len(y))])
        if part == "test":
            answer, true = self.objective.answer(outputs, y)
            self.answers.append((answer.float().cpu(), true.cpu()))
        return loss

    def _tell(self, part: str) -> None:
        """A pass ends: logs the mean of its losses, and its accuracies."""
        loss_sum, end, seq, n = self.sums.tolist()
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

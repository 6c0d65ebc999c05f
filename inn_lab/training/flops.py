"""Counts floating-point operations while a model trains."""

from contextlib import ExitStack
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from inn_lab import _torchvision  # noqa: F401  (before Lightning)

# isort: split
import pytorch_lightning as L


class CountFlops(L.Callback):
    """Logs `train/flops`, of a training example, by epoch."""

    def __init__(self, examples: int) -> None:
        self.examples, self.counter, self.counting = examples, Counter(), ExitStack()

    def on_train_batch_start(self, *_: Any) -> None:  # Lightning's batch is an epoch, see `Training`
        self.counter = self.counting.enter_context(Counter())

    def on_exception(self, *_: Any) -> None:
        self.counting.close()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.counting.close()
        module.log("train/flops", self.counter.total / self.examples, on_step=False, on_epoch=True, batch_size=1)


class Counter(TorchDispatchMode):
    """Sums the operations of what runs in it. torch's `FlopCounterMode` does so too, but its hooks forbid `fix`'s backward."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if count := flop_registry.get(function._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out

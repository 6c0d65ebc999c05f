"""The best epoch so far: whether to wait for a better one, and its weights."""

from typing import Any

from torch import Tensor
from torch.nn import Module


class Best:
    """The epoch with the highest ACC_end on the validation data, of equal ones the first. Epochs are counted from 0.

    patience: after so many epochs without a better one the training is `over`; None: it is not.
    keep: whether the weights of that epoch are kept, as `weights`, on the CPU.
    """

    def __init__(self, patience: int | None = None, keep: bool = False) -> None:
        self.patience, self.keep = patience, keep
        self.acc_end, self.epoch, self.last = -1.0, -1, -1  # before the first epoch
        self.weights: dict[str, Tensor] | None = None

    def see(self, epoch: int, acc_end: float, model: Module) -> None:
        """Takes notice of an epoch's end."""
        self.last = epoch
        if acc_end > self.acc_end:
            self.acc_end, self.epoch = acc_end, epoch
            if self.keep:
                self.weights = {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}

    @property
    def over(self) -> bool:
        return self.patience is not None and self.last - self.epoch >= self.patience

    def stopped(self, epochs: int) -> bool:
        """Whether this ended a training of so many epochs early."""
        return self.over and self.last + 1 < epochs

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it. Nothing changes the tensors in it."""
        return {"acc_end": self.acc_end, "epoch": self.epoch, "last": self.last, "weights": self.weights}

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

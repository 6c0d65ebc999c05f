"""Objectives: the loss that is minimised, and the two accuracies that the lab reports."""

from typing import Annotated, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inn_lab.errors import ConfigError
from inn_lab.ranges import one_of, real

Within = Annotated[float, real(lambda v: v > 0, "an answer this near is right, a positive number", 0.05)]


class Objective(Protocol):
    """The methods of every objective. They take a model's outputs (B, T, O), x (B, T, I) and y (B,)."""

    def read(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The outputs that count, which the other methods get: all of them, (B, T, O)."""
        return outputs

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """A scalar."""

    def answer(self, outputs: Tensor) -> Tensor:
        """The logits that count at the last step."""

    def correct(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """How many answers are right at the last step, and how many at all steps, as a share of the steps."""


class Anomaly(Objective):
    """Which of the images before the last, blank step is the anomaly (Hershey 2023, 2.1.7 and Eqs. 2.17–2.20).

    Of the O = L + 1 outputs the first L are the logits of the index, read at the last step; the last one is the logit of "this
    image is the anomaly", read at the L steps before. The two losses are summed; each can be switched off, not both. Without
    the flag's task there is no such output, O = L, and ACC_seq is ACC_end.
    """

    def __init__(self, *, index: bool = True, flag: bool = True) -> None:
        if not (index or flag):
            raise ConfigError("index=false and flag=false: nothing is left to train for; keep one")
        self.index, self.flag = index, flag

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        loss = outputs.new_zeros(())
        if self.index:
            loss = loss + F.cross_entropy(self.answer(outputs), y)
        if self.flag:
            logits = outputs[:, :-1, -1]  # (B, L)
            loss = loss + F.binary_cross_entropy_with_logits(logits, F.one_hot(y, logits.shape[1]).to(logits))
        return loss

    def answer(self, outputs: Tensor) -> Tensor:
        """The logits of the index at the last step, (B, L)."""
        return outputs[:, -1, :-1] if self.flag else outputs[:, -1]

    def correct(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        end = (self.answer(outputs).argmax(-1) == y).sum()  # N · ACC_end, Eq. 2.19
        if not self.flag:
            return end, end.float()
        flags = (outputs[:, :-1, -1] > 0) == F.one_hot(y, outputs.shape[1] - 1).bool()  # (B, L)
        return end, (flags.sum() + end) / outputs.shape[1]  # N · ACC_seq, Eq. 2.20: the L flags, then the index


class Classification(Objective):
    """Which class the image shows: cross entropy at the last iteration, or the mean over all (`at`: last, all)."""

    def __init__(self, *, at: Annotated[str, one_of("last", "all")] = "last") -> None:
        self.at = at

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        if self.at == "last":
            return F.cross_entropy(self.answer(outputs), y)
        return F.cross_entropy(outputs.flatten(0, 1), y.repeat_interleave(outputs.shape[1]))  # (B·T, O) against (B·T,)

    def answer(self, outputs: Tensor) -> Tensor:
        """The logits of the classes at the last iteration, (B, O)."""
        return outputs[:, -1]

    def correct(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        each = outputs.argmax(-1) == y[:, None]  # (B, T)
        return each[:, -1].sum(), each.float().mean(1).sum()


class StringClassification(Classification):
    """Which class a string of symbols has, x (B, T, I) with a 1 for the symbol of each step: cross entropy at one step.

    readout: "end", the last step of the batch, where shorter strings have been padded with the symbol 0 (Darji 2022, 5.1); or
        "last_char", the step of a string's own last letter, so that its answer does not depend on the rest of its batch.
    """

    def __init__(self, *, readout: Annotated[str, one_of("end", "last_char")] = "end") -> None:
        super().__init__()
        self.readout = readout

    def read(self, outputs: Tensor, x: Tensor) -> Tensor:
        """One output a string: (B, 1, O)."""
        if self.readout == "end":
            return outputs[:, -1:]
        last = (x[..., 0] == 0).sum(dim=1) - 1  # (B,)
        return outputs[torch.arange(len(x), device=x.device), last, None]


class Regression(Objective):
    """How high: mean squared error of the last step's only output. An answer within `within` of the truth counts as right."""

    def __init__(self, *, within: Within = 0.05) -> None:
        self.within = within

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(self.answer(outputs)[:, 0], y)

    def answer(self, outputs: Tensor) -> Tensor:
        """The answers themselves, (B, 1)."""
        return outputs[:, -1]

    def correct(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        near = (outputs[..., 0] - y[:, None]).abs() <= self.within  # (B, T)
        return near[:, -1].sum(), near.float().mean(1).sum()


def confusion(logits: Tensor, y: Tensor) -> Tensor:
    """Counts (C, C) of true class by predicted class, from the logits (B, C) and the truth (B,)."""
    classes = logits.shape[1]
    return torch.bincount(y * classes + logits.argmax(-1), minlength=classes * classes).reshape(classes, classes)

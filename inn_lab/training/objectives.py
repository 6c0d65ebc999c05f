"""Objectives: the loss that is minimised, and the two accuracies that the lab reports."""

from typing import Annotated, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inn_lab.errors import ConfigError
from inn_lab.ranges import one_of, real

Within = Annotated[float, real(lambda v: v > 0, "an answer this near is right, a positive number", 0.05)]


class Objective(Protocol):
    """The methods of every objective. They take a model's outputs (B, T, O), x (B, T, I) and y (B,), of `Targets` (B, T, …)."""

    def read(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The outputs that count, which the other methods get: all of them, (B, T, O)."""
        return outputs

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """A scalar."""

    def answer(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The logits that count at the last step, (B, O), and what they should say, (B,) or (B, O)."""

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
            loss = loss + F.cross_entropy(self._index(outputs), y)
        if self.flag:
            logits = outputs[:, :-1, -1]  # (B, L)
            loss = loss + F.binary_cross_entropy_with_logits(logits, F.one_hot(y, logits.shape[1]).to(logits))
        return loss

    def _index(self, outputs: Tensor) -> Tensor:
        """The logits of the index at the last step, (B, L)."""
        return outputs[:, -1, :-1] if self.flag else outputs[:, -1]

    def answer(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._index(outputs), y

    def correct(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        end = (self._index(outputs).argmax(-1) == y).sum()  # N · ACC_end, Eq. 2.19
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
            return F.cross_entropy(outputs[:, -1], y)
        return F.cross_entropy(outputs.flatten(0, 1), y.repeat_interleave(outputs.shape[1]))  # (B·T, O) against (B·T,)

    def answer(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return outputs[:, -1], y

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
        return F.mse_loss(outputs[:, -1, 0], y)

    def answer(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return outputs[:, -1], y[:, None]

    def correct(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        near = (outputs[..., 0] - y[:, None]).abs() <= self.within  # (B, T)
        return near[:, -1].sum(), near.float().mean(1).sum()


class Targets(Objective):
    """What y asks for, at the steps where it asks: classes, y (B, T), int64, or real values, y (B, T, O), float32.

    Where nothing is asked y is −100 (torch's `ignore_index`), or not a number. A sequence's loss is the mean over A, its steps
    that ask, so that each sequence counts as much as another:

        L = 1/|A| Σ_{t ∈ A} ℓ_t,    ℓ_t the cross entropy, or the mean squared error of the O values.

    ACC_end counts the last step of A, ACC_seq all of them. A class is right if its logit is the largest. Values are right if
    all O are within `within` of the truth.
    """

    def __init__(self, *, within: Within = 0.05) -> None:
        self.within = within

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        asked, _ = _asked(y)
        if y.is_floating_point():
            each = torch.where(asked[..., None], outputs - y, 0.0).square().mean(-1)  # (B, T)
        else:
            each = F.cross_entropy(outputs.mT, y, reduction="none")  # (B, T), 0 where y is −100
        return (each.sum(1) / asked.sum(1)).mean()

    def answer(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _, last = _asked(y)
        return outputs[last], y[last]

    def correct(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        asked, last = _asked(y)
        near = ((outputs - y).abs() <= self.within).all(-1) if y.is_floating_point() else outputs.argmax(-1) == y  # (B, T)
        return near[last].sum(), (near.sum(1) / asked.sum(1)).sum()


def _asked(y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Where y asks for something, (B, T), and the index of each sequence's last such step."""
    asked = ~y.isnan().any(-1) if y.is_floating_point() else y >= 0
    return asked, (torch.arange(len(y), device=y.device), asked.cumsum(1).argmax(1))


def confusion(logits: Tensor, y: Tensor) -> Tensor:
    """Counts (C, C) of true class by predicted class, from the logits (B, C) and the truth (B,)."""
    classes = logits.shape[1]
    return torch.bincount(y * classes + logits.argmax(-1), minlength=classes * classes).reshape(classes, classes)

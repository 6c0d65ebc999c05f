"""What becomes of a network's patterns while it trains, in numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from inn_lab.linear.base import Rewirable


class Followed:
    """Compares the patterns of matrices at the end of each epoch with those before."""

    def __init__(self, matrices: Callable[[], Sequence[Rewirable]], spent: Callable[[], dict[str, float]] = dict) -> None:
        self.matrices, self.spent = matrices, spent
        self.first = self.before = self._patterns()

    def _patterns(self) -> list[Tensor]:
        return [matrix.entries()[0].cpu() for matrix in self.matrices()]

    def told(self) -> dict[str, float]:
        """By epoch: "train/weights", the entries of all patterns; "train/grown", the fraction of them that were not there an
        epoch before; "train/overlap", the Jaccard index with the first patterns, |A ∩ B| / |A ∪ B|; and what `spent` says.
        """
        now = self._patterns()
        entries = sum(map(len, now))
        grown, shared = entries - common(now, self.before), common(now, self.first)
        union = entries + sum(map(len, self.first)) - shared
        self.before = now
        told = {"weights": entries, "grown": grown / max(1, entries), "overlap": shared / max(1, union), **self.spent()}
        return {f"train/{name}": value for name, value in told.items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"first": self.first, "before": self.before}

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def common(patterns: Sequence[Tensor], others: Sequence[Tensor]) -> int:
    """How many entries two lists of patterns have in common."""
    return sum(int(torch.isin(one, other, assume_unique=True).sum()) for one, other in zip(patterns, others, strict=True))

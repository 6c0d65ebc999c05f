"""Lottery tickets: patterns that are found by training, cutting, and beginning again with the weights of before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from inn_lab.errors import ConfigError
from inn_lab.linear.base import Rewirable
from inn_lab.ranges import MANY, Density, Seed, count, real
from inn_lab.seeding import generator
from inn_lab.training.pruning import smallest
from inn_lab.training.rewiring import Method, reinit, thinned


@dataclass(frozen=True, kw_only=True)
class Iterative(Method):
    """Iterative magnitude pruning with rewinding: in each round the network is trained, the smallest weights of each matrix go,
    and those that are left get back the values that they had before. `inn_lab.studies.lottery` does the training.

    Source: Frankle and Carbin 2019, 2 and Appendix B (strategy 1, iterative pruning with resetting), `amount` and the controls;
    there `rewind` is 0. Frankle et al. 2020 rewind to a later epoch.

    Args:
        R: the density of each matrix at the end. A matrix that has fewer entries keeps them.
        amount: the fraction of a matrix's weights that goes in a round, at most. All rounds cut the same fraction.
        rewind: the epoch at whose end the weights have the values that they get back; 0: those that they began with.
        restart: what the last training begins with. "rewound": the pattern found, with the values of before. "reinit": the
            pattern found, with the values that the matrix began with dealt out anew. "random": as many entries as were found,
            chosen at random from those in the beginning, with the values of before.
    """

    between = True

    R: Density
    seed: Seed
    amount: Annotated[float, real(lambda v: 0.001 <= v < 1, "a fraction of the weights, from 0.001 to below 1", 0.2)] = 0.2
    rewind: Annotated[int, count(0, MANY, 0)] = 0
    restart: Literal["rewound", "reinit", "random"] = "rewound"

    def check(self, model: nn.Module) -> None:
        self.sizes(self.matrices(model))

    def due(self, step: int) -> bool:
        return False

    def sizes(self, matrices: Sequence[Rewirable]) -> list[list[int]]:
        """For each round, how many entries of each matrix are left after it. Raises ConfigError if there is nothing to cut."""
        before = [len(matrix.entries()[0]) for matrix in matrices]
        cells = [matrix.out_features * matrix.in_features for matrix in matrices]
        after = [min(n, max(1, round(self.R * all_of))) for n, all_of in zip(before, cells, strict=True)]
        times = max((n / left for n, left in zip(before, after, strict=True) if left), default=1.0)
        rounds = math.ceil(math.log(times) / -math.log(1 - self.amount) - 1e-9)
        if rounds < 1:
            raise ConfigError(f"pruning.R={self.R:g}: the network has no more from the beginning; begin with more, e.g. R=1.0")
        return [
            [round(n * (left / n) ** (number / rounds)) if n else 0 for n, left in zip(before, after, strict=True)]
            for number in range(1, rounds + 1)
        ]

    def cut(self, matrices: Sequence[Rewirable], sizes: Sequence[int]) -> list[Tensor]:
        """Of each matrix the entries of largest magnitude, so many, by their flat positions."""
        patterns = []
        for matrix, left in zip(matrices, sizes, strict=True):
            indices, values = matrix.entries()
            patterns.append(indices[~smallest(values, len(values) - left)])
        return patterns

    @torch.no_grad()
    def begin(self, matrices: Sequence[Rewirable], patterns: Sequence[Tensor]) -> None:
        """Gives matrices that have the values to rewind to what the last training begins with. patterns: those found."""
        for number, (matrix, pattern) in enumerate(zip(matrices, patterns, strict=True)):
            draw = generator(self.seed, "restart", number)
            if self.restart == "reinit":
                reinit(matrix, draw)
            elif self.restart == "random":
                pattern = thinned(matrix, len(pattern) / (matrix.out_features * matrix.in_features), draw)
            matrix.rewire(pattern)

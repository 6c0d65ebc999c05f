"""Patterns that are chosen before training: methods of `inn_lab.training.rewiring` that change a network at step 0 alone.

They cut the entries that a network starts with down to a density. All matrices are judged together.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from inn_lab.errors import ConfigError
from inn_lab.linear.base import Rewirable
from inn_lab.linear.gradient import largest, magnitudes
from inn_lab.models.base import Model
from inn_lab.ranges import Density, Seed, Steps, count
from inn_lab.seeding import generator
from inn_lab.training.rewiring import Method, reinit, thinned


@dataclass(frozen=True, kw_only=True)
class Foresight(Method):
    """R: the density of all matrices together that is left."""

    instead = True

    R: Density

    def due(self, step: int) -> bool:
        return step == 0

    def target(self, matrices: Sequence[Rewirable]) -> int:
        """How many entries are left at the end."""
        return round(self.R * sum(matrix.out_features * matrix.in_features for matrix in matrices))


@dataclass(frozen=True, kw_only=True)
class Random(Foresight):
    """Keeps of each matrix as many entries as make the density R, chosen at random: what all other methods are compared with.

    Source: Liu et al. 2022, "The unreasonable effectiveness of random pruning", uniform.
    """

    seed: Seed

    def patterns(self, step: int, model: nn.Module, matrices: Sequence[Rewirable]) -> Iterable[Tensor]:
        for number, matrix in enumerate(matrices):
            yield thinned(matrix, self.R, generator(self.seed, "rewiring", step, number))


@dataclass(frozen=True, kw_only=True)
class Scored(Foresight):
    """Keeps the entries of the highest scores, which depend on their values: what is kept begins with larger values than the
    whole has.

    Args:
        reinit: after the choice, the values of the whole matrix are dealt out anew among its entries, so that the pattern alone
            is what was chosen. A control: Frankle et al. 2021, "Pruning neural networks at initialization".
    """

    seed: Seed = 0
    reinit: bool = False

    def patterns(self, step: int, model: nn.Module, matrices: Sequence[Rewirable]) -> Iterable[Tensor]:
        found = self.chosen(model, matrices)
        for number, matrix in enumerate(matrices if self.reinit else ()):
            reinit(matrix, generator(self.seed, "reinit", number))
        return found

    def chosen(self, model: nn.Module, matrices: Sequence[Rewirable]) -> list[Tensor]:
        """For each matrix the flat positions of the entries to keep, sorted."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SNIP(Scored):
    """Keeps the weights w that change the loss of the first batch most, those of the largest |w dL/dw|.

    Source: Lee et al. 2019, Algorithm 1; their batch has 100 examples, here it is the training's.
    """

    def chosen(self, model: nn.Module, matrices: Sequence[Rewirable]) -> list[Tensor]:
        return best(matrices, self.target(matrices))


@dataclass(frozen=True, kw_only=True)
class SynFlow(Scored):
    """Keeps the weights through which most flows. It uses no data: all weights become |w|, the input is ones, and the scores
    are |w| dS/d|w|, S the sum of all outputs. It cuts in many small steps, in each the same fraction of what is left.

    Source: Tanaka et al. 2020, Algorithm 1, for networks of ReLU and linear units. `iterations` is theirs.

    Args:
        T: the length of the sequence of ones.
    """

    T: Steps
    iterations: Annotated[int, count(1, 100_000, 100)] = 100

    def chosen(self, model: nn.Module, matrices: Sequence[Rewirable]) -> list[Tensor]:
        if not isinstance(model, Model):
            raise ConfigError(
                f"pruning=synflow: it asks a model of the lab for its inputs, which {type(model).__name__} is not"
            )
        twin = copy.deepcopy(model).double()  # a sum over all paths leaves the range of float32
        with torch.no_grad():
            for tensor in twin.state_dict().values():
                if tensor.is_floating_point():
                    tensor.abs_()
        own = self.matrices(twin)
        before, after = sum(len(matrix.entries()[0]) for matrix in own), self.target(own)
        ones = torch.ones(1, 1, model.n_inputs, dtype=torch.float64, device=matrices[0].entries()[0].device)
        for iteration in range(1, self.iterations + 1 if after < before else 1):
            twin.zero_grad()
            twin(ones.expand(-1, self.T, -1)).sum().backward()
            left = round(before * (after / before) ** (iteration / self.iterations))
            for matrix, indices in zip(own, best(own, left), strict=True):
                matrix.rewire(indices)
        return [matrix.entries()[0] for matrix in own]


def best(matrices: Sequence[Rewirable], n: int) -> list[Tensor]:
    """Of each matrix the entries that are among the n of the largest |w dL/dw| of all, by their flat positions."""
    scores = []
    for matrix in matrices:
        gradient = matrix.parameter.grad
        if gradient is None:  # the loss does not depend on it
            gradient = torch.zeros_like(matrix.parameter)
        scores.append(magnitudes(matrix.entries()[1] * matrix.at_entries(gradient)))
    kept = largest(torch.cat(scores), min(n, sum(map(len, scores)))).split([len(score) for score in scores])
    return [matrix.entries()[0][stays] for matrix, stays in zip(matrices, kept, strict=True)]

"""Patterns that change while a network trains: which entries of its sparse matrices are trainable.

A method stands around the backward pass of each training step, the first of which is `step` 0:

    optimizer.zero_grad()
    with method.around(step, model, optimizer):
        loss.backward()
    optimizer.step()

A method has no state. All that it does follows from `step`, the weights and their gradients, so a run that goes on from a
checkpoint ends as if nothing had happened.

It changes the matrices of `inn_lab.linear` that are csr or masked, and the masks of the models that are pruned by masks. With
csr a step costs what the entries that are left cost; with masks it costs what it did. Entries that stay keep their values and
the optimizer's state, also those that are dropped and grown at once. New entries start at zero in both.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar, get_type_hints

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from inn_lab.errors import ConfigError
from inn_lab.linear import Dense, Fixed
from inn_lab.linear.base import Patterned, Rewirable
from inn_lab.models.base import Model
from inn_lab.models.wavefront import Wavefront
from inn_lab.patterns import draw_absent
from inn_lab.ranges import Density, Fraction, Many, Seed, check_value
from inn_lab.seeding import generator
from inn_lab.training.pruning import smallest


class Method:
    """Changes the patterns of a network's sparse matrices. A subclass is a frozen dataclass and says when, and to what.

    Raises ConfigError for a value that is not in its range.
    """

    listens: ClassVar[bool] = False  # it needs the gradients of entries that are absent
    instead: ClassVar[bool] = False  # the patterns change instead of an optimizer's step
    between: ClassVar[bool] = False  # the patterns change between the trainings of a study, which asks for this method

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for name, value in vars(self).items():
            check_value(name, value, hints[name])

    def due(self, step: int) -> bool:
        """Whether the patterns change at this step."""
        raise NotImplementedError

    def patterns(self, step: int, model: nn.Module, matrices: Sequence[Rewirable]) -> Iterable[Tensor]:
        """For each matrix the flat positions of its next pattern, sorted, (n,). Parameters have their gradients."""
        raise NotImplementedError

    @contextmanager
    def around(self, step: int, model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
        """Stands around the backward pass of a step, and changes the patterns after it where it is due.

        Raises ConfigError for a network of which no pattern can change.
        """
        if not self.due(step):
            yield
            return
        matrices = self.matrices(model)
        with ExitStack() as listening:
            for matrix in matrices if self.listens else ():
                listening.enter_context(matrix.full_gradient.listening())
            yield
            patterns = list(self.patterns(step, model, matrices))
        for matrix, indices in zip(matrices, patterns, strict=True):
            matrix.rewire(indices).follow(optimizer)
        if self.instead:
            optimizer.zero_grad()

    def check(self, model: nn.Module) -> None:
        """Raises ConfigError for a network of which no pattern can change, before anything is trained."""
        self.matrices(model)

    def matrices(self, model: nn.Module) -> Sequence[Rewirable]:
        """The matrices of a network whose patterns change: its sparse ones, or, if it holds none, those that a model says.

        Raises ConfigError if there are none, or if they cannot change.
        """
        who, what = f"pruning={type(self).__name__.lower()}", type(model).__name__
        if isinstance(model, Model) and model.lr_factors():
            raise ConfigError(f"{who}: {what} has blocks with learning rates of their own, whose entries stay; leave one out")
        waves = [part for part in model.modules() if isinstance(part, Wavefront)]
        inside = {id(wave.map) for wave in waves}  # these hold biases too
        found: list[Rewirable] = [
            part
            for part in model.modules()
            if isinstance(part, Patterned) and not isinstance(part, Fixed) and id(part) not in inside
        ]
        found += [cells for wave in waves for cells in wave.rewirable()]
        if any(type(matrix) is Dense for matrix in found):
            raise ConfigError(f"{who}: {what} holds a dense matrix, which has no pattern; set linear=csr")
        if found:
            return found
        if isinstance(model, Model):
            return model.rewirable()
        raise ConfigError(f"{who}: {what} holds no sparse matrix; put layers of `inn_lab.sparse` into it")


@dataclass(frozen=True, kw_only=True)
class Rewiring(Method):
    """A method that changes each matrix for itself, every so many steps.

    steps: of the whole training. every: steps between two changes. end: the share of the training after which nothing changes.

    Raises ConfigError if that is before the first change.
    """

    steps: Many
    every: Many = 100
    end: Fraction = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.last:
            raise ConfigError(f"every={self.every}, end={self.end}: no change would come in {self.steps} steps; change sooner")

    @property
    def last(self) -> int:
        """The step of the last change."""
        return int(self.end * self.steps) // self.every * self.every

    def due(self, step: int) -> bool:
        return step % self.every == 0 and 0 < step <= self.last

    def patterns(self, step: int, model: nn.Module, matrices: Sequence[Rewirable]) -> Iterable[Tensor]:
        return (self.pattern(step, number, matrix) for number, matrix in enumerate(matrices))

    def pattern(self, step: int, number: int, matrix: Rewirable) -> Tensor:
        """The next pattern of a matrix. number: which of the network's it is."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Gradual(Rewiring):
    """Drops the smallest weights, many at first and few at the end. The density of each matrix falls as

        R_t = R + (start − R) (1 − t / t_end)³

    Source: Zhu and Gupta 2017, Eq. 1; they find `every` from 100 to 1,000 alike. They name no `end`; 0.75 is RigL's.

    Args:
        R: the density at the end.
        start: the density in the beginning. A matrix that has fewer entries keeps them until R_t is less.
    """

    R: Density
    start: Density = 1.0

    def due(self, step: int) -> bool:
        return step % self.every == 0 and step <= self.last

    def pattern(self, step: int, number: int, matrix: Rewirable) -> Tensor:
        density = self.R + (self.start - self.R) * (1 - step / self.last) ** 3
        indices, values = matrix.entries()
        n = round(density * matrix.out_features * matrix.in_features)
        return indices[~smallest(values, max(0, len(values) - n))]


@dataclass(frozen=True, kw_only=True)
class Growing(Rewiring):
    """A method that drops a fraction of each matrix's entries and grows as many.

    Args:
        R: the density of each matrix in the beginning. So many of its entries are chosen at random, at step 0. None: those that
            the model has.
    """

    R: Density | None = None
    seed: Seed = 0
    fraction: Fraction = 0.3

    def check(self, model: nn.Module) -> None:
        for matrix in self.matrices(model):
            cells = matrix.out_features * matrix.in_features
            self._check_room(matrix, len(matrix.entries()[0]) if self.R is None else round(self.R * cells))

    def _check_room(self, matrix: Rewirable, entries: int) -> None:
        if entries == matrix.out_features * matrix.in_features:
            who = f"pruning={type(self).__name__.lower()}"
            raise ConfigError(f"{who}: a matrix has all its entries, and can grow none; begin with fewer, e.g. pruning.R=0.1")

    def due(self, step: int) -> bool:
        return super().due(step) or (step == 0 and self.R is not None)

    def pattern(self, step: int, number: int, matrix: Rewirable) -> Tensor:
        if step == 0:
            assert self.R is not None  # or it would not be due
            return thinned(matrix, self.R, generator(self.seed, "rewiring", step, number))
        self._check_room(matrix, len(matrix.entries()[0]))
        return self.next(step, number, matrix)

    def next(self, step: int, number: int, matrix: Rewirable) -> Tensor:
        """The next pattern of a matrix, after the first one."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SET(Growing):
    """Sparse evolutionary training: drops a fraction of the weights that are next to zero, of the positive and of the negative
    ones, and grows as many at random.

    Source: Mocanu et al. 2018, Algorithm 1, with `every` an epoch. There new weights are drawn at random, here they start at
    zero, as in Evci et al. 2020.
    """

    end: Fraction = 1.0

    def next(self, step: int, number: int, matrix: Rewirable) -> Tensor:
        indices, values = matrix.entries()
        dropped = torch.zeros_like(values, dtype=torch.bool)
        for side in (values >= 0, values < 0):
            dropped[side] = smallest(values[side], round(self.fraction * int(side.sum())))
        kept, total = indices[~dropped], matrix.out_features * matrix.in_features
        draw = generator(self.seed, "rewiring", step, number)
        return together(kept, draw_absent(kept, total, len(indices) - len(kept), draw))


@dataclass(frozen=True, kw_only=True)
class RigL(Growing):
    """Drops the smallest weights and grows as many where the gradient of the step's batch is the largest. The fraction is

        f_t = fraction / 2 (1 + cos(π t / t_end))

    The optimizer takes no step then.

    Source: Evci et al. 2020, Algorithm 1; the fraction, `every` and `end` are theirs.
    """

    listens = instead = True

    def next(self, step: int, number: int, matrix: Rewirable) -> Tensor:
        share = self.fraction / 2 * (1 + math.cos(math.pi * step / (self.end * self.steps)))
        indices, values = matrix.entries()
        kept = indices[~smallest(values, round(share * len(values)))]
        return together(kept, matrix.full_gradient.largest_absent(kept, len(indices) - len(kept)))


def thinned(matrix: Rewirable, R: float, draw: torch.Generator) -> Tensor:
    """As many of a matrix's entries as make the density R, chosen at random; all, if it has no more. Flat positions, sorted."""
    indices = matrix.entries()[0]
    left = min(len(indices), round(R * matrix.out_features * matrix.in_features))
    chosen = torch.randperm(len(indices), generator=draw)[:left].sort().values
    return indices[chosen.to(indices.device)]


@torch.no_grad()
def reinit(matrix: Rewirable, draw: torch.Generator) -> None:
    """Gives a matrix's entries their own values in another order, chosen at random."""
    parameter, (indices, values) = matrix.parameter, matrix.entries()
    places = matrix.at_entries(torch.arange(parameter.numel(), device=values.device).view_as(parameter))
    parameter.view(-1)[places] = values[torch.randperm(len(indices), generator=draw).to(values.device)]


def together(kept: Tensor, grown: Tensor) -> Tensor:
    """Both, sorted; each is. Sorting anew would take twice as long, and three times the memory."""
    places = torch.searchsorted(kept, grown) + torch.arange(len(grown), device=grown.device)
    both = kept.new_empty(len(kept) + len(grown))
    rest = torch.ones_like(both, dtype=torch.bool).index_fill_(0, places, False)
    both[places], both[rest] = grown, kept
    return both

"""Some cells of a matrix, as a matrix of their own whose pattern can change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from inn_lab.linear.base import Change, Patterned
from inn_lab.linear.gradient import FullGradient


class Cells:
    """Some cells of a sparse matrix, one after the other: a `Rewirable` of (1, n). The entries of all other cells stay.

    cells: flat positions in the matrix, (n,), sorted. Entries of this row are given by their places among them.
    """

    out_features = 1

    def __init__(self, matrix: Patterned, cells: Tensor) -> None:
        self.matrix, self.cells, self.in_features = matrix, cells, len(cells)
        self.full_gradient: FullGradient = _Some(matrix, cells)

    @property
    def parameter(self) -> torch.nn.Parameter:
        return self.matrix.parameter

    def entries(self) -> tuple[Tensor, Tensor]:
        indices, values = self.matrix.entries()
        mine = torch.isin(indices, self.cells, assume_unique=True)
        return torch.searchsorted(self.cells, indices[mine]), values[mine]

    def at_entries(self, numbers: Tensor) -> Tensor:
        return self.matrix.at_entries(numbers)[torch.isin(self.matrix.entries()[0], self.cells, assume_unique=True)]

    def rewire(self, indices: Tensor) -> Change:
        """As in `Patterned`; the whole matrix gets a new parameter."""
        before = self.matrix.entries()[0]
        others = before[~torch.isin(before, self.cells, assume_unique=True)]
        return self.matrix.rewire(torch.cat([others, self.cells[indices]]).sort().values)


class _Some(FullGradient):
    """The gradient at some cells. Only the rows that they stand in are computed, those that follow each other at once."""

    def __init__(self, matrix: Patterned, cells: Tensor) -> None:
        super().__init__(1, len(cells))
        self.matrix = matrix
        rows, width = cells // matrix.in_features, matrix.in_features
        runs = torch.tensor_split(cells, ((rows.diff() > 1).nonzero().flatten() + 1).cpu())
        self.parts = [(int(part[0]) // width, int(part[-1]) // width + 1, part) for part in runs if len(part)]

    @contextmanager
    def listening(self) -> Iterator[None]:
        with self.matrix.full_gradient.listening():
            yield

    def rows(self, start: int, stop: int) -> Tensor:
        whole, width = self.matrix.full_gradient, self.matrix.in_features
        found = [whole.rows(first, last).flatten()[cells - first * width] for first, last, cells in self.parts]
        return torch.cat(found)[None][start:stop] if found else self.matrix.entries()[1].new_zeros(stop - start, 0)

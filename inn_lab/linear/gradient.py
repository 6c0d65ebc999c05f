"""The gradient of a weight matrix at all its entries: where should it grow?"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

TILE = 2**18  # entries of the matrix of which the gradient is computed at once


class FullGradient:
    """dL/dW (out, in) at every entry, trainable or not. Only a tile of its rows is ever computed at once.

    A backward pass has dL/dW as a sum of products g xᵀ and computes it at the trainable entries alone. Within `listening` the
    factors are kept. They are as large as the states that the pass reads. Elsewhere nothing is kept.
    """

    def __init__(self, out_features: int, in_features: int) -> None:
        self.out_features, self.in_features = out_features, in_features
        self._terms: list[tuple[int, Tensor, Tensor]] | None = None  # None: nobody listens
        self._whole: Tensor | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, backward passes add up here."""
        self._terms = []
        try:
            yield
        finally:
            self._terms = self._whole = None

    def add(self, g: Tensor, x: Tensor, first: int) -> None:
        """Adds Σ_s g[s] x[s]ᵀ to the columns from `first` on. g (S, out, C), x (S, n, C) are copied, if anybody listens."""
        if self._terms is not None:
            self._terms.append((first, _side_by_side(g), _side_by_side(x)))

    def add_whole(self, grad: Tensor) -> None:
        """Adds a gradient (out, …), which a dense product has anyway. A matrix calls this or `add`, never both."""
        if self._terms is not None:
            grad = grad.reshape(self.out_features, self.in_features)
            self._whole = grad if self._whole is None else self._whole + grad

    def rows(self, start: int, stop: int) -> Tensor:
        """The gradient of some rows, (stop − start, in). Raises RuntimeError if no backward pass was listened to."""
        if self._whole is not None:
            return self._whole[start:stop]
        if not self._terms:
            raise RuntimeError("no gradient of this matrix: run a backward pass within `listening`, and ask there")
        total = self._terms[0][1].new_zeros(stop - start, self.in_features)
        for first, g, x in self._terms:
            total[:, first : first + len(x)].addmm_(g[start:stop], x.T)
        return total

    @torch.no_grad()
    def largest_absent(self, indices: Tensor, k: int) -> Tensor:
        """The k entries that are not among `indices` whose gradients are the largest in magnitude; of equal ones the first.

        indices and the result: flat positions, sorted, (n,) and (k,). It needs memory for n + 2 k entries and one tile.

        Raises ValueError if fewer than k entries are absent.
        """
        absent = self.out_features * self.in_features - len(indices)
        if not 0 <= k <= absent:
            raise ValueError(f"{k} absent entries of a matrix that has {absent}")
        places, sizes, least, held = [indices[:0]], [], -1.0, 0  # the best so far, by position
        high = max(1, TILE // max(1, self.in_features))
        for start in range(0, self.out_features if k else 0, high):
            stop = min(start + high, self.out_features)
            ends = indices.new_tensor([start, stop]) * self.in_features
            first, last = torch.searchsorted(indices, ends).tolist()
            tile = magnitudes(self.rows(start, stop)).flatten()
            tile[indices[first:last] - ends[0]] = -1
            found = (tile > least).nonzero().flatten()  # what only equals the least comes later, and is not taken
            places.append(found + ends[0])
            sizes.append(tile[found])
            held += len(found)
            if held > 2 * k or (held > k and stop == self.out_features):  # to choose is slow, to hold some more is not
                together, at = torch.cat(sizes), torch.cat(places)
                best = largest(together, k)
                places, sizes, least, held = [at[best]], [together[best]], float(together[best].min()), k
        return torch.cat(places)


def largest(values: Tensor, k: int) -> Tensor:
    """Which are the k largest, of equal ones the first: (n,) -> (n,), booleans. There is no NaN among the values."""
    if k == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    least = values.kthvalue(len(values) - k + 1).values
    chosen = values > least
    chosen[(values == least).nonzero().flatten()[: k - int(chosen.sum())]] = True
    return chosen


def magnitudes(values: Tensor) -> Tensor:
    """|values|, as which NaN is the largest."""
    return values.abs().nan_to_num_(nan=math.inf, posinf=math.inf)


def _side_by_side(x: Tensor) -> Tensor:
    """(S, rows, C) -> (rows, S · C), a copy: some backward passes write over what they have used."""
    return x.transpose(0, 1).clone(memory_format=torch.contiguous_format).flatten(1)

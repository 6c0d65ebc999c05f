"""Weight matrices that are products or sums of other matrices."""

from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from functools import partial, reduce
from itertools import islice, pairwise
from operator import add

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from inn_lab.linear.base import Map, WeightMatrix


def rank(out_features: int, in_features: int, R: float) -> int:
    """The rank k at which A and B together have about R · mn entries: k = max(1, round(R · mn / (m + n)))."""
    return max(1, round(R * out_features * in_features / (out_features + in_features)))


def draw_factors(
    out_features: int, in_features: int, R: float, std: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draws A (out, k) and B (k, in) from N(0, σ²) with σ⁴ = std² / k, so that the entries of A B have standard deviation
    `std`."""
    k = rank(out_features, in_features, R)
    sigma = (std**2 / k) ** 0.25
    shapes = ((out_features, k), (k, in_features))
    A, B = (torch.randn(*shape, generator=generator, device=generator.device) * sigma for shape in shapes)
    return A, B


class LowRank(WeightMatrix):
    """A matrix of blocks. Each block is a product A B of low rank, a dense A, or zero. A and B are trainable.

    blocks: {(top, left): (A (rows, k), B (k, columns) or None)}, by the block's position in W. Blocks must not overlap. Blocks
    with the same `top` have the same height, blocks with the same `left` the same width.

    A product with W takes one product for each column of blocks and one for each row of blocks.

    Raises ValueError for blocks that overlap, differ in size or lie outside W, and for an empty `blocks`.
    """

    def __init__(
        self, out_features: int, in_features: int, blocks: Mapping[tuple[int, int], tuple[Tensor, Tensor | None]]
    ) -> None:
        _check_blocks(out_features, in_features, blocks)
        super().__init__()
        self.out_features, self.in_features = out_features, in_features
        self.ranks = {at: A.shape[1] for at, (A, _) in sorted(blocks.items())}
        self.tops, self.lefts = (sorted({at[side] for at in blocks}) for side in (0, 1))
        self.A = torch.nn.ParameterList(
            torch.cat([blocks[top, left][0] for left in self.lefts if (top, left) in blocks], dim=1) for top in self.tops
        )
        wide = {at: B for at, (_, B) in blocks.items() if B is not None}
        # By column of blocks, the blocks that have a B. The B of a column are stacked.
        self.inner = {left: [(top, left) for top in self.tops if (top, left) in wide] for left in self.lefts}
        self.B = torch.nn.ParameterDict(
            {str(left): torch.cat([wide[at] for at in here]) for left, here in self.inner.items() if here}
        )

    @classmethod
    def drawn(cls, out_features: int, in_features: int, R: float, std: float, generator: torch.Generator) -> "LowRank":
        """A matrix of one block, with k (out + in) trainable weights."""
        return cls(out_features, in_features, {(0, 0): draw_factors(out_features, in_features, R, std, generator)})

    def spread(self, numbers: Mapping[tuple[int, int], float]) -> list[tuple[Tensor, Tensor]]:
        """Each parameter, and a tensor of its shape with the number of each block at the entries of its factors, or 1."""
        found: list[tuple[Tensor, Tensor]] = []
        for top, A in zip(self.tops, self.A, strict=True):
            row = [A.new_full((k,), numbers.get(at, 1.0)) for at, k in self.ranks.items() if at[0] == top]
            found.append((A, torch.cat(row).expand_as(A)))
        for left, B in self.B.items():
            column = [B.new_full((self.ranks[at], 1), numbers.get(at, 1.0)) for at in self.inner[int(left)]]
            found.append((B, torch.cat(column).expand_as(B)))
        return found

    @property
    def n_weights(self) -> int:
        return sum(factor.numel() for factor in self.parameters())

    @property
    def _like(self) -> Tensor:
        return self.A[0]

    def _forward(self, x: Tensor) -> Tensor:
        return self._product(0, x, *self.A, *self.B.values())

    def _split(self, columns: int) -> tuple[Map, Map]:
        factors = *self.A, *self.B.values()
        return Map(partial(self._product, 0), factors), Map(partial(self._product, columns), factors)

    def _product(self, first: int, x: Tensor, *factors: Tensor) -> Tensor:
        """Multiplies W's columns from `first` on by x: (…, n) -> (…, out). factors: all A, then all B."""
        factors_A, factors_B = factors[: len(self.A)], dict(zip(self.B, factors[len(self.A) :], strict=True))
        inner = self._inner(x, first, factors_B)
        zeros = x.new_zeros(*x.shape[:-1], self.out_features)
        parts, done = [], 0
        for top, A in zip(self.tops, factors_A, strict=True):
            here = [at for at in self.ranks if at[0] == top]
            there = [at for at in here if at in inner]  # stand side by side in A
            if there:
                before = sum(self.ranks[at] for at in here[: here.index(there[0])])
                z = torch.cat([inner[at] for at in there], dim=-1)
                parts += [zeros[..., done:top], linear(z, A[:, before : before + z.shape[-1]])]
                done = top + A.shape[0]
        return torch.cat([*parts, zeros[..., done:]], dim=-1)

    def _inner(self, x: Tensor, first: int, B: Mapping[str, Tensor]) -> dict[tuple[int, int], Tensor]:
        """B x for each block that reads these columns; x itself for a block without B: (…, n) -> (…, k)."""
        found: dict[tuple[int, int], Tensor] = {}
        for left, here in self.inner.items():
            alone = [at for at in self.ranks if at[1] == left and at not in here]
            width = B[str(left)].shape[1] if here else self.ranks[alone[0]]
            start, stop = max(left, first), min(left + width, first + x.shape[-1])
            if start >= stop:
                continue
            part = x[..., start - first : stop - first]
            if here:
                z = linear(part, B[str(left)][:, start - left : stop - left])  # (…, n) -> (…, Σ k)
                found |= zip(here, z.split([self.ranks[at] for at in here], dim=-1), strict=True)
            if alone:
                found |= dict.fromkeys(alone, pad(part, (start - left, left + width - stop)))
        return found


def _check_blocks(out_features: int, in_features: int, blocks: Mapping[tuple[int, int], tuple[Tensor, Tensor | None]]) -> None:
    if not blocks:
        raise ValueError("a matrix of low rank has at least one block")
    heights: dict[int, int] = {}
    widths: dict[int, int] = {}
    for (top, left), (A, B) in blocks.items():
        sizes = len(A), (A if B is None else B).shape[1]
        if (heights.setdefault(top, sizes[0]), widths.setdefault(left, sizes[1])) != sizes:
            raise ValueError(
                f"the block at {top, left} is of {sizes}: another one at its top is not as high, or not as wide at its left"
            )
        if B is not None and len(B) != A.shape[1]:
            raise ValueError(f"the block at {top, left} is no product: A is {tuple(A.shape)}, and B {tuple(B.shape)}")
    for name, found, end in (("rows", heights, out_features), ("columns", widths, in_features)):
        edges = [(0, 0), *sorted(found.items()), (end, 0)]
        if any(start + size > following for (start, size), (following, _) in pairwise(edges)):
            raise ValueError(f"the {name} of the blocks, {dict(sorted(found.items()))}, overlap or end after {end}")


class Sum(WeightMatrix):
    """A sum of matrices of one shape, each stored in its own way. Raises ValueError for different shapes and for none."""

    parts: MutableSequence[WeightMatrix]

    def __init__(self, parts: Iterable[WeightMatrix]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)  # type: ignore[assignment]  # torch does not say of which modules
        shapes = {(part.out_features, part.in_features) for part in self.parts}
        if len(shapes) != 1:
            raise ValueError(f"a sum of matrices of the shapes {sorted(shapes)}; give one or more of the same shape")
        ((self.out_features, self.in_features),) = shapes

    @property
    def n_weights(self) -> int:
        return sum(part.n_weights for part in self.parts)

    @property
    def _like(self) -> Tensor:
        return self.parts[0]._like

    def _forward(self, x: Tensor) -> Tensor:
        return reduce(add, (part._forward(x) for part in self.parts))

    def _split(self, columns: int) -> tuple[Map, Map]:
        lefts, rights = zip(*(part._split(columns) for part in self.parts), strict=True)
        return added(lefts), added(rights)


def added(maps: Sequence[Map]) -> Map:
    """x -> Σ map(x)"""

    def function(x: Tensor, *tensors: Tensor) -> Tensor:
        there = iter(tensors)
        return reduce(add, (each.function(x, *islice(there, len(each.tensors))) for each in maps))

    return Map(function, tuple(tensor for each in maps for tensor in each.tensors))

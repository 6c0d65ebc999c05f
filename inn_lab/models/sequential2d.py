"""The iterated block matrix. INN, LayeredINN and Kale's networks are instances of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from inn_lab.errors import ConfigError, near
from inn_lab.linear import (
    KINDS,
    Activation,
    Fixed,
    LowRank,
    Sum,
    WeightMatrix,
    check_kind,
    draw_factors,
    fastest,
    fitting,
    from_entries,
)
from inn_lab.linear.base import Patterned, Rewirable
from inn_lab.models.base import Model, Weights
from inn_lab.patterns import draw_bernoulli, draw_exact, effective
from inn_lab.ranges import Std


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A block whose entries are drawn at random.

    init, init_std: as of `Sequential2D`, for this block alone; None for the matrix's own.
    lr: the block's learning rate is so many times that of the others; `lr_factors` tells an optimizer. With 0 the block stays
        as it is drawn: a reservoir.
    """

    init: str | None = None
    init_std: float | None = None
    lr: float = 1.0


@dataclass(frozen=True)
class Trainable(Drawn):
    """A block with `n` trainable entries, drawn exactly or independently (see `inn_lab.patterns`); without `n` all are
    trainable.

    With `start`, only so many of them, chosen at random, start at a random value, and the others at zero.
    """

    n: int | None = None
    draw: str = "exact"
    start: int | None = None

    def count(self, rows: int, columns: int) -> int:
        return rows * columns if self.n is None else self.n

    def pattern(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        """The flat indices of the trainable entries, (n,)."""
        n = self.count(rows, columns)
        if self.draw == "bernoulli":
            return draw_bernoulli(rows, columns, n / (rows * columns), generator)
        return draw_exact(rows, columns, n, generator)


@dataclass(frozen=True)
class Diagonal(Drawn):
    """A square block whose diagonal is trainable: D x = d ⊙ x (Kale 2024, Eq. 20)."""

    def count(self, rows: int, columns: int) -> int:
        return rows

    def pattern(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        return diagonal(rows, columns, generator.device)


@dataclass(frozen=True)
class Factored(Drawn):
    """A block of low rank, A B. A and B together have about R times as many entries as the block. It is always trainable, and
    drawn with `init_std`."""

    R: float


@dataclass(frozen=True)
class Identity:
    """A square block that is fixed: `scale` times the identity."""

    scale: float = 1.0


Block = Trainable | Diagonal | Factored | Identity | None  # None is all zeros
Grid = Sequence[Sequence[Block]]
PATTERNED = Trainable | Diagonal  # blocks with a pattern of trainable entries
INITS = ("normal", "fan_in")
BIASES = ("zero", "uniform")


class Sequential2D(Model):
    """A block matrix W that is iterated once for each step of the input.

        h ← σ(W [x; h] + b),   h = 0 at first;   y = the last O entries of h

    It is described block by block and executed fused. All trainable entries are one sparse matrix and all fixed ones another,
    whatever the number of blocks. Low-rank blocks take one product for each column of blocks and one for each row.

    Source: Hershey 2023, 2.1.3–2.1.5; Kale 2024.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state, O outputs, N weights.

    Args:
        rows, columns: the heights and widths of the blocks; they sum to H and to I + H, and the inputs' columns come first.
        grid: rows of blocks.
        activation: (name, height) from the top: "relu", "linear", "tanh", "sigmoid".
        init: "normal" draws the weights from N(0, init_std²), as Hershey; "fan_in" from N(0, 2/k), k the entries drawn in the
            row (He et al. 2015), whatever `init_std`. Low-rank blocks always use `init_std`.
        init_bias: biases start at "zero", or "uniform" in ±1/√width, width the number of columns, as in the code that Hershey
            published later (github.com/qbhershey/iterativenn, MaskedLinear).
        linear: how the trainable entries are stored: "csr", "masked", "dense" (all entries are trainable), "stepwise" (as the
            sources multiply) or "auto".
        device: where the model will run, if not where the generator is; only "auto" uses it.
        generator: first patterns and factors are drawn from it, block by block and row by row, then the weights, last the
            biases.

    Raises ValueError for sizes that do not fit each other, ConfigError for an unknown or unsuitable `init`, `init_bias` or
    `linear`.
    """

    map: WeightMatrix  # not there with generator=None
    names: tuple[Sequence[str], Sequence[str]] | None = None  # of the rows and of the columns of blocks

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        rows: Sequence[int],
        columns: Sequence[int],
        grid: Grid,
        activation: Sequence[tuple[str, int]],
        bias: bool = True,
        init_bias: str = "zero",
        init: str = "normal",
        init_std: Std = 0.05,
        linear: str = "auto",
        device: torch.device | None = None,
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        super().__init__(n_inputs)
        if init not in INITS:
            raise ConfigError(f"init={init}: there is no such init{near(str(init), INITS)}")
        if init_bias not in BIASES:
            raise ConfigError(f"init_bias={init_bias}: there is no such init_bias{near(str(init_bias), BIASES)}")
        if not 0 < init_std < math.inf:
            raise ConfigError(f"init_std={init_std}: a standard deviation is positive; e.g. init_std=0.05")
        self.n_outputs, self.depth, self.width = n_outputs, sum(rows), sum(columns)
        if self.width != n_inputs + self.depth or [len(blocks) for blocks in grid] != [len(columns)] * len(rows):
            raise ValueError(f"a grid of {rows} × {columns} does not hold {n_inputs} inputs and the state")
        if sum(n for _, n in activation) != self.depth:
            raise ValueError(f"the activations {activation} are not for {self.depth} rows")
        self.activation = Activation(*activation)
        self.rows, self.columns, self.placed = rows, columns, placed(rows, columns, grid)
        blocks, entries = [(b, high, wide) for b, _, _, high, wide in self.placed], self.depth * self.width
        drawn = [(b.count(high, wide), b.lr > 0) for b, high, wide in blocks if isinstance(b, PATTERNED)]
        patterned = sum(n for n, trained in drawn if trained)
        untrained = sum(n for n, trained in drawn if not trained)
        check_kind(linear, patterned, entries)
        factored = sum(round(b.R * high * wide) for b, high, wide in blocks if isinstance(b, Factored))
        kind = fastest(patterned, entries, device or torch.device("cpu")) if linear == "auto" else linear
        self.units, self._planned = self.depth, patterned + factored
        self.n_held = untrained + factored + (patterned if kind == "csr" or not patterned else entries)
        if generator is None:
            return
        self._linear = linear
        self.map = assemble(
            rows, columns, grid, init=init, init_std=init_std, linear=linear, device=device, generator=generator
        )
        self.bias = torch.nn.Parameter(torch.zeros(self.depth, device=generator.device)) if bias else None
        if self.bias is not None and init_bias == "uniform":
            torch.nn.init.uniform_(self.bias, -1 / math.sqrt(self.width), 1 / math.sqrt(self.width), generator)

    @property
    def n_weights(self) -> int:
        """The number of trainable entries of the block matrix, without biases, as in Hershey's Eq. 3.1."""
        return self.map.n_weights if hasattr(self, "map") else self._planned

    n_held = 0

    def tags(self) -> dict[str, str]:
        """linear: how the trainable entries are stored; for "auto" the kind that it chose."""
        kinds: dict[type[WeightMatrix], str] = {**{kind: name for name, kind in KINDS.items()}, LowRank: "low_rank"}
        return {"linear": "+".join(kinds[type(part)] for part in self._parts if not isinstance(part, Fixed))}

    def weights(self) -> list[Weights]:
        """The weights that read the input, the first I columns, and the weights that read the state."""
        indices, values = self._trainable.entries()
        reads_input = indices % self.width < self.n_inputs
        return [Weights(0, "i2h", values[reads_input]), Weights(0, "h2h", values[~reads_input])]

    def keep(self, kept: Sequence[Tensor]) -> None:
        """As in `Model`. Pruned entries leave the matrix, and `auto` chooses again how to store the others."""
        indices, values = self._trainable.entries()
        reads_input = indices % self.width < self.n_inputs
        mask = torch.empty_like(reads_input).masked_scatter_(reads_input, kept[0]).masked_scatter_(~reads_input, kept[1])
        kind = "auto" if self._linear == "dense" else self._linear  # a dense matrix has no entries to lose
        self._hold(from_entries(kind, self.depth, self.width, indices[mask], values[mask]))

    def rewirable(self) -> list[Rewirable]:
        return [self._trainable]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A state contains its own pattern, and says how it is stored."""
        at = prefix + ("map.parts.0." if isinstance(self.map, Sum) else "map.")
        if any(at + name in state_dict for name in ("values", "weight")):  # of a matrix of low rank there are neither
            self._hold(fitting(self._trainable, self.depth, self.width, state_dict, at))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _hold(self, trainable: Patterned) -> None:
        """Replaces `_trainable` by another matrix."""
        if isinstance(self.map, Sum):
            self.map.parts[0] = trainable
        else:
            self.map = trainable

    @property
    def _parts(self) -> Sequence[WeightMatrix]:
        return self.map.parts if isinstance(self.map, Sum) else [self.map]

    @property
    def _trainable(self) -> Patterned:
        """The part of the matrix that is trainable."""
        part = self._parts[0]
        if not isinstance(part, Patterned):
            raise ConfigError("pruning: a matrix of low rank has no entries of its own; take another linear or model")
        return part

    def lr_factors(self) -> list[tuple[Tensor, Tensor]]:
        """As in `Model`: of the blocks with an `lr` of their own. A low-rank block's is that of its A and its B."""
        own = [(b.lr, top, left, m, n) for b, top, left, m, n in self.placed if isinstance(b, Drawn) and b.lr not in (0, 1)]
        found: list[tuple[Tensor, Tensor]] = []
        for part in self._parts if own else ():
            if isinstance(part, LowRank):
                found += part.spread({(top, left): factor for factor, top, left, _, _ in own})
            elif isinstance(part, Patterned) and not isinstance(part, Fixed):
                (parameter,) = part.parameters()  # one value for each entry, or the whole matrix
                whole = torch.arange(parameter.numel(), device=parameter.device)
                at = part.entries()[0] if parameter.dim() == 1 else whole
                row, column, factors = at // self.width, at % self.width, torch.ones_like(parameter).flatten()
                for factor, top, left, high, wide in own:
                    factors[(top <= row) & (row < top + high) & (left <= column) & (column < left + wide)] = factor
                found.append((parameter, factors.view_as(parameter)))
        return found

    def size(self, steps: int) -> dict[str, float]:
        """As in `Model`; also the "depth", "width" and "density" of the matrix, and "weights_effective".

        Effective weights lie on a path from an input to an output within T = `steps`; see `inn_lab.patterns.effective`. They
        are not counted if low-rank blocks stand among others, nor in a matrix of low rank at T = 1.
        """
        return {
            "weights": self.n_weights,
            **self._effective(steps),
            "parameters": self.n_weights + (0 if self.bias is None else self.depth),
            "depth": self.depth,
            "width": self.width,
            "density": self.n_weights / (self.depth * self.width),
        }

    def spent(self, steps: int) -> dict[str, float]:
        """As in `Model`; also "weights_effective" of `size`, and of the units "in_degree_cv" and "out_degree_cv": the standard
        deviation by the mean of how many weights a unit has, and of how many units read it."""
        ins, outs = self.degrees()
        size = {name: n for name, n in self.size(steps).items() if name == "weights_effective"}
        return {**super().spent(steps), **size, "in_degree_cv": _cv(ins), "out_degree_cv": _cv(outs)}

    def degrees(self) -> tuple[Tensor, Tensor]:
        """Of each unit (row) how many trainable weights it has, and by how many it is read, (H,) each."""
        indices = self._trainable.entries()[0]
        columns = (indices % self.width).bincount(minlength=self.width)
        return (indices // self.width).bincount(minlength=self.depth), columns[self.n_inputs :]

    def _effective(self, steps: int) -> dict[str, int]:
        links = {isinstance(part, Fixed): part.entries()[0] for part in self._parts if isinstance(part, Patterned)}
        if low_rank := [part for part in self._parts if isinstance(part, LowRank)]:
            # A low-rank matrix alone has every entry. From the second step on all its weights affect an output.
            whole = steps > 1 and not links and len(low_rank[0].ranks) == 1
            return {"weights_effective": self.n_weights} if whole else {}
        none = next(iter(links.values()))[:0]
        reach = (self.n_inputs, self.width, self.n_outputs, steps)
        return {"weights_effective": effective(links.get(False, none), *reach, fixed=links.get(True, none))}

    def forward(self, x: Tensor) -> Tensor:
        return self.map.iterate(x, self.bias, self.activation, self.n_outputs)  # (B, T, I) -> (B, T, O)

    def states(self, x: Tensor) -> Tensor:
        """The whole state after each step: (B, T, I) -> (B, T, H)."""
        return self.map.iterate(x, self.bias, self.activation, self.depth)

    def iterate(self, x: Tensor, steps: int) -> Tensor:
        """The states of a still input: (B, I) -> (B, steps, H)."""
        return self.states(x[:, None].expand(-1, steps, -1))


def assemble(
    rows: Sequence[int],
    columns: Sequence[int],
    grid: Grid,
    *,
    init: str = "normal",
    init_std: float = 0.05,
    linear: str = "auto",
    device: torch.device | None = None,
    generator: torch.Generator,
) -> WeightMatrix:
    """Draws the blocks of a grid and fuses them into one matrix; arguments as in `Sequential2D`.

    With several parts it is their `Sum`, in this order: the trainable entries, the low-rank blocks, what is fixed.

    Raises ValueError for an identity or a diagonal that is not square.
    """
    depth, width, blocks = sum(rows), sum(columns), placed(rows, columns, grid)
    low_rank = any(isinstance(block, Factored) for block, *_ in blocks)
    fan_in = "fan_in" in {init, *(block.init for block, *_ in blocks if isinstance(block, Drawn))}
    in_row = torch.zeros(depth, dtype=torch.int64, device=generator.device)  # how many entries are drawn, if fan_in
    drawn: list[tuple[Trainable | Diagonal, Tensor]] = []
    zeros: list[Tensor] = []
    fixed: list[tuple[Tensor, Tensor]] = []
    beside: list[tuple[Drawn, Tensor, Tensor]] = []
    factors: dict[tuple[int, int], tuple[Tensor, Tensor | None]] = {}

    def std(block: Drawn, places: Tensor) -> float | Tensor:
        """The standard deviation of a block's entries at these places."""
        if (block.init or init) == "normal":
            return block.init_std or init_std
        return (2 / in_row[places // width]).sqrt()

    for block, top, left, high, wide in blocks:
        if low_rank and isinstance(block, Trainable) and block.n is block.start is None and block.lr:
            # beside low-rank blocks, a dense one needs no product of its own
            A = torch.randn(high, wide, generator=generator, device=generator.device)
            factors[top, left] = A, None
            beside.append((block, A, width * torch.arange(top, top + high, device=A.device)[:, None]))
            in_row[top : top + high] += wide
        elif isinstance(block, PATTERNED):
            at = block.pattern(high, wide, generator)
            drawn.append((block, (top + at // wide) * width + left + at % wide))
            if fan_in:
                in_row += (drawn[-1][1] // width).bincount(minlength=depth)
            if isinstance(block, Trainable) and block.start is not None:
                zeros.append(drawn[-1][1][draw_exact(1, len(at), len(at) - block.start, generator)])
        elif isinstance(block, Identity):
            at = diagonal(high, wide, generator.device)
            places = (top + at // wide) * width + left + at % wide
            fixed.append((places, torch.full((high,), block.scale, device=at.device)))
        elif isinstance(block, Factored):
            factors[top, left] = draw_factors(high, wide, block.R, block.init_std or init_std, generator)
    for dense, A, places in beside:
        A *= std(dense, places)
    parts: list[WeightMatrix] = []
    if drawn:
        indices = torch.cat([at for _, at in drawn]).sort().values
        normal = torch.randn(len(indices), generator=generator, device=generator.device)
        values = normal * std(Drawn(), indices)
        for block, places in drawn:
            if block.init or block.init_std:
                at = torch.searchsorted(indices, places)
                values[at] = normal[at] * std(block, places)
        if zeros:
            values[torch.searchsorted(indices, torch.cat(zeros))] = 0
        if still := [places for block, places in drawn if not block.lr]:
            stays = torch.zeros_like(values, dtype=torch.bool)
            stays[torch.searchsorted(indices, torch.cat(still))] = True
            fixed.append((indices[stays], values[stays]))
            indices, values = indices[~stays], values[~stays]
        if len(still) < len(drawn):
            parts.append(from_entries(linear, depth, width, indices, values, device))
    if factors:
        parts.append(LowRank(depth, width, factors))
    if fixed:
        indices, values = (torch.cat(part) for part in zip(*fixed, strict=True))
        order = indices.argsort()
        parts.append(Fixed(depth, width, indices[order], values[order]))
    return parts[0] if len(parts) == 1 else Sum(parts)


def placed(rows: Sequence[int], columns: Sequence[int], grid: Grid) -> list[tuple[Block, int, int, int, int]]:
    """The blocks row by row: (block, top, left, height, width)."""
    return [
        (block, top, left, height, width)
        for blocks, top, height in zip(grid, _starts(rows), rows, strict=True)
        for block, left, width in zip(blocks, _starts(columns), columns, strict=True)
    ]


def diagonal(rows: int, columns: int, device: torch.device) -> Tensor:
    """The flat indices of a square block's diagonal, (n,)."""
    if rows != columns:
        raise ValueError(f"a block of {rows} × {columns} has no diagonal")
    return torch.arange(rows, device=device) * (columns + 1)


def _starts(sizes: Sequence[int]) -> list[int]:
    return [0, *accumulate(sizes)][:-1]


def _cv(counts: Tensor) -> float:
    """The coefficient of variation; 0 of what is zero throughout."""
    counts = counts.double()
    return float(counts.std(correction=0) / counts.mean()) if counts.any() else 0.0

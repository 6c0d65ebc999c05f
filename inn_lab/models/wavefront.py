"""A stack of recurrent layers with skips between them, run as one sparse matrix that is applied repeatedly."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inn_lab.errors import near
from inn_lab.linear import CSR, admit, fitting
from inn_lab.linear.by_hand import first_order
from inn_lab.linear.cells import Cells
from inn_lab.models import ticks
from inn_lab.models.base import Weights
from inn_lab.models.ticks import CELLS


class Link(NamedTuple):
    """Recurrent units that read a source layer (−1: the input) and feed a target layer. mask (target, source): which reads
    which."""

    source: int
    target: int
    mask: Tensor


class Wavefront(torch.nn.Module):
    """Layers of recurrent cells: y_l = Σ h over the links into layer l. Each link has its own units.

        h_t = cell(W y_source,t + b, U h_{t−1} + b')   for a link; W has entries where its mask is True, U is full

    All links are computed at once. At tick k the links that read layer s are at step k − s − 1, because they wait for that
    layer alone. So one sparse matrix holds exactly the trainable weights. It is applied once a tick to [1; 1; e; y; h], with
    the input e, the outputs y of the layers and the states h. T steps of L layers take T + L − 1 ticks.

    The weights are uniform in ±1/√(width of the link's layer), as in torch's own modules of that width.

    Shapes: (B, T, I) -> (B, T, widths[-1]). B batch, T steps, I = n_inputs, by default widths[0], H units of all links, n units
    of all layers.

    Raises ValueError for an unknown cell and for a link that is not between layers or whose mask has another shape; a call
    raises ValueError for an e of another shape or on another device than the weights, TypeError for another dtype.
    """

    heard_at: Tensor
    felt_at: Tensor
    total: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        links: Sequence[Link],
        cell: str,
        generator: torch.Generator,
        n_inputs: int | None = None,
    ) -> None:
        super().__init__()
        read = (widths[0] if n_inputs is None else n_inputs, *widths)  # by the links that read the input, layer 0, …
        if cell not in CELLS:
            raise ValueError(f"cell={cell}: there is no such cell{near(str(cell), CELLS)}")
        for source, target, mask in links:
            if not -1 <= source < target < len(widths):
                raise ValueError(
                    f"a link from {source} to {target}: it goes up, from −1 (the input) to at most {len(widths) - 1}"
                )
            shape = widths[target], read[source + 1]
            if mask.dtype is not torch.bool or mask.shape != shape:
                raise ValueError(
                    f"a link from {source} to {target}: its mask is {mask.dtype} {tuple(mask.shape)}, not bool {shape}"
                )
        links = sorted(links, key=lambda link: link.source)  # links that have not begun yet come last
        self.cell, self.depth, self.last = CELLS[cell], len(widths), widths[-1]
        self.rows = 1 + max(max(gate) for gate in self.cell.gates)
        tops = [*accumulate(read, initial=2)]  # where in [1; 1; e; y; h] e, each layer's y and h begin
        starts = [0, *accumulate(widths[link.target] for link in links)]
        self.y, self.h, self.units = tops[1], tops[-1], starts[-1]
        self.width = self.h + self.units
        by_input, *reach = torch.zeros(3, self.units, self.width, dtype=torch.bool)  # reach: of inputs and states, by the links
        by_input[:, 0] = True  # the bias
        target, delay = torch.empty(2, self.units, dtype=torch.long)
        for link, start in zip(links, starts, strict=False):
            mine = slice(start, start + widths[link.target])
            left = tops[link.source + 1]
            by_input[mine, left : left + link.mask.shape[1]] = link.mask
            reach[0][mine, left : left + link.mask.shape[1]] = True
            reach[1][mine, self.h + mine.start : self.h + mine.stop] = True
            target[mine] = tops[link.target + 1] + torch.arange(widths[link.target])
            delay[mine] = link.target - link.source
        by_state = reach[1].clone()
        by_state[:, 1] = True  # the bias
        pattern = torch.zeros(self.rows, self.units, self.width, dtype=torch.bool)
        for input_row, state_row in self.cell.gates:
            pattern[input_row] |= by_input
            pattern[state_row] |= by_state
        indices = pattern.flatten().nonzero().flatten()
        fan = torch.tensor([widths[link.target] for link in links for _ in range(widths[link.target])])
        bound = fan.repeat(self.rows)[indices // self.width].rsqrt()
        values = (2 * torch.rand(len(indices), generator=generator, device=generator.device) - 1) * bound
        self.map = CSR(self.rows * self.units, self.width, indices, values)
        self.layers = torch.tensor([link.target for link in links for _ in range(widths[link.target])])  # of each unit
        self.room = [self._room(reach[kind], kind, layer) for layer in range(self.depth) for kind in (0, 1)]
        self.begun = [sum(widths[link.target] for link in links if link.source < k) for k in range(self.depth)]
        self.delay, self.target = delay, target
        # Where a unit's h of `delay` ticks ago stands, which counts for its node's y now; and that y, from the tick of the h.
        self.register_buffer("heard_at", self.h + torch.arange(self.units) - delay * self.width, persistent=False)
        self.register_buffer("felt_at", target + delay * self.width, persistent=False)
        total = torch.zeros(self.h - self.y, self.units)
        total[target - self.y, torch.arange(self.units)] = 1
        self.register_buffer("total", total, persistent=False)  # (n, H)

    def _room(self, reach: Tensor, kind: int, layer: int) -> Tensor:
        """Where weights of a layer's units may stand that read their inputs (kind 0) or states (1): flat positions, (n,)."""
        room = torch.zeros(self.rows, self.units, self.width, dtype=torch.bool)
        for gate in self.cell.gates:
            room[gate[kind]] |= reach & (self.layers == layer)[:, None]
        return room.flatten().nonzero().flatten()

    def rewirable(self) -> list[Cells]:
        """By layer, what its units read of other layers and what they read of their own states, as matrices whose patterns can
        change: between linked layers and within a link, never a bias."""
        return [Cells(self.map, cells.to(self.map.values.device)) for cells in self.room]

    def weights(self) -> list[Weights]:
        """By layer, the weights that read other layers or the input, and those that read the units' own states; no biases."""
        _, values = self.map.entries()
        return [Weights(layer, reads, values[mask]) for layer, reads, mask in self._groups()]

    def keep(self, kept: Sequence[Tensor]) -> None:
        """As in `Model`. Pruned weights are no longer stored."""
        indices, values = self.map.entries()
        mask = torch.ones_like(indices, dtype=torch.bool)
        for (_, _, group), stays in zip(self._groups(), kept, strict=True):
            mask[group] = stays
        self.map = CSR(self.map.out_features, self.width, indices[mask], values[mask])

    def _groups(self) -> list[tuple[int, str, Tensor]]:
        """For each layer and "i2h" or "h2h": which of the matrix's entries belong to it, (n,)."""
        indices, _ = self.map.entries()
        columns = indices % self.width
        layer = self.layers.to(indices.device)[indices // self.width % self.units]
        reads = {"i2h": (columns >= 2) & (columns < self.h), "h2h": columns >= self.h}
        return [(n, name, mask & (layer == n)) for n in range(self.depth) for name, mask in reads.items()]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A state contains its own pattern; one of an earlier version also what follows from the links."""
        for name in ("heard_at", "felt_at", "total"):
            state_dict.pop(prefix + name, None)
        fits = fitting(self.map, self.map.out_features, self.width, state_dict, f"{prefix}map.")
        self.map = fits  # type: ignore[assignment]  # a state of a wavefront has a CSR's `values`
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, e: Tensor) -> Tensor:
        e = admit("Wavefront", "e", e, ("B", "T", self.y - 2), self.map.values)
        y = _Ticks.apply(e.permute(1, 2, 0), self.map.values, self)
        return y.permute(2, 0, 1)  # (T, last, B) -> (B, T, last)


class _Ticks(torch.autograd.Function):
    """`Wavefront` as one function, with its derivative by hand.

    states[depth + k] is what tick k reads: its h is that of tick k − 1. Before them are zeros.
    """

    @staticmethod
    def forward(ctx: Any, e: Tensor, values: Tensor, stack: Wavefront) -> Tensor:
        (steps, _, batch), depth = e.shape, stack.depth
        block = stack.map.blocks(stack.width)[0]
        states = e.new_zeros(2 * depth + steps, stack.width, batch)
        states[:, :2] = 1
        states[depth : depth + steps, 2 : stack.y] = e
        acts, carries = ticks.forward(stack, block, values.detach(), states, depth + steps - 1)
        ctx.save_for_backward(values, states, acts, carries)
        ctx.stack, ctx.block = stack, block
        return states[2 * depth :, stack.h - stack.last : stack.h].contiguous()  # (T, last, B)

    @staticmethod
    @first_order("a wavefront")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (values, states, acts, carries), stack, needed = ctx.saved_tensors, ctx.stack, ctx.needs_input_grad[0]
        (steps, _, batch), depth = grad.shape, stack.depth
        felt = grad.new_zeros(len(states) + depth, stack.width, batch)  # dL/dstates, and zeros after them
        felt[2 * depth : 2 * depth + steps, stack.h - stack.last : stack.h] = grad
        dvalues = ticks.backward(stack, ctx.block, values, states, acts, carries, felt, 2 if needed else stack.y)
        return felt[depth : depth + steps, 2 : stack.y].contiguous() if needed else None, dvalues, None

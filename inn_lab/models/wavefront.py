"""A stack of recurrent layers with skips between them, run as one sparse matrix that is applied repeatedly."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inn_lab.errors import near
from inn_lab.linear import CSR, admit
from inn_lab.linear.by_hand import first_order
from inn_lab.linear.cells import Cells
from inn_lab.linear.csr import product, sampled, transpose

TICKS = 8  # that the backward pass collects before it computes their part of the gradient


class Link(NamedTuple):
    """Recurrent units that read a source layer (−1: the input) and feed a target layer. mask (target, source): which reads
    which."""

    source: int
    target: int
    mask: Tensor


class Cell(NamedTuple):
    """A recurrent cell: the rows of weights of each unit, a step, and the derivative of the step.

    gates: for each gate the row that reads the input and the row that reads the state; one row if the two are only summed.

    step: step(a, carry) takes the rows' products a (rows, H, B) and what units carry on beside their state (H, B). It returns
    the state h (H, B) and the next carry. It may overwrite `a` with what the derivative needs.

    back: back(a, carry, h, carried, dh, dcarried) takes the arguments and results of `step`, and returns da by row, and dcarry.
    """

    gates: tuple[tuple[int, int], ...]
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    back: Callable[..., tuple[Sequence[Tensor], Tensor]]


sigmoid_back, tanh_back = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward  # of (dL/dy, y)


def _tanh(a: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    return torch.tanh(a[0]), carry


def _tanh_back(a: Tensor, carry: Tensor, h: Tensor, carried: Tensor, dh: Tensor, dcarried: Tensor):
    return [tanh_back(dh, h)], dcarried


def _relu(a: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    return torch.relu(a[0]), carry


def _relu_back(a: Tensor, carry: Tensor, h: Tensor, carried: Tensor, dh: Tensor, dcarried: Tensor):
    return [dh * (h > 0)], dcarried


def _lstm(a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = *a[:2].sigmoid_(), a[2].tanh_(), a[3].sigmoid_()
    c = torch.addcmul(f * c, i, g)
    return o * torch.tanh(c), c


def _lstm_back(a: Tensor, before: Tensor, h: Tensor, c: Tensor, dh: Tensor, dc: Tensor):
    i, f, g, o = a
    squashed = torch.tanh(c)
    dc = dc + tanh_back(dh * o, squashed)
    rows = sigmoid_back(dc * g, i), sigmoid_back(dc * before, f), tanh_back(dc * i, g), sigmoid_back(dh * squashed, o)
    return rows, dc * f


def _gru(a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    a[:2].sigmoid_()
    r, z, n, m = a
    n.addcmul_(r, m).tanh_()
    h = torch.lerp(n, h, z)
    return h, h


def _gru_back(a: Tensor, before: Tensor, h: Tensor, carried: Tensor, dh: Tensor, dcarried: Tensor):
    r, z, n, m = a
    dh = dh + dcarried
    kept = dh * z
    dn = tanh_back(dh - kept, n)
    return (sigmoid_back(dn * m, r), sigmoid_back(dh * (before - n), z), dn, dn * r), kept


CELLS = {  # the equations of torch.nn.RNN, LSTM and GRU, and the order of their gates
    "tanh": Cell(((0, 0),), _tanh, _tanh_back),
    "relu": Cell(((0, 0),), _relu, _relu_back),
    "lstm": Cell(((0, 0), (1, 1), (2, 2), (3, 3)), _lstm, _lstm_back),
    "gru": Cell(((0, 0), (1, 1), (2, 3)), _gru, _gru_back),
}


class Wavefront(torch.nn.Module):
    """Layers of recurrent cells: y_l = Σ h over the links into layer l. Each link has its own units.

        h_t = cell(W y_source,t + b, U h_{t−1} + b')   for a link; W has entries where its mask is True, U is full

    All links are computed at once. At tick k the links that read layer s are at step k − s − 1, because they wait for that
    layer alone. So one sparse matrix holds exactly the trainable weights. It is applied once a tick to [1; 1; e; y; h], with
    the input e, the outputs y of the layers and the states h. T steps of L layers take T + L − 1 ticks.

    The weights are uniform in ±1/√(width of the link's layer), as in torch's own modules of that width.

    Shapes: (B, T, widths[0]) -> (B, T, widths[-1]). B batch, T steps, H units of all links, n units of all layers.

    Raises ValueError for an unknown cell and for a link that is not between layers or whose mask has another shape; a call
    raises ValueError for an e of another shape or on another device than the weights, TypeError for another dtype.
    """

    heard_at: Tensor
    felt_at: Tensor
    total: Tensor

    def __init__(self, widths: Sequence[int], links: Sequence[Link], cell: str, generator: torch.Generator) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell={cell}: there is no such cell{near(str(cell), CELLS)}")
        for source, target, mask in links:
            if not -1 <= source < target < len(widths):
                raise ValueError(
                    f"a link from {source} to {target}: it goes up, from −1 (the input) to at most {len(widths) - 1}"
                )
            shape = widths[target], widths[max(source, 0)]
            if mask.dtype is not torch.bool or mask.shape != shape:
                raise ValueError(
                    f"a link from {source} to {target}: its mask is {mask.dtype} {tuple(mask.shape)}, not bool {shape}"
                )
        links = sorted(links, key=lambda link: link.source)  # links that have not begun yet come last
        self.cell, self.depth, self.last = CELLS[cell], len(widths), widths[-1]
        self.rows = 1 + max(max(gate) for gate in self.cell.gates)
        tops = [2, *accumulate(widths, initial=2 + widths[0])]  # where in [1; 1; e; y; h] e, each layer's y and h begin
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
        # Where a unit's h of `delay` ticks ago stands, which counts for its node's y now; and that y, from the tick of the h.
        self.register_buffer("heard_at", self.h + torch.arange(self.units) - delay * self.width)
        self.register_buffer("felt_at", target + delay * self.width)
        total = torch.zeros(self.h - self.y, self.units)
        total[target - self.y, torch.arange(self.units)] = 1
        self.register_buffer("total", total)  # (n, H)

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
        (steps, _, batch), depth, width, (y, h) = e.shape, stack.depth, stack.width, (stack.y, stack.h)
        block, weights = stack.map.blocks(width)[0], values.detach()
        states = e.new_zeros(2 * depth + steps, width, batch)
        states[:, :2] = 1
        states[depth : depth + steps, 2:y] = e
        acts = e.new_empty(depth + steps - 1, stack.rows * stack.units, batch)
        flat, carries = states.view(-1, batch), [e.new_zeros(stack.units, batch)]
        for k, (before, after) in enumerate(pairwise(states[depth:])):
            acts[k] = product(block, weights, before[None])[0]
            now, carry = stack.cell.step(acts[k].view(stack.rows, stack.units, batch), carries[-1])
            if k < depth:
                now[stack.begun[k] :] = carry[stack.begun[k] :] = 0
            after[h:] = now
            carries.append(carry)
            torch.mm(stack.total, flat.index_select(0, stack.heard_at + (depth + k + 2) * width), out=after[y:h])
        ctx.save_for_backward(values, states, acts, *carries)
        ctx.stack, ctx.block = stack, block
        return states[2 * depth :, h - stack.last : h].contiguous()  # (T, last, B)

    @staticmethod
    @first_order("a wavefront")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (values, states, acts, *carries), stack = ctx.saved_tensors, ctx.stack
        (steps, _, batch), depth, width, (y, h) = grad.shape, stack.depth, stack.width, (stack.y, stack.h)
        transposed, weights = transpose(ctx.block, values)
        dvalues, part, found = torch.zeros_like(values), torch.empty_like(values), acts.new_empty(TICKS, *acts.shape[1:])
        felt = grad.new_zeros(len(states) + depth, width, batch)  # dL/dstates, and zeros after them
        felt[2 * depth : 2 * depth + steps, h - stack.last : h] = grad
        flat, dcarry = felt.view(-1, batch), grad.new_zeros(stack.units, batch)
        for k in reversed(range(len(acts))):
            dh = flat.index_select(0, stack.felt_at + (depth + k) * width).add_(felt[depth + k + 1, h:])
            if k < depth:
                dh[stack.begun[k] :] = dcarry[stack.begun[k] :] = 0
            a = acts[k].view(stack.rows, stack.units, batch)
            da, dcarry = stack.cell.back(a, carries[k], states[depth + k + 1, h:], carries[k + 1], dh, dcarry)
            place = k % TICKS
            torch.stack(da, out=found[place].view_as(a))
            felt[depth + k] += product(transposed, weights, found[None, place])[0]
            if place == 0:
                n = min(TICKS, len(acts) - k)
                sampled(ctx.block, found[:n], states[depth + k : depth + k + n], part)
                dvalues += part
        return felt[depth : depth + steps, 2:y].contiguous(), dvalues, None

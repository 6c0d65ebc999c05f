"""The cells of a wavefront and the ticks that apply them: by torch on any device, and compiled on the CPU."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from inn_lab.linear.csr import KERNELS, Block, check_operands, compiled, product, sampled, transpose

if TYPE_CHECKING:
    from inn_lab.models.wavefront import Wavefront

AT_ONCE = 8  # ticks that the backward pass collects before it computes their part of the gradient
LANES = 8  # of a batch, that a thread takes at least


class Cell(NamedTuple):
    """A recurrent cell: the rows of weights of each unit, a step, and the derivative of the step.

    gates: for each gate the row that reads the input and the row that reads the state; one row if the two are only summed.

    step: step(a, carry) takes the rows' products a (rows, H, B) and what units carry on beside their state (H, B). It returns
    the state h (H, B) and the next carry. It may overwrite `a` with what the derivative needs.

    back: back(a, carry, h, carried, dh, dcarried) takes the arguments and results of `step`, and returns da by row, and dcarry.

    kernel: its number in `inn_lab.linear.kernels`.
    """

    gates: tuple[tuple[int, int], ...]
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    back: Callable[..., tuple[Sequence[Tensor], Tensor]]
    kernel: int


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
    "tanh": Cell(((0, 0),), _tanh, _tanh_back, 0),
    "relu": Cell(((0, 0),), _relu, _relu_back, 1),
    "lstm": Cell(((0, 0), (1, 1), (2, 2), (3, 3)), _lstm, _lstm_back, 2),
    "gru": Cell(((0, 0), (1, 1), (2, 3)), _gru, _gru_back, 3),
}


def forward(stack: "Wavefront", block: Block, values: Tensor, states: Tensor, n_ticks: int) -> tuple[Tensor, Tensor]:
    """All ticks. `states` holds what each tick reads, e and zeros; they write what they leave.

    Returns the rows' products, or what `Cell.step` made of them (K, rows, H, B), and the carries (K + 1, H, B).
    """
    batch = states.shape[2]
    check_operands("a wavefront", block, values, states=(states, (len(states), block.n_columns, batch)))
    acts = states.new_empty(n_ticks, stack.rows, stack.units, batch)
    carries = states.new_zeros(n_ticks + 1, stack.units, batch)
    if states.device.type == "cpu" and states.dtype in KERNELS:
        arrays = *_arrays(stack, block, values, batch), states.numpy(), acts.flatten(1, 2).numpy(), carries.numpy()
        compiled("forward_ticks")(*arrays)
    else:
        torch_forward(stack, block, values, states, acts, carries)
    return acts, carries


def backward(
    stack: "Wavefront", block: Block, values: Tensor, states: Tensor, acts: Tensor, carries: Tensor, felt: Tensor, low: int
) -> Tensor:
    """All ticks, the last one first. felt (…, width, B) is dL/dstates: at first of what is read from outside, at last of the
    rows from `low` on.

    Returns dL/dvalues.
    """
    transposed, turned = transpose(block, values)
    dvalues, part, found = torch.zeros_like(values), torch.empty_like(values), acts.new_empty(AT_ONCE, *acts.shape[1:])
    dcarry, depth = carries.new_zeros(carries.shape[1:]), stack.depth
    ours = states.device.type == "cpu" and states.dtype in KERNELS
    for first in reversed(range(0, len(acts), AT_ONCE)):
        these = found[: len(acts) - first]
        if ours:
            arrays = states.numpy(), acts.flatten(1, 2).numpy(), carries.numpy(), first, low, felt.numpy(), dcarry.numpy()
            compiled("backward_ticks")(
                *_arrays(stack, transposed, turned, states.shape[2]), *arrays, these.flatten(1, 2).numpy()
            )
        else:
            dcarry = torch_backward(stack, transposed, turned, states, acts, carries, first, felt, dcarry, these)
        sampled(block, these.flatten(1, 2), states[depth + first : depth + first + len(these)], part)
        dvalues += part
    return dvalues


def torch_forward(stack: "Wavefront", block: Block, values: Tensor, states: Tensor, acts: Tensor, carries: Tensor) -> None:
    """The ticks of `forward`, by torch. The tests compare the kernel with it."""
    flat, depth, (y, h) = states.view(-1, states.shape[2]), stack.depth, (stack.y, stack.h)
    for k, (before, after) in enumerate(pairwise(states[depth : depth + len(acts) + 1])):
        acts[k] = product(block, values, before[None])[0].view_as(acts[k])
        now, carry = stack.cell.step(acts[k], carries[k])
        if k < depth:
            now[stack.begun[k] :] = carry[stack.begun[k] :] = 0
        after[h:], carries[k + 1] = now, carry
        torch.mm(stack.total, flat.index_select(0, stack.heard_at + (depth + k + 2) * stack.width), out=after[y:h])


def torch_backward(
    stack: "Wavefront",
    transposed: Block,
    turned: Tensor,
    states: Tensor,
    acts: Tensor,
    carries: Tensor,
    first: int,
    felt: Tensor,
    dcarry: Tensor,
    found: Tensor,
) -> Tensor:
    """The ticks of `backward` from the last of `found` down to tick `first`, likewise. Returns the next dcarry."""
    flat, depth, h = felt.view(-1, felt.shape[2]), stack.depth, stack.h
    for k in reversed(range(first, first + len(found))):
        dh = flat.index_select(0, stack.felt_at + (depth + k) * stack.width).add_(felt[depth + k + 1, h:])
        if k < depth:
            dh[stack.begun[k] :] = dcarry[stack.begun[k] :] = 0
        da, dcarry = stack.cell.back(acts[k], carries[k], states[depth + k + 1, h:], carries[k + 1], dh, dcarry)
        torch.stack(list(da), out=found[k - first])
        felt[depth + k] += product(transposed, turned, found[k - first].flatten(0, 1)[None])[0]
    return dcarry


def _arrays(stack: "Wavefront", block: Block, values: Tensor, batch: int) -> tuple:
    """What the kernels take: pieces of the batch for the threads, the matrix, and how the units stand."""
    lanes = -(-batch // LANES)
    pieces = min(torch.get_num_threads(), max(1, lanes))
    cuts = torch.tensor([min(batch, LANES * (lanes * piece // pieces)) for piece in range(pieces + 1)], dtype=torch.int32)
    matrix = block.starts.numpy(), block.stops.numpy(), block.columns.numpy(), values.numpy()
    units = np.array(stack.begun), stack.delay.numpy(), stack.target.numpy()
    return cuts.numpy(), *matrix, stack.cell.kernel, stack.h, *units

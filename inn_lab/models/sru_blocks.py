"""The SRU as two block matrices that are iterated, as in Kale 2024."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from inn_lab.linear import CSR, Activation
from inn_lab.models.sequential2d import Block, Diagonal, Grid, Identity, Trainable, assemble
from inn_lab.models.sru import SRUCell

WEIGHTS = ("W", "W_f", "W_r")
DIAGONALS = ("V_f", "V_r", "B_f", "B_r")  # of v_f, v_r, b_f, b_r
BLOCKS: dict[str, Block] = {".": None, "I": Identity(), "-I": Identity(-1.0)}
BLOCKS |= dict.fromkeys(WEIGHTS, Trainable()) | dict.fromkeys(DIAGONALS, Diagonal())

# The entries of the state x̄, n numbers each, and their values during a step. The entry of cₜ₋₁ holds c_t after it.
ENTRIES = ("x", "cₜ₋₁", "1", "f", "1−f", "Wx", "f⊙cₜ₋₁", "(1−f)⊙Wx", "c", "r", "1−r", "r⊙c", "(1−r)⊙x", "h")
STATE, OUTPUT = 1, 13  # after the six steps c_t stands in entry 1 and h_t in entry 13
SIGMOID = (3, 9)  # the gates f and r
STEPS = ("G", "G", "F", "F", "F", "F")


def picture(text: str) -> list[list[str]]:
    """Rows of symbols; a dot is a block of zeros."""
    return [line.split() for line in text.strip().splitlines()]


G = picture("""
    I    .    .    .    .    .    .    .    .    .    .    .    .    .
    .    .    .    .    .    .    .    .    I    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    W_f  V_f  B_f  .    .    .    .    .    .    .    .    .    .    .
    .    .    I    -I   .    .    .    .    .    .    .    .    .    .
    W    .    .    .    .    .    .    .    .    .    .    .    .    .
    .    .    .    I    .    .    .    .    .    .    .    .    .    .
    .    .    .    .    I    .    .    .    .    .    .    .    .    .
    .    .    .    .    .    .    I    I    .    .    .    .    .    .
    W_r  V_r  B_r  .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    -I   .    .    .    .
    .    .    .    .    .    .    .    .    .    I    .    .    .    .
    .    .    .    .    .    .    .    .    .    .    I    .    .    .
    .    .    .    .    .    .    .    .    .    .    .    I    I    .
""")
H = picture("""
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    I    .    .    .    .    .    .    .    .    .    .    .    .
    .    .    .    .    .    I    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
    .    .    .    .    .    .    .    .    I    .    .    .    .    .
    I    .    .    .    .    .    .    .    .    .    .    .    .    .
    .    .    I    .    .    .    .    .    .    .    .    .    .    .
""")


def grid(symbols: list[list[str]]) -> Grid:
    return [[BLOCKS[symbol] for symbol in row] for row in symbols]


def csc(symbols: list[list[str]]) -> tuple[Sequence[str | int], ...]:
    """A picture's blocks by compressed sparse columns: (val, row_ind, col_ptr), as in Kale 2024, 2.8.1."""
    val: list[str] = []
    row_ind: list[int] = []
    col_ptr = [0]
    for column in zip(*symbols, strict=True):
        rows = [row for row, symbol in enumerate(column) if symbol != "."]
        val += [column[row] for row in rows]
        row_ind += rows
        col_ptr.append(len(val))
    return val, row_ind, col_ptr


class SRUBlocks(torch.nn.Module):
    """The SRU of n inputs and n hidden units as two block matrices G and H of 14 × 14 blocks, applied six times a step of x.

        x̄ ← σ(G x̄) twice, then x̄ ← F(x̄) = σ(G x̄) ⊙ H x̄ four times;   σ is the sigmoid in the rows of f and r, linear elsewhere

    G computes sums. H supplies the second factor of each product, 1 if there is none.

    Source: Kale 2024, Eqs. 21–24, Table 2, and the listing of G in 2.8.1. Two slips are corrected: the listing lacks the I that
    makes 1 − f of 1, and Eq. 24 starts without c_{t−1} in entry 1, where Table 2 has it.

    Shapes: as `SRUCell`, (B, T, n) -> (B, T, n), (B, T, n): all h_t, all c_t.

    Args:
        generator: weights and biases are drawn from it, N(0, init_std²); `take` copies those of an SRU.
    """

    def __init__(self, n: int, *, init_std: float = 0.05, generator: torch.Generator) -> None:
        super().__init__()
        self.n = n
        sizes = [n] * len(ENTRIES)
        self.G, self.H = (
            assemble(sizes, sizes, grid(symbols), init_std=init_std, linear="csr", generator=generator) for symbols in (G, H)
        )
        self.activation = Activation(*(("sigmoid" if entry in SIGMOID else "linear", n) for entry in range(len(ENTRIES))))

    @property
    def trainable(self) -> CSR:
        """The trainable part of G, without its identities."""
        return cast(CSR, self.G.get_submodule("parts.0"))

    def steps(self, state: Tensor) -> Tensor:
        """The state at first and after each of the six steps: (B, 14n) -> (7, B, 14n)."""
        states = [state]
        for step in STEPS:
            total = self.activation(self.G(state))
            state = total if step == "G" else total * self.H(state)
            states.append(state)
        return torch.stack(states)

    def forward(self, x: Tensor, begin: Callable[[Tensor, Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """`begin` replaces `start`."""
        c, states = x.new_zeros(len(x), self.n), []
        for now in x.unbind(1):
            entries = self.steps((begin or start)(now, c))[-1].split(self.n, dim=1)
            c = entries[STATE]
            states.append((entries[OUTPUT], c))
        h, c = (torch.stack(part, dim=1) for part in zip(*states, strict=True))
        return h, c

    @torch.no_grad()
    def take(self, cell: SRUCell) -> "SRUBlocks":
        """Copies the weights of a cell with n inputs and n hidden units; raises ValueError for other sizes."""
        if not cell.n_inputs == cell.hidden_size == self.n:
            raise ValueError(f"an SRU of {cell.n_inputs} inputs and {cell.hidden_size} hidden units for blocks of {self.n}")
        self.trainable.values.copy_(self.entries(cell.weight, cell.v, cell.b))
        return self

    def entries(self, weight: Tensor, v: Tensor, b: Tensor) -> Tensor:
        """G's trainable entries, (3n² + 4n,), in their order, from a cell's parameters (3n, n), (2, n), (2, n)."""
        n, width = self.n, len(ENTRIES) * self.n
        blocks = torch.cat([weight.view(3, n, n), v.diag_embed(), b.diag_embed()])  # (7, n, n)
        symbols = (*WEIGHTS, *DIAGONALS)
        which = torch.tensor([[symbols.index(s) if s in symbols else -1 for s in row] for row in G], device=weight.device)
        at, _ = self.trainable.entries()
        rows, columns = at // width, at % width
        return blocks[which[rows // n, columns // n], rows % n, columns % n]


def start(x: Tensor, c: Tensor) -> Tensor:
    """The state at the beginning of a step, from x_t and c_{t−1}: (B, n), (B, n) -> (B, 14n).

    Kale 2024, Table 2, "Input".
    """
    none, half = torch.zeros_like(x), c / 2
    return torch.cat([x, c, torch.ones_like(x), half, half, none, half, half, c, *[none] * 5], dim=1)

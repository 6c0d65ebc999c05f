"""The gain of fused blocks: a training step of the same block matrix, block by block in Python and fused.

    python -m benchmarks.block_speed [--seconds 10]

Kale's grids (2024): 2500 + 434 + 434 + 434 + 10 of 3.3 at R = 0.2, and 2500 + 300 + 20 + 10 of 3.5, sparse and of low rank at R
= 0.2 and 0.01. Block by block is the source's way: each block is a matrix of its own, a sparse one is masked, and each row of
blocks is the sum of its products. Batch 32, ten images and a blank; forward, backward and Adam. The least of the timed steps
counts, because other work of the machine only adds to it.
"""

import argparse

import torch
from torch import Tensor, nn

from benchmarks.common import positive, step_ms, two_ways
from inn_lab import machine
from inn_lab.linear import LowRank, Masked
from inn_lab.models import Sequential2D, by_column, represented
from inn_lab.seeding import generator

BATCH, STEPS, INPUTS, OUTPUTS = 32, 11, 2500, 10
CPU = torch.device("cpu")


class BlockByBlock(nn.Module):
    """The network of a `Sequential2D`, a module for each block. Without biases."""

    def __init__(self, model: Sequential2D, rows: list[int]) -> None:
        super().__init__()
        self.rows, self.activation = rows, ("relu",) * (len(rows) - 1) + ("linear",)
        self.columns = [model.n_inputs, *rows]
        whole = model.map(torch.eye(model.width)).T.detach()  # (H, I + H)
        parts = [part.split(self.columns, dim=1) for part in whole.split(rows)]
        low_rank = any(isinstance(part, LowRank) for part in model.map.modules())
        self.blocks = nn.ModuleList(
            nn.ModuleList(_block(part, low_rank and (i, j) != (len(rows) - 1,) * 2) for j, part in enumerate(row))
            for i, row in enumerate(parts)
        )

    def forward(self, x: Tensor) -> Tensor:
        state = [x.new_zeros(len(x), n) for n in self.rows]
        outputs = []
        for now in x.unbind(1):
            seen = [now, *state]
            totals = [sum(block(part) for block, part in zip(row, seen, strict=True)) for row in self.blocks]
            state = [a.relu() if name == "relu" else a for name, a in zip(self.activation, totals, strict=True)]
            outputs.append(state[-1])
        return torch.stack(outputs, dim=1)  # (B, T, I) -> (B, T, O)


def _block(matrix: Tensor, low_rank: bool) -> nn.Module:
    """A module that holds one block: masked, or as A B of the rank that it has."""
    if not low_rank:
        indices = matrix.flatten().nonzero().flatten()
        return Masked(*matrix.shape, indices, matrix.flatten()[indices])
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    k = max(1, int(torch.linalg.matrix_rank(matrix, rtol=1e-5)))
    A, B = nn.Linear(k, matrix.shape[0], bias=False), nn.Linear(matrix.shape[1], k, bias=False)
    with torch.no_grad():
        A.weight.copy_(U[:, :k] * S[:k])
        B.weight.copy_(V[:k])
    return nn.Sequential(B, A)


def grids() -> dict[str, tuple[Sequential2D, list[int]]]:
    """The networks by name, with the heights of their rows of blocks."""
    large, small = [434, 434, 434], [300, 20]
    common = {"n_inputs": INPUTS, "n_outputs": OUTPUTS, "bias": False, "generator": generator(0, "model")}
    columns = by_column(hidden=large, R=0.2, R_input=0.2, R_hidden=None, R_output=0.2, **common)
    made = {"K 3.3, R=0.2, sparse": (columns, [*large, OUTPUTS])}
    for R in (0.2, 0.01):
        for representation in ("sparse", "low_rank"):
            model = represented(hidden=small, R=R, representation=representation, **common)
            made[f"K 3.5, R={R}, {representation}"] = (model, [*small, OUTPUTS])
    return made


def measure(seconds: float) -> list[dict[str, object]]:
    """A row for each grid: milliseconds block by block and fused, and how many times as fast."""
    draw = generator(0, "data")
    x = torch.randn(BATCH, STEPS, INPUTS, generator=draw)
    y = torch.randint(OUTPUTS, (BATCH,), generator=draw)
    rows = []
    for name, (model, heights) in grids().items():
        slow, fast = (step_ms(way, x, y, seconds) for way in (BlockByBlock(model, heights), model))
        rows.append(
            {"grid": name, "block_by_block_ms": slow, "fused_ms": fast, "times_as_fast": slow / fast, **machine.tags(CPU)}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step of Kale's block matrices, block by block and fused.")
    parser.add_argument("--seconds", type=positive, default=10, help="for each way and grid")
    two_ways("block_speed", measure(parser.parse_args().seconds), ["grid"], "block_by_block_ms", "fused_ms")


if __name__ == "__main__":
    main()

"""A picture of a block matrix: what is trainable and what is fixed."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import matplotlib.figure
import pandas as pd
import torch
from torch import Tensor

from inn_lab.models import LayeredINN, Sequential2D
from inn_lab.models.sequential2d import Factored, Trainable
from inn_lab.studies import ModelJob

COLOURS = {
    "trainable": ("blue", (0.03, 0.27, 0.58)),
    "low rank": ("green", (0.0, 0.43, 0.17)),
    "fixed": ("orange", (0.85, 0.28, 0.0)),
}

CELLS = 400  # rows and columns of a picture, at most


def log_weight_space(job: ModelJob, model: Sequential2D) -> None:
    """weight_space.png among the run's artifacts: what is trainable and what is fixed, the denser the darker. Of a layered INN
    also components.csv (Hershey 2023, Fig. 3.1)."""
    found = shares(model)
    image = torch.ones(*next(iter(found.values())).shape, 3)
    for kind, share in found.items():  # by the square root, so that a density of 0.01 can be seen
        image -= share.sqrt()[..., None] * (1 - torch.tensor(COLOURS[kind][1]))
    high = min(7.0, 1.05 + 6 * model.depth / model.width)
    figure = matplotlib.figure.Figure(figsize=(7, high))  # a layout engine would take as long again as the drawing
    axes = figure.add_axes((0.1, 0.5 / high, 0.86, 1 - 1.05 / high))
    axes.imshow(image.clamp(0, 1).numpy(), extent=(0, model.width, model.depth, 0), interpolation="nearest")
    what = ", ".join(f"{kind} ({COLOURS[kind][0]})" for kind in found)
    axes.set_title(f"{job.title}\n{what}; seed {job.cfg.seed}", fontsize=8)
    axes.tick_params(labelsize=8)
    if model.names:
        for side, sizes, names in zip((axes.yaxis, axes.xaxis), (model.rows, model.columns), model.names, strict=True):
            side.set_ticks([end - size / 2 for end, size in zip(accumulate(sizes), sizes, strict=True)], names)
    job.run.file("weight_space.png", partial(figure.savefig, dpi=120))
    if isinstance(model, LayeredINN):
        table = pd.DataFrame(model.components).astype(int).rename_axis(index="row", columns="column").stack().rename("trains")
        job.run.table("components", table.reset_index())


def log_pattern(job: ModelJob, model: Sequential2D) -> None:
    """The pattern that a training ended with, among the run's artifacts: pattern.png, the denser the darker, and degrees.csv,
    of each unit how many weights it has ("in") and by how many it is read ("out")."""
    ins, outs = model.degrees()
    job.run.table("degrees", pd.DataFrame({"in": ins.tolist(), "out": outs.tolist()}).rename_axis("unit").reset_index())
    indices = model._trainable.entries()[0].cpu()
    high, wide = min(model.depth, CELLS), min(model.width, CELLS)
    cell = indices // model.width * high // model.depth * wide + indices % model.width * wide // model.width
    counts = cell.bincount(minlength=high * wide).view(high, wide)
    figure = matplotlib.figure.Figure(figsize=(7, 5))
    axes = figure.add_axes((0.1, 0.12, 0.86, 0.76))
    axes.imshow(
        counts.sqrt().numpy(), cmap="Blues", extent=(0, model.width, model.depth, 0), aspect="auto", interpolation="nearest"
    )
    axes.axvline(model.n_inputs, color="black", linewidth=0.6)
    axes.set(xlabel="column: inputs, then units", ylabel="row: unit")
    axes.set_title(f"{job.title}\n{len(indices):,} weights at the end; seed {job.cfg.seed}", fontsize=8)
    job.run.file("pattern.png", partial(figure.savefig, dpi=120))


def shares(model: Sequential2D, most: int = CELLS) -> dict[str, Tensor]:
    """The matrix as it is described, from afar: what share of a cell's entries is "trainable", "low rank" or "fixed".

    A matrix with more than `most` rows or columns is divided into `most` cells. Entries at random places are spread evenly over
    their block: no entry is counted, so it takes as long for a million weights as for a thousand. A block of low rank and size
    m × n has the share k (m + n) / mn, at most 1. {kind: (rows of cells, columns of cells)}, of the kinds that there are.
    """
    of_rows, rows = cells(model.rows, min(model.depth, most))
    of_columns, columns = cells(model.columns, min(model.width, most))
    found: dict[str, Tensor] = {}
    spread: dict[str, Tensor] = {}
    for place, (block, top, left, high, wide) in enumerate(model.placed):
        kind = "low rank" if isinstance(block, Factored) else "trainable" if getattr(block, "lr", 0) else "fixed"
        if isinstance(block, Trainable | Factored):
            share = block.count(high, wide) / (high * wide) if isinstance(block, Trainable) else min(1.0, block.R)
            spread.setdefault(kind, torch.zeros(len(model.placed)))[place] = share
        elif block is not None:  # a diagonal
            line = rows[top : top + high] * len(of_columns) + columns[left : left + wide]
            counts = line.bincount(minlength=len(of_rows) * len(of_columns)).view(len(of_rows), -1)
            found[kind] = found.get(kind, 0) + counts
    for kind, densities in spread.items():
        found[kind] = found.get(kind, 0) + of_rows @ densities.view(len(model.rows), -1) @ of_columns.T
    area = torch.outer(of_rows.sum(1), of_columns.sum(1))
    return {kind: counts / area for kind, counts in found.items()}


def cells(sizes: Sequence[int], many: int) -> tuple[Tensor, Tensor]:
    """Rows of blocks, or columns, divided into cells: how many rows a cell has of each block, (cells, blocks); and the cell of
    each row, (rows,)."""
    total = sum(sizes)
    cell = torch.arange(total) * many // total
    block = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return (cell * len(sizes) + block).bincount(minlength=many * len(sizes)).view(many, -1).float(), cell

"""The gain of a wavefront: a random graph's network, layer by layer with torch's own modules and as the lab runs it.

    python -m benchmarks.graph_speed [--seconds 5]

Graphs of 30 nodes, about the median of those drawn; Reber strings as Darji (2022) trains on them: batch 128, 40 steps of one
letter. Forward, backward, the gradient's norm clipped, and Adam. Layer by layer, all links that read one layer are one call of
torch.nn.RNN, LSTM or GRU, with masked weights. The least of the timed steps counts, because other work of the machine only adds
to it.
"""

import argparse
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.common import positive, step_ms, two_ways
from inn_lab import graphs, machine
from inn_lab.models import RandomGraph
from inn_lab.models.ticks import CELLS
from inn_lab.seeding import generator

BATCH, STEPS, LETTERS, OUTPUTS, NODES = 128, 40, 128, 2, 30
CPU = torch.device("cpu")
KINDS = {"tanh": nn.RNN, "relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class LayerByLayer(nn.Module):
    """The network of a `RandomGraph`, the links that read one layer as one module with masked weights."""

    def __init__(self, model: RandomGraph, cell: str) -> None:
        super().__init__()
        core = model.core
        self.embedding, self.readout, self.total = model.embedding, model.readout, core.total
        indices, values = core.map.entries()
        matrix, mask = values.new_zeros(2, core.rows * core.units * core.width)
        matrix[indices], mask[indices] = values, 1
        matrix, mask = (part.view(core.rows, core.units, core.width) for part in (matrix, mask))
        reads, feels = zip(*core.cell.gates, strict=True)
        self.places, self.layers, self.masks = [], nn.ModuleList(), []
        widths, left = [len(layer) for layer in graphs.layers(model.graph)], 2
        options = {"nonlinearity": cell} if KINDS[cell] is nn.RNN else {}
        for (first, last), width in zip(pairwise([0, *core.begun]), [widths[0], *widths[:-1]], strict=True):
            parts = {
                "weight_ih_l0": (list(reads), slice(left, left + width)),
                "weight_hh_l0": (list(feels), slice(core.h + first, core.h + last)),
                "bias_ih_l0": (list(reads), 0),
                "bias_hh_l0": (list(feels), 1),
            }
            layer = KINDS[cell](width, last - first, batch_first=True, **options).to(values.dtype)
            with torch.no_grad():
                for name, (rows, columns) in parts.items():
                    getattr(layer, name).copy_(matrix[rows, first:last, columns].flatten(0, 1))
            self.masks.append({name: mask[rows, first:last, columns].flatten(0, 1) for name, (rows, columns) in parts.items()})
            self.places.append((left - core.y, width, slice(first, last)))
            self.layers.append(layer)
            left += width

    def forward(self, x: Tensor) -> Tensor:
        e = nn.functional.linear(x, self.embedding)
        y = x.new_zeros(*x.shape[:2], len(self.total))  # (B, T, n)
        for layer, masks, (left, width, units) in zip(self.layers, self.masks, self.places, strict=True):
            seen = e if left < 0 else y[..., left : left + width]
            weights = {name: getattr(layer, name) * mask for name, mask in masks.items()}
            y = y + torch.func.functional_call(layer, weights, (seen,))[0] @ self.total[:, units].T
        return self.readout(y[..., -self.readout.in_features :])


def network(kind: str, cell: str) -> RandomGraph:
    """Of the first graph of this kind that has 30 nodes."""
    number = next(number for number in range(1000) if len(graphs.draw(kind, number)) == NODES)
    return RandomGraph(LETTERS, OUTPUTS, graph=kind, number=number, cell=cell, generator=generator(0, "model"))


def measure(seconds: float) -> list[dict[str, object]]:
    """A row for each kind of graph and cell: milliseconds layer by layer and as a wavefront, and how many times as fast."""
    draw = generator(0, "data")
    x = torch.eye(LETTERS)[torch.randint(LETTERS, (BATCH, STEPS), generator=draw)]
    y = torch.randint(OUTPUTS, (BATCH,), generator=draw)
    rows = []
    for kind in graphs.KINDS:
        for cell in CELLS:
            model = network(kind, cell)
            slow, fast = (step_ms(way, x, y, seconds, clip=5) for way in (LayerByLayer(model, cell), model))
            sizes = {"graph": kind, "cell": cell, "units": model.core.units, "weights": model.n_weights}
            rows.append(
                {**sizes, "layer_by_layer_ms": slow, "wavefront_ms": fast, "times_as_fast": slow / fast, **machine.tags(CPU)}
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A training step of random graphs' networks, layer by layer and as a wavefront."
    )
    parser.add_argument("--seconds", type=positive, default=5, help="for each way, graph and cell")
    two_ways("graph_speed", measure(parser.parse_args().seconds), ["graph", "cell"], "layer_by_layer_ms", "wavefront_ms")


if __name__ == "__main__":
    main()

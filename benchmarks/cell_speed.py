"""The gain of sparse recurrent cells: torch's own modules with masked weights, and the lab's sparse core.

    python -m benchmarks.cell_speed [--seconds 5]

- `Darji's`: an embedding and three layers of 50 units (Darji 2022, 5.1), on sequences of 35 letters as Reber strings are.
- `wide`: one layer of 500 units on such sequences.
- `images`: one layer of 300 units on sequences of ten images of 2,500 pixels, as random anomaly has.

Batch 32. At each density R a random part of the weights that read the input or the state is left. Forward, backward,
the gradient's norm clipped, and Adam. The least of the timed steps counts, because other work of the machine only adds to it.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common import positive, step_ms, two_ways
from inn_lab import machine
from inn_lab.models import GRU, LSTM, RNN
from inn_lab.models.base import Model
from inn_lab.seeding import generator

BATCH, LETTERS, DENSITIES = 32, 128, (1.0, 0.25, 0.05, 0.02)
CPU = torch.device("cpu")
CELLS: dict[str, Callable[..., Model]] = {
    "tanh": RNN,
    "lstm": lambda *sizes, **options: LSTM(*sizes, projection=False, **options),
    "gru": GRU,
}
NETWORKS = {  # inputs, steps, sizes
    "Darji's": (LETTERS, 35, {"hidden_size": 50, "num_layers": 3, "embedding": 50}),
    "wide": (LETTERS, 35, {"hidden_size": 500}),
    "images": (2500, 10, {"hidden_size": 300}),
}


def sequences(n_inputs: int, steps: int) -> tuple[Tensor, Tensor]:
    """A batch of letters, or of images of which a fifth of the pixels is not zero; and two classes."""
    draw = generator(0, "data")
    if n_inputs == LETTERS:
        x = torch.eye(LETTERS)[torch.randint(LETTERS, (BATCH, steps), generator=draw)]
    else:
        x = torch.rand(BATCH, steps, n_inputs, generator=draw).mul_(5).sub_(4).clamp_(min=0)
    return x, torch.randint(2, (BATCH,), generator=draw)


def network(cell: str, n_inputs: int, sizes: dict[str, int], R: float, core: str) -> Model:
    """At the same R both cores are the same network."""
    model = CELLS[cell](n_inputs, 2, core=core, generator=generator(0, "model"), **sizes)
    draw = generator(0, "kept")
    model.keep([torch.rand(len(weights.values), generator=draw) < R for weights in model.weights()])
    return model


def measure(seconds: float) -> list[dict[str, object]]:
    """A row for each network, cell and density: milliseconds with masks and sparse, and how many times as fast."""
    rows = []
    for name, (n_inputs, steps, sizes) in NETWORKS.items():
        x, y = sequences(n_inputs, steps)
        for cell in CELLS:
            for R in DENSITIES:
                masked, sparse = (network(cell, n_inputs, sizes, R, core) for core in ("torch", "sparse"))
                slow, fast = (step_ms(way, x, y, seconds, clip=5) for way in (masked, sparse))
                row = {"network": name, "cell": cell, "R": f"R={R:g}", "weights": sparse.n_weights}
                rows.append(row | {"masked_ms": slow, "sparse_ms": fast, "times_as_fast": slow / fast, **machine.tags(CPU)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step of recurrent cells, with masked weights and sparse.")
    parser.add_argument("--seconds", type=positive, default=5, help="for each way, network, cell and density")
    two_ways("cell_speed", measure(parser.parse_args().seconds), ["network", "cell", "R"], "masked_ms", "sparse_ms")


if __name__ == "__main__":
    main()

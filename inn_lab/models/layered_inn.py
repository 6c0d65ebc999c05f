"""A layered network as one iterated block matrix, divided into components that can be swapped."""

from typing import Any

import torch

from inn_lab.errors import ConfigError
from inn_lab.models.sequential2d import Block, Sequential2D, Trainable
from inn_lab.ranges import Probability, Units, Widths
from inn_lab.sizing import whole

MOST = 400  # components in a row


class LayeredINN(Sequential2D):
    """A layered network as an INN, and networks made by swapping its components. With one iteration a layer and no swap it is
    the layered network.

    The weight space is divided into components of `component` × `component` (smaller at the edges). The components that make up
    the layers are trainable, the others are zeros. Then each component, row by row, is swapped with probability `swap` with
    another one, drawn from all: whether it is trainable, and how it is initialised. The input has columns but no rows, so there
    are no components above the first hidden layer's.

    Source: Hershey 2023, 3.2: 2500-500-200-100-10, components of 100 × 100, swap 0.2 and 0.5.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, O outputs.

    Args:
        hidden: the widths of the hidden layers; ReLU there, the outputs are linear.
        generator: as in `Sequential2D`; the swaps are drawn first.
        device, options: as in `Sequential2D`.

    `components` says which components are trainable, as a list of rows from the top.

    Raises ConfigError for a width, a `component` or a `swap` that is out of its range.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        hidden: Widths,
        component: Units = 100,
        swap: Probability = 0.0,
        device: torch.device | None = None,
        generator: torch.Generator | None = torch.default_generator,
        **options: Any,
    ) -> None:
        for layer, units in enumerate(hidden):
            whole(f"hidden[{layer}]", units)
        whole("component", component)
        if not 0 <= swap <= 1:
            raise ConfigError(f"swap={swap}: a probability lies in [0, 1]; e.g. swap=0.2")
        layers = [n_inputs, *hidden, n_outputs]
        parts = sum(-(-units // component) for units in layers)
        if parts > MOST:
            least = -(-sum(layers) // (MOST - len(layers)))
            raise ConfigError(f"component={component}: {parts} of them in a row; give component={least} or more")
        columns, layer_of = [], []  # of each component's column: its width, and whose output it reads
        for layer, units in enumerate(layers):
            widths = [min(component, units - done) for done in range(0, units, component)]
            columns += widths
            layer_of += [layer] * len(widths)
        inputs = layer_of.count(0)
        grid: list[list[Block]] = [
            [Trainable() if below == layer - 1 else None for below in layer_of] for layer in layer_of[inputs:]
        ]
        if generator is not None:
            trade(grid, swap, generator)
        super().__init__(
            n_inputs,
            n_outputs,
            rows=columns[inputs:],
            columns=columns,
            grid=grid,
            activation=[("relu", sum(hidden)), ("linear", n_outputs)],
            device=device,
            generator=generator,
            **options,
        )
        self.components = [[block is not None for block in row] for row in grid]


def trade(grid: list[list[Block]], swap: float, generator: torch.Generator) -> None:
    """Swaps each block in turn, with probability `swap`, with any other block of the grid."""
    rows, columns = len(grid), len(grid[0])
    many = rows * columns
    chosen = torch.rand(many, generator=generator, device=generator.device) < swap
    others = torch.randint(1, many, (many,), generator=generator, device=generator.device)
    for one in chosen.nonzero().flatten().tolist():
        i, j = divmod(one, columns)
        k, m = divmod((one + int(others[one])) % many, columns)
        grid[i][j], grid[k][m] = grid[k][m], grid[i][j]

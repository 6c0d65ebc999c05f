"""A layered network whose outputs are fed back to its inputs until they converge."""

import torch
from torch import Tensor, nn

from inn_lab.linear import is_still
from inn_lab.models.base import linear
from inn_lab.models.implicit import Settled, Settling
from inn_lab.ranges import Iterations, Memory, Tolerance, Units
from inn_lab.sizing import whole


class SettledMLP(Settled):
    """y = σ(V tanh(W [x; y] + b) + c) at each step independently; σ is the logistic function, so that y lies in (0, 1).

    Found by iterating from y = 0, and differentiated at the fixed point (see `fix`).

    Source: Habiba and Pearlmutter 2021, Algorithms 3 and 4. There the network's input itself is iterated, so that a fixed point
    would not depend on it. Here the input stays, and the output is fed back.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, O outputs.

    Args:
        hidden: units of the hidden layer.
        feedback: if False, y = σ(V tanh(W x + b) + c), an ordinary network for comparison.
        rtol, atol, max_iter, anderson: when y has converged and how it is iterated, see `Solver`.

    Raises ConfigError for values out of their range.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        hidden: Units,
        feedback: bool = True,
        rtol: Tolerance = 1e-4,
        atol: Tolerance = 1e-5,
        max_iter: Iterations = 300,
        anderson: Memory = 0,
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        super().__init__(n_inputs)
        whole("hidden", hidden)
        self.settlings = [Settling(rtol, atol, max_iter, anderson)] if feedback else []
        self.n_outputs, self.units = n_outputs, hidden
        self.step = Layers(n_inputs + n_outputs * feedback, hidden, n_outputs, generator)

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        return [(0, "i2h", self.step.hidden.weight), (1, "i2h", self.step.readout.weight)]

    def forward(self, x: Tensor) -> Tensor:
        inputs = (x[:, :1] if is_still(x) else x).flatten(0, 1)  # (B or B · T, I)
        if self.settlings:
            y = self.settlings[0](self.step, inputs, inputs.new_zeros(len(inputs), self.n_outputs))
        else:
            y = self.step(inputs)
        return y.unflatten(0, (len(x), -1)).expand(-1, x.shape[1], -1)


class Layers(nn.Module):
    """One iteration, from the outputs (B, O) and the input (B, I); without feedback from the input alone."""

    def __init__(self, n_read: int, hidden: int, n_outputs: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.hidden, self.readout = linear(n_read, hidden, generator), linear(hidden, n_outputs, generator)

    def forward(self, *given: Tensor) -> Tensor:
        return self.readout(self.hidden(torch.cat(given, dim=-1)).tanh()).sigmoid()

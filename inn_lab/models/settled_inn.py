"""An iterative neural network that is iterated until it converges, and trained at its fixed point."""

from typing import Any

import torch
from torch import Tensor

from inn_lab.linear import is_still
from inn_lab.models.implicit import Settled, Settling
from inn_lab.models.inn import INN
from inn_lab.ranges import Iterations, Memory, Tolerance


class SettledINN(Settled, INN):
    """An INN whose state is iterated until it converges. Its output is that of the fixed point, whatever the number of
    iterations.

        h = σ(W [x; h] + b),   y = the last O entries of h

    Its derivatives are those of the fixed point (see `fix`), so the memory of a training step does not depend on the number of
    iterations. A fixed point has no memory of earlier steps: each step of a sequence is answered independently, and all steps
    of a still image at once.

    Source: Hershey 2023, 2.1.3, and Habiba and Pearlmutter 2021, Eqs. 3 and 6–8.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state, O outputs.

    Args:
        rtol, atol, max_iter, anderson: when a state has converged and how it is iterated, see `Solver`.
        device, options: as in `INN`.

    Raises ConfigError for values out of their range, and as `INN`.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        rtol: Tolerance = 1e-4,
        atol: Tolerance = 1e-5,
        max_iter: Iterations = 300,
        anderson: Memory = 0,
        device: torch.device | None = None,
        **options: Any,
    ) -> None:
        super().__init__(n_inputs, n_outputs, device=device, **options)
        self.settlings = [Settling(rtol, atol, max_iter, anderson)]

    def size(self, steps: int) -> dict[str, float]:
        """As in `Model`; effective weights lie on a path of at most `max_iter` iterations."""
        return super().size(self.settlings[0].options["max_iter"])

    def forward(self, x: Tensor) -> Tensor:
        still = is_still(x)
        images = (x[:, :1] if still else x).flatten(0, 1)  # (B or B · T, I)
        z0 = images.new_zeros(len(images), self.depth)
        from_input, from_state = self.map.split(self.n_inputs)
        drive = from_input(images)  # the input's part of the product, once for all iterations
        drive = drive if self.bias is None else drive + self.bias

        def step(h: Tensor, drive: Tensor, *weights: Tensor) -> Tensor:  # (B, H) -> (B, H)
            return self.activation(drive + from_state.function(h, *weights))

        state = self.settlings[0](step, drive, z0, from_state.tensors)
        y = state[:, -self.n_outputs :].unflatten(0, (len(x), -1))  # (B, 1 or T, O)
        return y.expand(-1, x.shape[1], -1)

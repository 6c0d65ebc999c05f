"""A layered network that is applied to each step independently."""

from itertools import pairwise

import torch
from torch import Tensor

from inn_lab.linear import is_still
from inn_lab.models.base import Model, linear
from inn_lab.ranges import WeightCount, Widths
from inn_lab.sizing import given_or_found, mlp_hidden, whole


class MLP(Model):
    """y = V σ(… σ(W x + b) …) + c at each step, without memory of earlier steps; σ is ReLU.

    Source: Hershey 2023, 3.3: hidden=(500, 200, 100). With `n_weights` the widths have this proportion. Initialised as
    torch.nn.Linear is.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, O outputs.

    Raises ConfigError unless exactly one of `n_weights` and `hidden` is given, and for a width below 1.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        hidden: Widths | None = None,
        n_weights: WeightCount | None = None,
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        super().__init__(n_inputs)
        widths = given_or_found("hidden", hidden, n_weights, lambda n: mlp_hidden(n_inputs, n_outputs, n))
        for layer, units in enumerate(widths):
            whole(f"hidden[{layer}]", units)
        self.widths = (n_inputs, *widths, n_outputs)
        self.units = sum(widths)
        layers: list[torch.nn.Module] = []
        for before, after in pairwise(self.widths):
            layers += [linear(before, after, generator), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers[:-1])  # the outputs are linear

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        layers = [layer for layer in self.layers if isinstance(layer, torch.nn.Linear)]
        return [(place, "i2h", layer.weight) for place, layer in enumerate(layers)]

    def size(self, steps: int) -> dict[str, float]:
        """As in `Model`; also the "depth" and "width" of the same network as a weight space (Hershey 2023, 2.1.3)."""
        return {**super().size(steps), "depth": sum(self.widths[1:]), "width": sum(self.widths)}

    def forward(self, x: Tensor) -> Tensor:
        if is_still(x):
            return self.layers(x[:, :1]).expand(-1, x.shape[1], -1)  # (B, T, I) -> (B, 1, O) -> (B, T, O)
        return self.layers(x)  # (B, T, I) -> (B, T, O)

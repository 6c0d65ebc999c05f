"""A layered network that is applied to each step independently."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from inn_lab.linear import is_still
from inn_lab.models.base import Model, Weights, linear
from inn_lab.ranges import Density, WeightCount, Widths
from inn_lab.sizing import erdos_renyi, given_or_found, mlp_hidden, whole
from inn_lab.sparse import Sparse


class MLP(Model):
    """y = V σ(… σ(W x + b) …) + c at each step, without memory of earlier steps; σ is ReLU.

    Source: Hershey 2023, 3.3: hidden=(500, 200, 100). With `n_weights` the widths have this proportion. Initialised as
    torch.nn.Linear is; a sparse layer as `inn_lab.sparse.Sparse`.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, O outputs.

    Args:
        R_layers: the density of all matrices together; their entries stand at random. None: the matrices are dense.
        spread: "uniform": all matrices have that density. "erdos_renyi": small ones are denser, see `sizing.erdos_renyi`.

    Raises ConfigError unless exactly one of `n_weights` and `hidden` is given, and for a width below 1.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        hidden: Widths | None = None,
        n_weights: WeightCount | None = None,
        R_layers: Density | None = None,
        spread: Literal["uniform", "erdos_renyi"] = "uniform",
        device: torch.device | None = None,
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        super().__init__(n_inputs)
        widths = given_or_found("hidden", hidden, n_weights, lambda n: mlp_hidden(n_inputs, n_outputs, n))
        for layer, units in enumerate(widths):
            whole(f"hidden[{layer}]", units)
        self.widths = (n_inputs, *widths, n_outputs)
        self.units = sum(widths)
        sizes = list(pairwise(self.widths))
        densities = [1.0 if R_layers is None else R_layers] * len(sizes)
        if R_layers is not None and spread == "erdos_renyi":
            densities = erdos_renyi(sizes, R_layers)
        self._defined = sum(max(1, round(R * n * m)) + m for R, (n, m) in zip(densities, sizes, strict=True))
        self._drawn = generator is not None
        layers: list[torch.nn.Module] = []
        for R, (n, m) in zip(densities, sizes, strict=True):
            if R == 1 or generator is None:
                layers.append(linear(n, m, generator))
            else:
                layers.append(Sparse(n, m, R=R, device=device, generator=generator))
            layers.append(torch.nn.ReLU())
        self.layers = torch.nn.Sequential(*layers[:-1])  # the outputs are linear

    @property
    def n_weights(self) -> int:
        if not self._drawn:
            return self._defined
        zeros = sum(layer.map.parameter.numel() - layer.n_weights for layer in self.layers if isinstance(layer, Sparse))
        return super().n_weights - zeros

    @property
    def _maps(self) -> list[torch.nn.Module]:
        """The layers without their activations."""
        return list(self.layers)[::2]

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        """The dense ones."""
        return [(n, "i2h", layer.weight) for n, layer in enumerate(self._maps) if isinstance(layer, torch.nn.Linear)]

    def weights(self) -> list[Weights]:
        dense = {found.layer: found for found in super().weights()}
        layers = enumerate(self._maps)
        return [Weights(n, "i2h", layer.map.entries()[1]) if isinstance(layer, Sparse) else dense[n] for n, layer in layers]

    def keep(self, kept: Sequence[Tensor]) -> None:
        """As in `Model`. Pruned entries leave a sparse matrix."""
        super().keep([stays for layer, stays in zip(self._maps, kept, strict=True) if not isinstance(layer, Sparse)])
        for layer, stays in zip(self._maps, kept, strict=True):
            if isinstance(layer, Sparse):
                layer.map.rewire(layer.map.entries()[0][stays])

    def size(self, steps: int) -> dict[str, float]:
        """As in `Model`; also the "depth" and "width" of the same network as a weight space (Hershey 2023, 2.1.3)."""
        return {**super().size(steps), "depth": sum(self.widths[1:]), "width": sum(self.widths)}

    def forward(self, x: Tensor) -> Tensor:
        if is_still(x):
            return self.layers(x[:, :1]).expand(-1, x.shape[1], -1)  # (B, T, I) -> (B, 1, O) -> (B, T, O)
        return self.layers(x)  # (B, T, I) -> (B, T, O)

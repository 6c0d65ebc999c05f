"""The iterative neural network: one block matrix, applied again and again."""

import math

import torch
from torch import Tensor

from inn_lab.config import ConfigError, near
from inn_lab.linear import Masked
from inn_lab.models.base import Model, is_still
from inn_lab.patterns import draw_bernoulli, draw_exact
from inn_lab.sizing import weight_space

DRAWS = ("exact", "bernoulli")
INITS = ("normal", "fan_in")


class INN(Model):
    """A weight space that is iterated once for each step of the input.

        x̄ = [x; h],   h ← σ(W x̄ + b),   h = 0 at first;   y = the last O entries of h

    σ is ReLU on the hidden rows; the output rows are linear, or no logit could be negative. W is depth × width = H × (I + H),
    of which N entries train and the others are fixed zeros.

    Source: Hershey 2023, 2.1.3 and Eq. 3.1.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state (the depth), O outputs, N weights, R density.

    Args:
        n_weights, R, depth, aspect_ratio: two that fix the weight space; see `inn_lab.sizing.weight_space`.
        draw: "exact" draws exactly N entries, "bernoulli" each entry by itself with the space's density, as the source does.
        init: "normal" draws the weights from N(0, init_std²), as the source; "fan_in" from N(0, 2/k), k the trainable entries
            in the row (He et al. 2015), whatever `init_std`. Biases start at zero.
        generator: the pattern and then the weights are drawn from it.

    Raises ConfigError for sizes that fix no weight space, and for an unknown `draw` or `init`.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_weights: int | None = None,
        R: float | None = None,
        depth: int | None = None,
        aspect_ratio: float | None = None,
        draw: str = "exact",
        bias: bool = True,
        init: str = "normal",
        init_std: float = 0.05,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        for key, value, known in (("draw", draw, DRAWS), ("init", init, INITS)):
            if value not in known:
                raise ConfigError(f"model.{key}={value}: there is no such {key}{near(str(value), known)}")
        if not 0 < init_std < math.inf:
            raise ConfigError(f"model.init_std={init_std}: a standard deviation is positive; e.g. model.init_std=0.05")
        self.space = weight_space(n_inputs, n_outputs, n_weights=n_weights, R=R, depth=depth, aspect_ratio=aspect_ratio)
        depth, width = self.space.depth, self.space.width
        if draw == "exact":
            indices = draw_exact(depth, width, self.space.n_weights, generator)
        else:
            indices = draw_bernoulli(depth, width, self.space.density, generator)
        values = torch.randn(len(indices), generator=generator, device=generator.device)
        values *= init_std if init == "normal" else fan_in_std(indices, width)
        self.map = Masked(depth, width, indices, values)
        self.bias = torch.nn.Parameter(values.new_zeros(depth)) if bias else None

    @property
    def n_weights(self) -> int:
        """The trainable entries of the weight space; biases aside, as in Eq. 3.1."""
        return self.map.n_weights

    def size(self) -> dict[str, float]:
        """As every model; also the weight space's "depth", "width" and "density" (as drawn)."""
        depth, width, weights = self.space.depth, self.space.width, self.n_weights
        biases = 0 if self.bias is None else depth
        density = weights / (depth * width)
        return {"weights": weights, "parameters": weights + biases, "depth": depth, "width": width, "density": density}

    def forward(self, x: Tensor) -> Tensor:
        from_input, from_state = self.map.split(self.space.n_inputs)
        # The input's part of W x̄ + b doesn't depend on the state: one product for all steps, or for the one still image.
        still = is_still(x)
        drive = self._biased(from_input(x[:, 0] if still else x))  # (B, I) -> (B, H), or (B, T, I) -> (B, T, H)
        drives = [drive] * x.shape[1] if still else drive.unbind(1)  # T × (B, H)
        state, output = self._activate(drives[0])  # h = 0 before
        outputs = [output]
        for drive in drives[1:]:
            state, output = self._activate(from_state(state) + drive)
            outputs.append(output)
        return torch.stack(outputs, dim=1)  # (B, T, O)

    def _biased(self, drive: Tensor) -> Tensor:
        return drive if self.bias is None else drive + self.bias

    def _activate(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """σ: the new state (B, H), and the output (B, O) that ends it."""
        hidden, output = total.split([self.space.depth - self.space.n_outputs, self.space.n_outputs], dim=-1)
        return torch.cat([hidden.relu(), output], dim=-1), output


def fan_in_std(indices: Tensor, width: int) -> Tensor:
    """√(2/k) for each entry, k the number of trainable entries in its row (He et al. 2015). (n,) -> (n,)"""
    rows = indices // width
    return (2 / rows.bincount()[rows]).sqrt()

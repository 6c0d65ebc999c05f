"""The iterative neural network: one block matrix, applied again and again."""

import math

import torch
from torch import Tensor

from inn_lab.config import ConfigError, near
from inn_lab.linear import LowRank, check_kind, from_entries
from inn_lab.models.base import Model
from inn_lab.patterns import draw_bernoulli, draw_exact, effective
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
        linear: how W is held: "csr", "masked", "dense" (all entries train), "stepwise" (as the sources multiply) or "auto".
        device: where the model will run, if not where the generator is; only "auto" cares.
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
        linear: str = "auto",
        device: torch.device | None = None,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        for key, value, known in (("draw", draw, DRAWS), ("init", init, INITS)):
            if value not in known:
                raise ConfigError(f"model.{key}={value}: there is no such {key}{near(str(value), known)}")
        if not 0 < init_std < math.inf:
            raise ConfigError(f"model.init_std={init_std}: a standard deviation is positive; e.g. model.init_std=0.05")
        self.space = weight_space(n_inputs, n_outputs, n_weights=n_weights, R=R, depth=depth, aspect_ratio=aspect_ratio)
        depth, width = self.space.depth, self.space.width
        check_kind(linear, self.space.n_weights, depth * width)
        if generator is None:
            return
        if linear == "low_rank":
            self.map = LowRank(depth, width, self.space.density, init_std, generator)
        else:
            pattern = draw_exact if draw == "exact" else draw_bernoulli
            indices = pattern(depth, width, self.space.n_weights if draw == "exact" else self.space.density, generator)
            values = torch.randn(len(indices), generator=generator, device=generator.device)
            values *= init_std if init == "normal" else fan_in_std(indices, width)
            self.map = from_entries(linear, depth, width, indices, values, device)
        self.bias = torch.nn.Parameter(torch.zeros(depth, device=generator.device)) if bias else None

    @property
    def n_weights(self) -> int:
        """The trainable entries of the weight space; biases aside, as in Eq. 3.1."""
        return self.map.n_weights

    def size(self, steps: int) -> dict[str, float]:
        """As every model; also the weight space's "depth", "width" and "density" (as drawn), and "weights_effective".

        Effective weights lie on a path from an input to an output within T = `steps`; see `inn_lab.patterns.effective`.
        """
        space, weights = self.space, self.n_weights
        low_rank = isinstance(self.map, LowRank)  # every entry of the product is there
        reach = (space.n_inputs, space.width, space.n_outputs, steps)
        return {
            "weights": weights,
            "weights_effective": weights if low_rank else effective(self.map.entries()[0], *reach),
            "parameters": weights + (0 if self.bias is None else space.depth),
            "depth": space.depth,
            "width": space.width,
            "density": weights / (space.depth * space.width),
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.map.iterate(x, self.bias, self.space.n_outputs)  # (B, T, I) -> (B, T, O)


def fan_in_std(indices: Tensor, width: int) -> Tensor:
    """√(2/k) for each entry, k the number of trainable entries in its row (He et al. 2015). (n,) -> (n,)"""
    rows = indices // width
    return (2 / rows.bincount()[rows]).sqrt()

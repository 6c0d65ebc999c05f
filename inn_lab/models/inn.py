"""The iterative neural network: a weight space in which any entry may be trainable."""

from typing import Any

import torch

from inn_lab.errors import ConfigError, near
from inn_lab.models.sequential2d import Factored, Sequential2D, Trainable
from inn_lab.ranges import AspectRatio, Density, Rows, WeightCount
from inn_lab.sizing import weight_space

DRAWS = ("exact", "bernoulli")


class INN(Sequential2D):
    """A block matrix of one block: N of its depth × width entries are trainable, at random positions.

        x̄ = [x; h],   h ← σ(W x̄ + b),   h = 0 at first;   y = the last O entries of h

    σ is ReLU on the hidden rows. The output rows are linear, so that logits can be negative. W is depth × width = H × (I + H);
    N of its entries are trainable, the others are fixed zeros.

    Source: Hershey 2023, 2.1.3 and Eq. 3.1.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state (the depth), O outputs, N weights, R density.

    Args:
        n_weights, R, depth, aspect_ratio: give two, which fix the weight space; see `inn_lab.sizing.weight_space`.
        draw: "exact" draws exactly N entries; "bernoulli" draws each entry independently with the space's density, as the
            source.
        linear: how W is stored, as in `Sequential2D`; or "low_rank", which has no pattern.
        device, options: as in `Sequential2D`.

    Raises ConfigError for sizes that fix no weight space, and for an unknown `draw`, `init` or `linear`.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_weights: WeightCount | None = None,
        R: Density | None = None,
        depth: Rows | None = None,
        aspect_ratio: AspectRatio | None = None,
        draw: str = "exact",
        linear: str = "auto",
        device: torch.device | None = None,
        **options: Any,
    ) -> None:
        if draw not in DRAWS:
            raise ConfigError(f"draw={draw}: there is no such draw{near(str(draw), DRAWS)}")
        space = weight_space(n_inputs, n_outputs, n_weights=n_weights, R=R, depth=depth, aspect_ratio=aspect_ratio)
        low_rank = linear == "low_rank"
        super().__init__(
            n_inputs,
            n_outputs,
            rows=[space.depth],
            columns=[space.width],
            grid=[[Factored(space.density) if low_rank else Trainable(space.n_weights, draw)]],
            activation=[("relu", space.depth - n_outputs), ("linear", n_outputs)],
            linear="auto" if low_rank else linear,
            device=device,
            **options,
        )

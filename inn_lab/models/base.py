"""What the models share: how they are counted, and how torch's own modules are drawn from a generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import functional_call

from inn_lab.errors import ConfigError
from inn_lab.linear import admit

Part = TypeVar("Part", bound=torch.nn.Module)


@dataclass(frozen=True)
class Weights:
    """A layer's weights that can be pruned, by what they read: "i2h" the layer's input, "h2h" its state. values: (n,)."""

    layer: int
    reads: str
    values: Tensor


class Model(torch.nn.Module):
    """A map of (B, T, I) to (B, T, O) that tells its own size.

    Built with `generator=None` it checks its arguments and draws no weights: so the lab asks whether a job can be defined, and
    whether it fits into the memory. `n_weights`, `n_held` and `units` are known then.

    What has been pruned is a part of its state: `masks` holds a buffer for each matrix that has lost entries, named as the
    parameter with "/" for ".", True where an entry is left. A call multiplies by what is left, so that what is gone is exactly
    0 and has a gradient of 0, whatever an optimizer has made of the parameter.

    A call raises ValueError for an x of another shape or on another device than the weights, TypeError for another dtype.

    Args:
        n_inputs: I.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.register_forward_pre_hook(_admit)
        self.masks = torch.nn.Module()
        self._masking = False  # within a call that has masked what is pruned

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        masks = None if self._masking else self._masks()
        if not masks:
            return super().__call__(*args, **kwargs)
        self._masking = True
        try:
            left = {name: torch.where(mask, self.get_parameter(name), 0.0) for name, mask in masks.items()}
            return functional_call(self, left, args, kwargs)
        finally:
            self._masking = False

    def _masks(self) -> dict[str, Tensor]:
        """By the name of the parameter."""
        return {place.replace("/", "."): mask for place, mask in self.masks.named_buffers()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """The state of a pruned model prunes this one as well, that of a whole one makes it whole."""
        for name, parameter in self.named_parameters():
            place = name.replace(".", "/")
            if prefix + name in state_dict:
                pruned = f"{prefix}masks.{place}" in state_dict
                self.masks.register_buffer(place, torch.ones_like(parameter, dtype=torch.bool) if pruned else None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    units = 0  # numbers that a step of a sample leaves for the backward pass, at least

    @property
    def n_held(self) -> int:
        """How many numbers hold what trains."""
        return self.n_weights

    @property
    def n_weights(self) -> int:
        """What trains, biases included, as Hershey 2023 counts the LSTM's 1,307,540."""
        pruned = sum(int((~mask).sum()) for mask in self._masks().values())
        return sum(parameter.numel() for parameter in self.parameters()) - pruned

    def told(self) -> dict[str, float]:
        """What there is to log of the passes since it was last asked, beside the outputs."""
        return {}

    def tags(self) -> dict[str, str]:
        """What there is to say in words of how the model is run."""
        return {}

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        """The matrices of which entries can be pruned: the layer, "i2h" or "h2h", and the parameter."""
        raise ConfigError(f"pruning: {type(self).__name__} says nothing of which weights it can lose; take another model")

    def weights(self) -> list[Weights]:
        """What can be pruned: of what was pruned before, what is left."""
        left = self._left()
        return [Weights(layer, reads, matrix.detach()[left[matrix]]) for layer, reads, matrix in self.matrices()]

    @torch.no_grad()
    def keep(self, kept: Sequence[Tensor]) -> None:
        """Sets to zero, for good, what is not kept of each of `weights()`: (n,), booleans."""
        left = self._left()
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.named_parameters()}
        for (_, _, matrix), stays in zip(self.matrices(), kept, strict=True):
            if not stays.all():
                mask = left[matrix].masked_scatter(left[matrix], stays)
                self.masks.register_buffer(names[matrix].replace(".", "/"), mask)
                matrix.masked_fill_(~mask, 0)

    def _left(self) -> dict[Tensor, Tensor]:
        """Which entries of each of `matrices()` have not been pruned."""
        masks: dict[Tensor, Tensor] = {self.get_parameter(name): mask for name, mask in self._masks().items()}
        return {m: masks.get(m, torch.ones_like(m, dtype=torch.bool)) for _, _, m in self.matrices()}

    def size(self, steps: int) -> dict[str, float]:
        """For the log, of sequences of T = `steps`. "weights" is `n_weights`, "parameters" every number that trains.

        They are logged as model/NAME; a name with a "/" stays as it is.
        """
        return {"weights": self.n_weights, "parameters": self.n_weights}


def _admit(model: Model, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a model is called with, checked."""
    who, weights = type(model).__name__, next(model.parameters(), None)
    if weights is None or weights.is_meta:
        raise ValueError(f"{who}: built with generator=None it has no weights; give it a torch.Generator to draw them from")
    hint = f"the model was built with n_inputs={model.n_inputs}, and the data's must be the same"
    return tuple(admit(who, "x", x, ("B", "T", model.n_inputs), weights, hint) for x in args)


def drawn(kind: type[Part], *args: Any, bound: float, generator: torch.Generator | None, **options: Any) -> Part:
    """A module of torch with all its parameters uniform in ±bound; without a generator only their sizes are there."""
    # Built on the meta device, so that torch doesn't initialise it first, from its global generator.
    module = kind(*args, device="meta", **options)
    if generator is None:
        return module
    module = module.to_empty(device=generator.device)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return module


def normal(rows: int, columns: int, generator: torch.Generator | None) -> torch.nn.Parameter:
    """A matrix that trains, drawn from N(0, 1); without a generator only its size is there."""
    if generator is None:
        return torch.nn.Parameter(torch.empty(rows, columns, device="meta"))
    return torch.nn.Parameter(torch.randn(rows, columns, generator=generator, device=generator.device))


def linear(n_inputs: int, n_outputs: int, generator: torch.Generator | None) -> torch.nn.Linear:
    """torch.nn.Linear by torch's own law: weights and biases uniform in ±1/√n_inputs."""
    return drawn(torch.nn.Linear, n_inputs, n_outputs, bound=1 / math.sqrt(n_inputs), generator=generator)

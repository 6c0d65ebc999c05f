"""What the models share: how they are counted, and how torch's own modules are drawn from a generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inn_lab.config import ConfigError


@dataclass(frozen=True)
class Weights:
    """A layer's weights that can be pruned, by what they read: "i2h" the layer's input, "h2h" its state. values: (n,)."""

    layer: int
    reads: str
    values: Tensor


class Model(torch.nn.Module):
    """A map of (B, T, I) to (B, T, O) that tells its own size.

    Built with `generator=None` it checks its arguments and draws no weights: a sweep asks so whether a job can be defined.
    """

    @property
    def n_weights(self) -> int:
        """What trains, biases included, as Hershey 2023 counts the LSTM's 1,307,540."""
        return sum(parameter.numel() for parameter in self.parameters()) - self._pruned

    _pruned = 0  # parameters that are held at zero

    def told(self) -> dict[str, float]:
        """What there is to log of the passes since it was last asked, beside the outputs."""
        return {}

    def tags(self) -> dict[str, str]:
        """What there is to say in words of how the model is run."""
        return {}

    def matrices(self) -> list[tuple[int, str, torch.nn.Parameter]]:
        """The matrices of which entries can be pruned: the layer, "i2h" or "h2h", and the parameter."""
        raise ConfigError(f"pruning: {type(self).__name__} says nothing of which weights it can lose; take another model")

    def weights(self) -> list[Weights]:
        """What can be pruned."""
        return [Weights(layer, reads, matrix.detach().flatten()) for layer, reads, matrix in self.matrices()]

    @torch.no_grad()
    def keep(self, kept: Sequence[Tensor]) -> None:
        """Sets to zero, for good, what is not kept of each of `weights()`: (n,), booleans.

        Their gradients are zero from now on, so no optimizer that starts after this moves them.
        """
        for (_, _, matrix), mask in zip(self.matrices(), kept, strict=True):
            gone = ~mask.view_as(matrix)
            self._pruned += int(gone.sum())
            matrix.masked_fill_(gone, 0)
            matrix.register_hook(lambda gradient, gone=gone: gradient.masked_fill(gone, 0))

    def size(self, steps: int) -> dict[str, float]:
        """For the log, of sequences of T = `steps`. "weights" is `n_weights`, "parameters" every number that trains.

        They are logged as model/NAME; a name with a "/" stays as it is.
        """
        return {"weights": self.n_weights, "parameters": self.n_weights}


def drawn(
    kind: type[torch.nn.Module], *args: Any, bound: float, generator: torch.Generator | None, **options: Any
) -> torch.nn.Module:
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


def linear(n_inputs: int, n_outputs: int, generator: torch.Generator | None) -> torch.nn.Module:
    """torch.nn.Linear by torch's own law: weights and biases uniform in ±1/√n_inputs."""
    return drawn(torch.nn.Linear, n_inputs, n_outputs, bound=1 / math.sqrt(n_inputs), generator=generator)

"""Shared by the models: their sizes, pruning, the check of their input, and torch's modules drawn from a generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import functional_call

from inn_lab.errors import ConfigError
from inn_lab.linear import admit
from inn_lab.linear.base import Change, Rewirable, check_entries
from inn_lab.linear.gradient import FullGradient

Part = TypeVar("Part", bound=torch.nn.Module)


@dataclass(frozen=True)
class Weights:
    """The prunable weights of a layer that read its input ("i2h"), or that read its state ("h2h"). values: (n,)."""

    layer: int
    reads: str
    values: Tensor


class Model(torch.nn.Module):
    """Base class of the models: a map of (B, T, I) to (B, T, O) that knows its own size.

    Weights are drawn from `generator`, by default torch's own. With `generator=None` a model checks its arguments and draws no
    weights. The lab does this to find out whether a job can be defined and fits into memory. `n_weights`, `n_held` and `units`
    are known then.

    Pruned weights are part of the state. `masks` holds a buffer for each pruned matrix, with the parameter's name ("/" for
    "."), True where an entry is left. A call multiplies by the entries that are left. So a pruned weight is exactly 0 and has
    gradient 0, whatever an optimizer does to the parameter.

    A call raises ValueError if x has another shape, or is on another device than the weights, and TypeError for another dtype.

    Args:
        n_inputs: I.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.register_forward_pre_hook(_admit)
        self.masks = torch.nn.Module()
        self._masking = False  # within a call that has applied the masks
        self._full_gradients: dict[str, FullGradient] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        masks = None if self._masking else self._masks()
        if not masks:
            return super().__call__(*args, **kwargs)
        self._masking = True
        try:
            left = {name: torch.where(mask, self.get_parameter(name), 0.0) for name, mask in masks.items()}
            for name, weight in left.items():
                if weight.requires_grad:
                    weight.register_hook(self.full_gradient(name).add_whole)
            return functional_call(self, left, args, kwargs)
        finally:
            self._masking = False

    def _masks(self) -> dict[str, Tensor]:
        """The masks by the names of their parameters."""
        return {place.replace("/", "."): mask for place, mask in self.masks.named_buffers()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Takes over the masks too: a pruned state prunes this model, an unpruned one removes its masks."""
        for name, parameter in self.named_parameters():
            place = name.replace(".", "/")
            if prefix + name in state_dict:
                pruned = f"{prefix}masks.{place}" in state_dict
                self.masks.register_buffer(place, torch.ones_like(parameter, dtype=torch.bool) if pruned else None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    units = 0  # numbers that one step of one sample keeps for the backward pass, at least

    @property
    def n_held(self) -> int:
        """How many numbers are stored for the weights, zeros included."""
        return self.n_weights

    @property
    def n_weights(self) -> int:
        """The number of trainable weights, biases included, as Hershey 2023 counts the LSTM's 1,307,540."""
        pruned = sum(int((~mask).sum()) for mask in self._masks().values())
        return sum(parameter.numel() for parameter in self.parameters()) - pruned

    def told(self) -> dict[str, float]:
        """Metrics of the calls since `told` was last called, to be logged beside losses and accuracies."""
        return {}

    def lr_factors(self) -> list[tuple[Tensor, Tensor]]:
        """The parameters of which entries have a learning rate of their own, each with factors of its shape: so many times that
        of the others."""
        return []

    def tags(self) -> dict[str, str]:
        """Tags for the run: how the model is executed, in words."""
        return {}

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        """The prunable matrices: of each the layer, "i2h" or "h2h", and the parameter."""
        raise ConfigError(f"pruning: {type(self).__name__} says nothing of which weights it can lose; take another model")

    def weights(self) -> list[Weights]:
        """The prunable weights that have not been pruned yet."""
        left = self._left()
        return [Weights(layer, reads, matrix.detach()[left[matrix]]) for layer, reads, matrix in self.matrices()]

    @torch.no_grad()
    def keep(self, kept: Sequence[Tensor]) -> None:
        """Sets weights to zero for good. kept: for each of `weights()` booleans (n,), False for what goes."""
        left = self._left()
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.named_parameters()}
        for (_, _, matrix), stays in zip(self.matrices(), kept, strict=True):
            if not stays.all():
                mask = left[matrix].masked_scatter(left[matrix], stays)
                self.masks.register_buffer(names[matrix].replace(".", "/"), mask)
                matrix.masked_fill_(~mask, 0)

    def rewirable(self) -> list[Rewirable]:
        """`matrices()`, as matrices whose patterns can change."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.named_parameters()}
        return [Masks(self, names[matrix]) for _, _, matrix in self.matrices()]

    def full_gradient(self, name: str) -> FullGradient:
        """The gradient of a parameter as if it had no mask."""
        if name not in self._full_gradients:
            self._full_gradients[name] = FullGradient(*_as_matrix(self.get_parameter(name)).shape)
        return self._full_gradients[name]

    def _left(self) -> dict[Tensor, Tensor]:
        """For each of `matrices()`, where entries have not been pruned."""
        masks: dict[Tensor, Tensor] = {self.get_parameter(name): mask for name, mask in self._masks().items()}
        return {m: masks.get(m, torch.ones_like(m, dtype=torch.bool)) for _, _, m in self.matrices()}

    def spent(self, steps: int) -> dict[str, float]:
        """Where the weights stand now, for the log of a network whose patterns change: "weights_on_input", the fraction of the
        prunable weights that read the first layer's input."""
        counts = {(w.layer, w.reads): len(w.values) for w in self.weights()}
        return {"weights_on_input": counts.get((0, "i2h"), 0) / max(1, sum(counts.values()))}

    def size(self, steps: int) -> dict[str, float]:
        """Sizes for the log, for sequences of T = `steps`: "weights" is `n_weights`, "parameters" all trainable numbers.

        They are logged as model/NAME. A name that contains "/" is logged as it is.
        """
        return {"weights": self.n_weights, "parameters": self.n_weights}


class Masks:
    """A parameter of a model and its mask, as a matrix whose pattern can change; a kernel (out, …) as (out, in).

    It costs what all its entries cost.
    """

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name
        self.out_features, self.in_features = _as_matrix(self.parameter).shape
        self.full_gradient = model.full_gradient(name)

    @property
    def parameter(self) -> torch.nn.Parameter:
        return self.model.get_parameter(self.name)

    @property
    def mask(self) -> Tensor:
        """Which entries are left, of the parameter's shape."""
        return self.model._left()[self.parameter]

    def entries(self) -> tuple[Tensor, Tensor]:
        indices = self.mask.flatten().nonzero().flatten()
        return indices, self.parameter.detach().flatten()[indices]

    def at_entries(self, numbers: Tensor) -> Tensor:
        return numbers[self.mask]

    @torch.no_grad()
    def rewire(self, indices: Tensor) -> Change:
        """As in `Patterned`, but the parameter stays the same one, and a backward pass that waits is refused by torch."""
        check_entries(self.out_features, self.in_features, indices, self.parameter.new_zeros(len(indices)))
        parameter = self.parameter
        mask = torch.zeros_like(parameter, dtype=torch.bool)
        mask.view(-1)[indices] = True
        stays = mask & self.mask

        def carry(numbers: Tensor) -> Tensor:
            return torch.where(stays, numbers, 0)

        parameter.copy_(carry(parameter))
        self.model.masks.register_buffer(self.name.replace(".", "/"), mask)
        return Change(parameter, parameter, carry)


def _as_matrix(parameter: Tensor) -> Tensor:
    """(out, …) -> (out, in); a vector is a column."""
    return parameter.reshape(len(parameter), -1)


def _admit(model: Model, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Checks the input of a model."""
    who, weights = type(model).__name__, next(model.parameters(), None)
    if weights is None or weights.is_meta:
        raise ValueError(f"{who}: built with generator=None it has no weights; give it a torch.Generator to draw them from")
    hint = f"the model was built with n_inputs={model.n_inputs}, and the data's must be the same"
    return tuple(admit(who, "x", x, ("B", "T", model.n_inputs), weights, hint) for x in args)


def drawn(kind: type[Part], *args: Any, bound: float, generator: torch.Generator | None, **options: Any) -> Part:
    """A torch module with all its parameters uniform in ±bound; without a generator on the meta device, with sizes only."""
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
    """A trainable matrix drawn from N(0, 1); without a generator on the meta device, with its size only."""
    if generator is None:
        return torch.nn.Parameter(torch.empty(rows, columns, device="meta"))
    return torch.nn.Parameter(torch.randn(rows, columns, generator=generator, device=generator.device))


def linear(n_inputs: int, n_outputs: int, generator: torch.Generator | None) -> torch.nn.Linear:
    """torch.nn.Linear with torch's own initialisation: weights and biases uniform in ±1/√n_inputs."""
    return drawn(torch.nn.Linear, n_inputs, n_outputs, bound=1 / math.sqrt(n_inputs), generator=generator)

"""Sparse layers for any network of torch's: `Sparse` in place of `torch.nn.Linear`, and `sparsify`, which replaces them all."""

import math
from collections.abc import Collection
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from inn_lab.errors import ConfigError, near
from inn_lab.linear import WeightMatrix, fitting, from_entries
from inn_lab.linear.base import Patterned
from inn_lab.patterns import draw_exact
from inn_lab.ranges import Density, check_value
from inn_lab.sizing import whole

KEEPS = ("largest", "random")


class Sparse(nn.Module):
    """y = W x + b, where a fraction R of W's entries is trainable, at random positions, and the others are fixed zeros.

    It takes the place of `torch.nn.Linear`. On the CPU a product costs what its trainable entries cost. The optimizer sees one
    vector of values.

    Initialised as `torch.nn.Linear`: W and b are uniform in ±1/√k, where k = R · in is the mean number of trainable entries in
    a row.

    Shapes: (…, in) -> (…, out).

    Args:
        R: the density; round(R · in · out) entries are trainable, at least 1.
        linear: how W is stored: "csr", "masked", "dense" (R = 1) or "auto", which takes the fastest of them on `device`.
        device: where the layer will run; only "auto" uses it. The layer is built where the generator is.
        generator: the pattern is drawn from it, then W, then b; by default torch's own.

    Raises ConfigError for sizes and densities out of their range, and for an unknown or unsuitable `linear`. A call raises
    ValueError or TypeError for a shape, a device or a dtype that is not W's. There is no second derivative.
    """

    map: Patterned

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        R: Density,
        bias: bool = True,
        linear: str = "auto",
        device: torch.device | None = None,
        generator: Generator = torch.default_generator,
    ) -> None:
        super().__init__()
        whole("in_features", in_features)
        whole("out_features", out_features)
        check_value("R", R, Density)
        n = _entries(R, in_features * out_features)
        indices = draw_exact(out_features, in_features, n, generator)
        bound = math.sqrt(out_features / n)
        values, biases = (
            torch.empty(size, device=generator.device).uniform_(-bound, bound, generator=generator)
            for size in (n, out_features)
        )
        self.map = from_entries(linear, out_features, in_features, indices, values, device)
        self.bias = nn.Parameter(biases) if bias else None

    @classmethod
    def of(cls, dense: nn.Linear, kept: Tensor, linear: str = "auto", device: torch.device | None = None) -> Self:
        """The layer `dense` without the entries that are False in `kept` (out, in). The others keep their values."""
        self = cls.__new__(cls)
        nn.Module.__init__(self)
        weight = dense.weight.detach()
        indices = kept.flatten().nonzero().flatten()
        self.map = from_entries(linear, dense.out_features, dense.in_features, indices, weight.flatten()[indices], device)
        self.bias = dense.bias
        return self

    @property
    def in_features(self) -> int:
        return self.map.in_features

    @property
    def out_features(self) -> int:
        return self.map.out_features

    @property
    def n_weights(self) -> int:
        """The number of W's trainable entries."""
        return self.map.n_weights

    def forward(self, x: Tensor) -> Tensor:
        y = self.map(x)  # (…, in) -> (…, out)
        return y if self.bias is None else y + self.bias

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A state contains its own pattern, which may have more or fewer entries."""
        self.map = fitting(self.map, self.out_features, self.in_features, state_dict, f"{prefix}map.")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        R = self.n_weights / (self.in_features * self.out_features)
        return f"in_features={self.in_features}, out_features={self.out_features}, R={R:.3g}, bias={self.bias is not None}"


def sparsify(
    module: nn.Module,
    R: float,
    *,
    keep: str = "largest",
    skip: Collection[str] = (),
    linear: str = "auto",
    generator: Generator = torch.default_generator,
) -> nn.Module:
    """Replaces each `torch.nn.Linear` in a network by a `Sparse` of density R, in place, and returns the network.

    The entries that stay keep their values. Subclasses of `torch.nn.Linear` are not touched. `count_weights` says how many
    weights are left.

    Args:
        keep: which entries of a layer stay: the "largest" by magnitude, or "random" ones, drawn from `generator`.
        skip: names of layers that are not replaced, as `named_modules` gives them, for example ["head"].
        linear: how the matrices are stored, as in `Sparse`; "auto" asks for the fastest where the layer is now.

    Raises ConfigError for an R or a `keep` that is not allowed, for a name in `skip` that is no linear layer, for a layer that
    shares its weight with another, and for one that belongs to a module of torch's own that reads its weight itself.
    """
    check_value("R", R, Density)
    if keep not in KEEPS:
        raise ConfigError(f"keep={keep}: there is no such choice{near(str(keep), KEEPS)}")
    found = {name: layer for name, layer in module.named_modules(remove_duplicate=False) if type(layer) is nn.Linear}
    for name in skip:
        if name not in found:
            raise ConfigError(f"skip={name}: no layer of this name is a torch.nn.Linear{near(name, found)}")
    made: dict[nn.Linear, Sparse] = {}
    for name, layer in found.items():
        if name in skip or layer in made:
            continue
        _check_alone(module, name, layer)
        n, weight = _entries(R, layer.weight.numel()), layer.weight.detach()
        if keep == "largest":
            indices = weight.abs().flatten().topk(n).indices
        else:
            rows, columns = weight.shape
            indices = draw_exact(rows, columns, n, generator).to(weight.device)
        kept = torch.zeros_like(weight, dtype=torch.bool).flatten().index_fill_(0, indices, True).view_as(weight)
        made[layer] = Sparse.of(layer, kept, linear, weight.device)
    for name, layer in found.items():
        if name and layer in made:
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, made[layer])
    return made.get(module, module) if isinstance(module, nn.Linear) else module


def _check_alone(module: nn.Module, name: str, layer: nn.Linear) -> None:
    """Raises ConfigError if other modules use the layer's weight too."""
    kind = next((type(parent) for parent in module.modules() if layer in parent.children()), nn.Linear)
    if kind.__module__.startswith("torch.nn.") and kind not in (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Linear):
        raise ConfigError(
            f"sparsify: {name} is part of torch's {kind.__name__}, which reads its weight itself; skip it, or write that "
            "module with layers of your own"
        )
    others = [other for other, weight in module.named_parameters(remove_duplicate=False) if weight is layer.weight]
    owners = {id(owner) for owner in module.modules() for weight in owner.parameters(recurse=False) if weight is layer.weight}
    if len(owners) > 1:
        raise ConfigError(f"sparsify: {' and '.join(others)} are one tensor, and one alone would become sparse; skip {name}")


def count_weights(module: nn.Module) -> int:
    """The number of trainable numbers of a network; of a sparse matrix those of its pattern, however it is stored."""
    matrices = [part for part in module.modules() if isinstance(part, WeightMatrix)]
    inside = {id(weight) for matrix in matrices for weight in matrix.parameters()}
    outermost = {id(part) for matrix in matrices for part in matrix.modules() if part is not matrix}
    rest = sum(weight.numel() for weight in module.parameters() if weight.requires_grad and id(weight) not in inside)
    return rest + sum(matrix.n_weights for matrix in matrices if id(matrix) not in outermost)


def _entries(R: float, cells: int) -> int:
    return max(1, round(R * cells))

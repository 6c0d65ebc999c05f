"""The base class of all weight matrices, and the checks of their arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor

from inn_lab.errors import ConfigError, near
from inn_lab.linear.gradient import FullGradient

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "linear": lambda a: a,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


@dataclass(frozen=True)
class Map:
    """A linear map (…, in) -> (…, out), some columns of a weight matrix: function(x, *tensors).

    tensors: all weights that the function uses. `inn_lab.models.implicit.fix` takes them, so that they get gradients.
    """

    function: Callable[..., Tensor]
    tensors: tuple[Tensor, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, *self.tensors)


class Activation:
    """An activation function for each range of rows: Activation(("relu", 600), ("linear", 10)) maps (B, 610) to (B, 610).

    Raises ValueError for an unknown name and for a negative number of rows.
    """

    def __init__(self, *rows: tuple[str, int]) -> None:
        for name, n in rows:
            if name not in ACTIVATIONS:
                raise ValueError(f"activation {name!r}: there is no such activation{near(str(name), ACTIVATIONS)}")
            if n < 0:
                raise ValueError(f"activation {name!r} of {n} rows: a number of rows is 0 or more")
        together = [(name, sum(n for _, n in same)) for name, same in groupby(rows, key=lambda row: row[0])]
        self.rows = [(name, n) for name, n in together if n]

    @property
    def n_relu(self) -> int | None:
        """The number of ReLU rows, if ReLU rows come first and all others are linear; None otherwise."""
        names = [name for name, _ in self.rows]
        counts = {"relu": 0, "linear": 0, **dict(self.rows)}
        return counts["relu"] if names in (["relu", "linear"], ["relu"], ["linear"]) else None

    def __call__(self, total: Tensor) -> Tensor:
        parts = total.split([n for _, n in self.rows], dim=1)
        return torch.cat([ACTIVATIONS[name](part) for (name, _), part in zip(self.rows, parts, strict=True)], dim=1)


class WeightMatrix(torch.nn.Module):
    """A matrix W (out, in). Some entries are trainable, the others are fixed zeros.

    A subclass defines how W is stored:

    - `n_weights`: the number of trainable entries.
    - `_like`: a tensor whose dtype and device x must have.
    - `_forward`: (…, in) -> (…, out).
    - `_split(columns)`: two maps, for the first columns and for the others. Their sum is `_forward`. Work that a whole sequence
      needs only once, such as applying a mask, is done here.
    - `_iterate`: optional, a faster way to iterate.

    This class checks all arguments, so a subclass need not.

    `forward`, `split` and `iterate` raise ValueError for a shape or a device, and TypeError for a dtype, that is not W's.
    """

    out_features: int
    in_features: int

    @property
    def n_weights(self) -> int:
        raise NotImplementedError

    @property
    def _like(self) -> Tensor:
        raise NotImplementedError

    def _forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _split(self, columns: int) -> tuple[Map, Map]:
        raise NotImplementedError

    def _iterate(self, x: Tensor, bias: Tensor | None, activation: Activation, n_outputs: int) -> Tensor:
        """Multiplies all inputs at once, since that product does not depend on the state. A still x is multiplied only once."""
        from_input, from_state = self._split(x.shape[2])
        still = is_still(x)
        drive = from_input(x[:, 0] if still else x)  # (B, I) -> (B, H), or (B, T, I) -> (B, T, H)
        drive = drive if bias is None else drive + bias
        outputs, state = [], None  # h = 0 before: no product
        for now in [drive] * x.shape[1] if still else drive.unbind(1):
            state = activation(now if state is None else from_state(state) + now)  # (B, H)
            outputs.append(state[:, -n_outputs:])
        return torch.stack(outputs, dim=1)  # (B, T, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self._admit("x", x, "…", self.in_features))

    def split(self, columns: int) -> tuple[Map, Map]:
        if not isinstance(columns, Integral) or not 0 <= columns <= self.in_features:
            raise ValueError(f"{type(self).__name__}: columns={columns}; a matrix of {self.in_features} is cut at 0 to as many")
        left, right = self._split(columns)
        return self._checked("x", columns, left), self._checked("h", self.in_features - columns, right)

    def iterate(self, x: Tensor, bias: Tensor | None, activation: Activation, n_outputs: int) -> Tensor:
        """Iterates h ← σ(W [x; h] + b) from h = 0. Returns the last `n_outputs` rows of all states: (B, T, I) -> (B, T,
        n_outputs).

        I = in − out, because W has a row for each entry of the state.
        """
        x = self._admit("x", x, "B", "T", self.in_features - self.out_features)
        bias = bias if bias is None else self._admit("bias", bias, self.out_features)
        rows = sum(n for _, n in activation.rows)
        if rows != self.out_features:
            raise ValueError(
                f"{type(self).__name__}: the activation is for {rows} rows, and the matrix has {self.out_features}"
            )
        if not 1 <= n_outputs <= rows:
            raise ValueError(f"{type(self).__name__}: n_outputs={n_outputs}; of a state of {rows} rows, 1 to as many are read")
        return self._iterate(x, bias, activation, n_outputs)

    def _checked(self, name: str, width: int, part: Map) -> Map:
        return Map(lambda x, *tensors: part.function(self._admit(name, x, "…", width), *tensors), part.tensors)

    def _admit(self, name: str, x: Tensor, *shape: str | int) -> Tensor:
        return admit(type(self).__name__, name, x, shape, self._like)


@dataclass(frozen=True)
class Change:
    """A parameter before and after its pattern has changed.

    carry: takes numbers by entry, like the parameter before, to those after. An entry that is new gets zero.
    """

    before: torch.nn.Parameter
    after: torch.nn.Parameter
    carry: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets the optimizer go on with the parameter after. Entries keep their gradients and, for example, Adam's moments.

        Raises TypeError for a state that is neither by entry nor one number, as LBFGS's is.
        """
        if self.before.grad is not None:
            self.after.grad = self.carry(self.before.grad)
        state = optimizer.state.pop(self.before, {})
        moved = {}
        for name, value in state.items():
            by_entry = isinstance(value, Tensor) and value.shape == self.before.shape
            if not by_entry and not (value is None or isinstance(value, int | float) or _is_number(value)):
                raise TypeError(
                    f"{type(optimizer).__name__} keeps {name}, which cannot follow a changed pattern; take Adam, AdamW or SGD"
                )
            moved[name] = self.carry(value) if by_entry else value
        if state:
            optimizer.state[self.after] = moved
        for group in optimizer.param_groups:
            group["params"] = [self.after if parameter is self.before else parameter for parameter in group["params"]]


def _is_number(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


class Rewirable(Protocol):
    """A matrix (out, in) whose pattern can change. Its parameter is stored in any way; entries are given by flat positions."""

    out_features: int
    in_features: int
    full_gradient: FullGradient

    @property
    def parameter(self) -> torch.nn.Parameter:
        """What the optimizer sees."""

    def entries(self) -> tuple[Tensor, Tensor]:
        """The flat indices of the trainable entries, (n,), sorted, and their values, (n,)."""

    def at_entries(self, numbers: Tensor) -> Tensor:
        """Of numbers like the parameter, e.g. its gradient, those of the trainable entries, in order, (n,)."""

    def rewire(self, indices: Tensor) -> Change:
        """Makes `indices` the trainable entries. Those that were before keep their values, the others start at zero."""


class Patterned(WeightMatrix):
    """A matrix that is given by its trainable entries.

    indices: their flat positions (row · in + column), (n,), sorted. values: (n,).

    Raises TypeError or ValueError for entries that do not fit the matrix.
    """

    def __init__(self, out_features: int, in_features: int, indices: Tensor, values: Tensor) -> None:
        check_entries(out_features, in_features, indices, values)
        super().__init__()
        self.out_features, self.in_features = out_features, in_features
        self.full_gradient = FullGradient(out_features, in_features)

    @property
    def parameter(self) -> torch.nn.Parameter:
        """The only one."""
        return next(self.parameters())

    def entries(self) -> tuple[Tensor, Tensor]:
        """The flat indices of the trainable entries, (n,), sorted, and their values, (n,)."""
        raise NotImplementedError

    def at_entries(self, numbers: Tensor) -> Tensor:
        """Of numbers like the parameter, e.g. its gradient, those of the trainable entries, in order, (n,)."""
        raise NotImplementedError

    def rewire(self, indices: Tensor) -> Change:
        """Makes `indices` the trainable entries. Those that were before keep their values, the others start at zero.

        indices: flat positions, (n,), sorted. The matrix gets a new parameter; `Change.follow` hands it to the optimizer. A
        backward pass that waits still computes the gradient of the parameter and pattern that it began with.

        Raises TypeError or ValueError for entries that do not fit the matrix, ConfigError for a matrix whose pattern is fixed.
        """
        check_entries(self.out_features, self.in_features, indices, self._like.new_zeros(len(indices)))
        return self._rewire(indices)

    def _rewire(self, indices: Tensor) -> Change:
        raise ConfigError(f"{type(self).__name__}: its pattern cannot change; hold the matrix as csr or masked")


def is_still(x: Tensor) -> bool:
    """Whether the T steps of (B, T, I) are one expanded image. Then work on the input alone need be done only once."""
    return x.shape[1] == 1 or x.stride(1) == 0


def check(who: str, name: str, x: Tensor, shape: Sequence[str | int], like: Tensor, hint: str = "") -> None:
    """Raises TypeError or ValueError unless x is a dense tensor of this shape, with the dtype and on the device of `like`.

    shape: a number is an exact size, a letter any size, but B and T are at least 1. A first "…" is any number of dimensions.
    """
    if not isinstance(x, Tensor) or x.layout is not torch.strided:
        kind = f"a tensor of layout {x.layout}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise TypeError(f"{who}: {name} is {kind}; give a dense tensor of torch")
    sizes, wanted = (x.shape[1 - len(shape) :], shape[1:]) if shape[0] == "…" else (x.shape, shape)
    if len(sizes) != len(wanted) or not all(map(_fits, sizes, wanted)):
        form = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)}){', B and T at least 1' if 'T' in shape else ''}"
        raise ValueError(f"{who}: {name} has the shape {tuple(x.shape)}; it must be {form}{hint and '; '}{hint}")
    if x.device != like.device:
        raise ValueError(
            f"{who}: {name} is on {x.device} and the weights on {like.device}; move one of them, "
            f"e.g. {name}.to({str(like.device)!r})"
        )
    if x.dtype is not like.dtype:
        raise TypeError(f"{who}: {name} is {x.dtype} and the weights {like.dtype}; convert one, e.g. {name}.to({like.dtype})")


def _fits(size: int, want: str | int) -> bool:
    return size == want if isinstance(want, int) else size > 0 or want not in "BT"


def admit(who: str, name: str, x: Tensor, shape: Sequence[str | int], like: Tensor, hint: str = "") -> Tensor:
    """Checks x and returns it. Under autocast x is cast to the dtype of `like`, because sparse products have no autocast."""
    if isinstance(x, Tensor) and x.dtype is not like.dtype and x.is_floating_point():
        x = x.to(like.dtype) if torch.is_autocast_enabled(x.device.type) else x
    check(who, name, x, shape, like, hint)
    return x


def check_entries(out_features: int, in_features: int, indices: Tensor, values: Tensor) -> None:
    """Raises TypeError or ValueError unless these are entries of a matrix (out, in).

    indices: flat positions (n,), int64, sorted, each inside the matrix and only once. values: floating point (n,), on the same
    device.
    """
    for name, size in (("out_features", out_features), ("in_features", in_features)):
        if not isinstance(size, Integral) or size < 0:
            raise ValueError(f"{name}={size}: a matrix has a whole number of rows and of columns, 0 or more")
    for name, x in (("indices", indices), ("values", values)):
        if not isinstance(x, Tensor) or x.layout is not torch.strided or x.dim() != 1:
            kind = f"have the shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"are a {type(x).__name__}"
            raise TypeError(f"{name} {kind}; a dense tensor (n,) is wanted, one number for each entry")
    if indices.dtype is not torch.int64:
        raise TypeError(f"indices are {indices.dtype}; they must be torch.int64, e.g. mask.flatten().nonzero().flatten()")
    if not values.is_floating_point():
        raise TypeError(f"values are {values.dtype}; weights are real numbers, e.g. values.float()")
    if len(indices) != len(values) or indices.device != values.device:
        raise ValueError(
            f"{len(indices)} indices on {indices.device} and {len(values)} values on {values.device}; give a value for each "
            "index, on its device"
        )
    if not len(indices):
        return
    if not bool((indices[1:] > indices[:-1]).all()):
        raise ValueError("indices are not sorted, or one stands there twice; sort them, and their values in the same way")
    first, last = int(indices[0]), int(indices[-1])
    if first < 0 or last >= out_features * in_features:
        raise ValueError(
            f"indices go from {first} to {last}; row · {in_features} + column of a matrix of {out_features} × {in_features} "
            f"lies in [0, {out_features * in_features})"
        )

"""Sizes of models from a number of weights, and back. Arithmetic only."""

import itertools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from inn_lab.errors import ConfigError

T = TypeVar("T")
MAX_CELLS = 2**53  # up to here every entry's position is exact in floating point
ROUNDING = 1e-9  # relative: a space that is too small by no more than this counts as defined


@dataclass(frozen=True)
class WeightSpace:
    """A block matrix of depth × width with `n_weights` trainable entries (Hershey 2023, Eq. 3.1). width = n_inputs + depth."""

    n_inputs: int
    n_outputs: int
    depth: int
    width: int
    n_weights: int

    @property
    def density(self) -> float:
        return self.n_weights / (self.depth * self.width)


def weight_space(
    n_inputs: int,
    n_outputs: int,
    *,
    n_weights: int | None = None,
    R: float | None = None,
    depth: int | None = None,
    aspect_ratio: float | None = None,
) -> WeightSpace:
    """The weight space from two of `n_weights`, `R` and the shape (`depth` or `aspect_ratio` = depth / width).

        R = N / (depth · width),   width = (I + √(I² + 4N/R)) / 2,   depth = width − I

    Source: Hershey 2023, Eq. 3.1. The depth is rounded to the nearest row. With `n_weights` and `R`, exactly `n_weights`
    entries are trainable; near R = 1 the rounded space may have fewer entries, and then all are trainable. Whether the outputs
    fit is decided by the depth before rounding, as in the source.

    Raises ConfigError for too many or too few sizes, for a size out of its range, and for a space that cannot be defined.
    """
    whole("n_inputs", n_inputs)
    whole("n_outputs", n_outputs)
    sizes: dict[str, Any] = {"n_weights": n_weights, "R": R, "depth": depth, "aspect_ratio": aspect_ratio}
    given = {key: value for key, value in sizes.items() if value is not None}
    _check_ranges(given)
    _check_pair(given)

    least = n_outputs * (n_inputs + n_outputs)  # entries of the smallest space: every row is an output
    if depth is not None:
        _check_outputs(depth >= n_outputs, f"depth={depth}", f"depth={n_outputs}", n_outputs)
        real_depth = float(depth)
    elif aspect_ratio is not None:
        smallest = n_outputs / (n_inputs + n_outputs)
        _check_outputs(aspect_ratio >= smallest, f"aspect_ratio={aspect_ratio}", f"aspect_ratio={_ceil(smallest)}", n_outputs)
        real_depth = n_inputs * aspect_ratio / (1 - aspect_ratio)
    else:
        cells = given["n_weights"] / given["R"]
        if cells < least * (1 - ROUNDING):
            raise _undefined(n_inputs, n_outputs, given["n_weights"], given["R"], least)
        real_depth = cells / ((n_inputs + math.sqrt(n_inputs**2 + 4 * cells)) / 2)
    if not real_depth * (n_inputs + real_depth) < MAX_CELLS:
        raise ConfigError(f"{_listed(given)}: the weight space would have more than 2^53 entries; give a smaller one")

    depth = round(real_depth)
    cells = depth * (n_inputs + depth)
    if n_weights is None:
        n_weights = round(given["R"] * cells)
        if n_weights < 1:
            raise ConfigError(f"{_listed(given)}: no weight would train; R must be at least {_ceil(1 / cells)}")
    elif R is not None:
        n_weights = min(n_weights, cells)
    elif n_weights > cells:
        room = f"depth={_depth_that_holds(n_weights, n_inputs)}" + (" (in place of aspect_ratio)" if aspect_ratio else "")
        raise ConfigError(
            f"{_listed(given)}: the weight space of {depth} × {n_inputs + depth} has only {cells} entries; "
            f"give n_weights={cells} or less, or {room} or more"
        )
    return WeightSpace(n_inputs, n_outputs, depth, n_inputs + depth, n_weights)


Group = Callable[[int, int, int], str]  # a block's row, its column, the number of rows: the name of its density


def column_group(row: int, column: int, rows: int) -> str:
    """The groups of `inn_lab.models.by_column`. Column 0 is the input, the last one the output."""
    return "R_input" if column == 0 else "R_output" if column == rows else "R_hidden"


def diagonal_group(row: int, column: int, rows: int) -> str:
    """The groups of `inn_lab.models.by_diagonal`. Row 0 is the first hidden layer, column 0 the input."""
    return "R_below" if column <= row else "R_on" if column == row + 1 else "R_above"


def areas(n_inputs: int, n_outputs: int, hidden: Sequence[int], group: Group) -> dict[str, int]:
    """The number of entries in each group's blocks."""
    rows = [*hidden, n_outputs]
    found: dict[str, int] = {}
    for i, height in enumerate(rows):
        for j, width in enumerate([n_inputs, *rows]):
            name = group(i, j, len(rows))
            found[name] = found.get(name, 0) + height * width
    return found


def fill(given: Mapping[str, float | None], R: float, entries: Mapping[str, int]) -> dict[str, float]:
    """The densities of all groups. The missing one is chosen so that the density of the whole is R."""
    missing = [name for name, density in given.items() if density is None]
    for name, density in given.items():
        if density is not None and not 0 <= density <= 1:
            raise ConfigError(f"{name}={density}: a group's density lies in [0, 1]; e.g. {name}=0.2")
    if len(missing) != 1:
        raise ConfigError(
            f"{', '.join(f'{name}={density}' for name, density in given.items())}: give two of them, and null for the "
            f"third, which makes up for R={R}"
        )
    known = {name: float(density) for name, density in given.items() if density is not None}
    rest = R * sum(entries.values()) - sum(density * entries[name] for name, density in known.items())
    density = rest / entries[missing[0]]
    if not 0 <= density <= 1:
        raise ConfigError(
            f"{', '.join(f'{name}={density}' for name, density in known.items())}: {missing[0]} would have to be "
            f"{density:.3g} for R={R}; change them"
        )
    return {**known, missing[0]: density}


def lstm_hidden(n_inputs: int, n_outputs: int, n_weights: int) -> int:
    """The hidden size for which `torch.nn.LSTM(I, h, proj_size=O)` has a number of parameters nearest to `n_weights`.

        N = h (4I + 5O + 8)

    Source: Hershey 2023, 2.1.6 (its baseline: I = 2500, O = 10, h = 130, N = 1,307,540).

    Raises ConfigError if h ≤ O, which torch does not allow; the message says from which `n_weights` on the model exists.
    """
    _check_sizes(n_inputs, n_outputs, n_weights)
    each = 4 * n_inputs + 5 * n_outputs + 8
    hidden = round(n_weights / each)
    if hidden <= n_outputs:
        raise ConfigError(
            f"n_weights={n_weights}: an LSTM of {n_inputs} inputs cannot be defined: its hidden size would be {hidden} "
            f"and must exceed its {n_outputs} outputs; "
            f"give n_weights={(n_outputs + 1) * each} (hidden size {n_outputs + 1}) or more"
        )
    return hidden


def rnn_hidden(n_inputs: int, n_outputs: int, n_weights: int, gates: int = 1) -> int:
    """The hidden size for which `torch.nn.RNN(I, h)` with a linear readout has a number of parameters nearest to `n_weights`.

        N = g h (I + h + 2) + (h + 1) O,   gates g = 1 (RNN), 3 (GRU) or 4 (LSTM without projection)

    Raises ConfigError if a hidden size of 0 would be nearer than 1.
    """
    _check_sizes(n_inputs, n_outputs, n_weights)

    def count(hidden: int) -> int:
        return gates * hidden * (n_inputs + hidden + 2) + (hidden + 1) * n_outputs

    linear = gates * (n_inputs + 2) + n_outputs  # count(h) = g h² + linear h + O
    root = (math.sqrt(linear**2 + 4 * gates * max(0, n_weights - n_outputs)) - linear) / (2 * gates)
    hidden = min((math.floor(root), math.floor(root) + 1), key=lambda h: abs(count(h) - n_weights))
    if hidden < 1:
        raise _too_few("a recurrent network", n_inputs, n_outputs, n_weights, f"{count(1)} (hidden size 1)")
    return hidden


def gru_hidden(n_inputs: int, n_outputs: int, n_weights: int) -> int:
    """As `rnn_hidden`, for `torch.nn.GRU`: three gates."""
    return rnn_hidden(n_inputs, n_outputs, n_weights, gates=3)


def sru_hidden(n_inputs: int, n_outputs: int, n_weights: int) -> int:
    """The hidden size for which an SRU with a linear readout has a number of parameters nearest to `n_weights`.

        N = k h I + 4h + (h + 1) O,   products with x: k = 3 where h = I, otherwise 4

    Raises ConfigError where a hidden size of 0 would be nearer than 1.
    """
    _check_sizes(n_inputs, n_outputs, n_weights)

    def count(hidden: int) -> int:
        return hidden * ((3 if hidden == n_inputs else 4) * n_inputs + 4 + n_outputs) + n_outputs

    least = (n_weights - n_outputs) // (4 * n_inputs + 4 + n_outputs)
    hidden = min((least, least + 1, n_inputs), key=lambda h: abs(count(h) - n_weights))
    if hidden < 1:
        raise _too_few("an SRU", n_inputs, n_outputs, n_weights, f"{count(1)} (hidden size 1)")
    return hidden


def mlp_count(n_inputs: int, n_outputs: int, hidden: tuple[int, ...]) -> int:
    """The number of parameters of a layered network, biases included."""
    widths = (n_inputs, *hidden, n_outputs)
    return sum((before + 1) * after for before, after in itertools.pairwise(widths))


def mlp_hidden(n_inputs: int, n_outputs: int, n_weights: int, proportions: tuple[int, ...] = (5, 2, 1)) -> tuple[int, ...]:
    """The hidden widths, in these proportions, for which a layered network has a number of parameters nearest to `n_weights`.

    The widths are s · `proportions`, rounded; the search is for s. Source of the proportions: Hershey 2023, 3.3 (500:200:100).

    Raises ConfigError if `n_weights` is below the smallest network with a unit in each layer.
    """
    _check_sizes(n_inputs, n_outputs, n_weights)

    def widths(scale: float) -> tuple[int, ...]:
        return tuple(math.floor(scale * part + 0.5) for part in proportions)

    def count(scale: float) -> int:
        return mlp_count(n_inputs, n_outputs, widths(scale))

    low = 0.5 / min(proportions) * (1 + ROUNDING)  # here the narrowest layer gets its first unit
    if n_weights < count(low):
        raise _too_few("a layered network", n_inputs, n_outputs, n_weights, f"{count(low)} (hidden widths {widths(low)})")
    high = 2 * low
    while count(high) <= n_weights:
        high *= 2
    while low < (middle := (low + high) / 2) < high:  # the count is a staircase in s: end at the step around n_weights
        low, high = (middle, high) if count(middle) <= n_weights else (low, middle)
    return widths(min((low, high), key=lambda scale: abs(count(scale) - n_weights)))


def erdos_renyi(sizes: Sequence[tuple[int, int]], R: float) -> list[float]:
    """The densities of layers of n × m, each in proportion to (n + m) / nm and 1 at most, with R of all entries together.

    Source: Mocanu et al. 2018, Eq. 1, an Erdős–Rényi graph between two layers: small layers are denser.
    """
    wanted, full = R * sum(n * m for n, m in sizes), set[int]()
    while True:
        share = (wanted - sum(math.prod(sizes[k]) for k in full)) / (
            sum(n + m for k, (n, m) in enumerate(sizes) if k not in full) or 1
        )
        densities = [1.0 if k in full else share * (n + m) / (n * m) for k, (n, m) in enumerate(sizes)]
        if not (over := {k for k, density in enumerate(densities) if density >= 1} - full):
            return densities
        full |= over


def given_or_found(key: str, size: T | None, n_weights: int | None, find: Callable[[int], T]) -> T:
    """`size` if it is given, otherwise find(n_weights). `key` is its name, for error messages.

    Raises ConfigError unless exactly one of the two is given.
    """
    if size is not None and n_weights is not None:
        raise ConfigError(
            f"{_listed({'n_weights': n_weights, key: size})} are too many: each fixes the size of the model by itself; "
            f"set one to null (n_weights=null or {key}=null)"
        )
    if size is not None:
        return size
    if n_weights is not None:
        return find(n_weights)
    raise ConfigError(f"the size of the model is not given: set one of n_weights and {key}, e.g. n_weights=100000")


def whole(key: str, value: Any) -> None:
    """Raises ConfigError unless `value` is a whole number from 1."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not 1 <= int(value) < MAX_CELLS:
        raise ConfigError(f"{key}={value}: must be a whole number from 1; e.g. {key}=100")


def _check_sizes(n_inputs: int, n_outputs: int, n_weights: int) -> None:
    for key, value in (("n_inputs", n_inputs), ("n_outputs", n_outputs), ("n_weights", n_weights)):
        whole(key, value)


def _check_ranges(given: dict[str, Any]) -> None:
    for key in given.keys() & {"n_weights", "depth"}:
        whole(key, given[key])
    ranges: dict[str, tuple[Callable[[Any], bool], str, str]] = {
        "R": (lambda v: 0 < v <= 1, "a density lies in (0, 1]", "0.2"),
        "aspect_ratio": (lambda v: 0 < v < 1, "depth / width lies in (0, 1)", "0.3"),
    }
    for key, (allowed, rule, example) in ranges.items():
        value = given.get(key)
        if value is not None and not (isinstance(value, numbers.Real) and not isinstance(value, bool) and allowed(value)):
            raise ConfigError(f"{key}={value}: {rule}; e.g. {key}={example}")


def _check_pair(given: dict[str, Any]) -> None:
    rule = "two of n_weights, R and depth|aspect_ratio fix the weight space"
    both_shapes = {"depth", "aspect_ratio"} <= given.keys()
    if len(given) > 2:
        count = "one" if len(given) == 3 else "two"
        hint = " of depth and aspect_ratio, which say the same," if both_shapes and len(given) == 3 else ""
        raise ConfigError(f"{_listed(given)} are too many: {rule}; set {count}{hint} to null")
    if both_shapes:
        raise ConfigError(f"{_listed(given)} say the same thing: {rule}; set one to null and give n_weights or R")
    if len(given) < 2:
        are = f"{_listed(given)} alone is too few" if given else "no size is given"
        missing = "R=0.2" if "n_weights" in given else "n_weights=100000"
        example = missing if given else "n_weights=100000 and R=0.2"
        raise ConfigError(f"{are}: {rule}; add {example}, for example")


def _check_outputs(fits: bool, given: str, smallest: str, n_outputs: int) -> None:
    if not fits:
        raise ConfigError(
            f"{given}: the weight space cannot be defined: it has fewer rows than the {n_outputs} outputs; "
            f"give {smallest} or more"
        )


def _undefined(n_inputs: int, n_outputs: int, n_weights: int, R: float, least: int) -> ConfigError:
    enough = math.ceil(least * R * (1 - ROUNDING))
    depth = (math.sqrt(n_inputs**2 + 4 * n_weights / R) - n_inputs) / 2
    return ConfigError(
        f"n_weights={n_weights} and R={R}: the weight space cannot be defined: of {n_inputs} inputs it would have depth "
        f"{_floor(depth)}, below its {n_outputs} outputs; raise n_weights to {enough} or lower R to {_floor(n_weights / least)}"
    )


def _too_few(what: str, n_inputs: int, n_outputs: int, n_weights: int, smallest: str) -> ConfigError:
    return ConfigError(
        f"n_weights={n_weights}: {what} of {n_inputs} inputs and {n_outputs} outputs cannot be defined; "
        f"give n_weights={smallest} or more"
    )


def _depth_that_holds(n_weights: int, n_inputs: int) -> int:
    depth = (math.isqrt(n_inputs**2 + 4 * n_weights) - n_inputs) // 2
    while depth * (n_inputs + depth) < n_weights:
        depth += 1
    return depth


def _listed(given: dict[str, Any]) -> str:
    *first, last = [f"{key}={value}" for key, value in given.items()]
    return f"{', '.join(first)} and {last}" if first else last


def _floor(value: float) -> float:
    """`value` to four digits, rounded down, so that the bound in a message is valid."""
    return _round(value, math.floor)


def _ceil(value: float) -> float:
    up = _round(value, math.ceil)
    return up if up < 1 else value  # the bounds in messages are below 1 and must stay there


def _round(value: float, to: Callable[[float], int]) -> float:
    digits = 3 - math.floor(math.log10(value))
    return float(f"{to(value * 10.0**digits)}e{-digits}")

"""The values that an argument or a key may have, as types: `swap: Probability` allows the floats in [0, 1].

A type here is `Annotated` with a `Range`. It stands in a constructor or a study, or in a dataclass of `inn_lab.schema`, and the
key of that name in the configuration is checked by it (`inn_lab.config.check`).
"""

import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from inn_lab.errors import ConfigError

MANY = 10**9  # the most of anything that is counted one by one: nobody waits longer
WIDE = 10**8  # units of a layer; `inn_lab.machine` checks whether its weights fit into memory
BIG = 1e9  # the largest of most real numbers


@dataclass(frozen=True)
class Range:
    """Whether a value is allowed, what is allowed in words, and an example."""

    allowed: Callable[[Any], bool]
    words: str
    example: Any


def count(least: int, most: int, example: Any, more: str = "") -> Range:
    return Range(lambda v: least <= v <= most, f"a whole number from {least} to {most}{more}", example)


def real(allowed: Callable[[float], bool], words: str, example: Any) -> Range:
    return Range(lambda v: abs(v) <= sys.float_info.max and allowed(v), words, example)  # also of an int that no float holds


def each(rule: Range, most: int) -> Range:
    allowed = lambda v: 1 <= len(v) <= most and all(map(rule.allowed, v))  # noqa: E731
    return Range(allowed, f"1 to {most} of them, each {rule.words}", f"[{rule.example}]")


def one_of(*known: Any) -> Range:
    return Range(known.__contains__, f"one of {', '.join(map(str, known))}", known[0])


_UNITS = count(1, WIDE, 100)

Target = Annotated[
    str, Range(lambda v: isinstance(v, str) and bool(v.strip()), "the dotted name of a class or a function", "MODULE.NAME")
]
Many = Annotated[int, count(1, MANY, 100)]
WeightCount = Annotated[int, count(1, 2**53, 100000)]
Units = Annotated[int, _UNITS]
Widths = Annotated[
    Sequence[int],
    Range(
        lambda v: len(v) <= 200 and all(map(_UNITS.allowed, v)),
        f"widths of up to 200 layers, each {_UNITS.words}",
        "[500,200,100]",
    ),
]
Layers = Annotated[int, count(1, 1000, 3)]
Rows = Annotated[int, count(1, 2**53, 610)]  # of a weight space
Density = Annotated[float, real(lambda v: 0 < v <= 1, "a density lies in (0, 1]", 0.2)]
GroupDensity = Annotated[float, real(lambda v: 0 <= v <= 1, "a group's density lies in [0, 1]", 0.2)]
AspectRatio = Annotated[float, real(lambda v: 0 < v < 1, "depth / width lies in (0, 1)", 0.3)]
Probability = Annotated[float, real(lambda v: 0 <= v <= 1, "a probability lies in [0, 1]", 0.2)]
Fraction = Annotated[float, real(lambda v: 0 <= v <= 1, "a fraction of the weights lies in [0, 1]", 0.5)]
Tolerance = Annotated[float, real(lambda v: 0 < v <= 1, "a tolerance lies in (0, 1]", "1e-4")]
Iterations = Annotated[int, count(1, 1_000_000, 300)]  # until a state settles
Memory = Annotated[int, count(0, 100, 5)]  # of Anderson's method
Factor = Annotated[float, real(lambda v: 0 < v <= BIG, "a positive number, at most 1e9", 1)]
Std = Annotated[float, real(lambda v: 0 < v <= BIG, "a standard deviation is a positive number, at most 1e9", 0.05)]
Mean = Annotated[float, real(lambda v: abs(v) <= BIG, "of the pixels, a finite number", 0.1307)]
Seconds = Annotated[float, real(lambda v: 0 <= v <= BIG, "seconds, from 0 to 1e9", 10)]
Seed = Annotated[int, count(0, 2**63 - 1, 0)]
Steps = Annotated[int, count(1, 10_000, 5)]
SequenceLength = Annotated[int, count(3, 10_000, 9, ", an anomaly stands among at least 3 images")]


def range_of(kind: Any) -> Range | None:
    """The range that a type states, of `X | None` that of X."""
    if typing.get_origin(kind) is Annotated:
        return next((more for more in kind.__metadata__ if isinstance(more, Range)), None)
    if typing.get_origin(kind) is Literal:
        return one_of(*typing.get_args(kind))
    return next(filter(None, map(range_of, _parts(kind))), None)


def _parts(kind: Any) -> Sequence[Any]:
    """The types of a union."""
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else ()


def check_value(key: str, value: Any, kind: Any) -> None:
    """Raises ConfigError for a value out of its type's range, and for a number that is not finite."""
    rule, optional = range_of(kind), type(None) in _parts(kind)
    if optional and value is None:
        return
    if rule is None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: must be a finite number; give one, or leave it out")
        return
    try:
        allowed = rule.allowed(value)
    except TypeError:  # a null or a text in a node of any type
        allowed = False
    if not allowed:
        raise ConfigError(f"{key}={value}: {way_out(key, kind)}")


def way_out(key: str, kind: Any) -> str:
    """What a type allows, and an example; "" if it states no range."""
    rule, null = range_of(kind), ", or null" * (type(None) in _parts(kind))
    return f"{rule.words}{null}; e.g. {key}={rule.example}" if rule else ""


@functools.cache
def arguments(made: Callable[..., Any]) -> dict[str, Any] | None:
    """The arguments that a class or function takes by name, and their types, `Any` where it states none. `**options` are those
    of the next constructor in line: of a class its base's, of a function that of the class that it returns.

    None if it takes any, or does not say what it takes.
    """
    found: dict[str, Any] = {}
    for called in _line(made):
        try:
            parameters = inspect.signature(called).parameters.values()
        except (TypeError, ValueError):  # it is not Python's own
            return None
        named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "self"]
        if found and {p.name for p in named} <= found.keys():
            return None  # nothing is passed on: the options are for the class itself
        found = {p.name: _stated(called, p) for p in named} | found
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return found
    return None


def _stated(called: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of an argument; `Any` where none is stated, or where its text names nothing (an import for types alone)."""
    kind = parameter.annotation
    if isinstance(kind, str):
        try:
            return eval(kind, getattr(called, "__globals__", {}))
        except Exception:  # whatever stands there
            return Any
    return Any if kind is parameter.empty else kind


def _line(made: Callable[..., Any]) -> Sequence[Callable[..., Any]]:
    """The functions that get what a call does not name, one after the other."""
    if isinstance(made, type):
        return [vars(kind)["__init__"] for kind in made.__mro__ if "__init__" in vars(kind)]
    returned = getattr(made, "__annotations__", {}).get("return")
    return [made, *(_line(returned) if isinstance(returned, type) else ())]

"""A block matrix in words: named layers, and for each layer what it reads from which."""

import numbers
from collections.abc import Mapping
from typing import Annotated, Any

import torch

from inn_lab.errors import ConfigError, near
from inn_lab.linear import ACTIVATIONS
from inn_lab.models.sequential2d import INITS, Block, Diagonal, Factored, Identity, Sequential2D, Trainable
from inn_lab.ranges import BIG, Density, Std, check_value, real, way_out
from inn_lab.sizing import whole

KINDS = ("dense", "diagonal", "identity")
SIZES = ("kind", "R", "rank")  # a block has one of them
KEYS = (*SIZES, "init", "init_std", "lr")
Rate = Annotated[float, real(lambda v: 0 <= v <= BIG, "times the learning rate, 0 (the block stays as drawn) or more", 0.1)]


class Blocks(Sequential2D):
    """A block matrix that is described by names.

    `blocks` has a row for each layer, and in the row a block for each layer that it reads: {row: {column: block}}. The inputs
    are the column `input`, the outputs the row and the column `output`. A block that is not there is zero. A block is a word,

        dense       all entries are trainable
        diagonal    the diagonal is trainable
        identity    the fixed identity

    or a table: {R: 0.2}, so many of the entries at random places, {rank: 10}, a product of low rank, or {kind: a word}. The
    table may also say

        init, init_std  how the block is drawn, if not as the others; see `Sequential2D`
        lr              its learning rate, as a factor of the others'; 0: it stays as it is drawn, and is no weight

    The state holds the layers in the alphabetical order of their names, then the outputs. So the model does not depend on the
    order in which they are written. None in place of a layer, a row, a block or one of its values is as if it were not there.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, O outputs.

    Args:
        layers: the width of each layer.
        blocks: as above.
        activation: the activation of each layer that is not ReLU. The outputs are linear.
        init, device, options: as in `Sequential2D`.

    Raises ConfigError for an unknown name, a number out of its range, an identity or a diagonal between layers of different
    widths, a layer that reads nothing, and if nothing is trainable.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        layers: Mapping[str, int],
        blocks: Mapping[str, Mapping[str, Any]],
        activation: Mapping[str, str] | None = None,
        init: str = "normal",
        device: torch.device | None = None,
        **options: Any,
    ) -> None:
        widths = dict(sorted(_table("layers", layers).items()))
        for name, units in widths.items():
            if name in ("input", "output"):
                raise ConfigError(f"layers.{name}={units}: the data say how wide it is; leave it out, or take another name")
            whole(f"layers.{name}", units)
        rows, columns = {**widths, "output": n_outputs}, {"input": n_inputs, **widths, "output": n_outputs}
        functions = _table("activation", activation)
        for name, function in functions.items():
            if name not in widths:
                raise ConfigError(f"activation.{name}={function}: there is no such layer{near(name, widths)}")
            if function not in tuple(ACTIVATIONS):
                known = near(str(function), ACTIVATIONS)
                raise ConfigError(f"activation.{name}={function}: there is no such activation{known}")
        grid: dict[str, dict[str, Block]] = {row: dict.fromkeys(columns) for row in rows}
        for row, given in _table("blocks", blocks).items():
            if row not in rows:
                raise ConfigError(f"blocks.{row}={given}: there is no such row{near(row, rows)}")
            for column, block in _table(f"blocks.{row}", given).items():
                at = f"blocks.{row}.{column}"
                if column not in columns:
                    raise ConfigError(f"{at}={block}: there is no such layer to read{near(column, columns)}")
                grid[row][column] = _block(at, block, rows[row], columns[column], init)
        for row, there in grid.items():
            if not any(there.values()):
                raise ConfigError(f"blocks.{row}={{}}: {row} reads nothing; give it a block, e.g. +blocks.{row}.input=dense")
        if not any(getattr(block, "lr", 0) for there in grid.values() for block in there.values()):
            raise ConfigError(f"blocks={blocks}: nothing is trainable; e.g. blocks.output.{next(iter(columns))}=dense")
        super().__init__(
            n_inputs,
            n_outputs,
            rows=list(rows.values()),
            columns=list(columns.values()),
            grid=[list(there.values()) for there in grid.values()],
            activation=[*((functions.get(name, "relu"), units) for name, units in widths.items()), ("linear", n_outputs)],
            init=init,
            device=device,
            **options,
        )
        self.names = list(rows), list(columns)


def _table(key: str, given: Any) -> dict[str, Any]:
    """What a table says, without what is None."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{key}={given}: a table of names is wanted; {key}.NAME=VALUE, in a YAML {key}: {{NAME: VALUE}}")
    for name in given:
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"{key}.{name}={given[name]}: a name is a word of letters, digits and _, not {name!r}; rename it")
    return {name: value for name, value in given.items() if value is not None}


def _block(at: str, given: Any, high: int, wide: int, init: str) -> Block:
    """The block that is described at the key `at`."""
    if not isinstance(given, str | Mapping):
        raise ConfigError(f"{at}={given}: a block is one of {', '.join(KINDS)}, or a table; e.g. {at}.R=0.2")
    said: dict[str, Any] = {"kind": given} if isinstance(given, str) else _table(at, given)
    for key in said:
        if key not in KEYS:
            raise ConfigError(f"{at}.{key}={said[key]}: there is no such key of a block{near(key, KEYS)}")
    sizes = [key for key in SIZES if key in said]
    if len(sizes) != 1:
        has = " and ".join(sizes) or "none"
        raise ConfigError(f"{at}={given}: a block has one of {', '.join(SIZES)}, and this one has {has}; null takes one away")
    (size,) = sizes
    key, value = f"{at}.{size}" if isinstance(given, Mapping) else at, said[size]
    drawn = _drawn(at, said, "low-rank block" if size == "rank" else str(value), init)
    if size == "R":
        R = _number(key, value, Density)
        if not (n := round(R * high * wide)):
            raise ConfigError(f"{key}={value}: of {high} × {wide} entries that is none; e.g. {key}=1")
        return Trainable(None if n == high * wide else n, **drawn)
    if size == "rank":
        whole(key, value)
        if value > min(high, wide):
            raise ConfigError(f"{key}={value}: a block of {high} × {wide} has at most rank {min(high, wide)}; give no more")
        return Factored(value * (high + wide) / (high * wide), **drawn)
    if value not in KINDS:
        raise ConfigError(f"{key}={value}: there is no such kind of block{near(str(value), KINDS)}")
    if value != "dense" and high != wide:
        raise ConfigError(f"{key}={value}: it is square, and this block is of {high} × {wide}; give both layers the same width")
    return {"dense": Trainable, "diagonal": Diagonal, "identity": Identity}[value](**drawn)


def _drawn(at: str, said: Mapping[str, Any], kind: str, init: str) -> dict[str, Any]:
    """How a block is drawn and trained: the values for `Drawn`."""
    own = {key: said[key] for key in ("init", "init_std", "lr") if key in said}
    if kind == "identity" and own:
        raise ConfigError(f"{at}={said}: an identity is fixed, and not drawn; give it nothing else")
    if "init" in own and own["init"] not in INITS:
        raise ConfigError(f"{at}.init={own['init']}: there is no such init{near(str(own['init']), INITS)}")
    if "init_std" in own:
        own["init_std"] = _number(f"{at}.init_std", own["init_std"], Std)
    if "lr" in own:
        own["lr"] = _number(f"{at}.lr", own["lr"], Rate)
    if kind == "low-rank block":
        if "init" in own:
            raise ConfigError(f"{at}.init={own['init']}: a block with a rank is drawn with init_std; set that one")
        if own.get("lr") == 0:
            raise ConfigError(f"{at}.lr=0: a block with a rank is always trainable; give it an R, or an lr above 0")
    elif "init_std" in own and own.get("init", init) == "fan_in":
        raise ConfigError(f"{at}.init_std={own['init_std']}: init=fan_in does not use it; leave it out, or add init: normal")
    return own


def _number(key: str, value: Any, kind: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ConfigError(f"{key}={value}: {way_out(key, kind)}")
    check_value(key, value, kind)
    return float(value)

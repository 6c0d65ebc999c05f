"""Arrays by name, from a file of arrays (.npz, .safetensors) or from a table of sequences (.parquet).

A table comes out as the arrays that a .npz would hold: x, y and, where sequences differ in length, lengths; with a column
`part`, x_train, y_train and so on. Each reader raises ValueError for what it cannot make sense of.
"""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inn_lab import machine
from inn_lab.data.sets import PARTS

if TYPE_CHECKING:
    import pyarrow

Arrays = dict[str, np.ndarray]


def read(file: Path) -> dict[str, Tensor]:
    """What is in a file, by name. Raises ValueError for what are no numbers, and NotHere where the memory is too small."""
    for end, reader in READERS.items():
        if file.name.endswith(end):
            return {name: _tensor(name, array) for name, array in reader(file).items()}
    raise ValueError(f"its name must end in {', '.join(READERS)}")


def _tensor(name: str, array: np.ndarray | Tensor) -> Tensor:
    kind = ("c" if array.is_complex() else "f") if isinstance(array, Tensor) else array.dtype.kind
    if kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(f"{name} holds {array.dtype}; it must hold integers or floats of up to 64 bits")
    return array if isinstance(array, Tensor) else torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), "W"))


def _fits(file: Path, size: int) -> None:
    machine.fits("what is in it", size / machine.NUMBER, torch.device("cpu"), {"path": file})


def _npz(file: Path) -> Arrays:
    with zipfile.ZipFile(file) as packed:
        _fits(file, sum(entry.file_size for entry in packed.infolist()))
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(file, "pt") as archive:  # mapped into memory
        return {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118  (it is no dictionary)


def _parquet(file: Path) -> Arrays:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as archive:
        groups = map(archive.metadata.row_group, range(archive.metadata.num_row_groups))
        _fits(file, sum(24 * group.column(at).num_values for group in groups for at in range(group.num_columns)))  # measured
        table = pa.Table.from_batches(archive.iter_batches(1000), archive.schema_arrow)  # `read` takes twice the memory
    table = table.drop_columns([name for name in table.column_names if name.startswith("__index_level_")])  # of pandas
    columns = set(table.column_names)
    if not table.num_rows:
        raise ValueError("it has no rows")
    if {"sequence", "step"} <= columns:
        arrays, part = _by_step(table)
    elif "x" in columns:
        arrays, part = _by_sequence(table)
    else:
        raise ValueError(f"it has the columns {', '.join(table.column_names)}, neither x nor sequence and step")
    if part is None:
        return arrays
    if unknown := {*part.tolist()} - {*PARTS}:
        raise ValueError(f"part has {unknown.pop()!r}; it must be train, val or test")
    return {f"{name}_{which}": array[part == which] for name, array in arrays.items() for which in PARTS}


READERS: Mapping[str, Callable[[Path], Any]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".parquet.gzip": _parquet,  # as Hershey's published generator names them
}


def _by_sequence(table: "pyarrow.Table") -> tuple[Arrays, np.ndarray | None]:
    """A row a sequence: x is a list of steps, each a list of inputs, or one list with its number of steps in `steps`."""
    if unknown := {*table.column_names} - {"x", "y", "steps", "part"}:
        raise ValueError(f"it has a column {min(unknown)}; with a row a sequence there are x, y, steps and part")
    (x, *sizes), found = _flat(table, "x"), {}
    if len(sizes) == 2 and "steps" not in table.column_names:
        steps, width = sizes[0], _one("x", "inputs at each step", sizes[1])
    elif len(sizes) == 1 and "steps" in table.column_names:
        steps = _flat(table, "steps")[0]
        if steps.dtype.kind not in "iu" or (steps < 1).any() or (sizes[0] % steps).any():
            raise ValueError("steps must be whole numbers that divide the lengths of the lists in x")
        width = _one("x", "inputs at each step", sizes[0] // steps)
    else:
        raise ValueError("x must hold a list of lists in each row, or one list with a column steps")
    found["x"] = _padded(x.reshape(-1, width), steps)
    if "y" in table.column_names:
        y, *sizes = _flat(table, "y")
        if len(sizes) == 1 and y.dtype.kind == "f":  # (n, O)
            y = y.reshape(len(steps), _one("y", "values in each row", sizes[0]))
        elif sizes:  # (n, T) or (n, T, O)
            if (wrong := sizes[0] != steps).any():
                row = wrong.argmax()
                raise ValueError(f"row {row} has {steps[row]} steps in x and {sizes[0][row]} in y")
            y = _padded(y.reshape(-1, _one("y", "values at each step", sizes[1])) if sizes[1:] else y, steps)
        found["y"] = y
    if (steps != steps.max()).any():
        found["lengths"] = steps
    return found, np.array(table["part"].to_pylist()) if "part" in table.column_names else None


def _by_step(table: "pyarrow.Table") -> tuple[Arrays, np.ndarray | None]:
    """A row a step: `sequence` and `step` say which, all columns but y and part are inputs. y is null in all rows of a sequence
    but its last one where it is asked for at the end only."""
    for name in table.column_names:
        if name != "y" and table[name].null_count:
            raise ValueError(f"{name} is null in row {table[name].is_null().index(True)}")
    table = table.sort_by([("sequence", "ascending"), ("step", "ascending")])
    which, step = np.array(table["sequence"].to_pylist()), _flat(table, "step")[0]
    first = np.append(True, which[1:] != which[:-1])
    jumps = (np.diff(step) != 1) & ~first[1:]
    if step.dtype.kind not in "iu" or jumps.any():
        raise ValueError(f"the steps of sequence {which[jumps.argmax()]!s} must be whole numbers without gaps, each once")
    starts = np.flatnonzero(first)
    steps = np.diff(starts, append=len(which))
    inputs = [name for name in table.column_names if name not in ("sequence", "step", "y", "part")]
    columns = [_flat(table, name) for name in inputs]
    if not columns or any(sizes for _, *sizes in columns) or ("y" in table.column_names and _is_list(table["y"].type)):
        raise ValueError("with a row a step each column but part has a number in each row, y and at least one input")
    found = {"x": _padded(np.stack([column for (column,) in columns], axis=1), steps)}
    if "y" in table.column_names:
        last, asked = np.append(first[1:], True), table["y"].is_valid().to_numpy()
        if table["y"].null_count:
            if (asked != last).any():
                row = (asked != last).argmax()
                raise ValueError(
                    f"y of sequence {which[row]!s} is {'there' if asked[row] else 'null'} at step {step[row]}; "
                    "it must be there at all steps, or at each sequence's last one alone"
                )
            found["y"] = _flat(table.filter(last), "y")[0]
        else:
            y = _flat(table, "y")[0]
            found["y"] = _padded(y[:, None] if y.dtype.kind == "f" else y, steps)
    if (steps != steps.max()).any():
        found["lengths"] = steps
    if "part" not in table.column_names:
        return found, None
    part = np.array(table["part"].to_pylist())
    if (moved := (part != part[starts].repeat(steps))).any():
        raise ValueError(f"sequence {which[moved.argmax()]!s} is in two parts")
    return found, part[starts]


def _flat(table: "pyarrow.Table", name: str) -> list[np.ndarray]:
    """A column's numbers one after the other, then the lengths of the lists that they stand in, from the outermost on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column: Any = table[name].combine_chunks()
    sizes: list[np.ndarray] = []
    while True:
        if column.null_count:
            row = column.is_null().index(True).as_py()
            for size in reversed(sizes):
                row = np.searchsorted(size.cumsum(), row, side="right")
            raise ValueError(f"{name} is null in row {row}")
        if not _is_list(column.type):
            break
        sizes.append(pc.list_value_length(column).to_numpy())
        column = column.flatten()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise ValueError(f"{name} holds {table[name].type}; it must hold numbers")
    return [column.to_numpy(zero_copy_only=False), *sizes]


def _is_list(kind: "pyarrow.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _one(name: str, what: str, sizes: np.ndarray) -> int:
    """The size that all have."""
    if sizes.size and (sizes != sizes[0]).any():
        raise ValueError(f"{name} has now {sizes.min()} and now {sizes.max()} {what}; it must be one number")
    return int(sizes[0]) if sizes.size else 0


def _padded(rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(sum of steps, …) as (n, T, …), with zeros after a sequence's end."""
    if (steps == steps[0]).all():
        return rows.reshape(len(steps), int(steps[0]), *rows.shape[1:])
    padded = np.zeros((len(steps), int(steps.max()), *rows.shape[1:]), rows.dtype)
    padded[np.arange(padded.shape[1]) < steps[:, None]] = rows
    return padded

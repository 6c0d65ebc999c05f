"""Runs as files that a repository can hold: one parquet for an experiment, read without a database.

A file has a row for each value: a run's texts (params, tags), its metrics, and the CSV files among its artifacts. Values stay
as MLflow has them, numbers in 64 bits, so that runs of a file and of a database are read alike.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from inn_lab.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow

PRIVATE = {"outputs", "source.root", "record", "reason", "refused"}  # no report reads them
ABSOLUTE = re.compile(r"""(?<![\w.:/~])(file:/*|~[\w.-]*)?/([^,'"\]]+/)*""")  # all of a path but its last name


@dataclass
class Stored:
    """One run as it is stored: texts by name, metrics that it has once, and metrics by epoch."""

    run_id: str
    status: str
    start: int  # milliseconds since 1970
    texts: dict[str, str]
    once: dict[str, float]
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)


def public(run: Stored) -> Stored:
    """A run without what tells of the machine that ran it.

    Left out are the params `outputs` and `source.root`, the tags `record`, `reason` and `refused`, and (by `tracking.read`)
    MLflow's own tags, which name the user and the command. Of an absolute path in any other text the last name is left.
    """
    texts = {key: ABSOLUTE.sub("", text) for key, text in run.texts.items() if key not in PRIVATE}
    return Stored(run.run_id, run.status, run.start, texts, run.once, run.epochs)


def load(file: Path) -> list[Stored]:
    """The runs of a file, none where there is no file. Raises ConfigError for a file that is none of ours."""
    table = _table(file, ["run_id", "kind", "key", "step", "number", "text"])
    runs: dict[str, Stored] = {}
    if table is None:
        return []
    for run_id, kind, key, step, number, text in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        if kind == "run":
            runs[run_id] = Stored(run_id, text, step, {}, {})
        elif run_id not in runs:
            raise ConfigError(f"{file} begins in the middle of run {run_id}; take it from git again, or export its runs again")
        elif kind == "text":
            runs[run_id].texts[key] = text
        elif kind == "once":
            runs[run_id].once[key] = number
        elif kind == "epoch":
            runs[run_id].epochs.setdefault(step, {})[key] = number
    return list(runs.values())


def artifacts(file: Path, name: str) -> dict[str, str | None]:
    """Of each run of a file its CSV file `name`, as text, by run_id; None of a run that has none."""
    table = _table(file, ["run_id", "kind", "key", "csv"])
    if table is None:
        return {}
    rows = list(zip(*(table[column].to_pylist() for column in table.column_names), strict=True))
    found: dict[str, str | None] = {run_id: None for run_id, kind, _, _ in rows if kind == "run"}
    return found | {run_id: csv for run_id, kind, key, csv in rows if kind == "csv" and key == name}


def save(file: Path, runs: Iterable[Stored], csv: Mapping[str, Mapping[str, str]]) -> int:
    """Adds the runs that the file does not have, `csv[name][run_id]` with them; says how many. Those that it has keep their
    place. Raises ConfigError where the file cannot be read or written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    there = {run.run_id for run in load(file)}
    new = sorted((public(run) for run in runs if run.run_id not in there), key=lambda run: (run.start, run.run_id))
    if not new:
        return 0
    rows: list[tuple[str | int | float | None, ...]] = []
    for run in new:
        rows.append((run.run_id, "run", None, run.start, None, run.status, None))
        rows += [(run.run_id, "text", key, None, None, text, None) for key, text in run.texts.items()]
        rows += [(run.run_id, "once", key, None, number, None, None) for key, number in run.once.items()]
        keys = sorted({key for values in run.epochs.values() for key in values})
        for key in keys:  # a metric's values below each other: neighbours are alike, and pack better
            values = ((epoch, run.epochs[epoch][key]) for epoch in sorted(run.epochs) if key in run.epochs[epoch])
            rows += [(run.run_id, "epoch", key, epoch, number, None, None) for epoch, number in values]
        for name, texts in csv.items():
            rows += [(run.run_id, "csv", name, None, None, None, texts[run.run_id])] if run.run_id in texts else []
    schema = _schema()
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    added = pa.Table.from_arrays(columns, schema=schema)
    before = _table(file, schema.names)
    whole = added if before is None else pa.concat_tables([before, added])
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            whole,
            part,
            compression="zstd",
            compression_level=19,
            write_page_checksum=True,
            use_dictionary=["run_id", "kind", "key", "text"],
            column_encoding={"number": "BYTE_STREAM_SPLIT"},  # bytes of one weight together: zeros of what was float32 vanish
        )
        part.replace(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror or error}); make room, or export elsewhere") from error
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)
    return len(new)


def _schema() -> "pyarrow.Schema":
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    names = {"run_id": text, "kind": text, "key": text, "step": pa.int64(), "number": number, "text": text, "csv": text}
    return pa.schema(names)


def _table(file: Path, columns: list[str]) -> "pyarrow.Table | None":
    """Columns of a file; None where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.exists():
        return None
    try:
        found = pq.ParquetFile(file, page_checksum_verification=True)
        schema = found.schema_arrow
        if schema.names != _schema().names or schema.types != _schema().types:
            raise ConfigError(f"{file} has not the columns of exported runs ({', '.join(_schema().names)}); export them again")
        return found.read(columns)
    except (pa.ArrowException, OSError) as error:
        said = str(error).splitlines()[0][:150]
        raise ConfigError(f"{file} cannot be read ({said}); take it from git again, or export its runs again") from error

"""Runs as a DataFrame, and the tables that they left among their artifacts."""

import io
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from inn_lab.errors import ConfigError
from inn_lab.tracking import export
from inn_lab.tracking.export import Stored
from inn_lab.tracking.store import asking, client, reader, why

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

BY_EPOCH = ("train/", "val/", "time/")  # metrics with a value for each epoch; all others have one for the run


def read(outputs: str | Path | None, experiment: str, files: Sequence[Path] = ()) -> pd.DataFrame:
    """All jobs of an experiment, one row for each run and epoch: those of the database in `outputs` (None: of no database) and
    those of exported `files`. A run that is in both counts once.

    Columns: `run_id`, `status`, `epoch`, the params and tags by name, the metrics by name. Metrics that a run has once (test/…,
    model/…) stand in each of its rows. A run without epochs (an undefined one) has one row, its `epoch` missing, and one that
    has not ended yet no `state`. Empty where the experiment has no jobs yet, or there is no database; none is made. Raises
    ConfigError if MLflow does not answer, or a file cannot be read.
    """
    runs = stored(outputs, experiment, files)
    return pd.DataFrame([row for run in runs for row in _rows(run)]).apply(numbers)


def stored(outputs: str | Path | None, experiment: str, files: Sequence[Path] = ()) -> list[Stored]:
    """The runs that `read` makes a table of, the newest first."""
    runs: dict[str, Stored] = {}
    if outputs is not None and (there := reader(outputs)) is not None:
        with asking(outputs):
            runs = {run.run_id: run for run in _of_mlflow(there, experiment)}
    for file in files:
        for run in export.load(file):
            runs.setdefault(run.run_id, run)
    return sorted(runs.values(), key=lambda run: (-run.start, run.run_id))


def _rows(run: Stored) -> list[dict[str, object]]:
    start = pd.to_datetime(run.start, unit="ms")
    common = {"run_id": run.run_id, "status": run.status, "start": start, "state": None, **run.texts, **run.once}
    return [{**common, "epoch": epoch, **run.epochs[epoch]} for epoch in sorted(run.epochs)] or [common]


def _of_mlflow(there: "MlflowClient", experiment: str) -> Iterator[Stored]:
    found = there.get_experiment_by_name(experiment)
    for run in jobs(there, [found.experiment_id] if found else []):
        metrics = run.data.metrics
        once = {key: value for key, value in metrics.items() if not key.startswith(BY_EPOCH)}
        one = Stored(run.info.run_id, run.info.status, run.info.start_time, said(run), once)
        for key in sorted(metrics.keys() - once.keys()):
            for point in there.get_metric_history(run.info.run_id, key):
                one.epochs.setdefault(point.step, {})[key] = point.value
        yield one


def jobs(there: "MlflowClient", experiment_ids: list[str], beginning: str = "") -> Iterator["MlflowRun"]:
    """The jobs' runs of these experiments whose ids begin so."""
    what, token = "tags.job LIKE '%'" + f" AND attributes.run_id LIKE '{beginning}%'" * bool(beginning), None
    while experiment_ids:
        page = there.search_runs(experiment_ids, what, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            break


def said(run: "MlflowRun") -> dict[str, str]:
    """A run's params, and its tags but MLflow's own."""
    return {**run.data.params, **{key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}}


def meaning(text: str) -> float | str | None:
    """A value, however it is written: 1e-3 is 0.001, True is true; null, None and missing values are None."""
    with suppress(ValueError):
        value = float(text)
        return None if math.isnan(value) else value if math.isfinite(value) else text
    word = text.lower()
    return None if word in ("null", "none") else word if word in ("true", "false") else text


def table(outputs: str | Path | None, run_ids: Iterable[str], name: str, files: Sequence[Path] = ()) -> pd.DataFrame:
    """The CSV file `name` of each run that has one, below each other; the column `run_id` says whose. Places are those of
    `read`. Raises ConfigError if MLflow does not answer, or a file is none."""
    parts = []
    for run_id, text in texts(outputs, run_ids, name, files).items():
        try:
            part = pd.read_csv(io.StringIO(text))
        except ValueError as error:  # empty, torn
            raise _unread(name, run_id, error) from error
        part.insert(0, "run_id", run_id)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["run_id"])


def texts(outputs: str | Path | None, run_ids: Iterable[str], name: str, files: Sequence[Path] = ()) -> dict[str, str]:
    """The CSV file `name` of each run that has one, as text, by run_id."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file
    exported = {run_id: text for file in files for run_id, text in export.artifacts(file, name).items()}
    found: dict[str, str | None] = {}
    for run_id in run_ids:
        if run_id in exported:
            found[run_id] = exported[run_id]
        elif outputs is not None:
            with asking(outputs), tempfile.TemporaryDirectory() as folder:
                if any(file.path == name for file in client(outputs).list_artifacts(run_id)):
                    path = Path(client(outputs).download_artifacts(run_id, name, folder))
                    try:
                        found[run_id] = path.read_text(encoding="utf-8")
                    except ValueError as error:  # no text
                        raise _unread(name, run_id, error) from error
    return {run_id: text for run_id, text in found.items() if text is not None}


def _unread(name: str, run_id: str, error: Exception) -> ConfigError:
    ways = "delete that run in MLflow, and the same command runs it again"
    return ConfigError(f"{name} of run {run_id} cannot be read ({why(error)}); {ways}")


def numbers(column: pd.Series) -> pd.Series:
    """MLflow keeps params as text: a column of which every value that is there is a number becomes one of numbers."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    there = column.replace("null", None)
    numbers = pd.to_numeric(there, errors="coerce")
    return numbers if numbers.notna().equals(there.notna()) else column

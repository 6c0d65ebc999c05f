"""Runs as a DataFrame, and the tables that they left among their artifacts."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from inn_lab.errors import ConfigError
from inn_lab.tracking.store import asking, client, reader, why

if TYPE_CHECKING:
    from mlflow import MlflowClient

BY_EPOCH = ("train/", "val/", "time/")  # metrics with a value for each epoch; all others have one for the run


def read(outputs: str | Path, experiment: str) -> pd.DataFrame:
    """All jobs of an experiment, one row for each run and epoch.

    Columns: `run_id`, `status`, `epoch`, the params and tags by name, the metrics by name. Metrics that a run has once (test/…,
    model/…) stand in each of its rows. A run without epochs (an undefined one) has one row, its `epoch` missing, and one that
    has not ended yet no `state`. Empty where the experiment has no jobs yet, or there is no database; none is made. Raises
    ConfigError if MLflow does not answer.
    """
    there = reader(outputs)
    if there is None:
        return pd.DataFrame()
    with asking(outputs):
        return pd.DataFrame(_rows(there, experiment)).apply(_numbers)


def _rows(there: "MlflowClient", experiment: str) -> Iterator[dict[str, object]]:
    found = there.get_experiment_by_name(experiment)
    token = None
    while found:
        page = there.search_runs([found.experiment_id], "tags.job LIKE '%'", max_results=1000, page_token=token)
        for run in page:
            metrics = run.data.metrics
            tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
            once = {key: value for key, value in metrics.items() if not key.startswith(BY_EPOCH)}
            start = pd.to_datetime(run.info.start_time, unit="ms")
            common = {"run_id": run.info.run_id, "status": run.info.status, "start": start, "state": None}
            common |= {**run.data.params, **tags, **once}
            epochs: dict[int, dict[str, float]] = {}
            for key in metrics.keys() - once.keys():
                for point in there.get_metric_history(run.info.run_id, key):
                    epochs.setdefault(point.step, {})[key] = point.value
            yield from [{**common, "epoch": epoch, **epochs[epoch]} for epoch in sorted(epochs)] or [common]
        token = page.token
        if not token:
            break


def table(outputs: str | Path, run_ids: Iterable[str], name: str) -> pd.DataFrame:
    """The CSV file `name` of each run that has one, below each other; the column `run_id` says whose. Raises ConfigError if
    MLflow does not answer, or a file is none."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file
    parts = []
    for run_id in run_ids:
        with asking(outputs), tempfile.TemporaryDirectory() as folder:
            if any(file.path == name for file in client(outputs).list_artifacts(run_id)):
                try:
                    part = pd.read_csv(client(outputs).download_artifacts(run_id, name, folder))
                except ValueError as error:  # empty, torn, no text
                    ways = "delete that run in MLflow, and the same command runs it again"
                    raise ConfigError(f"{name} of run {run_id} cannot be read ({why(error)}); {ways}") from error
                part.insert(0, "run_id", run_id)
                parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["run_id"])


def _numbers(column: pd.Series) -> pd.Series:
    """MLflow keeps params as text: a column of which every value that is there is a number becomes one of numbers."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    there = column.replace("null", None)
    numbers = pd.to_numeric(there, errors="coerce")
    return numbers if numbers.notna().equals(there.notna()) else column

"""All that touches MLflow: a run is written here, and read back as a DataFrame.

Without MLFLOW_TRACKING_URI the runs go to `outputs/mlflow.db` (SQLite) and their files to `outputs/artifacts/`.
"""

import functools
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pandas as pd
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from inn_lab.config import ConfigError
from inn_lab.signals import Interrupted

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
PARENT = "mlflow.parentRunId"  # MLflow's own tag: its UI nests by it
BY_EPOCH = ("train/", "val/", "time/")  # metrics with a value for each epoch; all others have one for the run


def uri(outputs: str | Path) -> str:
    """Where the runs are: MLFLOW_TRACKING_URI, else the SQLite file in `outputs`, by its absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{Path(outputs).resolve() / 'mlflow.db'}"


@functools.cache
def _client(where: str) -> "MlflowClient":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not where.startswith(SQLITE):
        return MlflowClient(where)
    database = Path(where.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):  # two processes that make the tables at once break the database
        return MlflowClient(where)


def client(outputs: str | Path) -> "MlflowClient":
    """The client for `uri(outputs)`; makes the folder and the database where there are none."""
    return _client(uri(outputs))


def experiment_id(outputs: str | Path, name: str) -> str:
    """The id of the MLflow experiment `name`, which is made if there is none. Raises ConfigError if MLflow does not answer."""
    from mlflow.exceptions import MlflowException

    try:
        if found := client(outputs).get_experiment_by_name(name):
            return found.experiment_id
        local = uri(outputs).startswith(SQLITE)
        files = (Path(outputs).resolve() / "artifacts").as_uri() if local else None
        return client(outputs).create_experiment(name, artifact_location=files)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"MLflow at {uri(outputs)} does not answer ({reason}); see MLFLOW_TRACKING_URI and outputs"
        ) from error


class Run:
    """One MLflow run, as a context: FINISHED at its end, FAILED after an exception, KILLED after a signal; never left RUNNING.

    The tag `state` says the same in the lab's words: finished, failed, killed, or *undefined* for a job whose model or data
    cannot be built from its configuration.
    """

    def __init__(self, outputs: str | Path, experiment: str, name: str, tags: Mapping[str, str]) -> None:
        self._client = client(outputs)
        run = self._client.create_run(experiment_id(outputs, experiment), run_name=name, tags=dict(tags))
        self.id = run.info.run_id

    def params(self, cfg: DictConfig) -> None:
        """Logs the resolved configuration: every key as a param, and the whole as config.yaml."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in flat(cfg).items()]
        for start in range(0, len(params), 100):  # MLflow takes 100 at a time
            self._client.log_batch(self.id, params=params[start : start + 100])
        self._client.log_text(self.id, OmegaConf.to_yaml(cfg, resolve=True), "config.yaml")

    def metrics(self, values: Mapping[str, float], epoch: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[Metric(key, float(value), now, epoch) for key, value in values.items()])

    def tag(self, **tags: str) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def file(self, path: Path) -> None:
        self._client.log_artifact(self.id, str(path))

    def end(self, status: str, state: str) -> None:
        self.tag(state=state)
        self._client.set_terminated(self.id, status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.end("FINISHED", "finished")
        elif issubclass(kind, Interrupted | KeyboardInterrupt | SystemExit):
            self.end("KILLED", "killed")
        else:
            self.tag(reason=f"{kind.__name__}: {error}"[:500])
            self.end("FAILED", "failed")


@contextmanager
def sweep(cfg: DictConfig, jobs: int) -> Iterator[Run]:
    """The parent run of a sweep, opened before its first job (and with it the database, so that no two jobs make it)."""
    overrides = " ".join(cfg.hydra.overrides.task)
    tags = {"sweep": sweep_id(cfg.hydra), "jobs": str(jobs), "commit": commit(), "overrides": overrides}
    with Run(cfg.outputs, experiment_name(cfg.hydra), f"sweep of {jobs}: {overrides}"[:200], tags) as run:
        yield run


def sweep_id(hydra: DictConfig) -> str:
    """The name of the sweep's folder, which its parent run and its jobs share."""
    return Path(hydra.sweep.dir).name


def parent(outputs: str | Path, experiment: str, sweep: str) -> tuple[str, int]:
    """(run id, number of jobs) of a sweep's parent run."""
    where = [experiment_id(outputs, experiment)]
    found = client(outputs).search_runs(where, f"tags.sweep = '{sweep}' and tags.jobs LIKE '%'")
    return found[0].info.run_id, int(found[0].data.tags["jobs"])


def experiment_name(hydra: DictConfig) -> str:
    """An MLflow experiment is named as the YAML in conf/experiment; runs without one are `adhoc`."""
    return hydra.runtime.choices.get("experiment") or "adhoc"


def flat(cfg: DictConfig, path: str = "") -> dict[str, object]:
    """{"R": 0.2, "model.init": "normal", …}, interpolations resolved."""
    values = {}
    for key, value in cfg.items():
        if isinstance(value, DictConfig):
            values |= flat(value, f"{path}{key}.")
        else:
            values[f"{path}{key}"] = "null" if value is None else value
    return values


@functools.cache
def commit() -> str:
    """The git commit of the lab's code, with -dirty where the files differ from it; unknown outside a repository."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def read(outputs: str | Path, experiment: str) -> pd.DataFrame:
    """All jobs of an experiment, one row for each run and epoch.

    Columns: `run_id`, `status`, `epoch`, the params and tags by name, the metrics by name. Metrics that a run has once (test/…,
    model/…) stand in each of its rows. A run without epochs (an undefined one) has one row, its `epoch` missing. Empty where
    the experiment has no jobs yet.
    """
    found = client(outputs).get_experiment_by_name(experiment)
    rows: list[dict[str, object]] = []
    token = None
    while found:
        page = client(outputs).search_runs([found.experiment_id], "tags.job LIKE '%'", max_results=1000, page_token=token)
        for run in page:
            metrics = run.data.metrics
            tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
            once = {key: value for key, value in metrics.items() if not key.startswith(BY_EPOCH)}
            start = pd.to_datetime(run.info.start_time, unit="ms")
            common = {"run_id": run.info.run_id, "status": run.info.status, "start": start, **run.data.params, **tags, **once}
            epochs: dict[int, dict[str, float]] = {}
            for key in metrics.keys() - once.keys():
                for point in client(outputs).get_metric_history(run.info.run_id, key):
                    epochs.setdefault(point.step, {})[key] = point.value
            rows += [{**common, "epoch": epoch, **epochs[epoch]} for epoch in sorted(epochs)] or [common]
        token = page.token
        if not token:
            break
    return pd.DataFrame(rows).apply(_numbers)


def _numbers(column: pd.Series) -> pd.Series:
    """MLflow keeps params as text: a column of which every value that is there is a number becomes one of numbers."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    there = column.replace("null", None)
    numbers = pd.to_numeric(there, errors="coerce")
    return numbers if numbers.notna().equals(there.notna()) else column

"""Where the runs are: the MLflow client, its database, and the names that runs are found by.

Without MLFLOW_TRACKING_URI the runs go to `outputs/mlflow.db` (SQLite) and their files to `outputs/artifacts/`.
"""

import contextlib
import functools
import logging
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from omegaconf import DictConfig

from inn_lab.config import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"


def uri(outputs: str | Path) -> str:
    """Where the runs are: MLFLOW_TRACKING_URI, else the SQLite file in `outputs`, by its absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{Path(outputs).resolve() / 'mlflow.db'}"


@functools.cache
def _client(where: str) -> "MlflowClient":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the journal tries again later, and training goes on
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # what it raises is told in one line, see Journal
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not where.startswith(SQLITE):
        return MlflowClient(where)
    database = Path(where.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):  # two processes that make the tables at once break the database
        found = MlflowClient(where)
        if _on_a_local_disk(database):  # write-ahead: readers and a writer side by side; it needs memory that all can see
            with contextlib.closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        return found


def _on_a_local_disk(path: Path) -> bool:
    """Whether Linux says so; elsewhere nothing is known, and False."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    under = [(len(point), kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    network = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "fuse.sshfs", "afs", "9p")
    return bool(under) and not max(under)[1].startswith(network)


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


def experiment_name(hydra: DictConfig) -> str:
    """An MLflow experiment is named as the YAML in conf/experiment; runs without one are `adhoc`."""
    return hydra.runtime.choices.get("experiment") or "adhoc"


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

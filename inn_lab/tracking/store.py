"""Where the runs are: the MLflow client, its database, and the names that runs are found by.

Without MLFLOW_TRACKING_URI the runs go to `outputs/mlflow.db` (SQLite) and their files to `outputs/artifacts/`.
"""

import contextlib
import functools
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from omegaconf import DictConfig

from inn_lab.errors import ConfigError
from inn_lab.explain import question

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = "mlflow.note.content"  # MLflow's own tag: the description of an experiment or a run, in Markdown
SQLITE = "sqlite:///"
# Of MLflow's error codes those that will be the same next time: what it was sent is at fault, or the run is gone.
REFUSALS = {"BAD_REQUEST", "INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
LOCAL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "reiserfs", "tmpfs", "xfs", "zfs"}


def uri(outputs: str | Path) -> str:
    """Where the runs are: MLFLOW_TRACKING_URI, else the SQLite file in `outputs`, by its absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{Path(outputs).resolve() / 'mlflow.db'}"


def place(outputs: str | Path) -> str:
    """`uri(outputs)` as it is printed and stored: without a user's name and password."""
    return without_password(uri(outputs))


def without_password(text: str) -> str:
    """A text without the names and passwords of its addresses: http://host for http://user:password@host."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


@functools.cache
def _client(where: str) -> "MlflowClient":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the journal tries again later, and training goes on
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # what is raised is told in one line, see Journal
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not where.startswith(SQLITE):
        return MlflowClient(where)
    database = Path(where.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):  # two processes that make the tables at once break the database
        with contextlib.closing(sqlite3.connect(database)) as connection:  # what is locked or damaged MLflow tries for minutes
            # Write-ahead: readers and a writer side by side; it needs memory that all can see.
            connection.execute("PRAGMA journal_mode=WAL" if _on_a_local_disk(database) else "PRAGMA schema_version")
        return MlflowClient(where)


def _on_a_local_disk(path: Path) -> bool:
    """Whether Linux says that it lies on a file system that only this machine sees; elsewhere nothing is known, and False."""
    try:
        mounts = Path("/proc/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    under = []  # the mounts above it; the innermost counts, and of two on one point the later
    for number, line in enumerate(mounts):
        _, point, kind, *_ = line.split()
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)  # a blank is \040
        if path.resolve().is_relative_to(point):
            under.append((len(point), number, kind))
    return bool(under) and max(under)[2] in LOCAL


def client(outputs: str | Path) -> "MlflowClient":
    """The client for `uri(outputs)`; makes the folder and the database where there are none. Raises ConfigError if MLflow does
    not answer."""
    try:
        return _client(uri(outputs))
    except OSError:
        raise  # the folder's
    except Exception as error:  # of a database that is locked, damaged or another version's: sqlite3's, SQLAlchemy's, MLflow's
        raise unanswered(outputs, error) from error


def reader(outputs: str | Path) -> "MlflowClient | None":
    """The client where there is something to read; None where there is no database. Makes nothing."""
    where = uri(outputs)
    if where.startswith(SQLITE) and not Path(where.removeprefix(SQLITE)).exists():
        return None
    return client(outputs)


def refused(error: Exception) -> bool:
    """Whether MLflow has answered that it does not take this, and will not when it is asked again."""
    if isinstance(error, FileNotFoundError):
        return True  # a file of the record is gone
    if "DatabaseError)" in str(error):
        return False  # a damaged database; MLflow calls that BAD_REQUEST
    answer = getattr(error, "response", None)  # an artifact store's, by HTTP: a bad request, or a file that is too large
    return getattr(error, "error_code", None) in REFUSALS or getattr(answer, "status_code", None) in (400, 413)


def why(error: Exception | str) -> str:
    """The first line of what MLflow says, cut to a line's length."""
    said = [line for line in str(error).splitlines() if not line.startswith("(raised as a result of")]  # SQLAlchemy's preface
    return without_password(said[0])[:200] if said else type(error).__name__


class Unanswered(ConfigError):
    """MLflow does not answer, whatever it is asked."""


def unanswered(outputs: str | Path, error: Exception) -> Unanswered:
    """The message for an MLflow that does not answer."""
    return Unanswered(f"MLflow at {place(outputs)} does not answer ({why(error)}); see MLFLOW_TRACKING_URI and outputs")


@contextlib.contextmanager
def asking(outputs: str | Path) -> Iterator[None]:
    """Inside, an MLflow that does not answer raises ConfigError."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise unanswered(outputs, error) from error


def experiment_id(outputs: str | Path, name: str) -> str:
    """The id of the MLflow experiment `name`, which is made if there is none, and described by what its YAML asks. Raises
    ConfigError if MLflow does not answer, or somebody has deleted the experiment there."""
    from mlflow.exceptions import MlflowException

    with asking(outputs):
        found = client(outputs).get_experiment_by_name(name)
        if found is None:
            local = uri(outputs).startswith(SQLITE)
            files = (Path(outputs).resolve() / "artifacts").as_uri() if local else None
            try:
                asked, _ = question(name)
                described = {NOTE: asked} if asked else None
                made = client(outputs).create_experiment(name, artifact_location=files, tags=described)
                jobs = Path(outputs) / "jobs" / name
                if any(jobs.glob("*/delivered.json")):
                    print(f"MLflow at {place(outputs)} has no {name} yet: it is told what {jobs} holds", flush=True)
                return made
            except MlflowException as error:
                found = client(outputs).get_experiment_by_name(name)  # another process may have been quicker
                if found is None:
                    raise error
        if found.lifecycle_stage == "active":
            if NOTE not in found.tags and (asked := question(name)[0]):  # made by a lab that described none
                client(outputs).set_experiment_tag(found.experiment_id, NOTE, asked)
            return found.experiment_id
        raise ConfigError(
            f"experiment={name}: it was deleted in MLflow at {place(outputs)}, and takes no runs; restore it "
            f"(mlflow experiments restore -x {found.experiment_id}), or set another outputs"
        )


def experiment_name(hydra: DictConfig) -> str:
    """An MLflow experiment is named as the YAML in conf/experiment; runs without one are `adhoc`, those of debug=… `debug`, so
    that no report draws them."""
    choices = hydra.runtime.choices
    return "debug" if choices.get("debug") else choices.get("experiment") or "adhoc"

"""`inn-lab ui`: MLflow's pages on the lab's runs, and how to reach them."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from inn_lab import config
from inn_lab.errors import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient

FIRST = 5000
NEWEST = 5  # experiments that are named
ADDRESS = "ui"  # the file in outputs that says where the server is to be seen
WAIT = 2  # seconds for it
# Without it MLflow opens its pages on language models, where no run is to be seen. Neither the server nor a tag changes that.
PAGE = "workflowType=machine_learning"


def server() -> bool:
    """Whether an MLflow server holds the runs, and not a file."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://"))


def address(outputs: Path, run_id: str) -> str | None:
    """Where MLflow's page of a run is to be seen now; None if no server that is known has it: neither MLFLOW_TRACKING_URI's nor
    the last one of `inn-lab ui`."""
    from urllib.request import urlopen

    from inn_lab import tracking

    if server():
        return tracking.place(outputs).rstrip("/")
    with suppress(OSError, ValueError):  # no such file, nobody listens, or somebody else
        there = (outputs / ADDRESS).read_text().strip()
        with urlopen(f"{there}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=WAIT):
            return there
    return None


def free_port(first: int = FIRST) -> int:
    """The first port from `first` on that nobody listens on. Raises ConfigError where a hundred are taken."""
    for port in range(first, first + 100):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise ConfigError(f"no port is free from {first} to {first + 99}; end one of the programs that listen there")


def runs(address: str, there: "MlflowClient") -> list[str]:
    """Links to the runs of the experiments that ran last, the newest first, and how many others there are."""
    newest = [
        (run.info.start_time, experiment)
        for experiment in there.search_experiments()
        for run in there.search_runs([experiment.experiment_id], max_results=1)
    ]
    newest.sort(key=lambda found: found[0], reverse=True)
    named = [experiment for _, experiment in newest[:NEWEST]]
    width = max((len(experiment.name) for experiment in named), default=0)
    lines = [f"    {it.name:{width}}  {address}/#/experiments/{it.experiment_id}/runs?{PAGE}" for it in named]
    if more := len(newest) - len(named):
        lines.append(f"    and {more} more: {address}/#/experiments, once Model training is clicked there")
    return lines or ["    no runs yet; run one: python -m inn_lab"]


def tunnel(port: int) -> list[str]:
    """How to come to this machine, where it is a remote one."""
    from inn_lab import tracking

    if "SSH_CONNECTION" not in os.environ:
        return []
    machine = os.environ["SSH_CONNECTION"].split()[2]
    return [
        "This machine is a remote one; on yours, run",
        f"    ssh -N -L {port}:127.0.0.1:{port} {tracking.user()}@{machine}",
        "and open the same addresses there.",
    ]


def main() -> None:
    """Says where the runs are to be seen and, where they are in a file, starts a server. Exit code 2 where MLflow does not
    answer (a line says why)."""
    from inn_lab import tracking

    try:
        outputs = config.outputs()
        there = tracking.client(outputs)  # makes the database where there is none
        port = None if server() else free_port()
        place = f"http://127.0.0.1:{port}" if port else tracking.place(outputs).rstrip("/")
        with tracking.asking(outputs):
            lines = [f"MLflow: {place}  ({'Ctrl-C ends it' if port else 'MLFLOW_TRACKING_URI'})", *runs(place, there)]
    except ConfigError as error:
        stop(str(error))
    except OSError as error:
        stop(f"outputs cannot be written: {error}; make room, change the permissions, or set INN_LAB_OUTPUTS")
    print("\n".join([*lines, *(tunnel(port) if port else [])]), flush=True)
    if port:
        (Path(outputs) / ADDRESS).write_text(place)
        os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven more processes that the lab has no use for
        os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking.uri(outputs)  # as an argument all could see the password in it
        mlflow = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--port", str(port)]
        os.execv(sys.executable, mlflow)


def stop(what: str) -> NoReturn:
    print(f"ui: {what}", file=sys.stderr)
    sys.exit(2)

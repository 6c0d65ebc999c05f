"""`python -m inn_lab.ui` (`make ui`): MLflow's pages on the lab's runs, and how to reach them."""

import getpass
import os
import socket
import sys
from pathlib import Path

FIRST = 5000


def address() -> str | None:
    """Of the MLflow server that holds the runs; None where they are in a file."""
    where = os.environ.get("MLFLOW_TRACKING_URI", "")
    return where if where.startswith(("http://", "https://")) else None


def free_port(first: int = FIRST) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, first + 100):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError(f"no port is free from {first} to {first + 99}")


def announce(port: int) -> str:
    lines = [f"MLflow: http://127.0.0.1:{port}  (Ctrl-C ends it)"]
    if "SSH_CONNECTION" in os.environ:
        machine = os.environ["SSH_CONNECTION"].split()[2]
        lines += [
            "This machine is a remote one; on yours, run",
            f"    ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{machine}",
        ]
        lines += ["and open the same address there."]
    return "\n".join(lines)


def main() -> None:
    from inn_lab import config, tracking

    if address():
        print(f"MLflow: {tracking.place('')}  (MLFLOW_TRACKING_URI)")
        return
    try:
        outputs = config.outputs()
        tracking.client(outputs)  # makes the database where there is none
    except config.ConfigError as error:
        sys.exit(f"ui: {error}")
    port = free_port()
    print(announce(port), flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven more processes that the lab has no use for
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking.uri(outputs)  # not as an argument, which all can see: a password is in it
    os.execv(mlflow, [mlflow, "ui", "--port", str(port)])


if __name__ == "__main__":
    main()

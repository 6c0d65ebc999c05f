"""All that touches MLflow: a run is written here, and read back as a DataFrame."""

from inn_lab.tracking.journal import deliver, record_of, recover
from inn_lab.tracking.run import PARENT, Run, parent, sweep
from inn_lab.tracking.store import client, commit, experiment_id, experiment_name, short, uri
from inn_lab.tracking.table import read, table

__all__ = [
    "PARENT",
    "Run",
    "client",
    "commit",
    "deliver",
    "experiment_id",
    "experiment_name",
    "parent",
    "read",
    "record_of",
    "recover",
    "short",
    "sweep",
    "table",
    "uri",
]

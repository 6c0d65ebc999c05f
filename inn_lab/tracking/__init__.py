"""All that touches MLflow: a run is written here, and read back as a DataFrame."""

from inn_lab.tracking.journal import about, deliver, knows, recover
from inn_lab.tracking.run import PARENT, Run, parent, sweep
from inn_lab.tracking.store import client, commit, experiment_id, experiment_name, uri
from inn_lab.tracking.table import read, table

__all__ = [
    "PARENT",
    "Run",
    "about",
    "client",
    "commit",
    "deliver",
    "experiment_id",
    "experiment_name",
    "knows",
    "parent",
    "read",
    "recover",
    "sweep",
    "table",
    "uri",
]

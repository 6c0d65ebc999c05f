"""All that touches MLflow: a run is written here, and read back as a DataFrame."""

from inn_lab.tracking.journal import recover
from inn_lab.tracking.run import PARENT, Run, parent, source, sweep, take_over, user
from inn_lab.tracking.store import Unanswered, asking, client, experiment_id, experiment_name, place, reader, uri
from inn_lab.tracking.table import read, table

__all__ = [
    "PARENT",
    "Run",
    "Unanswered",
    "asking",
    "client",
    "experiment_id",
    "experiment_name",
    "parent",
    "place",
    "read",
    "reader",
    "recover",
    "source",
    "sweep",
    "table",
    "take_over",
    "uri",
    "user",
]

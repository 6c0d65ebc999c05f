"""All that touches MLflow: a run is written here, read back as a DataFrame, and exported to files."""

from inn_lab.tracking.export import save
from inn_lab.tracking.journal import recover, series
from inn_lab.tracking.kept import settle, weights_of
from inn_lab.tracking.run import PARENT, Run, parent, source, sweep, take_over, user
from inn_lab.tracking.store import NOTE, Unanswered, asking, client, experiment_id, experiment_name, place, reader, uri
from inn_lab.tracking.table import meaning, numbers, read, stored, table, texts

__all__ = [
    "NOTE",
    "PARENT",
    "Run",
    "Unanswered",
    "asking",
    "client",
    "experiment_id",
    "experiment_name",
    "meaning",
    "numbers",
    "parent",
    "place",
    "read",
    "reader",
    "recover",
    "save",
    "series",
    "settle",
    "source",
    "stored",
    "sweep",
    "table",
    "take_over",
    "texts",
    "uri",
    "user",
    "weights_of",
]

"""A job's run, and a sweep's, as the rest of the lab logs to them."""

import getpass
import json
import math
import os
import shlex
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from inn_lab.config import flat
from inn_lab.errors import ConfigError
from inn_lab.identity import Code
from inn_lab.records import Outcome, Record, write_atomically
from inn_lab.signals import Interrupted
from inn_lab.tracking.journal import Journal
from inn_lab.tracking.store import experiment_name

PARENT = "mlflow.parentRunId"  # MLflow's own tag: its UI nests by it
PATIENCE = 30  # seconds that a job which has ended waits for MLflow; what isn't delivered then, the next command delivers


class Run:
    """One MLflow run, as a context: FINISHED at its end, FAILED after an exception, KILLED after a signal.

    All that it logs is written to the record's journal first, and from there to MLflow; while MLflow does not answer, the job
    goes on and the journal waits (see `recover`). A run that was cut off goes on under the same id: what it has logged before,
    an epoch's metrics for instance, is not logged again.

    The tag `state` says how the job ended in the lab's words; see `records.Outcome`. MLflow's own tags say who started it.
    """

    def __init__(self, record: Record, outputs: str | Path, experiment: str, name: str, tags: Mapping[str, str | None]) -> None:
        self.record = record
        self.latest: dict[str, float] = {}  # each metric's last value
        self.outcome: Outcome | None = None  # once it has ended
        self._journal = Journal(record, outputs, experiment)
        self._logged = set()
        for entry in self._journal.entries:
            if entry["do"] == "metrics":
                self.latest |= entry["values"]
                self._logged |= {(key, entry["epoch"]) for key in entry["values"]}
        attempts = 1 + sum(entry["do"] == "start" for entry in self._journal.entries)
        more = {"attempts": str(attempts), "mlflow.user": user()}
        self._write("start", name=name, tags={**of_all_sweeps(tags, self._journal), **more})

    def _write(self, what: str, patience: float = 0, **entry: object) -> None:
        self._journal.write(what, **entry)
        self._journal.deliver(patience)

    @property
    def id(self) -> str | None:
        """MLflow's; None until it has answered."""
        return self._journal.run_id

    @property
    def seconds(self) -> float:
        """How long the job has run, over all attempts."""
        total = start = last = 0
        for entry in self._journal.entries:
            if entry["do"] == "start":
                total, start = total + last - start, entry["time"]
            last = entry["time"]
        return (total + last - start) / 1000

    def params(self, cfg: DictConfig) -> None:
        """Logs the resolved configuration: every key as a param, and the whole as config.yaml. Once, however many attempts."""
        if any(entry["do"] == "params" for entry in self._journal.entries):
            return
        values = {key: "null" if value is None else str(value) for key, value in flat(cfg).items()}
        self._write("params", values=values, text=OmegaConf.to_yaml(cfg, resolve=True))

    def sizes(self, values: Mapping[str, float]) -> None:
        """Logs how large data and model are: as params, for MLflow draws a chart of every metric. Once, as `params`."""
        if not any(entry["do"] == "params" and values.keys() <= entry["values"].keys() for entry in self._journal.entries):
            self._write("params", values={key: _plain(value) for key, value in values.items()})

    def data(self, name: str, digest: str, drawn_by: str) -> None:
        """Logs the data set of the job. digest: a hash of at most 36 characters, which the same data have in common; drawn_by:
        the class that draws them. Once, as `params`."""
        if not any(entry["do"] == "data" for entry in self._journal.entries):
            self._write("data", name=name, digest=digest, drawn_by=drawn_by)

    def metrics(self, values: Mapping[str, float], epoch: int = 0) -> None:
        new = {key: float(value) for key, value in values.items() if (key, epoch) not in self._logged}
        self.latest |= new
        self._logged |= {(key, epoch) for key in new}
        if new:
            self._write("metrics", values=new, epoch=epoch)

    def tag(self, **tags: str) -> None:
        if tags:
            self._write("tags", tags={key: str(value) for key, value in tags.items()})

    def file(self, name: str, write: Callable[[Path], object]) -> None:
        """An artifact, which `write` makes at the path that it gets."""
        kept = self.record.folder / "files" / name
        kept.parent.mkdir(exist_ok=True)
        write(kept)
        self._write("file", name=name)

    def table(self, name: str, table: pd.DataFrame) -> None:
        """An artifact NAME.csv."""
        self.file(f"{name}.csv", lambda path: table.to_csv(path, index=False))

    def end(self, status: str, state: str, reason: str | None = None) -> Outcome:
        if reason:
            self._journal.write("tags", tags={"reason": reason[:5000]})
        self._write("end", PATIENCE if status != "KILLED" else 0, status=status, state=state)
        by, accuracy, here = self.record.about, self.latest.get("test/acc_end"), str(self.record.folder)
        self.outcome = Outcome(state, accuracy, self.seconds, reason, by.get("commit"), by.get("code"), self.id, record=here)
        return self.outcome

    def failed(self, error: BaseException) -> Outcome:
        """Ends the run as FAILED; the traceback goes to a file of the record and of MLflow's run."""
        text = "".join(traceback.format_exception(error))
        self.file("traceback.txt", lambda path: path.write_text(text))
        return self.end("FAILED", "failed", f"{type(error).__name__}: {error}".splitlines()[0][:500])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.outcome:
            return
        if error is None:
            self.end("FINISHED", "finished")
        elif isinstance(error, Interrupted | KeyboardInterrupt | SystemExit):
            self.end("KILLED", "killed", f"stopped by {error}")
        else:
            self.failed(error)


def user() -> str:
    """Who runs the lab; a number where the machine knows no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # which one depends on Python's version
        return str(os.getuid())


def source(words: Iterable[str]) -> dict[str, str]:
    """MLflow's tags for where a run comes from: the command, of whose words these are the lab's."""
    return {"mlflow.source.name": shlex.join(["python", "-m", "inn_lab", *words]), "mlflow.source.type": "LOCAL"}


def _plain(value: float) -> str:
    """A number as text: a whole one without a point, and what is none as null, which reads back as missing."""
    number = float(value)
    return "null" if math.isnan(number) else str(int(number)) if number.is_integer() else str(number)


def of_all_sweeps(tags: Mapping[str, str | None], journal: Journal) -> dict[str, str]:
    """Tags, of which `sweep` names all sweeps that the job has been in, the first one first. None is left out: the parent run's
    id, where MLflow has refused that run."""
    known = {key: value for key, value in tags.items() if value is not None}
    before = [entry["tags"]["sweep"] for entry in journal.entries if "sweep" in entry.get("tags", ())]
    names = dict.fromkeys(" ".join([*before, known.get("sweep", "")]).split())
    return {**known, "sweep": " ".join(names)} if "sweep" in known else known


def take_over(outputs: str | Path, record: Record, tags: Mapping[str, str | None]) -> None:
    """A job that is done already is the child of the sweep that asks for it, with these tags. MLflow is brought up to date."""
    journal = Journal(record, outputs, record.about["experiment"])
    tags = of_all_sweeps(tags, journal)
    known = {key: value for entry in journal.entries for key, value in entry.get("tags", {}).items()}
    if any(known.get(key) != value for key, value in tags.items()):
        journal.write("tags", tags=tags)
    journal.deliver()


@contextmanager
def sweep(cfg: DictConfig, record: Record, code: Code, jobs: int, axes: Sequence[str] = ()) -> Iterator[Run]:
    """The parent run of a sweep of so many jobs, opened before the first one.

    axes: the keys that vary among the jobs, by which the runs are named.

    Raises ConfigError while it is running elsewhere.
    """
    overrides, experiment = " ".join(cfg.hydra.overrides.task), experiment_name(cfg.hydra)
    folder = Path(cfg.hydra.sweep.dir)
    tags = {"sweep": folder.name, "jobs": str(jobs), "commit": code.name, "overrides": overrides}
    tags |= source([*cfg.hydra.overrides.task, "-m"])
    with record.mine() as mine:
        if not mine:
            raise ConfigError(
                f"this sweep is running already (its record is {record.folder}); wait for it, or set resume=false"
            )
        name = " · ".join(filter(None, [experiment, " × ".join(axes), f"{jobs} job{'s' * (jobs != 1)}"]))
        with Run(record, cfg.outputs, experiment, name, tags) as run:
            parent = {"run_id": run.id, "command": uuid.uuid4().hex, "axes": list(axes)}
            write_atomically(folder / "parent.json", json.dumps(parent).encode())
            yield run


def parent(sweep_folder: str | Path) -> dict[str, Any]:
    """From a sweep's folder: `run_id`, of its parent run; `command`, a name that no other command has; and `axes`, the keys
    that vary among its jobs."""
    return json.loads((Path(sweep_folder) / "parent.json").read_text())

"""From a job's journal to MLflow, whenever it answers."""

import errno
import json
import os
import time
import uuid
from pathlib import Path

from inn_lab import signals
from inn_lab.config import ConfigError
from inn_lab.identity import Code
from inn_lab.records import Record, find, read_json, unfinished, write_atomically
from inn_lab.tracking.store import client, experiment_id, unanswered, uri


class Journal:
    """A record's journal, and how much of it MLflow holds. Delivering an entry twice changes nothing."""

    def __init__(self, record: Record, outputs: str | Path, experiment: str) -> None:
        self._record, self._outputs, self._experiment = record, outputs, experiment
        self.entries = self._read()
        delivered = read_json(record.delivered) or {}
        self.run_id = delivered.get("run_id") if delivered.get("uri") == uri(outputs) else None
        # A journal that a power cut shortened holds less than MLflow heard: what is written next is new to it all the same.
        self._done = min(delivered.get("entries", 0), len(self.entries)) if self.run_id else 0
        self._quiet_until, self._pause, self._said = 0.0, 5.0, False

    def _read(self) -> list[dict]:
        """What is written. A last line that was cut off, as by a kill or a full disk, is cut away."""
        path = self._record.journal
        if not path.exists():
            return []
        entries, whole = [], 0
        with path.open("rb") as file:
            for line in file:
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    break
                whole += len(line)
        if whole < path.stat().st_size:
            os.truncate(path, whole)
        return entries

    @property
    def open(self) -> bool:
        """Whether an attempt was begun and not ended."""
        return next((e["do"] == "start" for e in reversed(self.entries) if e["do"] in ("start", "end")), False)

    def write(self, what: str, **entry: object) -> None:
        entry = {"do": what, "time": int(time.time() * 1000), **entry}
        self._record.pending.touch()
        line = (json.dumps(entry) + "\n").encode()
        with self._record.journal.open("ab", buffering=0) as file:
            whole = file.tell()
            if file.write(line) < len(line):  # the disk is full; half a line would spoil what comes after it
                file.truncate(whole)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._record.journal))
        self.entries.append(entry)

    def deliver(self, patience: float = 0) -> bool:
        """Brings MLflow up to date, trying for `patience` seconds; False if it didn't answer, which is said once.

        An attempt may take seconds: after one that failed, the next calls without patience make none for a while.
        """
        from mlflow.exceptions import MlflowException

        deadline = time.monotonic() + patience
        if not patience and time.monotonic() < self._quiet_until:
            return False
        while True:
            try:
                while self._done < len(self.entries):
                    with signals.held():
                        self._send(self.entries[self._done])
                        self._done += 1
                        state = {"uri": uri(self._outputs), "run_id": self.run_id, "entries": self._done}
                        write_atomically(self._record.delivered, json.dumps(state).encode(), sync=False)
                if not self.open:
                    self._record.pending.unlink(missing_ok=True)
                return True
            except (MlflowException, ConfigError, OSError) as error:
                if not self._said:
                    self._said = True
                    why = error if isinstance(error, ConfigError) else unanswered(self._outputs, error)
                    print(f"{why}; what it shall hold waits on disk", flush=True)
                self._pause = min(2 * self._pause, 60)
                self._quiet_until = time.monotonic() + self._pause
                if time.monotonic() >= deadline:
                    return False
                time.sleep(1)

    def _send(self, entry: dict) -> None:
        from mlflow.entities import Metric, Param, RunTag

        to = client(self._outputs)
        match entry["do"]:
            case "start":
                self._start(entry)
            case "params":
                params = [Param(key, value) for key, value in entry["values"].items()]
                for first in range(0, len(params), 100):  # MLflow takes 100 at a time
                    to.log_batch(self.run_id, params=params[first : first + 100])
                to.log_text(self.run_id, entry["text"], "config.yaml")
            case "metrics":
                now, epoch = entry["time"], entry["epoch"]
                to.log_batch(self.run_id, metrics=[Metric(key, value, now, epoch) for key, value in entry["values"].items()])
            case "tags":
                to.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in entry["tags"].items()])
            case "file":
                to.log_artifact(self.run_id, str(self._record.folder / "files" / entry["name"]))
            case "end":
                to.log_batch(self.run_id, tags=[RunTag("state", entry["state"])])
                to.set_terminated(self.run_id, entry["status"], entry["time"])

    def _start(self, entry: dict) -> None:
        """Makes the run, or opens it again; also one that was made just before a kill, and never noted down."""
        from mlflow.entities import RunTag

        to, mark = client(self._outputs), self._record.about["id"]
        if self.run_id is None:
            where = experiment_id(self._outputs, self._experiment)
            made = to.search_runs([where], f"tags.record = '{mark}'", max_results=1)
            if not made:
                tags = {**entry["tags"], "record": mark}
                self.run_id = to.create_run(where, entry["time"], tags, entry["name"]).info.run_id
                return
            self.run_id = made[0].info.run_id
        to.update_run(self.run_id, status="RUNNING", name=entry["name"])
        to.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in entry["tags"].items()])


def recover(outputs: str | Path) -> None:
    """Tells MLflow what it has not heard yet, and how the jobs ended whose process is gone."""
    for record in unfinished(outputs):
        with record.mine() as mine:
            if not mine:
                continue  # it is running
            experiment = record.about.get("experiment")
            if experiment is None or "id" not in record.about:
                print(
                    f"{record.folder}: its about.json is damaged, so MLflow cannot be told of it; remove the folder", flush=True
                )
                continue
            if not knows(outputs, record):
                record.pending.unlink()  # somebody deleted its run
                continue
            journal = Journal(record, outputs, experiment)
            if journal.open:
                last = journal.entries[-1]["time"]  # its last sign of life: it did not run until now
                reason = "its process ended without a word (killed, or the machine went down)"
                journal.write("tags", time=last, tags={"reason": reason})
                journal.write("end", time=last, status="KILLED", state="killed")
            journal.deliver()


def knows(outputs: str | Path, record: Record) -> bool:
    """Whether MLflow has the record's run, or has yet to hear of it: not where somebody has deleted it.

    True where MLflow doesn't answer.
    """
    from mlflow.exceptions import MlflowException

    delivered = read_json(record.delivered) or {}
    if delivered.get("uri") != uri(outputs):
        return True
    try:
        return client(outputs).get_run(delivered["run_id"]).info.lifecycle_stage == "active"
    except ConfigError:
        return True
    except MlflowException as error:
        return error.error_code != "RESOURCE_DOES_NOT_EXIST"


def record_of(
    outputs: str | Path, experiment: str, identity: str, resume: bool | str, code: Code, command: str | None = None
) -> Record:
    """The record of a job or of a sweep, see `records.find`; a new one where somebody has deleted its run in MLflow.

    `resume=False` counts once a command: a retry, or a job that a cluster starts again, goes on with what its command made.
    """
    about = {"id": uuid.uuid4().hex, "experiment": experiment, "commit": code.name, "code": code.digest, "command": command}
    found = find(outputs, experiment, identity, about, resume, command)
    return found if knows(outputs, found) else find(outputs, experiment, identity, about, resume=False)

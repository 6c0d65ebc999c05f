"""From a job's journal to MLflow, whenever it answers."""

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inn_lab import signals
from inn_lab.errors import ConfigError
from inn_lab.records import Record, read_json, unfinished, write_atomically
from inn_lab.tracking.store import client, experiment_id, place, refused, unanswered, why, without_password

NAME = 250  # characters of a run's name that every database takes


class Journal:
    """A record's journal, and how much of it MLflow holds. Delivering an entry twice changes nothing.

    What MLflow refuses is named in a line, in `delivered.json` and in the run's tag `refused`, and left out; the journal keeps
    it. What it does not answer to waits, and so does all that follows.
    """

    def __init__(self, record: Record, outputs: str | Path, experiment: str) -> None:
        self._record, self._outputs, self._experiment = record, outputs, experiment
        told = read_json(record.delivered) or {}
        self.run_id: str | None = told.get("run_id") if here(told, outputs) else None
        self.entries, whole = self._read()
        # A journal that a power cut shortened holds less than MLflow heard: what is written next is new to it all the same.
        self._done = min(told.get("entries", 0), len(self.entries)) if self.run_id and whole else 0
        self._refused = told.get("refused", []) if self.run_id else []
        self._heard = bool(told)  # whether an MLflow has heard of it before: if that is another than this one, it is said
        self._asked = self.run_id is None  # whether this one still has it
        self._over = self._said = False
        self._quiet_until, self._pause = 0.0, 5.0

    def _read(self) -> tuple[list[dict], bool]:
        """The entries of the file, and whether they are all that were ever written.

        A last line that was cut off, as by a kill or a full disk, is removed. Damaged lines are left out; a line says so once,
        and the file as it was is kept beside.
        """
        path = self._record.journal
        content = path.read_bytes() if path.exists() else b""
        *lines, last = content.split(b"\n")
        if last and _entry(last):  # only its end of line is missing
            lines.append(last)
            with path.open("ab") as file:
                file.write(b"\n")
        elif last:
            os.truncate(path, len(content) - len(last))
        entries = [entry for line in lines if (entry := _entry(line))]
        if len(entries) == len(lines):
            return entries, True
        if entries and entries[0]["do"] != "start":
            entries.insert(0, {"do": "start", "time": entries[0]["time"], "name": self._record.folder.name, "tags": {}})
        kept = path.with_suffix(".damaged")
        write_atomically(kept, content)
        write_atomically(path, b"".join(map(_line, entries)))
        print(f"{path}: damaged lines are left out, {len(entries)} stand; {kept.name} is the file as it was", flush=True)
        return entries, False

    @property
    def open(self) -> bool:
        """Whether an attempt was begun and not ended."""
        return next((e["do"] == "start" for e in reversed(self.entries) if e["do"] in ("start", "end")), False)

    def write(self, what: str, **entry: object) -> None:
        line = _line({"do": what, "time": int(time.time() * 1000), **entry})
        self._record.pending.touch()
        with self._record.journal.open("ab", buffering=0) as file:
            whole = file.tell()
            if file.write(line) < len(line):  # the disk is full; half a line would spoil what comes after it
                file.truncate(whole)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._record.journal))
        self.entries.append(json.loads(line))  # what is delivered now is what would be delivered later

    def deliver(self, patience: float = 0) -> bool:
        """Brings MLflow up to date, trying for `patience` seconds; returns whether MLflow has answered.

        An attempt may take seconds: after one that failed, the next calls without patience make none for a while. Where MLflow
        does not answer, or refuses the run as a whole, that is said once, and the next command tries again.
        """
        deadline = time.monotonic() + patience
        if self._over or (not patience and time.monotonic() < self._quiet_until):
            return self._over
        while True:
            try:
                with signals.held():
                    self._ask()
                while self._done < len(self.entries):
                    with signals.held():
                        self._send(self.entries[self._done])
                        self._done += 1
                        state = {"uri": place(self._outputs), "run_id": self.run_id, "entries": self._done}
                        state["refused"] = self._refused
                        write_atomically(self._record.delivered, json.dumps(state).encode(), sync=False)
                if not self.open:
                    self._record.pending.unlink(missing_ok=True)
                return True
            except Exception as error:  # MLflow's, the database's, the artifact store's: the job goes on, whatever it is
                if refused(error):
                    self._over = True
                    self._print_refusal("this run", error)
                    return True
                if not self._said:
                    self._said = True
                    what = error if isinstance(error, ConfigError) else unanswered(self._outputs, error)
                    print(f"{what}; what it shall hold waits on disk", flush=True)
                self._pause = min(2 * self._pause, 60)
                self._quiet_until = time.monotonic() + self._pause
                if time.monotonic() >= deadline:
                    return False
                time.sleep(1)

    @property
    def _run(self) -> str:
        """The run that the first entry makes, which all others are about."""
        if self.run_id is None:
            raise RuntimeError(f"{self._record.journal}: its first entry does not start a run")
        return self.run_id

    def _ask(self) -> None:
        """Finds out whether MLflow still has the run: where the database is a new one, it hears all of it."""
        if self._asked:
            return
        try:
            client(self._outputs).get_run(self._run)
        except Exception as error:
            if not refused(error):
                raise
            self.run_id, self._done, self._refused = None, 0, []
        self._asked = True

    def _send(self, entry: dict) -> None:
        from mlflow.entities import Metric, Param, RunTag

        to = client(self._outputs)
        match entry["do"]:
            case "start":
                self._start(entry)
            case "params":
                self._log("params", [Param(key, value) for key, value in entry["values"].items()])
                if "text" in entry:
                    self._offer("file config.yaml", lambda: to.log_text(self._run, entry["text"], "config.yaml"))
            case "data":
                self._offer(f"data set {entry['name']}", lambda: self._log_data(entry))
            case "metrics":
                now, epoch = entry["time"], entry["epoch"]
                self._log("metrics", [Metric(key, value, now, epoch) for key, value in entry["values"].items()])
            case "tags":
                self._log("tags", [RunTag(key, value) for key, value in entry["tags"].items()])
            case "file":
                path = str(self._record.folder / "files" / entry["name"])
                self._offer(f"file {entry['name']}", lambda: to.log_artifact(self._run, path))
            case "end":
                self._log("tags", [RunTag("state", entry["state"])])
                to.set_terminated(self._run, entry["status"], entry["time"])

    def _start(self, entry: dict) -> None:
        """Makes the run, or opens it again; also one that was made just before a kill, and never noted down."""
        from mlflow.entities import RunTag

        to, mark, name = client(self._outputs), self._record.about["id"], entry["name"][:NAME]
        new = False
        if self.run_id is None:
            where = experiment_id(self._outputs, self._experiment)
            found = to.search_runs([where], f"tags.record = '{mark}'", max_results=1)
            new = not found
            self.run_id = (found[0] if found else to.create_run(where, entry["time"], {"record": mark}, name)).info.run_id
            if new and self._heard:
                print(f"MLflow at {place(self._outputs)} has not heard of {self._record.folder}; it is told now", flush=True)
        if not new:
            to.update_run(self.run_id, status="RUNNING", name=name)
            for tag in {"state", "reason"} & to.get_run(self._run).data.tags.keys():
                to.delete_tag(self.run_id, tag)  # how an earlier attempt ended
        self._log("tags", [RunTag(key, value) for key, value in entry["tags"].items()])

    def _log(self, kind: str, items: list) -> None:
        """Params, metrics or tags, of which MLflow takes 100 at a time. A batch that is refused is halved: one item that is at
        fault takes no other with it."""
        batch: dict[str, Any] = {kind: items}
        if len(items) <= 100:
            try:
                client(self._outputs).log_batch(self._run, **batch)
                return
            except Exception as error:
                if not refused(error):
                    raise
                if len(items) == 1:
                    self._refuse(f"{kind[:-1]} {items[0].key}", error)
                    return
        half = len(items) // 2
        self._log(kind, items[:half])
        self._log(kind, items[half:])

    def _log_data(self, entry: dict) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": {"mlflow.source.name": entry["drawn_by"]}})  # as MLflow's CodeDatasetSource writes it
        used = DatasetInput(Dataset(entry["name"], entry["digest"], "code", source), [InputTag("mlflow.data.context", "data")])
        to = client(self._outputs)
        try:
            to.log_inputs(self._run, [used])
        except Exception as error:
            if not refused(error):
                raise
            to.log_inputs(self._run, [used])  # two jobs that name a new one at once are in each other's way, but not twice

    def _offer(self, what: str, send: Callable[[], object]) -> None:
        try:
            send()
        except Exception as error:
            if not refused(error):
                raise
            self._refuse(what, error)

    def _refuse(self, what: str, error: Exception) -> None:
        """Notes down what MLflow does not take. The note is a proof as well: if it takes no tag either, it is not this that it
        refuses, but the run, and that is raised."""
        known = what in self._refused
        names = self._refused if known else [*self._refused, what]
        client(self._outputs).set_tag(self._run, "refused", "; ".join(names)[:5000])
        self._refused = names
        if not known:
            self._print_refusal(f"the {what}", error)

    def _print_refusal(self, what: str, error: Exception) -> None:
        print(f"MLflow at {place(self._outputs)} refuses {what} ({why(error)}); {self._record.folder} keeps it", flush=True)


def entries(record: Record) -> Iterator[dict]:
    """What a journal holds, whoever writes to it. Damaged lines are left out."""
    content = record.journal.read_bytes() if record.journal.exists() else b""
    return filter(None, map(_entry, content.split(b"\n")))


def series(record: Record, metric: str) -> dict[int, float]:
    """What a job logged of a metric, by epoch."""
    logged = (entry for entry in entries(record) if entry["do"] == "metrics" and metric in entry["values"])
    return {entry["epoch"]: entry["values"][metric] for entry in logged}


def _entry(line: bytes) -> dict | None:
    """A line's entry; None if it is damaged."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "do" in entry and "time" in entry else None


def _line(entry: dict) -> bytes:
    """An entry's line. What is no text (half a surrogate, as in a file's name that is not UTF-8) becomes a question mark."""
    return json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n"


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
            if deleted(outputs, record):
                record.pending.unlink()
                continue
            journal = Journal(record, outputs, experiment)
            if journal.open:
                last = journal.entries[-1]["time"]  # its last sign of life: it did not run until now
                reason = "its process ended without a word (killed, or the machine went down)"
                journal.write("tags", time=last, tags={"reason": reason})
                journal.write("end", time=last, status="KILLED", state="killed")
            journal.deliver()


def here(told: dict, outputs: str | Path) -> bool:
    """Whether a `delivered.json` tells of the MLflow at hand."""
    return without_password(str(told.get("uri"))) == place(outputs)


def deleted(outputs: str | Path, record: Record) -> bool:
    """Whether somebody has deleted the record's run in MLflow. A run that stands there no more, not even as deleted, tells of a
    new database, as does one that `mlflow gc` has purged: False, as where MLflow does not answer."""
    from mlflow.exceptions import MlflowException

    told = read_json(record.delivered) or {}
    if not here(told, outputs) or "run_id" not in told:
        return False
    try:
        return client(outputs).get_run(told["run_id"]).info.lifecycle_stage == "deleted"
    except (ConfigError, MlflowException):
        return False

"""A job's folder on disk, its record: the journal, the checkpoint, and the mark that it is done.

It is `outputs/jobs/EXPERIMENT/IDENTITY`, with `-2`, `-3` … behind it for runs made afresh. IDENTITY is a hash of what the job
computes; the code that computed it stands beside it, in `about.json` (see `inn_lab.identity`). Which record a command goes on
with is decided in `inn_lab.again`.
"""

import errno
import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from inn_lab.identity import Code, short

BEAT = 10  # seconds between two signs of life
WEIGHTS = "weights.safetensors"  # the artifact that holds what was trained, see inn_lab.weights
SILENT = 60  # seconds after which a job on another machine counts as dead


@dataclass(frozen=True)
class Outcome:
    """How a job ended: finished, diverged, pruned, undefined, failed or killed; or where it stands: running elsewhere, or
    waiting."""

    state: str
    acc_end: float | None = None  # on the test data
    seconds: float | None = None  # over all attempts
    reason: str | None = None
    commit: str | None = None  # the name and the digest of the code that made it, see inn_lab.identity
    code: str | None = None
    run_id: str | None = None
    already: bool = False  # whether it had ended so before this command
    record: str | None = None  # its folder, where it has one

    def words(self, code: Code | None = None) -> str:
        """For people: "finished already by other code (1234567), test ACC_end 0.912"; `code` is that which would run it now."""
        other = self.already and code is not None and self.code != code.digest
        by = f" by other code ({short(str(self.commit))})" if other else ""
        score = "" if self.acc_end is None else f", test ACC_end {self.acc_end:.3f}"
        return self.state + " already" * self.already + by + score + f": {self.reason}" * bool(self.reason)


class Record:
    """One job's folder. Only who holds `mine` writes to it; locks are the kernel's, so that a killed process holds none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"  # what MLflow shall hold, see tracking
        self.delivered = folder / "delivered.json"  # how much of the journal it does hold
        self.pending = folder / "pending"  # there while that isn't all
        self.weights = folder / "files" / WEIGHTS
        self.checkpoint = folder / "checkpoint.pt"
        self._done = folder / "done.json"
        self._beat = folder / "heartbeat"
        self._about = folder / "about.json"

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, if there is nothing left to do. A damaged mark counts as none: the job goes on."""
        try:
            done = Outcome(**(read_json(self._done) or {}), already=True, record=str(self.folder))
        except TypeError:
            return None
        return None if done.state == "undefined" else done  # never final: what was undefined is asked again

    def finish(self, outcome: Outcome) -> None:
        """The mark that nothing is left to do. The last thing that is written."""
        kept = {key: value for key, value in asdict(outcome).items() if key not in ("already", "record")}
        write_atomically(self._done, json.dumps(kept).encode())
        self.checkpoint.unlink(missing_ok=True)

    @property
    def about(self) -> dict[str, Any]:
        return read_json(self._about) or {}

    @contextmanager
    def mine(self, patience: float = 0) -> Iterator[bool]:
        """Holds the folder, with a heartbeat; gives False where another process does, after `patience` seconds."""
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            yield False
            return
        if self._alive_elsewhere():
            lock.release()
            yield False
            return
        write_atomically(self._beat, socket.gethostname().encode(), sync=False)
        over = threading.Event()
        beat = threading.Thread(target=self._beating, args=(over,), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            over.set()
            beat.join()
            self._beat.unlink(missing_ok=True)
            lock.release()

    def _beating(self, over: threading.Event) -> None:
        """Shows other machines that the job is alive: file locks do not reach through every network's file system."""
        while not over.wait(BEAT):
            with suppress(OSError):  # a full disk stops the journal, which says so
                self._beat.touch()

    def _alive_elsewhere(self) -> bool:
        try:
            host, age = self._beat.read_text(), time.time() - self._beat.stat().st_mtime
        except OSError:
            return False
        return host != socket.gethostname() and age < SILENT


def numbered(outputs: str | Path, experiment: str, identity: str) -> list[tuple[int, Record]]:
    """A job's records and their numbers, the newest first."""
    folder = Path(outputs) / "jobs" / experiment
    names = [name for name in os.listdir(folder) if name.startswith(identity)] if folder.exists() else []
    found = {int(match[1] or 1): name for name in names if (match := re.fullmatch(rf"{identity}(?:-(\d+))?", name))}
    return [(number, Record(folder / found[number])) for number in sorted(found, reverse=True)]


def create(outputs: str | Path, experiment: str, identity: str, about: Mapping[str, Any]) -> Record | None:
    """A job's next record; None if another process has just made it."""
    base = Path(outputs) / "jobs" / experiment
    base.mkdir(parents=True, exist_ok=True)
    newest = max((number for number, _ in numbered(outputs, experiment, identity)), default=0)
    record = Record(base / (f"{identity}-{newest + 1}" if newest else identity))
    beside = base / f".{uuid.uuid4().hex}.new"  # whoever sees a record sees all of it
    beside.mkdir()
    try:
        write_atomically(Record(beside)._about, json.dumps(dict(about), indent=1).encode())
        beside.rename(record.folder)
        return record
    except OSError as error:
        shutil.rmtree(beside)
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return None


def unfinished(outputs: str | Path) -> list[Record]:
    """The records of which MLflow does not hold everything, whoever writes to them."""
    return [Record(path.parent) for path in sorted((Path(outputs) / "jobs").glob("*/*/pending"))]


def read_json(path: Path) -> dict[str, Any] | None:
    """A table from a file; None where it is missing or damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_atomically(path: Path, content: bytes | memoryview, sync: bool = True) -> None:
    """Whatever happens, `path` holds what it held before or all of `content`; with `sync` also after a power cut."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    if sync and os.name == "posix":  # the rename itself
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

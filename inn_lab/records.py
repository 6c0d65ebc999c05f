"""What lies on disk of each job: its journal, its checkpoint, and the mark that it is done. Everything else can be lost.

A job's folder is `outputs/jobs/EXPERIMENT/IDENTITY`, with `-2`, `-3` … behind it for runs made afresh. IDENTITY is a hash of
what the job computes (see `config.identity`); the version of the code stands beside it, in `about.json`.
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

BEAT = 10  # seconds between two signs of life
SILENT = 60  # seconds after which a job on another machine counts as dead


@dataclass(frozen=True)
class Outcome:
    """How a job ended: finished, diverged, undefined, failed or killed; or where it stands: running elsewhere, or waiting."""

    state: str
    acc_end: float | None = None  # on the test data
    seconds: float | None = None  # over all attempts
    reason: str | None = None
    commit: str | None = None
    run_id: str | None = None
    already: bool = False  # whether it had ended so before this command


class Record:
    """One job's folder. Only who holds `mine` writes to it; locks are the kernel's, so that a killed process holds none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"  # what MLflow shall hold, see tracking
        self.delivered = folder / "delivered.json"  # how much of the journal it does hold
        self.pending = folder / "pending"  # there while that isn't all
        self.checkpoint = folder / "checkpoint.pt"
        self._done = folder / "done.json"
        self._beat = folder / "heartbeat"
        self._about = folder / "about.json"

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, if there is nothing left to do. A damaged mark counts as none: the job goes on."""
        done = read_json(self._done)
        try:
            return Outcome(**done, already=True) if done else None
        except TypeError:
            return None

    def finish(self, outcome: Outcome) -> None:
        """The mark that nothing is left to do. The last thing that is written."""
        kept = {key: value for key, value in asdict(outcome).items() if key != "already"}
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


def find(outputs: str | Path, experiment: str, identity: str, about: Mapping[str, Any], resume: bool) -> Record:
    """The record of a job: the newest there is, or a new one if there is none, or `resume` is false.

    What was cut off under another version of the code (about["commit"]) does not go on under this one: it starts afresh.
    Processes that ask at once get the same one.
    """
    base = Path(outputs) / "jobs" / experiment
    base.mkdir(parents=True, exist_ok=True)
    while True:
        found = {
            int(match[1] or 1): path
            for path in base.glob(f"{identity}*")
            if (match := re.fullmatch(rf"{identity}(?:-(\d+))?", path.name))
        }
        newest = max(found, default=0)
        if newest and resume:
            record = Record(found[newest])
            if record.outcome or record.about.get("commit") == about["commit"]:
                return record
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
            # another process was quicker: what is there now?


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


def write_atomically(path: Path, content: bytes, sync: bool = True) -> None:
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

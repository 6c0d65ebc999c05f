"""Drawn data and trained networks that several jobs need: the first job makes them, the others read them."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock, Timeout

from inn_lab import seeding, standing
from inn_lab.records import write_atomically

T = TypeVar("T")

PATIENCE = 10.0  # seconds that a job waits for another one before it says so: for a training, not for some images


def digest(device: torch.device, *what: torch.Tensor | str | None) -> str:
    """Of all that a thing follows from: what is given, torch's version and the kind of device."""
    found = hashlib.blake2b(f"{torch.__version__} {device.type}".encode(), digest_size=8)
    for part in what:
        found.update(part.numpy().data if isinstance(part, torch.Tensor) else str(part).encode())
    return found.hexdigest()


class Shared:
    """A folder `folder/DIGEST` of tensors: who has the same `digest` has the same tensors. It can be deleted at any time.

    What is read is mapped into memory: jobs that run side by side hold it once. The global generators are as before, whether a
    thing was made or read; while it is made, they draw from its own stream.
    """

    def __init__(self, folder: Path, digest: str, device: torch.device) -> None:
        self.folder, self.digest, self._device = folder / digest, digest, device

    def once(self, name: str, make: Callable[[], T]) -> T:
        """The result of `make` (tensors in lists and tables): read from its file, or made now. A damaged file is made anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.pt"
        with _held(path):
            if path.exists():
                try:
                    return torch.load(path, map_location=self._device, mmap=True, weights_only=True)
                except Exception as error:  # whatever a damaged file makes of itself
                    print(f"{path} cannot be read ({type(error).__name__}): it is made anew", flush=True)
            with seeding.aside(int(self.digest, 16), name):
                made, content = make(), io.BytesIO()
            torch.save(made, content)
            write_atomically(path, content.getbuffer(), sync=False)
            return made


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Holds a file's lock. A job that has to wait for it says so."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        with standing.waiting(path.stem):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()

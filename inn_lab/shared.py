"""What jobs have in common, drawn data or a trained network: made by the first that needs it, read by the others."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock

from inn_lab import data, seeding
from inn_lab.records import write_atomically

T = TypeVar("T")


class Shared:
    """A folder `folder/DIGEST` of tensors that follow from `what`; the code that draws them counts too.

    What is read is mapped into memory: jobs that run side by side hold it once. The folder can be deleted at any time.
    The global generators are as before, whether a thing was made or read; while it is made, they draw from its own stream.
    """

    def __init__(self, folder: Path, device: torch.device, *what: torch.Tensor | str | None) -> None:
        digest = hashlib.blake2b(f"{torch.__version__} {device.type}".encode(), digest_size=8)
        for path in (*sorted(Path(data.__file__).parent.glob("*.py")), Path(seeding.__file__)):
            digest.update(path.read_bytes())
        for part in what:
            digest.update(part.numpy() if isinstance(part, torch.Tensor) else str(part).encode())
        self.folder, self._device = folder / digest.hexdigest(), device

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returns (tensors in lists and tables): from its file, or made now. A damaged file is made anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.pt"
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                try:
                    return torch.load(path, map_location=self._device, mmap=True, weights_only=True)
                except Exception as error:  # whatever a damaged file makes of itself
                    print(f"{path} cannot be read ({type(error).__name__}): it is made anew", flush=True)
            with seeding.aside(int(self.folder.name, 16), name):
                made, content = make(), io.BytesIO()
            torch.save(made, content)
            write_atomically(path, content.getbuffer(), sync=False)
            return made

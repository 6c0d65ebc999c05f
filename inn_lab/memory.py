"""How much memory there is, and whether what a job will hold at least fits into it: asked before any of it is taken."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from inn_lab.errors import NotHere

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # what a container may take
NUMBER = 4  # bytes; the lab computes in float32


def there(device: torch.device) -> int:
    """The bytes of a device: of a GPU its own, of the CPU the machine's, or fewer where a container has a limit.

    All of them, whether they are free or not: so a command is answered in the same way each time.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [Path(path).read_text().strip() for path in LIMITS if Path(path).is_file()]
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *(int(v) for v in limits if v.isdecimal())])


def fits(what: str, numbers: float, device: torch.device, sizes: Mapping[str, object]) -> None:
    """Raises NotHere if so many numbers are more than the device holds.

    sizes: the keys that they come from, with their values; those that are None do not count.
    """
    taken, has = numbers * NUMBER, there(device)
    if taken > has:
        keys = ", ".join(f"{key}={value}" for key, value in sizes.items() if value is not None)
        where = "this machine" if device.type == "cpu" else f"trainer.device={device.index}"
        raise NotHere(f"{keys}: {what} would take {told(taken)} of memory, and {where} has {told(has)}; set a smaller size")


def told(n: float) -> str:
    return f"{n / 1e9:,.1f} GB" if n < 1e15 else f"{n / 1e9:.0e} GB"

"""This machine: its cores, its processor, its memory, and whether what a job will hold fits into it."""

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from inn_lab.errors import NotHere

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # what a container may take
NUMBER = 4  # bytes; the lab computes in float32


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tags(device: torch.device) -> dict[str, str]:
    """The tags of a run that takes times. With their dots they are settings to a report: it never mixes two machines."""
    if device.type == "cuda":
        return {"machine.processor": torch.cuda.get_device_name(device), "machine.threads": str(torch.get_num_threads())}
    info = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    processor = name[1] if name else platform.processor() or platform.machine()
    return {"machine.processor": processor, "machine.threads": str(torch.get_num_threads())}


def memory(device: torch.device) -> int:
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
    taken, has = numbers * NUMBER, memory(device)
    if taken > has:
        keys = ", ".join(f"{key}={value}" for key, value in sizes.items() if value is not None)
        where = "this machine" if device.type == "cpu" else f"trainer.device={device.index}"
        raise NotHere(f"{keys}: {what} would take {told(taken)} of memory, and {where} has {told(has)}; set a smaller size")


def told(n: float) -> str:
    return f"{n / 1e9:,.1f} GB" if n < 1e15 else f"{n / 1e9:.0e} GB"

"""How long a training step takes, and how much memory: measured in a process of its own, on one batch.

Run as a module, this is that process: it reads a task from its standard input and answers on its standard output.
"""

import ctypes
import gc
import json
import pickle
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inn_lab import machine
from inn_lab.config import Terms
from inn_lab.linear import Activation, from_entries
from inn_lab.models.base import Model
from inn_lab.ranges import Many, Seconds
from inn_lab.seeding import generator
from inn_lab.studies import ModelJob
from inn_lab.studies.clock import WARM, times
from inn_lab.training.objectives import Objective
from inn_lab.training.optimizers import on_device, scaled
from inn_lab.training.replay import BEFORE, Replay, changed

FORGET = Path("/proc/self/clear_refs")  # Linux: writing 5 sets the highest memory so far to what is held now


@Terms(timed=True)
def time_step(job: ModelJob, repeats: Many, seconds: Seconds) -> None:
    """Logs what a training step of the job costs (see `measure`), and the machine as tags.

    The first training batch is all that is trained on; there is no validation and no test. `repeats` steps are timed, fewer
    where they take longer than `seconds`, at least 3.
    """
    x, y = next(iter(job.data.batches("train")))  # (B, T, I), (B,)
    values = in_child(
        {
            "make": job.make, "seed": job.cfg.seed, "objective": job.objective, "x": x, "y": y,
            "device": job.device, "optimizer": job.optimizer, "repeats": repeats, "seconds": seconds,
            "replays": job.device.type != "cpu" and job.cfg.trainer.cuda_graph == "auto",
        }
    )  # fmt: skip
    job.run.tag(**machine.tags(job.device))
    job.run.metrics(values)
    if job.cfg.trainer.progress:
        peak = f"{values['memory/peak_mb']:,.0f} MB" if "memory/peak_mb" in values else "peak not known on this system"
        replayed = f"{values['speed/replayed_ms']:,.2f} ms replayed, " if "speed/replayed_ms" in values else ""
        print(f"{job.title} · {values['speed/step_ms']:,.1f} ms a step, {replayed}{peak}", flush=True)


def in_child(task: dict[str, Any]) -> dict[str, float]:
    """`measure(**task)` in a fresh process: the jobs of a sweep share one, whose memory tells of all of them.

    Raises RuntimeError, with the process's last words, if it doesn't answer.
    """
    done = subprocess.run([sys.executable, "-m", __name__], input=pickle.dumps(task), capture_output=True)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        why = (
            "killed, most likely because the memory ran out" if done.returncode == -9 else words[-1] if words else "no message"
        )
        raise RuntimeError(f"the process that times a step ended with code {done.returncode}: {why}")
    *said, answer = done.stdout.decode().splitlines()
    for line in said:
        print(line, flush=True)
    return json.loads(answer)


def measure(
    make: Callable[..., Model],
    seed: int,
    objective: Objective,
    x: Tensor,
    y: Tensor,
    device: torch.device,
    optimizer: Callable[..., torch.optim.Optimizer],
    repeats: int,
    seconds: float,
    replays: bool = False,
) -> dict[str, float]:
    """Builds a model, trains it on one batch x (B, T, I), y (B,), and returns the costs.

    A step is zero_grad, forward, loss, backward and the optimizer's step, in float32, as `training.module` does it.

    `speed/step_ms`, `speed/step_ms_min`: the median and the least of the steps timed; `speed/repeats`: how many those are.
    With `replays` also `speed/replayed_ms` and `speed/replayed_ms_min`, of the step as a GPU repeats it (`training.replay`),
    the batch's way to its place included; a line says why where it cannot.
    `memory/peak_mb`: the most memory held (MB = 10⁶ bytes) while the model is built and takes its first two steps, above what
    is held before: the batch, Python, torch and numba are not counted. What a process pays once, whatever the model (threads,
    workspaces, compiled kernels), is paid on a tiny matrix before. On the CPU it is resident memory, and is left out where the
    system isn't Linux; on CUDA, torch's own count of tensors.
    """
    warm_up(device)
    before = start_of_peak(device)
    model = make(generator=generator(seed, "model")).to(device)
    of_model = scaled(optimizer(model.parameters()), model)

    on_device(of_model, device)

    def step(x: Tensor, y: Tensor) -> None:
        of_model.zero_grad()
        objective.loss(objective.read(model(x), x), y).backward()
        of_model.step()

    def taken(work: Callable[[Tensor, Tensor], None], name: str) -> dict[str, float]:
        found = times(partial(work, x, y), repeats, seconds, device)
        return {f"speed/{name}_ms": statistics.median(found), f"speed/{name}_ms_min": min(found), "speed/repeats": len(found)}

    for _ in range(WARM):
        step(x, y)
    peak = {} if before is None else {"memory/peak_mb": (highest(device) - before) / 1e6}
    values = {**taken(step, "step"), **peak}
    if replays:
        replay = Replay(step, partial(changed, model, of_model), lambda why: print(f"no replayed step is timed: {why}"))
        for _ in range(BEFORE):
            replay(x, y)
        if replay.on:
            values = {**taken(replay, "replayed"), **values}
    return values


def warm_up(device: torch.device) -> None:
    """A step of a 4 × 8 matrix, sparse."""
    matrix = from_entries("csr", 4, 8, torch.arange(32), torch.ones(32)).to(device)
    optimizer = torch.optim.Adam(matrix.parameters(), fused=True)
    matrix.iterate(torch.ones(2, 3, 4, device=device), None, Activation(("relu", 3), ("linear", 1)), 1).sum().backward()
    optimizer.step()


def start_of_peak(device: torch.device) -> int | None:
    """Forgets how much memory was ever held, and returns how much is held now, in bytes; None where that is not known."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not FORGET.exists():
        return None
    # glibc keeps what is freed; what is taken from there next would not show.
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    FORGET.write_text("5")
    return highest(device)


def highest(device: torch.device) -> int:
    """The most memory held since `start_of_peak`, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])


if __name__ == "__main__":
    print(json.dumps(measure(**pickle.load(sys.stdin.buffer))))

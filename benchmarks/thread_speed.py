"""The cost of threads that spin: a training step of two jobs at once, for each way in which their threads may wait.

    python -m benchmarks.thread_speed [--seconds 5] [--rounds 3] [--jobs 2]

Each job is what a library's user writes: it imports torch and then inn_lab (or the other way round), and uses as many threads
as torch does by default. *spinning* is GNU OpenMP's default; there it is set in the environment, so that `inn_lab/_openmp.py`
does not change it. An INN of 100,000 weights at R = 0.2, batch 32, ten images of 2500 pixels: forward, backward and Adam.
Median of the timed steps. The ways take turns, so that other work of the machine affects all of them.
"""

import argparse
import os
import statistics
import subprocess
import sys

import torch

from benchmarks.common import count, made_on, positive, step_times
from inn_lab import machine
from inn_lab.models import INN
from inn_lab.seeding import generator

BATCH, STEPS, INPUTS, OUTPUTS = 32, 10, 2500, 10
# What a job imports first, and the turns that its threads spin where it says so itself.
WAYS = {"spinning": ("torch", "300000"), "torch first": ("torch", None), "inn_lab first": ("inn_lab", None)}


def job(seconds: float) -> None:
    """Says that it is ready, waits for a line, and says the median milliseconds of a step."""
    draw = generator(0, "data")
    x, y = torch.randn(BATCH, STEPS, INPUTS, generator=draw), torch.randint(OUTPUTS, (BATCH,), generator=draw)
    model = INN(INPUTS, OUTPUTS, n_weights=100_000, R=0.2, generator=generator(0, "model"))
    step_times(model, x, y, 0)
    print("ready", flush=True)
    sys.stdin.readline()
    print(statistics.median(step_times(model, x, y, seconds)), flush=True)


def together(way: str, jobs: int, seconds: float) -> list[float]:
    """The median milliseconds of a step in each of `jobs` processes that begin at the same time."""
    first, turns = WAYS[way]
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment |= {"GOMP_SPINCOUNT": turns} if turns else {}
    command = [sys.executable, "-c", f"import {first}; from benchmarks.thread_speed import job; job({seconds})"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=environment, **pipes) for _ in range(jobs)]
    for process in running:
        process.stdout.readline()
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return [float(process.communicate()[0]) for process in running]


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step of two jobs at once, by how their threads wait.")
    parser.add_argument("--seconds", type=positive, default=5, help="for each way and round")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--jobs", type=count, default=2)
    options = parser.parse_args()
    rows = []
    for number in range(options.rounds):
        for way in WAYS:
            for ms in together(way, options.jobs, options.seconds):
                rows.append(
                    {"round": number, "way": way, "jobs": options.jobs, "step_ms": ms, **machine.tags(torch.device("cpu"))}
                )
    for way in WAYS:
        found = sorted(row["step_ms"] for row in rows if row["way"] == way)
        print(f"{way:16}{statistics.median(found):10.1f} ms   ({found[0]:.1f} … {found[-1]:.1f})")
    print(made_on("thread_speed", rows))


if __name__ == "__main__":
    main()

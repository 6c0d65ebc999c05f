"""The cost of a pattern that changes: RigL and gradual pruning on sparse matrices, and on dense ones with masks.

    python -m benchmarks.rewiring_speed [--weights 1000000] [--seconds 5] [--ways csr masked]

An INN of 2,500 inputs and 10 outputs at R = 0.05; batch 32, ten images. A step is forward, backward and Adam. Each way is
measured in a process of its own:

- `csr`: the lab's sparse matrix. `masked`: a dense matrix, masked once a pass. `stepwise`: masked at each of the ten products.
- `static`: the pattern stays. `rigl`: it changes every 100 steps. `gradual`: from R = 1 to 0.05 in four changes; a row is the
  time at one density. With masks each density costs what `static` does, so it is not measured.

step_ms: the least of the ordinary steps. change_ms: what a change costs more than a step, its after-effect on the next step
included, the least of three. mean_ms: a step with its share of a change. peak_mb: the most memory held above what the process
held before, two steps and one change included.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.common import count, made_on, positive
from inn_lab import machine
from inn_lab.models import INN
from inn_lab.seeding import generator
from inn_lab.studies.clock import WARM, times
from inn_lab.studies.time_step import highest, start_of_peak, warm_up
from inn_lab.training.rewiring import Gradual, Method, RigL

BATCH, STEPS, INPUTS, OUTPUTS, R = 32, 10, 2500, 10, 0.05
EVERY, ROUNDS = 100, 3
CPU = torch.device("cpu")
WAYS = ("csr", "masked", "stepwise")
METHODS: dict[str, Method | None] = {
    "static": None,
    "rigl": RigL(steps=1000 * EVERY, every=EVERY),
    "gradual": Gradual(steps=4 * EVERY, every=EVERY, end=1.0, R=R),
}


def network(linear: str, n_weights: int, gradual: bool) -> INN:
    """Of so many weights at R = 0.05, or of its size at R = 1."""
    size = INN(INPUTS, OUTPUTS, n_weights=n_weights, R=R, generator=None)
    density = 1.0 if gradual else R
    return INN(INPUTS, OUTPUTS, depth=size.depth, R=density, linear=linear, generator=generator(0, "model"))


def measure(linear: str, name: str, n_weights: int, seconds: float) -> list[dict[str, object]]:
    """The rows of one way and method, measured in this process."""
    draw, method = generator(0, "data"), METHODS[name]
    x = torch.randn(BATCH, STEPS, INPUTS, generator=draw)
    y = torch.randint(OUTPUTS, (BATCH,), generator=draw)
    warm_up(CPU)
    before = start_of_peak(CPU)
    model = network(linear, n_weights, name == "gradual")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(number: int = 1) -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x)[:, -1], y)
        if method is None:
            loss.backward()
        else:
            with method.around(number, model, optimizer):
                loss.backward()
        optimizer.step()

    def change(number: int) -> float:
        """The milliseconds of a step that changes the pattern and of the one after it."""
        start = time.perf_counter()
        step(number)
        step()
        return 1000 * (time.perf_counter() - start)

    def row(change_ms: float) -> dict[str, object]:
        step_ms = min(times(step, 1000, seconds, CPU))
        extra = max(0.0, change_ms - 2 * step_ms)
        return {
            "linear": linear,
            "method": name,
            "weights": model.n_weights,
            "step_ms": step_ms,
            "change_ms": extra,
            "mean_ms": step_ms + extra / EVERY,
            "peak_mb": float("nan") if before is None else (highest(CPU) - before) / 1e6,
            **machine.tags(CPU),
        }

    for _ in range(WARM):
        step()
    if name == "rigl":
        return [row(min(change(EVERY * number) for number in range(1, ROUNDS + 1)))]
    if name == "gradual":
        return [row(change(EVERY * number)) for number in range(5)]
    return [row(0.0)]


def measured(ways: list[str], n_weights: int, seconds: float) -> Iterator[dict[str, object]]:
    context = multiprocessing.get_context("spawn")
    for linear in ways:
        for name in METHODS:
            if name == "gradual" and linear != "csr":
                continue
            with ProcessPoolExecutor(1, mp_context=context) as child:  # its peak of memory is its own
                yield from child.submit(measure, linear, name, n_weights, seconds).result()


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps of networks whose pattern changes, sparse and by masks.")
    parser.add_argument("--weights", type=count, default=1_000_000)
    parser.add_argument("--seconds", type=positive, default=5, help="for each time")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    rows = []
    numbers = ("step_ms", "change_ms", "mean_ms", "peak_mb")
    print(f"{'':20}{'weights':>12}" + "".join(f"{name:>12}" for name in numbers))
    for row in measured(given.ways, given.weights, given.seconds):
        rows.append(row)
        figures = "".join(f"{row[name]:12,.1f}" for name in numbers)
        print(f"{row['linear']:10}{row['method']:10}{row['weights']:12,}{figures}", flush=True)
    print(made_on("rewiring_speed", rows))


if __name__ == "__main__":
    main()

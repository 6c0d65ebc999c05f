"""The cost of an iteration to a fixed point: of f alone, of `fix`, and of `fix` with Anderson's acceleration.

    python -m benchmarks.solver_speed [--seconds 5]

f(z, x) = tanh(W z) + x, with an orthogonal W times 0.999, converges slowly: every way takes all its iterations. 256 samples of
512 numbers, 30 iterations a call. Least and median time of the calls, divided by 30. The ways take turns.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common import made_on, positive
from inn_lab import machine
from inn_lab.models.implicit import NotConverged, fix
from inn_lab.seeding import generator
from inn_lab.studies.clock import times

SAMPLES, NUMBERS, ITERATIONS, ROUNDS = 256, 512, 30, 5
PREVIOUS = (0, 2, 5)  # iterates that Anderson's acceleration combines


def ways() -> dict[str, Callable[[], object]]:
    draw = generator(0, "data")
    weights = 0.999 * torch.linalg.qr(torch.randn(NUMBERS, NUMBERS, generator=draw))[0]
    x, start = torch.randn(SAMPLES, NUMBERS, generator=draw), torch.zeros(SAMPLES, NUMBERS)

    def f(z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(z @ weights.T) + x

    def alone() -> Tensor:
        z = start
        for _ in range(ITERATIONS):
            z = f(z, x)
        return z

    def fixed(anderson: int) -> Callable[[], object]:
        return lambda: fix(f, x, start, max_iter=ITERATIONS, anderson=anderson, rtol=1e-30, atol=1e-30)

    return {"f alone": alone, **{f"fix, anderson={m}": fixed(m) for m in PREVIOUS}}


def main() -> None:
    parser = argparse.ArgumentParser(description="An iteration's milliseconds, with and without Anderson's acceleration.")
    parser.add_argument("--seconds", type=positive, default=5, help="for each way, all rounds together")
    seconds = parser.parse_args().seconds
    warnings.simplefilter("ignore", NotConverged)
    cpu, rows = torch.device("cpu"), []
    with torch.no_grad():
        for _ in range(ROUNDS):
            for way, call in ways().items():
                for ms in times(call, 1000, seconds / ROUNDS, cpu):
                    rows.append({"way": way, "iteration_ms": ms / ITERATIONS, **machine.tags(cpu)})
    for way in ways():
        found = [row["iteration_ms"] for row in rows if row["way"] == way]
        print(f"{way:20}{min(found):8.2f} ms   (median {statistics.median(found):.2f})")
    print(made_on("solver_speed", rows))


if __name__ == "__main__":
    main()

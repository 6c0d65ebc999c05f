"""A study of one's own: a model, data and a report. The names in conf/ point here.

The arguments of a constructor are the keys in its YAML, with their types and ranges. What the lab passes itself: to a model
n_inputs, n_outputs and generator; to data seed, device and once.
"""

from collections.abc import Iterator
from typing import Annotated, Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments import report
from experiments.claims import Claim
from experiments.verdicts import Finding, difference
from inn_lab.data.sets import Batches
from inn_lab.models.base import Model, linear
from inn_lab.ranges import Density, Many, Probability, Units, count
from inn_lab.seeding import generator as stream
from inn_lab.sparse import Sparse


class Leaky(Model):
    """h ← (1 − a) h + a tanh(W [x; h] + b),   y = V h + c;   a fraction R of W is trainable.

    Shapes: (B, T, I) -> (B, T, O).
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, *, hidden: Units, R: Density, leak: Probability, generator: torch.Generator
    ) -> None:
        super().__init__(n_inputs)
        self.hidden, self.leak = hidden, leak
        self.update = Sparse(n_inputs + hidden, hidden, R=R, generator=generator)
        self.readout = linear(hidden, n_outputs, generator)

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), self.hidden), []
        for now in x.unbind(1):
            h = torch.lerp(h, self.update(torch.cat([now, h], dim=1)).tanh(), self.leak)  # (B, H)
            states.append(h)
        return self.readout(torch.stack(states, dim=1))  # (B, T, O)


class Recall:
    """One of `symbols` is shown, then noise for `delay` steps: which was it?

    x (B, delay + 1, symbols), y (B,).
    """

    def __init__(
        self,
        *,
        symbols: Annotated[int, count(2, 100, 4)],
        delay: Annotated[int, count(1, 1000, 8)],
        n_train: Many,
        n_val: Many,
        n_test: Many,
        batch_size: Many,
        seed: int,
        device: torch.device,
        once: Any,
    ) -> None:
        self.n_inputs = self.n_outputs = symbols
        self.steps, self.batch_size, self.seed, self.device = delay + 1, batch_size, seed, device
        self.sizes = {"train": n_train, "val": n_val, "test": n_test}

    def batches(self, part: str, epoch: int = 0) -> Batches:
        """The batches of "train", "val" or "test". Training sequences are drawn anew for each epoch."""
        return Batches(self.sizes[part], self.batch_size, lambda: self._draw(part, epoch if part == "train" else 0))

    def _draw(self, part: str, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng, n = stream(self.seed, part, epoch), self.sizes[part]
        y = torch.randint(self.n_outputs, (n,), generator=rng)
        x = 0.3 * torch.randn(n, self.steps, self.n_inputs, generator=rng)
        x[torch.arange(n), 0, y] += 1
        yield from zip(x.to(self.device).split(self.batch_size), y.to(self.device).split(self.batch_size), strict=True)


# The report: `inn-lab figures my_study`.

AXES = ("model.leak",)


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Validation accuracy by epoch, a curve for each leak."""
    whole, (axes,) = report.grid(1)
    shown = report.trained(runs)
    curves = {f"leak {leak:g}": (part, {}) for leak, part in shown.groupby("model.leak")}
    report.panel(axes, "recall", curves, legend="leaky INN")
    return {"my_study": whole}


def slow_is_better(runs: pd.DataFrame) -> Finding:
    """The test accuracy of leak 0.1 less that of leak 1, seed by seed, with its interval."""
    arms = report.arms(report.trained(runs), "model.leak", report.tested)
    slow, fast = (arms.get(leak, pd.Series(dtype=float)) for leak in (0.1, 1.0))
    return difference(slow, fast, report.prior(runs, [slow, fast])).within(low=0)


CLAIMS = [
    Claim("mine", "A state that forgets slowly (leak 0.1) remembers more than one that does not last (leak 1)", slow_is_better)
]

"""A sine wave: its height at points in time."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from inn_lab import machine
from inn_lab.data.sets import Batches
from inn_lab.ranges import BIG, Many, real
from inn_lab.seeding import generator


class Sine:
    """y(t) = (1 + sin π c t) / 2 for t in [−1, 1]: c whole waves, between 0 and 1.

    The training points are evenly spaced. Those of validation and test are drawn uniformly from the seed, and sorted.

    Source: Habiba and Pearlmutter 2021, 4.2 (10,000 points; the number of waves is not given).

    Shapes: x (B, 1, 1), y (B,), float32. B batch.

    cycles: how many waves, c.
    n_train, n_val, n_test: how many points each part has.
    once: as in `ImageData`; not used, since the points are cheap to draw.
    """

    n_inputs = n_outputs = steps = 1

    def __init__(
        self,
        *,
        cycles: Annotated[float, real(lambda v: 0 < v <= BIG, "how many waves, a positive number, at most 1e9", 1)],
        n_train: Many,
        n_val: Many,
        n_test: Many,
        batch_size: Many,
        seed: int,
        device: str | torch.device = "cpu",
        once: Callable[..., Any] | None = None,
    ) -> None:
        self.sizes = {"train": n_train, "val": n_val, "test": n_test}
        n = sum(self.sizes.values())
        machine.fits(f"{n} points", 8 * n, torch.device("cpu"), {f"n_{part}": size for part, size in self.sizes.items()})
        self.cycles, self.batch_size, self.seed, self.device = cycles, batch_size, seed, torch.device(device)

    def times(self, part: str) -> Tensor:
        """The points of "train", "val" or "test", (n,), in ascending order."""
        n = self.sizes[part]
        if part == "train":
            return torch.linspace(-1, 1, n)
        return torch.rand(n, generator=generator(self.seed, part)).mul_(2).sub_(1).sort().values

    def batches(self, part: str, epoch: int = 0) -> Batches:
        """x (B, 1, 1) and y (B,), on the device. The order of the training points is drawn anew for each epoch."""
        t = self.times(part)
        if part == "train":
            t = t[torch.randperm(len(t), generator=generator(self.seed, part, epoch))]
        y = (math.pi * self.cycles * t).sin().add_(1).div_(2)
        pairs = zip(
            t.to(self.device)[:, None, None].split(self.batch_size), y.to(self.device).split(self.batch_size), strict=True
        )
        return Batches(len(t), self.batch_size, list(pairs).copy)

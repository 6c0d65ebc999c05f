"""Shared by the benchmarks: the checks of their arguments, the time of a training step, and the file of their rows."""

import argparse
import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inn_lab import config
from inn_lab.studies.clock import WARM, times


def count(text: str) -> int:
    """A whole number from 1, from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1; e.g. 3")
    return int(text)


def positive(text: str) -> float:
    """Seconds, from the command line."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: seconds, a positive number; e.g. 5")
    return seconds


def step_ms(model: nn.Module, x: Tensor, y: Tensor, seconds: float, clip: float | None = None) -> float:
    """The least milliseconds of a training step: forward, backward, clipping the gradient's norm, Adam.

    The least counts, because other work of the machine only adds to it. Cross entropy of the last outputs, x (B, T, I), y (B,).
    """
    return min(step_times(model, x, y, seconds, clip))


def step_times(model: nn.Module, x: Tensor, y: Tensor, seconds: float, clip: float | None = None) -> list[float]:
    """The milliseconds of each such step, for `seconds` and at most 1,000 steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x)[:, -1], y).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    for _ in range(WARM):
        step()
    return times(step, 1000, seconds, x.device)


def two_ways(name: str, rows: Sequence[Mapping[str, Any]], title: Sequence[str], slow: str, fast: str) -> None:
    """Prints the milliseconds of two ways, and how many times as fast the second is; a line a row. Writes the rows.

    title: the columns that name a row. slow, fast: the columns of the times.
    """
    print(f"{'':32}" + "".join(f"{way.removesuffix('_ms').replace('_', ' '):>16}" for way in (slow, fast)) + f"{'ratio':>8}")
    for row in rows:
        times = "".join(f"{f'{row[way]:.1f} ms':>16}" for way in (slow, fast))
        print(f"{', '.join(row[key] for key in title):32}{times}{row['times_as_fast']:8.1f}")
    print(made_on(name, rows))


def made_on(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes the rows; returns a line that says on which machine they were measured, and where they are."""
    return f"{rows[0]['machine.processor']}, {rows[0]['machine.threads']} threads; written to {write(name, rows)}"


def write(name: str, rows: Sequence[Mapping[str, object]]) -> Path:
    """Writes outputs/figures/NAME.csv."""
    path = Path(config.outputs()) / "figures" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path

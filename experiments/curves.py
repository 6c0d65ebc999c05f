"""Any experiment's runs by epoch, by whatever was swept; and two sweeps, or the runs of two codes, side by side.

`python -m experiments curves EXPERIMENT … [KEY=VALUE …] [--compare COLUMN]`. No YAML and no report is needed: the runs say what
varied.
"""

import math
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report, verdicts
from experiments.report import ACC, curve, finals, tested, trained
from experiments.selection import settings
from inn_lab.errors import ConfigError
from inn_lab.identity import short

MOST = 10  # curves in a panel
METRICS = {ACC: "validation ACC_end", "train/loss": "training loss"}
OWNERS = {
    "model": "model",
    "data": "data",
    "objective": "data",
    "optimizer": "optimizer",
    "schedule": "schedule",
}  # whose keys those of a group are, where there are several


def axes_of(runs: pd.DataFrame) -> list[str]:
    """The settings that vary among the runs of the newest sweep; among all runs, if the newest run was in none."""
    done = trained(runs)
    if done.empty:
        raise ConfigError(report.NONE_SHOWN)
    newest = done.sort_values("start").iloc[-1]
    if "sweep" in done and isinstance(newest["sweep"], str):
        done = done[done["sweep"] == newest["sweep"]]
    found = [owner for owner in dict.fromkeys(OWNERS.values()) if owner in done and done[owner].nunique() > 1]
    for column in settings(done, ()):
        owner = OWNERS.get(column.partition(".")[0])
        parts = [part for _, part in done.groupby(owner)] if owner in found else [done]
        if any(part[column].nunique(dropna=False) > 1 for part in parts):
            found.append(column)
    return [column for column in found if column.partition(".")[2] not in found]  # model.R follows R


def arms(runs: pd.DataFrame, axes: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each setting, with its name: "R=0.1 lr=0.001"."""
    if not axes:
        yield "all runs", runs
        return
    for values, part in runs.groupby(list(axes), dropna=False):
        yield " ".join(f"{axis.rpartition('.')[2]}={said(value)}" for axis, value in zip(axes, values, strict=True)), part


def said(value: object) -> str:
    if isinstance(value, float):
        return "null" if math.isnan(value) else f"{value:g}"
    return short(str(value))  # of a commit its first letters


def figure(runs: pd.DataFrame, axes: Sequence[str]) -> Figure:
    """A row of panels for each metric, by epoch: means over seeds, with a band of one standard deviation.

    Ten curves share a panel at most; beyond that each value of the axis with the fewest values has its own column. A trial that
    its search has pruned is drawn as far as it went.
    """
    shown = runs[runs["state"].isin(["finished", "diverged", "pruned"])]
    metrics = [metric for metric in METRICS if metric in shown and shown[metric].notna().any()]
    if not metrics or "epoch" not in shown:
        raise ConfigError("none of these runs has trained for an epoch; there is no curve to draw")
    columns: list[tuple[str, pd.DataFrame]] = [("", shown)]
    inner = list(axes)
    if len(list(arms(shown, axes))) > MOST:
        by = min(axes, key=lambda axis: shown[axis].nunique(dropna=False))
        inner.remove(by)
        columns = list(arms(shown, [by]))
    letters = max(len(label) for _, part in columns for label, _ in arms(part, inner))
    width = 4.5 * len(columns) + 1 + letters / 12  # the legend stands beside the panels, on no curve
    whole = Figure(figsize=(width, 0.8 + 3.4 * len(metrics)), layout="constrained")
    grid = whole.subplots(len(metrics), len(columns), squeeze=False, sharex=True, sharey="row")
    for row, metric in zip(grid, metrics, strict=True):
        for panel, (title, part) in zip(row, columns, strict=True):
            draw(panel, part, inner, metric)
            panel.set(title=title if metric == metrics[0] else "", ylabel=METRICS[metric] if panel is row[0] else "")
    for panel in grid[-1]:
        panel.set_xlabel("epoch")
    lines = {label: line for panel in grid.flat for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    whole.legend(lines.values(), lines.keys(), loc="outside right upper", title="setting (seeds)")
    return whole


def draw(panel: Axes, runs: pd.DataFrame, axes: Sequence[str], metric: str) -> None:
    found = list(arms(runs, axes))
    for (label, part), colour in zip(found, report.shades(len(found)), strict=True):
        seeds = part["seed"].nunique()
        curve(panel, part, metric, f"{label} ({seeds})", color=colour)


def ends(runs: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Where each setting ends: ACC_end in validation (the mean of the last tenth of epochs) and test, with 95 % intervals."""
    rows = []
    for label, part in arms(trained(runs), axes):
        row: dict[str, object] = {"setting": label, "runs": part["run_id"].nunique()}
        for name, values, on in (("validation", finals, "val"), ("test", tested, "test")):
            arm = report.arm(part, values) if report.TEST in part or values is finals else pd.Series(dtype=float)
            row[name] = worded(verdicts.mean(arm, report.prior(part, [arm], on)))
        rows.append(row)
    return pd.DataFrame(rows)


def compared(runs: pd.DataFrame, axes: Sequence[str], column: str) -> pd.DataFrame:
    """The difference in test ACC_end between the two values of a column, for each setting, with its 95 % interval.

    The older value comes first. Runs of one seed are paired. Raises ConfigError unless the column has two values.
    """
    shown = trained(runs)
    sides = [str(side) for side in shown.sort_values("start")[column].dropna().unique()]
    if len(sides) != 2:
        there = ", ".join(sides) or "none"
        raise ConfigError(f"--compare {column}: two values are compared, and these runs have {there}; choose by KEY=VALUE")
    rows = []
    for label, part in arms(shown, axes):
        one, other = (report.arm(part[part[column].map(str) == side]) for side in sides)
        apart = verdicts.difference(other, one, report.prior(part, [one, other]))
        paired = len(set(one.index) & set(other.index))
        found = {short(side): mean(arm) for side, arm in zip(sides, (one, other), strict=True)}
        rows.append({"setting": label, **found, "difference": worded(apart), "pairs": paired})
    return pd.DataFrame(rows)


def mean(arm: pd.Series) -> str:
    return f"{arm.mean():.3f}" if arm.notna().any() else "no runs"


def worded(estimate: verdicts.Estimate) -> str:
    """ "0.812 (0.780 to 0.844)"."""
    start, end = estimate.interval()
    if math.isnan(estimate.value):
        return "no runs"
    return f"{estimate.value:.3f}" + (f" ({start:.3f} to {end:.3f})" if math.isfinite(start) else "")

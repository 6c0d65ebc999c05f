"""Hershey 2023, 3.4.4: how often a still image is iterated, in training (Fig. 3.21) and after it."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import trained
from experiments.verdicts import Finding, alike, all_of, difference, mean

AXES = ("data.iterations",)
TABLES = {"probe": "iterations.csv"}
EARLY, LATE = 5, 20  # iterations between which the state is asked whether it settles
TIE = 0.02  # what cannot be told apart
STILL = 1e-12  # a step of no more than this share of another is none


def figures(runs: pd.DataFrame, probe: pd.DataFrame) -> dict[str, Figure]:
    """Validation accuracy by epoch, a curve for each number of iterations in training; and how each network goes on."""
    counts = sorted(trained(runs)["data.iterations"].unique())
    by_epoch, (axes,) = report.grid(1)
    tint = dict(zip(counts, report.shades(len(counts)), strict=True))
    curves = {f"{k:g} iterations": (trained(runs, **{"data.iterations": k}), {"color": tint[k]}) for k in counts}
    report.panel(axes, "by the number of iterations in training", curves, chance=0.1, legend="trained with")
    each = of(runs, probe, "data.iterations")
    lines = {f"trained with {k:g}": (each[each["data.iterations"] == k], tint[k]) for k in counts}
    return {"iterations": by_epoch, "iterations_probe": by_iteration(lines)}


def of(runs: pd.DataFrame, probe: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table of each network's results after 1, 2, … iterations, labelled by these columns."""
    return probe.merge(runs.drop_duplicates("run_id")[["run_id", *columns]], on="run_id")


def by_iteration(lines: dict[str, tuple[pd.DataFrame, object]]) -> Figure:
    """Test accuracy, and the state's relative step ‖h_k − h_{k−1}‖ / ‖h_k‖, by iteration: means over seeds. {label: (table,
    colour)}"""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    accuracy, step = figure.subplots(1, 2)
    for label, (table, color) in lines.items():
        if table.empty:  # all of them diverged
            continue
        means, style = table.groupby("iteration").mean(numeric_only=True), {"color": color, "marker": "o", "markersize": 3}
        report.line(accuracy, means.index, means["acc_end"], table, label, **style)
        moved = (means["distance"] / means["norm"])[lambda share: share > 0]  # what stands still is not on a log scale
        report.line(step, moved.index, moved, table, label, **style)
    accuracy.axhline(0.1, color="gray", linewidth=0.8, linestyle=":", label="chance")
    accuracy.set(xlabel="iterations", ylabel="test ACC_end", ylim=(0, 1), xticks=[1, 5, 10, 15, 20])
    step.set(xlabel="iterations", ylabel="step of the state / its norm", yscale="log", xticks=[1, 5, 10, 15, 20])
    for axes in (accuracy, step):
        report.beside(axes, "network")
    return figure


def one_lags(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    """More than `TIE` behind each higher number."""
    at = report.arms(trained(runs), "data.iterations")
    known = report.prior(runs, at.values())
    behind = {f"{k:g}": difference(more, at[1], known).within(TIE) for k, more in at.items() if k > 1 and 1 in at}
    text = report.ends(at, known, "iterations")
    return all_of(behind).said(text) if len(behind) >= 3 else judge(text, None)


def more_are_alike(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    at = {k: arm for k, arm in report.arms(trained(runs), "data.iterations").items() if k > 1}
    known = report.prior(runs, at.values())
    text = report.ends(at, known, "iterations")
    return alike(at, 0.05, known).said(text) if len(at) >= 3 else judge(text, None)


def settles(axis: str) -> Callable[..., Finding]:
    """Claim: from iteration 5 to 20 the distance between successive states falls, at each value of the axis, in the geometric
    mean of its networks. One that diverged settles nowhere."""

    def measure(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
        each = of(runs, probe, axis)
        steps = each.pivot_table(index="run_id", columns="iteration", values="distance")
        if not {EARLY, LATE} <= set(steps):
            return judge("no runs", None)
        if (lost := trained(runs)["run_id"].nunique() - len(steps)) > 0:
            return judge(f"{lost} diverged", False)
        factor = np.log10((steps[LATE] / steps[EARLY].where(steps[EARLY] > 0)).fillna(0).clip(lower=STILL))
        ends = report.arms(trained(runs), axis, lambda part: factor.reindex(part["run_id"].unique()))
        text = ", ".join(f"× {10 ** arm.mean():.2g} at {axis}={at}" for at, arm in ends.items())
        return all_of({str(at): mean(arm).within(high=0) for at, arm in ends.items()}).said(text)

    return measure


OPEN = {"lr": None, "R": None}  # which H does not give
CLAIMS = [
    Claim("H 3.4.4, Fig. 3.21", "One iteration lags behind", one_lags, setting=OPEN),
    Claim("H 3.4.4, Fig. 3.21", "All higher numbers of iterations are alike", more_are_alike, setting=OPEN),
    Claim("this lab", "Whatever the training, the state settles: its steps shrink from iteration 5 to 20", settles(AXES[0])),
]

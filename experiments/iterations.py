"""Hershey 2023, 3.4.4: how often a still image is iterated, in training (Fig. 3.21) and after it."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import levels, trained, words
from experiments.verdicts import Finding

AXES = ("data.iterations",)
TABLES = {"probe": "iterations.csv"}
EARLY, LATE = 5, 20  # iterations between which the state is asked whether it settles


def figures(runs: pd.DataFrame, probe: pd.DataFrame) -> dict[str, Figure]:
    """Validation accuracy by epoch, a curve for each number of iterations in training; and how each network goes on."""
    counts = sorted(trained(runs)["data.iterations"].unique())
    by_epoch, (axes,) = report.grid(1)
    curves = {f"{k:g} iterations": (trained(runs, **{"data.iterations": k}), {"color": shade(k, counts)}) for k in counts}
    report.panel(axes, "by the number of iterations in training", curves, chance=0.1, legend="trained with")
    each = of(runs, probe, "data.iterations")
    lines = {f"trained with {k:g}": (each[each["data.iterations"] == k], shade(k, counts)) for k in counts}
    return {"iterations": by_epoch, "iterations_probe": by_iteration(lines)}


def shade(k: float, counts: list[float]) -> tuple[float, ...]:
    """The colour of a number of iterations: from dark, the fewest."""
    return matplotlib.colormaps["plasma"](0.9 * counts.index(k) / max(1, len(counts) - 1))


def of(runs: pd.DataFrame, probe: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The table of what each network does after 1, 2, … iterations, with the axis's value beside."""
    return probe.merge(runs.drop_duplicates("run_id")[["run_id", axis]], on="run_id")


def by_iteration(lines: dict[str, tuple[pd.DataFrame, object]]) -> Figure:
    """Test accuracy, and the state's relative step ‖h_k − h_{k−1}‖ / ‖h_k‖, by iteration: means over seeds. {label: (table,
    colour)}"""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    accuracy, step = figure.subplots(1, 2)
    for label, (table, color) in lines.items():
        if table.empty:  # all of them diverged
            continue
        means = table.groupby("iteration").mean(numeric_only=True)
        accuracy.plot(means.index, means["acc_end"], "-o", markersize=3, color=color, label=label)
        moved = (means["distance"] / means["norm"])[lambda share: share > 0]  # what stands still is not on a log scale
        step.plot(moved.index, moved, "-o", markersize=3, color=color)
    accuracy.axhline(0.1, color="gray", linewidth=0.8, linestyle=":", label="chance")
    accuracy.set(xlabel="iterations", ylabel="test ACC_end", ylim=(0, 1), xticks=[1, 5, 10, 15, 20])
    accuracy.legend(fontsize=7)
    step.set(xlabel="iterations", ylabel="step of the state / its norm", yscale="log", xticks=[1, 5, 10, 15, 20])
    return figure


def trained_levels(runs: pd.DataFrame) -> pd.Series:
    return levels(trained(runs), "data.iterations")


def one_lags(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    at = trained_levels(runs)
    more = at[at.index > 1]
    return judge(words(at, "iterations"), bool(at[1] < more.min() - 0.02) if 1 in at and len(more) >= 3 else None)


def more_are_alike(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    more = trained_levels(runs)[lambda at: at.index > 1]
    return judge(words(more, "iterations"), bool(more.max() - more.min() <= 0.05) if len(more) >= 3 else None)


def settles(axis: str):
    """Claim: from iteration 5 to 20 the distance between successive states falls, in every network."""

    def measure(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
        each = of(runs, probe, axis)
        steps = each.pivot_table(index=[axis, "run_id"], columns="iteration", values="distance")
        if not {EARLY, LATE} <= set(steps):
            return judge("no runs", None)
        falls = (steps[LATE] < steps[EARLY]) | (steps[LATE] == 0)  # of those that diverged there is none
        factor = (steps[LATE] / steps[EARLY].where(steps[EARLY] > 0)).fillna(0).groupby(level=0).max()
        text = ", ".join(f"× {value:.2g} at {axis}={at}" for at, value in factor.items())
        networks = trained(runs)["run_id"].nunique()
        return judge(f"{falls.sum()} of {networks} networks; at most {text}", bool(falls.sum() == networks))

    return measure


CLAIMS = [
    Claim("H 3.4.4, Fig. 3.21", "One iteration lags behind", one_lags),
    Claim("H 3.4.4, Fig. 3.21", "All higher numbers of iterations are alike", more_are_alike),
    Claim("this lab", "Whatever the training, the state settles: its steps shrink from iteration 5 to 20", settles(AXES[0])),
]

"""Hershey 2023, 3.4.4: how many weights does a task take? At R=0.2, in ever larger weight spaces (Figs. 3.19 and 3.20).

Relative difficulty: the least number of weights with which two of three seeds reach a target. Absolute difficulty: that with
which the seeds' mean comes to the ceiling, what the largest weight space reaches. Both are picked from the sizes that were
tried: the truth lies between the one named and the next lower.
"""

from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import finals, trained
from experiments.verdicts import Finding

AXES = ("data", "n_weights")
MNIST, UNIFORM, RANDOM = "mnist_classification", "uniform_anomaly", "random_anomaly"
TASKS = {MNIST: {"color": "tab:green", "marker": "^"}, UNIFORM: {"color": "tab:orange", "marker": "s"}}
TASKS |= {RANDOM: {"color": "tab:purple", "marker": "o"}}
TARGETS = [(MNIST, 0.80), (UNIFORM, 0.80), (UNIFORM, 0.57), (RANDOM, 0.57)]
SEEDS, SHARE = 3, 2 / 3
NEAR = 0.03  # a mean that is as near as this to the largest weight space's has come to the ceiling


def ends(runs: pd.DataFrame, data: str) -> pd.DataFrame:
    """Where each run on a data set ends: `n_weights` and `end`, a row for each run."""
    here = trained(runs, model="inn", data=data)
    return pd.DataFrame({"n_weights": here.groupby("run_id")["n_weights"].first(), "end": finals(here)})


def difficulty(runs: pd.DataFrame, data: str, target: float | None) -> dict[str, object]:
    """The least `n_weights` at which two of three seeds end at `target` or above; a target of None is the ceiling.

    `n_weights` is NaN if no size does so. `next_lower` is the largest of the sizes tried that are lower; NaN if there is none,
    and then the difficulty is only known to be `n_weights` at most. `largest` is the largest size tried. `enough` says whether
    three seeds were tried at every size that it takes: up to `n_weights`, and at all sizes for the ceiling or where none
    reaches the target. A ceiling that only the largest reaches is none.
    """
    by_size = ends(runs, data).groupby("n_weights")["end"]
    means, seeds = by_size.mean(), by_size.size()
    absolute = target is None
    if absolute:
        target = means.iloc[-1] - NEAR if len(means) else np.nan
        reached = (means >= target).iloc[:-1]
    else:
        reached = by_size.agg(lambda end: (end >= target).mean()) >= SHARE
    found = reached.index[reached].min() if reached.any() else np.nan
    lower = means.index if np.isnan(found) else means.index[means.index < found]
    needed = seeds if absolute or np.isnan(found) else seeds[seeds.index <= found]
    return {
        "data": data,
        "criterion": "ceiling" if absolute else "two of three seeds",
        "target": target,
        "n_weights": found,
        "next_lower": lower.max() if len(lower) else np.nan,
        "largest": means.index.max(),
        "enough": bool(len(needed) and (needed >= SEEDS).all()),
    }


def difficulties(runs: pd.DataFrame) -> pd.DataFrame:
    """All difficulties that H gives, a row for each."""
    return pd.DataFrame([difficulty(runs, data, target) for data, target in [*TARGETS, (RANDOM, None)]])


TABLES = {"table": difficulties}


def row(table: pd.DataFrame, data: str, target: float | None) -> pd.Series:
    """The row of `difficulties` for a target, None for the ceiling."""
    absolute = table["criterion"] == "ceiling"
    return table[(table["data"] == data) & (absolute if target is None else ~absolute & (table["target"] == target))].iloc[0]


def figures(runs: pd.DataFrame, table: pd.DataFrame) -> dict[str, Figure]:
    """Relative difficulty (H's 3.19): where runs end by number of weights, and by epoch at the sizes found. Absolute (3.20)."""
    relative = Figure(figsize=(13, 4.8), layout="constrained")
    left, right = relative.subplots(1, 2, sharey=True)
    by_weights(left, runs, table)
    curves = {}
    for data, target in TARGETS:
        found = row(table, data, target)["n_weights"]
        if not np.isnan(found):
            here = trained(runs, model="inn", data=data, n_weights=found)
            style = {"color": TASKS[data]["color"], "linestyle": "-" if target == 0.8 else "--"}
            curves[f"{data.replace('_', ' ')}, {target:.0%} ({report.weights(here)})"] = (here, style)
    report.panel(right, "the least weights that reach the target", curves)
    made = {"task_difficulty": relative}
    random = trained(runs, model="inn", data=RANDOM)
    if len(random):
        made["task_difficulty_absolute"] = absolute(random, row(table, RANDOM, None))
    return made


def by_weights(axes: Axes, runs: pd.DataFrame, table: pd.DataFrame) -> None:
    """Each seed's end a point, a line through the means; the difficulty is marked where the target is first reached."""
    for data, style in TASKS.items():
        at = ends(runs, data)
        if at.empty:
            continue
        axes.scatter(at["n_weights"], at["end"], s=12, alpha=0.5, **style)
        means = at.groupby("n_weights")["end"].mean()
        axes.plot(means.index, means, label=data.replace("_", " "), markersize=4, **style)
    for data, target in TARGETS:
        axes.axhline(target, color="gray", linewidth=0.8, linestyle=":")
        found = row(table, data, target)
        fill = "full" if found["enough"] else "none"
        if not np.isnan(found["n_weights"]):
            star = {"markersize": 15, "markeredgecolor": "black" if found["enough"] else TASKS[data]["color"], "zorder": 3}
            axes.plot(found["n_weights"], target, "*", color=TASKS[data]["color"], fillstyle=fill, **star)
    sizes = sorted(runs["n_weights"].dropna().unique())
    axes.set(title="where two of three seeds reach the target (★, hollow: too few seeds yet)", xscale="log")
    axes.set(xlabel="weights", ylabel="final validation ACC_end", ylim=(0, 1))
    axes.set_xticks(sizes, [f"{size / 1000:g}k" for size in sizes], fontsize=8)
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, loc="lower right")


def absolute(runs: pd.DataFrame, found: pd.Series) -> Figure:
    """By epoch, a curve for each number of weights; the least that comes to the ceiling is drawn thick."""
    figure, (axes,) = report.grid(1)
    tint = matplotlib.colors.LogNorm(5_000, 400_000)
    curves = {}
    for n_weights, part in runs.groupby("n_weights"):
        thick = n_weights == found["n_weights"]
        style = {"color": matplotlib.colormaps["plasma"](tint(n_weights)), "linewidth": 3 if thick else 1.2}
        curves[report.weights(part) + (", comes to the ceiling" if thick else "")] = (part, style)
    report.panel(axes, "random anomaly", curves, chance=1 / runs["seq_len"].iloc[0])
    return figure


def say(found: pd.Series) -> str:
    """A difficulty in words."""
    if not found["enough"]:
        return "too few seeds"
    if np.isnan(found["n_weights"]):
        return f"above {found['next_lower']:,.0f}, the most that was tried"
    if np.isnan(found["next_lower"]):
        return f"at most {found['n_weights']:,.0f}, the least that was tried"
    return f"{found['n_weights']:,.0f} (the next lower, {found['next_lower']:,.0f}, does not do)"


def within(found: pd.Series, low: float, high: float) -> bool | None:
    """Whether a difficulty lies between the two; None where the sizes that were tried cannot tell."""
    if not found["enough"]:
        return None
    if np.isnan(found["n_weights"]):
        return False if found["next_lower"] >= high else None
    if np.isnan(found["next_lower"]):
        return False if found["n_weights"] < low else None
    return bool(low <= found["n_weights"] <= high)


def takes(data: str, target: float | None, n_weights: int) -> Callable[[pd.DataFrame, pd.DataFrame], Finding]:
    """Claim: a target takes about so many weights, within a factor of two."""

    def measure(runs: pd.DataFrame, table: pd.DataFrame) -> Finding:
        found = row(table, data, target)
        return judge(say(found), within(found, n_weights / 2, n_weights * 2))

    return measure


def four_times(runs: pd.DataFrame, table: pd.DataFrame) -> Finding:
    random, uniform = (row(table, data, 0.57) for data in (RANDOM, UNIFORM))
    text = f"random {say(random)}; uniform {say(uniform)}"
    if not (random["enough"] and uniform["enough"]) or uniform[["n_weights", "next_lower"]].isna().any():
        return judge(text, None)
    ratio = random[["n_weights", "next_lower"]] / uniform["n_weights"]
    if np.isnan(ratio["n_weights"]):  # no size reaches it: more than next_lower
        return judge(f"more than {ratio['next_lower']:.1f} times: {text}", False if ratio["next_lower"] >= 8 else None)
    return judge(f"{ratio['n_weights']:.1f} times: {text}", bool(2 <= ratio["n_weights"] <= 8))


def ceiling(runs: pd.DataFrame, table: pd.DataFrame) -> Finding:
    found = row(table, RANDOM, None)
    if not found["enough"] or np.isnan(found["n_weights"]):
        return judge(say(found), None)
    top = found["target"] + NEAR
    return judge(f"{top:.2f} with {found['largest']:,.0f} weights", bool(0.48 <= top <= 0.62))


FIRST, SECOND = "H 3.4.4, Fig. 3.19", "H 3.4.4, Fig. 3.20"
CLAIMS = [
    Claim(FIRST, "80 % takes about 50,000 weights for MNIST classification", takes(MNIST, 0.80, 50_000)),
    Claim(FIRST, "80 % takes about 50,000 weights for uniform anomaly", takes(UNIFORM, 0.80, 50_000)),
    Claim(FIRST, "57 % takes about 60,000 weights for random anomaly", takes(RANDOM, 0.57, 60_000)),
    Claim(FIRST, "57 % takes about 15,000 weights for uniform anomaly", takes(UNIFORM, 0.57, 15_000)),
    Claim(FIRST, "57 % takes about four times the weights for random anomaly than for uniform", four_times),
    Claim(SECOND, "Random anomaly comes to its ceiling at about 50,000 weights", takes(RANDOM, None, 50_000)),
    Claim(SECOND, "Random anomaly's ceiling is about 0.55", ceiling),
]

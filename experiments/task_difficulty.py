"""Hershey 2023, 3.4.4: how many weights does a task take? At R=0.2, in ever larger weight spaces (Figs. 3.19 and 3.20).

Relative difficulty: the least number of weights with which the seeds' mean reaches a target. Absolute difficulty: that with
which it comes to the ceiling, what the largest weight space reaches; there is one only if the next smaller reaches it too. Both
are picked from the sizes that were tried: the truth lies between the one named and the next lower.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import tested, trained
from experiments.verdicts import AGREES, Finding, all_of, at_least, difference, mean

AXES = ("data", "n_weights")
MNIST, UNIFORM, RANDOM = "mnist_classification", "uniform_anomaly", "random_anomaly"
TASKS = {MNIST: {"color": report.GREEN, "marker": "^"}, UNIFORM: {"color": report.ORANGE, "marker": "s"}}
TASKS |= {RANDOM: {"color": report.PURPLE, "marker": "o"}}
TARGETS = [(MNIST, 0.80), (UNIFORM, 0.80), (UNIFORM, 0.57), (RANDOM, 0.57)]
NEAR = 0.03  # a mean that is as near as this to the largest weight space's has come to the ceiling
CEILING = (0.525, 0.575)  # H's "approximately 55 %", a number of whole five per cents


def ends(runs: pd.DataFrame, data: str) -> pd.DataFrame:
    """Where each run on a data set ends: `n_weights` and `end`, a row for each run."""
    here = trained(runs, model="inn", data=data)
    return pd.DataFrame({"n_weights": here.groupby("run_id")["n_weights"].first(), "end": tested(here)})


def difficulty(runs: pd.DataFrame, data: str, target: float | None) -> dict[str, object]:
    """The least `n_weights` at which the mean of the seeds' ends is `target` or above; a target of None is the ceiling.

    `n_weights` is NaN if no size does so. `next_lower` is the largest of the sizes tried that are lower; NaN if there is none,
    and then the difficulty is only known to be `n_weights` at most. A ceiling that only the largest reaches is none.
    """
    means = ends(runs, data).groupby("n_weights")["end"].mean()
    absolute = target is None
    if absolute:
        target = means.iloc[-1] - NEAR if len(means) else np.nan
    reached = means.index[means >= target]
    found = min(reached[:-1] if absolute else reached, default=np.nan)
    lower = means.index if np.isnan(found) else means.index[means.index < found]
    return {
        "data": data,
        "criterion": "ceiling" if absolute else "mean over seeds",
        "target": target,
        "n_weights": found,
        "next_lower": max(lower, default=np.nan),
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
    relative = Figure(figsize=(12, 4.2), layout="constrained")
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
        name = data.replace("_", " ")
        report.dots(axes, at["n_weights"], at["end"], f"_{name}", s=12, alpha=0.5, **style)
        means = at.groupby("n_weights")["end"].mean()
        axes.plot(means.index, means, label=name, markersize=4, **style)
    for data, target in TARGETS:
        axes.axhline(target, color="gray", linewidth=0.8, linestyle=":")
        found = row(table, data, target)
        if not np.isnan(found["n_weights"]):
            star = {"markersize": 15, "markeredgecolor": "black", "zorder": 3}
            axes.plot(found["n_weights"], target, "*", color=TASKS[data]["color"], **star)
    sizes = sorted(runs["n_weights"].dropna().unique())
    axes.set(title="where the seeds' mean reaches the target (★)", xscale="log")
    axes.set(xlabel="weights", ylabel="test ACC_end", ylim=(0, 1))
    axes.set_xticks(sizes, [f"{size / 1000:g}k" for size in sizes], rotation=45)
    axes.set_xticks([], minor=True)
    axes.legend(loc="lower right")


def absolute(runs: pd.DataFrame, found: pd.Series) -> Figure:
    """By epoch, a curve for each number of weights; the least that comes to the ceiling is drawn thick."""
    figure, (axes,) = report.grid(1)
    curves = {}
    for (n_weights, part), tint in zip(runs.groupby("n_weights"), report.shades(runs["n_weights"].nunique()), strict=True):
        thick = n_weights == found["n_weights"]
        style = {"color": tint, "linewidth": 3 if thick else 1.2}
        curves[report.weights(part) + (", comes to the ceiling" if thick else "")] = (part, style)
    report.panel(axes, "random anomaly", curves, chance=1 / runs["seq_len"].iloc[0])
    return figure


def say(found: pd.Series) -> str:
    """A difficulty in words, by the means."""
    if found[["n_weights", "next_lower"]].isna().all():
        return "no runs"
    if np.isnan(found["n_weights"]):
        return f"above {found['next_lower']:,.0f}, the most that was tried"
    if np.isnan(found["next_lower"]):
        return f"at most {found['n_weights']:,.0f}, the least that was tried"
    return f"{found['n_weights']:,.0f} (the next lower, {found['next_lower']:,.0f}, does not do)"


def sizes(runs: pd.DataFrame, data: str) -> tuple[dict[int, pd.Series], float]:
    """Where the runs on a data set end by number of weights, and what is known of that beforehand."""
    at = report.arms(trained(runs, model="inn", data=data), "n_weights")
    return at, report.prior(runs, at.values())


def least(reaches: Mapping[int, Finding], misses: Mapping[int, Finding], low: float, high: float) -> Finding:
    """Does the least size that reaches it lie in [low, high]? None below does so, and one of these does; what does not reach it
    with `high` or more does not with less."""
    below = all_of({f"{n:,.0f}": one for n, one in misses.items() if n < low})
    there = at_least(1, {f"{n:,.0f}": one for n, one in reaches.items() if low <= n <= high})
    beyond = next((one.if_false for n, one in misses.items() if n >= high), 1.0)
    return all_of({"below": below, "there": replace(there, if_true=beyond)})


def takes(runs: pd.DataFrame, data: str, target: float, low: float, high: float) -> Finding:
    at, known = sizes(runs, data)
    each = {n: mean(arm, known) for n, arm in at.items()}
    reaches, misses = ({n: one.within(*edges) for n, one in each.items()} for edges in ((target, np.inf), (-np.inf, target)))
    return least(reaches, misses, low, high)


def about(data: str, target: float, n_weights: int) -> Callable[[pd.DataFrame, pd.DataFrame], Finding]:
    """Claim: a target takes about so many weights, within a factor of two."""
    return lambda runs, table: takes(runs, data, target, n_weights / 2, n_weights * 2).said(say(row(table, data, target)))


def four_times(runs: pd.DataFrame, table: pd.DataFrame) -> Finding:
    """Two to eight times: there is a size that uniform takes, and random takes so many times that.

    Uniform may also take less than the least size tried, or more than the largest: that can be ruled out, and not found.
    """
    at = sizes(runs, UNIFORM)[0]
    if not at or RANDOM not in set(runs["data"]):
        return judge("no runs of both", None)

    def pair(low: float, high: float, fewest: float, most: float) -> Finding:
        return all_of({"uniform": takes(runs, UNIFORM, 0.57, low, high), "random": takes(runs, RANDOM, 0.57, fewest, most)})

    found = {f"{n:,.0f}": pair(n, n, 2 * n, 8 * n) for n in at}
    found["less"] = replace(pair(0, min(at), 0, 8 * min(at)), if_false=1)
    found["more"] = replace(pair(max(at) + 1, np.inf, 2 * max(at), np.inf), if_false=1)
    random, uniform = (row(table, data, 0.57) for data in (RANDOM, UNIFORM))
    return at_least(1, found).said(f"random {say(random)}; uniform {say(uniform)}")


def flat(at: Mapping[int, pd.Series], known: float) -> bool:
    """Whether the largest size is clearly no better than the next."""
    if len(at) < 2:
        return False
    last, top = [*at.values()][-2:]
    return difference(top, last, known).within(high=NEAR).verdict == AGREES


def comes_to_its_ceiling(runs: pd.DataFrame, table: pd.DataFrame) -> Finding:
    """At about 50,000 weights, within a factor of two."""
    at, known = sizes(runs, RANDOM)
    text = say(row(table, RANDOM, None))
    if not flat(at, known):
        return judge(f"{text}; it may rise on", None)
    short = {n: difference(at[max(at)], arm, known) for n, arm in at.items() if n < max(at)}
    reaches, misses = ({n: one.within(*edges) for n, one in short.items()} for edges in ((-np.inf, NEAR), (NEAR, np.inf)))
    return least(reaches, misses, 25_000, 100_000).said(text)


def ceiling(runs: pd.DataFrame, table: pd.DataFrame) -> Finding:
    at, known = sizes(runs, RANDOM)
    if not at:
        return judge("no runs", None)
    found = mean(at[max(at)], known).within(*CEILING)
    text = f"{found.measured} with {max(at):,.0f} weights"
    return found.said(text) if flat(at, known) else judge(f"{text}; it may rise on", None)


CLAIMS = [
    Claim(source, sentence, measure, setting={"lr": None})
    for source, sentence, measure in (
        ("H 3.4.4, Fig. 3.19", "80 % takes about 50,000 weights for MNIST classification", about(MNIST, 0.80, 50_000)),
        ("H 3.4.4, Fig. 3.19", "80 % takes about 50,000 weights for uniform anomaly", about(UNIFORM, 0.80, 50_000)),
        ("H 3.4.4, Fig. 3.19", "57 % takes about 60,000 weights for random anomaly", about(RANDOM, 0.57, 60_000)),
        ("H 3.4.4, Fig. 3.19", "57 % takes about 15,000 weights for uniform anomaly", about(UNIFORM, 0.57, 15_000)),
        ("H 3.4.4, Fig. 3.19", "57 % takes about four times the weights for random anomaly than for uniform", four_times),
        ("H 3.4.4, Fig. 3.20", "Random anomaly comes to its ceiling at about 50,000 weights", comes_to_its_ceiling),
        ("H 3.4.4, Fig. 3.20", "Random anomaly's ceiling is about 55 %: 0.525–0.575", ceiling),
    )
]

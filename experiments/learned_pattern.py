"""This lab's own: does a pattern that is learnt beat a random one with as many weights, and where does it spend them?

All networks end with a tenth of their weight space, and are compared with those whose tenth was drawn at random before training
and stayed (`random`). Methods: SET (Mocanu et al. 2018), RigL (Evci et al. 2020), gradual pruning (Zhu and Gupta 2017), lottery
tickets (Frankle and Carbin 2019), SNIP (Lee et al. 2019), SynFlow (Tanaka et al. 2020). The last three choose weights by their
values too: beside each stands its pattern with other values. Layered networks have as many weights, and no way back.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, against_time, each, tested, trained
from experiments.verdicts import Estimate, Finding, all_of, difference

AXES = (
    "model",
    "depth",
    "model.hidden",
    "R",
    "pruning._target_",
    "pruning.R",
    "pruning.restart",
    "pruning.reinit",
    "study._target_",
)
SIZES = (10_000, 50_000, 100_000, 1_000_000)  # weights at the end, about
RANDOM, LAYERED = "random", "layered"
METHODS = {  # how they are drawn: what grows weights again, what only drops them, what chooses before training, the tickets
    RANDOM: {"color": "black", "marker": "o"},
    "set": {"color": report.BLUE, "marker": "s"},
    "rigl": {"color": report.SKY, "marker": "D"},
    "gradual": {"color": report.ORANGE, "marker": "v"},
    "snip": {"color": report.GREEN, "marker": "^"},
    "snip, other values": {"color": report.GREEN, "marker": "2", "linestyle": "--"},
    "synflow": {"color": report.PURPLE, "marker": "<"},
    "synflow, other values": {"color": report.PURPLE, "marker": "3", "linestyle": "--"},
    "ticket": {"color": report.RED, "marker": "*"},
    "reinit": {"color": report.RED, "marker": "x", "linestyle": "--"},
    "ticket of random entries": {"color": report.RED, "marker": "+", "linestyle": ":"},
    LAYERED: {"color": "gray", "marker": "P", "linestyle": "--"},
}
RESTARTS = {"rewound": "ticket", "reinit": "reinit", "random": "ticket of random entries"}
OTHER_VALUES = {"snip": "snip, other values", "synflow": "synflow, other values", "ticket": "reinit"}  # the same patterns
LEARNT = ("set", "rigl", "gradual", "snip", "synflow", "ticket")
SPENT = {
    "train/weights_on_input": "fraction of the weights on the input",
    "effective": "fraction that lies on a path to an output",
    "train/in_degree_cv": "weights of a unit: std / mean",
    "train/out_degree_cv": "units that read a unit: std / mean",
}
APART = 0.02  # from which difference of the fraction on the input weights are spent otherwise


def placed(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that trained, with `method`, `size` (of `SIZES` the nearest to the weights at the end) and `effective`."""
    here = trained(runs).copy()
    named = here["pruning._target_"].str.rpartition(".")[2].str.lower()
    if "pruning.restart" in here:
        named = here["pruning.restart"].map(RESTARTS).fillna(named)
    if "pruning.reinit" in here:
        named = named.where(here["pruning.reinit"].astype(str) != "True", named.map(OTHER_VALUES))
    here["method"] = named.where(here["model"] != "layered_inn", LAYERED)
    last = here.sort_values("epoch").groupby("run_id")["train/weights"].last()
    here["size"] = here["run_id"].map(last).map(nearest)
    here["effective"] = here.get("train/weights_effective", math.nan) / here["train/weights"]
    return here


def nearest(weights: float) -> float:
    """Of `SIZES`."""
    return math.nan if not weights > 0 else min(SIZES, key=lambda size: abs(math.log(size / weights)))


def arms(runs: pd.DataFrame, method: str, values: Callable[[pd.DataFrame], pd.Series] = tested) -> dict[int, pd.Series]:
    """By size, a value of each run of a method, by seed."""
    return report.arms(trained(runs, method=method), "size", values)


def last(column: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda runs: runs.sort_values("epoch").groupby("run_id")[column].last()


def seconds(runs: pd.DataFrame) -> pd.Series:
    """Of all training, the rounds of a ticket included."""
    rounds = each(runs, "time/rounds_s").fillna(0) if "time/rounds_s" in runs else 0
    return runs.groupby("run_id")["time/epoch_s"].sum() + rounds


def methods(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each method and size, means over the seeds: test accuracy, seconds of training, and where the weights stand."""
    here = placed(runs)
    columns = [column for column in ("train/weights", *SPENT) if column in here]
    rows = []
    for (size, method), part in here.groupby(["size", "method"]):
        row = {"size": size, "method": method, "runs": part["run_id"].nunique(), "test_acc_end": tested(part).mean()}
        row |= {"seconds": seconds(part).mean()} | {column.rpartition("/")[2]: last(column)(part).mean() for column in columns}
        rows.append(row)
    return pd.DataFrame(rows)


TABLES = {"methods": methods}


def figures(runs: pd.DataFrame, methods: pd.DataFrame) -> dict[str, Figure]:
    """Where the methods end, by size, and how far ahead of random patterns; where they spend their weights; and by time."""
    here = placed(runs)
    figure = Figure(figsize=(11, 4), layout="constrained")
    ends, ahead = figure.subplots(1, 2)
    sizes = sorted(here["size"].dropna().unique())
    for place, (method, style) in enumerate(METHODS.items()):
        part = trained(here, method=method)
        if part.empty:
            continue
        report.points(ends, each(part, "size"), tested(part), method, **style)
        lead(ahead, here, method, (place / (len(METHODS) - 1) - 0.5) * 0.25)
    ends.set(title="where they end", ylabel="test ACC_end", ylim=(0, 1))
    ahead.set(title="ahead of a random pattern: 95 % intervals", ylabel="difference in test ACC_end")
    ahead.axhline(0, color="black", linewidth=0.8)
    for axes in (ends, ahead):
        by_size(axes, sizes)
    legend(figure)
    made = {"learned_pattern": figure, "learned_pattern_time": by_time(here, sizes)}
    return made | ({"learned_pattern_spent": spent(here, sizes)} if "train/in_degree_cv" in here else {})


def by_size(axes: Axes, sizes: list[int]) -> None:
    axes.set(xscale="log", xlabel="weights at the end")
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axes.set_xticks([], minor=True)


def legend(figure: Figure) -> None:
    """Of all panels, beside them: it covers no curve."""
    pairs = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes)
    lines = {label: line for panel in pairs for line, label in panel}
    shown = [method for method in METHODS if method in lines]
    figure.legend([lines[method] for method in shown], shown, loc="outside right upper", title="pattern")


def lead(axes: Axes, runs: pd.DataFrame, method: str, shift: float) -> None:
    """How far a method is ahead of random patterns at each size, beside the others'."""
    found = {size: apart(runs, method, size) for size in arms(runs, method)} if method != RANDOM else {}
    known = {size: one for size, one in found.items() if math.isfinite(one.error)}
    if known:
        halves = [(one.interval()[1] - one.interval()[0]) / 2 for one in known.values()]
        style = {"color": METHODS[method]["color"], "marker": METHODS[method]["marker"], "linestyle": "", "capsize": 2}
        axes.errorbar(
            [size * 10**shift for size in known], [one.value for one in known.values()], halves, label=method, **style
        )


def by_time(runs: pd.DataFrame, sizes: list[int]) -> Figure:
    """Validation by seconds of training, the mean over seeds: of a ticket those of the last training alone."""
    figure, panels = report.grid(len(sizes))
    for axes, size in zip(panels, sizes, strict=True):
        here = trained(runs, size=size)
        grid = np.linspace(0, here.groupby("run_id")["time/epoch_s"].sum().max(), 200)
        for method, style in METHODS.items():
            part = trained(here, method=method)
            if len(part):
                line = {key: value for key, value in style.items() if key != "marker"}
                report.line(axes, grid, against_time(part, ACC, grid).mean(axis=1, skipna=False), part, method, **line)
        axes.set(title=f"{size:,.0f} weights", xlabel="seconds of training", ylabel="validation ACC_end", ylim=(0, 1))
    legend(figure)
    return figure


def spent(runs: pd.DataFrame, sizes: list[int]) -> Figure:
    """A panel for each number that says where the weights stand at the end, by size."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    for axes, (column, title) in zip(panels.flat, SPENT.items(), strict=True):
        for method, style in METHODS.items():
            part = trained(runs, method=method)
            if len(part):
                report.points(axes, each(part, "size"), last(column)(part), method, **style)
        axes.set_title(title)
        by_size(axes, sizes)
    legend(figure)
    return figure


def apart(runs: pd.DataFrame, method: str, size: int, other: str = RANDOM, values: str | None = None) -> Estimate:
    """How far a method is ahead of another at a size, seed by seed: in test accuracy, or in the last value of a column."""
    take = tested if values is None else last(values)
    one, beside = (arms(runs, name, take).get(size, pd.Series(dtype=float)) for name in (method, other))
    return difference(one, beside, report.prior(runs, [one, beside]) if values is None else None)


def at_each_size(
    method: str, other: str, judged: Callable[[Estimate], Finding], values: str | None = None, asked: Sequence[int] = SIZES
) -> Callable[..., Finding]:
    """Claim: it holds of the difference between two methods at each size that both have, of those that are asked for."""

    def measure(runs: pd.DataFrame, methods: pd.DataFrame) -> Finding:
        here = placed(runs)
        sizes = sorted(set(arms(here, method)) & set(arms(here, other)) & set(asked))
        found = {f"{size:,.0f}": judged(apart(here, method, size, other, values)) for size in sizes}
        return all_of(found) if found else judge("no runs of both", None)

    return measure


def ahead(estimate: Estimate) -> Finding:
    """Whether it is above 0."""
    return estimate.within(0)


def otherwise(estimate: Estimate) -> Finding:
    """Whether it is farther from 0 than `APART`."""
    near = estimate.within(-APART, APART)
    return replace(near, if_false=near.if_true, if_true=near.if_false)


def reached(runs: pd.DataFrame, time: float) -> pd.Series:
    """Validation after so many seconds of training."""
    return against_time(runs, ACC, [time]).loc[time]


def in_equal_time(method: str) -> Callable[..., Finding]:
    """Claim: when the random pattern's training ends, it has come at least as far in validation: 0.02 behind at most."""

    def measure(runs: pd.DataFrame, methods: pd.DataFrame) -> Finding:
        here, found = placed(runs), {}
        for size, clock in arms(here, RANDOM, seconds).items():
            part, beside = (trained(here, method=name, size=size) for name in (method, RANDOM))
            if part.empty:
                continue
            time = clock.mean()
            one, other = (report.arm(some, partial(reached, time=time)) for some in (part, beside))
            known = report.prior(runs, [one, other], "val")
            found[f"{size:,.0f} after {time:.0f} s"] = difference(one, other, known).within(-APART)
        return all_of(found) if found else judge("no runs of both", None)

    return measure


def lab(sentence: str, measure: Callable[..., Finding]) -> Claim:
    return Claim("this lab", sentence, measure, setting={"lr": None})


CLAIMS = [
    *(
        lab(f"{name}: with {size:,} weights it ends ahead of a random pattern", at_each_size(name, RANDOM, ahead, asked=[size]))
        for size in SIZES
        for name in LEARNT
    ),
    *(
        lab(f"{name}: in the time of a random pattern's training it comes as far, but for {APART:g}", in_equal_time(name))
        for name in LEARNT
        if name != "ticket"
    ),
    lab("Random growth, SET, beats growth by the gradient, RigL (Liu et al. 2021)", at_each_size("set", "rigl", ahead)),
    *(
        lab(
            f"{name}, with the values that chose its pattern, ends ahead of that pattern with other values",
            at_each_size(name, other, ahead),
        )
        for name, other in OTHER_VALUES.items()
    ),
    *(
        lab(
            f"{name}'s pattern with other values: with {size:,} weights it ends ahead of a random pattern",
            at_each_size(other, RANDOM, ahead, asked=[size]),
        )
        for size in SIZES
        for name, other in OTHER_VALUES.items()
    ),
    lab(
        "A ticket ends ahead of random entries with the values of before (Frankle and Carbin 2019)",
        at_each_size("ticket", RESTARTS["random"], ahead),
    ),
    *(
        lab(
            f"{name}: the fraction of its weights that are on the input differs from a random pattern's by more than {APART:g}",
            at_each_size(name, RANDOM, otherwise, "train/weights_on_input"),
        )
        for name in LEARNT
    ),
    *(
        lab(
            f"{name}: units have more unequal numbers of weights than in a random pattern",
            at_each_size(name, RANDOM, ahead, "train/in_degree_cv"),
        )
        for name in LEARNT
    ),
    lab("Layered networks of as many weights stay behind a random pattern", at_each_size(RANDOM, LAYERED, ahead)),
]

"""This lab: the cost of a training step for each way to store the matrix, as the weights are spread over a larger weight space.

Times are the least of a run's repeats, because other work of the machine only adds to them. The least varies between runs too,
so a verdict needs at least two seeds: `experiment=training_speed -m seed=0,1,2`.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.claims import Claim, judge
from experiments.report import WAYS
from experiments.verdicts import Finding, alike, all_of, ratio

AXES = ("model.linear", "R", "n_weights")
TIME, MEMORY = "speed/step_ms_min", "memory/peak_mb"


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """A column for each number of weights: the time of a step above, its peak memory below, by density; a line for each way."""
    counts = sorted(runs["n_weights"].unique(), reverse=True)
    figure = Figure(figsize=(5.6 * len(counts), 7), layout="constrained")
    panels = figure.subplots(2, len(counts), squeeze=False, sharex=True, sharey="row")
    for row, (metric, label) in enumerate([(TIME, "milliseconds a step"), (MEMORY, "peak memory, MB")]):
        for axes, count in zip(panels[row], counts, strict=True):
            for way, at in costs(runs, count, metric).items():
                at = at.dropna()
                axes.loglog(at.index, at, label=way, **WAYS[way])
            densities = sorted(runs["R"].unique())
            axes.set_xticks(densities, [f"{R:g}" for R in densities], fontsize=8)
            axes.set_xticks([], minor=True)
            axes.set(xlabel="density R", ylabel=label)
            axes.grid(alpha=0.3)
    for axes, count in zip(panels[0], counts, strict=True):
        axes.set_title(f"{count:,} weights")
        axes.legend(title="the matrix is held")
    return {"training_speed": figure}


def costs(runs: pd.DataFrame, n_weights: int, metric: str = TIME) -> pd.DataFrame:
    """The mean over seeds of a metric at `n_weights`: a row for each density, a column for each way."""
    here = runs[(runs["n_weights"] == n_weights) & (runs["state"] == "finished")]
    if metric not in here:  # no peak is known where the system isn't Linux
        return pd.DataFrame()
    return here.pivot_table(index="R", columns="model.linear", values=metric)


def arms(runs: pd.DataFrame, n_weights: int, metric: str = TIME) -> dict[tuple[str, float], pd.Series]:
    """A metric by seed, at `n_weights`, for each way and density."""
    here = runs[(runs["n_weights"] == n_weights) & (runs["state"] == "finished")]
    if metric not in here:
        return {}
    return {key: part.groupby("seed")[metric].mean().dropna() for key, part in here.groupby(["model.linear", "R"])}


def times_as_much(
    R: float, way: str, to: str, factor: float, metric: str = TIME, unit: str = "ms"
) -> Callable[[pd.DataFrame], Finding]:
    """Claim: with a million weights, `way` takes at least `factor` times what `to` does."""

    def measure(runs: pd.DataFrame) -> Finding:
        at = arms(runs, 1_000_000, metric)
        if not {(way, R), (to, R)} <= set(at):
            return judge("no runs", None)
        found = ratio(at[way, R], at[to, R], factor, digits=1)
        return found.said(f"{found.measured}: {at[way, R].mean():,.0f} {unit} {way}, {at[to, R].mean():,.0f} {unit} {to}")

    return measure


def csr_hardly_varies(runs: pd.DataFrame) -> Finding:
    at = {R: ms for (way, R), ms in arms(runs, 1_000_000).items() if way == "csr" and 0.005 <= R <= 0.3}
    text = ", ".join(f"{ms.mean():,.0f} ms at R={R:g}" for R, ms in at.items()) or "no runs"
    enough = {0.005, 0.3} <= set(at)
    return (alike({R: np.log(ms) for R, ms in at.items()}, math.log(1.6)) if enough else judge("", None)).said(text)


def auto_is_the_best(runs: pd.DataFrame) -> Finding:
    """Compared with each other way, if all four were timed at a low and at a high density.

    The way that auto chose, which its runs say (`linear`), was timed twice, once by its own name. The smaller time counts.
    """
    by_auto = runs[runs["model.linear"] == "auto"]
    took = by_auto.groupby(["n_weights", "R"])["linear"].last().dropna() if "linear" in runs else {}  # older runs do not say
    found, worst = {}, (0.0, "")
    for count in sorted(runs["n_weights"].unique()):
        at = arms(runs, count)
        for R in (R for way, R in at if way == "auto" and (count, R) in took):
            auto, others = at["auto", R], {way: at.get((way, R)) for way in ("csr", "masked", "stepwise")}
            if any(other is None for other in others.values()):
                continue
            auto = pd.concat([auto, others.get(took[count, R], auto)], axis=1).min(axis=1)
            found |= {(count, R, way): ratio(auto, other, high=1.1) for way, other in others.items()}
            best = min(other.mean() for other in others.values())
            worst = max(worst, (auto.mean() / best, f"at {count:,} weights and R={R:g}"))
    densities = [R for _, R, _ in found]
    text = f"at most {worst[0]:.2f} times the best, {worst[1]} ({len(found)} compared)" if found else "no runs"
    enough = found and min(densities) <= 0.01 and max(densities) >= 0.6
    return (all_of({f"{key}": one for key, one in found.items()}) if enough else judge("", None)).said(text)


def own(sentence: str, measure: Callable[[pd.DataFrame], Finding]) -> Claim:
    return Claim("this lab", sentence, measure, images=False)


CLAIMS = [
    *(
        own(f"With 1,000,000 weights CSR is at least {factor} times as fast as stepwise at R={R:g}", measure)
        for R, factor in ((0.2, 7), (0.05, 40), (0.02, 80))
        for measure in (times_as_much(R, "stepwise", "csr", factor),)
    ),
    own("With 1,000,000 weights CSR's step time varies by no more than 1.6 from R=0.3 to R=0.005", csr_hardly_varies),
    own("At every R auto is within 10 % of the fastest way", auto_is_the_best),
    own(
        "With 1,000,000 weights at R=0.005 CSR's peak memory is at most a 30th of masked's",
        times_as_much(0.005, "masked", "csr", 30, MEMORY, "MB"),
    ),
]

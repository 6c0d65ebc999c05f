"""This lab: what a training step costs, for each way to hold the matrix, as the weights are spread over a larger weight space.

Times are the least of a run's repeats: what else a machine does only ever adds to them.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments.claims import Claim, judge
from experiments.report import WAYS
from experiments.verdicts import Finding

AXES = ("model.linear", "R", "n_weights")
TIME, MEMORY = "speed/step_ms_min", "memory/peak_mb"


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """A column for each number of weights: the time of a step above, its peak memory below, by density; a line for each way."""
    counts = sorted(runs["n_weights"].unique(), reverse=True)
    figure = Figure(figsize=(6 * len(counts), 8), layout="constrained")
    panels = figure.subplots(2, len(counts), squeeze=False, sharex=True, sharey="row")
    for row, (metric, label) in enumerate([(TIME, "milliseconds a step"), (MEMORY, "peak memory, MB")]):
        for axes, count in zip(panels[row], counts, strict=True):
            for way, at in costs(runs, count, metric).items():
                at = at.dropna()
                axes.loglog(at.index, at, label=way, **WAYS[way])
            densities = sorted(runs["R"].unique())
            axes.set_xticks(densities, [f"{R:g}" for R in densities], fontsize=7)
            axes.set_xticks([], minor=True)
            axes.set(xlabel="density R", ylabel=label)
            axes.grid(alpha=0.3)
    for axes, count in zip(panels[0], counts, strict=True):
        axes.set_title(f"{count:,} weights")
        axes.legend(title="the matrix is held", fontsize=8, title_fontsize=8)
    return {"training_speed": figure}


def costs(runs: pd.DataFrame, n_weights: int, metric: str = TIME) -> pd.DataFrame:
    """The mean over seeds of a metric at `n_weights`: a row for each density, a column for each way."""
    here = runs[(runs["n_weights"] == n_weights) & (runs["state"] == "finished")]
    if metric not in here:  # no peak is known where the system isn't Linux
        return pd.DataFrame()
    return here.pivot_table(index="R", columns="model.linear", values=metric)


def _ratio(at: pd.DataFrame, R: float, way: str, to: str, unit: str) -> tuple[str, float | None]:
    """What `way` costs against `to` at a density, in words and as a number; None where one of them is missing."""
    if R not in at.index or not {way, to} <= set(at) or at.loc[R, [way, to]].isna().any():
        return "no runs", None
    a, b = at.loc[R, way], at.loc[R, to]
    return f"{a / b:.1f} ({a:,.0f} {unit} {way}, {b:,.0f} {unit} {to})", float(a / b)


def csr_is_faster(R: float, factor: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: with a million weights, CSR's step takes at most a `factor`-th of stepwise's."""

    def measure(runs: pd.DataFrame) -> Finding:
        text, ratio = _ratio(costs(runs, 1_000_000), R, "stepwise", "csr", "ms")
        return judge(text, None if ratio is None else ratio >= factor)

    return measure


def csr_hardly_varies(runs: pd.DataFrame) -> Finding:
    at = costs(runs, 1_000_000).get("csr", pd.Series(dtype=float)).dropna()
    at = at[(at.index >= 0.005) & (at.index <= 0.3)]
    text = ", ".join(f"{ms:,.0f} ms at R={R:g}" for R, ms in at.items()) or "no runs"
    return judge(text, bool(at.max() <= 1.6 * at.min()) if {0.005, 0.3} <= set(at.index) else None)


def auto_is_the_best(runs: pd.DataFrame) -> Finding:
    """Judged where all four ways were timed, if that is at a low and at a high density.

    The way that auto took, which its runs say (`linear`), was timed twice, once by its own name: the less of the two counts.
    """
    ratios = {}
    by_auto = runs[runs["model.linear"] == "auto"]
    took = by_auto.groupby(["n_weights", "R"])["linear"].last().dropna() if "linear" in runs else {}  # older runs do not say
    for count in sorted(runs["n_weights"].unique()):
        at = costs(runs, count)
        if {"auto", "csr", "masked", "stepwise"} <= set(at):
            for R in at.index:
                if (taken := took.get((count, R))) in at:
                    at.loc[R, "auto"] = at.loc[R, ["auto", taken]].min(skipna=False)
            at = at[[(count, R) in took for R in at.index]]
            best = at.drop(columns="auto").min(axis=1)
            ratios |= {(count, R): ratio for R, ratio in (at["auto"] / best)[at.notna().all(axis=1)].items()}
    if not ratios:
        return judge("no runs", None)
    (count, R), worst = max(ratios.items(), key=lambda item: item[1])
    densities = [R for _, R in ratios]
    text = f"at most {worst:.2f} times the best, at {count:,} weights and R={R:g} ({len(ratios)} compared)"
    return judge(text, bool(worst <= 1.1) if min(densities) <= 0.01 and max(densities) >= 0.6 else None)


def csr_is_small(runs: pd.DataFrame) -> Finding:
    text, ratio = _ratio(costs(runs, 1_000_000, MEMORY), 0.005, "masked", "csr", "MB")
    return judge(text, None if ratio is None else ratio >= 30)


def own(sentence: str, measure: Callable[[pd.DataFrame], Finding]) -> Claim:
    return Claim("this lab", sentence, measure, images=False)


CLAIMS = [
    own("With 1,000,000 weights CSR is at least 7 times as fast as stepwise at R=0.2", csr_is_faster(0.2, 7)),
    own("With 1,000,000 weights CSR is at least 40 times as fast as stepwise at R=0.05", csr_is_faster(0.05, 40)),
    own("With 1,000,000 weights CSR is at least 80 times as fast as stepwise at R=0.02", csr_is_faster(0.02, 80)),
    own("With 1,000,000 weights CSR's step time varies by no more than 1.6 from R=0.3 to R=0.005", csr_hardly_varies),
    own("At every R auto is within 10 % of the fastest way", auto_is_the_best),
    own("With 1,000,000 weights at R=0.005 CSR's peak memory is at most a 30th of masked's", csr_is_small),
]

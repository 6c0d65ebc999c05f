"""Kale 2024, 3.5: a block matrix whose blocks are dense, sparse or of low rank, trained until a clock stops it (Figs. 8 and 9).

Dense blocks train all their entries, whatever the density R at which they start. The seconds are those of training, the sums
of time/epoch_s: the clock counts validation too, so a run has a little fewer of them than its clock allowed.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, WAYS, against_time, each, tested, trained
from experiments.verdicts import AGREES, Finding, alike, all_of, difference, ratio

AXES = ("model.representation", "R")
STYLES = {"dense": WAYS["dense"], "sparse": WAYS["csr"], "low_rank": WAYS["low_rank"]}
HEIGHTS, WIDTHS, DENSE = (300, 20, 10), (2500, 300, 20, 10), (10, 20)  # of K's blocks; the one that is always dense
BIASES = len(WIDTHS) * sum(HEIGHTS)  # in K's sparse counts: each block has its own
TABLE_7 = {  # R: K's weights, dense, low-rank and sparse
    0.01: (933_900, 16_180, 10_803),
    0.02: (933_900, 22_380, 19_978),
    0.05: (933_900, 47_780, 47_024),
    0.1: (933_900, 94_340, 90_412),
    0.2: (933_900, 188_430, 170_789),
    0.3: (933_900, 279_770, 243_481),
    0.5: (933_900, 467_340, 368_956),
}
DENSITIES = 3  # from which something can be said about every R


def merged(R: float) -> tuple[float, float]:
    """How many weights K's sparse blocks have: the mean over draws, and the standard deviation.

    A block of mn entries draws n = round(R · mn) of them, with replacement, and draws that hit the same entry are merged:
    mn (1 − (1 − 1/mn)^n) are left on average. The biases are among the weights.
    """
    mean, variance = float(BIASES), 0.0
    for block in itertools.product(HEIGHTS, WIDTHS):
        mn = math.prod(block)
        if block == DENSE:
            mean += mn
            continue
        missed, both = (math.exp(round(R * mn) * math.log1p(-entries / mn)) for entries in (1, 2))  # one entry, two entries
        mean += mn * (1 - missed)
        variance += mn * missed * (1 - missed) + mn * (mn - 1) * (both - missed**2)
    return mean, math.sqrt(variance)


def counts(runs: pd.DataFrame) -> pd.DataFrame:
    """K's Table 7 as printed, ours beside it, and what K's sparse counts come from.

    `merged` is what drawing with replacement leaves on average (see there), `off` how far K's count is from it, and `spread`
    the standard deviation. The lab draws round(R · mn) entries without repeats, and its blocks have no biases.
    """
    printed = pd.DataFrame.from_dict(TABLE_7, "index", columns=["K_dense", "K_low_rank", "K_sparse"])
    printed[["merged", "spread"]] = [merged(R) for R in printed.index]
    printed["off"] = printed["K_sparse"] - printed["merged"]
    ours = trained(runs).pivot_table(index="R", columns="model.representation", values="model/weights")
    return printed.join(ours.reindex(columns=list(STYLES)), how="outer").rename_axis("R").reset_index()


TABLES = {"counts": counts}


def of(runs: pd.DataFrame, kind: str, **values: object) -> pd.DataFrame:
    """The runs that trained with this representation."""
    return trained(runs, **{"model.representation": kind, **values})


def figures(runs: pd.DataFrame, counts: pd.DataFrame) -> dict[str, Figure]:
    """Test accuracy by density and by number of weights (K's Fig. 8); accuracies and losses by seconds at R=0.2 (Fig. 9)."""
    runs = trained(runs)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    by_density, by_weights = figure.subplots(1, 2, sharey=True)
    for place, (kind, style) in enumerate(STYLES.items()):
        here = of(runs, kind)
        if len(here):
            beside = 1.06 ** (place - 1)  # or they would hide each other
            report.points(by_density, each(here, "R") * beside, tested(here), kind, **style)
            report.points(by_weights, each(here, "model/weights"), tested(here), kind, **style)
    densities = sorted(runs["R"].unique())
    by_density.set(xscale="log", xlabel="density R (dense: at the start)", ylabel="test ACC_end")
    by_density.set_xticks(densities, [f"{R:g}" for R in densities])
    by_density.set_xticks([], minor=True)
    by_weights.set(xscale="log", xlabel="weights that train")
    by_density.legend(title="blocks")
    R = min(densities, key=lambda R: abs(R - 0.2))
    return {"representations": figure, "representations_time": by_time(trained(runs, R=R), R)}


def by_time(runs: pd.DataFrame, R: float) -> Figure:
    """The mean over seeds by seconds of training, from where all of them have ended an epoch, and a band of one standard
    deviation."""
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    (learnt, known), (training, validation) = figure.subplots(2, 2, sharex=True, sharey="row")
    grid = np.linspace(0, runs.groupby("run_id")["time/epoch_s"].sum().max(), 300)
    for kind, style in STYLES.items():
        here = of(runs, kind)
        if len(here):
            label = f"{kind}: {report.weights(here)} weights, test {tested(here).mean():.2f}"
            for axes, metric in ((learnt, "train/acc_end"), (known, ACC), (training, "train/loss"), (validation, "val/loss")):
                band(axes, here, against_time(here, metric, grid), label, style["color"])
    learnt.set(title=f"Training, R={R:g}", ylabel="ACC_end", ylim=(0, 1))
    known.set(title=f"Validation, R={R:g}")
    training.set(xlabel="seconds of training", ylabel="loss")
    validation.set(xlabel="seconds of training")
    known.legend(loc="upper left")
    return figure


def band(axes: Axes, runs: pd.DataFrame, values: pd.DataFrame, label: str, colour: str) -> None:
    mean, std = values.mean(axis=1, skipna=False), values.std(axis=1).fillna(0)
    report.line(axes, mean.index, mean, runs, label, color=colour)
    axes.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)


def accuracies(runs: pd.DataFrame, kind: str) -> dict[float, pd.Series]:
    """Test accuracies by density."""
    return report.arms(of(runs, kind), "R")


def epochs(runs: pd.DataFrame, kind: str) -> dict[float, pd.Series]:
    """How many epochs a run comes through before the clock stops it, by density."""
    return report.arms(of(runs, kind, state="finished"), "R", lambda part: part.groupby("run_id")["epoch"].max() + 1)


def at_every(
    values: Callable[[pd.DataFrame, str], dict[float, pd.Series]],
    kind: str,
    beside: Callable[[pd.Series, pd.Series, pd.DataFrame], Finding],
) -> Callable[..., Finding]:
    """Claim: at every density it holds of the values of a representation beside those of dense blocks."""

    def measure(runs: pd.DataFrame, counts: pd.DataFrame) -> Finding:
        one, other = values(runs, kind), values(runs, "dense")
        both = [R for R in one if R in other]
        listed = ", ".join(f"{one[R].mean():.3g} and {other[R].mean():.3g} at R={R:g}" for R in both)
        text = f"{kind} and dense: {listed}" if both else "no runs of both"
        if len(both) < DENSITIES:
            return judge(text, None)
        found = {f"{R:g}": beside(one[R], other[R], runs) for R in both}
        holds = sum(finding.verdict == AGREES for finding in found.values())
        return all_of(found).said(f"clearly at {holds} of {len(both)}; {text}")

    return measure


def is_ahead(one: pd.Series, other: pd.Series, runs: pd.DataFrame) -> Finding:
    return difference(one, other, report.prior(runs, [one, other])).within(0)


def as_many(one: pd.Series, other: pd.Series, runs: pd.DataFrame) -> Finding:
    return ratio(one, other, 0.9)


def far_fewer_weights(runs: pd.DataFrame, counts: pd.DataFrame) -> Finding:
    there = counts.dropna(subset=["dense", "low_rank", "K_dense"])
    if len(there) < DENSITIES:
        return judge("too few densities", None)
    times = there["dense"] / there["low_rank"]
    same = bool((there[["dense", "low_rank"]].to_numpy() == there[["K_dense", "K_low_rank"]].to_numpy()).all())
    listed = ", ".join(f"{count:,.0f}" for count in there["low_rank"])
    return judge(f"{listed}; dense {there['dense'].max():,.0f}: {times.min():.1f} to {times.max():.1f} times fewer", same)


def learns_faster(runs: pd.DataFrame, counts: pd.DataFrame) -> Finding:
    """Validation accuracy after a tenth and a third of the time, at R=0.2."""
    found = {}
    for seconds in (runs["trainer.max_time"].max() * share for share in (1 / 10, 1 / 3)):
        low, dense = (
            report.arm(of(runs, kind, R=0.2), lambda part, s=seconds: against_time(part, ACC, [s]).loc[s])
            for kind in ("low_rank", "dense")
        )
        if not len(low) or not len(dense) or low.isna().any() or dense.isna().any():
            return judge(f"no runs, or none with an epoch as early as after {seconds:.3g} s", None)
        ahead = difference(low, dense, report.prior(runs, [low, dense], "val")).within(0)
        found[f"after {seconds:.3g} s"] = ahead.said(f"low-rank {low.mean():.2f}, dense {dense.mean():.2f}: {ahead.measured}")
    return all_of(found)


def dense_does_not_depend(runs: pd.DataFrame, counts: pd.DataFrame) -> Finding:
    at = accuracies(runs, "dense")
    known = report.prior(runs, at.values())
    text = report.ends(at, known)
    return alike(at, 0.05, known).said(text) if len(at) >= DENSITIES else judge(text, None)


def repeats_were_merged(runs: pd.DataFrame, counts: pd.DataFrame) -> Finding:
    """Every count of K's lies within three standard deviations of what is expected."""
    printed = counts.dropna(subset="K_sparse")
    off, apart = printed["off"].abs().max(), (printed["off"] / printed["spread"]).abs().max()
    return judge(f"off by {off:.0f} weights at most, and by {apart:.1f} standard deviations", bool(apart <= 3))


CLAIMS = [
    Claim("K 3.5, Fig. 8", "Low-rank outperforms dense at every E", at_every(accuracies, "low_rank", is_ahead)),
    Claim("K 3.5, Table 7", "It does so with far fewer weights, as many as K prints", far_fewer_weights, images=False),
    Claim("K 4.2.1, Fig. 9", "Low-rank learns faster than dense: ahead after a tenth and a third of the time", learns_faster),
    Claim("K 3.5, Fig. 8", "Dense does not depend on E: within 0.05", dense_does_not_depend),
    Claim(
        "this lab",
        "Sparse is no slower than dense: in the same time at most a tenth fewer epochs (K's was no faster at 1 %)",
        at_every(epochs, "sparse", as_many),
        images=False,
    ),
    Claim(
        "this lab",
        "K's sparse counts are draws with repeats merged, with a bias for each row of each block",
        repeats_were_merged,
        images=False,
    ),
]

"""Kale 2024, 3.1: the time of W x for a dense, a sparse and a low-rank W of growing size (Figs. 4 and 5).

K measured on one GPU, forward only; the layers here also run backward. K's sparse matrices are CSC, torch_csc here. Times are
the least of a run's repeats, because other work of the machine only adds to them. The least varies between runs too, so a
verdict needs at least two seeds: `experiment=matmul_speed -m seed=0,1,2`.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments.claims import Claim, judge
from experiments.report import WAYS
from experiments.verdicts import Finding, all_of, at_least, ratio

AXES = ("R", "depth", "study.R", "study.depth")
FIGURES = {"product": "W x", "layer": "a layer, forward and backward"}
LARGE = 5000  # rows from which the largest size measured can stand for K's
TEN = (10**0.5, 10**1.5)  # "about 10 times", "an order of magnitude": nearer to 10 than to 1 or 100


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """One figure for bare products and one for layers: time by size, a panel for each density, a line for each way."""
    shares = sorted(runs["R"].unique(), reverse=True)
    made = {}
    for what, title in FIGURES.items():
        figure = Figure(figsize=(5.6 * len(shares), 4), layout="constrained")
        panels = figure.subplots(1, len(shares), squeeze=False, sharey=True)[0]
        for axes, R in zip(panels, shares, strict=True):
            for way, at in times(runs, what, R).items():
                axes.loglog(at.index.astype(float) ** 2, at, label=way, **WAYS[way])
            axes.set(title=f"{100 * R:g} % of the weights", xlabel="entries of W (m × n)", ylabel=f"milliseconds: {title}")
            axes.grid(alpha=0.3)
        panels[0].legend(title="the matrix is held")
        made[f"matmul_speed_{what}"] = figure
    return made


def times(runs: pd.DataFrame, what: str, R: float) -> pd.DataFrame:
    """The mean over seeds of the time of a "product" or a "layer" at a density: a row for each depth, a column for each way."""
    here = runs[(runs["R"] == R) & (runs["state"] == "finished")]
    named = {f"{what}_ms_min/{way}": way for way in WAYS if f"{what}_ms_min/{way}" in here}
    return here.groupby("study.depth")[list(named)].mean().rename(columns=named)


def largest(runs: pd.DataFrame, what: str, R: float) -> dict[str, pd.Series]:
    """The times by way and seed at the largest depth, if they can be judged by: on a GPU, as K's, and at a size that stands for
    K's."""
    here = runs[(runs["R"] == R) & (runs["state"] == "finished")]
    gpu = runs["device"].astype(str).str.startswith("cuda").all()
    if not gpu or here.empty or here["study.depth"].max() < LARGE:
        return {}
    here = here[here["study.depth"] == here["study.depth"].max()].groupby("seed")
    return {way: here[column].mean() for way in WAYS if (column := f"{what}_ms_min/{way}") in runs}


def ratio_of(R: float, way: str, to: str, low: float, high: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: bare, `way` is between `low` and `high` times as fast as `to`, at the largest size; the others stand beside."""

    def measure(runs: pd.DataFrame) -> Finding:
        at, last = times(runs, "product", R), largest(runs, "product", R)
        faster = at[to] / at[way] if len(at) else pd.Series(dtype=float)
        text = ", ".join(f"{value:.3g} at {depth:g}²" for depth, value in faster.items()) or "no runs"
        found = ratio(last[to], last[way], low, high) if last else judge("", None)
        return found.said(f"{text}; at the last {found.measured}" if last else text)

    return measure


def same_trend(runs: pd.DataFrame) -> Finding:
    """Of dense, sparse (as a layer torch_csr, which has a sparse gradient) and low-rank the same one is the fastest."""
    words, found = [], {}
    for R in (0.01, 0.001):
        tables = {
            what: {"dense": at.get("dense"), "sparse": at.get(sparse), "low_rank": at.get("low_rank")}
            for what, sparse in (("product", "torch_csc"), ("layer", "torch_csr"))
            for at in (largest(runs, what, R),)
        }
        if any(one is None for table in tables.values() for one in table.values()):
            return judge("no runs", None)
        first = {what: min(table, key=lambda way, table=table: table[way].mean()) for what, table in tables.items()}
        words.append(f"fastest at {100 * R:g} %: {first['product']} bare, {first['layer']} as a layer")
        fastest = {
            way: all_of({f"{what}, {o}": ratio(at[way], at[o], high=1) for what, at in tables.items() for o in at if o != way})
            for way in tables["product"]
        }
        found[f"{R:g}"] = at_least(1, fastest)
    return all_of(found).said("; ".join(words))


def kale(where: str, sentence: str, measure: Callable[[pd.DataFrame], Finding]) -> Claim:
    return Claim(f"K 3.1, {where} (one GPU)", sentence, measure, images=False)


INF = float("inf")
CLAIMS = [
    kale("Fig. 4", "At 1 % low-rank is about 10 times as fast as dense", ratio_of(0.01, "low_rank", "dense", *TEN)),
    kale("Fig. 4", "At 1 % sparse and dense are about as fast", ratio_of(0.01, "torch_csc", "dense", 1 / 2, 2)),
    kale("Fig. 5", "At 0.1 % sparse is faster than dense", ratio_of(0.001, "torch_csc", "dense", 1.1, INF)),
    kale("Fig. 5", "At 0.1 % low-rank is about 10 times as fast as sparse", ratio_of(0.001, "low_rank", "torch_csc", *TEN)),
    kale("Figs. 4, 5", "As layers they follow the same trend", same_trend),
]

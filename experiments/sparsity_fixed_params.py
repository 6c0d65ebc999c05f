"""Hershey 2023, 3.4.2: a fixed number of weights, spread more or less densely (Figs. 3.14–3.17)."""

import math

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.report import Claim, judge, level, number, trained, words
from experiments.verdicts import Finding

AXES = ("model", "R", "n_weights")
TIE = 0.02  # what cannot be told apart


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Validation ACC_end by epoch: a panel for each number of weights, a curve for each density, the nearest LSTM beside."""
    inn, lstm = trained(runs, model="inn"), trained(runs, model="lstm")
    counts = sorted(inn["n_weights"].unique(), reverse=True)
    figure, panels = report.grid(len(counts))
    for axes, count in zip(panels, counts, strict=True):
        here = trained(inn, n_weights=count)
        nearest = min(lstm["n_weights"].unique(), key=lambda n: abs(math.log(n / count)), default=None)
        undefined = runs[(runs["state"] == "undefined") & (runs["n_weights"] == count) & (runs["model"] == "inn")]["R"]
        note = f" (undefined: R={', '.join(f'{R:g}' for R in sorted(undefined.unique()))})" if len(undefined) else ""
        curves = report.by_density(here, trained(lstm, n_weights=nearest))
        report.panel(axes, f"{count:,} weights{note}", curves, chance=1 / here["seq_len"].iloc[0])
    return {"sparsity_fixed_params": figure}


def levels(runs: pd.DataFrame, n_weights: int) -> pd.Series:
    """Where the INN ends at `n_weights`, by density."""
    return report.levels(trained(runs, model="inn", n_weights=n_weights))


def no_effect_at_a_million(runs: pd.DataFrame) -> Finding:
    at = levels(runs, 1_000_000)
    at = at[at.index >= 0.02]  # H shows 0.02 to 1.0 here
    enough = len(at) >= 3 and at.index.min() <= 0.05 and at.index.max() >= 0.8
    return judge(words(at), bool(at.max() - at.min() <= 0.1) if enough else None)


def dense_collapses(runs: pd.DataFrame) -> Finding:
    at = levels(runs, 100_000)
    return judge(words(at[at.index == 1.0]), bool(at[1.0] <= 0.25) if 1.0 in at else None)


def middle_is_best(n_weights: int, low: float, high: float):
    """Claim: between R = 0.05 and 0.2 every density ends between `low` and `high`, and none outside above it, but for a tie."""

    def measure(runs: pd.DataFrame) -> Finding:
        at = levels(runs, n_weights)
        inside = at[(at.index >= 0.05) & (at.index <= 0.2)]
        outside = at.drop(inside.index)
        if inside.empty or outside.empty:
            return judge(words(at), None)
        return judge(words(at), bool(inside.between(low, high).all() and inside.min() >= outside.max() - TIE))

    return measure


def at_density(n_weights: int, R: float, low: float, high: float):
    """Claim: at this density the runs end between `low` and `high`."""

    def measure(runs: pd.DataFrame) -> Finding:
        at = levels(runs, n_weights)
        return judge(words(at[at.index == R]), bool(low <= at[R] <= high) if R in at else None)

    return measure


def best_at_ten_thousand(runs: pd.DataFrame) -> Finding:
    at = levels(runs, 10_000)
    enough = len(at) >= 3 and 0.1 in at
    return judge(words(at), bool(at.idxmax() == 0.1 and 0.16 <= at[0.1] <= 0.30) if enough else None)


def undefined_above(runs: pd.DataFrame) -> Finding:
    at = runs[(runs["model"] == "inn") & (runs["n_weights"] == 10_000)]
    states = at.groupby("R")["state"].first()
    above, upto = states[states.index > 0.2], states[states.index <= 0.2]
    text = ", ".join(f"{state} at R={R:g}" for R, state in states.items()) or "no runs"
    return judge(text, bool((above == "undefined").all() and (upto != "undefined").all()) if len(above) and len(upto) else None)


def ahead_of_the_lstm(runs: pd.DataFrame) -> Finding:
    inn = levels(runs, 1_000_000)
    lstm = level(trained(runs, model="lstm", n_weights=1_307_540))
    text = f"INN {words(inn)}; LSTM {number(lstm)}"
    return judge(text, bool(inn.min() > lstm) if len(inn) and lstm == lstm else None)


CLAIMS = [
    Claim("H 3.4.2, Fig. 3.14", "With 1,000,000 weights density has no clear effect", no_effect_at_a_million),
    Claim("H 3.4.2, Fig. 3.14", "With 1,000,000 weights every density is ahead of the LSTM", ahead_of_the_lstm),
    Claim("H 3.4.2, Fig. 3.15", "With 100,000 weights R=1.0 collapses to about 0.20", dense_collapses),
    Claim("H 3.4.2, Fig. 3.15", "With 100,000 weights R=0.05–0.2 is best, at 0.5–0.6", middle_is_best(100_000, 0.45, 0.65)),
    Claim("H 3.4.2, Fig. 3.16", "With 50,000 weights R=1.0 stays at chance", at_density(50_000, 1.0, 0.05, 0.15)),
    Claim("H 3.4.2, Fig. 3.16", "With 50,000 weights R=0.6 stays below 0.40", at_density(50_000, 0.6, 0.0, 0.40)),
    Claim("H 3.4.2, Fig. 3.16", "With 50,000 weights R=0.005 ends at about 0.20", at_density(50_000, 0.005, 0.15, 0.27)),
    Claim("H 3.4.2, Fig. 3.16", "With 50,000 weights R=0.05–0.2 is best, near 0.5", middle_is_best(50_000, 0.4, 0.6)),
    Claim("H 3.4.2, Fig. 3.17", "With 10,000 weights R=0.1 is best, at about 0.23", best_at_ten_thousand),
    Claim("H 3.4.2, Fig. 3.17", "With 10,000 weights the INN cannot be defined above R=0.2", undefined_above),
]

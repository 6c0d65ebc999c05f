"""Hershey 2023, 3.4.2: a fixed number of weights, spread more or less densely (Figs. 3.14–3.17)."""

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import trained
from experiments.verdicts import Finding, alike, all_of, best, difference, mean

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


def by_density(runs: pd.DataFrame, n_weights: int, low: float = 0.0, high: float = 1.0) -> dict[float, pd.Series]:
    """Where the INN ends at `n_weights`, for the densities from `low` to `high`."""
    found = report.arms(trained(runs, model="inn", n_weights=n_weights), "R")
    return {R: arm for R, arm in found.items() if low <= R <= high}


def no_effect_at_a_million(runs: pd.DataFrame) -> Finding:
    """Any two densities that H shows, 0.02 to 1.0, end within 0.1 of each other."""
    found = by_density(runs, 1_000_000, 0.02)
    known = report.prior(runs, found.values())
    if len(found) < 3 or min(found) > 0.05 or max(found) < 0.8:
        return judge(report.ends(found, known), None)
    return alike(found, 0.1, known).said(report.ends(found, known))


def ends_within(n_weights: int, R: float, low: float, high: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: at this density the runs end between `low` and `high`."""

    def measure(runs: pd.DataFrame) -> Finding:
        found = by_density(runs, n_weights, R, R)
        return mean(found[R], report.prior(runs, found.values())).within(low, high) if found else judge("no runs", None)

    return measure


def middle_is_best(n_weights: int, low: float, high: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: between R = 0.05 and 0.2 every density ends between `low` and `high`, and none outside above it, but for a tie."""

    def measure(runs: pd.DataFrame) -> Finding:
        found, inside = by_density(runs, n_weights), by_density(runs, n_weights, 0.05, 0.2)
        others = {R: arm for R, arm in found.items() if R not in inside}
        known = report.prior(runs, found.values())
        if not inside or not others:
            return judge(report.ends(found, known), None)
        ends = {f"{R:g}": mean(arm, known).within(low, high) for R, arm in inside.items()}
        ahead = {f"{R:g} best": best(arm, others, TIE, known) for R, arm in inside.items()}
        return all_of({**ends, **ahead}).said(report.ends(found, known))

    return measure


def best_at_ten_thousand(runs: pd.DataFrame) -> Finding:
    found = by_density(runs, 10_000)
    others = {R: arm for R, arm in found.items() if R != 0.1}
    known = report.prior(runs, found.values())
    if len(others) < 2 or 0.1 not in found:
        return judge(report.ends(found, known), None)
    both = {"level": mean(found[0.1], known).within(0.16, 0.30), "best": best(found[0.1], others, TIE, known)}
    return all_of(both).said(report.ends(found, known))


def undefined_above(runs: pd.DataFrame) -> Finding:
    at = runs[(runs["model"] == "inn") & (runs["n_weights"] == 10_000)]
    states = at.groupby("R")["state"].first()
    above, upto = states[states.index > 0.2], states[states.index <= 0.2]
    text = ", ".join(f"{state} at R={R:g}" for R, state in states.items()) or "no runs"
    return judge(text, bool((above == "undefined").all() and (upto != "undefined").all()) if len(above) and len(upto) else None)


def ahead_of_the_lstm(runs: pd.DataFrame) -> Finding:
    found, lstm = by_density(runs, 1_000_000), trained(runs, model="lstm", n_weights=1_307_540)
    other = report.arm(lstm)
    known = report.prior(runs, [*found.values(), other])
    if not found or other.empty:
        return judge(f"INN {report.ends(found, known)}; LSTM {report.number(other.mean())}", None)
    ahead = {f"R={R:g}": difference(arm, other, known).within(0) for R, arm in found.items()}
    return all_of(ahead).said(f"INN {report.ends(found, known)}; LSTM {other.mean():.2f}")


def disconnected(runs: pd.DataFrame) -> Finding:
    """For each run, whose pattern follows from its seed: the fraction of weights from which no path leads to an output."""
    here = trained(runs, model="inn", n_weights=50_000, R=0.005)
    if here.empty or "model/weights_effective" not in here:
        return judge("no runs", None)
    lost = report.arm(here, lambda part: 1 - report.each(part, "model/weights_effective") / report.each(part, "model/weights"))
    return mean(lost).within(0.1, digits=4)


MILLION, FEWER = {"lr": 1e-4}, {"lr": None}  # H gives it for a million weights, and is silent for the rest
CLAIMS = [
    *(
        Claim("H 3.4.2, Fig. 3.14", f"With 1,000,000 weights {sentence}", measure, setting=MILLION)
        for sentence, measure in (
            ("density has no clear effect", no_effect_at_a_million),
            ("every density is ahead of the LSTM", ahead_of_the_lstm),
        )
    ),
    *(
        Claim(f"H 3.4.2, Fig. {figure}", f"With {sentence}", measure, setting=FEWER)
        for figure, sentence, measure in (
            ("3.15", "100,000 weights R=1.0 collapses to about 0.20", ends_within(100_000, 1.0, 0.0, 0.25)),
            ("3.15", "100,000 weights R=0.05–0.2 is best, at 0.5–0.6", middle_is_best(100_000, 0.45, 0.65)),
            ("3.16", "50,000 weights R=1.0 stays at chance", ends_within(50_000, 1.0, 0.05, 0.15)),
            ("3.16", "50,000 weights R=0.6 stays below 0.40", ends_within(50_000, 0.6, 0.0, 0.40)),
            ("3.16", "50,000 weights R=0.005 ends at about 0.20", ends_within(50_000, 0.005, 0.15, 0.27)),
            ("3.16", "50,000 weights R=0.05–0.2 is best, near 0.5", middle_is_best(50_000, 0.4, 0.6)),
            ("3.17", "10,000 weights R=0.1 is best, at about 0.23", best_at_ten_thousand),
        )
    ),
    Claim("H 3.4.2, Fig. 3.17", "With 10,000 weights the INN cannot be defined above R=0.2", undefined_above),
    Claim(
        "H 3.4.2",
        "At 50,000 weights R=0.005 disconnects weights from the gradient path: a tenth of them or more",
        disconnected,
        images=False,
    ),
]

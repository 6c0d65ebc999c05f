"""Kale 2024, 3.4: a million weights, divided among blocks that feed forward and blocks that feed back (Table 6, Fig. 7).

K gives neither learning rate nor epochs, and does not say whether the sequences are fixed. Here they are drawn anew each epoch,
so there is less overfitting: K's models overfit more with more recurrence, these may not.
"""

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, each, tails, tested, trained, words
from experiments.verdicts import Finding, correlation
from experiments.weight_distribution import TOTAL, dealt
from inn_lab.sizing import diagonal_group

AXES = ("model.R_above",)
TABLE_6 = [(0, 0.23), (0.001, 0.2298), (0.01, 0.228), (0.05, 0.222), (0.1, 0.215)]  # ρ_u, ρ_l; ρ_d is 0.2
TABLE_6 += [(0.2, 0.2), (0.4, 0.17), (0.8, 0.11), (1, 0.08)]
SETTINGS = 5  # the least number to see a trend


def settings(runs: pd.DataFrame) -> pd.DataFrame:
    """K's Table 6 as printed, and beside it the runs' densities, computed from the layers, and numbers of weights."""
    printed = pd.DataFrame(TABLE_6, columns=["K_rho_u", "K_rho_l"]).assign(K_rho_d=0.2, K_total=TOTAL)
    ours = dealt(runs, ("R_above", "R_below", "R_on"), diagonal_group)
    return printed.merge(ours, how="outer", left_on="K_rho_u", right_on="R_above")


TABLES = {"settings": settings}


def figures(runs: pd.DataFrame, settings: pd.DataFrame) -> dict[str, Figure]:
    """Validation and training loss and the gap between them by epoch, from dark (no recurrence) to light (full);
    and what the runs reach on the test set."""
    runs = trained(runs)
    runs = runs.assign(gap=runs["val/loss"] - runs["train/loss"])
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    (validation, training), (gap, test) = figure.subplots(2, 2)
    there = settings.dropna(subset="R_above")
    for row, tint in zip(there.itertuples(), report.shades(len(there)), strict=True):
        here = trained(runs, **{"model.R_above": row.R_above})
        for axes, metric in ((validation, "val/loss"), (training, "train/loss"), (gap, "gap")):
            report.curve(axes, here, metric, f"{row.R_above:g}, {row.R_below:.3f}", color=tint)
    training.sharey(validation)
    validation.set(xlabel="epoch", ylabel="validation loss")
    training.set(xlabel="epoch", ylabel="training loss")
    gap.set(xlabel="epoch", ylabel="validation loss − training loss")
    report.beside(validation, "R_above, R_below")
    report.side_by_side(test, each(runs, "model.R_above"), tested(runs), color="black", marker="o")
    test.set(xlabel="R_above", ylabel="test ACC_end")
    return {"recurrence": figure}


def speed(runs: pd.DataFrame) -> pd.Series:
    """How fast each run learns: its mean validation ACC_end over the first half of the epochs; 0 after it diverged."""
    half = (runs["epoch"].max() + 1) / 2
    return runs[runs["epoch"] < half].groupby("run_id")[ACC].sum() / (math.ceil(half) if len(runs) else 1)


def gaps(runs: pd.DataFrame) -> pd.Series:
    """Validation loss minus training loss at the end of each run. Runs that diverged are left out."""
    done = runs[runs["state"] == "finished"]
    return tails(done, "val/loss") - tails(done, "train/loss")


def trend(values: Callable[[pd.DataFrame], pd.Series], sign: int) -> Callable[..., Finding]:
    """Claim: a value of each run rises with R_above (`sign` 1), or falls (-1): by the rank correlation over the runs."""

    def measure(runs: pd.DataFrame, settings: pd.DataFrame) -> Finding:
        there = trained(runs)
        at, value = each(there, "model.R_above"), values(there)
        text = words(value.groupby(at).mean(), "R_above", 3)
        if at[value.dropna().index].nunique() < SETTINGS:
            return judge(text, None)
        found = correlation(at, value, *((0, 1) if sign > 0 else (-1, 0)))
        return found.said(f"{text}; rank correlation {found.measured}")

    return measure


CLAIMS = [
    Claim(
        "K 3.4, Fig. 7",
        "Models with more recurrent connections learn faster: mean validation ACC_end over the first half of the epochs rises",
        trend(speed, 1),
        setting={"lr": None},
    ),
    Claim(
        "K 3.4, Fig. 7",
        "Models with less recurrence overfit less: the gap of the losses rises with it",
        trend(gaps, 1),
        setting={"lr": None},
    ),
    Claim("K 3.4", "Models with less recurrence do better on the test set", trend(tested, -1), setting={"lr": None}),
]

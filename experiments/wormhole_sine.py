"""Habiba and Pearlmutter 2021, 4.2 and Fig. 7: a network whose output goes back to its input follows a sine."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import each, trained
from experiments.verdicts import Finding, all_of, at_least, difference, mean

AXES = ("lr", "model.feedback")
TABLES = {"answers": "answers.csv"}
LR = 1e-3  # T's
STABLE = 0.05  # of the loss: what it may still fall by in the last tenth of the iterations
FLAT = 0.125  # the loss of an answer that is always 1/2: the variance of a sine between 0 and 1


def figures(runs: pd.DataFrame, answers: pd.DataFrame) -> dict[str, Figure]:
    """Loss by iteration, with and without the way back; and below, the waves of the first seed."""
    here = trained(runs)
    rates = sorted(here["lr"].unique())
    figure = Figure(figsize=(4.6 * max(1, len(rates)), 7.2), layout="constrained")
    axes = figure.subplots(2, max(1, len(rates)), squeeze=False, sharey="row")
    for column, lr in enumerate(rates):
        above, below = axes[:, column]
        for number, (name, feedback) in enumerate((("nothing goes back", False), ("output goes back", True))):
            if (part := fed_back(here[here["lr"] == lr], feedback)).empty:
                continue
            report.curve(above, part, "train/loss", name, color=f"C{number}")
            first = part.sort_values("seed").iloc[[0]]
            wave = answers[answers["run_id"] == first["run_id"].iloc[0]]
            if not below.lines:
                below.plot(wave["true"].to_numpy(), color="gray", linewidth=3, alpha=0.4, label="the sine")
            report.line(below, range(len(wave)), wave["answer"].to_numpy(), first, name, color=f"C{number}")
        above.axhline(FLAT, color="gray", linestyle=":", linewidth=0.8, label="always 1/2")
        above.set(title=f"lr={lr:g}", xlabel="iteration of training", ylabel="mean squared error", yscale="log")
        below.set(xlabel="test points, in order", ylabel="height")
        above.legend()
        below.legend()
    return {"wormhole_sine": figure}


def fed_back(runs: pd.DataFrame, feedback: bool = True) -> pd.DataFrame:
    return trained(runs, **{"model.feedback": str(feedback)})  # MLflow keeps params as text


def losses(runs: pd.DataFrame) -> pd.Series:
    """Each run's last training loss, by run_id; infinite if it diverged."""
    last = runs.sort_values("epoch").groupby("run_id")["train/loss"].last()
    return last.mask(each(runs, "state") == "diverged", math.inf)


def is_stable(runs: pd.DataFrame, answers: pd.DataFrame) -> Finding:
    """The fall of the loss in the last tenth, at T's learning rate, as a mean over seeds."""
    here = fed_back(trained(runs, lr=LR))
    if lost := here[here["state"] == "diverged"]["run_id"].nunique():
        return judge(f"{lost} diverged (lr={LR:g})", False)

    def fall(part: pd.DataFrame) -> pd.Series:
        last = part["epoch"].max()
        at = part.pivot_table(index="run_id", columns="epoch", values="train/loss")
        return 1 - at[last] / at[last - (last + 1) // 10]

    found = mean(report.arm(here, fall)).within(-STABLE, STABLE, digits=3) if len(here) else judge("no runs", None)
    return found.said(f"in the last tenth it falls by {found.measured} of itself (lr={LR:g})")


def follows(runs: pd.DataFrame, answers: pd.DataFrame) -> Finding:
    """At one learning rate at least R² of the test points is 0.99 or more, on average over seeds; what diverged has none."""
    found = {}
    for lr, part in fed_back(runs).groupby("lr"):
        if (part["state"] == "diverged").any():
            found[f"lr={lr:g}"] = judge("some diverged", False)
            continue
        waves = answers[answers["run_id"].isin(part["run_id"])].groupby("run_id")
        scores = pd.Series({run_id: r2_score(points["true"], points["answer"]) for run_id, points in waves}, dtype=float)
        found[f"lr={lr:g}"] = mean(report.arm(part, lambda runs, s=scores: s)).within(0.99, digits=3)
    return at_least(1, found)


def helps(runs: pd.DataFrame, answers: pd.DataFrame) -> Finding:
    """The last loss, at each learning rate; where a network diverged with the way back, it does not."""
    back, without = (report.arms(fed_back(runs, feedback), "lr", losses) for feedback in (True, False))
    found = {}
    for lr in (lr for lr in back if lr in without):
        one, other = back[lr], without[lr]
        apart = difference(other, one).within(0, digits=4)
        apart = judge("diverged", False) if np.isinf(one).any() else apart
        found[f"lr={lr:g}"] = apart.said(f"{one.mean():.4f} against {other.mean():.4f}: {apart.measured}")
    return all_of(found)


CLAIMS = [
    Claim("T 4.2, Fig. 7(a)", "By iteration 300 the loss is stable", is_stable),
    Claim("T 4.2, Fig. 7(b)", "After 300 iterations the wave is followed", follows),
    Claim("this lab", "The way back helps: a smaller loss than without, at every learning rate", helps),
]

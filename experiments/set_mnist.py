"""Mocanu et al. 2018: a check of SET against published numbers, a layered network on MNIST.

Printed: 98.74 % with SET and 89,797 weights, 97.68 % with as many in a random pattern that stays, 98.55 % dense with 2.8
million.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, tested, trained
from experiments.verdicts import Finding, difference, mean

AXES = ("model.R_layers", "pruning._target_")
ARMS = {"SET": report.BLUE, "fixed random pattern": "black", "dense": report.ORANGE}
PRINTED = {"SET": 0.9874, "fixed random pattern": 0.9768, "dense": 0.9855}
NEAR = 0.003  # how far from the printed number a level may be
TIE = 0.002  # as good as


def of(runs: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The runs of an arm that trained."""
    here = trained(runs)
    learnt = here["pruning._target_"].notna() if "pruning._target_" in here else pd.Series(False, here.index)
    sparse = here["model.R_layers"].notna()
    return here[{"SET": learnt, "fixed random pattern": sparse & ~learnt, "dense": ~sparse}[arm]]


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Training loss and validation by epoch; the legend has the test accuracies."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    loss, known = figure.subplots(1, 2)
    for arm, color in ARMS.items():
        part = of(runs, arm)
        if len(part):
            label = f"{arm}: {report.weights(part)} weights, test {tested(part).mean():.4f}"
            report.curve(loss, part, "train/loss", label, color=color)
            report.curve(known, part, ACC, label, color=color)
    loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    known.set(xlabel="epoch", ylabel="validation ACC_end", ylim=(0.9, 1))
    loss.legend()
    return {"set_mnist": figure}


def printed(arm: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the test accuracy is what the source prints."""

    def measure(runs: pd.DataFrame) -> Finding:
        found = report.arm(of(runs, arm))
        return mean(found).within(PRINTED[arm] - NEAR, PRINTED[arm] + NEAR, digits=4) if len(found) else judge("no runs", None)

    return measure


def ahead(one: str, other: str, by: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: an arm ends more than `by` above another, seed by seed."""

    def measure(runs: pd.DataFrame) -> Finding:
        return difference(report.arm(of(runs, one)), report.arm(of(runs, other))).within(by, digits=4)

    return measure


CLAIMS = [
    *(
        Claim("Mocanu et al. 2018", f"{arm}: {100 * value:.2f} %, within {100 * NEAR:g}", printed(arm))
        for arm, value in PRINTED.items()
    ),
    Claim("Mocanu et al. 2018", "SET is ahead of a random pattern that stays", ahead("SET", "fixed random pattern", 0)),
    Claim("Mocanu et al. 2018", f"SET is as good as the dense network, but for {100 * TIE:g} %", ahead("SET", "dense", -TIE)),
]

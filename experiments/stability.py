"""Hershey 2023, 3.4.3: a million weights, more or less dense, at growing learning rates (Fig. 3.18).

A run that diverged failed to train: it ends at 0 (`report.finals`), below those that answer by chance.
"""

from collections.abc import Callable

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import level, number, trained, words
from experiments.verdicts import Finding

AXES = ("model", "lr", "R", "n_weights", "model.init")
RATES = "plasma"  # learning rates go from dark (low) to light (high), in a map that is not the densities'


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """By epoch, weights drawn as H draws them: a panel for each learning rate. And where all runs end, by density."""
    rates = sorted(trained(runs)["lr"].unique())
    chance = 1 / runs["seq_len"].iloc[0]
    by_epoch, panels = report.grid(len(rates))
    for axes, lr in zip(panels, rates, strict=True):
        here = trained(runs, lr=lr)
        curves = report.by_density(inn(here, "normal"), trained(here, model="lstm"))
        report.panel(axes, f"lr {lr:g}", curves, chance)
    return {"stability": by_epoch, "stability_levels": by_density(runs, rates, chance)}


def by_density(runs: pd.DataFrame, rates: list[float], chance: float) -> Figure:
    """Where the runs end, by density: a line for each learning rate and way to draw the weights, the LSTM beside."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for rank, lr in enumerate(rates):
        colour = matplotlib.colormaps[RATES](rank / max(1, len(rates) - 1) * 0.9)
        for init, line in (("normal", "-o"), ("fan_in", "--s")):
            at = report.levels(inn(trained(runs, lr=lr), init))
            if len(at):
                axes.plot(at.index, at, line, color=colour, markersize=4, label=f"lr {lr:g}, {init}")
        lstm = level(trained(runs, lr=lr, model="lstm"))
        if lstm == lstm:
            axes.plot(1.25, lstm, "*", color=colour, markersize=11, label=f"lr {lr:g}, LSTM")
    axes.axhline(chance, color="gray", linewidth=0.8, linestyle=":", label="chance")
    densities = sorted(trained(runs, model="inn")["R"].unique())
    axes.set(
        xscale="log", xlabel="density R (LSTM: at the right)", ylabel="final validation ACC_end (0: diverged)", ylim=(-0.03, 1)
    )
    axes.set_xticks(densities, [f"{R:g}" for R in densities])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, ncols=2)
    return figure


def inn(runs: pd.DataFrame, init: str) -> pd.DataFrame:
    """The INN's runs whose weights are drawn in this way."""
    return trained(runs, model="inn", **{"model.init": init})


def levels(runs: pd.DataFrame, lr: float, init: str) -> pd.Series:
    """Where the INN ends at a learning rate, by density."""
    return report.levels(trained(inn(runs, init), lr=lr))


def alike_at_a_low_rate(runs: pd.DataFrame) -> Finding:
    at = levels(runs, 1e-4, "normal")
    enough = len(at) >= 3 and at.index.min() <= 0.05 and at.index.max() >= 0.8
    return judge(words(at), bool(at.max() - at.min() <= 0.1) if enough else None)


def dense_fails(init: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: at 1e-3 no density above 0.4 trains."""

    def measure(runs: pd.DataFrame) -> Finding:
        at = levels(runs, 1e-3, init)
        at = at[at.index > 0.4]
        return judge(words(at), bool((at <= 0.2).all()) if len(at) >= 2 else None)

    return measure


def sparse_trains(runs: pd.DataFrame) -> Finding:
    at = levels(runs, 1e-3, "normal")
    at = at[at.index <= 0.2]
    return judge(words(at), bool((at >= 0.4).all()) if len(at) >= 2 else None)


def only_the_sparsest_train(lr: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: R=0.02 ends at about 0.35 and all above R=0.05 fail. R=0.05 itself, which H saw do either, is not judged."""

    def measure(runs: pd.DataFrame) -> Finding:
        at = levels(runs, lr, "normal")
        others = at[at.index > 0.05]
        enough = 0.02 in at and len(others) >= 3
        return judge(words(at), bool(0.25 <= at[0.02] <= 0.45 and (others <= 0.15).all()) if enough else None)

    return measure


def lstm_is_worse(runs: pd.DataFrame) -> Finding:
    low, high = (level(trained(runs, model="lstm", lr=lr)) for lr in (1e-4, 1e-3))
    text = f"{number(high)} at 1e-3, {number(low)} at 1e-4"
    return judge(text, None if low != low or high != high else high < low)


CLAIMS = [
    Claim("H 3.4.3, Fig. 3.18a", "At lr 1e-4 all densities end alike", alike_at_a_low_rate),
    Claim("H 3.4.3, Fig. 3.18b", "At lr 1e-3 every density above 0.4 fails to train", dense_fails("normal")),
    Claim("H 3.4.3, Fig. 3.18b", "At lr 1e-3 densities up to 0.2 train", sparse_trains),
    Claim("H 3.4.3, Fig. 3.18b", "The LSTM ends lower at lr 1e-3 than at 1e-4", lstm_is_worse),
    Claim("H Fig. 3.18c", "At lr 4e-3 only R=0.02 (about 0.35) and 0.05 train", only_the_sparsest_train(4e-3)),
    Claim("H 3.4.3", "At lr 4e-2 only R=0.02 (about 0.35) and 0.05 train", only_the_sparsest_train(4e-2)),
    Claim("this lab", "At lr 1e-3 every density above 0.4 fails with init=fan_in as well", dense_fails("fan_in")),
]

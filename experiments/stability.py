"""Hershey 2023, 3.4.3: a million weights, more or less dense, at growing learning rates (Fig. 3.18).

A run that diverged failed to train: it ends at 0 (`report.tested`), below those that answer by chance.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import number, tested, trained
from experiments.verdicts import Estimate, Finding, alike, all_of, correlation, difference, mean

AXES = ("model", "lr", "R", "n_weights", "model.init")
NEAR = 0.1  # of its best end: a learning rate that an INN bears


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
    for lr, colour in zip(rates, report.shades(len(rates)), strict=True):
        for init, style in (("normal", {"marker": "o"}), ("fan_in", {"marker": "s", "linestyle": "--"})):
            at = arms(runs, lr, init)
            if at:
                means, these = [arm.mean() for arm in at.values()], trained(inn(runs, init), lr=lr)
                report.line(axes, list(at), means, these, f"lr {lr:g}, {init}", color=colour, markersize=4, **style)
        lstm = report.arm(trained(runs, lr=lr, model="lstm"))
        if len(lstm):
            axes.plot(1.25, lstm.mean(), "*", color=colour, markersize=11, label=f"lr {lr:g}, LSTM")
    axes.axhline(chance, color="gray", linewidth=0.8, linestyle=":", label="chance")
    densities = sorted(trained(runs, model="inn")["R"].unique())
    axes.set(xscale="log", xlabel="density R (LSTM: at the right)", ylabel="test ACC_end (0: diverged)", ylim=(-0.03, 1))
    axes.set_xticks(densities, [f"{R:g}" for R in densities])
    axes.set_xticks([], minor=True)
    report.beside(axes, "learning rate, weights drawn")
    return figure


def inn(runs: pd.DataFrame, init: str) -> pd.DataFrame:
    """The INN's runs whose weights are drawn in this way."""
    return trained(runs, model="inn", **{"model.init": init})


def arms(runs: pd.DataFrame, lr: float, init: str) -> dict[float, pd.Series]:
    """Where the INN ends at a learning rate, by density."""
    return report.arms(trained(inn(runs, init), lr=lr), "R")


def ends(
    lr: float, init: str, judged: Callable[[float, Estimate], Finding | None], least: int = 2
) -> Callable[[pd.DataFrame], Finding]:
    """Claim on where each density ends; `judged` has None for those of which it says nothing."""

    def measure(runs: pd.DataFrame) -> Finding:
        at = arms(runs, lr, init)
        known = report.prior(runs, at.values())
        found = {f"{R:g}": one for R, arm in at.items() if (one := judged(R, mean(arm, known)))}
        text = report.ends({R: at[R] for R in at if f"{R:g}" in found}, known)
        return all_of(found).said(text) if len(found) >= least else judge(text, None)

    return measure


def alike_at_a_low_rate(runs: pd.DataFrame) -> Finding:
    at = arms(runs, 1e-4, "normal")
    known = report.prior(runs, at.values())
    enough = len(at) >= 3 and min(at) <= 0.05 and max(at) >= 0.8
    return (alike(at, 0.1, known) if enough else judge("", None)).said(report.ends(at, known))


def dense_fails(init: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: at 1e-3 no density above 0.4 comes to more than 0.2."""
    return ends(1e-3, init, lambda R, end: end.within(high=0.2) if R > 0.4 else None)


def only_the_sparsest_train(lr: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: R=0.02 ends at about 0.35 and all above R=0.05 at 0.15 at most. R=0.05 itself, which H saw do either, is not
    judged."""

    def judged(R: float, end: Estimate) -> Finding | None:
        return end.within(0.25, 0.45) if R == 0.02 else end.within(high=0.15) if R > 0.05 else None

    return ends(lr, "normal", judged, least=4)


def lstm_is_worse(runs: pd.DataFrame) -> Finding:
    low, high = (report.arm(trained(runs, model="lstm", lr=lr)) for lr in (1e-4, 1e-3))
    found = difference(low, high, report.prior(runs, [low, high])).within(0)
    return found.said(f"{number(high.mean())} at 1e-3, {number(low.mean())} at 1e-4: {found.measured}")


def rates_borne(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each INN with normal weights that was trained at three learning rates or more, by `R` and `seed`: at how many of them
    it ends within `NEAR` of its best, as `rates`."""
    there = trained(inn(runs, "normal")).drop_duplicates("run_id").set_index("run_id")
    ends = there.assign(end=tested(runs)).pivot_table(index=["R", "seed"], columns="lr", values="end").dropna()
    near = ends.ge(ends.max(axis=1) - NEAR, axis=0).sum(axis=1)
    return (near if ends.shape[1] >= 3 else near.iloc[:0]).rename("rates").reset_index()


def sparse_ones_bear_more(runs: pd.DataFrame) -> Finding:
    borne = rates_borne(runs)
    text = report.words(borne.groupby("R")["rates"].mean(), digits=1)
    found = correlation(borne["R"], borne["rates"], -1, 0)
    return (found if borne["R"].nunique() >= 5 else judge("", None)).said(f"{text}; rank correlation {found.measured}")


CLAIMS = [
    Claim("H 3.4.3, Fig. 3.18a", "At lr 1e-4 all densities end alike", alike_at_a_low_rate),
    Claim("H 3.4.3, Fig. 3.18b", "At lr 1e-3 every density above 0.4 fails to train", dense_fails("normal")),
    Claim(
        "H 3.4.3, Fig. 3.18b",
        "At lr 1e-3 densities up to 0.2 train",
        ends(1e-3, "normal", lambda R, end: end.within(0.4) if R <= 0.2 else None),
    ),
    Claim("H 3.4.3, Fig. 3.18b", "The LSTM ends lower at lr 1e-3 than at 1e-4", lstm_is_worse),
    Claim("H Fig. 3.18c", "At lr 4e-3 only R=0.02 (about 0.35) and 0.05 train", only_the_sparsest_train(4e-3)),
    Claim("H 3.4.3", "At lr 4e-2 only R=0.02 (about 0.35) and 0.05 train", only_the_sparsest_train(4e-2)),
    Claim(
        "this lab",
        f"The sparser an INN, the more of the learning rates it bears, ending within {NEAR} of its best",
        sparse_ones_bear_more,
    ),
    Claim("this lab", "At lr 1e-3 every density above 0.4 fails with init=fan_in as well", dense_fails("fan_in")),
]

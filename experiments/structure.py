"""Hershey 2023, 3.2: a layered network, and networks of the same components in other places (Figs. 3.1–3.4)."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import tested, trained
from experiments.verdicts import Finding, all_of, difference, mean

AXES = ("model.swap",)
TABLES = {"components": "components.csv"}
TRADED = {0.2: report.ORANGE, 0.5: report.RED}  # H's yellow and orange, farther apart, over the layered networks' blue
MARGIN = 0.03  # what differs by less is alike


def colour(swap: float) -> str:
    return report.INN if swap == 0 else TRADED.get(swap, "black")


def figures(runs: pd.DataFrame, components: pd.DataFrame) -> dict[str, Figure]:
    """The trainable components of one network of each kind; and every run's training loss by epoch, layered networks first."""
    swaps = sorted(trained(runs)["model.swap"].unique())
    spaces = Figure(figsize=(7, 2.2 * len(swaps)), layout="constrained")
    for axes, swap in zip(spaces.subplots(len(swaps), 1, squeeze=False)[:, 0], swaps, strict=True):
        first = trained(runs, **{"model.swap": swap}).sort_values("seed").iloc[0]
        weight_space(axes, components[components["run_id"] == first["run_id"]])
        axes.set_title(f"swap {swap:g}, seed {first['seed']:g}: {first['model/weights']:,.0f} weights", fontsize=9)
    curves = Figure(figsize=(10, 3.8), layout="constrained")
    alone, together = curves.subplots(1, 2, sharey=True)
    for axes, shown in ((alone, swaps[:1]), (together, swaps)):
        for swap in shown:
            for number, (_, run) in enumerate(trained(runs, **{"model.swap": swap}).groupby("run_id")):
                label, style = f"swap {swap:g}", {"color": colour(swap), "linewidth": 0.7, "alpha": 0.8}
                report.line(axes, run["epoch"] + 1, run["train/loss"], run, label if number == 0 else f"_{label}", **style)
        axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.legend()
    alone.set_title("layered")
    together.set_title("layered, and with components that have traded places")
    return {"structure_spaces": spaces, "structure": curves}


def weight_space(axes: Axes, components: pd.DataFrame) -> None:
    """The components of one network; the trainable ones are dark."""
    grid = components.pivot(index="row", columns="column", values="trains")
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=1.3)
    axes.set(xlabel="component's column", ylabel="row")


def losses(runs: pd.DataFrame) -> pd.Series:
    """Each run's training loss over its last tenth of epochs; infinite if it diverged."""
    states = report.each(runs, "state")
    return report.tails(runs, "train/loss").reindex(states.index).mask(states == "diverged", math.inf)


Values = Callable[[pd.DataFrame], pd.Series]


def kinds(runs: pd.DataFrame, values: Values) -> tuple[pd.Series, dict[float, pd.Series]]:
    """One number for each run, by seed: of the layered networks, and of those with trades by how many there were."""
    found = report.arms(trained(runs), "model.swap", values)
    return found.pop(0.0, pd.Series(dtype=float)), found


def alike(values: Values, name: str) -> Callable[..., Finding]:
    """Claim: each kind with trades ends where the layered networks do, within `MARGIN`, seed by seed."""

    def measure(runs: pd.DataFrame, components: pd.DataFrame) -> Finding:
        layered, others = kinds(runs, values)
        arms = {0.0: layered, **others}
        known = report.prior(runs, arms.values()) if values is tested else None
        text = f"{name} {report.ends(arms, known, 'swap', digits=3)}"
        if any(np.isinf(arm).any() for arm in arms.values()):
            return judge(f"{text}; some diverged", False)
        apart = {f"{swap:g}": difference(arm, layered, known).within(-MARGIN, MARGIN, digits=3) for swap, arm in others.items()}
        return all_of(apart).said(text)

    return measure


def as_good_as_the_thesis(runs: pd.DataFrame, components: pd.DataFrame) -> Finding:
    layered, others = kinds(runs, tested)
    arms = {0.0: layered, **others}
    known = report.prior(runs, arms.values())
    found = {f"{swap:g}": mean(arm, known).within(0.90, 0.95, digits=3) for swap, arm in arms.items()}
    return all_of(found).said(report.ends(arms, known, "swap", digits=3)) if layered.size and others else judge("no runs", None)


CLAIMS = [
    Claim(
        "H 3.2, Figs. 3.2, 3.4",
        "Layered and rearranged networks end at the same training loss",
        alike(losses, "loss"),
    ),
    Claim("H 3.2", "Layered and rearranged networks reach the same test accuracy", alike(tested, "test")),
    Claim("H 3.2", "Both kinds reach about 92.7 % on the test data", as_good_as_the_thesis),
]

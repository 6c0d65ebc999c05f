"""Hershey 2023, 3.2: a layered network, and networks of the same components in other places (Figs. 3.1–3.4)."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import ttest_ind

from experiments import report
from experiments.report import Claim, judge, tested, trained
from experiments.verdicts import Finding

AXES = ("model.swap",)
TABLES = {"components": "components.csv"}
TRADED = {0.2: "goldenrod", 0.5: "firebrick"}  # H's yellow and orange, farther apart, over the layered networks' blue
FEWEST = 3  # runs of each kind from which they can be compared
MARGIN = 0.03  # what differs by less is alike


def colour(swap: float) -> str:
    return report.INN if swap == 0 else TRADED.get(swap, "tab:red")


def figures(runs: pd.DataFrame, components: pd.DataFrame) -> dict[str, Figure]:
    """Which components train, in one network of each kind; and every run's training loss by epoch, layered ones first."""
    swaps = sorted(trained(runs)["model.swap"].unique())
    spaces = Figure(figsize=(7, 2.2 * len(swaps)), layout="constrained")
    for axes, swap in zip(spaces.subplots(len(swaps), 1, squeeze=False)[:, 0], swaps, strict=True):
        first = trained(runs, **{"model.swap": swap}).sort_values("seed").iloc[0]
        weight_space(axes, components[components["run_id"] == first["run_id"]])
        axes.set_title(f"swap {swap:g}, seed {first['seed']:g}: {first['model/weights']:,.0f} weights", fontsize=9)
    curves = Figure(figsize=(12, 4.2), layout="constrained")
    alone, together = curves.subplots(1, 2, sharey=True)
    for axes, shown in ((alone, swaps[:1]), (together, swaps)):
        for swap in shown:
            for number, (_, run) in enumerate(trained(runs, **{"model.swap": swap}).groupby("run_id")):
                label = f"swap {swap:g}" if number == 0 else None
                axes.plot(run["epoch"] + 1, run["train/loss"], color=colour(swap), linewidth=0.7, alpha=0.8, label=label)
        axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
        axes.legend(fontsize=8)
    alone.set_title("layered")
    together.set_title("layered, and with components that have traded places")
    return {"structure_spaces": spaces, "structure": curves}


def weight_space(axes: Axes, components: pd.DataFrame) -> None:
    """The components of one network; those that train are dark."""
    grid = components.pivot(index="row", columns="column", values="trains")
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=1.3)
    axes.set(xlabel="component's column", ylabel="row")


def by_kind(runs: pd.DataFrame, values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """One number for each run, of the layered networks and of the others."""
    swap = report.each(runs, "model.swap")
    return values[swap == 0], values[swap > 0]


def losses(runs: pd.DataFrame) -> pd.Series:
    """Each run's training loss over its last tenth of epochs; infinite if it diverged."""
    states = report.each(runs, "state")
    return report.tails(runs, "train/loss").reindex(states.index).mask(states == "diverged", math.inf)


def alike(values: Callable[[pd.DataFrame], pd.Series], name: str):
    """Claim: the two kinds end at the same value, within `MARGIN`, by the 95 % interval of the difference (Welch)."""

    def measure(runs: pd.DataFrame, components: pd.DataFrame) -> Finding:
        done = trained(runs)
        layered, others = by_kind(done, values(done))
        if min(len(layered), len(others)) < FEWEST:
            return judge(f"{len(layered)} layered and {len(others)} other runs", None)
        text = f"{name} {layered.mean():.3f} layered ({len(layered)} runs), {others.mean():.3f} others ({len(others)} runs)"
        if np.isinf([*layered, *others]).any():
            return judge(f"{text}; some diverged", False)
        low, high = ttest_ind(others, layered, equal_var=False).confidence_interval()
        return judge(f"{text}; difference {low:+.3f} to {high:+.3f} (95 %)", report.within(low, high, MARGIN))

    return measure


def as_good_as_the_thesis(runs: pd.DataFrame, components: pd.DataFrame) -> Finding:
    done = trained(runs)
    layered, others = by_kind(done, tested(done))
    if min(len(layered), len(others)) < FEWEST:
        return judge(f"{len(layered)} layered and {len(others)} other runs", None)
    means = layered.mean(), others.mean()
    return judge(f"{means[0]:.3f} layered, {means[1]:.3f} others", all(0.90 <= mean <= 0.95 for mean in means))


CLAIMS = [
    Claim("H 3.2, Figs. 3.2, 3.4", "Layered and rearranged networks end at the same training loss", alike(losses, "loss")),
    Claim("H 3.2", "Layered and rearranged networks reach the same test accuracy", alike(tested, "test")),
    Claim("H 3.2", "Both kinds reach about 92.7 % on the test data", as_good_as_the_thesis),
]

"""Hershey 2023, 3.4.1: a weight space of fixed size, with more or fewer trainable weights (Figs. 3.12 and 3.13)."""

import itertools
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.model_comparison import average, in_all_metrics, tenths
from experiments.report import number, trained
from experiments.verdicts import AGREES, Finding, all_of, difference, mean

AXES = ("model", "data", "R")
UNIFORM, RANDOM = "uniform_anomaly", "random_anomaly"


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Validation ACC_end by epoch: a panel for each data set, uniform anomaly first; a curve a density, the LSTM beside."""
    data_sets = sorted(trained(runs)["data"].unique(), reverse=True)
    figure, panels = report.grid(len(data_sets))
    for axes, data in zip(panels, data_sets, strict=True):
        here = trained(runs, data=data)
        curves = report.by_density(trained(here, model="inn"), trained(here, model="lstm"))
        report.panel(axes, data.replace("_", " "), curves, chance=1 / here["seq_len"].iloc[0])
    return {"sparsity_fixed_dims": figure}


def arms(runs: pd.DataFrame, data: str, low: float = 0.0, high: float = 1.0) -> dict[float, pd.Series]:
    """Where the INN ends on a data set, for the densities from `low` to `high`."""
    found = report.arms(trained(runs, model="inn", data=data), "R")
    return {R: arm for R, arm in found.items() if low <= R <= high}


def seventy_by_epoch_seventy(runs: pd.DataFrame) -> Finding:
    """The level of the epochs up to the seventieth, or up to the last where there are fewer."""
    here = trained(runs, model="inn", data=UNIFORM, R=0.02)
    here = here[here["epoch"] < 70]
    if here.empty:
        return judge("no runs", None)
    reached = report.arm(here, report.finals)
    found = mean(reached, report.prior(runs, [reached], "val")).within(0.6, 0.8)
    return found.said(f"{found.measured} by epoch {here['epoch'].max() + 1:.0f}")


def lstm_below_a_half(runs: pd.DataFrame) -> Finding:
    """In each tenth of the training."""
    here = trained(runs, model="lstm", data=UNIFORM)
    if here.empty:
        return judge("no runs", None)
    parts = {str(tenth): report.arm(part, average) for tenth, part in tenths(here)}
    known = report.prior(runs, parts.values(), "val")
    found = {tenth: mean(arm, known).within(high=0.5) for tenth, arm in parts.items()}
    highest = max(parts, key=lambda tenth: parts[tenth].mean())
    return all_of(found).said(f"at most {found[highest].measured}, the mean of a tenth of the epochs")


def lower_density_is_worse(runs: pd.DataFrame) -> Finding:
    at = arms(runs, UNIFORM, 0.02, 0.2)
    known = report.prior(runs, at.values())
    enough = len(at) >= 4 and {0.02, 0.2} <= set(at)
    rises = {f"{low:g}, {high:g}": difference(at[high], at[low], known).within(0) for low, high in itertools.pairwise(at)}
    return (all_of(rises) if enough else judge("", None)).said(report.ends(at, known))


def alike_above(runs: pd.DataFrame) -> Finding:
    at = arms(runs, RANDOM, 0.021)
    known = report.prior(runs, at.values())
    enough = len(at) >= 3 and min(at) <= 0.05 and max(at) >= 0.8
    near = {f"{R:g}": mean(arm, known).within(0.5, 0.7) for R, arm in at.items()}
    return (all_of(near) if enough else judge("", None)).said(report.ends(at, known))


def ends_between(low: float, high: float, **values: object) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the runs with these values end between `low` and `high`."""

    def measure(runs: pd.DataFrame) -> Finding:
        end = report.arm(trained(runs, **values))
        return mean(end, report.prior(runs, [end])).within(low, high)

    return measure


def every_density_is_ahead(runs: pd.DataFrame) -> Finding:
    """Of the LSTM, in what H measures: both accuracies above, both losses below."""
    found = {
        f"R={R:g}": in_all_metrics(part, trained(runs, model="lstm", data=UNIFORM))
        for R, part in trained(runs, model="inn", data=UNIFORM).groupby("R")
    }
    ahead = sum(one.verdict == AGREES for one in found.values())
    return (all_of(found) if len(found) >= 3 else judge("", None)).said(f"at {ahead} of {len(found)} densities in all four")


def sparse_is_ahead_of_the_lstm(runs: pd.DataFrame) -> Finding:
    sparse = trained(runs, model="inn", data=RANDOM, R=0.02)
    inn, lstm = report.arm(sparse), report.arm(trained(runs, model="lstm", data=RANDOM))
    found = difference(inn, lstm, report.prior(runs, [inn, lstm])).within(0.1, 0.3)
    weights = f" with {report.weights(sparse)} weights" if len(sparse) else ""
    return found.said(f"INN {number(inn.mean())}{weights}, LSTM {number(lstm.mean())}: {found.measured}")


def hershey(figure: str, sentence: str, measure: Callable[[pd.DataFrame], Finding]) -> Claim:
    return Claim(f"H 3.4.1, Fig. {figure}", sentence, measure, setting={"lr": 1e-4})


CLAIMS = [
    hershey("3.12", "Uniform: R=0.02 reaches about 0.70 by epoch 70", seventy_by_epoch_seventy),
    hershey("3.12", "Uniform: the LSTM stays below 0.5", lstm_below_a_half),
    hershey("3.12", "Uniform: levels fall steadily from R=0.2 to 0.02", lower_density_is_worse),
    hershey("3.12", "Uniform: every density ends ahead of the LSTM in all metrics", every_density_is_ahead),
    hershey("3.13", "Random: every density but R=0.02 ends near 0.60", alike_above),
    hershey("3.13", "Random: R=0.02 ends at about 0.48", ends_between(0.40, 0.55, model="inn", data=RANDOM, R=0.02)),
    hershey("3.13", "Random: the LSTM ends at 0.25–0.30", ends_between(0.2, 0.35, model="lstm", data=RANDOM)),
    hershey(
        "3.13", "Random: R=0.02, about 38,000 weights, is ahead of the LSTM by nearly 0.2: 0.1–0.3", sparse_is_ahead_of_the_lstm
    ),
]

"""Hershey 2023, 3.4.1: a weight space of fixed dimensions, more or less of which trains (Figs. 3.12 and 3.13)."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, level, number, trained, words
from experiments.verdicts import Finding

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


def levels(runs: pd.DataFrame, data: str) -> pd.Series:
    """Where the INN ends on a data set, by density."""
    return report.levels(trained(runs, model="inn", data=data))


def seventy_by_epoch_seventy(runs: pd.DataFrame) -> Finding:
    """The level of the epochs up to the seventieth, or up to the last where there are fewer."""
    here = trained(runs, model="inn", data=UNIFORM, R=0.02)
    here = here[here["epoch"] < 70]
    reached = level(here)
    text = f"{number(reached)} by epoch {here['epoch'].max() + 1:.0f}" if len(here) else "no runs"
    return judge(text, 0.6 <= reached <= 0.8 if len(here) else None)


def lstm_below_a_half(runs: pd.DataFrame) -> Finding:
    peak = float(trained(runs, model="lstm", data=UNIFORM).groupby("epoch")[ACC].mean().max())
    return judge(f"at most {number(peak)}", None if peak != peak else peak < 0.5)


def lower_density_is_worse(runs: pd.DataFrame) -> Finding:
    at = levels(runs, UNIFORM)
    at = at[(at.index >= 0.02) & (at.index <= 0.2)]
    enough = len(at) >= 4 and 0.02 in at and 0.2 in at
    return judge(words(at), bool(at.is_monotonic_increasing) if enough else None)


def alike_above(runs: pd.DataFrame) -> Finding:
    at = levels(runs, RANDOM)
    at = at[at.index > 0.02]
    enough = len(at) >= 3 and at.index.min() <= 0.05 and at.index.max() >= 0.8
    return judge(words(at), bool(at.between(0.5, 0.7).all()) if enough else None)


def ends_between(low: float, high: float, **values: object) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the runs with these values end between `low` and `high`."""

    def measure(runs: pd.DataFrame) -> Finding:
        end = level(trained(runs, **values))
        return judge(number(end), None if end != end else low <= end <= high)

    return measure


def sparse_is_ahead_of_the_lstm(runs: pd.DataFrame) -> Finding:
    sparse = trained(runs, model="inn", data=RANDOM, R=0.02)
    inn, lstm = level(sparse), level(trained(runs, model="lstm", data=RANDOM))
    if inn != inn or lstm != lstm:
        return judge(f"INN {number(inn)}, LSTM {number(lstm)}", None)
    weights = sparse["model/weights"].mean()
    return judge(f"INN {inn:.2f} with {weights:,.0f} weights, LSTM {lstm:.2f}: {inn - lstm:+.2f}", inn - lstm >= 0.1)


CLAIMS = [
    Claim("H 3.4.1, Fig. 3.12", "Uniform: R=0.02 reaches about 0.70 by epoch 70", seventy_by_epoch_seventy),
    Claim("H 3.4.1, Fig. 3.12", "Uniform: the LSTM stays below 0.5", lstm_below_a_half),
    Claim("H 3.4.1, Fig. 3.12", "Uniform: levels fall steadily from R=0.2 to 0.02", lower_density_is_worse),
    Claim("H 3.4.1, Fig. 3.13", "Random: every density but R=0.02 ends near 0.60", alike_above),
    Claim(
        "H 3.4.1, Fig. 3.13", "Random: R=0.02 ends at about 0.48", ends_between(0.40, 0.55, model="inn", data=RANDOM, R=0.02)
    ),
    Claim("H 3.4.1, Fig. 3.13", "Random: the LSTM ends at 0.25–0.30", ends_between(0.2, 0.35, model="lstm", data=RANDOM)),
    Claim(
        "H 3.4.1, Fig. 3.13",
        "Random: R=0.02, about 38,000 weights, is ahead of the LSTM by nearly 0.2",
        sparse_is_ahead_of_the_lstm,
    ),
]

"""Hershey 2023, 3.3: a randomly sparse INN against an LSTM of about as many weights (Figs. 3.6 and 3.9)."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.report import ACC, Claim, judge, level, number, trained
from experiments.verdicts import Finding

AXES = ("model", "data")
MODELS = {"inn": {"color": report.INN}, "lstm": {"color": report.LSTM}}


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Validation ACC_end by epoch, INN against LSTM: a panel for each data set, uniform anomaly first."""
    data_sets = sorted(trained(runs)["data"].unique(), reverse=True)
    figure, panels = report.grid(len(data_sets))
    for axes, data in zip(panels, data_sets, strict=True):
        here = trained(runs, data=data)
        parts = [(model, trained(here, model=model), style) for model, style in MODELS.items()]
        curves = {f"{model.upper()} ({report.weights(part)})": (part, style) for model, part, style in parts if len(part)}
        report.panel(axes, data.replace("_", " "), curves, chance=1 / here["seq_len"].iloc[0])
    return {"model_comparison": figure}


def pair(runs: pd.DataFrame, data: str) -> list[pd.DataFrame]:
    """The runs of the INN and those of the LSTM on one data set."""
    return [trained(runs, data=data, model=model) for model in MODELS]


def ahead_while_training(data: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the INN's mean over seeds is above the LSTM's at nine tenths of the epochs or more."""

    def measure(runs: pd.DataFrame) -> Finding:
        inn, lstm = (part.groupby("epoch")[ACC].mean() for part in pair(runs, data))
        both = inn.index.intersection(lstm.index)
        share = float((inn[both] > lstm[both]).mean())
        text = f"ahead at {share:.0%} of {len(both)} epochs" if len(both) else "no runs"
        return judge(text, share >= 0.9 if len(both) else None)

    return measure


def ahead_at_the_end(data: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the INN ends above the LSTM."""

    def measure(runs: pd.DataFrame) -> Finding:
        inn, lstm = (level(part) for part in pair(runs, data))
        return judge(f"INN {number(inn)}, LSTM {number(lstm)}", None if inn != inn or lstm != lstm else inn > lstm)

    return measure


CLAIMS = [
    Claim("H 3.3, Fig. 3.6", "Uniform: the INN is ahead at nearly all epochs", ahead_while_training("uniform_anomaly")),
    Claim("H 3.3, Fig. 3.6", "Uniform: the INN ends above the LSTM", ahead_at_the_end("uniform_anomaly")),
    Claim("H 3.3, Fig. 3.9", "Random: the INN is ahead at nearly all epochs", ahead_while_training("random_anomaly")),
    Claim("H 3.3, Fig. 3.9", "Random: the INN ends above the LSTM", ahead_at_the_end("random_anomaly")),
]

"""Hershey 2023, 3.3: a randomly sparse INN against an LSTM of about as many weights (Figs. 3.6 and 3.9)."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, number, trained
from experiments.verdicts import AGREES, Finding, at_least, difference

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


PARTS = 10  # of a training, for each of which it is asked who is ahead


def ahead(runs: pd.DataFrame, data: str, values: Callable[[pd.DataFrame], pd.Series] = report.finals) -> Finding:
    """Whether the INN is above the LSTM on a data set, in what `values` takes of each run."""
    inn, lstm = (report.arm(trained(runs, data=data, model=model), values) for model in MODELS)
    known = report.spread(runs, [inn, lstm])
    found = difference(inn, lstm, known).within(0)
    return found.said(f"INN {number(inn.mean())}, LSTM {number(lstm.mean())}: {found.measured}")


def average(runs: pd.DataFrame) -> pd.Series:
    """Of all the epochs given, by run_id."""
    return runs.groupby("run_id")[ACC].mean()


def ahead_while_training(data: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the INN's mean is above the LSTM's in nine tenths of the training or more."""

    def measure(runs: pd.DataFrame) -> Finding:
        here = trained(runs, data=data)
        if set(here["model"]) != set(MODELS):
            return judge("no runs", None)
        tenths = pd.cut(here["epoch"], PARTS, labels=False)
        found = {str(tenth): ahead(part, data, average) for tenth, part in here.groupby(tenths)}
        leads = sum(one.verdict == AGREES for one in found.values())
        return at_least(9 * len(found) // 10, found).said(f"ahead in {leads} tenths of {len(found)}, each by its 95 % interval")

    return measure


def ahead_at_the_end(data: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the INN ends above the LSTM."""
    return lambda runs: ahead(runs, data)


CLAIMS = [
    Claim("H 3.3, Fig. 3.6", "Uniform: the INN is ahead at nearly all epochs", ahead_while_training("uniform_anomaly")),
    Claim("H 3.3, Fig. 3.6", "Uniform: the INN ends above the LSTM", ahead_at_the_end("uniform_anomaly")),
    Claim("H 3.3, Fig. 3.9", "Random: the INN is ahead at nearly all epochs", ahead_while_training("random_anomaly")),
    Claim("H 3.3, Fig. 3.9", "Random: the INN ends above the LSTM", ahead_at_the_end("random_anomaly")),
]

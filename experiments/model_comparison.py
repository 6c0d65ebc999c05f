"""Hershey 2023, 3.3: a randomly sparse INN against an LSTM of about as many weights (Figs. 3.6 and 3.9)."""

import math
from collections.abc import Callable, Iterable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, TEST, number, trained
from experiments.verdicts import AGREES, Finding, all_of, at_least, difference

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
LOSS = (-1, math.inf)
METRICS = {
    TEST: (1, 0.0),
    "test/acc_seq": (1, 0.0),
    "train/loss": LOSS,
    "test/loss": LOSS,
}  # H's: which way is better; the worst


def ahead(
    runs: pd.DataFrame, data: str, values: Callable[[pd.DataFrame], pd.Series] = report.tested, part: str = "test"
) -> Finding:
    """Whether the INN is above the LSTM on a data set, in what `values` takes of each run on a part of the data."""
    inn, lstm = (report.arm(trained(runs, data=data, model=model), values) for model in MODELS)
    known = report.prior(runs, [inn, lstm], part)
    found = difference(inn, lstm, known).within(0)
    return found.said(f"INN {number(inn.mean())}, LSTM {number(lstm.mean())}: {found.measured}")


def average(runs: pd.DataFrame) -> pd.Series:
    """Of all the epochs given, by run_id."""
    return runs.groupby("run_id")[ACC].mean()


def tenths(runs: pd.DataFrame) -> Iterable[tuple[int, pd.DataFrame]]:
    """The runs in `PARTS` parts of their epochs."""
    return runs.groupby(pd.cut(runs["epoch"], PARTS, labels=False))


def ahead_while_training(data: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the INN's mean is above the LSTM's in nine tenths of the training or more."""

    def measure(runs: pd.DataFrame) -> Finding:
        here = trained(runs, data=data)
        if set(here["model"]) != set(MODELS):
            return judge("no runs", None)
        found = {str(tenth): ahead(part, data, average, "val") for tenth, part in tenths(here)}
        leads = sum(one.verdict == AGREES for one in found.values())
        return at_least(9 * len(found) // 10, found).said(f"ahead in {leads} tenths of {len(found)}, each by its 95 % interval")

    return measure


def ahead_at_the_end(data: str) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the INN ends above the LSTM."""
    return lambda runs: ahead(runs, data)


def in_all_metrics(inn: pd.DataFrame, lstm: pd.DataFrame) -> Finding:
    """Whether the INN ends above the LSTM in both accuracies and below it in both losses. What diverged ends at the worst."""
    found = {}
    for metric, (sign, worst) in METRICS.items():
        if metric not in inn or inn.empty or lstm.empty:
            return judge("no runs", None)

        def ends(runs: pd.DataFrame, metric: str = metric, worst: float = worst) -> pd.Series:
            states = report.each(runs, "state")
            last = report.each(runs, metric) if metric.startswith("test/") else report.tails(runs, metric)
            return last.reindex(states.index).mask(states == "diverged", worst)

        one, other = (sign * report.arm(part, ends) for part in (inn, lstm))
        found[metric] = difference(one, other, report.prior(inn, [one, other]) if metric == TEST else None).within(0)
    return all_of(found)


def ahead_in_all_metrics(data: str) -> Callable[[pd.DataFrame], Finding]:
    return lambda runs: in_all_metrics(*(trained(runs, data=data, model=model) for model in MODELS))


CLAIMS = [
    Claim(source, f"{data.split('_')[0].capitalize()}: the INN {sentence}", measure(data), setting={"lr": 1e-3})
    for source, data in (("H 3.3, Fig. 3.6", "uniform_anomaly"), ("H 3.3, Fig. 3.9", "random_anomaly"))
    for sentence, measure in (
        ("is ahead at nearly all epochs", ahead_while_training),
        ("ends above the LSTM", ahead_at_the_end),
        ("ends ahead in all metrics: ACC_end, ACC_seq, both losses", ahead_in_all_metrics),
    )
]

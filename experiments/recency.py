"""Hershey 2023, 3.3: which anomalies are found, the late ones or all? Test sequences of 19 images (Figs. 3.8 and 3.11).

A number for the recency bias: how much more often an anomaly is found for each place that it stands later.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import chi2

from experiments import report, verdicts
from experiments.claims import Claim, judge
from experiments.model_comparison import ahead_at_the_end
from experiments.report import trained
from experiments.verdicts import Finding, difference, mean

AXES = ("model", "data", "seq_len")
TABLES = {"confusion": "confusion.csv"}
MODELS = {"lstm": {"color": report.LSTM, "marker": "s"}, "inn": {"color": report.INN, "marker": "o"}}
LENGTH, SHORT = 19, 9  # what the claims are about, and the length of model_comparison
EVEN = 0.1 / (LENGTH - 1)  # from which a slope matters: 0.1 from the first place to the last
PAR = 0.05  # how far from "on par" a level may be


def counts(runs: pd.DataFrame, confusion: pd.DataFrame, model: str, data: str) -> np.ndarray:
    """The confusion matrix of a model on a data set, summed over its runs: true places are rows. Empty if there is none."""
    of = runs[(runs["model"] == model) & (runs["data"] == data)]["run_id"]
    here = confusion[confusion["run_id"].isin(of)].drop(columns="run_id")
    return here.groupby("true").sum().to_numpy(dtype=float) if len(here) else np.zeros((0, 0))


def slopes(runs: pd.DataFrame, confusion: pd.DataFrame, model: str, data: str) -> pd.Series:
    """Accuracy per place that the anomaly stands later, by seed."""
    each = runs[(runs["model"] == model) & (runs["data"] == data)].drop_duplicates("run_id").set_index("run_id")["seed"]
    found = {run_id: slope(*found_of(table)) for run_id, table in confusion.groupby("run_id") if run_id in each.index}
    return pd.Series(found, dtype=float).groupby(each).mean()


def found_of(confusion: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """How many anomalies were found of those at each place, and how many there were."""
    matrix = confusion.drop(columns="run_id").groupby("true").sum().to_numpy(dtype=float)
    return np.diag(matrix), matrix.sum(axis=1)


def slope(right: np.ndarray, tried: np.ndarray) -> float:
    """Of the least squares of the single outcomes (1 found, 0 missed) on the place."""
    places = np.arange(len(tried)) - (tried * np.arange(len(tried))).sum() / tried.sum()
    return float((right * places).sum() / (tried * places**2).sum())


def wilson(right: np.ndarray, tried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % confidence interval of a share: (low, high)."""
    share, z = right / tried, chi2.ppf(0.95, 1) / tried
    centre = (share + z / 2) / (1 + z)
    half = np.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    return np.minimum(centre - half, share), np.maximum(centre + half, share)  # equal at 0 and 1, but for rounding


def figures(runs: pd.DataFrame, confusion: pd.DataFrame) -> dict[str, Figure]:
    """A row for each data set, uniform anomaly first: the confusion matrices, LSTM | INN, and accuracy by place.

    Of several lengths the longest is shown.
    """
    runs = runs[runs["seq_len"] == runs["seq_len"].max()]
    data_sets = sorted(runs["data"].unique(), reverse=True)
    figure = Figure(figsize=(12, 4 * len(data_sets)), layout="constrained")
    for row, data in zip(figure.subplots(len(data_sets), 3, squeeze=False), data_sets, strict=True):
        for axes, (model, style) in zip(row, MODELS.items(), strict=False):
            matrix = counts(runs, confusion, model, data)
            axes.set(title=f"{model.upper()}, {data.replace('_', ' ')}", xlabel="predicted index", ylabel="true index")
            if len(matrix):
                shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
                image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
                axes.set(xticks=range(0, len(matrix), 2), yticks=range(0, len(matrix), 2))
                row[2].set_xticks(range(0, len(matrix), 2))
                bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the row")
                bar.solids.set_edgecolor("face")  # or a PDF shows stripes
                accuracy(row[2], matrix, slopes(runs, confusion, model, data), model.upper(), style)
        row[2].set(title=data.replace("_", " "), xlabel="index of the anomaly", ylabel="test accuracy", ylim=(0, 1))
        if row[2].lines:
            row[2].axhline(1 / runs["seq_len"].iloc[0], color="gray", linewidth=0.8, linestyle=":", label="chance")
            row[2].legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))  # below: points are everywhere inside
    return {"recency": figure}


def accuracy(axes: Axes, matrix: np.ndarray, slopes: pd.Series, label: str, style: dict[str, str]) -> None:
    """Accuracy by place with 95 % intervals, and the straight line whose slope is the recency bias, the mean of the seeds'."""
    right, tried = np.diag(matrix), matrix.sum(axis=1)
    places = np.flatnonzero(tried)
    share = right[places] / tried[places]
    low, high = wilson(right[places], tried[places])
    shift = 0.12 if label == "INN" else -0.12  # side by side where both are alike
    axes.errorbar(places + shift, share, [share - low, high - share], linestyle="", capsize=2, markersize=4, **style)
    b = slopes.mean()
    line = (right.sum() - b * (tried * np.arange(len(tried))).sum()) / tried.sum() + b * np.arange(len(tried))
    axes.plot(line, color=style["color"], label=f"{label}: {mean(slopes).within(digits=4).measured} a place")


def bias(
    model: str, data: str, low: float = -math.inf, high: float = math.inf
) -> Callable[[pd.DataFrame, pd.DataFrame], Finding]:
    """Claim: the slope lies in [low, high]."""

    def measure(runs: pd.DataFrame, confusion: pd.DataFrame) -> Finding:
        found = mean(slopes(runs[runs["seq_len"] == LENGTH], confusion, model, data)).within(low, high, digits=4)
        return found.said(f"{found.measured} a place")

    return measure


def early_ones_are_guessed(runs: pd.DataFrame, confusion: pd.DataFrame) -> Finding:
    """In the first third of the places the accuracy is at most twice chance."""
    each = runs[(runs["model"] == "lstm") & (runs["data"] == R) & (runs["seq_len"] == LENGTH)]
    seeds, early, tries = report.each(each, "seed"), {}, []
    for run_id, table in confusion[confusion["run_id"].isin(seeds.index)].groupby("run_id"):
        right, tried = (values[: math.ceil(LENGTH / 3)].sum() for values in found_of(table))
        early[run_id], tries = right / tried if tried else math.nan, [*tries, tried]
    arm = pd.Series(early, dtype=float).groupby(seeds).mean()
    known = verdicts.of_accuracy([arm], max(1, int(min(tries, default=1))))
    found = mean(arm, known).within(high=2 / LENGTH)
    return found.said(f"{found.measured}, chance {1 / LENGTH:.2f}")


def ahead(data: str) -> Callable[[pd.DataFrame, pd.DataFrame], Finding]:
    """Claim: the INN ends above the LSTM, at this length."""
    return lambda runs, confusion: ahead_at_the_end(data)(runs[runs["seq_len"] == LENGTH])


def on_par(runs: pd.DataFrame, confusion: pd.DataFrame) -> Finding:
    """The INN on random anomaly, at either length."""
    ends = report.arms(trained(runs, model="inn", data=R), "seq_len")
    if not {SHORT, LENGTH} <= set(ends):
        return judge("no runs of both lengths", None)
    known = report.prior(runs, ends.values())
    found = difference(ends[LENGTH], ends[SHORT], known).within(-PAR, PAR)
    return found.said(f"{report.ends(ends, known, 'seq_len')}; difference {found.measured}")


U, R = "uniform_anomaly", "random_anomaly"
CLAIMS = [
    Claim(source, sentence, measure, setting={"lr": 1e-3})
    for source, sentence, measure in (
        ("H 3.3, Fig. 3.8", "Uniform: the LSTM finds late anomalies better", bias("lstm", U, low=EVEN)),
        ("H 3.3, Fig. 3.8", "Uniform: the INN finds anomalies alike at all places", bias("inn", U, -EVEN, EVEN)),
        ("H 3.3", "Uniform, length 19: the INN ends above the LSTM", ahead(U)),
        ("H 3.3, Fig. 3.11", "Random: the LSTM finds late anomalies better", bias("lstm", R, low=EVEN)),
        ("H 3.3, Fig. 3.11", "Random: the INN finds anomalies alike at all places", bias("inn", R, -EVEN, EVEN)),
        ("H 3.3, Fig. 3.11", "Random: the LSTM finds early anomalies no better than by guessing", early_ones_are_guessed),
        ("H 3.3", "Random, length 19: the INN ends above the LSTM", ahead(R)),
        ("H 3.3", f"Random, length 19: the INN ends on par with length 9, within {PAR:g}", on_par),
    )
]

"""Hershey 2023, 3.3: which anomalies are found, the late ones or all? Test sequences of 19 images (Figs. 3.8 and 3.11).

A number for the recency bias: how much more often an anomaly is found for each place that it stands later.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import claims, report
from experiments.claims import Claim, judge
from experiments.model_comparison import ahead_at_the_end
from experiments.verdicts import Finding

AXES = ("model", "data")
TABLES = {"confusion": "confusion.csv"}
MODELS = {"lstm": {"color": report.LSTM, "marker": "s"}, "inn": {"color": report.INN, "marker": "o"}}
LENGTH = 19  # what the claims are about
EVEN = 0.1 / (LENGTH - 1)  # a slope that matters little: 0.1 from the first place to the last
Z = 1.959964  # two-sided 95 %


def counts(runs: pd.DataFrame, confusion: pd.DataFrame, model: str, data: str) -> np.ndarray:
    """The confusion matrix of a model on a data set, summed over its runs: true places are rows. Empty if there is none."""
    of = runs[(runs["model"] == model) & (runs["data"] == data)]["run_id"]
    here = confusion[confusion["run_id"].isin(of)].drop(columns="run_id")
    return here.groupby("true").sum().to_numpy(dtype=float) if len(here) else np.zeros((0, 0))


def slope(right: np.ndarray, tried: np.ndarray) -> tuple[float, float, float]:
    """Accuracy per place that the anomaly stands later, and its 95 % confidence interval: (slope, low, high).

    Ordinary least squares of the single outcomes (1 found, 0 missed) on the place; an outcome's variance depends on the
    place, so the interval is White's (HC1), in closed form from the counts: `right` of `tried` at each place.
    Runs are taken together: how much seeds differ among themselves is not in the interval.
    """
    n = tried.sum()
    places = np.arange(len(tried)) - (tried * np.arange(len(tried))).sum() / n
    spread = (tried * places**2).sum()
    b = float((right * places).sum() / spread)
    fitted = right.sum() / n + b * places
    squares = right * (1 - fitted) ** 2 + (tried - right) * fitted**2  # of the residuals, at each place
    error = float(np.sqrt(n / (n - 2) * (places**2 * squares).sum()) / spread)
    return b, b - Z * error, b + Z * error


def wilson(right: np.ndarray, tried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % confidence interval of a share: (low, high)."""
    share, z = right / tried, Z**2 / tried
    centre = (share + z / 2) / (1 + z)
    half = np.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    return np.minimum(centre - half, share), np.maximum(centre + half, share)  # equal at 0 and 1, but for rounding


def figures(runs: pd.DataFrame, confusion: pd.DataFrame) -> dict[str, Figure]:
    """A row for each data set, uniform anomaly first: the confusion matrices, LSTM | INN, and accuracy by place."""
    data_sets = sorted(runs["data"].unique(), reverse=True)
    figure = Figure(figsize=(16, 4.8 * len(data_sets)), layout="constrained")
    for row, data in zip(figure.subplots(len(data_sets), 3, squeeze=False), data_sets, strict=True):
        for axes, (model, style) in zip(row, MODELS.items(), strict=False):
            matrix = counts(runs, confusion, model, data)
            axes.set(title=f"{model.upper()}, {data.replace('_', ' ')}", xlabel="predicted index", ylabel="true index")
            if len(matrix):
                shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
                image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
                axes.set(xticks=range(0, len(matrix), 2), yticks=range(0, len(matrix), 2))
                row[2].set_xticks(range(0, len(matrix), 2))
                figure.colorbar(image, ax=axes, shrink=0.8, label="share of the row")
                accuracy(row[2], matrix, model.upper(), style)
        row[2].set(title=data.replace("_", " "), xlabel="index of the anomaly", ylabel="test accuracy", ylim=(0, 1))
        if row[2].lines:
            row[2].axhline(1 / runs["seq_len"].iloc[0], color="gray", linewidth=0.8, linestyle=":", label="chance")
            row[2].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13))  # below: points are everywhere inside
    return {"recency": figure}


def accuracy(axes: Axes, matrix: np.ndarray, label: str, style: dict[str, str]) -> None:
    """Accuracy by place with 95 % intervals, and the straight line whose slope is the recency bias."""
    right, tried = np.diag(matrix), matrix.sum(axis=1)
    places = np.flatnonzero(tried)
    share = right[places] / tried[places]
    low, high = wilson(right[places], tried[places])
    shift = 0.12 if label == "INN" else -0.12  # side by side where both are alike
    axes.errorbar(places + shift, share, [share - low, high - share], linestyle="", capsize=2, markersize=4, **style)
    b, below, above = slope(right, tried)
    line = (right.sum() - b * (tried * np.arange(len(tried))).sum()) / tried.sum() + b * np.arange(len(tried))
    axes.plot(line, color=style["color"], label=f"{label}: {b:+.3f} a place (95 % CI {below:+.3f} to {above:+.3f})")


def bias(
    model: str, data: str, holds: Callable[[float, float], bool | None]
) -> Callable[[pd.DataFrame, pd.DataFrame], Finding]:
    """Claim about the slope and its confidence interval."""

    def measure(runs: pd.DataFrame, confusion: pd.DataFrame) -> Finding:
        matrix = counts(runs, confusion, model, data)
        if len(matrix) != LENGTH:
            return judge("no runs", None)
        b, low, high = slope(np.diag(matrix), matrix.sum(axis=1))
        return judge(f"{b:+.4f} a place (95 % CI {low:+.4f} to {high:+.4f})", holds(low, high))

    return measure


def recent(low: float, high: float) -> bool | None:
    return claims.above(low, high, EVEN)


def even(low: float, high: float) -> bool | None:
    return claims.within(low, high, EVEN)


def early_ones_are_guessed(runs: pd.DataFrame, confusion: pd.DataFrame) -> Finding:
    """Judged on the first third of the places: not above chance by its interval, or at most twice chance."""
    matrix = counts(runs, confusion, "lstm", "random_anomaly")
    early = np.arange(len(matrix)) < LENGTH / 3
    if len(matrix) != LENGTH or not matrix[early].any():
        return judge("no runs", None)
    right, tried = np.diag(matrix)[early].sum(), matrix[early].sum()
    low, high = wilson(right, tried)
    text = f"{right / tried:.2f} (95 % CI {low:.2f} to {high:.2f}), chance {1 / LENGTH:.2f}"
    return judge(text, bool(low <= 1 / LENGTH or right / tried <= 2 / LENGTH))


def ahead(data: str) -> Callable[[pd.DataFrame, pd.DataFrame], Finding]:
    """Claim: the INN ends above the LSTM, at this length."""
    return lambda runs, confusion: ahead_at_the_end(data)(runs[runs["seq_len"] == LENGTH])


U, R = "uniform_anomaly", "random_anomaly"
CLAIMS = [
    Claim("H 3.3, Fig. 3.8", "Uniform: the LSTM finds late anomalies better", bias("lstm", U, recent)),
    Claim("H 3.3, Fig. 3.8", "Uniform: the INN finds anomalies alike at all places", bias("inn", U, even)),
    Claim("H 3.3", "Uniform, length 19: the INN ends above the LSTM", ahead(U)),
    Claim("H 3.3, Fig. 3.11", "Random: the LSTM finds late anomalies better", bias("lstm", R, recent)),
    Claim("H 3.3, Fig. 3.11", "Random: the INN finds anomalies alike at all places", bias("inn", R, even)),
    Claim("H 3.3, Fig. 3.11", "Random: the LSTM finds early anomalies no better than by guessing", early_ones_are_guessed),
    Claim("H 3.3", "Random, length 19: the INN ends above the LSTM", ahead(R)),
]

"""This lab: an INN trained through its fixed point, beside the same one unrolled; and do easy inputs settle sooner?

Habiba and Pearlmutter 2021 (T) say that the time an input takes depends on the input, and show no
measurement.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, tested, trained
from experiments.verdicts import Finding, all_of, difference, mean, ratio

AXES = ("model", "model.rtol", "model.atol", "model.tol", "data.iterations")
TOLERANCES = ("rtol", "tol")  # the second, of the whole step's length, is older runs'
TABLES = {"settling": "settling.csv"}
PROBED = {"settled_inn": "an INN", "wormhole": "a wormhole network"}
SEEDS = 2  # from which something is said
LITTLE = 0.1  # a rank correlation that is as good as none


def kinds(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs by how they were trained: "to a fixed point, rtol=0.01", "unrolled, 5 iterations", …"""
    found = {}
    for model, name, words in (
        *(("settled_inn", f"model.{name}", f"fixed point, {name}={{:g}}") for name in TOLERANCES),
        *(("wormhole", f"model.{name}", f"wormhole network, {name}={{:g}}") for name in TOLERANCES),
        ("inn", "data.iterations", "unrolled {:g}"),
    ):
        here = trained(runs, model=model)
        if len(here) and name in here:
            found |= {words.format(value): part for value, part in here.groupby(name)}
    return found


def figures(runs: pd.DataFrame, settling: pd.DataFrame) -> dict[str, Figure]:
    """Accuracy by epoch and by seconds, and iterations by epoch; then iterations by loss and by severity, of each input."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    by_epoch, by_seconds, iterations = figure.subplots(1, 3)
    for number, (name, part) in enumerate(kinds(runs).items()):
        style = {"color": f"C{number}", "linestyle": report.LINES[number % len(report.LINES)]}
        report.curve(by_epoch, part, ACC, f"{name}: test {tested(part).mean():.3f}", **style)
        seconds = part.groupby("epoch")["time/epoch_s"].median().cumsum()
        report.line(by_seconds, seconds, part.groupby("epoch")[ACC].mean(), part, name, **style)
        if "val/iterations" in part and part["val/iterations"].notna().any():
            report.curve(iterations, part, "val/iterations", name, **style)
    by_epoch.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1))
    by_seconds.set(xlabel="seconds of training (an epoch's median)", ylim=(0, 1), xscale="log")
    iterations.set(xlabel="epoch", ylabel="iterations until settled, validation", ylim=(0, None))
    by_epoch.legend(loc="lower right")
    probed = {words: here for model, words in PROBED.items() if len(here := tightest(runs, settling, model))}
    return {"settling": figure} | ({"settling_inputs": of_inputs(probed)} if probed else {})


def of_inputs(probed: Mapping[str, pd.DataFrame]) -> Figure:
    """Of each kind of network the tightest tolerance's: iterations of inputs in tenths by their loss, and by severity with the
    loss beside."""
    figure = Figure(figsize=(11, 4.2 * len(probed)), layout="constrained")
    rows = figure.subplots(len(probed), 2, squeeze=False, sharey="row")
    for (words, here), (by_loss, by_severity) in zip(probed.items(), rows, strict=True):
        tenths = here.assign(tenth=here.groupby("run_id")["loss"].rank(pct=True).mul(10).apply(math.ceil))
        bar(by_loss, tenths.groupby("tenth")["iterations"])
        by_loss.legend(loc="upper left")
        by_loss.set(title=words, xlabel="inputs in tenths by their loss, easy to hard", ylabel="iterations until settled")
        bar(by_severity, here.groupby("severity")["iterations"])
        by_severity.set(title=words, xlabel="severity: distortion scale of the perspective")
        losses = by_severity.twinx()
        losses.plot(here.groupby("severity")["loss"].mean(), "s--", color="gray", markersize=4)
        losses.set(ylabel="loss", ylim=(0, None))
        losses.yaxis.label.set_color("gray")
    return figure


def bar(axes: Axes, groups: "pd.api.typing.SeriesGroupBy") -> None:
    """The mean, and the range from the first to the last tenth."""
    mean = groups.mean()
    axes.plot(mean, "o-", color="C0", label="mean")
    axes.fill_between(
        mean.index, groups.quantile(0.1), groups.quantile(0.9), color="C0", alpha=0.2, linewidth=0, label="middle 80 %"
    )


def tightest(runs: pd.DataFrame, settling: pd.DataFrame, model: str) -> pd.DataFrame:
    """The inputs of a model's runs of the smallest tolerance."""
    of = trained(runs, model=model)
    for name in TOLERANCES:
        if f"model.{name}" in of and (values := of[f"model.{name}"]).notna().any():
            return settling[settling["run_id"].isin(of[values == values.min()]["run_id"])]
    return settling[:0]


Values = Callable[[pd.DataFrame], pd.Series]


def sides(runs: pd.DataFrame, values: Values) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """The ends of INNs by seed: those trained through their fixed point, and those unrolled."""
    found = {name: report.arm(part, values) for name, part in kinds(runs).items()}
    settled, unrolled = ({n: arm for n, arm in found.items() if n.startswith(word)} for word in ("fixed", "unrolled"))
    return settled, unrolled


def of_each_pair(
    values: Values, holds: Callable[[pd.Series, pd.Series], Finding], digits: int
) -> Callable[[pd.DataFrame, pd.DataFrame], Finding]:
    """Claim: it holds of every INN trained through its fixed point beside every one unrolled."""

    def measure(runs: pd.DataFrame, settling: pd.DataFrame) -> Finding:
        settled, unrolled = sides(runs, values)
        listed = ", ".join(f"{name} {arm.mean():.{digits}f}" for name, arm in (settled | unrolled).items()) or "no runs"
        pairs = itertools.product(settled.items(), unrolled.items())
        return all_of({f"{a}, {b}": holds(one, other) for (a, one), (b, other) in pairs}).said(listed)

    return measure


def seconds(runs: pd.DataFrame) -> pd.Series:
    """An epoch's, the median of each run."""
    return runs.groupby("run_id")["time/epoch_s"].median()


def settles(runs: pd.DataFrame, settling: pd.DataFrame) -> Finding:
    """All inputs that were tried, in the last epoch's validation and among the distorted ones: one that does not is enough, and
    chance has no part in it."""
    here = pd.concat(trained(runs, model=model) for model in PROBED)
    if here.empty or "val/settled" not in here:
        return judge("no runs", None)
    last = here.dropna(subset="val/settled").sort_values("epoch").groupby("run_id")["val/settled"].last()
    lost = int((settling["converged"] == 0).sum())
    probed = f"{lost} of {len(settling):,}" if len(settling) else "none probed"
    text = f"{last.mean():.3f} of the validation inputs in the last epoch; of the distorted ones {probed} do not"
    enough = here.groupby("model")["run_id"].nunique().min() >= SEEDS and len(settling)
    return judge(text, False if last.min() < 1 or lost else True if enough else None)


def correlations(here: pd.DataFrame, column: str) -> pd.Series:
    """Spearman's rank correlation of iterations with a column, by run."""
    ranks = here[["iterations", column]].groupby(here["run_id"]).rank()
    return ranks["iterations"].groupby(here["run_id"]).corr(ranks[column]) if len(here) else pd.Series(dtype=float)


def easy_settles_sooner(model: str, runs: pd.DataFrame, settling: pd.DataFrame) -> Finding:
    """At one severity, 0.5, so that the images' distortion is not what is seen."""
    here = tightest(runs, settling, model)
    found = correlations(here[np.isclose(here["severity"], 0.5)], "loss")
    return rises(found, "rank correlation of iterations with the loss")


def severe_takes_longer(model: str, runs: pd.DataFrame, settling: pd.DataFrame) -> Finding:
    return rises(correlations(tightest(runs, settling, model), "severity"), "rank correlation of iterations with severity")


def rises(found: pd.Series, what: str) -> Finding:
    """By `LITTLE` or more, on average over networks."""
    rise = mean(found).within(LITTLE)
    return rise.said(f"{what} {rise.measured}, {len(found)} networks")


CLAIMS = [
    Claim(
        "this lab",
        "Trained through its fixed point an INN does as well as unrolled, within 0.03",
        of_each_pair(tested, lambda settled, unrolled: difference(settled, unrolled).within(-0.03), 3),
    ),
    Claim("this lab", "A trained network settles on every input that was tried", settles),
    *(
        Claim("T 2", f"{sentence}: {words}", partial(measure, model))
        for sentence, measure in (
            ("Easy inputs settle sooner, iterations rise with the loss of the input", easy_settles_sooner),
            ("What is more distorted takes longer to settle", severe_takes_longer),
        )
        for model, words in PROBED.items()
    ),
    Claim(
        "this lab",
        "It takes longer to train than unrolling, up to 20 iterations",
        of_each_pair(seconds, lambda settled, unrolled: ratio(settled, unrolled, 1.0), 2),
        images=False,
    ),
]

"""Habiba and Pearlmutter 2021, 4.1 and Table 3: does a residual network that goes back do better than a deeper one?

T compares accuracies alone. Here they are drawn against each network's parameters and operations.
"""

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, tested, trained
from experiments.verdicts import Finding, all_of, difference, mean, ratio

AXES = ("model", "model.blocks")
ALIKE = 1.5  # times as many operations count as equal compute: a block more or less


def networks(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs by network: "wormhole, 11 layers" first, then the plain ones from shallow to deep."""
    found = {}
    for model, name in (("wormhole", "wormhole"), ("resnet", "plain")):
        here = trained(runs, model=model)
        if len(here):
            found |= {f"{name}, {layers:g} layers": part for layers, part in here.groupby("model/layers")}
    return found


def kinds(runs: pd.DataFrame) -> tuple[pd.DataFrame | None, list[tuple[str, pd.DataFrame]]]:
    """The wormhole network's runs, None without, and the plain ones by name."""
    found = networks(runs)
    holes = [part for name, part in found.items() if name.startswith("wormhole")]
    return holes[0] if holes else None, [(name, part) for name, part in found.items() if name.startswith("plain")]


def cost(runs: pd.DataFrame) -> float:
    """Operations of a training example, in millions: the mean over epochs and runs."""
    return float(runs["train/flops"].mean() / 1e6)


def size(runs: pd.DataFrame) -> float:
    return float(runs["model/weights"].mean())


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Accuracy by epoch and by operations, test accuracy by parameters, and iterations by epoch."""
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    by_epoch, by_cost, by_size, iterations = figure.subplots(2, 2).flat
    for number, (name, part) in enumerate(networks(runs).items()):
        style = {"color": f"C{number}", "linestyle": report.LINES[number % len(report.LINES)]}
        report.curve(by_epoch, part, ACC, f"{name}: test {tested(part).mean():.3f}", **style)
        spent = part.groupby("epoch")["train/flops"].mean().cumsum() / 1e6
        words = f"{name}: {cost(part):,.0f}"
        report.line(by_cost, spent, part.groupby("epoch")[ACC].mean(), part, words, **style)
        finals = tested(part)
        report.points(by_size, report.each(part, "model/weights").reindex(finals.index), finals, name, marker="o", **style)
        if "val/iterations" in part and part["val/iterations"].notna().any():
            report.curve(iterations, part, "val/iterations", name, **style)
    by_epoch.set(xlabel="epoch", ylabel="validation accuracy")
    by_cost.set(xlabel="operations so far for each training example, millions", ylabel="validation accuracy", xscale="log")
    by_size.set(xlabel="weights", ylabel="test accuracy", xscale="log")
    iterations.set(xlabel="epoch", ylabel="iterations until settled, both stages", ylim=(0, None))
    report.beside(by_cost, "millions an example")
    for axes in (by_epoch, by_size, *([iterations] if iterations.lines else [])):
        axes.legend(loc="lower right")
    return {"wormhole_classification": figure}


def lead(hole: pd.DataFrame, plain: pd.DataFrame) -> Finding:
    """Whether the wormhole network's test accuracy is above the plain one's, seed by seed."""
    return difference(report.arm(hole, tested), report.arm(plain, tested)).within(0, digits=4)


def is_best(runs: pd.DataFrame) -> Finding:
    """Against each plain network that is deeper."""
    hole, plain = kinds(runs)
    text = ", ".join(f"{name} {tested(part).mean():.4f}" for name, part in networks(runs).items()) or "no runs"
    if hole is None:
        return judge(text, None)
    deeper = {name: lead(hole, part) for name, part in plain if part["model/layers"].max() > hole["model/layers"].max()}
    found = all_of(deeper)
    return found.said(f"test {text}; {found.measured}")


def takes_no_longer(runs: pd.DataFrame) -> Finding:
    """An epoch's seconds, the median of each run, against each plain network that is deeper."""
    hole, plain = kinds(runs)
    if hole is None or "time/epoch_s" not in runs:
        return judge("no runs", None)
    seconds = {name: report.arm(part, epoch) for name, part in plain if part["model/layers"].max() > hole["model/layers"].max()}
    return all_of({f"times {name}": ratio(report.arm(hole, epoch), other, high=1.0) for name, other in seconds.items()})


def fewer_parameters(runs: pd.DataFrame) -> Finding:
    """T's reason for less memory is that the same parameters are used again: it has fewer of them than each that is deeper."""
    hole, plain = kinds(runs)
    deeper = (
        {}
        if hole is None
        else {name: size(part) for name, part in plain if part["model/layers"].max() > hole["model/layers"].max()}
    )
    if hole is None or not deeper:
        return judge("no runs", None)
    listed = ", ".join(f"{name} {weights:,.0f}" for name, weights in deeper.items())
    return judge(f"{size(hole):,.0f} weights; {listed}", size(hole) < min(deeper.values()))


def epoch(runs: pd.DataFrame) -> pd.Series:
    return runs.groupby("run_id")["time/epoch_s"].median()


def at_equal(measure: Callable[[pd.DataFrame], float], within: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim against the plain network that is nearest in size or in cost, and not farther than `within` times."""

    def measured(runs: pd.DataFrame) -> Finding:
        hole, plain = kinds(runs)
        if hole is None or not plain:
            return judge("no runs", None)
        apart = {name: abs(math.log(measure(part) / measure(hole))) for name, part in plain}
        name, near = min(plain, key=lambda pair: apart[pair[0]])
        if apart[name] > math.log(within):
            return judge("no runs of such a plain network", None)
        both = [f"{size(part):,.0f} weights, {cost(part):,.0f} million operations an example" for part in (hole, near)]
        found = lead(hole, near)
        return found.said(f"{both[0]}, against {name}, {both[1]}: {found.measured}")

    return measured


def opens(runs: pd.DataFrame) -> Finding:
    """With closed gates each of the two stages takes two iterations, of which the second changes nothing."""
    hole, _ = kinds(runs)
    if hole is None or "val/iterations" not in hole:
        return judge("no runs", None)
    last = hole.dropna(subset="val/iterations").sort_values("epoch")
    iterations, settled = (
        report.arm(last, lambda runs, key=key: runs.groupby("run_id")[key].last()) for key in ("val/iterations", "val/settled")
    )
    found = mean(iterations).within(5, digits=1)
    return found.said(f"{found.measured} iterations of both stages at the end, {settled.mean():.3f} settled")


CLAIMS = [
    Claim("T 4.1, Table 3", "A wormhole network of few layers beats plain ones of about 36 and 50", is_best),
    Claim("this lab", "It does at equal parameters", at_equal(size, 1.01)),
    Claim("this lab", "It does at equal compute", at_equal(cost, ALIKE)),
    Claim("this lab", "Networks make use of the way back: the gates open", opens),
    Claim("T 4.1", "Its training time is not higher than that of those plain ones", takes_no_longer, images=False),
    Claim("T 4.1", "It needs less memory than those: it has fewer weights", fewer_parameters, images=False),
]

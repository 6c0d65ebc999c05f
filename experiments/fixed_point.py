"""Hershey 2023, 3.4.4: trained with the loss at each of five iterations, tested at others (Fig. 3.22)."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.iterations import by_iteration, of, settles
from experiments.report import trained
from experiments.verdicts import Finding, all_of, difference, in_steps, mean

AXES = ("model",)
TABLES = {"probe": "iterations.csv"}
MODELS = {"layered_inn": ("MLP", report.GREEN), "inn": ("INN", report.INN)}
TRAINED, LAYERS = 5, 4  # iterations; H's network has four layers of weights
HOLDS = 0.05  # how far an accuracy may be from that of five iterations


def figures(runs: pd.DataFrame, probe: pd.DataFrame) -> dict[str, Figure]:
    """Test accuracy and the state's step by iteration, for both networks."""
    each = of(runs, probe, "model")
    lines = {label: (each[each["model"] == model], colour) for model, (label, colour) in MODELS.items()}
    return {"fixed_point": by_iteration(lines)}


def accuracy(runs: pd.DataFrame, probe: pd.DataFrame, model: str) -> dict[int, pd.Series]:
    """Test accuracy by seed, after each number of iterations; empty without runs."""
    each = of(trained(runs), probe, "model", "seed")
    by_seed = each[each["model"] == model].groupby(["iteration", "seed"])["acc_end"].mean()
    return {k: by_seed[k] for k in by_seed.index.unique("iteration")}


def at(values: dict[int, pd.Series], *iterations: int) -> str:
    return ", ".join(f"{values[k].mean():.2f} at {k}" for k in iterations if k in values) or "no runs"


def holds(model: str) -> Callable[..., Finding]:
    """Claim: from five iterations to the last, the accuracy stays what it is at five."""

    def measure(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
        values = accuracy(runs, probe, model)
        later = [k for k in values if k > TRAINED]
        if len(later) < 5 or TRAINED not in values:
            return judge(at(values, TRAINED), None)
        stays = {f"{k}": difference(values[k], values[TRAINED]).within(-HOLDS, HOLDS) for k in later}
        return all_of(stays).said(at(values, TRAINED, 10, 20))

    return measure


def a_layer_an_iteration(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    """At most 0.25 before the fourth iteration, and more than 0.5 from then on."""
    values = accuracy(runs, probe, "layered_inn")
    if LAYERS not in values:
        return judge("no runs", None)
    known = report.prior(runs, [values[k] for k in values if k < LAYERS])
    found = {f"{k}": mean(values[k], known).within(high=0.25) for k in values if k < LAYERS}
    found |= {f"{LAYERS}": mean(values[LAYERS], known).within(0.5)}
    return all_of(found).said(at(values, 1, 2, 3, 4, 5))


def sooner(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    """By half an iteration at least, in the mean over seeds."""
    first = {}
    for model, (label, _) in MODELS.items():
        table = pd.DataFrame(accuracy(runs, probe, model))  # a row for each seed
        if TRAINED not in table:
            return judge("no runs", None)
        first[label] = table.ge(table[TRAINED] - HOLDS, axis=0).idxmax(axis=1).astype(float)
    found = in_steps(difference, first["MLP"], first["INN"], step=1).within(0.5)
    after = ", ".join(f"{label} after {arm.mean():.1f}" for label, arm in first.items())
    return found.said(f"{after}: {found.measured} sooner")


CLAIMS = [
    Claim("H 3.4.4, Fig. 3.22", "The MLP holds its accuracy beyond the iterations it was trained with", holds("layered_inn")),
    Claim("H 3.4.4, Fig. 3.22", "The INN holds its accuracy beyond the iterations it was trained with", holds("inn")),
    Claim("H 3.4.4, Fig. 3.22", "With fewer iterations than layers the MLP's answers are random", a_layer_an_iteration),
    Claim("H 3.4.4", "The INN is near its fixed point after fewer iterations than the MLP", sooner),
    Claim("this lab", "The state settles: its steps shrink from iteration 5 to 20", settles("model")),
]

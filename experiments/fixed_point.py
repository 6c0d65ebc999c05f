"""Hershey 2023, 3.4.4: trained with the loss at each of five iterations, tested at others (Fig. 3.22)."""

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.iterations import by_iteration, of, settles
from experiments.verdicts import Finding

AXES = ("model",)
TABLES = {"probe": "iterations.csv"}
MODELS = {"layered_inn": ("MLP", "seagreen"), "inn": ("INN", report.INN)}
TRAINED, LAYERS = 5, 4  # iterations; H's network has four layers of weights
HOLDS = 0.05  # how far an accuracy may be from that of five iterations


def figures(runs: pd.DataFrame, probe: pd.DataFrame) -> dict[str, Figure]:
    """Test accuracy and the state's step by iteration, for both networks."""
    each = of(runs, probe, "model")
    lines = {label: (each[each["model"] == model], colour) for model, (label, colour) in MODELS.items()}
    return {"fixed_point": by_iteration(lines)}


def accuracy(runs: pd.DataFrame, probe: pd.DataFrame, model: str) -> pd.Series:
    """Mean test accuracy after each number of iterations; empty without runs."""
    each = of(runs, probe, "model")
    return each[each["model"] == model].groupby("iteration")["acc_end"].mean() if len(each) else pd.Series(dtype=float)


def at(values: pd.Series, *iterations: int) -> str:
    return ", ".join(f"{values[k]:.2f} at {k}" for k in iterations if k in values) or "no runs"


def holds(model: str):
    """Claim: from five iterations to the last, the accuracy stays what it is at five."""

    def measure(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
        values = accuracy(runs, probe, model)
        later = values[values.index >= TRAINED]
        holds = (later - later.iloc[0]).abs().max() <= HOLDS if len(later) > 5 else None
        return judge(at(values, TRAINED, 10, 20), None if holds is None else bool(holds))

    return measure


def a_layer_an_iteration(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    values = accuracy(runs, probe, "layered_inn")
    below = values[values.index < LAYERS]
    text = at(values, 1, 2, 3, 4, 5)
    return judge(text, bool((below <= 0.25).all() and values[LAYERS] > 0.5) if LAYERS in values else None)


def sooner(runs: pd.DataFrame, probe: pd.DataFrame) -> Finding:
    first = {}
    for model, (label, _) in MODELS.items():
        values = accuracy(runs, probe, model)
        if TRAINED not in values:
            return judge("no runs", None)
        first[label] = int(values[values >= values[TRAINED] - HOLDS].index[0])
    text = ", ".join(f"{label} after {k}" for label, k in first.items())
    return judge(text, first["INN"] < first["MLP"])


CLAIMS = [
    Claim("H 3.4.4, Fig. 3.22", "The MLP holds its accuracy beyond the iterations it was trained with", holds("layered_inn")),
    Claim("H 3.4.4, Fig. 3.22", "The INN holds its accuracy beyond the iterations it was trained with", holds("inn")),
    Claim("H 3.4.4, Fig. 3.22", "With fewer iterations than layers the MLP's answers are random", a_layer_an_iteration),
    Claim("H 3.4.4", "The INN is near its fixed point after fewer iterations than the MLP", sooner),
    Claim("this lab", "The state settles: its steps shrink from iteration 5 to 20", settles("model")),
]

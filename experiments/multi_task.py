"""Hershey 2023, 2.1.7: does a network learn sooner if it also says of each image whether it is the anomaly?

H's other words, that it learns more stably, are not judged: H does not say what is stable.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim
from experiments.recurrence import speed
from experiments.report import ACC, arm, tested, trained
from experiments.verdicts import Finding, difference

AXES = ("data", "objective.flag", "data.flag")  # an objective with a flag asks the data for it
TASKS = {"uniform_anomaly": "Uniform", "random_anomaly": "Random"}
STYLES = {
    "True": ("flag and index", {"color": report.BLUE}),
    "False": ("index alone", {"color": report.ORANGE, "linestyle": "--"}),
}


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Validation ACC_end by epoch, for each task, with the flag and without."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (data, title) in zip(figure.subplots(1, 2, sharey=True), TASKS.items(), strict=True):
        for flag, (label, style) in STYLES.items():
            report.curve(axes, trained(runs, data=data, **{"objective.flag": flag}), ACC, label, **style)
        axes.set(title=f"{title.lower()} anomaly", xlabel="epoch", ylim=(0, 1))
    figure.axes[0].set_ylabel("validation ACC_end")
    figure.axes[0].legend()
    return {"multi_task": figure}


def with_flag(data: str, values: Callable[[pd.DataFrame], pd.Series], validation: bool) -> Callable[..., Finding]:
    """Claim: with the flag a value is above that without it."""

    def measure(runs: pd.DataFrame) -> Finding:
        both = [arm(trained(runs, data=data, **{"objective.flag": flag}), values) for flag in STYLES]
        return difference(*both, report.prior(runs, both, "val" if validation else "test")).within(0)

    return measure


CLAIMS = [
    claim
    for data, title in TASKS.items()
    for claim in (
        Claim(
            "H 2.1.7",
            f"{title}: with the flag it trains more quickly, mean validation ACC_end over the first half of the epochs",
            with_flag(data, speed, validation=True),
            setting={"lr": None},
        ),
        Claim(
            "this lab",
            f"{title}: with the flag it ends higher",
            with_flag(data, tested, validation=False),
            setting={"lr": None},
        ),
    )
]

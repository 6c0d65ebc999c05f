"""This lab's own, on the strings of Darji 2022: recurrent networks with as many weights, each at its best.

As `tuned_comparison`: a search for each kind of cell, and its best trial with fresh seeds. The search of the plain RNN also
chooses its nonlinearity.
"""

import pandas as pd
from matplotlib.figure import Figure

from experiments.claims import Claim
from experiments.tuned_comparison import AXES, LUCK, SMALL, TABLES, TRIALS, Task, ahead, drawn, sized

TASK: Task = ("reber", SMALL)


def figures(runs: pd.DataFrame, searches: pd.DataFrame) -> dict[str, Figure]:
    """The trials by learning rate, and the tests of the best one of each cell with fresh seeds."""
    return {"tuned_comparison_reber": drawn(sized(runs), {TASK: "Reber strings, 30,000 weights"})}


CLAIMS = [
    *(
        Claim("this lab", f"The {cell} ends above the plain RNN, each at its best of {TRIALS} trials", ahead(TASK, cell, "rnn"))
        for cell in ("lstm", "gru")
    ),
    LUCK,
]

__all__ = ["AXES", "CLAIMS", "TABLES", "figures"]

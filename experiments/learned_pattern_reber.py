"""This lab's own, on the networks and strings of Darji 2022: how few weights does a recurrent network need, by how they are
found?

*At once*: a trained network's smallest weights are cut (D 6.2), and the rest is trained for ten epochs. *Tickets*: half of the
weights is cut after each training, and the rest trained from the beginning (Frankle and Carbin 2019). Beside these, with a 32nd
of the weights, patterns that were drawn, or chosen before training, or that change in it.

A network *bears* so many halvings of its weights: the most at which, as at all fewer, its test accuracy is within `SAFE` of the
whole network's.
"""

import math
from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import Claim
from experiments.learned_pattern import LEARNT, METHODS, OTHER_VALUES, RANDOM, RESTARTS
from experiments.pruning import CELLS, SAFE
from experiments.report import dots, tested, trained
from experiments.verdicts import Finding, all_of, difference, in_steps

AXES = ("model", "model.nonlinearity", "pruning._target_", "pruning.amount", "pruning.R", "pruning.restart", "study._target_")
HALVINGS = 5
ONCE, TRAINED_ON, TICKET = "at once", "at once, trained on", "ticket"
CURVES = {
    ONCE: {"color": "black", "marker": "o", "linestyle": ":"},
    TRAINED_ON: {"color": "black", "marker": "o"},
    TICKET: METHODS[TICKET],
}


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that trained, with their `cell` and `method`."""
    here = trained(runs)
    here = here.reindex(columns=here.columns.union(AXES, sort=False))  # a network without a kind of cell lacks its columns
    here["cell"] = here["model"].where(here["model"] != "rnn", "rnn_" + here["model.nonlinearity"].astype(str))
    method = here["pruning._target_"].str.rpartition(".")[2].str.lower()
    here["method"] = here["pruning.restart"].map(RESTARTS).fillna(method).fillna(TRAINED_ON)
    return here


def accuracies(runs: pd.DataFrame, rounds: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell, method, number of halvings and seed: the test accuracy `acc`, and the run that has it.

    rounds: of each ticket how many weights it had in each round, and what they came to.
    """
    rows: list[tuple[str, str, float, float, float, str]] = []
    for run, run_id in ((run, str(run_id)) for run_id, run in named(runs).groupby("run_id")):
        first = run.iloc[0]
        cell, method, seed = first["cell"], first["method"], first["seed"]
        if method == TRAINED_ON:
            halvings = -math.log2(1 - first["pruning.amount"])
            rows.append((cell, ONCE, 0.0, seed, first["base/test_acc_end"], run_id))
            rows.append((cell, ONCE, halvings, seed, first["cut/test_acc_end"], run_id))
            rows.append((cell, TRAINED_ON, 0.0, seed, first["base/test_acc_end"], run_id))
            rows.append((cell, TRAINED_ON, halvings, seed, tested(run).iloc[0], run_id))
            continue
        if method == TICKET:
            rows += [
                (cell, method, float(one.round - 1), seed, one.test_acc_end, run_id)
                for one in rounds[rounds["run_id"] == run_id].itertuples()
            ]
        rows.append((cell, method, -math.log2(first["pruning.R"]), seed, tested(run).iloc[0], run_id))
    table = pd.DataFrame(rows, columns=["cell", "method", "halvings", "seed", "acc", "run_id"])
    return table.drop_duplicates(["cell", "method", "halvings", "seed"], ignore_index=True)


TABLES = {"rounds": "rounds.csv"}


def borne(table: pd.DataFrame, cell: str, method: str) -> pd.Series:
    """How many halvings the network of each seed bears, of seeds of which all were tried."""
    here = table[(table["cell"] == cell) & (table["method"] == method)]
    acc = here.pivot(index="seed", columns="halvings", values="acc").reindex(columns=range(HALVINGS + 1)).dropna()
    return acc.ge(acc[0] - SAFE, axis=0).cummin(axis=1).sum(axis=1).sub(1).astype(float)


def arm(table: pd.DataFrame, cell: str, method: str, by: str = "seed") -> pd.Series:
    """The test accuracy of each seed with a 32nd of the weights."""
    here = table[(table["cell"] == cell) & (table["method"] == method) & (table["halvings"] == HALVINGS)]
    return here.set_index(by)["acc"]


def figures(runs: pd.DataFrame, rounds: pd.DataFrame) -> dict[str, Figure]:
    """By cell: test accuracy by the fraction of the weights, and what all methods come to with a 32nd of them."""
    table = accuracies(runs, rounds)
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.subplots(2, len(CELLS), sharey=True, squeeze=False)
    for axes, cell in zip(grid[0], CELLS, strict=True):
        for method, style in CURVES.items():
            here = table[(table["cell"] == cell) & (table["method"] == method)]
            mean = here.groupby("halvings")["acc"].mean()
            ends = here.set_index("run_id")["acc"]
            dots(axes, here["halvings"], ends, f"_{method}", s=10, alpha=0.35, linewidths=0, color=style["color"])
            axes.plot(mean.index, mean, markersize=5, label=method, **style)
        axes.set(title=cell, xlabel="fraction of the weights", ylim=(0.4, 1.02))
        axes.set_xticks(range(HALVINGS + 1), ["1", *(f"1/{2**k}" for k in range(1, HALVINGS + 1))])
    for axes, cell in zip(grid[1], CELLS, strict=True):
        beside(axes, table, cell)
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy")
    grid[0, 0].legend(title="cut")
    return {"learned_pattern_reber": figure}


def beside(axes: Axes, table: pd.DataFrame, cell: str) -> None:
    """Each seed's accuracy with a 32nd of the weights, method by method."""
    order = [method for method in (TRAINED_ON, *METHODS) if len(arm(table, cell, method))]
    for place, method in enumerate(order):
        style = METHODS.get(method, CURVES[TRAINED_ON])
        values = arm(table, cell, method, by="run_id")
        dots(axes, [place] * len(values), values, f"_{method}", marker=style["marker"], color=style["color"])
    axes.axhline(0.5, color="gray", linewidth=0.8, linestyle=":")
    axes.set(title=f"{cell}, 1/{2**HALVINGS} of the weights")
    axes.set_xticks(range(len(order)), order, rotation=45, ha="right")


Measure = Callable[..., Finding]


def both(values: Callable[[str, str], pd.Series], method: str, other: str) -> dict[str, tuple[pd.Series, pd.Series]]:
    """The values of two methods, by cell, where both have run."""
    found = {cell: (values(cell, method), values(cell, other)) for cell in CELLS}
    return {cell: pair for cell, pair in found.items() if len(pair[0]) and len(pair[1])}


def bears_more(method: str, other: str) -> Measure:
    """Claim: in each cell the first method bears more halvings than the second."""

    def measure(runs: pd.DataFrame, rounds: pd.DataFrame) -> Finding:
        found = {}
        for cell, (one, beside) in both(partial(borne, accuracies(runs, rounds)), method, other).items():
            apart = in_steps(difference, one, beside, step=1).within(0)
            found[cell] = apart.said(f"{one.mean():.1f} and {beside.mean():.1f}: {apart.measured}")
        return all_of(found)

    return measure


def ahead(method: str, other: str) -> Measure:
    """Claim: in each cell the first method ends above the second with a 32nd of the weights."""

    def measure(runs: pd.DataFrame, rounds: pd.DataFrame) -> Finding:
        pairs = both(partial(arm, accuracies(runs, rounds)), method, other)
        return all_of({cell: difference(*pair).within(0) for cell, pair in pairs.items()})

    return measure


def lab(sentence: str, measure: Measure) -> Claim:
    return Claim("this lab", sentence, measure)


CLAIMS = [
    lab(
        "Cut round by round, every network bears more halvings of its weights than right after a cut at once",
        bears_more(TICKET, ONCE),
    ),
    lab("It does so too where the network that was cut at once is trained on", bears_more(TICKET, TRAINED_ON)),
    *(
        lab(f"{name}: with a 32nd of the weights every network ends ahead of a random pattern", ahead(name, RANDOM))
        for name in LEARNT
    ),
    lab("Random growth, SET, beats growth by the gradient, RigL (Liu et al. 2021)", ahead("set", "rigl")),
    lab("A ticket ends ahead of its pattern with other values (Frankle and Carbin 2019)", ahead(TICKET, OTHER_VALUES[TICKET])),
    lab("A ticket ends ahead of random entries with the values of before", ahead(TICKET, RESTARTS["random"])),
]

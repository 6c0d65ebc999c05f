"""Darji 2022, 5.2 and 6.2: how many weights of a trained recurrent network can be pruned (Figs. 6.5–6.28)?

The *safe share* of a network is the largest fraction at which, as at every smaller one, the test accuracy right after pruning
is within `SAFE` of the whole network's. An accuracy is *regained* after the first epoch at whose end the validation accuracy is
within `REGAINED` of the whole network's; after 0 epochs if pruning did no harm.
"""

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import line, trained
from experiments.verdicts import Finding, all_of, difference, in_steps, mean

AXES = ("model", "model.nonlinearity", "pruning.target", "pruning.amount")
SAFE, REGAINED = 0.05, 0.01
CELLS = {"rnn_tanh": report.ORANGE, "rnn_relu": report.GREEN, "lstm": report.LSTM, "gru": report.BLUE}
D_SAFE = {  # target: D's safe shares (7.2)
    "both": {"rnn_tanh": 0.8, "rnn_relu": 0.7, "lstm": 0.6, "gru": 0.8},
    "i2h": {"rnn_tanh": 0.7, "rnn_relu": 0.7, "lstm": 0.7, "gru": 0.8},
    "h2h": {"rnn_tanh": 0.8, "rnn_relu": 0.7, "lstm": 0.9, "gru": 0.9},
}
D_KEPT = {  # target: at which share, and what accuracy is left there at least (6.2); "around 95 %" is 92.5, "100 %" 99
    "both": {"rnn_tanh": (0.8, 0.9), "rnn_relu": (0.7, 0.9), "lstm": (0.6, 0.99), "gru": (0.8, 0.975)},
    "i2h": {"rnn_tanh": (0.7, 0.9), "rnn_relu": (0.8, 0.9), "lstm": (0.8, 0.925), "gru": (0.8, 0.95)},
    "h2h": {"rnn_tanh": (0.8, 0.9), "rnn_relu": (0.7, 0.95), "lstm": (0.9, 0.925), "gru": (0.9, 0.925)},
}
READS = {"both": "what reads the input and the state", "i2h": "what reads the input", "h2h": "what reads the state"}
SHOWN = (0.6, 0.7, 0.8, 0.9, 1.0)  # the shares whose recovery is drawn
SHARES = 9  # of the ten shares, that must have been cut before anything is said


def cuts(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each run: cell, target, amount, seed, the accuracies before and right after the cut, epochs to regain."""
    runs = trained(runs)
    rows = []
    for run_id, run in runs.sort_values("epoch").groupby("run_id"):
        first = run.iloc[0]
        rows.append(
            {
                "run_id": run_id,
                "cell": f"rnn_{first['model.nonlinearity']}" if first["model"] == "rnn" else first["model"],
                "target": first["pruning.target"],
                "amount": first["pruning.amount"],
                "seed": first["seed"],
                "base": first["base/test_acc_end"],
                "cut": first["cut/test_acc_end"],
                "regained": regained(first["base/val_acc_end"], [first["cut/val_acc_end"], *run["val/acc_end"]]),
                "end": first["test/acc_end"] if first["state"] == "finished" else 0.0,
            }
        )
    columns = ["run_id", "cell", "target", "amount", "seed", "base", "cut", "regained", "end"]
    return pd.DataFrame(rows, columns=columns).sort_values(columns[1:5])


def regained(base: float, accuracies: list[float]) -> float:
    """The epochs until the accuracy, given right after pruning and then by epoch, is the base's again; or infinity."""
    return next((float(epoch) for epoch, value in enumerate(accuracies) if value >= base - REGAINED), math.inf)


TABLES = {"cuts": cuts}


def safe(cuts: pd.DataFrame, cell: str, target: str) -> pd.Series:
    """The safe share of each seed with which nearly all of the ten shares have been cut."""
    here = cuts[(cuts["cell"] == cell) & (cuts["target"] == target)]
    harm = (here["base"] - here["cut"]).groupby([here["seed"], here["amount"]]).mean().unstack().sort_index(axis=1)
    harm = harm[harm.notna().sum(axis=1) >= SHARES]
    harmless = ((harm <= SAFE) | harm.isna()).cummin(axis=1)
    return pd.Series({seed: max(harm.columns[row], default=0.0) for seed, row in harmless.iterrows()}, dtype=float)


def figures(runs: pd.DataFrame, cuts: pd.DataFrame) -> dict[str, Figure]:
    """The accuracy right after each cut (D's Figs. 6.5 … 6.27), and by epoch after it (Figs. 6.6 … 6.28)."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for axes, (target, what) in zip(figure.subplots(1, 3, sharey=True), READS.items(), strict=True):
        for cell, colour in CELLS.items():
            here = cuts[(cuts["cell"] == cell) & (cuts["target"] == target)]
            if len(here):
                after_the_cut(axes, here, cell, safe(cuts, cell, target).mean(), colour)
        axes.axhline(0.5, color="gray", linewidth=0.8, linestyle=":", label="chance")
        axes.set(title=f"{target}: {what}", xlabel="share that is cut", ylim=(0.4, 1.02))
        axes.legend(title="safe share, mean over seeds", loc="lower left")
    figure.axes[0].set_ylabel("test accuracy right after the cut")
    return {"pruning": figure, "pruning_regained": by_epoch(runs, cuts)}


def after_the_cut(axes: Axes, cuts: pd.DataFrame, cell: str, share: float, colour: str) -> None:
    """The mean over seeds by share, from the whole network on, and a band of one standard deviation."""
    at = cuts.groupby("amount")["cut"]
    whole = cuts.groupby("seed")["base"].first()
    mean = pd.concat([pd.Series({0.0: whole.mean()}), at.mean()])
    std = pd.concat([pd.Series({0.0: whole.std()}), at.std()]).fillna(0)
    label = cell if math.isnan(share) else f"{cell}: {share:.0%}"
    line(axes, mean.index, mean, cuts, label, color=colour, marker="o", markersize=4)
    axes.fill_between(mean.index, mean - std, (mean + std).clip(upper=1), color=colour, alpha=0.15, linewidth=0)


def by_epoch(runs: pd.DataFrame, cuts: pd.DataFrame) -> Figure:
    """A row for each target, a column for each cell: validation accuracy right after the cut (0) and after each epoch."""
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    grid = figure.subplots(len(READS), len(CELLS), sharex=True, sharey=True)
    scale = ScalarMappable(Normalize(SHOWN[0] - 0.1, 1.0), "plasma_r")
    runs = trained(runs).set_index("run_id")
    for row, target in zip(grid, READS, strict=True):
        for axes, cell in zip(row, CELLS, strict=True):
            here = cuts[(cuts["cell"] == cell) & (cuts["target"] == target)]
            for amount in (share for share in SHOWN if (here["amount"] == share).any()):
                these = runs.loc[here[here["amount"] == amount]["run_id"]]
                mean = these.groupby("epoch")["val/acc_end"].mean()
                start = these.groupby(level=0)["cut/val_acc_end"].first().mean()
                style = {"color": scale.to_rgba(amount), "marker": "o", "markersize": 3}
                line(axes, [0, *(mean.index + 1)], [start, *mean], these.reset_index(), f"{amount:.0%}", **style)
            axes.set_title(f"{cell}, {target}", fontsize=9)
            axes.set_ylim(0.4, 1.02)
    for axes in grid[-1]:
        axes.set_xlabel("epochs after the cut")
    for axes in grid[:, 0]:
        axes.set_ylabel("validation accuracy")
    for axes in [axes for axes in grid.flat if axes.lines][:1]:
        axes.legend(title="cut")
    return figure


Measure = Callable[..., Finding]


def safe_shares(target: str, said: Mapping[str, float]) -> Measure:
    """Claim: each cell's safe share is D's, or the next to it, on average over seeds."""

    def measure(runs: pd.DataFrame, cuts: pd.DataFrame) -> Finding:
        ours = {cell: in_steps(mean, safe(cuts, cell, target), step=0.1) for cell in said}
        found = {cell: one.within(said[cell] - 0.15, said[cell] + 0.15) for cell, one in ours.items()}
        return all_of({f"{cell} (D {said[cell]:.0%})": one for cell, one in found.items()})

    return measure


def kept(target: str) -> Measure:
    """Claim: each cell's test accuracy right after D's pruning is at least D's."""

    def measure(runs: pd.DataFrame, cuts: pd.DataFrame) -> Finding:
        here = cuts[cuts["target"] == target]
        found = {}
        for cell, (amount, low) in D_KEPT[target].items():
            after = here[(here["cell"] == cell) & np.isclose(here["amount"], amount)].groupby("seed")["cut"].mean()
            found[f"{cell} {amount:.0%} (D {low:.0%})"] = mean(after).within(low)
        return all_of(found)

    return measure


def at_least_60(runs: pd.DataFrame, cuts: pd.DataFrame) -> Finding:
    """Of shares in tenths: at least 0.55 on average over seeds."""
    return all_of({cell: in_steps(mean, safe(cuts, cell, "both"), step=0.1).within(0.55) for cell in CELLS})


def one_epoch(runs: pd.DataFrame, cuts: pd.DataFrame) -> Finding:
    """Of the cuts that do harm, up to 90 %, nine in ten are regained after one epoch, on average over seeds."""
    harmed = cuts[(cuts["amount"] < 1) & (cuts["regained"] > 0)]
    if cuts["cell"].nunique() < len(CELLS) or harmed.empty:
        return judge("runs of too few cells" if len(cuts) else "no runs", None)
    counts = harmed["regained"].value_counts().sort_index()
    listed = ", ".join(f"{n} {'never' if epochs == math.inf else f'after {epochs:.0f}'}" for epochs, n in counts.items())
    found = mean((harmed["regained"] == 1).groupby(harmed["seed"]).mean()).within(0.9)
    return found.said(f"of {len(harmed)} cuts that did harm: {listed}; after one {found.measured}")


def all_cut(which: Callable[[str, str], bool], back: bool) -> Measure:
    """Claim: ten epochs after all weights are pruned, each of these cells and targets has a test accuracy within `SAFE` of the
    whole network's, or has not."""

    def measure(runs: pd.DataFrame, cuts: pd.DataFrame) -> Finding:
        whole, found = cuts[cuts["amount"] == 1.0], {}
        for target, cell in itertools.product(READS, CELLS):
            if which(cell, target):
                here = whole[(whole["cell"] == cell) & (whole["target"] == target)].groupby("seed")[["base", "end"]].mean()
                behind = difference(here["base"], here["end"])
                found[f"{cell} {target} {here['end'].mean():.2f}"] = behind.within(high=SAFE) if back else behind.within(SAFE)
        return all_of(found).said(f"test accuracy at the end: {', '.join(found)}")

    return measure


def gated(cell: str, target: str) -> bool:
    return target == "h2h" and cell in ("lstm", "gru")


CLAIMS = [
    Claim(
        "D 7.2, Figs. 6.5–6.11",
        "Safe to prune of both: tanh 80, ReLU 70, LSTM 60, GRU 80 %",
        safe_shares("both", D_SAFE["both"]),
    ),
    Claim(
        "D 7.2, Figs. 6.13–6.19",
        "Of input-to-hidden: tanh 70, ReLU 70, LSTM 70, GRU 80 %",
        safe_shares("i2h", D_SAFE["i2h"]),
    ),
    Claim("D 6.2.2, Fig. 6.15", "Of input-to-hidden: ReLU 80 % (70 in 7.2)", safe_shares("i2h", {"rnn_relu": 0.8})),
    Claim(
        "D 7.2, Figs. 6.21–6.27",
        "Of hidden-to-hidden: tanh 80, ReLU 70, LSTM 90, GRU 90 %",
        safe_shares("h2h", D_SAFE["h2h"]),
    ),
    *(
        Claim(f"D {where}", f"The accuracy that is left there, {target}", kept(target))
        for where, target in (("6.2.1", "both"), ("6.2.2", "i2h"), ("6.2.3", "h2h"))
    ),
    Claim("D 8", "Every network can do without 60 % of its weights or more", at_least_60),
    Claim("D 7.2", "One epoch regains the accuracy (nine of ten cuts below 100 %)", one_epoch),
    Claim(
        "D 7.2",
        "After a cut of 100 % it never comes back",
        all_cut(lambda cell, target: not gated(cell, target), back=False),
    ),
    Claim("D 6.2.3", "But it does in LSTM and GRU without hidden-to-hidden weights", all_cut(gated, back=True)),
]

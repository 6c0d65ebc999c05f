"""Hershey 2023, 3.4.1 and 3.4.3: does what H shows come from learning rates, or from how many updates an epoch has?

The same networks with 63 to 500 updates an epoch: 2,000 sequences that are drawn anew, in batches of 32 to 4. And with 625:
10,000 sequences that stay the same, in batches of 16, as in the code that H's author published later. They are compared after
as many epochs, and after as many updates. The weight space has the depth of H 3.4.1, 610: at R=1.0 that is 1.9 million weights,
where H 3.4.3 has a million.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim
from experiments.report import ACC, trained
from experiments.verdicts import Finding, all_of, difference, mean, trend

AXES = ("model", "R", "lr", "data.batch_size", "data.n_train", "data.redraw", "trainer.max_epochs")
EPOCHS, UPDATES = 8, 5_000  # after which the arms are compared: the most that all of them have
LONG = 100  # H's epochs
FULL, SMALL, PUBLISHED = 63, 250, 625  # updates an epoch: batches of 32 and of 8, and the published code's
CHANCE, TRAINS = 0.2, 0.4  # a network that ends below has failed, one that ends above has trained

Reached = Callable[[pd.DataFrame], pd.Series]


def paced(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that trained, with `steps`, the updates in an epoch."""
    here = trained(runs)
    return here.assign(steps=np.ceil(here["data.n_train"] / here["data.batch_size"]).astype(int))


def reached(runs: pd.DataFrame, epochs: int | None = None, updates: int | None = None) -> pd.Series:
    """The ACC_end of each run of `paced` after so many epochs, or at the end of the epoch that is nearest to so many updates.

    By run_id; NaN for a run that is shorter, 0 for one that had diverged by then.
    """
    last = epochs if updates is None else (updates / runs["steps"]).round()
    states = report.each(runs, "state")
    values = runs[runs["epoch"] + 1 == last].groupby("run_id")[ACC].first().reindex(states.index)
    return values.mask(values.isna() & (states == "diverged"), 0.0)


BY_EPOCH, BY_UPDATE = partial(reached, epochs=EPOCHS), partial(reached, updates=UPDATES)


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Levels by updates an epoch, a row for each learning rate: after as many epochs, and after as many updates. And for each
    network the curves: by epoch, and by update."""
    here = paced(runs)
    rates = sorted(here["lr"].unique())
    figure, panels = report.grid(2 * len(rates))
    for lr, left, right in zip(rates, panels[::2], panels[1::2], strict=True):
        levels(left, f"lr {lr:g}, after {EPOCHS} epochs", trained(here, lr=lr), BY_EPOCH)
        levels(right, f"lr {lr:g}, after {UPDATES:,} updates", trained(here, lr=lr), BY_UPDATE)
    networks = report.by_density(trained(here, model="inn"), trained(here, model="lstm"))
    made = {f"pace_{name.split()[0]}": curves(name, network, rates) for name, (network, _) in networks.items()}
    return {"pace": figure, **made}


def levels(axes: Axes, title: str, runs: pd.DataFrame, values: Reached) -> None:
    """A line for each network; what has the published code's sequences is a star apart from it."""
    for name, (network, style) in report.by_density(trained(runs, model="inn"), trained(runs, model="lstm")).items():
        at, ends = report.each(network, "steps"), values(network).dropna()
        at = at[ends.index]
        drawn, fixed = (at[(at == PUBLISHED) == published] for published in (False, True))
        report.points(axes, drawn, ends, name, marker="o", color=style["color"])
        report.points(axes, fixed, ends, marker="*", color=style["color"])
    axes.axhline(1 / runs["seq_len"].iloc[0], color="gray", linewidth=0.8, linestyle=":", label="chance")
    axes.set(title=title, xscale="log", xlabel="updates in an epoch (★: sequences stay the same)")
    axes.set(ylabel="validation ACC_end", ylim=(0, 1))
    steps = sorted(runs["steps"].unique())
    axes.set_xticks(steps, [f"{step}" for step in steps])
    axes.set_xticks([], minor=True)
    report.beside(axes, "weights")


def curves(name: str, runs: pd.DataFrame, rates: list[float]) -> Figure:
    """One network: a row for each learning rate, by epoch and by update; a curve for each number of updates in an epoch."""
    figure, panels = report.grid(2 * len(rates))
    steps = sorted(runs["steps"].unique())
    tint = dict(zip(steps, report.shades(len(steps)), strict=True))
    for lr, left, right in zip(rates, panels[::2], panels[1::2], strict=True):
        here = trained(runs, lr=lr)
        by_update = here.assign(epoch=(here["epoch"] + 1) * here["steps"] - 1)
        for axes, part, x in ((left, here, "epoch"), (right, by_update, "update")):
            drawn = {f"{step}": (each, {"color": tint[step]}) for step, each in part.groupby("steps")}
            axes.set(xscale="log")
            report.panel(axes, f"{name}, lr {lr:g}", drawn, 1 / runs["seq_len"].iloc[0], legend="updates in an epoch")
            axes.set(xlabel=x)
    return figure


def arms(runs: pd.DataFrame, values: Reached, **setting: object) -> dict[int, pd.Series]:
    """The levels that the runs of a setting reached, by updates in an epoch."""
    found = report.arms(trained(paced(runs), **setting), "steps", values)
    return {steps: arm for steps, arm in found.items() if arm.notna().any()}


def networks(runs: pd.DataFrame) -> dict[str, dict[str, object]]:
    """The setting of each network, by its name."""
    here = trained(runs)
    densities = sorted(here[here["model"] == "inn"]["R"].dropna().unique())
    lstm = {"LSTM": {"model": "lstm"}} if (here["model"] == "lstm").any() else {}
    return {f"R={R:g}": {"model": "inn", "R": R} for R in densities} | lstm


def said(found: Mapping[int, pd.Series], known: float) -> str:
    return report.ends(found, known, "updates an epoch").replace("updates an epoch=", "")


def more_updates_are_ahead(runs: pd.DataFrame) -> Finding:
    """For each network: over the arms whose sequences are drawn anew, each with twice the updates of the one before."""
    slopes, texts = {}, []
    for name, setting in networks(runs).items():
        found = arms(runs, BY_EPOCH, lr=1e-4, **setting)
        found.pop(PUBLISHED, None)
        known = report.prior(runs, found.values(), "val")
        slopes[name] = trend(found, known).within(0)
        texts.append(f"{name}: {said(found, known)}")
    return all_of(slopes).said("; ".join(texts) or "no runs")


def published_is_ahead(runs: pd.DataFrame) -> Finding:
    found = arms(runs, BY_EPOCH, lr=1e-4, model="inn", R=0.2)
    known = report.prior(runs, found.values(), "val")
    text = said({steps: found[steps] for steps in (FULL, PUBLISHED) if steps in found}, known)
    return difference(arm(found, PUBLISHED), arm(found, FULL), known).within(0).said(text)


def arm(found: Mapping[int, pd.Series], steps: int) -> pd.Series:
    """An arm of `arms`, without values if there is none."""
    return found.get(steps, pd.Series(dtype=float))


def alike_by_update(lr: float, R: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: after as many updates each batch size ends within 0.1 of batches of 32."""

    def measure(runs: pd.DataFrame) -> Finding:
        found = arms(runs, BY_UPDATE, lr=lr, model="inn", R=R)
        found.pop(PUBLISHED, None)
        known = report.prior(runs, found.values(), "val")
        others = {f"{steps}": other for steps, other in found.items() if steps != FULL}
        alike = {steps: difference(other, arm(found, FULL), known).within(-0.1, 0.1) for steps, other in others.items()}
        return all_of(alike).said(said(found, known))

    return measure


def ends(values: Reached, low: float, high: float, steps: int, **setting: object) -> Callable[[pd.DataFrame], Finding]:
    """Claim: the runs of a setting with so many updates in an epoch end between `low` and `high`."""

    def measure(runs: pd.DataFrame) -> Finding:
        found = arm(arms(runs, values, **setting), steps)
        return mean(found, report.prior(runs, [found], "val")).within(low, high)

    return measure


def dense_fails_in_small_batches_alone(runs: pd.DataFrame) -> Finding:
    found = arms(runs, BY_UPDATE, lr=1e-3, model="inn", R=1.0)
    known = report.prior(runs, found.values(), "val")
    small = mean(arm(found, SMALL), known).within(high=CHANCE)
    full = mean(arm(found, FULL), known).within(low=TRAINS)
    return all_of({"small": small, "full": full}).said(said(found, known))


def sparse_trains(runs: pd.DataFrame) -> Finding:
    each = {name: setting for name, setting in networks(runs).items() if setting.get("R", 1) <= 0.2}
    found = {name: arm(arms(runs, BY_UPDATE, lr=1e-3, **setting), SMALL) for name, setting in each.items()}
    known = report.prior(runs, found.values(), "val")
    return all_of({name: mean(values, known).within(TRAINS) for name, values in found.items()})


LAST = partial(reached, epochs=LONG)
SPARSE, LSTM = {"lr": 1e-4, "model": "inn", "R": 0.02}, {"lr": 1e-4, "model": "lstm"}
DENSE = {"lr": 1e-3, "model": "inn", "R": 1.0}
LAB, LEVELS, RATES = "this lab", "H 3.4.1, Fig. 3.13", "H 3.4.3, Fig. 3.18b"
SAID = [
    (
        LAB,
        f"At lr 1e-4 every network comes the further in {EPOCHS} epochs, the more updates these have",
        more_updates_are_ahead,
    ),
    (
        LAB,
        f"At lr 1e-4 and R=0.2 {EPOCHS} epochs of the published code's are ahead of {EPOCHS} of 63 updates",
        published_is_ahead,
    ),
    (LAB, f"At lr 1e-4 and R=0.2 all batch sizes end within 0.1 after {UPDATES:,} updates", alike_by_update(1e-4, 0.2)),
    (LAB, f"At lr 1e-3 and R=0.2 all batch sizes end within 0.1 after {UPDATES:,} updates", alike_by_update(1e-3, 0.2)),
    (LAB, "At lr 1e-3 R=1.0 fails in batches of 8 and trains in batches of 32", dense_fails_in_small_batches_alone),
    (
        RATES,
        "At lr 1e-3 every density above 0.4 fails to train: R=1.0 in batches of 8",
        ends(BY_UPDATE, 0, CHANCE, 250, **DENSE),
    ),
    (RATES, "At lr 1e-3 densities up to 0.2 train: in batches of 8", sparse_trains),
    (LEVELS, "Random: R=0.02 ends at about 0.48: in batches of 4", ends(LAST, 0.40, 0.55, 500, **SPARSE)),
    (LEVELS, "Random: R=0.02 ends at about 0.48: in batches of 16", ends(LAST, 0.40, 0.55, 125, **SPARSE)),
    (LEVELS, "Random: the LSTM ends at 0.25–0.30: in batches of 16", ends(LAST, 0.20, 0.35, 125, **LSTM)),
    (
        RATES,
        "At lr 1e-3 every density above 0.4 fails to train: R=1.0 in batches of 4",
        ends(BY_UPDATE, 0, CHANCE, 500, **DENSE),
    ),
]
CLAIMS = [Claim(source, sentence, measure, epochs=EPOCHS) for source, sentence, measure in SAID]

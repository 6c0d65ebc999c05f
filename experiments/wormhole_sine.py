"""Habiba and Pearlmutter 2021, 4.2 and Fig. 7: a network whose output goes back to its input follows a sine."""

import math

import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import each, trained
from experiments.verdicts import Finding

AXES = ("lr", "model.feedback")
TABLES = {"answers": "answers.csv"}
LR = 1e-3  # T's
SEEDS = 2  # from which something is said
STABLE = 0.05  # of the loss: what it may still fall by in the last tenth of the iterations
FLAT = 0.125  # the loss of an answer that is always 1/2: the variance of a sine between 0 and 1


def figures(runs: pd.DataFrame, answers: pd.DataFrame) -> dict[str, Figure]:
    """Loss by iteration, with and without the way back; and below, the waves of the first seed."""
    here = trained(runs)
    rates = sorted(here["lr"].unique())
    figure = Figure(figsize=(4.6 * max(1, len(rates)), 7.2), layout="constrained")
    axes = figure.subplots(2, max(1, len(rates)), squeeze=False, sharey="row")
    for column, lr in enumerate(rates):
        above, below = axes[:, column]
        for number, (name, feedback) in enumerate((("nothing goes back", False), ("output goes back", True))):
            if (part := fed_back(here[here["lr"] == lr], feedback)).empty:
                continue
            report.curve(above, part, "train/loss", name, color=f"C{number}")
            first = part.sort_values("seed")["run_id"].iloc[0]
            wave = answers[answers["run_id"] == first]
            if not below.lines:
                below.plot(wave["true"].to_numpy(), color="gray", linewidth=3, alpha=0.4, label="the sine")
            below.plot(wave["answer"].to_numpy(), color=f"C{number}", label=name)
        above.axhline(FLAT, color="gray", linestyle=":", linewidth=0.8, label="always 1/2")
        above.set(title=f"lr={lr:g}", xlabel="iteration of training", ylabel="mean squared error", yscale="log")
        below.set(xlabel="test points, in order", ylabel="height")
        above.legend(fontsize=7)
        below.legend(fontsize=7)
    return {"wormhole_sine": figure}


def fed_back(runs: pd.DataFrame, feedback: bool = True) -> pd.DataFrame:
    return trained(runs, **{"model.feedback": str(feedback)})  # MLflow keeps params as text


def losses(runs: pd.DataFrame) -> pd.Series:
    """Each run's last training loss, by run_id; infinite if it diverged."""
    last = runs.sort_values("epoch").groupby("run_id")["train/loss"].last()
    return last.mask(each(runs, "state") == "diverged", math.inf)


def is_stable(runs: pd.DataFrame, answers: pd.DataFrame) -> Finding:
    here = fed_back(trained(runs, lr=LR))
    if here["run_id"].nunique() < SEEDS:
        return judge("no runs", None)
    last = here["epoch"].max()
    at = here.pivot_table(index="run_id", columns="epoch", values="train/loss")
    fell = (1 - at[last] / at[last - (last + 1) // 10]).mask(each(here, "state") == "diverged", math.inf)
    return judge(f"in the last tenth it falls by {fell.mean():.1%} (lr={LR:g})", bool(fell.abs().max() <= STABLE))


def follows(runs: pd.DataFrame, answers: pd.DataFrame) -> Finding:
    """At the best learning rate: R² of the test points, at least 0.99 for every seed."""
    here = fed_back(runs)
    if here.empty:
        return judge("no runs", None)
    explained = here[["run_id", "lr"]].drop_duplicates().set_index("run_id")
    wave = answers[answers["run_id"].isin(explained.index)].groupby("run_id")
    explained["R2"] = wave.apply(lambda points: r2_score(points["true"], points["answer"]))
    explained = explained.fillna({"R2": -math.inf})  # those that diverged have no answer
    by_rate = explained.groupby("lr")["R2"]
    text = ", ".join(f"{least:.3f} at lr={lr:g}" for lr, least in by_rate.min().items())
    return judge(f"least R² of its seeds {text}", bool(by_rate.min().max() >= 0.99) if by_rate.size().min() >= SEEDS else None)


def helps(runs: pd.DataFrame, answers: pd.DataFrame) -> Finding:
    """The mean last loss, at each learning rate."""
    back, without = (fed_back(runs, feedback) for feedback in (True, False))
    if not min(back["run_id"].nunique(), without["run_id"].nunique()) >= SEEDS:
        return judge("no runs", None)
    table = pd.DataFrame(
        {
            name: part.groupby("lr").apply(lambda runs: losses(runs).mean())
            for name, part in (("back", back), ("without", without))
        }
    ).dropna()
    text = ", ".join(f"{row.back:.4f} against {row.without:.4f} at lr={lr:g}" for lr, row in table.iterrows())
    return judge(text, bool((table["back"] < table["without"]).all()) if len(table) else None)


CLAIMS = [
    Claim("T 4.2, Fig. 7(a)", "By iteration 300 the loss is stable", is_stable),
    Claim("T 4.2, Fig. 7(b)", "After 300 iterations the wave is followed", follows),
    Claim("this lab", "The way back helps: a smaller loss than without, at every learning rate", helps),
]

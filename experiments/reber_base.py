"""Darji 2022, 6.1: three recurrent layers of 50 on Reber strings, of four kinds (Figs. 6.1–6.4)."""

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, tested, trained
from experiments.verdicts import Finding, mean

AXES = ("model", "model.nonlinearity")
KINDS = {  # title: what its runs have
    "RNN, tanh": {"model": "rnn", "model.nonlinearity": "tanh"},
    "RNN, ReLU": {"model": "rnn", "model.nonlinearity": "relu"},
    "LSTM": {"model": "lstm"},
    "GRU": {"model": "gru"},
}
ENOUGH = 10  # epochs, for what a claim says of a whole training
PARTS = {"train": ("training", report.BLUE), "val": ("validation", report.ORANGE)}


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Accuracy and, below, loss by epoch: a column for each kind."""
    shown = {title: part for title, values in KINDS.items() if len(part := trained(runs, **values))}
    figure = Figure(figsize=(3.2 * len(shown), 6), layout="constrained")
    accuracies, losses = figure.subplots(2, len(shown), sharex=True, sharey="row", squeeze=False)
    for (title, part), accuracy, loss in zip(shown.items(), accuracies, losses, strict=True):
        for name, (label, colour) in PARTS.items():
            report.curve(accuracy, part, f"{name}/acc_end", label, color=colour)
            report.curve(loss, part, f"{name}/loss", label, color=colour)
        accuracy.set(title=f"{title}, {report.weights(part)} weights: test {tested(part).mean():.3f}")
        loss.set(xlabel="epoch")
        accuracy.legend(loc="lower right")
    accuracies[0].set(ylabel="accuracy", ylim=(0.45, 1.01))
    losses[0].set(ylabel="loss", yscale="log")  # a ReLU network's can be thousands for an epoch
    return {"reber_base": figure}


def curves(runs: pd.DataFrame, title: str, metric: str = ACC) -> pd.DataFrame:
    """An accuracy: a row for each epoch, a column for each seed of a kind. A run that diverged has 0 from there on."""
    found = trained(runs, **KINDS[title]).pivot_table(index="epoch", columns="seed", values=metric)
    return found.reindex(range(int(runs["trainer.max_epochs"].max()))).fillna(0.0)


def claim(
    title: str, value: Callable[[pd.DataFrame], pd.Series], words: str, low: float = -math.inf, high: float = math.inf
) -> Callable[[pd.DataFrame], Finding]:
    """Claim: on average over seeds, a value of each curve of a kind lies in [low, high]; of `ENOUGH` epochs or more."""

    def measure(runs: pd.DataFrame) -> Finding:
        found = curves(runs, title)
        if not found.size or len(found) < ENOUGH:
            return judge(f"{found.shape[1]} runs of {len(found)} epochs", None)
        measured = mean(value(found)).within(low, high)
        return measured.said(f"{measured.measured} of {len(found)} epochs {words}")

    return measure


def unsteady(above: float) -> Callable[[pd.DataFrame], pd.Series]:
    """The fraction of epochs before a curve stays above a level."""
    return lambda found: 1 - (found > above).iloc[::-1].cummin().mean()


def starts_at(title: str, low: float, high: float) -> Callable[[pd.DataFrame], Finding]:
    """Claim: after the first epoch the training accuracy lies in [low, high]: that is what is 93 % in D's own table."""

    def measure(runs: pd.DataFrame) -> Finding:
        training, validation = (curves(runs, title, metric) for metric in ("train/acc_end", ACC))
        if not training.size:
            return judge("no runs", None)
        found = mean(training.iloc[0]).within(low, high, digits=3)
        return found.said(f"training {found.measured}, validation {validation.iloc[0].mean():.3f} after the first epoch")

    return measure


CLAIMS = [
    Claim(
        "D 6.1, Fig. 6.1",
        "RNN, tanh: steadily above 90 % but for a brief time at the start, a fifth of the epochs at most",
        claim("RNN, tanh", unsteady(0.90), "before it stays above 90 %", high=1 / 5),
    ),
    Claim(
        "D 6.1, Fig. 6.2",
        "RNN, ReLU: above 96 % through most of the training",
        claim("RNN, ReLU", lambda found: (found > 0.96).mean(), "above 96 %", low=0.5),
    ),
    *(
        claim_
        for title, figure in (("LSTM", "6.3"), ("GRU", "6.4"))
        for claim_ in (
            Claim(
                f"D 6.1, Fig. {figure}",
                f"{title}: about 93 % in the first epoch, of training: 0.89–0.97",
                starts_at(title, 0.89, 0.97),
            ),
            Claim(
                f"D 6.1, Fig. {figure}",
                f"{title}: stands at 100 % from then on, in nine of ten epochs",
                claim(title, lambda found: (found.iloc[1:] >= 0.995).mean(), "after the first round to 100 %", low=0.9),
            ),
        )
    ),
]

"""Darji 2022, 6.1: three recurrent layers of 50 on Reber strings, of four kinds (Figs. 6.1–6.4)."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, tested, trained
from experiments.verdicts import Finding

AXES = ("model", "model.nonlinearity")
KINDS = {  # title: what its runs have
    "RNN, tanh": {"model": "rnn", "model.nonlinearity": "tanh"},
    "RNN, ReLU": {"model": "rnn", "model.nonlinearity": "relu"},
    "LSTM": {"model": "lstm"},
    "GRU": {"model": "gru"},
}
ENOUGH = 10  # epochs, for what a claim says of a whole training
PARTS = {"train": ("training", "tab:blue"), "val": ("validation", "tab:orange")}


def figures(runs: pd.DataFrame) -> dict[str, Figure]:
    """Accuracy and, below, loss by epoch: a column for each kind."""
    shown = {title: part for title, values in KINDS.items() if len(part := trained(runs, **values))}
    figure = Figure(figsize=(4.2 * len(shown), 7), layout="constrained")
    accuracies, losses = figure.subplots(2, len(shown), sharex=True, sharey="row", squeeze=False)
    for (title, part), accuracy, loss in zip(shown.items(), accuracies, losses, strict=True):
        for name, (label, colour) in PARTS.items():
            report.curve(accuracy, part, f"{name}/acc_end", label, color=colour)
            report.curve(loss, part, f"{name}/loss", label, color=colour)
        accuracy.set(title=f"{title}, {report.weights(part)} weights: test {tested(part).mean():.3f}")
        loss.set(xlabel="epoch")
        accuracy.legend(fontsize=8, loc="lower right")
    accuracies[0].set(ylabel="accuracy", ylim=(0.45, 1.01))
    losses[0].set(ylabel="loss", yscale="log")  # a ReLU network's can be thousands for an epoch
    return {"reber_base": figure}


def curves(runs: pd.DataFrame, title: str) -> pd.DataFrame:
    """Validation accuracy: a row for each epoch, a column for each run of a kind. A run that diverged has 0 from there on."""
    found = trained(runs, **KINDS[title]).pivot(index="epoch", columns="run_id", values=ACC)
    return found.reindex(range(int(runs["trainer.max_epochs"].max()))).fillna(0.0)


def claim(title: str, measure: Callable[[pd.DataFrame], tuple[str, bool]], epochs: int) -> Callable[..., Finding]:
    """Claim on the curves of a kind, which takes so many epochs."""

    def measured(runs: pd.DataFrame) -> Finding:
        found = curves(runs, title)
        if not found.size or len(found) < epochs:
            return judge(f"{found.shape[1]} runs of {len(found)} epochs", None)
        return judge(*measure(found))

    return measured


def steady(above: float, brief: float) -> Callable[[pd.DataFrame], tuple[str, bool]]:
    """Every run stays above a level but for a share of its epochs at the start."""

    def measure(found: pd.DataFrame) -> tuple[str, bool]:
        late = (found > above).iloc[::-1].cummin().iloc[::-1]  # the epochs from which on it stays there
        start = len(found) - late.sum()
        least = found.where(late).min().min()
        text = f"from epoch {', '.join(f'{epoch + 1}' for epoch in start)} of {len(found)} on, then {least:.3f} at least"
        return text, bool((start <= brief * len(found)).all())

    return measure


def mostly(above: float) -> Callable[[pd.DataFrame], tuple[str, bool]]:
    """Every run is above a level at most of its epochs."""

    def measure(found: pd.DataFrame) -> tuple[str, bool]:
        shares = (found > above).mean()
        return f"at {', '.join(f'{share:.0%}' for share in shares)} of {len(found)} epochs", bool((shares > 0.5).all())

    return measure


def starts_at(level: float, within: float) -> Callable[[pd.DataFrame], tuple[str, bool]]:
    """Every run is near a level after its first epoch."""

    def measure(found: pd.DataFrame) -> tuple[str, bool]:
        first = found.iloc[0]
        text = f"{', '.join(f'{value:.3f}' for value in first)} after the first epoch"
        return text, bool(((first - level).abs() <= within).all())

    return measure


def stands_at_one(found: pd.DataFrame) -> tuple[str, bool]:
    """Every run rounds to 100 % at nine tenths of the epochs after the first, or more."""
    shares = (found.iloc[1:] >= 0.995).mean()
    last = ", ".join(f"{value:.3f}" for value in found.iloc[-1])
    text = f"at {', '.join(f'{share:.0%}' for share in shares)} of {len(found) - 1} epochs after the first; last {last}"
    return text, bool((shares >= 0.9).all())


CLAIMS = [
    Claim(
        "D 6.1, Fig. 6.1",
        "RNN, tanh: steadily above 90 % but for a brief time at the start, a fifth of the epochs at most",
        claim("RNN, tanh", steady(0.90, 1 / 5), ENOUGH),
    ),
    Claim("D 6.1, Fig. 6.2", "RNN, ReLU: above 96 % through most of the training", claim("RNN, ReLU", mostly(0.96), ENOUGH)),
    *(
        claim_
        for title, figure in (("LSTM", "6.3"), ("GRU", "6.4"))
        for claim_ in (
            Claim(f"D 6.1, Fig. {figure}", f"{title}: about 93 % in the first epoch", claim(title, starts_at(0.93, 0.04), 1)),
            Claim(f"D 6.1, Fig. {figure}", f"{title}: stands at 100 % from then on", claim(title, stands_at_one, ENOUGH)),
        )
    ),
]

"""The claims on Darji's experiments: agrees, differs, not enough runs, each by made runs."""

import math

import numpy as np
import pandas as pd
import pytest
from made import COUNTER, runs

from experiments import pruning
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW

SHARES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def cut(cell: str, target: str, amount: float, right_after: float, then: list[float], seed: int = 0) -> list[dict]:
    """The rows of a made run of `pruning` that had 0.99 before the cut."""
    number = next(COUNTER)
    rnn = cell.startswith("rnn")
    common = {
        "run_id": f"run{number}", "state": "finished", "scale": "paper", "source": "reber", "data": "reber", "seed": seed,
        "model": "rnn" if rnn else cell, "model.nonlinearity": cell[4:] if rnn else np.nan, "commit": "0123456789",
        "pruning.target": target, "pruning.amount": amount, "base/test_acc_end": 0.99, "base/val_acc_end": 0.99,
        "cut/test_acc_end": right_after, "cut/val_acc_end": right_after, "test/acc_end": then[-1],
    }  # fmt: skip
    return [{**common, "epoch": epoch, "val/acc_end": value} for epoch, value in enumerate(then)]


SAFE = {**pruning.D_SAFE, "i2h": {"rnn_tanh": 0.7, "rnn_relu": 0.8, "lstm": 0.8, "gru": 0.8}}  # as in D's 6.2, not 7.2


def darji(safe=SAFE, then=(0.99, 0.99), gated_back=True, cells=pruning.CELLS, seeds=(0, 1)) -> pd.DataFrame:
    return pd.DataFrame([row for seed in seeds for row in of_seed(safe, then, gated_back, cells, seed)])


def of_seed(safe, then, gated_back, cells, seed: int) -> list[dict]:
    """A study that comes out as Darji's: no harm up to the safe share, chance beyond it, regained but for cuts of 100 %."""
    found = []
    for target in pruning.READS:
        for cell in cells:
            for amount in SHARES:
                harmless = amount <= safe[target][cell]
                back = amount < 1 or (gated_back and pruning.gated(cell, target))
                found += cut(cell, target, amount, 0.995 if harmless else 0.5, list(then) if back else [0.5, 0.5], seed)
    return found


def verdicts(made: pd.DataFrame) -> list[str]:
    table = pruning.cuts(made)
    return [claim.measure(made, cuts=table).verdict for claim in pruning.CLAIMS]


def test_all_agree_where_all_is_as_in_the_source():
    assert set(verdicts(darji(seeds=range(4)))) == {AGREES}


def test_without_runs_nothing_is_said():
    assert set(verdicts(darji()[:0])) == {TOO_FEW}
    assert set(verdicts(darji(cells=["lstm"]))) == {TOO_FEW}


def less(seeds=(0, 1)) -> pd.DataFrame:
    return darji(safe={target: dict.fromkeys(pruning.CELLS, 0.3) for target in pruning.READS}, seeds=seeds)


@pytest.mark.parametrize(
    "made, differ",
    [
        (less(), [0, 1, 2, 3, 4, 5, 6, 7]),
        (darji(then=(0.7, 0.8, 0.99)), [8]),
        (darji(gated_back=False), [10]),
    ],
)
def test_a_claim_differs_where_its_numbers_do(made, differ):
    found = verdicts(made)
    assert [place for place, verdict in enumerate(found) if verdict == DIFFERS] == differ


def test_safe_shares_are_judged_by_the_mean_over_seeds():
    assert set(verdicts(darji(seeds=[0]))) == {TOO_FEW}
    mixed = runs(less(seeds=[0]), darji(seeds=[1]))
    assert verdicts(mixed)[:4] == [TOO_FEW] * 4
    many = runs(less(seeds=range(30)), darji(seeds=[30]))  # one that agrees among so many does not matter
    assert verdicts(many)[:4] == [DIFFERS] * 4
    few = darji(seeds=[2])
    few = few[few["pruning.amount"] < 0.5]  # by itself it says nothing
    assert verdicts(runs(less(), few))[:4] == [DIFFERS] * 4


def test_a_cut_of_everything_that_comes_back_differs():
    whole = darji()
    back = whole.assign(**{"test/acc_end": 0.99})
    assert verdicts(back)[9] == DIFFERS


@pytest.mark.parametrize(
    "accuracies, expected",
    [([0.985, 0.5], 0), ([0.5, 0.97, 0.985], 2), ([0.5, 0.98], 1), ([0.5, 0.6], math.inf)],
)
def test_when_an_accuracy_is_regained(accuracies, expected):
    assert pruning.regained(0.99, accuracies) == expected


def test_a_safe_share_ends_at_the_first_harm():
    """What is harmless again beyond it does not count."""
    harm = {0.4: 0.2, 0.5: 0.0}
    made = pd.DataFrame([row for share in SHARES for row in cut("lstm", "both", share, 0.99 - harm.get(share, 0.0), [0.99])])
    other = pd.DataFrame([row for share in SHARES[1:] for row in cut("lstm", "both", share, 0.99, [0.99], seed=1)])
    assert dict(pruning.safe(pruning.cuts(runs(made, other)), "lstm", "both")) == {0: 0.3, 1: 1.0}


def test_figures_show_every_target():
    made = darji()
    figures = pruning.figures(made, pruning.cuts(made))
    assert [len(axes.lines) for axes in figures["pruning"].axes] == [5, 5, 5]  # four cells and chance
    curves = figures["pruning_regained"].axes
    assert len(curves) == 12 and all(len(axes.lines) == len(pruning.SHOWN) for axes in curves)

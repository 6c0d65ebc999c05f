"""The claims on Darji's experiments: agrees, differs, not enough runs, each by made runs."""

import math

import numpy as np
import pandas as pd
import pytest
from made import COUNTER, runs

from experiments import pruning
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW

SHARES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def cut(cell: str, target: str, amount: float, right_after: float, then: list[float], seed: int = 0) -> pd.DataFrame:
    """A made run of `pruning` that had 0.99 before the cut."""
    number = next(COUNTER)
    rnn = cell.startswith("rnn")
    common = {
        "run_id": f"run{number}", "state": "finished", "scale": "paper", "source": "reber", "data": "reber", "seed": seed,
        "model": "rnn" if rnn else cell, "model.nonlinearity": cell[4:] if rnn else np.nan, "commit": "0123456789",
        "pruning.target": target, "pruning.amount": amount, "base/test_acc_end": 0.99, "base/val_acc_end": 0.99,
        "cut/test_acc_end": right_after, "cut/val_acc_end": right_after, "test/acc_end": then[-1],
    }  # fmt: skip
    return pd.DataFrame([{**common, "epoch": epoch, "val/acc_end": value} for epoch, value in enumerate(then)])


def darji(safe=pruning.D_SAFE, then=(0.99, 0.99), gated_back=True, cells=pruning.CELLS, seed=0) -> pd.DataFrame:
    """A study that comes out as Darji's: no harm up to the safe share, chance beyond it, regained but for cuts of 100 %."""
    parts = []
    for target in pruning.READS:
        for cell in cells:
            for amount in SHARES:
                harmless = amount <= safe[target][cell]
                back = amount < 1 or (gated_back and pruning.gated(cell, target))
                parts.append(cut(cell, target, amount, 0.99 if harmless else 0.5, list(then) if back else [0.5, 0.5], seed))
    return runs(*parts)


def verdicts(made: pd.DataFrame) -> list[str]:
    table = pruning.cuts(made)
    return [claim.measure(made, cuts=table).verdict for claim in pruning.CLAIMS]


def test_all_agree_where_all_is_as_in_the_source():
    assert set(verdicts(darji())) == {AGREES}


def test_without_runs_nothing_is_said():
    assert set(verdicts(darji()[:0])) == {TOO_FEW}
    assert set(verdicts(darji(cells=["lstm"]))) == {TOO_FEW}


LESS = {target: dict.fromkeys(pruning.CELLS, 0.3) for target in pruning.READS}


@pytest.mark.parametrize(
    "made, differ",
    [
        (darji(safe=LESS), [0, 1, 2, 3]),
        (darji(then=(0.7, 0.8, 0.99)), [4]),
        (darji(gated_back=False), [6]),
    ],
)
def test_a_claim_differs_where_its_numbers_do(made, differ):
    found = verdicts(made)
    assert [place for place, verdict in enumerate(found) if verdict == DIFFERS] == differ


def test_safe_shares_differ_only_where_no_seed_has_the_source_s():
    assert verdicts(runs(darji(safe=LESS), darji(seed=1)))[:3] == [TOO_FEW] * 3  # their mean is as low as the worse one
    assert verdicts(runs(darji(safe=LESS), darji(safe=LESS, seed=1)))[:3] == [DIFFERS] * 3
    few = darji(seed=1)
    few = few[few["pruning.amount"] < 0.5]  # by itself it says nothing
    assert verdicts(runs(darji(safe=LESS), few))[:3] == [DIFFERS] * 3
    assert set(verdicts(runs(few, darji().query("`pruning.amount` >= 0.5")))) == {AGREES}


def test_a_cut_of_everything_that_comes_back_differs():
    whole = darji()
    back = whole.assign(**{"val/acc_end": 0.99})
    assert verdicts(back)[5] == DIFFERS


@pytest.mark.parametrize(
    "accuracies, expected",
    [([0.985, 0.5], 0), ([0.5, 0.97, 0.985], 2), ([0.5, 0.98], 1), ([0.5, 0.6], math.inf)],
)
def test_when_an_accuracy_is_regained(accuracies, expected):
    assert pruning.regained(0.99, accuracies) == expected


def test_a_safe_share_ends_at_the_first_harm():
    """What is harmless again beyond it does not count, and seeds count by their mean."""
    harm = {0.4: 0.2, 0.5: 0.0}
    made = runs(*(cut("lstm", "both", share, 0.99 - harm.get(share, 0.0), [0.99]) for share in SHARES))
    assert pruning.safe(pruning.cuts(made), "lstm", "both") == 0.3
    other = runs(*(cut("lstm", "both", share, 0.99, [0.99], seed=1) for share in SHARES))
    assert pruning.safe(pruning.cuts(runs(made, other)), "lstm", "both") == 0.3
    more = runs(*(cut("lstm", "both", share, 0.99, [0.99], seed=seed) for share in SHARES for seed in range(2, 6)))
    assert pruning.safe(pruning.cuts(runs(made, other, more)), "lstm", "both") == 1.0


def test_figures_show_every_target():
    made = darji()
    figures = pruning.figures(made, pruning.cuts(made))
    assert [len(axes.lines) for axes in figures["pruning"].axes] == [5, 5, 5]  # four cells and chance
    curves = figures["pruning_regained"].axes
    assert len(curves) == 12 and all(len(axes.lines) == len(pruning.SHOWN) for axes in curves)

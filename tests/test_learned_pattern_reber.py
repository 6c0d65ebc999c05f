"""The report on learnt patterns of recurrent networks, on made runs whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from made import TARGETS, one, rows

from experiments import learned_pattern_reber as study
from experiments import selection
from experiments.claims import claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW

ENDS = {"random": 0.6, "reinit": 0.7, "ticket of random entries": 0.6, "ticket": 0.96, "rigl": 0.7}
CUT = {0.5: 0.99, 0.75: 0.98, 0.875: 0.8, 0.9375: 0.6, 0.96875: 0.5}  # by the fraction that is cut, right after it


def made(seeds=3, ends=None, cut=None, trained_on=None, rounds=(0.99, 0.99, 0.99, 0.98, 0.97)):
    """The runs of four cells, and the accuracies of the tickets' rounds."""
    ones, tables = [], []
    for model, nonlinearity in (("rnn", "tanh"), ("rnn", "relu"), ("lstm", np.nan), ("gru", np.nan)):
        for seed in range(seeds):
            common = {"model": model, "model.nonlinearity": nonlinearity, "seed": seed, "data": "reber", "source": "reber"}
            common |= {"lr": 1e-3, "base/test_acc_end": 0.99 - 0.001 * seed}
            for amount, left in {**CUT, **(cut or {})}.items():
                end = (trained_on or {}).get(amount, left) - 0.001 * seed
                own = {"pruning.amount": amount, "study._target_": "prune", "cut/test_acc_end": left - 0.001 * seed}
                ones.append(one(end=end, **common, **own))
            for method, target in TARGETS.items():
                end = {"snip": 0.8, "synflow": 0.8, "set": 0.8, "gradual": 0.8, **ENDS, **(ends or {})}[method]
                restart = {name: key for key, name in study.RESTARTS.items()}.get(method, np.nan)
                own = {"pruning._target_": f"inn_lab.{target}", "pruning.R": 1 / 32, "pruning.restart": restart}
                ones.append(one(end=end + 0.002 * seed, **common, **own, **{"study._target_": "train"}))
                if method == "ticket":
                    found = {"run_id": ones[-1]["run_id"], "round": range(1, 6), "test_acc_end": rounds}
                    tables.append(pd.DataFrame(found))
    return rows(*ones), pd.concat(tables, ignore_index=True)


def verdicts(runs: pd.DataFrame, rounds: pd.DataFrame) -> dict[str, str]:
    runs, _ = selection.select(runs, study.AXES, {})
    table = claims_table(study.CLAIMS, runs, rounds=rounds)
    return dict(zip(table["sentence"], table["verdict"], strict=True))


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, {}),
        ({"rounds": (0.99, 0.9, 0.99, 0.99, 0.99)}, {"Cut round": DIFFERS, "It does so": DIFFERS}),
        ({"trained_on": dict.fromkeys(CUT, 0.98)}, {"It does so": TOO_FEW}),  # both bear all five
        ({"ends": {"rigl": 0.9}}, {"Random growth": DIFFERS}),
        ({"ends": {"ticket": 0.5}}, {"ticket": DIFFERS, "A ticket": DIFFERS}),
    ],
)
def test_claims_on_recurrent_networks(change, expected) -> None:
    found = verdicts(*made(**change))
    usual = dict.fromkeys(found, AGREES)
    for beginning, verdict in expected.items():
        usual |= {sentence: verdict for sentence in found if sentence.startswith(beginning)}
    assert found == usual


def test_one_seed_tells_nothing_and_cells_that_did_not_run_are_left_out() -> None:
    runs, rounds = made(seeds=1)
    assert set(verdicts(runs, rounds).values()) == {TOO_FEW}
    runs, rounds = made()
    assert set(verdicts(runs[runs["model"] == "gru"], rounds).values()) == {AGREES}


def test_a_network_bears_halvings_up_to_the_first_that_does_harm() -> None:
    runs, rounds = made(cut={0.9375: 0.98})
    table = study.accuracies(runs, rounds)
    assert (
        study.borne(table, "gru", study.ONCE).tolist() == [2.0] * 3
        and study.borne(table, "gru", "ticket").tolist() == [5.0] * 3
    )
    assert study.borne(table[table["halvings"] != 1], "gru", study.ONCE).empty  # not all were tried
    (figure,) = study.figures(runs, rounds).values()
    assert [axes.get_title() for axes in figure.axes[:4]] == list(study.CELLS)
    assert [text.get_text() for text in figure.axes[4].get_xticklabels()] == [
        study.TRAINED_ON,
        *(m for m in study.METHODS if m in TARGETS),
    ]

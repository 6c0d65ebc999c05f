"""The report on tuned models, on made searches whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from made import one, rows

from experiments import selection
from experiments import tuned_comparison as study
from experiments import tuned_comparison_reber as reber
from experiments.claims import claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW

TASKS = [(data, weights) for data in ("uniform_anomaly", "random_anomaly") for weights in (100_000, 1_300_000)]
BEST = {"inn": 0.7, "layered_inn": 0.5, "lstm": 0.4, "gru": 0.5, "rnn": 0.5, "sru": 0.5}


def made(best=BEST, trials=20, seeds=5, pruned=4, luck=0.03, tasks=TASKS) -> pd.DataFrame:
    """Searches on two tasks at two sizes. Trials are worth less the farther their rate is from 1e-3; the best has `luck`."""
    ones = []
    for data, weights in tasks:
        for model, level in best.items():
            common = {"model": model, "data": data, "data/test": 10_000, "data/val": 10_000, "data.batch_size": 16}
            common |= {"model/weights": weights, "n_weights": weights}
            common |= dict.fromkeys(
                ("trainer.gradient_clip_val", "model.hidden", "model.hidden_size", "model.nonlinearity"), np.nan
            )
            for number in range(trials):
                end = level + luck - 0.02 * number
                state = "pruned" if number >= trials - pruned else "finished"
                ones.append(one(end=max(end, 0.1), lr=1e-3 * 2 ** (-number / 4), state=state, **common))
            ones += [one(end=level + 0.004 * seed, lr=1e-3, seed=seed, **common) for seed in range(1, seeds + 1)]
    return rows(*ones)


def told(runs: pd.DataFrame, study=study) -> tuple[pd.DataFrame, dict[str, str]]:
    chosen, _ = selection.select(runs, study.AXES, {})
    searches = study.TABLES["searches"](chosen)
    table = claims_table(study.CLAIMS, chosen, searches=searches)
    return searches, dict(zip(table["sentence"], table["verdict"], strict=True))


def test_each_search_is_a_row_with_its_best_and_what_that_is_worth() -> None:
    searches, _ = told(made())
    assert len(searches) == 24 and set(searches["trials"]) == {20} and set(searches["pruned"]) == {4}
    inn = searches[(searches["model"] == "inn") & (searches["data"] == "random_anomaly")].iloc[0]
    assert list(searches["size"].unique()) == ["1.3 million weights", "100,000 weights"]
    assert inn["lr"] == 1e-3 and inn["best_val"] == pytest.approx(0.73) and inn["seeds"] == 5
    assert inn["fresh_val"] == inn["fresh_test"] == pytest.approx(0.712)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, {}),
        ({"best": BEST | {"lstm": 0.8}}, {"LSTM": DIFFERS}),
        ({"trials": 12}, {"INN ends": TOO_FEW}),
        ({"seeds": 1, "best": BEST | {"gru": 0.695}}, {"gru": TOO_FEW}),
        ({"luck": -0.05}, {"worth less": DIFFERS}),
    ],
)
def test_claims_on_models_at_their_best(change, expected) -> None:
    _, found = told(made(**change))
    usual = dict.fromkeys(found, AGREES)
    for words, verdict in expected.items():
        usual |= {sentence: verdict for sentence in found if words in sentence}
    assert found == usual


def test_its_figure() -> None:
    runs = made()
    (figure,) = study.figures(runs, study.searches(runs)).values()
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == list(study.TASKS.values())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(study.MODELS)


def test_one_size_alone_is_judged_alone() -> None:
    _, found = told(made(tasks=TASKS[:1]))
    assert {sentence for sentence, verdict in found.items() if verdict == AGREES} == {
        sentence for sentence in found if sentence.startswith("Uniform, 100,000") or "worth less" in sentence
    }


@pytest.mark.parametrize(("plain", "expected"), [(0.3, AGREES), (0.6, DIFFERS)])
def test_cells_on_reber_strings(plain: float, expected: str) -> None:
    runs = made({"rnn": plain, "lstm": 0.45, "gru": 0.5}, tasks=[("reber", 30_000)])
    _, found = told(runs, reber)
    assert set(found.values()) == {expected, AGREES} and len(found) == 3
    (figure,) = reber.figures(runs, study.searches(runs)).values()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lstm", "gru", "rnn"]

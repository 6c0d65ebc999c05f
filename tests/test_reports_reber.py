"""The reports on Darji 2022's ch. 4 and 6.1: the strings themselves with one thing changed, and made runs."""

import itertools

import numpy as np
import pandas as pd
import pytest
from made import run, runs

from experiments import reber_base, reber_dataset, selection
from experiments.claims import OTHER_DATA, OTHER_SCALE, claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab.data import Reber
from inn_lab.data.grammar import is_valid, kind

# ------------------------------------------------------------------------------------------------------- reber_dataset


@pytest.fixture(scope="module")
def strings() -> pd.DataFrame:
    """D's data set as the lab draws it, at full size."""
    drawn = Reber(None, n_train=18750, n_val=2000, n_test=6250, batch_size=32, seed=0)
    parts = [
        pd.DataFrame(dict(zip(("string", "valid"), drawn.strings(part), strict=True))).assign(part=part) for part in drawn.sizes
    ]
    return pd.concat(parts, ignore_index=True).assign(kind=lambda table: table["string"].map(kind))


def dataset_runs(count: int = 1, **values) -> pd.DataFrame:
    return runs(*(run(model="none", data="reber", seed=seed, **{"source": "reber", **values}) for seed in range(count)))


def of_runs(frame: pd.DataFrame, *tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table.assign(run_id=one) for one, table in zip(frame["run_id"].unique(), tables, strict=True)])


def chosen(table: pd.DataFrame, part: str, valid: int, n: int) -> pd.Index:
    return table[(table["part"] == part) & (table["valid"] == valid) & (table["string"].str.len() > 13)].index[:n]


def put(column: str, value, *where) -> object:
    """A change: a value, or as many, in place of those of the first n strings of a part with a label."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.copy()
        table.loc[chosen(table, *where), column] = value
        return table

    return change


def both(*changes) -> object:
    return lambda table: changes[1](changes[0](table))


def longer(table: pd.DataFrame) -> pd.DataFrame:
    """Of the invalid strings those above the middle have 45 letters."""
    far = (table["valid"] == 0) & (table["string"].str.len() > 23)
    return table.assign(string=table["string"].mask(far, table["string"].str.ljust(45, "Q")))


def repeat(table: pd.DataFrame) -> pd.DataFrame:
    return put("string", table.loc[chosen(table, "train", 0, 1), "string"].item(), "test", 0, 1)(table)


CLAIMED = [AGREES] * 6 + [DIFFERS] * 2 + [AGREES] * 4  # six numbers of D's and two slips, the lab's own


@pytest.mark.parametrize(
    "change, claims",
    [
        (lambda table: table, {}),
        (lambda table: table.drop(chosen(table, "train", 1, 1)), {0: DIFFERS, 1: DIFFERS}),
        (both(put("part", "test", "train", 1, 150), put("part", "train", "test", 0, 150)), {1: DIFFERS}),
        (both(put("valid", 0, "train", 1, 1), put("valid", 1, "test", 0, 1)), {2: DIFFERS}),
        (put("string", "BPTTTTVPSE", "train", 1, 1), {3: DIFFERS, 6: AGREES}),
        (lambda table: table.assign(string=table["string"] + "QQ"), {3: DIFFERS, 4: DIFFERS}),
        (put("string", "B" + "M" * 60 + "E", "test", 0, 1), {5: DIFFERS}),
        (put("string", [f"B{n:09d}E" for n in range(168)], "train", 0, 168), {9: DIFFERS}),
        (repeat, {10: DIFFERS}),
        (longer, {4: DIFFERS, 11: DIFFERS}),
    ],
)
def test_claims_on_the_strings(strings, change, claims) -> None:
    frame = dataset_runs()
    found = claims_table(reber_dataset.CLAIMS, frame, strings=of_runs(frame, change(strings)))
    assert found["verdict"].tolist() == [claims.get(place, usual) for place, usual in enumerate(CLAIMED)]


def test_a_claim_must_hold_in_every_run(strings) -> None:
    frame = dataset_runs(2)
    found = claims_table(reber_dataset.CLAIMS, frame, strings=of_runs(frame, strings, strings[1:]))
    assert found["verdict"].tolist()[:3] == [DIFFERS, DIFFERS, AGREES] and "24,999 strings" in found["measured"][0]


def test_no_verdict_on_other_strings_or_without_them(strings) -> None:
    for frame, table, why in (
        (dataset_runs(scale="smoke"), strings, OTHER_SCALE),
        (dataset_runs(source="own.csv"), strings, OTHER_DATA),
        (dataset_runs(), strings[:0], TOO_FEW),
    ):
        found = claims_table(reber_dataset.CLAIMS, frame, strings=of_runs(frame, table))
        assert set(found["verdict"]) == {why}


def test_what_the_claims_say(strings) -> None:
    frame = dataset_runs()
    said = claims_table(reber_dataset.CLAIMS, frame, strings=of_runs(frame, strings))["measured"].tolist()
    assert said[0] == "25,000 strings, 12,500 valid"
    assert said[3] == "11 in all, 11 in training, 11 in test"
    assert said[9] == "47, 24 of them valid; the grammar has 24, D 216"  # one invalid one is for validation
    assert said[6] == "not there: it has 10 letters, the shortest string 11"
    assert pytest.approx(-1.1, abs=0.05) == (9339 - 12_500 * 0.75) / reber_dataset.SPREAD  # as the sentence says of D's


def test_what_is_expected_of_a_number_of_strings_is_what_is_drawn(strings) -> None:
    valid = strings[strings["valid"] == 1]["string"].str.len().value_counts()  # 13,500, validation's too
    expected = reber_dataset.seen(13_500) * [reber_dataset.allowed(length) for length in range(11, 73)]
    assert expected.sum() == pytest.approx(13_500)
    counted = valid.reindex(expected.index, fill_value=0)
    assert (abs(counted - expected) <= 4 * np.sqrt(expected) + 1).all() and counted.loc[[11, 12]].tolist() == [24, 36]


def test_other_counts_are_not_those_of_nine_letterings(strings, monkeypatch) -> None:
    assert reber_dataset.counts_of_nine_letterings(strings)[1]
    for length, count in ((11, 120), (22, 2450)):  # as of four other letterings
        monkeypatch.setitem(reber_dataset.COUNTED, length, count)
        assert not reber_dataset.counts_of_nine_letterings(strings)[1]
        monkeypatch.undo()


@pytest.mark.parametrize("length", range(2, 9))
def test_as_many_strings_are_allowed_as_the_grammar_says(length: int) -> None:
    every = (f"B{''.join(middle)}E" for middle in itertools.product("PSTVX", repeat=length - 2))
    assert reber_dataset.allowed(length) == sum(map(is_valid, every))


def test_the_strings_are_drawn(strings) -> None:
    frame = dataset_runs(2)
    (figure,) = reber_dataset.figures(frame, of_runs(frame, strings, strings[:0])).values()
    figure.draw_without_rendering()
    drawn = [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes]
    assert drawn == [25_000, 25_000, 18_750, 6_250]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["valid", "exchanged", "replaced"]
    few = of_runs(frame[:1], strings[strings["kind"] == "valid"][:50])
    (figure,) = reber_dataset.figures(frame[:1], few).values()
    figure.draw_without_rendering()


# ---------------------------------------------------------------------------------------------------------- reber_base

AS_D = {  # validation accuracy after each of 20 epochs
    "RNN, tanh": [0.6] * 3 + [0.95] * 17,
    "RNN, ReLU": [0.9] * 5 + [0.97] * 15,
    "LSTM": [0.93] + [1.0] * 19,
    "GRU": [0.94] + [0.999] * 19,
}


def base(change=None, seeds=3, **common) -> pd.DataFrame:
    """Runs as D describes them. `change`: {kind: its accuracies}, of all seeds but the first."""
    made = []
    for title, (accuracies, seed) in itertools.product(AS_D, enumerate(range(seeds))):
        accuracies = (change or {}).get(title, AS_D[title]) if seed or seeds == 1 else AS_D[title]
        values = {"n_weights": 18_952, "test/acc_end": 0.9, "source": "reber", "seed": seed}
        one = run(data="reber", **{**values, **reber_base.KINDS[title], **common})
        accuracies = np.asarray(accuracies)[: len(one)]
        columns = {
            "val/acc_end": accuracies,
            "train/acc_end": np.append(0.934, accuracies[1:]) if len(accuracies) and accuracies[0] > 0.9 else accuracies,
            "val/loss": 1 - accuracies,
            "train/loss": 1 - accuracies,
        }
        made.append(one.assign(**columns))
    return runs(*made)


def verdicts(frame: pd.DataFrame) -> list[str]:
    frame, _ = selection.select(frame, reber_base.AXES, {})
    return claims_table(reber_base.CLAIMS, frame)["verdict"].tolist()


@pytest.mark.parametrize(
    "change, differ",
    [
        ({}, set()),
        ({"RNN, tanh": [0.6] * 6 + [0.95] * 14}, {0}),
        ({"RNN, tanh": [0.95] * 19 + [0.9]}, {0}),
        ({"RNN, ReLU": [0.97] * 2 + [0.9] * 18}, {1}),
        ({"LSTM": [0.7] + [1.0] * 19}, {2}),
        ({"LSTM": [0.93] * 8 + [1.0] * 12}, {3}),
        ({"GRU": [1.0] * 20}, set()),  # that is the validation's; D's is the training's
        ({"GRU": [0.75] + [0.99] * 19}, {4, 5}),
    ],
)
def test_claims_on_the_base_models(change, differ) -> None:
    found = verdicts(base(change, seeds=9))
    assert {claim for claim, verdict in enumerate(found) if verdict == DIFFERS} == differ
    if not change:
        assert set(found) == {AGREES}


def test_a_run_that_diverges_is_neither_steady_nor_right() -> None:
    frame = base(seeds=3, state="diverged", **{"test/acc_end": np.nan})
    found = claims_table(reber_base.CLAIMS, frame)["verdict"].tolist()
    assert found == [DIFFERS, DIFFERS, AGREES, DIFFERS, AGREES, DIFFERS]  # each had its first epoch


def test_one_run_is_no_verdict() -> None:
    assert set(verdicts(base(seeds=1))) == {TOO_FEW}


@pytest.mark.parametrize(
    "frame, judged",
    [
        (base(source="own.csv"), set()),
        (base(scale="smoke"), set()),
        (base(**{"trainer.max_epochs": 9}).query("epoch < 9"), {2, 4}),
        (base().query("model == 'gru'"), {4, 5}),
        (base().query("`model.nonlinearity` == 'relu'"), {1}),
    ],
)
def test_claims_without_their_runs_are_not_judged(frame, judged) -> None:
    assert {claim for claim, verdict in enumerate(verdicts(frame)) if verdict in (AGREES, DIFFERS)} == judged


def test_what_is_said_of_a_curve() -> None:
    said = claims_table(reber_base.CLAIMS, base({"RNN, tanh": [0.6] * 2 + [0.95] * 10 + [0.85] + [0.95] * 7}))["measured"]
    assert said[0] == "0.48 (-0.23 to 1.20) of 20 epochs before it stays above 90 %"  # 3, 13 and 13
    assert said[2] == "training 0.934 (0.934 to 0.934), validation 0.930 after the first epoch"


def test_the_base_models_are_drawn() -> None:
    (figure,) = reber_base.figures(base()).values()
    figure.draw_without_rendering()
    assert [axes.get_title() for axes in figure.axes[:4]] == [f"{title}, 18,952 weights: test 0.900" for title in AS_D]
    np.testing.assert_allclose(figure.axes[3].lines[2].get_ydata().astype(float), AS_D["GRU"])  # training, crosses, validation
    np.testing.assert_allclose(figure.axes[7].lines[0].get_ydata().astype(float), 1 - np.array(AS_D["GRU"]))
    (figure,) = reber_base.figures(base(seeds=1).query("model == 'lstm'")).values()
    figure.draw_without_rendering()
    assert len(figure.axes) == 2

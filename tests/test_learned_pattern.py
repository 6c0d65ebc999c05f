"""The report on learnt patterns, on made runs whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from made import TARGETS as LEARNT
from made import one, rows

from experiments import learned_pattern as study
from experiments import selection, set_mnist
from experiments.claims import SHORT, claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW

TARGETS = LEARNT | {
    "snip, other values": LEARNT["snip"],
    "synflow, other values": LEARNT["synflow"],
    "layered": LEARNT["random"],
}
ENDS = dict.fromkeys(TARGETS, 0.6) | {
    "random": 0.4,
    "reinit": 0.45,
    "snip, other values": 0.45,
    "synflow, other values": 0.45,
    "ticket of random entries": 0.4,
    "layered": 0.1,
    "rigl": 0.5,
}


def made(ends=None, share=None, clock=None, seeds=5, depths=((39, 10_000), (351, 100_000)), methods=TARGETS) -> pd.DataFrame:
    """share: of a method's weights on the input; clock: the seconds of its epochs. Random patterns have 0.5, and take 1 s."""
    ones = []
    for method in methods:
        for depth, weights in depths:
            for seed in range(seeds):
                restart = {name: key for key, name in study.RESTARTS.items()}.get(method, np.nan)
                begun = 0.1 if method in ("set", "rigl") else 1.0
                place = (
                    {"depth": np.nan, "R": begun, "model.hidden": depth}
                    if method == "layered"
                    else {"depth": depth, "R": begun}
                )
                values = {
                    "pruning._target_": f"inn_lab.{TARGETS[method]}", "pruning.restart": restart,
                    "study._target_": "lottery" if method in study.RESTARTS.values() else "train",
                    "train/weights": weights * (1 + 0.004 * seed), "train/weights_effective": weights,
                    "train/weights_on_input": (share or {}).get(method, 0.5) + 0.001 * seed, "train/out_degree_cv": 0.2,
                    "train/in_degree_cv": 0.1 + 0.001 * seed + (method != "random"),
                    "time/rounds_s": np.nan if pd.isna(restart) else 5.0,
                    "time/epoch_s": (clock or {}).get(method, 1.0), "data/test": 10_000, "data/val": 10_000,
                    "pruning.R": np.nan if begun < 1 else 0.1,
                    "pruning.reinit": "True" if method.endswith("other values") else np.nan,
                }  # fmt: skip
                end = {**ENDS, **(ends or {})}[method] + 0.005 * seed
                model = "layered_inn" if method == "layered" else "inn"
                ones.append({**one(begun, np.nan, end, model=model, seed=seed, lr=1e-3, **values), **place})
    return rows(*ones)


def verdicts(frame: pd.DataFrame) -> dict[str, str]:
    frame, _ = selection.select(frame, study.AXES, {})
    table = claims_table(study.CLAIMS, frame, methods=study.methods(frame))
    table = table[~table["sentence"].str.contains("50,000|1,000,000")]  # sizes that none of these runs has
    return dict(zip(table["sentence"].str.replace(", lr=0.001", ""), table["verdict"], strict=True))


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, {}),
        ({"ends": {"set": 0.3}}, {"set: with": DIFFERS, "set: in the time": DIFFERS, "Random growth": DIFFERS}),
        ({"ends": {"ticket": 0.35}}, {"ticket: with": DIFFERS, "ticket, with": DIFFERS, "A ticket ends": DIFFERS}),
        ({"ends": {"snip, other values": 0.3}}, {"snip's pattern": DIFFERS}),
        ({"ends": {"layered": 0.7}}, {"Layered networks": DIFFERS}),
        ({"clock": {"gradual": 10.0}}, {"gradual: in the time": DIFFERS}),  # the same curve, ten times as slow
        ({"share": {"snip": 0.8}}, {"snip: the fraction": AGREES}),
        ({"seeds": 1, "ends": {"ticket": 0.45}}, {"ticket: with": TOO_FEW}),
    ],
)  # fmt: skip
def test_claims_on_learnt_patterns(change, expected) -> None:
    found = verdicts(made(**change))
    usual = {sentence: DIFFERS if "the fraction" in sentence else AGREES for sentence in found}
    for beginning, verdict in expected.items():
        meant = [sentence for sentence in found if sentence.startswith(beginning)]
        assert {found[sentence] for sentence in meant} == {verdict}
        usual |= dict.fromkeys(meant, verdict)
    assert found == usual or "seeds" in change


def test_methods_are_told_apart_and_placed_by_their_size() -> None:
    frame, note = selection.select(made(), study.AXES, {})
    assert note == f"{frame['run_id'].nunique()} of {frame['run_id'].nunique()} runs"  # layered networks of either size too
    table = study.methods(frame)
    assert set(table["method"]) == set(TARGETS) == set(study.METHODS) and set(table["size"]) == {10_000, 100_000}
    assert (table["runs"] == 5).all()
    ticket, random = (table[table["method"] == name].iloc[0] for name in ("ticket", "random"))
    assert ticket["seconds"] == 25 and random["seconds"] == 20  # 20 epochs of a second, and the rounds


def test_without_random_patterns_nothing_is_said() -> None:
    found = verdicts(made(methods=[name for name in TARGETS if name != "random"]))
    left = ("Random growth", "A ticket ends", *(f"{name}, with" for name in study.OTHER_VALUES))
    assert {sentence for sentence, verdict in found.items() if verdict != TOO_FEW} == {
        sentence for sentence in found if sentence.startswith(left)
    }


def test_its_figures() -> None:
    frame = made()
    figures = study.figures(frame, study.methods(frame))
    assert set(figures) == {"learned_pattern", "learned_pattern_time", "learned_pattern_spent"}
    ends, ahead = figures["learned_pattern"].axes
    (legend,) = figures["learned_pattern"].legends
    assert [text.get_text() for text in legend.get_texts()] == list(study.METHODS) and ends.lines
    assert ahead.get_ylabel() == "difference in test ACC_end"


def mnist(ends: dict[str, float], **common) -> pd.DataFrame:
    """SET, a fixed random pattern, dense: three runs of each."""
    arms = {"SET": (0.03, "inn_lab.training.rewiring.SET"), "fixed random pattern": (0.03, np.nan), "dense": (np.nan, np.nan)}
    values = {"data": "mnist_classification", "model": "mlp", "lr": 0.01}
    ones = [
        one(end=end + 0.0003 * seed, seed=seed, **{**values, "model.R_layers": R, "pruning._target_": method, **common})
        for (R, method), end in ((arms[arm], end) for arm, end in ends.items())
        for seed in range(3)
    ]
    return rows(*ones).assign(**{"train/loss": 0.1})


LIKE_MOCANU = {"SET": 0.9870, "fixed random pattern": 0.9765, "dense": 0.9852}


@pytest.mark.parametrize(
    "ends, expected",
    [
        (LIKE_MOCANU, [AGREES] * 5),
        (LIKE_MOCANU | {"SET": 0.97}, [DIFFERS, AGREES, AGREES, DIFFERS, DIFFERS]),
        (LIKE_MOCANU | {"dense": 0.992}, [AGREES, AGREES, DIFFERS, AGREES, DIFFERS]),
        ({"dense": 0.985}, [TOO_FEW, TOO_FEW, AGREES, TOO_FEW, TOO_FEW]),
    ],
)
def test_claims_on_set(ends, expected) -> None:
    frame, _ = selection.select(mnist(ends), set_mnist.AXES, {})
    assert list(claims_table(set_mnist.CLAIMS, frame)["verdict"]) == expected
    (figure,) = set_mnist.figures(frame).values()
    assert [text.get_text().partition(":")[0] for text in figure.axes[0].get_legend().get_texts()] == list(ends)
    short = claims_table(set_mnist.CLAIMS, frame, {"trainer.max_epochs": 1000})
    assert set(short["verdict"]) == {SHORT}

"""The reports on Kale 2024's 3.3 to 3.5, on made runs: what each claim says to runs that agree, differ or are too few."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
import torch
from made import one, rows, runs

from experiments import recurrence, report, representations, selection, weight_distribution
from experiments.claims import OTHER_DATA, OTHER_SCALE, claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab import models

HIDDEN = "[434, 434, 434]"


def tables(module, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {key: table(frame) for key, table in module.TABLES.items()}


def verdicts(module, frame: pd.DataFrame) -> list[str]:
    frame, _ = selection.select(frame, module.AXES, {})
    return list(claims_table(module.CLAIMS, frame, **tables(module, frame))["verdict"])


def network(model: str, R=0.2, end=0.5, loss=(1.0, 1.0), **values) -> dict[str, object]:
    """A run of one of K's models that ends with these training and validation losses, for `frame_of`."""
    size = {"model/depth": 1312, "model/width": 3812}
    common = {
        "seq_len": 10,
        "model.hidden": HIDDEN,
        "model.R": R,
        "data/test": 20_000,
        "data/val": 20_000,
        "test/acc_end": end,
        **size,
    }
    common |= {"train/loss": loss[0], "val/loss": loss[1]}
    return one(R, np.nan, end, model=model, **{**common, **values})


def frame_of(networks: Iterable[dict[str, object]]) -> pd.DataFrame:
    made = rows(*networks)
    early = 1 / (made["epoch"] + 1)
    losses = {key: made[key] + early for key in ("train/loss", "val/loss")}
    return made.assign(**losses, **{"train/acc_end": made["val/acc_end"]})


INPUTS = (0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.225, 0.25, 0.275, 0.3)


SEEDS = 9  # ends of one seed are known to ± 0.13


def by_column(change=None, inputs=INPUTS, seeds=1, **common) -> pd.DataFrame:
    """Runs as K describes them. `change`: {R_input: the run's values}."""
    ends = {R: 0.5 - abs(R - 0.25) for R in inputs}
    densities = {"model.R_hidden": np.nan, "model.R_output": 0.2, "model/weights": 1_000_268}
    return frame_of(
        network(
            "by_column",
            **{"model.R_input": R, "end": end, "seed": seed, **densities, **(change or {}).get(R, {}), **common},
        )
        for R, end in ends.items()
        for seed in range(seeds)
    )


@pytest.mark.parametrize(
    "made, expected",
    [
        ({}, [AGREES, AGREES, TOO_FEW, AGREES]),
        ({"seeds": 1}, [TOO_FEW, TOO_FEW, TOO_FEW, AGREES]),
        ({"change": {0.1: {"end": 0.6}}}, [DIFFERS, AGREES, TOO_FEW, AGREES]),
        ({"change": {0.2: {"end": 0.6}}}, [DIFFERS, DIFFERS, TOO_FEW, AGREES]),
        ({"change": {0.2: {"end": 0.499}}}, [AGREES, TOO_FEW, TOO_FEW, AGREES]),  # a tie
        ({"data/test": 20, "seeds": 3}, [TOO_FEW, TOO_FEW, TOO_FEW, AGREES]),  # so few examples do not tell 0.475 from 0.5
        ({"change": {0.25: {"state": "diverged", "end": 0.9}}}, [DIFFERS, DIFFERS, TOO_FEW, AGREES]),
        ({"change": {0.1: {"model/weights": 999_000}}}, [AGREES, AGREES, TOO_FEW, DIFFERS]),
        ({"inputs": INPUTS[:7]}, [TOO_FEW, TOO_FEW, TOO_FEW, AGREES]),
        ({"inputs": (0.2, 0.25)}, [TOO_FEW, AGREES, TOO_FEW, TOO_FEW]),
        ({"source": "digits"}, [OTHER_DATA, OTHER_DATA, TOO_FEW, AGREES]),
        ({"change": {0: {"time/epoch_s": 3.0}, 0.3: {"time/epoch_s": 2.0}}}, [AGREES] * 4),
        ({"change": {0: {"time/epoch_s": 2.0}, 0.3: {"time/epoch_s": 2.2}}}, [AGREES, AGREES, DIFFERS, AGREES]),
        ({"scale": "smoke"}, [OTHER_SCALE] * 4),
    ],
)
def test_claims_on_columns(made, expected) -> None:
    assert verdicts(weight_distribution, by_column(**{"seeds": SEEDS, **made})) == expected


def test_table_5_stands_beside_the_densities_of_the_runs() -> None:
    table = weight_distribution.settings(by_column(inputs=INPUTS[:-1]))
    assert list(table["K_E_i"]) == list(INPUTS) and len(table["R_hidden"].dropna()) == 9
    np.testing.assert_allclose(table["R_hidden"][:9], table["K_E_h"][:9], atol=5e-4)  # what K prints
    total = table["R_input"] * 3_280_000 + table["R_hidden"] * 1_708_224 + table["R_output"] * 13_120
    np.testing.assert_allclose(total[:9], 1_000_268.8)
    others = weight_distribution.settings(by_column(inputs=(0.15,)))
    assert others.loc[others["R_input"] == 0.15, "K_E_i"].isna().all() and len(others) == 11


ABOVE = (0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


def by_diagonal(test=lambda R: 0.6 - 0.1 * R, gap=lambda R: 0.2 * R, end=lambda R: 0.4 + 0.1 * R, above=ABOVE, **common):
    """Runs as K describes them: by R_above the test accuracy, the gap between the losses, the level of validation."""
    densities = {"model.R_below": np.nan, "model.R_on": 0.2, "model/weights": 1_000_268}
    return frame_of(
        network(
            "by_diagonal",
            **{"end": end(R), "loss": (1.0, 1.0 + gap(R)), "model.R_above": R, "test/acc_end": test(R), **densities, **common},
        )
        for R in above
    )


def none(R):
    return 0.3


@pytest.mark.parametrize(
    "made, expected",
    [
        ({}, [AGREES, AGREES, AGREES]),
        ({"end": lambda R: 0.6 - 0.1 * R}, [DIFFERS, AGREES, AGREES]),
        ({"gap": lambda R: -0.2 * R}, [AGREES, DIFFERS, AGREES]),
        ({"test": lambda R: 0.5 + 0.1 * R}, [AGREES, AGREES, DIFFERS]),
        ({"test": lambda R: 0.5 + 0.1 * (ABOVE.index(R) % 2)}, [AGREES, AGREES, TOO_FEW]),  # no trend either way
        ({"test": none, "end": none, "gap": none}, [TOO_FEW, TOO_FEW, TOO_FEW]),
        ({"above": ABOVE[:4]}, [TOO_FEW, TOO_FEW, TOO_FEW]),
        ({"source": "digits"}, [OTHER_DATA] * 3),
    ],
)
def test_claims_on_recurrence(made, expected) -> None:
    assert verdicts(recurrence, by_diagonal(**made)) == expected


def test_a_network_that_diverges_neither_learns_fast_nor_tests_well() -> None:
    frame = runs(by_diagonal(above=ABOVE[:4]), by_diagonal(above=ABOVE[4:], state="diverged", **{"test/acc_end": np.nan}))
    assert verdicts(recurrence, frame) == [TOO_FEW, TOO_FEW, AGREES]  # of the gap four settings are left


def test_table_6_stands_beside_the_densities_of_the_runs() -> None:
    table = recurrence.settings(by_diagonal(above=ABOVE[:-1]))
    assert list(table["K_rho_u"]) == list(ABOVE) and len(table["R_below"].dropna()) == 8
    np.testing.assert_allclose(table["R_below"][:8], table["K_rho_l"][:8], atol=5e-4)  # what K prints
    total = table["R_below"] * 3_858_088 + table["R_on"] * 565_168 + table["R_above"] * 578_088
    np.testing.assert_allclose(total[:8], 1_000_268.8)


DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
EPOCHS = {"dense": 10, "sparse": 20, "low_rank": 20}  # in the same 40 seconds
ENDS = {"dense": 0.4, "sparse": 0.4, "low_rank": 0.5}
WEIGHTS = {"dense": 0, "low_rank": 1, "sparse": 2}  # in Table 7


def represented(change=None, densities=DENSITIES, kinds=tuple(ENDS), seeds=SEEDS, **common) -> pd.DataFrame:
    """Runs as K describes them. `change`: {(kind, R): the run's values}, its `epochs` among them."""
    parts = []
    for kind in kinds:
        for R in densities:
            values = {"end": ENDS[kind], "epochs": EPOCHS[kind], **(change or {}).get((kind, R), {}), **common}
            epochs = values.pop("epochs")
            weights = representations.TABLE_7[R][WEIGHTS[kind]]
            settings = {"model.representation": kind, "model/weights": weights, "model.hidden": "[300, 20]"}
            clock = {"trainer.max_time": 40.0, "trainer.max_epochs": 1_000_000}
            clock |= {"machine.processor": "a processor", "machine.threads": 2}
            settings |= {"time/epoch_s": 40 / epochs, "epochs": epochs}
            parts += [network("represented", R, seed=seed, **{**settings, **clock, **values}) for seed in range(seeds)]
    made = frame_of(parts)
    return made[made["epoch"] < made.pop("epochs")]


def every(kind: str, **values: object) -> dict:
    return {(kind, R): values for R in DENSITIES}


@pytest.mark.parametrize(
    "made, differ",
    [
        ({}, set()),
        ({"change": {("low_rank", 0.05): {"end": 0.1}}}, {0}),
        ({"change": {("low_rank", 0.05): {"state": "diverged", "test/acc_end": np.nan}}}, {0}),
        ({"change": {("low_rank", 0.05): {"model/weights": 47_000}}}, {1}),
        ({"change": {("low_rank", 0.2): {"epochs": 10}, ("dense", 0.2): {"epochs": 20}}}, {2}),
        ({"change": {("dense", 0.2): {"end": 0.55}}}, {0, 3}),
        ({"change": {("sparse", 0.01): {"epochs": 8}}}, {4}),
    ],
)
def test_claims_on_representations(made, differ) -> None:
    found = verdicts(representations, represented(**made))
    assert {claim for claim, verdict in enumerate(found) if verdict == DIFFERS} == differ and TOO_FEW not in found


@pytest.mark.parametrize(
    "frame, judged",
    [
        (represented(densities=(0.1, 0.2)), {2}),
        (represented(seeds=1), {1}),
        (represented(densities=(0.01, 0.1, 0.5)), {0, 1, 3, 4}),
        (represented(kinds=("dense",)), {3}),
        (represented(kinds=("low_rank",)), set()),
        (represented(kinds=("dense", "low_rank"), change=every("dense", epochs=2)), {0, 1, 3}),  # none after a tenth
        (represented(source="digits"), {1, 4}),
    ],
)
def test_claims_without_their_runs_are_not_judged(frame, judged) -> None:
    """But for the last one, which is about K's table alone."""
    found = verdicts(representations, frame)
    assert {claim for claim, verdict in enumerate(found) if verdict in (AGREES, DIFFERS)} == judged | {5}


def test_a_metric_against_time_carries_the_last_value_forward() -> None:
    frame = pd.DataFrame(
        {
            "run_id": ["a", "a", "a", "b", "b"],
            "epoch": [1, 0, 2, 0, 1],  # in no order
            "time/epoch_s": [2.0, 1.0, 1.0, 4.0, 4.0],
            "val/acc_end": [0.2, 0.1, 0.3, 0.5, 0.6],
        }
    )
    found = report.against_time(frame, "val/acc_end", [0, 1, 2.9, 3, 4, 7.9, 100])
    assert list(found.index) == [0, 1, 2.9, 3, 4, 7.9, 100]
    np.testing.assert_equal(found["a"].to_numpy(), [np.nan, 0.1, 0.1, 0.2, 0.3, 0.3, 0.3])
    np.testing.assert_equal(found["b"].to_numpy(), [np.nan, np.nan, np.nan, np.nan, 0.5, 0.5, 0.6])
    at_once = frame.head(1).assign(epoch=np.nan)  # diverged in its first epoch
    assert report.against_time(at_once, "val/acc_end", [1.0]).shape == (1, 0)


def test_table_7_stands_beside_the_runs_weights_and_where_sparse_counts_come_from() -> None:
    table = representations.counts(represented(densities=DENSITIES[1:])).set_index("R")
    assert list(table.index) == list(DENSITIES) and table.loc[0.01, "dense":"low_rank"].isna().all()
    assert (table.loc[0.02:, "low_rank"] == table.loc[0.02:, "K_low_rank"]).all()
    expected = [9490.5, 18688.6, 45737.3, 89053.8, 169452.0, 242199.3, 367584.0]  # without the biases
    np.testing.assert_allclose(table["merged"] - 1320, expected, atol=0.05)
    np.testing.assert_allclose(table["off"], [-7.5, -30.6, -33.3, 38.2, 17.0, -38.3, 52.0], atol=0.05)


def test_merged_repeats_are_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    R, sizes = 0.05, [rows * columns for rows in (300, 20, 10) for columns in (2500, 300, 20, 10)]
    sizes.remove(10 * 20)  # 20 × 10 is there too, and sparse: as large
    drawn = [1320 + 200 + sum(len(np.unique(rng.integers(mn, size=round(R * mn)))) for mn in sizes) for _ in range(300)]
    mean, spread = representations.merged(R)
    assert np.mean(drawn) == pytest.approx(mean, abs=4 * spread / 300**0.5)
    assert np.std(drawn) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("R", DENSITIES)
def test_the_models_have_the_weights_of_table_7(R) -> None:
    options = {"hidden": [300, 20], "R": R, "bias": False, "generator": torch.Generator()}
    weights = {kind: models.represented(2500, 10, representation=kind, **options).n_weights for kind in ENDS}
    assert (weights["dense"], weights["low_rank"]) == representations.TABLE_7[R][:2]


def test_the_footer_tells_seconds_where_a_clock_ended_the_runs() -> None:
    text = report.provenance(represented())
    assert "lr 0.0001 · 40 seconds · 189 runs, 9 seeds · a processor, 2 threads" in text and "epochs" not in text
    assert "20 epochs" in report.provenance(by_column(**{"trainer.max_time": np.nan}))


def drawn(module, frame: pd.DataFrame) -> list:
    """All panels of a module's figures, laid out: what matplotlib cannot lay out it warns of."""
    kept, _ = selection.select(frame, module.AXES, {})
    figures = module.figures(kept, **tables(module, kept)).values()
    for figure in figures:
        figure.draw_without_rendering()
    return [axes for figure in figures for axes in figure.axes]


@pytest.mark.parametrize(
    "module, frame",
    [
        (weight_distribution, by_column()),
        (weight_distribution, runs(by_column(seed=0), by_column(seed=1, inputs=(0.2,)))),
        (weight_distribution, runs(by_column(inputs=(0.1,)), by_column(inputs=(0.2,), state="diverged"))),
        (recurrence, by_diagonal()),
        (recurrence, runs(by_diagonal(seed=0), by_diagonal(seed=1, above=(0.2,)))),
        (recurrence, runs(by_diagonal(above=(0.4,)), by_diagonal(above=(0.8,), state="diverged"))),
        (representations, represented()),
        (representations, represented(kinds=("dense",), seeds=1)),
        (representations, represented(kinds=("sparse", "low_rank"), densities=(0.01, 0.5))),
        (representations, represented(change={("low_rank", 0.2): {"state": "diverged", "test/acc_end": np.nan}})),
    ],
)
def test_figures_are_drawn_from_whatever_there_is(module, frame) -> None:
    assert all(axes.lines for axes in drawn(module, frame))


def test_figures_say_what_they_show() -> None:
    loss, accuracy, last = drawn(weight_distribution, by_column())
    labels = accuracy.get_legend_handles_labels()[1]
    assert {*labels, "R_input, R_hidden"} == {text.get_text() for text in accuracy.texts}
    assert labels[0] == "0, 0.584" and labels[5] == "0.2, 0.200" and labels[7] == "0.25, 0.104"
    assert loss.lines[10].get_linestyle() == "--"  # the even one; each is followed by the crosses of diverged runs
    np.testing.assert_allclose(last.lines[0].get_ydata().astype(float), [0.5 - abs(R - 0.25) for R in INPUTS])
    assert [tick.get_text() for tick in last.get_xticklabels()] == [f"{R:g}" for R in INPUTS]
    validation, training, gap, _ = drawn(recurrence, by_diagonal())
    named = validation.get_legend_handles_labels()[1]
    assert len(named) > 2 and {*named, "R_above, R_below"} == {text.get_text() for text in validation.texts}
    assert gap.lines[-2].get_ydata()[-1] == pytest.approx(0.2) and training.get_ylim() == validation.get_ylim()
    _, by_weights, _, known, _, _ = drawn(representations, represented())
    assert by_weights.lines[0].get_xdata() == [933_900]  # dense, at every density
    labels = [text.get_text() for text in known.get_legend().get_texts()]
    assert labels[2] == "low_rank: 188,430 weights, test 0.50"
    assert [line.get_ydata()[-1] for line in known.lines] == pytest.approx([0.4, 0.4, 0.5])

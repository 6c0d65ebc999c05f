"""The reports on Kale 2024's 3.3 to 3.5, on made runs: what each claim says to runs that agree, differ or are too few."""

import numpy as np
import pandas as pd
import pytest
from made import run, runs

from experiments import recurrence, report, weight_distribution
from experiments.report import AGREES, DIFFERS, TOO_FEW

HIDDEN = "[434, 434, 434]"


def tables(module, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {key: table(frame) for key, table in module.TABLES.items()}


def verdicts(module, frame: pd.DataFrame) -> list[str]:
    frame, _ = report.select(frame, module.AXES, {})
    return list(report.claims_table(module.CLAIMS, frame, **tables(module, frame))["verdict"])


def network(model: str, R=0.2, end=0.5, loss=(1.0, 1.0), **values) -> pd.DataFrame:
    """A run of one of K's models that ends with these training and validation losses."""
    common = {"seq_len": 10, "source.image_size": 50, "model.hidden": HIDDEN, "model.R": R, "test/acc_end": end}
    made = run(R, np.nan, end, model=model, **{**common, **values})
    train, val = loss
    early = 1 / (made["epoch"] + 1)
    return made.assign(**{"train/loss": train + early, "val/loss": val + early, "time/epoch_s": 2.0})


INPUTS = (0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.225, 0.25, 0.275, 0.3)


def by_column(change=None, inputs=INPUTS, **common) -> pd.DataFrame:
    """Runs as K describes them. `change`: {R_input: the run's values}."""
    ends = {R: 0.5 - abs(R - 0.25) for R in inputs}
    densities = {"model.R_hidden": np.nan, "model.R_output": 0.2, "model/weights": 1_000_268}
    return runs(*(
        network("by_column", **{"model.R_input": R, "end": end, **densities, **(change or {}).get(R, {}), **common})
        for R, end in ends.items()
    ))  # fmt: skip


@pytest.mark.parametrize(
    "made, expected",
    [
        ({}, [AGREES, AGREES, AGREES]),
        ({"change": {0.1: {"end": 0.6}}}, [DIFFERS, AGREES, AGREES]),
        ({"change": {0.2: {"end": 0.6}}}, [DIFFERS, DIFFERS, AGREES]),
        ({"change": {0.2: {"end": 0.495}}}, [AGREES, DIFFERS, AGREES]),  # a tie
        ({"change": {0.25: {"state": "diverged", "end": 0.9}}}, [DIFFERS, AGREES, AGREES]),  # 0.225 is
        ({"change": {0.1: {"model/weights": 999_000}}}, [AGREES, AGREES, DIFFERS]),
        ({"inputs": INPUTS[:7]}, [TOO_FEW, TOO_FEW, AGREES]),
        ({"inputs": (0.2, 0.25)}, [TOO_FEW, TOO_FEW, TOO_FEW]),
        ({"source": "digits"}, [TOO_FEW, TOO_FEW, AGREES]),
        ({"scale": "smoke"}, [TOO_FEW, TOO_FEW, TOO_FEW]),
    ],
)
def test_claims_on_columns(made, expected) -> None:
    assert verdicts(weight_distribution, by_column(**made)) == expected


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
    return runs(*(
        network(
            "by_diagonal", end=end(R), loss=(1.0, 1.0 + gap(R)),
            **{"model.R_above": R, "test/acc_end": test(R), **densities, **common},
        )
        for R in above
    ))  # fmt: skip


def none(R):
    return 0.3


@pytest.mark.parametrize(
    "made, expected",
    [
        ({}, [AGREES, AGREES, AGREES]),
        ({"end": lambda R: 0.6 - 0.1 * R}, [DIFFERS, AGREES, AGREES]),
        ({"gap": lambda R: -0.2 * R}, [AGREES, DIFFERS, AGREES]),
        ({"test": lambda R: 0.5 + 0.1 * R}, [AGREES, AGREES, DIFFERS]),
        ({"test": lambda R: 0.5 + 0.1 * (ABOVE.index(R) % 2)}, [AGREES, AGREES, DIFFERS]),  # no trend
        ({"test": none, "end": none, "gap": none}, [DIFFERS, DIFFERS, DIFFERS]),
        ({"above": ABOVE[:4]}, [TOO_FEW, TOO_FEW, TOO_FEW]),
        ({"source": "digits"}, [TOO_FEW, TOO_FEW, TOO_FEW]),
    ],
)
def test_claims_on_recurrence(made, expected) -> None:
    assert verdicts(recurrence, by_diagonal(**made)) == expected


def test_a_network_that_diverges_neither_learns_fast_nor_tests_well() -> None:
    frame = runs(by_diagonal(above=ABOVE[:4]), by_diagonal(above=ABOVE[4:], state="diverged", **{"test/acc_end": np.nan}))
    assert verdicts(recurrence, frame) == [DIFFERS, TOO_FEW, AGREES]  # of the gap four settings are left


def test_table_6_stands_beside_the_densities_of_the_runs() -> None:
    table = recurrence.settings(by_diagonal(above=ABOVE[:-1]))
    assert list(table["K_rho_u"]) == list(ABOVE) and len(table["R_below"].dropna()) == 8
    np.testing.assert_allclose(table["R_below"][:8], table["K_rho_l"][:8], atol=5e-4)  # what K prints
    total = table["R_below"] * 3_858_088 + table["R_on"] * 565_168 + table["R_above"] * 578_088
    np.testing.assert_allclose(total[:8], 1_000_268.8)


def drawn(module, frame: pd.DataFrame) -> list:
    """All panels of a module's figures, laid out: what matplotlib cannot lay out it warns of."""
    kept, _ = report.select(frame, module.AXES, {})
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
    ],
)
def test_figures_are_drawn_from_whatever_there_is(module, frame) -> None:
    assert all(axes.lines for axes in drawn(module, frame))


def test_figures_say_what_they_show() -> None:
    loss, accuracy, last = drawn(weight_distribution, by_column())
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels[0] == "0, 0.584" and labels[5] == "0.2, 0.200" and labels[7] == "0.25, 0.104"
    assert loss.lines[10].get_linestyle() == "--"  # the even one; each is followed by the crosses of diverged runs
    np.testing.assert_allclose(last.lines[0].get_ydata().astype(float), [0.5 - abs(R - 0.25) for R in INPUTS])
    assert [tick.get_text() for tick in last.get_xticklabels()] == [f"{R:g}" for R in INPUTS]
    validation, training, gap, _ = drawn(recurrence, by_diagonal())
    assert validation.lines[0].get_color() == (0.85, 0, 0)  # red
    assert validation.lines[-2].get_color() == pytest.approx((0, 0.85, 0.85))  # cyan
    assert gap.lines[-2].get_ydata()[-1] == pytest.approx(0.2) and training.get_ylim() == validation.get_ylim()

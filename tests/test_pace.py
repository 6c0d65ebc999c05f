"""The report on the pace, on made runs: what each claim says to runs that agree, differ or are too few."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from made import run, runs

from experiments import pace, selection
from experiments.claims import claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab.errors import ConfigError

STEPS = {4: 500, 8: 250, 16: 125, 32: 63}
NETWORKS = (0.02, 0.2, 1.0, "lstm")


@cache
def made(
    network, lr: float, batch: int, level: float, *, epochs: int | None = None, fixed: bool = False, **values
) -> pd.DataFrame:
    """A run whose ACC_end rises with its updates to `level`, where it is after 5,000."""
    steps, epochs = (625, epochs or 8) if fixed else (STEPS[batch], epochs or int(2.5 * batch))
    kind = {"R": 0.2, "model": "lstm"} if network == "lstm" else {"R": network, "model": "inn"}
    common = {"data.batch_size": batch, "data.n_train": 10_000 if fixed else 2000, "data.redraw": not fixed}
    common |= {"data.n_val": 1000, "data.n_test": 1000, "trainer.max_epochs": epochs, "model/weights": 1000}
    first = run(n_weights=np.nan, lr=lr, **{**kind, **common, **values}).iloc[[0] * epochs]
    updates = np.arange(1, epochs + 1) * steps
    return first.assign(**{"epoch": np.arange(epochs), "val/acc_end": level * np.minimum(1, updates / 5000)})


def grid(change=None, seeds=3) -> pd.DataFrame:
    """As the hypothesis has it: what counts is updates, and dense networks fail at 1e-3 in small batches. `change`:
    {(network, lr, batch or "fixed"): the run's values}, of those of 100 epochs {(network, batch): …}."""
    parts = []
    for seed in range(seeds):
        for network in NETWORKS:
            for lr in (1e-4, 1e-3):
                for batch in (*STEPS, "fixed"):
                    level = 0.1 if (network, lr) == (1.0, 1e-3) and batch in (4, 8) else 0.5
                    values = {"level": level, "seed": seed, **(change or {}).get((network, lr, batch), {})}
                    parts.append(made(network, lr, 16 if batch == "fixed" else batch, fixed=batch == "fixed", **values))
        for network, batch, level in ((0.02, 4, 0.48), (0.02, 16, 0.48), ("lstm", 16, 0.28)):
            values = {"level": level, **(change or {}).get((network, batch), {})}
            parts.append(made(network, 1e-4, batch, epochs=100, seed=seed, **values))
    return runs(*parts)


def verdicts(frame: pd.DataFrame) -> list[str]:
    frame, _ = selection.select(frame, pace.AXES, {})
    return list(
        claims_table(pace.CLAIMS, frame, {"trainer.max_epochs": 10, "data.n_train": 2000, "data.n_val": 1000})["verdict"]
    )


def test_every_claim_agrees_with_runs_that_follow_their_updates():
    assert verdicts(grid()) == [AGREES] * len(pace.CLAIMS)


@pytest.mark.parametrize(
    "claims, change",
    [
        ({0, 2}, {(0.2, 1e-4, b): {"level": level} for b, level in {4: 0.0, 8: 0.0, 16: 0.5, 32: 2.0}.items()}),
        ({1, 2}, {(0.2, 1e-4, "fixed"): {"level": 0.0}, (0.2, 1e-4, 32): {"level": 2.0}}),
        ({2}, {(0.2, 1e-4, 8): {"level": 0.8}}),
        ({3}, {(0.2, 1e-3, 16): {"level": 0.2}}),
        ({4, 5}, {(1.0, 1e-3, 8): {"level": 0.5}}),
        ({4}, {(1.0, 1e-3, 32): {"level": 0.1}}),
        ({4}, {(1.0, 1e-3, 32): {"state": "diverged", "epochs": 20}}),  # it had reached 0.13, and then nothing
        ({6}, {(0.02, 1e-3, 8): {"level": 0.2}}),
        ({7}, {(0.02, 4): {"level": 0.2}}),
        ({8}, {(0.02, 16): {"level": 0.7}}),
        ({9}, {("lstm", 16): {"level": 0.5}}),
    ],
)
def test_a_claim_differs(claims, change):
    found = verdicts(grid(change))
    assert {claim for claim, verdict in enumerate(found) if verdict == DIFFERS} == claims


def test_without_the_runs_nothing_is_said():
    frame = grid()
    only = frame[(frame["R"] == 0.02) & (frame["lr"] == 1e-4) & (frame["data.batch_size"] == 32)]
    assert set(verdicts(only)) == {TOO_FEW}


def test_what_is_reached_is_read_at_the_epoch_that_is_meant():
    two = pace.paced(runs(made(0.2, 1e-4, 32, 0.5, seed=0), made(0.2, 1e-4, 4, 0.5, seed=1)))
    assert pace.reached(two, epochs=8).tolist() == pytest.approx([0.5 * 8 * 63 / 5000, 0.5 * 8 * 500 / 5000])
    assert pace.reached(two, updates=5000).tolist() == pytest.approx([0.5 * 79 * 63 / 5000, 0.5])  # 79 · 63 is nearest to 5,000
    assert pace.reached(two, epochs=11).isna().tolist() == [False, True]
    lost = pace.paced(made(0.2, 1e-4, 4, 0.5, epochs=3, state="diverged"))
    assert pace.reached(lost, epochs=3).tolist() == pytest.approx([0.15]) and pace.reached(lost, epochs=4).tolist() == [0]


def test_figures_say_what_they_show():
    frame, _ = selection.select(grid(seeds=1), pace.AXES, {})
    drawn = pace.figures(frame)
    assert list(drawn) == ["pace", "pace_R=0.02", "pace_R=0.2", "pace_R=1", "pace_LSTM"]
    first, second = drawn["pace"].axes[:2]
    assert [axes.get_title() for axes in (first, second)] == ["lr 0.0001, after 8 epochs", "lr 0.0001, after 5,000 updates"]
    left, right = drawn["pace_R=0.2"].axes[:2]
    assert (left.get_xlabel(), right.get_xlabel()) == ("epoch", "update")
    by_steps = {line.get_label(): line.get_xdata() for line in right.lines}
    assert by_steps["500"].tolist() == [500 * e for e in range(1, 11)] and by_steps["625"][-1] == 5000


@pytest.mark.parametrize("some", [lambda f: f["model"] == "lstm", lambda f: f["R"] == 1.0, lambda f: f["data.batch_size"] == 4])
def test_figures_are_drawn_from_whatever_there_is(some):
    frame = grid(seeds=1)
    assert "pace" in pace.figures(frame[some(frame)])


def test_no_runs_are_no_figures():
    with pytest.raises(ConfigError):
        pace.figures(grid(seeds=1).assign(state="undefined"))

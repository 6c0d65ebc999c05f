"""The reports on Hershey 2023's 3.3 and 3.4, on made runs: what each claim says to runs that agree, differ or are too few."""

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import SMOKE
from hypothesis import assume, given
from hypothesis import strategies as st
from made import one, rows, run, runs

from experiments import model_comparison, recency, report, selection, sparsity_fixed_dims, stability, task_difficulty
from experiments.__main__ import main
from experiments.claims import claims_table
from experiments.verdicts import AGREES, DIFFERS
from inn_lab import tracking

U, R, M = "uniform_anomaly", "random_anomaly", "mnist_classification"
GRID = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
SEEDS = 9  # ends of one seed are known to ± 0.12
LSTM = {"R": 0.2, "n_weights": np.nan, "model": "lstm", "model/weights": 1_307_540}


def with_losses(frame: pd.DataFrame) -> pd.DataFrame:
    """The other metrics, as good as ACC_end is."""
    right = frame["val/acc_end"] + 0.001 * frame["seed"]
    test = frame["test/acc_end"] + 0.001 * frame["seed"]
    return frame.assign(**{"test/acc_seq": test, "train/loss": 1 - right, "test/loss": 1 - test})


def comparison(change=None, seeds=5, **common) -> pd.DataFrame:
    """`change`: {(model, data): the run's values}."""
    ends = {("inn", U): 0.8, ("lstm", U): 0.45, ("inn", R): 0.6, ("lstm", R): 0.28}
    made = [one(0.5, model=m, data=d, seed=s, lr=1e-3, **{"end": end, **(change or {}).get((m, d), {}), **common})
            for (m, d), end in ends.items() for s in range(seeds)]  # fmt: skip
    return with_losses(rows(*made))


def lengths(change=None, seeds=9, short=0.6) -> pd.DataFrame:
    """The comparison at length 19, and the INN on random anomaly at length 9, where it ends at `short`."""
    again = comparison({("inn", R): {"end": short}}, seeds).query(f"model == 'inn' and data == '{R}'")
    return runs(comparison(change, seeds, seq_len=19), again)


def confusions(frame: pd.DataFrame, change=None) -> pd.DataFrame:
    """A hundred tries at each place: the INN finds 80 anywhere, the LSTM more, the later. `change`: {(model, data): found}."""
    places = np.arange(frame["seq_len"].iloc[0])
    found = {"inn": np.full(len(places), 80), "lstm": np.maximum(0, places - len(places) // 3) * 5}
    parts = []
    for run_id, (model, data) in frame.groupby("run_id")[["model", "data"]].first().iterrows():
        right = np.broadcast_to((change or {}).get((model, data), found[model]), len(places))
        matrix = np.diag(right) + np.roll(np.diag(100 - right), 1, axis=1)
        parts.append(pd.DataFrame(matrix, columns=places.astype(str)).assign(run_id=run_id, true=places))
    return pd.concat(parts, ignore_index=True)


def fixed_dims(change=None, seeds=SEEDS, **common) -> pd.DataFrame:
    """`change`: {(data, R or "lstm"): end}."""
    ends = {(U, R): {0.02: 0.70, 0.05: 0.75, 0.1: 0.8, 0.2: 0.85}.get(R, 0.88) for R in GRID} | {(U, "lstm"): 0.45}
    ends |= {("random_anomaly", R): 0.48 if R == 0.02 else 0.60 for R in GRID} | {(R, "lstm"): 0.28} | (change or {})
    made = [
        one(end=end, data=data, seed=seed, **{**LSTM, **common})
        if density == "lstm"
        else one(density, np.nan, end, data=data, seed=seed, **{"model/weights": 1.9e6 * density, **common})
        for (data, density), end in ends.items()
        for seed in range(seeds)
    ]
    return with_losses(rows(*made))


def rates(change=None, seeds=SEEDS, **common) -> pd.DataFrame:
    """`change`: {(lr, R or "lstm", init): the run's values}."""
    ends = {(1e-4, R): 0.6 for R in GRID} | {(1e-3, R): 0.1 if R > 0.4 else 0.3 if R == 0.4 else 0.55 for R in GRID}
    ends |= {(lr, R): {0.02: 0.35, 0.05: 0.2}.get(R, 0.1) for R in GRID for lr in (4e-3, 4e-2)}
    made = {(lr, R, init): {"end": end} for (lr, R), end in ends.items() for init in ("normal", "fan_in")}
    made |= {(lr, "lstm", np.nan): {"end": end} for lr, end in ((1e-4, 0.3), (1e-3, 0.2), (4e-3, 0.1), (4e-2, 0.1))}
    made = {key: {**values, **(change or {}).get(key[:2] if key[1] == "lstm" else key, {})} for key, values in made.items()}
    return rows(*(
        one(lr=lr, seed=seed, **{**LSTM, **values, **common}) if density == "lstm"
        else one(density, 1_000_000, lr=lr, seed=seed, **{"model.init": init, **values, **common})
        for (lr, density, init), values in made.items() for seed in range(seeds)
    ))  # fmt: skip


SIZES = (6_000, 15_000, 30_000, 50_000, 60_000, 100_000, 200_000)


def tasks(change=None, seeds=25, sizes=SIZES, **common) -> pd.DataFrame:
    """`change`: {data: {size: end}}."""
    ends = {
        M: dict.fromkeys(SIZES, 0.85) | {6_000: 0.3, 15_000: 0.5, 30_000: 0.7},
        U: dict.fromkeys(SIZES, 0.85) | {6_000: 0.3, 15_000: 0.65, 30_000: 0.7},
        R: dict.fromkeys(SIZES, 0.65) | {6_000: 0.1, 15_000: 0.2, 30_000: 0.4},
    }
    ends = {data: {**at, **(change or {}).get(data, {})} for data, at in ends.items()}
    return rows(*(
        one(0.2, n, end, data=data, seed=s, **common)
        for data, at in ends.items() for n, end in at.items() if n in sizes for s in range(seeds)
    ))  # fmt: skip


LOW = {R: dict.fromkeys(SIZES[3:], 0.55)}


MADE = {model_comparison: comparison, recency: lambda change=None: lengths(change), stability: rates}
MADE |= {sparsity_fixed_dims: fixed_dims, task_difficulty: tasks}


def tables(module, frame: pd.DataFrame, confused=None) -> dict[str, pd.DataFrame]:
    if module is recency:
        return {"confusion": confusions(frame, confused)}
    return {key: table(frame) for key, table in getattr(module, "TABLES", {}).items()}


def verdicts(module, frame: pd.DataFrame, confused=None) -> list[str]:
    frame, _ = selection.select(frame, module.AXES, {})
    return list(claims_table(module.CLAIMS, frame, **tables(module, frame, confused))["verdict"])


@pytest.mark.parametrize("module", MADE, ids=lambda module: module.__name__)
def test_every_claim_agrees_with_runs_like_the_thesis(module):
    found = verdicts(module, MADE[module]())
    if module is task_difficulty:  # 57 % with 60,000 weights, and a ceiling of about 55 %, are not clear both at once
        assert found.pop() == DIFFERS and verdicts(module, tasks(LOW))[5:] == [AGREES, AGREES]
    assert set(found) == {AGREES}


def every(ends, init="normal", lr=1e-3):
    return {(lr, R, init): {"end": end} for R, end in ends.items()}


DIFFERENT = [  # (module, the claims that then differ, the change)
    (model_comparison, {0, 1, 2}, {("lstm", U): {"end": 1.0}}),
    (model_comparison, {1, 2}, {("inn", U): {"state": "diverged"}}),  # ahead as long as it went
    (model_comparison, {3, 4, 5}, {("inn", R): {"end": 0.05}}),
    (recency, {2}, {("inn", U): {"end": 0.1}}),
    (recency, {6, 7}, {("inn", R): {"end": 0.1}}),
    (recency, {7}, {("inn", R): {"end": 0.5}}),
    (sparsity_fixed_dims, {0, 2}, {(U, 0.02): 0.9}),
    (sparsity_fixed_dims, {0}, {(U, 0.02): 0.5}),
    (sparsity_fixed_dims, {1}, {(U, "lstm"): 0.6}),
    (sparsity_fixed_dims, {2}, {(U, 0.1): 0.7}),
    (sparsity_fixed_dims, {3}, {(U, 0.8): 0.3}),
    (sparsity_fixed_dims, {4}, {(R, 0.1): 0.3}),
    (sparsity_fixed_dims, {5, 7}, {(R, 0.02): 0.60}),
    (sparsity_fixed_dims, {6, 7}, {(R, "lstm"): 0.5}),
    (stability, {0}, every({1.0: 0.3}, lr=1e-4)),
    (stability, {0}, {(1e-4, 1.0, "normal"): {"state": "diverged"}}),
    (stability, {1}, every({0.8: 0.5})),
    (stability, {2}, every({0.1: 0.3})),
    (stability, {2}, {(1e-3, 0.1, "normal"): {"state": "diverged", "end": 1.0}}),  # it had reached 0.5
    (stability, {3}, {(1e-3, "lstm"): {"end": 0.4}}),
    (stability, {4}, every({0.02: 0.6}, lr=4e-3)),
    (stability, {4}, every({0.2: 0.3}, lr=4e-3)),
    (stability, {5}, {(4e-2, 0.02, "normal"): {"state": "diverged"}}),
    (stability, {7}, every({1.0: 0.5}, "fan_in")),
    (stability, {1, 2, 6}, every({R: 0.3 if R < 0.4 else 0.55 for R in GRID})),
    (task_difficulty, {0, 6}, {M: {n: 0.7 for n in SIZES if n < 200_000}}),
    (task_difficulty, {0, 6}, {M: dict.fromkeys(SIZES, 0.7)}),  # not with the most that was tried
    (task_difficulty, {1, 3, 6}, {U: dict.fromkeys(SIZES, 0.85)}),  # with the least that was tried
    (task_difficulty, {2, 4}, {R: dict.fromkeys(SIZES[3:], 0.53)}),
    (task_difficulty, {3, 4, 6}, {U: {15_000: 0.4, 30_000: 0.4, 50_000: 0.85}}),
    (task_difficulty, {2, 4, 5, 6}, {R: dict.fromkeys(SIZES[:3], 0.64)}),
]


@pytest.mark.parametrize("module, claims, change", DIFFERENT)
def test_a_claim_differs(module, claims, change):
    found = verdicts(module, MADE[module](change))
    rest = [verdict for claim, verdict in enumerate(found) if claim not in claims]
    assert {found[claim] for claim in claims} == {DIFFERS} and DIFFERS not in rest


LATE = 5 * np.arange(19)


@pytest.mark.parametrize(
    "claims, confused",
    [
        ({0}, {("lstm", U): 50}),
        ({1}, {("inn", U): LATE}),
        ({3, 5}, {("lstm", R): 50}),
        ({4}, {("inn", R): 90 - LATE}),
        ({5}, {("lstm", R): np.minimum(100, 40 + 3 * np.arange(19))}),
    ],
)
def test_a_claim_on_places_differs(claims, confused):
    found = verdicts(recency, comparison(seq_len=19), confused)
    assert {claim for claim, verdict in enumerate(found) if verdict == DIFFERS} == claims


@pytest.mark.parametrize(
    "module, frame, left",
    [
        (model_comparison, comparison(scale="smoke"), 0),
        (model_comparison, comparison().query("model == 'inn'"), 0),
        (model_comparison, comparison().query(f"data == '{U}'"), 3),
        (recency, comparison(), 0),  # length 9
        (recency, comparison(seq_len=19).query(f"data == '{U}' and model == 'inn'"), 1),
        (sparsity_fixed_dims, run(0.3, np.nan), 0),
        (sparsity_fixed_dims, fixed_dims().query("model == 'lstm'"), 2),
        (sparsity_fixed_dims, fixed_dims(source="digits"), 0),
        (stability, rates().query("model == 'lstm'"), 1),
        (stability, rates().query("R == 0.4"), 0),
        (stability, rates().query("lr == 0.001 and model == 'inn'"), 3),
        (stability, rates(scale="smoke"), 0),
        (stability, rates(seeds=1), 2),  # one of them over eight densities
        (sparsity_fixed_dims, fixed_dims(seeds=1), 0),
        (sparsity_fixed_dims, fixed_dims(lr=1e-3), 0),
        (model_comparison, comparison(seeds=1), 2),
        (task_difficulty, tasks(seeds=1), 0),
        (task_difficulty, tasks(sizes=(50_000,)), 0),  # as good as any: neither bound is known
        (task_difficulty, tasks(sizes=(6_000, 30_000)), 1),  # 57 % on uniform; others may be reached a little above
    ],
)
def test_claims_without_their_runs_are_not_judged(module, frame, left):
    found = verdicts(module, frame)
    assert sum(verdict in (AGREES, DIFFERS) for verdict in found) == left


SPARSE = [
    (model_comparison, lambda frame: frame["model"] == "lstm"),
    (recency, lambda frame: (frame["model"] == "inn") & (frame["data"] == R)),
    (sparsity_fixed_dims, lambda frame: frame["model"] == "lstm"),
    (sparsity_fixed_dims, lambda frame: frame["R"] == 0.6),
    (stability, lambda frame: frame["model"] == "lstm"),
    (stability, lambda frame: (frame["lr"] == 1e-3) & (frame["model.init"] == "fan_in")),
    (task_difficulty, lambda frame: (frame["data"] == M) & (frame["n_weights"] == 6_000)),
    (task_difficulty, lambda frame: (frame["data"] == R) & (frame["seed"] == 0)),
]


@pytest.mark.parametrize("module, some", [(module, lambda frame: frame["R"] > 0) for module in MADE] + SPARSE)
def test_figures_are_drawn_from_whatever_there_is(module, some):
    made = MADE[module]()
    frame, _ = selection.select(made[some(made)], module.AXES, {})
    figures = module.figures(frame, **tables(module, frame))
    assert any(axes.lines or axes.images for figure in figures.values() for axes in figure.axes)
    for figure in figures.values():
        figure.draw_without_rendering()  # what matplotlib cannot lay out it warns of


def test_figures_say_what_they_show():
    (figure,) = model_comparison.figures(comparison()).values()
    assert [axes.get_title() for axes in figure.axes] == ["uniform anomaly", "random anomaly"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["chance", "LSTM (100,000)", "INN (100,000)", "weights"]
    frame = tasks()
    relative, absolute = task_difficulty.figures(frame, task_difficulty.difficulties(frame)).values()
    stars = {tuple(line.get_xydata()[0]) for line in relative.axes[0].lines if line.get_marker() == "*"}
    assert stars == {(50_000, 0.8), (15_000, 0.57), (50_000, 0.57)}
    drawn = absolute.axes[0].get_legend_handles_labels()[0]
    (thick,) = (line.get_label() for line in drawn if line.get_linewidth() == 3)
    assert thick == "50,000, comes to the ceiling"


def test_a_diverged_run_is_drawn_as_far_as_it_went_and_ends_at_nothing():
    frame = rates({(4e-3, 1.0, "normal"): {"state": "diverged", "end": 1.0}}, seeds=1)
    kept, _ = selection.select(frame, stability.AXES, {})
    axes = next(axes for axes in stability.figures(kept)["stability"].axes if axes.get_title() == "lr 0.004")
    (line,) = (line for line in axes.lines if line.get_label() == "R=1 (1,000,000), diverged")
    assert line.get_xdata()[-1] == 5 and line.get_ydata()[-1] == pytest.approx(0.5)
    assert set(stability.arms(kept, 4e-3, "normal")[1.0]) == {0}
    at_once = run(state="diverged").assign(epoch=np.nan, **{"val/acc_end": np.nan}).head(1)  # in its first epoch
    assert list(report.finals(at_once)) == [0] and sorted(report.finals(runs(at_once, run(end=0.5)))) == pytest.approx([0, 0.5])


def test_data_sets_are_drawn_together_each_with_settings_of_its_own():
    mnist = [run(data=M, n_weights=6_000, **{"data.transforms": kind}) for kind in ("none", "both")]
    kept, _ = selection.select(runs(*mnist, run(data=U), run(data=R)), task_difficulty.AXES, {})
    assert set(kept["data"]) == {U, R, M} and set(kept["data.transforms"].dropna()) == {"both"}
    kept, note = selection.select(runs(run(data=U), run(data=R)), stability.AXES, {})
    assert set(kept["data"]) == {R} and note.endswith("data._target_=inn_lab.data.uniform_anomaly|inn_lab.data.random_anomaly")


@pytest.mark.parametrize(
    "target, expected",
    [(0.80, (50_000, 30_000)), (0.57, (15_000, 6_000)), (0.2, (6_000, np.nan)), (0.9, (np.nan, 200_000))],
)
def test_a_difficulty_names_the_next_lower_size(target, expected):
    found = task_difficulty.difficulty(tasks(), U, target)
    np.testing.assert_equal((found["n_weights"], found["next_lower"]), expected)


def test_a_ceiling_that_only_the_largest_reaches_is_none():
    found = task_difficulty.difficulty(tasks({R: {200_000: 0.8}}), R, None)
    np.testing.assert_equal((found["n_weights"], found["next_lower"]), (np.nan, 200_000))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12))
def test_the_slope_is_that_of_the_single_outcomes(counts):
    right, wrong = np.array(counts).T
    tried = right + wrong
    x = np.repeat(np.arange(len(tried)), tried)
    y = np.concatenate([[1.0] * a + [0.0] * b for a, b in counts])
    assume(len(np.unique(x)) > 1)
    assert recency.slope(right.astype(float), tried.astype(float)) == pytest.approx(np.polyfit(x, y, 1)[0], abs=1e-8)


def test_the_interval_of_a_share():
    low, high = recency.wilson(np.array([0.0, 15.0, 30.0]), np.array([30.0, 30.0, 30.0]))
    np.testing.assert_allclose(low, [0.0, 0.3315, 0.8865], atol=1e-4)  # R: prop.test(…, correct=FALSE)
    np.testing.assert_allclose(high, [0.1135, 0.6685, 1.0], atol=1e-4)


def test_tables_come_from_the_runs_artifacts(lab, outputs, monkeypatch, capsys):
    """From two jobs to a figure of their confusion matrices, and to what is behind it."""
    small = ["depth=30", "seq_len=5", "data.n_train=64", "trainer.max_epochs=1"]
    assert [lab("experiment=recency", *SMOKE, *small, f"data={data}")[0] for data in (U, R)] == [0, 0]
    monkeypatch.setattr(sys, "argv", ["experiments", "recency", "--outputs", str(outputs)])
    main()
    assert "2 of 2 runs" in capsys.readouterr().out
    confusion = pd.read_csv(outputs / "figures/recency_confusion.csv")
    assert list(confusion.columns) == ["run_id", "true", "0", "1", "2", "3", "4"] and len(confusion) == 2 * 5
    counts = confusion.drop(columns=["true"]).groupby("run_id").sum().sum(axis=1)
    assert counts.nunique() == 1 and counts.iloc[0] > 0  # every test sequence, in each of the runs
    assert tracking.table(outputs, confusion["run_id"].unique(), "nothing.csv").empty


@given(st.integers(1, 300), st.floats(0, 1))
def test_an_interval_holds_its_share_at_the_ends_too(tried, share):
    """Where all were found, rounding alone must not leave the share outside."""
    for right in (0, round(share * tried), tried):
        low, high = recency.wilson(np.array([float(right)]), np.array([float(tried)]))
        assert low <= right / tried <= high and (low[0] == 0) <= (right == 0) and (high[0] == 1) <= (right == tried)

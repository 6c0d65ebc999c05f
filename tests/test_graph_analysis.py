"""The analysis of graph properties on made tables, and the report on random graphs on made runs."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import run

from experiments import graph_analysis as analysis
from experiments import random_graphs
from experiments.claims import OTHER_SCALE, claims_table
from experiments.random_graphs import CELLS, SHOWN, TABLES_6
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab.graphs import PROPERTIES


def table(n: int = 60, accuracy=lambda frame: frame["nodes"]) -> pd.DataFrame:
    """Networks with properties drawn at random, and an accuracy made of them."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(n, len(PROPERTIES))), columns=list(PROPERTIES))
    return frame.assign(test_acc=accuracy(frame))


# ------------------------------------------------------------------------------------------------------------ the analysis


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 100)), min_size=3, max_size=30))
def test_a_correlation_is_the_mean_product_of_standard_scores(pairs: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(pairs, columns=["nodes", "test_acc"])
    found = analysis.correlations(frame, ["nodes"]).iloc[0]
    if frame["nodes"].nunique() == 1 or frame["test_acc"].nunique() == 1:
        assert math.isnan(found["r"]) and math.isnan(found["p"])
        return
    x, y = ((frame[name] - frame[name].mean()) / frame[name].std(ddof=0) for name in ("nodes", "test_acc"))
    r = min(max((x * y).mean(), -1), 1)
    assert found["r"] == pytest.approx(r, abs=1e-10) and found["n"] == len(pairs)


def test_p_is_that_of_the_t_distribution() -> None:
    frame = table(30, lambda frame: frame["nodes"] + 3 * frame["edges"])
    found = analysis.correlations(frame).set_index("property")
    assert list(found.index) == list(PROPERTIES)
    r, n = found.loc["nodes", "r"], 30
    from scipy.stats import t

    assert found.loc["nodes", "p"] == pytest.approx(2 * t.sf(abs(r) * math.sqrt((n - 2) / (1 - r**2)), n - 2), rel=1e-6)
    assert analysis.correlations(frame[:2])["r"].isna().all()


def test_a_straight_line_is_predicted_and_noise_is_not() -> None:
    straight, noise = table(), table(accuracy=lambda frame: np.random.default_rng(1).normal(size=len(frame)))
    assert analysis.on_a_tenth(straight, "BayesianRidge")[0] > 0.999
    mean, low, high = analysis.over_folds(analysis.folds(straight, "BayesianRidge")[0])
    assert 0.999 < low <= mean <= high
    mean, low, high = analysis.over_folds(analysis.folds(noise, "BayesianRidge")[0])
    assert low <= mean <= 0.1 and low < mean < high
    scaled = straight.assign(nodes=1e6 * straight["nodes"] + 5)  # the scale of a property is no matter
    assert analysis.on_a_tenth(scaled, "BayesianRidge")[0] == pytest.approx(analysis.on_a_tenth(straight, "BayesianRidge")[0])


def test_cross_validation_equals_its_slow_twin() -> None:
    from scipy.stats import t
    from sklearn.linear_model import BayesianRidge
    from sklearn.model_selection import RepeatedKFold

    frame = table(accuracy=lambda frame: frame["nodes"] + frame["edges"] ** 2)
    X, y, scores = frame[list(PROPERTIES)].to_numpy(), frame["test_acc"].to_numpy(), []
    for train, test in RepeatedKFold(n_splits=5, n_repeats=5, random_state=7).split(X):
        least, most = X[train].min(0), X[train].max(0)  # of the fold alone
        model = BayesianRidge().fit((X[train] - least) / (most - least), y[train])
        error = y[test] - model.predict((X[test] - least) / (most - least))
        scores.append(1 - (error**2).sum() / ((y[test] - y[test].mean()) ** 2).sum())
    half = t.ppf(0.975, 24) * np.std(scores, ddof=1) * math.sqrt(1 / 25 + 12 / 48)
    expected = np.mean(scores) + np.array([0, -half, half])
    assert analysis.over_folds(analysis.folds(frame, "BayesianRidge")[0]) == pytest.approx(tuple(expected))


def test_importance_goes_to_what_decides_and_sums_to_one(monkeypatch) -> None:
    monkeypatch.setattr(analysis, "REPEATS", 1)  # of five, which take eight seconds
    monkeypatch.setattr(analysis, "DOF", analysis.FOLDS - 1)
    frame = table(200, lambda frame: np.sign(frame["source_nodes"]) + 0.25 * np.sign(frame["degree_var"]))
    result = analysis.importances(frame)
    for measured in ("split", "mean"):
        found = result.pivot(index="property", columns="features", values=measured)[list(analysis.FEATURES)]
        assert set(found.index) == {"R²", *PROPERTIES}
        shares = found.drop("R²")
        assert shares.sum().tolist() == pytest.approx([1] * 4)
        assert shares["all"].idxmax() == shares["only nodes and edges"].idxmax() == "source_nodes" and shares["all"].max() > 0.9
        assert shares["only variances"].idxmax() == "degree_var" and found.loc["R²", "all"] > 0.8
        assert [int(shares[name].notna().sum()) for name in analysis.FEATURES] == [23, 4, 19, 5]
    assert (result["low"] <= result["mean"]).all() and (result["mean"] <= result["high"]).all()
    assert (
        analysis.on_a_tenth(frame, "AdaBoost")[0] == analysis.on_a_tenth(frame, "AdaBoost")[0]
    )  # nothing is drawn from outside


def test_few_networks_are_not_regressed() -> None:
    assert analysis.prediction(table(analysis.LEAST - 1)).empty and analysis.importances(table(analysis.LEAST - 1)).empty


# -------------------------------------------------------------------------------------------------------------- the report


def networks(change=None, n: int = 600, more: float = 0.1, **common) -> pd.DataFrame:
    """Runs whose correlations are Darji's, a bit stronger. `change`: {(cell, property): r}."""
    shared = {"graph/" + name: 1.0 for name in PROPERTIES} | common
    scale = {"scale": shared.pop("scale", "paper")}
    like = run(np.nan, np.nan, model="random_graph", data="reber", source="reber", **scale, **shared).iloc[-1].to_dict()
    rng, parts = np.random.default_rng(0), []
    for cell in CELLS:
        z = rng.normal(size=n)
        z = (z - z.mean()) / z.std()
        columns = {"test/acc_end": 0.8 + 0.05 * z}
        for name, r in TABLES_6[cell].items():
            r = (change or {}).get((cell, name), r + math.copysign(1, r) * more)
            rest = rng.normal(size=n)
            rest -= rest.mean() + z * (rest * z).mean()  # nothing in common with the accuracy
            columns[f"graph/{name}"] = r * z + math.sqrt(1 - r**2) * rest / rest.std()
        columns |= {"run_id": [f"{cell}{k}" for k in range(n)], "model.cell": cell, "model.number": np.arange(n) // 2}
        columns["model.graph"] = np.where(np.arange(n) % 2, "watts_strogatz", "barabasi_albert")
        parts.append(pd.DataFrame({**like, **columns}, index=range(n)))
    return pd.concat(parts, ignore_index=True)


SCORES = {"tanh": (0.48, 0.43, 0.36), "relu": (0.36, 0.62, 0.53), "lstm": (0.37, 0.55, 0.6), "gru": (0.67, 0.88, 0.78)}
LOW = {"tanh": (0.47, 0.43, 0.36)}


def verdicts(scores=None, source_nodes: float = 0.67, forests=None, half=0.02, **made) -> list[str]:
    """`half`: of the intervals over folds."""
    runs = networks(**made)
    rows = []
    for cell, values in {**SCORES, **(scores or {})}.items():
        R2 = dict(zip(analysis.REGRESSORS, values, strict=True))
        rows += [(cell, name, "", score, score) for name, score in R2.items()]
        rows += [(cell, a, b, R2[a] - R2[b], R2[a] - R2[b]) for a, b in itertools.permutations(R2, 2)]
    prediction = pd.DataFrame(rows, columns=["cell", "regressor", "over", "split", "mean"])
    by_set = {"relu": (0.61, 0.71, -0.05, 0.06), "gru": (0.87, 0.75, 0.78, 0.76), **(forests or {})}
    rows = [(cell, name, "R²", R2) for cell, row in by_set.items() for name, R2 in zip(analysis.FEATURES, row, strict=True)]
    importances = pd.DataFrame([*rows, ("gru", "all", "source_nodes", source_nodes)])
    importances.columns = ["cell", "features", "property", "mean"]
    prediction, importances = (t.assign(low=t["mean"] - half, high=t["mean"] + half) for t in (prediction, importances))
    tables = {"correlations": random_graphs.correlations(runs), "prediction": prediction, "importances": importances}
    return list(claims_table(random_graphs.CLAIMS, runs, **tables)["verdict"])


ALL = [AGREES] * 17


def but(*places: int) -> list[str]:
    return [DIFFERS if place in places else AGREES for place in range(17)]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"scores": {"tanh": (0.47, 0.43, 0.36), "gru": (0.67, 0.88, 0.78)}}, ALL),
        ({"scores": LOW, "change": {("tanh", "nodes"): -0.6}}, but(0, 4, 8)),  # the other sign
        ({"scores": LOW, "change": {("gru", "degree_var"): -0.2}}, but(7)),  # too weak
        ({"scores": LOW, "change": {("relu", "nodes_betweenness_var"): -0.15}}, but(5, 8)),
        ({"scores": {"tanh": (0.47, 0.6, 0.36)}}, but(9)),
        ({"scores": {**LOW, "relu": (0.36, 0.45, 0.4), "lstm": (0.7, 0.55, 0.6)}}, but(10, 11)),
        ({"scores": {**LOW, "gru": (0.4, 0.88, 0.78)}}, but(12)),
        ({"scores": LOW, "forests": {"relu": (0.4, 0.71, 0.6, 0.06), "gru": (0.87, 0.3, 0.78, 0.76)}}, but(13, 14, 15)),
        ({"scores": LOW, "source_nodes": 0.4}, but(16)),
        ({"scores": LOW, "half": 0.5}, [AGREES] * 9 + [TOO_FEW] * 8),  # what folds differ by
        ({"scores": LOW, "more": -0.12, "n": 120}, [TOO_FEW] * 9 + [AGREES] * 8),  # what graphs differ by
        ({"scores": LOW, "n": 40}, [TOO_FEW] * 17),
        ({"scores": LOW, "scale": "smoke"}, [OTHER_SCALE] * 17),
    ],
    ids=str,
)
def test_claims_on_random_graphs(made, expected) -> None:
    assert verdicts(**made) == expected


def test_of_a_property_that_does_not_vary_nothing_is_said() -> None:
    runs = networks()
    runs.loc[runs["model.cell"] == "tanh", "graph/nodes"] = 5.0
    measure = random_graphs.important(["tanh", "relu"], ["nodes"])
    assert measure(runs, random_graphs.correlations(runs)).verdict == TOO_FEW


def test_a_graph_counts_once_and_a_network_that_diverged_ends_at_0() -> None:
    frame = networks(n=20)
    again = frame.assign(run_id=frame["run_id"] + "b", seed=1, **{"test/acc_end": frame["test/acc_end"] + 0.1})
    both = random_graphs.networks(pd.concat([frame, again], ignore_index=True))
    assert len(both) == len(frame)
    assert both["cell"].is_monotonic_increasing and list(both["graph_nr"][:20]) == [*range(10)] * 2
    wanted = frame.sort_values(["model.cell", "model.graph", "model.number"])["test/acc_end"] + 0.05
    np.testing.assert_allclose(both["test_acc"], wanted)
    lost = frame.assign(state="diverged", **{"test/acc_end": np.nan})
    assert (random_graphs.networks(lost)["test_acc"] == 0).all()


def test_the_tables_stand_beside_darjis() -> None:
    found = random_graphs.correlations(networks())
    assert list(found["cell"].unique()) == list(CELLS) and len(found) == 4 * 23
    shown = found[found["property"].isin(SHOWN)]
    np.testing.assert_allclose(shown["r"], shown["darji"] + np.sign(shown["darji"]) * 0.1, atol=1e-9)
    assert found[~found["property"].isin(SHOWN)][["r", "darji"]].isna().all(axis=None)  # here the same for all graphs


def test_the_figures_show_every_network() -> None:
    frame = networks(n=20)
    drawn = random_graphs.figures(frame, random_graphs.correlations(frame))
    assert set(drawn) == {"random_graphs", "random_graphs_structure", *(f"random_graphs_{cell}" for cell in CELLS)}
    for axes in drawn["random_graphs"].axes:
        assert sum(len(points.get_offsets()) for points in axes.collections) == 20
    assert "r = +0.44, p =" in drawn["random_graphs_gru"].axes[0].get_xlabel()

"""Analyses of networks made from graphs: correlations with the graphs' properties, predictions, and their importances.

All functions take a table with a row for each network: `graph` (its kind), the 23 of `inn_lab.graphs.PROPERTIES`, and
`test_acc`. The tables that Darji (2022) published with the thesis have this form. Nothing here depends on where a table comes
from.
"""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.verdicts import Estimate
from inn_lab.graphs import PROPERTIES

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

SIZES = ("nodes", "edges", "source_nodes", "sink_nodes")
FEATURES = {  # Darji's four sets, under the names of Tables B.1 and B.2
    "all": PROPERTIES,
    "only nodes and edges": SIZES,
    "without nodes and edges": tuple(name for name in PROPERTIES if name not in SIZES),
    "only variances": tuple(name for name in PROPERTIES if name.endswith("_var")),
}
REGRESSORS = ("BayesianRidge", "RandomForest", "AdaBoost")
SEED = 7  # of the split in Darji's code, and of forests and boosting
FOLDS, REPEATS = 5, 5
DOF = FOLDS * REPEATS - 1  # degrees of freedom of a mean over folds
LEAST = 50  # the least number of networks for a regression


def correlations(table: pd.DataFrame, names: Sequence[str] = PROPERTIES) -> pd.DataFrame:
    """Pearson's correlation of the test accuracy with each property: columns property, r, p (two-sided) and n.

    r and p are NaN where there are fewer than 3 networks, or one of the two does not vary.
    """
    from scipy.stats import pearsonr

    rows = []
    for name in names:
        varies = len(table) >= 3 and table[name].nunique() > 1 and table["test_acc"].nunique() > 1
        r, p = pearsonr(table[name], table["test_acc"]) if varies else (math.nan, math.nan)
        rows.append((name, float(r), float(p), len(table)))
    return pd.DataFrame(rows, columns=["property", "r", "p", "n"])


def regressor(name: str) -> "RegressorMixin":
    """One of `REGRESSORS`, as scikit-learn has it."""
    from sklearn.ensemble import AdaBoostRegressor, RandomForestRegressor
    from sklearn.linear_model import BayesianRidge

    made = {
        "BayesianRidge": BayesianRidge,
        "RandomForest": lambda: RandomForestRegressor(random_state=SEED),
        "AdaBoost": lambda: AdaBoostRegressor(random_state=SEED),
    }
    return made[name]()


def on_a_tenth(table: pd.DataFrame, name: str, features: Sequence[str] = PROPERTIES) -> tuple[float, "RegressorMixin"]:
    """(R², the fitted regressor) on a tenth of the table, that was fitted on the rest, as Darji did (5.3.2).

    The properties are scaled to [0, 1] over the whole table. A tenth of 200 rows is 20: see `cross_validated`.
    """
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import MinMaxScaler

    X, y = MinMaxScaler().fit_transform(table[list(features)]), table["test_acc"].to_numpy()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=SEED)
    fitted = regressor(name).fit(X_train, y_train)
    return float(fitted.score(X_test, y_test)), fitted


def folds(table: pd.DataFrame, name: str, features: Sequence[str] = PROPERTIES) -> tuple[np.ndarray, list["RegressorMixin"]]:
    """R² of each of 5 times 5 folds, and what was fitted on the others; the scaling is fitted with it.

    The folds are the same for all regressors.
    """
    from sklearn.model_selection import RepeatedKFold, cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    parts = RepeatedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=SEED)
    X, y = table[list(features)].to_numpy(), table["test_acc"].to_numpy()
    found = cross_validate(make_pipeline(MinMaxScaler(), regressor(name)), X, y, cv=parts, return_estimator=True)
    return found["test_score"], [fitted[-1] for fitted in found["estimator"]]


def over_folds(values: np.ndarray) -> tuple[float, float, float]:
    """The mean over folds (the first axis), and its 95 % interval: (mean, low, high).

    The folds share most of what they are fitted on; the interval is t's with the variance corrected for that (Nadeau & Bengio
    2003): s² (1/J + n_test / n_train) of J folds.
    """
    estimate = Estimate(float(values.mean()), float(values.std(ddof=1) * np.sqrt(1 / len(values) + 1 / (FOLDS - 1))), DOF)
    return estimate.value, *estimate.interval()


def prediction(table: pd.DataFrame) -> pd.DataFrame:
    """Table 6.5: columns regressor, `split` (R² on a tenth), and `mean`, `low` and `high` of cross-validation.

    Where `over` names another regressor, it is by how much R² is above that one's.

    Empty where there are fewer than 50 networks.
    """
    names = REGRESSORS if len(table) >= LEAST else ()
    splits = {name: on_a_tenth(table, name)[0] for name in names}
    scores = {name: folds(table, name)[0] for name in names}
    rows = [(name, "", splits[name], *over_folds(scores[name])) for name in names]
    pairs = itertools.permutations(names, 2)
    rows += [(a, b, splits[a] - splits[b], *over_folds(scores[a] - scores[b])) for a, b in pairs]
    return pd.DataFrame(rows, columns=["regressor", "over", "split", "mean", "low", "high"])


def importances(table: pd.DataFrame) -> pd.DataFrame:
    """Tables B.1 and B.2: by set of features, R² of a random forest that sees no others, and what it goes by.

    Columns: `features`, `property`, "R²" or one of `PROPERTIES`, of which the importances sum to 1, `split` (fitted on nine
    tenths), and `mean`, `low` and `high` of cross-validation. Empty where there are fewer than 50 networks.
    """
    rows = []
    for name, features in FEATURES.items() if len(table) >= LEAST else ():
        score, forest = on_a_tenth(table, "RandomForest", features)
        scores, forests = folds(table, "RandomForest", features)
        rows.append((name, "R²", score, *over_folds(scores)))
        shares = np.array([fitted.feature_importances_ for fitted in forests])
        columns = zip(features, forest.feature_importances_, shares.T, strict=True)
        rows += [(name, feature, share, *over_folds(column)) for feature, share, column in columns]
    return pd.DataFrame(rows, columns=["features", "property", "split", "mean", "low", "high"])

"""What the properties of graphs say about the networks made of them: correlations, predictions, and what these go by.

Functions of a table with a row for each network: `graph` (its kind), the 23 of `inn_lab.graphs.PROPERTIES`, and `test_acc`.
The tables that Darji (2022) has published with the thesis are such; nothing here knows where a table comes from.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
SEED = 7  # of the split in Darji's code; what forests and boosting draw follows from it too
FOLDS, REPEATS = 5, 5
LEAST = 50  # networks from which a regression is worth doing


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


def split(table: pd.DataFrame, name: str, features: Sequence[str] = PROPERTIES) -> tuple[float, "RegressorMixin"]:
    """(R², the fitted regressor) on a tenth of the table, that was fitted on the rest, as Darji did (5.3.2).

    The properties are scaled to [0, 1] over the whole table. A tenth of 200 rows is 20: see `cross_validated`.
    """
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import MinMaxScaler

    X, y = MinMaxScaler().fit_transform(table[list(features)]), table["test_acc"].to_numpy()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=SEED)
    fitted = regressor(name).fit(X_train, y_train)
    return float(fitted.score(X_test, y_test)), fitted


def cross_validated(table: pd.DataFrame, name: str, features: Sequence[str] = PROPERTIES) -> tuple[float, float, float]:
    """R² by 5 times 5-fold cross-validation, and its 95 % interval: (mean, low, high). The scaling is fitted with each fold.

    The folds share most of what they are fitted on; the interval is t's with the variance corrected for that (Nadeau & Bengio
    2003): s² (1/J + n_test / n_train) of J folds.
    """
    from scipy.stats import t
    from sklearn.model_selection import RepeatedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    folds = RepeatedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=SEED)
    X, y = table[list(features)].to_numpy(), table["test_acc"].to_numpy()
    scores = cross_val_score(make_pipeline(MinMaxScaler(), regressor(name)), X, y, cv=folds)
    mean, count = float(scores.mean()), len(scores)
    half = float(t.ppf(0.975, count - 1) * scores.std(ddof=1) * np.sqrt(1 / count + 1 / (FOLDS - 1)))
    return mean, mean - half, mean + half


def prediction(table: pd.DataFrame) -> pd.DataFrame:
    """Table 6.5: columns regressor, `split` (R² on a tenth), and `mean`, `low` and `high` of cross-validation.

    Empty where there are fewer than 50 networks.
    """
    names = REGRESSORS if len(table) >= LEAST else ()
    rows = [(name, split(table, name)[0], *cross_validated(table, name)) for name in names]
    return pd.DataFrame(rows, columns=["regressor", "split", "mean", "low", "high"])


def importances(table: pd.DataFrame) -> pd.DataFrame:
    """Tables B.1 and B.2: by set of features, R² on a tenth of a random forest that sees no others, and what it goes by.

    Columns: `property`, "R²" first, and one for each of `FEATURES`, in which the importances sum to 1. Empty where there are
    fewer than 50 networks.
    """
    if len(table) < LEAST:
        return pd.DataFrame(columns=["property", *FEATURES])
    columns = {}
    for name, features in FEATURES.items():
        score, forest = split(table, "RandomForest", features)
        columns[name] = pd.Series([score, *forest.feature_importances_], index=["R²", *features])
    found = pd.DataFrame(columns).reindex(["R²", *PROPERTIES])
    return found.rename_axis("property").reset_index()

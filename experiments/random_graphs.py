"""Darji 2022, 5.3, 6.3 and 6.4: do the properties of a graph tell how good the recurrent network made of it is?

Figs. 6.29–6.32 and C.1–C.10, Tables 6.1–6.5, B.1 and B.2. A graph that was trained with several seeds counts once, with its
mean accuracy. Darji's R² are of 20 graphs that were kept to test; on the table published for the GRU, where they are 0.67, 0.88
and 0.78, cross-validation gives 0.58, 0.65 and 0.61. Claims about R² are judged on cross-validation.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit

from experiments import graph_analysis as analysis
from experiments import report
from experiments.claims import Claim, judge
from experiments.report import each, tested, trained
from experiments.verdicts import AGREES, DIFFERS, Estimate, Finding, all_of, coefficient
from inn_lab.graphs import KINDS, PROPERTIES

AXES = ("model.cell", "model.graph", "model.number")
CELLS = ("tanh", "relu", "lstm", "gru")
COLOURS = {"watts_strogatz": report.BLUE, "barabasi_albert": report.ORANGE}
LABELS = {"watts_strogatz": "Watts–Strogatz", "barabasi_albert": "Barabási–Albert"}
SHOWN = (  # in Tables 6.1–6.4
    *("layers", "nodes", "edges", "source_nodes", "diameter", "density", "average_shortest_path_length"),
    *(f"{name}_var" for name in ("eccentricity", "degree", "closeness", "nodes_betweenness", "edge_betweenness")),
)
PRINTED = {  # Darji's correlations, by cell in the order of `SHOWN`
    "tanh": (0.25, 0.40, 0.38, 0.35, -0.23, 0.29, -0.27, -0.22, -0.28, -0.46, -0.49, -0.34),
    "relu": (0.30, 0.44, 0.43, 0.47, -0.27, 0.15, -0.25, -0.24, -0.26, -0.39, -0.41, -0.30),
    "lstm": (0.28, 0.44, 0.42, 0.57, -0.32, 0.29, -0.36, -0.30, -0.39, -0.51, -0.56, -0.44),
    "gru": (0.34, 0.49, 0.49, 0.74, -0.20, 0.34, -0.23, -0.21, -0.58, -0.67, -0.52, -0.26),
}
TABLES_6 = {cell: dict(zip(SHOWN, values, strict=True)) for cell, values in PRINTED.items()}
TABLE_6_5 = {  # R² by cell, in the order of `REGRESSORS`
    "tanh": (0.47919, 0.43163, 0.35698),
    "relu": (0.36075, 0.61504, 0.53469),
    "lstm": (0.37206, 0.57933, 0.59514),
    "gru": (0.67224, 0.87635, 0.78313),
}
IMPORTANT = 0.4  # |r| from which Darji calls a property important
GRAPHS = 50  # of a cell, half of each kind, from which claims on its correlations are judged; Darji has 200
PREDICTED = 100  # those on predictions: of 50 graphs the 95 % interval of R² spans 0.6 or more


def networks(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell and graph, under Darji's names: `cell`, `graph`, `graph_nr`, the 23 properties, `test_acc`, and
    `run_id` of one of its runs.

    In Darji's order, on which it depends which rows a split takes.
    """
    done = trained(runs)
    columns = {"cell": "model.cell", "graph": "model.graph", "graph_nr": "model.number"}
    columns |= {name: f"graph/{name}" for name in PROPERTIES}
    table = pd.DataFrame({name: each(done, column) for name, column in columns.items()}).assign(test_acc=tested(done))
    alike = table.rename_axis("run_id").reset_index().groupby(["cell", "graph", "graph_nr"])
    return alike.mean(numeric_only=True).assign(run_id=alike["run_id"].first()).reset_index()


def by_cell(of: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """An analysis of the networks of each cell, one below the other; the column `cell` says whose."""

    def made(runs: pd.DataFrame) -> pd.DataFrame:
        table = networks(runs)
        parts = [of(table[table["cell"] == cell]).assign(cell=cell) for cell in CELLS]
        there = [part for part in parts if len(part)]
        found = pd.concat(there, ignore_index=True) if there else parts[0]
        return found[["cell", *found.columns.drop("cell")]]

    return made


def correlations(runs: pd.DataFrame) -> pd.DataFrame:
    """Tables 6.1–6.4: r and p of each property by cell, and Darji's r."""
    found = by_cell(analysis.correlations)(runs)
    return found.assign(darji=[TABLES_6[cell].get(name) for cell, name in zip(found["cell"], found["property"], strict=True)])


def prediction(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 6.5: R² by cell and regressor, on a tenth and cross-validated, and Darji's."""
    found = by_cell(analysis.prediction)(runs)
    darji = {(cell, name): R2 for cell, row in TABLE_6_5.items() for name, R2 in zip(analysis.REGRESSORS, row, strict=True)}
    there = zip(found["cell"], found["regressor"], found["over"], strict=True)
    return found.assign(darji=[darji[cell, name] - darji.get((cell, over), 0) for cell, name, over in there])


TABLES = {"correlations": correlations, "prediction": prediction, "importances": by_cell(analysis.importances)}


def figures(runs: pd.DataFrame, correlations: pd.DataFrame, **tables: pd.DataFrame) -> dict[str, Figure]:
    """Accuracy by kind of graph and cell (Figs. 6.29–6.32), the graphs themselves (C.1, C.3, C.5, C.8), and for each cell
    accuracy by property (the others of C)."""
    table = networks(runs)
    accuracy = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, cell in zip(accuracy.subplots(1, len(CELLS), sharey=True), CELLS, strict=True):
        strips(axes, table[table["cell"] == cell], "test_acc")
        axes.set(title=cell, ylabel="test ACC_end" if cell == CELLS[0] else None)
    structure = Figure(figsize=(12, 3.6), layout="constrained")
    shapes = table.drop_duplicates(["graph", "graph_nr"])
    for axes, name in zip(structure.subplots(1, 4), ("nodes", "layers", "edges", "density"), strict=True):
        strips(axes, shapes, name)
        axes.set(ylabel=name)
    made = {"random_graphs": accuracy, "random_graphs_structure": structure}
    for cell in CELLS:
        here = table[table["cell"] == cell]
        if len(here):
            made[f"random_graphs_{cell}"] = joint(here, correlations[correlations["cell"] == cell], cell)
    return made


def strips(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """A point for each network, side by side by kind of graph, and the mean."""
    for place, kind in enumerate(KINDS):
        values = table[table["graph"] == kind].set_index("run_id")[name]
        spread = place + 0.3 * (np.arange(len(values)) * 0.618 % 1 - 0.5)  # evenly, and the same each time
        report.dots(axes, spread, values, LABELS[kind], s=12, alpha=0.6, linewidths=0, color=COLOURS[kind])
        axes.plot([place - 0.25, place + 0.25], [values.mean()] * 2, color="black")
    axes.set_xticks(range(len(KINDS)), [LABELS[kind] for kind in KINDS], fontsize=8)


def joint(table: pd.DataFrame, correlations: pd.DataFrame, cell: str) -> Figure:
    """Test accuracy by each property of `SHOWN`: a point for each network, the straight line, and both distributions."""
    figure = Figure(figsize=(12, 10), layout="constrained")
    figure.suptitle(cell)
    found = correlations.set_index("property")
    for axes, name in zip(figure.subplots(3, 4).flat, SHOWN, strict=True):
        for kind, part in table.groupby("graph"):
            ends = part.set_index("run_id")["test_acc"]
            report.dots(axes, part[name], ends, LABELS[kind], s=12, alpha=0.6, linewidths=0, color=COLOURS[kind])
        r, p, darji = found.loc[name, ["r", "p", "darji"]]
        if not np.isnan(r):
            ends = np.array([table[name].min(), table[name].max()])
            axes.plot(ends, np.polyval(np.polyfit(table[name], table["test_acc"], 1), ends), color="black")
        axes.set(
            xlabel=f"{name.replace('_', ' ')}\nr = {r:+.2f}, p = {p:.2g} (Darji {darji:+.2f})",
            ylabel="test ACC_end" if axes.get_subplotspec().is_first_col() else "",
            ylim=(None, 1.02),
        )
        for place, column, way in (([0, 1.01, 1, 0.12], name, "vertical"), ([1.01, 0, 0.08, 1], "test_acc", "horizontal")):
            beside = axes.inset_axes(place)
            beside.hist(table[column], bins=15, orientation=way, color="lightgray")
            beside.axis("off")
    figure.axes[0].legend()
    return figure


def of_signs(correlations: pd.DataFrame, wanted: pd.Series, low: float) -> Finding:
    """Whether each of these correlations is `low` or more, with Darji's sign. `wanted`: which of the table's rows."""
    found = {}
    for row in correlations[wanted].itertuples():
        sign = np.sign(row.darji)
        found[f"{row.cell} {row.property}"] = coefficient(row.r, row.n, *((low, 1.0) if sign > 0 else (-1.0, -low)))
    if correlations["n"].min() < GRAPHS or not found:
        return judge("too few graphs", None)
    clear, other = (sum(one.verdict == verdict for one in found.values()) for verdict in (AGREES, DIFFERS))
    values = ", ".join(f"{row.property} {row.r:+.2f}" for row in correlations[wanted].itertuples())
    return all_of(found).said(f"clearly so {clear} of {len(found)}, clearly not {other}: {values}")


def signs(cell: str) -> Callable[..., Finding]:
    """Claim: all correlations that Darji prints for a cell have Darji's sign."""

    def measure(runs: pd.DataFrame, correlations: pd.DataFrame, **tables: pd.DataFrame) -> Finding:
        here = correlations[correlations["cell"] == cell]
        return of_signs(here, here["property"].isin(SHOWN), 0.0)

    return measure


def important(cells: Sequence[str], names: Sequence[str] | None = None) -> Callable[..., Finding]:
    """Claim: the properties named, or else those that Darji prints in bold for the cell, have |r| ≥ 0.4, with Darji's sign."""

    def measure(runs: pd.DataFrame, correlations: pd.DataFrame, **tables: pd.DataFrame) -> Finding:
        here = correlations[correlations["cell"].isin(cells)]
        wanted = here["property"].isin(names) if names else here["darji"].abs() >= IMPORTANT
        complete = set(here["cell"]) == set(cells)
        return of_signs(here, wanted, IMPORTANT) if complete else judge("too few graphs", None)

    return measure


def cross_validated(table: pd.DataFrame, **values: str) -> Estimate:
    """The estimate over the folds, from the one row of a table with these values."""
    found = table[(table[list(values)] == pd.Series(values)).all(axis=1)]
    if found.empty:
        return Estimate(np.nan, np.inf, 1)
    half = (found["high"] - found["low"]).iloc[0] / 2
    return Estimate(float(found["mean"].iloc[0]), float(half / stdtrit(analysis.DOF, 0.975)), analysis.DOF)


def enough(correlations: pd.DataFrame, cell: str) -> bool:
    """Whether a cell has so many graphs that claims on predictions are judged."""
    return bool((correlations[correlations["cell"] == cell]["n"] >= PREDICTED).any())


def predicts(cell: str, best: str | None, low: float = -np.inf, high: float = np.inf) -> Callable[..., Finding]:
    """Claim about R²: of the regressor that fits best, which is so; or, without one, of all three."""

    def measure(runs: pd.DataFrame, correlations: pd.DataFrame, prediction: pd.DataFrame, **tables: pd.DataFrame) -> Finding:
        here = prediction[prediction["cell"] == cell]
        text = "; ".join(f"{r.regressor} {cross_validated(here, regressor=r.regressor, over='').within().measured}, "
                         f"on a tenth {r.split:+.2f}" for r in here[here["over"] == ""].itertuples())  # fmt: skip
        if not enough(correlations, cell):
            return judge(text or "too few graphs", None)
        found = {
            name: cross_validated(here, regressor=name, over="").within(low, high)
            for name in analysis.REGRESSORS
            if best is None or name == best or cell == "gru"
        }
        if best:
            others = [name for name in analysis.REGRESSORS if name != best]
            found |= {f"over {name}": cross_validated(here, regressor=best, over=name).within(0) for name in others}
        return all_of(found).said(text)

    return measure


def forest(cell: str, ranges: Mapping[tuple[str, str], tuple[float, float]]) -> Callable[..., Finding]:
    """Claim about what a random forest goes by, (set of features, property or "R²"): each lies in its range."""

    def measure(runs: pd.DataFrame, correlations: pd.DataFrame, importances: pd.DataFrame, **tables: pd.DataFrame) -> Finding:
        here = importances[importances["cell"] == cell]
        found = {}
        for (features, name), edges in ranges.items():
            found[f"{features}: {name}"] = cross_validated(here, features=features, property=name).within(*edges)
        return all_of(found) if enough(correlations, cell) else judge("too few graphs", None)

    return measure


def bold(cell: str) -> str:
    return ", ".join(name for name, r in TABLES_6[cell].items() if abs(r) >= IMPORTANT)


BOTH = ("nodes", "nodes_betweenness_var")
ALL, ONLY, WITHOUT, VARIANCES = analysis.FEATURES
HALF, LITTLE = (0.5, np.inf), (-np.inf, 0.25)
CLAIMS = [
    *(Claim(f"D Table 6.{k}", f"{cell}: the signs of the correlations", signs(cell)) for k, cell in enumerate(CELLS, 1)),
    *(
        Claim(f"D 7.3, Table 6.{k}", f"{cell}: important (|r| ≥ 0.4) are {bold(cell)}", important([cell]))
        for k, cell in enumerate(CELLS, 1)
    ),
    Claim("D 8", "The number of nodes and nodes_betweenness_var are important for all four", important(CELLS, BOTH)),
    *(
        Claim("D Table 6.5", sentence, measure)
        for sentence, measure in (
            ("tanh: R² below 0.5 for all three regressors (0.48, 0.43, 0.36)", predicts("tanh", None, high=0.5)),
            ("relu: the random forest fits best, R² above 0.5 (0.62)", predicts("relu", "RandomForest", 0.5)),
            ("lstm: AdaBoost fits best, R² above 0.5 (0.60)", predicts("lstm", "AdaBoost", 0.5)),
            (
                "gru: the random forest fits best, and R² is above 0.5 for all three (0.67, 0.88, 0.78)",
                predicts("gru", "RandomForest", 0.5),
            ),
        )
    ),
    Claim(
        "D Table B.1",
        "relu: R² above 0.5 by all properties and by numbers of nodes and edges alone (0.61, 0.71)",
        forest("relu", {(ALL, "R²"): HALF, (ONLY, "R²"): HALF}),
    ),
    Claim(
        "D Table B.1",
        "relu: R² below 0.25 without them, and by variances alone (-0.05, 0.06)",
        forest("relu", {(WITHOUT, "R²"): LITTLE, (VARIANCES, "R²"): LITTLE}),
    ),
    Claim(
        "D Table B.2",
        "gru: R² above 0.5 by each set of properties (0.87, 0.75, 0.78, 0.76)",
        forest("gru", {(name, "R²"): HALF for name in analysis.FEATURES}),
    ),
    Claim(
        "D Table B.2",
        "gru: source_nodes counts for more than all other properties (0.67)",
        forest("gru", {(ALL, "source_nodes"): HALF}),
    ),
]

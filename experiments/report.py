"""Shared by all reports: values of runs, curves with bands, and which runs they show.

A report module has `AXES`, the keys that vary inside its figures; `figures(runs)`, which returns figures by file name; and
`CLAIMS`. It may have `TABLES`: other data for its figures and claims, by name, each a CSV file among the runs' artifacts or a
function of the runs. They are passed to `figures` and to every claim's `measure` as keyword arguments, and are written beside
the figures.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from experiments import verdicts
from inn_lab import tracking
from inn_lab.errors import ConfigError
from inn_lab.identity import LATER, short

SMALL = 8  # points
REACHED = 0.93  # of a panel's width: a line that ends there has come to its end
FEW_EXAMPLES = 200  # if a run does not say on how many it was tested
NONE_SHOWN = "none of the runs that its figures show has finished yet"
ACC_END = "ACC_end: the share of inputs (sequences, images, strings) whose last output is right"
FIXED = {"model.R": "R", "model.n_weights": "n_weights"}  # named under a figure if all its runs have the same value
ACC, TEST = "val/acc_end", "test/acc_end"

# All eyes can tell the colours apart: those of kinds are Okabe and Ito's (2008); what has an order goes from dark to light, and
# stays dark enough for white paper (2.3 : 1 or more).
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
INN, LSTM = "royalblue", "crimson"  # the same in every figure of the lab; densities go from dark (sparse) to light (dense)
LINES = ("-", "--", "-.", ":")  # of kinds that have no markers
STYLE = {  # of all figures: 8 points is the least that is read, and a journal wants its fonts in the file
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "black"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.title_fontsize": SMALL,
    "pdf.fonttype": 42,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}

WAYS = {  # ways to store a matrix, with the style of their lines in every figure
    "stepwise": {"color": "black", "marker": "v"},
    "masked": {"color": BLUE, "marker": "s"},
    "dense": {"color": BLUE, "marker": "D"},
    "csr": {"color": ORANGE, "marker": "o"},
    "auto": {"color": GREEN, "marker": "x", "linestyle": "--"},
    "torch_csr": {"color": SKY, "marker": "^"},
    "torch_csc": {"color": RED, "marker": "v"},
    "low_rank": {"color": PURPLE, "marker": "P"},
}


def colour(R: float) -> tuple[float, ...]:
    """The colour of a density in every figure: by its logarithm, from 0.005 to 1."""
    return matplotlib.colormaps["viridis"](0.7 * matplotlib.colors.LogNorm(0.005, 1)(R))


def shades(count: int) -> list[tuple[float, ...]]:
    """Colours of so many things that have an order, but are no densities."""
    return list(matplotlib.colormaps["plasma"](np.linspace(0, 0.7, count)))


def trained(runs: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The runs that trained, to the end or until they diverged, and that have these values in these columns."""
    those = runs["state"].isin(["finished", "diverged"])
    for column, value in values.items():
        those &= runs[column] == value if column in runs else False  # runs of LSTMs alone have no column model.init
    return runs[those]  # one copy: a row is long


def grid(panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, two in a row, with the same accuracy axis. Raises ConfigError for no panels."""
    if not panels:
        raise ConfigError(NONE_SHOWN)
    columns = min(2, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for unused in axes[panels:]:
        unused.remove()
    return figure, axes[:panels]


def panel(
    axes: Axes,
    title: str,
    curves: Mapping[str, tuple[pd.DataFrame, dict[str, object]]],
    chance: float = 0,
    legend: str = "weights",
) -> None:
    """Validation ACC_end by epoch. `curves`: {label: (runs, style)}."""
    for label, (runs, style) in curves.items():
        curve(axes, runs, ACC, label, **style)
    if chance:
        axes.axhline(chance, color="gray", linewidth=0.8, linestyle=":", label="chance")
    axes.set(title=title, xlabel="epoch", ylabel="validation ACC_end", ylim=(0, 1))
    beside(axes, legend)


def beside(axes: Axes, title: str) -> None:
    """Names what is drawn to the right of a panel, where the names cover nothing: each about as high as its line ends.

    It comes last: it reads where the lines are. A line from the end leads to the name.
    """
    lines = {
        label: handle.lines[0] if isinstance(handle, Container) else handle  # of error bars
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    ends = {label: end for label, line in lines.items() if math.isfinite((end := _end(line))[1])}
    if not ends:
        return
    gap = 1.5 * SMALL / 72 / (axes.get_position().height * axes.figure.get_figheight())  # a row of text, of the panel's height
    at = (axes.transData + axes.transAxes.inverted()).transform(list(ends.values()))
    order, steps = np.argsort(at[:, 1], kind="stable"), gap * np.arange(len(at))
    heights = (
        isotonic_regression(at[order, 1] - steps).x.clip(0, max(0, 1 - gap * len(at))) + steps
    )  # the nearest that are apart
    inside = {"transform": axes.transAxes, "clip_on": False}
    for place, height in zip(order, heights, strict=True):
        label, (x, y) = list(ends)[place], at[place]
        style = {name: lines[label].properties()[name] for name in ("color", "linestyle", "linewidth", "marker", "markersize")}
        way = [(1.0, y), (1.03, height), (1.07, height)] if x > REACHED else [(1.03, height), (1.07, height)]
        axes.add_line(Line2D(*zip(*way, strict=True), markevery=[-1], **style, **inside))
        axes.text(1.09, height, label, fontsize=SMALL, va="center", transform=axes.transAxes)
    axes.text(1.09, heights[-1] + gap, title, fontsize=SMALL, va="center", color="dimgray", transform=axes.transAxes)


def _end(line: Line2D) -> tuple[float, float]:
    """Where a line ends, its height a mean over its last tenth."""
    x, y = (np.asarray(values, float) for values in line.get_data())
    return (x[-1], float(np.nanmean(y[-max(1, len(y) // 10) :]))) if np.isfinite(y).any() else (math.nan, math.nan)


def weights(runs: pd.DataFrame) -> str:
    """The mean number of trainable weights, for the legend."""
    return f"{runs['model/weights'].mean():,.0f}"


def by_density(inn: pd.DataFrame, lstm: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, dict[str, object]]]:
    """The curves of a panel: one for each density, and the LSTM's if there is one."""
    curves = {f"R={R:g} ({weights(part)})": (part, {"color": colour(R)}) for R, part in inn.groupby("R")}
    return curves | ({f"LSTM ({weights(lstm)})": (lstm, {"color": LSTM, "linewidth": 2})} if len(lstm) else {})


def named(artist: Artist, *words: tuple[str, Iterable[str]]) -> None:
    """What the page says of a curve, or of each of its points, when it is pointed at: (text, ids of the runs behind it).

    The artist's id holds them as JSON (`page.inline` reads it); a file of pixels and a PDF hold none.
    """
    artist.set_gid(json.dumps([[text, list(runs)] for text, runs in words]))


def of_seeds(runs: pd.DataFrame) -> str:
    """ "seeds 0, 1, 2"."""
    seeds = sorted(runs["seed"].unique())
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def line(axes: Axes, at: ArrayLike, values: ArrayLike, runs: pd.DataFrame, label: str, more: str = "", **style: Any) -> Line2D:
    """A line in which all these runs have a part; the page says its label, their seeds, and `more`. A label that begins with _
    is in no legend."""
    (drawn,) = axes.plot(at, values, label=label, **style)
    seeds = f" · {of_seeds(runs)}" if "seed" in runs else ""
    named(drawn, (f"{label.lstrip('_')}{seeds}{more}", runs["run_id"].unique()))
    return drawn


def dots(axes: Axes, at: ArrayLike, values: pd.Series, label: str, **style: Any) -> None:
    """A point for each run; `values` are by its id. A label that begins with _ is in no legend."""
    drawn, name = axes.scatter(at, values, label=label, **style), label.lstrip("_")
    named(drawn, *((f"{name} {value:.3g} · run {run[:8]}".strip(), [run]) for run, value in values.dropna().items()))


def curve(axes: Axes, runs: pd.DataFrame, metric: str, label: str, **style: object) -> None:
    """The mean over seeds by epoch. With two seeds or more a band shows one standard deviation, but not below the lowest run.

    A diverged run counts until it ends; a cross marks the end, and the label says how many runs diverged.
    """
    by_epoch = runs.groupby("epoch")[metric]
    mean, std, lowest = by_epoch.mean(), by_epoch.std(), by_epoch.min()
    after = mean.index + 1  # epochs are counted from 0
    diverged = runs[runs["state"] == "diverged"]
    lost, count = diverged["run_id"].nunique(), runs["run_id"].nunique()
    label += "" if not lost else ", diverged" if lost == count else f", {lost} of {count} diverged"
    end = f" · {number(mean.iloc[-1])} at the end" if len(mean) else ""
    color = line(axes, after, mean, runs, label, end, **style).get_color()
    if count > 1:
        low = lowest.clip(lower=mean - std)  # the band of a loss must stay positive on a log scale
        axes.fill_between(after, low, mean + std, color=color, alpha=0.2, linewidth=0)
    ends = diverged.dropna(subset=["epoch", metric]).sort_values("epoch").groupby("run_id").last()
    axes.plot(ends["epoch"] + 1, ends[metric], "x", color=color)
    if axes.get_xscale() == "linear":
        axes.xaxis.get_major_locator().set_params(integer=True)


def each(runs: pd.DataFrame, column: str) -> pd.Series:
    """One value per run."""
    return runs.groupby("run_id")[column].first()


def tails(runs: pd.DataFrame, metric: str) -> pd.Series:
    """The mean of a metric over the last tenth of the epochs, per run."""
    last = runs.groupby("run_id")["epoch"].transform("max")
    late = runs["epoch"] > last - (last + 1) / 10
    return runs.loc[late, metric].groupby(runs.loc[late, "run_id"]).mean()


def finals(runs: pd.DataFrame) -> pd.Series:
    """Where each run ends in validation: the mean ACC_end of its last tenth of epochs. A run that diverged ends at 0."""
    states = each(runs, "state")
    return tails(runs, ACC).reindex(states.index).mask(states == "diverged", 0.0)


def tested(runs: pd.DataFrame) -> pd.Series:
    """Where each run ends: its test ACC_end, which is of as many examples as the source has.

    A run that diverged ends at 0, whatever it had reached: it no longer answers anything.
    """
    return each(runs, TEST).mask(each(runs, "state") == "diverged", 0.0)


def arm(runs: pd.DataFrame, values: Callable[[pd.DataFrame], pd.Series] = tested) -> pd.Series:
    """The values of the runs of one setting by seed, as `verdicts` takes them. A seed that was run twice has the mean."""
    return values(runs).groupby(each(runs, "seed")).mean()


def arms(runs: pd.DataFrame, by: str, values: Callable[[pd.DataFrame], pd.Series] = tested) -> dict[Any, pd.Series]:
    """An arm for each value of a column, in their order."""
    measured, at, seeds = values(runs), each(runs, by), each(runs, "seed")
    return {value: part.groupby(seeds).mean() for value, part in measured.groupby(at)}


def prior(runs: pd.DataFrame, arms: Iterable[pd.Series], part: str = "test") -> verdicts.Prior:
    """What is known beforehand of these accuracies, from the number of examples of the part on which they are measured:
    "train", "val" or "test". Raises ValueError for another."""
    if part not in ("train", "val", "test"):
        raise ValueError(f"part={part!r}: an accuracy is measured on train, val or test")
    counts = [runs[column].min() for column in (f"data/{part}", f"data.n_{part}") if column in runs]
    return verdicts.of_accuracy(list(arms), int(next(filter(math.isfinite, counts), FEW_EXAMPLES)))


def against_time(runs: pd.DataFrame, metric: str, grid: Sequence[float]) -> pd.DataFrame:
    """A metric after each of the `grid`'s seconds of training: a row for each of them, a column for each run.

    What a run had last is carried forward, also when it is over. NaN as long as its first epoch lasts.
    """
    found = {}
    for run_id, run in runs.dropna(subset="epoch").sort_values("epoch").groupby("run_id"):
        epoch = np.searchsorted(run["time/epoch_s"].cumsum(), grid, side="right") - 1
        found[run_id] = np.append(run[metric], np.nan)[epoch]  # -1, before the first, is the NaN
    return pd.DataFrame(found, index=pd.Index(grid, name="seconds"), dtype=float)


def ends(arms: Mapping[Any, pd.Series], prior: verdicts.Prior | None = None, name: str = "R", digits: int = 2) -> str:
    """Arms in words, each with half the width of its 95 % interval: "0.20 ± 0.04 at R=0.1, 0.31 ± 0.04 at R=0.2"."""
    found = {at: verdicts.mean(arm, prior) for at, arm in arms.items()}
    halves = {at: (one.interval()[1] - one.interval()[0]) / 2 for at, one in found.items()}
    parts = (f"{one.value:.{digits}f} ± {halves[at]:.{digits}f} at {name}={at:g}" for at, one in found.items())
    return ", ".join(parts).replace(" ± inf", "") or "no runs"


def words(levels: pd.Series, name: str = "R", digits: int = 2) -> str:
    """Levels in words: "0.20 at R=0.1, 0.31 at R=0.2"."""
    return ", ".join(f"{value:.{digits}f} at {name}={at:g}" for at, value in levels.items()) or "no runs"


def number(value: float) -> str:
    """One level in words."""
    return "no runs" if math.isnan(value) else f"{value:.2f}"


def points(axes: Axes, at: pd.Series, values: pd.Series, label: str | None = None, **style: object) -> None:
    """A faint point for each run; the means at each place, with standard errors, joined by a line."""
    by_place = values.groupby(at)
    mean, error = by_place.mean(), by_place.sem().fillna(0)
    dots(axes, at, values.reindex(at.index), f"_{label or ''}", s=10, alpha=0.35, linewidths=0, color=style["color"])
    axes.errorbar(mean.index, mean, yerr=error, label=label, markersize=5, linewidth=1.2, capsize=2, **style)


def side_by_side(axes: Axes, at: pd.Series, values: pd.Series, **style: object) -> None:
    """As `points`, with the places in order at equal distances."""
    places = sorted(at.unique())
    points(axes, at.map(places.index), values, **style)
    axes.set_xticks(range(len(places)), [f"{place:g}" for place in places], rotation=45 * (len(places) > 6))


def provenance(runs: pd.DataFrame) -> str:
    """Which runs were used, in one line. It is printed under every figure and written beside every claim."""
    done = trained(runs)

    def values(column: str) -> str:
        return ", ".join(map(str, sorted(done[column].dropna().unique()))) if column in done else "?"

    seeds, commits = done["seed"].nunique(), sorted(set(map(short, done["commit"].dropna().unique())) - {"unknown"})
    timed = "machine.threads" in done  # runs that measure times or are ended by a clock depend on the machine
    series = any(str(data).endswith("anomaly") for data in done["data"].unique())
    images, learnt = set(done["data"].unique()) != {"none"}, "epoch" in done
    clock = done["trainer.max_time"].dropna().unique() if "trainer.max_time" in done else []
    length = ", ".join(f"{seconds:g} seconds" for seconds in clock) or f"{values('trainer.max_epochs')} epochs"
    fixed = [f"{name} {values(column)}" for column, name in FIXED.items() if column in done and done[column].nunique() == 1]
    parts = [
        *([f"source {values('source')}"] if images else []),
        f"scale {values('scale')}",
        *([values("data") + (f", length {values('seq_len')}" if series else "")] if images else []),
        *fixed,
        *([f"lr {values('lr')}", length, *unusual(done)] if learnt else []),
        f"{done['run_id'].nunique()} runs, {seeds} seed{'s' * (seeds != 1)}",
        f"{values('machine.processor')}, {values('machine.threads')} threads" if timed else values("device"),
        *([f"commit {', '.join(commits)}"] if commits else []),
    ]
    return " · ".join(parts)


def unusual(runs: pd.DataFrame) -> list[str]:
    """What of their training is not the usual way: another optimizer or schedule, and what the validation decides."""

    def word(value: float | str | None) -> str:
        return "null" if value is None else f"{value:g}" if isinstance(value, float) else value.rpartition(".")[2]

    parts = []
    for key in ("optimizer._target_", "schedule._target_", "trainer.patience", "trainer.best_weights"):
        found = {tracking.meaning(str(value)) for value in runs[key].unique()} if key in runs else set()
        if found - {tracking.meaning(str(LATER[key])), None}:
            name = key.removesuffix("._target_").removeprefix("trainer.")
            parts.append(f"{name} {', '.join(sorted(map(word, found)))}")
    return parts

"""What every report shares: which runs belong together, curves with bands, claims, and files that say where they come from.

A report module has `AXES`, the keys that vary inside its figures; `figures(runs)`, figures by file name; and `CLAIMS`. It may
have `TABLES`, what its figures and claims take beside the runs, by name: a CSV file among the runs' artifacts, or a function of
the runs. Each comes to `figures` and to every claim's `measure` as a keyword argument, and is written beside the figures.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from experiments import verdicts
from experiments.verdicts import Finding
from inn_lab.errors import ConfigError, near
from inn_lab.identity import IMPLIED, NOT_SCIENCE, short
from inn_lab.schema import Config

if TYPE_CHECKING:
    from inn_lab.models.grouped import Group

OTHER_SCALE, OTHER_DATA, SHORT = "other scale", "other data", "cut short"  # why what was measured is not judged
LENGTHS = ("trainer.max_epochs", "trainer.max_time", "data.n_train", "data.n_val", "data.n_test")  # of which less may tell less
FEW_EXAMPLES = 200  # where a run does not say how many it was tested on
NONE_FINISHED = "no such run has finished yet"
NONE_SHOWN = "none of the runs that its figures show has finished yet"
NAMES = {"run_id", "start", "record"}  # no two runs have them in common
ACC_END = "ACC_end: the share of inputs (sequences, images, strings) whose last output is right"
SHOWN = 10  # values that a message names
FIXED = {"model.R": "R", "model.n_weights": "n_weights"}  # said under a figure where all its runs have one
SCALARS = {field.name for field in fields(Config) if field.type is not Any}  # R, lr, …: not the groups
ACC, TEST = "val/acc_end", "test/acc_end"
CELLS = {"rnn_tanh": "darkorange", "rnn_relu": "seagreen", "lstm": "crimson", "gru": "slateblue"}  # Darji's, in every figure
# What each source's networks learn from.
THEIRS = {"H": {"mnist"}, "K": {"mnist"}, "D": {"reber"}, "T": {"mnist", "cifar10", "sine"}}
INN, LSTM = "royalblue", "crimson"  # the same in every figure of the lab; densities go from dark (sparse) to light (dense)

WAYS = {  # to hold a matrix: the line of each, the same in every figure
    "stepwise": {"color": "black", "marker": "v"},
    "masked": {"color": "tab:blue", "marker": "s"},
    "dense": {"color": "tab:blue", "marker": "D"},
    "csr": {"color": "tab:orange", "marker": "o"},
    "auto": {"color": "tab:green", "marker": "x", "linestyle": "--"},
    "torch_csr": {"color": "tab:purple", "marker": "^"},
    "torch_csc": {"color": "tab:brown", "marker": "v"},
    "low_rank": {"color": "tab:pink", "marker": "P"},
}


def colour(R: float) -> tuple[float, ...]:
    """The colour of a density, the same in every figure: by its logarithm, from 0.005 to 1."""
    return matplotlib.colormaps["viridis"](matplotlib.colors.LogNorm(0.005, 1.15)(R))


def settings(runs: pd.DataFrame, axes: Iterable[str]) -> list[str]:
    """The columns that must be alike in one figure: every param but the axes, the seed, and what is no science.

    Tags named like params, with a dot, are settings too: `machine.threads` of the runs that take times.
    """
    free = {"seed", *NOT_SCIENCE, *axes, *(f"model.{axis}" for axis in axes)}
    return [column for column in runs if ("." in column or column in SCALARS) and column not in free]


def select(runs: pd.DataFrame, axes: Iterable[str], wanted: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """The runs of one figure, alike in all but the axes and the seed, and a sentence on those left out.

    `wanted` names values of params and tags ("source": "mnist"), compared as `meaning` reads them; in what it leaves, the
    newest finished run's settings are taken. Where models are an axis, what a model has of its own (an LSTM has no model.init)
    is compared among its runs, and where data sets are, theirs likewise. Of runs that are the same in everything the newest is
    kept.

    Raises ConfigError if no finished run is left.
    """
    runs = runs[runs["state"].isin(["finished", "diverged", "undefined"])]
    if runs.empty:
        raise ConfigError(NONE_FINISHED)
    runs = runs.assign(**{key: _filled(runs[key], value) for key, value in IMPLIED.items() if key in runs})
    for column, value in wanted.items():
        runs = _chosen(runs, column, value)
    columns = settings(runs, axes)
    owners = {axis: own for axis, own in {"model": ("model.",), "data": ("data.", "objective.")}.items() if axis in axes}
    shared = [column for column in columns if not column.startswith(sum(owners.values(), ()))]
    alike = runs[_same(runs, shared, _newest(runs))]
    for owner, prefixes in owners.items():
        own = [column for column in columns if column.startswith(prefixes)]
        alike = pd.concat(part[_same(part, own, _newest(part))] for _, part in alike.groupby(owner))
    distinct = [column for column in dict.fromkeys(["model", "seed", *columns, *axes]) if column in alike]
    kept = alike[alike["run_id"].isin(alike.sort_values("start").groupby(distinct, dropna=False)["run_id"].last())]
    if not (kept["state"] == "finished").any():
        raise ConfigError(NONE_FINISHED)
    differ = [f"{c}={'|'.join(map(str, runs[c].unique()))}" for c in shared if runs[c].nunique(dropna=False) > 1]
    note = f"{kept['run_id'].nunique()} of {runs['run_id'].nunique()} runs"
    return kept, note + (f"; choose others by {' '.join(differ)}" if differ else "")


def _chosen(runs: pd.DataFrame, column: str, value: str) -> pd.DataFrame:
    known = [name for name in runs if "/" not in name and name != "epoch"]  # a run has one value of each
    if column not in known:
        differing = [name for name in known if name not in NAMES and runs[name].nunique(dropna=False) > 1]
        hint = f"; they differ in {', '.join(differing) or 'nothing'}"
        hint = near(column, known) if get_close_matches(column, known, cutoff=0.5) else hint
        raise ConfigError(f"{column}={value}: the runs have no such column{hint}")
    have = runs[column].map(str)
    if column == "sweep":
        found = runs[[value in words.split() for words in have]]
    else:
        found = runs[[meaning(text) == meaning(value) for text in have]]
    if found.empty:
        there = sorted({"null" if meaning(text) is None else text for text in have})
        more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
        raise ConfigError(f"{column}={value}: no run has it; there are runs with {column}={', '.join(there[:SHOWN])}{more}")
    return found


def meaning(text: str) -> float | str | None:
    """A value, however it is written: 1e-3 is 0.001, True is true, and null, None and what is not there are nothing."""
    with suppress(ValueError):
        value = float(text)
        return None if math.isnan(value) else value if math.isfinite(value) else text
    word = text.lower()
    return None if word in ("null", "none") else word if word in ("true", "false") else text


def folder_of(wanted: Mapping[str, str]) -> str:
    """What is chosen, as a folder's name ("" for no choice): its figures replace no others."""
    return re.sub(r"[^\w=.,+-]", "_", ",".join(f"{key}={value}" for key, value in sorted(wanted.items())))[:200]


def _filled(column: pd.Series, value: object) -> pd.Series:
    """Params are text but where all of them are numbers."""
    return column.fillna(value if pd.api.types.is_numeric_dtype(column) else str(value))


def _newest(runs: pd.DataFrame) -> pd.Series:
    finished = runs[runs["state"] == "finished"]
    return (finished if len(finished) else runs).sort_values("start").iloc[-1]


def _same(runs: pd.DataFrame, columns: list[str], like: pd.Series) -> pd.Series:
    alike = pd.Series(True, index=runs.index)
    for column in columns:
        alike &= (runs[column] == like[column]) | (runs[column].isna() & pd.isna(like[column]))
    return alike


def trained(runs: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The runs that trained, to the end or until they diverged, and have these values in the columns named."""
    found = runs[runs["state"].isin(["finished", "diverged"])]
    for column, value in values.items():
        found = found[found[column] == value] if column in found else found[:0]  # LSTMs alone have no column model.init
    return found


def grid(panels: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, two in a row, with one scale of accuracy. Raises ConfigError for none."""
    if not panels:
        raise ConfigError(NONE_SHOWN)
    columns = min(2, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(6 * columns, 4.2 * rows), layout="constrained")
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
    if curves:
        axes.legend(fontsize=7, title=legend, title_fontsize=7, ncols=2 if len(curves) > 4 else 1)


def weights(runs: pd.DataFrame) -> str:
    """How many weights train, on average, for the legend."""
    return f"{runs['model/weights'].mean():,.0f}"


def by_density(inn: pd.DataFrame, lstm: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, dict[str, object]]]:
    """The curves of a panel: one for each density, the LSTM beside if there is one."""
    curves = {f"R={R:g} ({weights(part)})": (part, {"color": colour(R)}) for R, part in inn.groupby("R")}
    return curves | ({f"LSTM ({weights(lstm)})": (lstm, {"color": LSTM, "linewidth": 2})} if len(lstm) else {})


def curve(axes: Axes, runs: pd.DataFrame, metric: str, label: str, **style: object) -> None:
    """The mean over seeds by epoch, and a band of one standard deviation where there are two seeds or more, down to the lowest.

    A diverged run counts as far as it goes; a cross stands where it ends, and the label says how many there are.
    """
    by_epoch = runs.groupby("epoch")[metric]
    mean, std, lowest = by_epoch.mean(), by_epoch.std(), by_epoch.min()
    after = mean.index + 1  # epochs are counted from 0
    diverged = runs[runs["state"] == "diverged"]
    lost, count = diverged["run_id"].nunique(), runs["run_id"].nunique()
    label += "" if not lost else ", diverged" if lost == count else f", {lost} of {count} diverged"
    (line,) = axes.plot(after, mean, label=label, **style)
    if count > 1:
        low = lowest.clip(lower=mean - std)  # a loss has no less than that, and is drawn on a log scale
        axes.fill_between(after, low, mean + std, color=line.get_color(), alpha=0.2, linewidth=0)
    ends = diverged.dropna(subset=["epoch", metric]).sort_values("epoch").groupby("run_id").last()
    axes.plot(ends["epoch"] + 1, ends[metric], "x", color=line.get_color())


def each(runs: pd.DataFrame, column: str) -> pd.Series:
    """What each run has but one of, by run_id."""
    return runs.groupby("run_id")[column].first()


def tails(runs: pd.DataFrame, metric: str) -> pd.Series:
    """A metric's mean over the last tenth of each run's epochs, by run_id."""
    last = runs.groupby("run_id")["epoch"].transform("max")
    return runs[runs["epoch"] > last - (last + 1) / 10].groupby("run_id")[metric].mean()


def finals(runs: pd.DataFrame) -> pd.Series:
    """Where each run ends, by run_id: the mean ACC_end of its last tenth of epochs.

    A run that diverged ends at 0, whatever it had reached: it answers nothing any more.
    """
    states = each(runs, "state")
    return tails(runs, ACC).reindex(states.index).mask(states == "diverged", 0.0)


def tested(runs: pd.DataFrame) -> pd.Series:
    """Each run's test ACC_end, by run_id; that of a run that diverged, which is not tested, is 0."""
    return each(runs, TEST).mask(each(runs, "state") == "diverged", 0.0)


def arm(runs: pd.DataFrame, values: Callable[[pd.DataFrame], pd.Series] = finals) -> pd.Series:
    """What the runs of one setting came to, by seed, as `verdicts` takes it; of a seed that was run twice the mean."""
    return values(runs).groupby(each(runs, "seed")).mean()


def arms(runs: pd.DataFrame, by: str, values: Callable[[pd.DataFrame], pd.Series] = finals) -> dict[Any, pd.Series]:
    """An arm for each value of a column, in their order."""
    return {value: arm(part, values) for value, part in runs.groupby(by)}


def spread(runs: pd.DataFrame, arms: Iterable[pd.Series], examples: str = "data.n_val") -> float:
    """What is known beforehand of these accuracies' standard deviation, by the number of examples that they are measured on."""
    many = runs[examples].min() if examples in runs else math.nan
    return verdicts.accuracy_spread(list(arms), int(many) if many == many else FEW_EXAMPLES)


def ends(arms: Mapping[Any, pd.Series], spread: float | None = None, name: str = "R", digits: int = 2) -> str:
    """Arms in words, with half of their 95 % intervals: "0.20 ± 0.04 at R=0.1, 0.31 ± 0.04 at R=0.2"."""
    found = {at: verdicts.mean(arm, spread) for at, arm in arms.items()}
    halves = {at: (one.interval()[1] - one.interval()[0]) / 2 for at, one in found.items()}
    parts = (f"{one.value:.{digits}f} ± {halves[at]:.{digits}f} at {name}={at:g}" for at, one in found.items())
    return ", ".join(parts).replace(" ± inf", "") or "no runs"


def level(runs: pd.DataFrame) -> float:
    """Where the runs end: the mean of `finals` over all runs given; NaN if there are none."""
    return float(finals(runs).mean())


def levels(runs: pd.DataFrame, by: str = "R") -> pd.Series:
    """Where the runs end for each value of a column, from the least value to the largest."""
    return pd.Series({value: level(part) for value, part in runs.groupby(by)}, dtype=float)


def words(levels: pd.Series, name: str = "R", digits: int = 2) -> str:
    """Levels in words: "0.20 at R=0.1, 0.31 at R=0.2"."""
    return ", ".join(f"{value:.{digits}f} at {name}={at:g}" for at, value in levels.items()) or "no runs"


def number(value: float) -> str:
    """One level in words."""
    return "no runs" if math.isnan(value) else f"{value:.2f}"


def points(axes: Axes, at: pd.Series, values: pd.Series, label: str | None = None, **style: object) -> None:
    """A faint point for each run at its place on the x axis; the means and standard errors of those that share one, joined."""
    by_place = values.groupby(at)
    mean, error = by_place.mean(), by_place.sem().fillna(0)
    axes.scatter(at, values.reindex(at.index), s=10, alpha=0.35, linewidths=0, color=style["color"])
    axes.errorbar(mean.index, mean, yerr=error, label=label, markersize=5, linewidth=1.2, capsize=2, **style)


def side_by_side(axes: Axes, at: pd.Series, values: pd.Series, **style: object) -> None:
    """`points`, their places in order at equal distances, however far apart they are."""
    places = sorted(at.unique())
    points(axes, at.map(places.index), values, **style)
    axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])


def dealt(runs: pd.DataFrame, names: Sequence[str], group: "Group") -> pd.DataFrame:
    """The densities of Kale's groups of blocks, the one that a config leaves open too: a row for each setting that trained.

    Columns: `names`, and `weights`, how many trained.
    """
    from inn_lab.models.grouped import areas, fill  # brings torch

    rows = []
    for _, run in trained(runs).drop_duplicates([f"model.{name}" for name in names]).iterrows():
        given = {name: None if pd.isna(run[f"model.{name}"]) else float(run[f"model.{name}"]) for name in names}
        n_inputs = int(run["model/width"] - run["model/depth"])
        entries = areas(n_inputs, int(run["seq_len"]), json.loads(run["model.hidden"]), group)
        rows.append({**fill(given, float(run["model.R"]), entries), "weights": run["model/weights"]})
    return pd.DataFrame(rows, columns=[*names, "weights"])


@dataclass(frozen=True)
class Claim:
    """What a source says, and how to measure it: `measure(runs, **tables)` returns what is found.

    images: whether it depends on the images, or strings. What a step costs doesn't; what is learnt does.
    epochs: after how many it can be told, where that is before the end of the source's runs.
    """

    source: str
    sentence: str
    measure: Callable[..., Finding]
    images: bool = True
    epochs: int | None = None


def judge(measured: str, holds: bool | None) -> Finding:
    """What a report decides by a rule of its own: chance has no part in it, or `verdicts` does not judge it yet.

    `holds` None says that the runs are not there that it takes, or too few to tell.
    """
    return Finding(measured, 1, 1) if holds is None else Finding(measured, if_false=1 - bool(holds), if_true=bool(holds))


def known(*values: float) -> bool:
    """Whether all are numbers. A comparison with what is none is always False, and would say no where nothing can be told."""
    return not any(map(math.isnan, values))


def every(parts: Iterable[bool | None]) -> bool | None:
    """Whether all hold: no, if one does not; else None where of one it is not known."""
    found = set(parts)
    return False if False in found else None if None in found else True


def above(low: float, high: float, little: float = 0.0) -> bool | None:
    """Whether a value is above zero, by its interval: no, if it is no more than `little`; None where it tells neither."""
    if not known(low, high):
        return None
    return True if low > 0 else False if high <= little else None


def within(low: float, high: float, margin: float) -> bool | None:
    """Whether a difference is no more than `margin`, by its interval: None where part of the interval is, and part is not."""
    if not known(low, high):
        return None
    if -margin <= low and high <= margin:
        return True
    return None if low <= margin and high >= -margin else False


def provenance(runs: pd.DataFrame) -> str:
    """What the runs used, in one line: it stands under every figure and beside every claim."""
    done = trained(runs)

    def values(column: str) -> str:
        return ", ".join(map(str, sorted(done[column].dropna().unique()))) if column in done else "?"

    seeds, commits = done["seed"].nunique(), sorted(set(map(short, done["commit"])))
    timed = "machine.threads" in done  # runs that take times, or that a clock ends: they depend on the machine
    series = any(str(data).endswith("anomaly") for data in done["data"])
    images, learnt = set(done["data"]) != {"none"}, "epoch" in done
    clock = done["trainer.max_time"].dropna().unique() if "trainer.max_time" in done else []
    length = ", ".join(f"{seconds:g} seconds" for seconds in clock) or f"{values('trainer.max_epochs')} epochs"
    fixed = [f"{name} {values(column)}" for column, name in FIXED.items() if column in done and done[column].nunique() == 1]
    parts = [
        *([f"source {values('source')}"] if images else []),
        f"scale {values('scale')}",
        *([values("data") + (f", length {values('seq_len')}" if series else "")] if images else []),
        *fixed,
        *([f"lr {values('lr')}", length] if learnt else []),
        f"{done['run_id'].nunique()} runs, {seeds} seed{'s' * (seeds != 1)}",
        f"{values('machine.processor')}, {values('machine.threads')} threads" if timed else values("device"),
        f"commit {', '.join(commits)}",
    ]
    return " · ".join(parts)


def paper(name: str) -> dict[str, object]:
    """The `LENGTHS` of the source's own runs: what an experiment's YAML says."""
    from hydra import compose, initialize_config_dir

    from inn_lab import schema
    from inn_lab.explain import CONF

    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [f"experiment={name}"])
    return {key: OmegaConf.select(cfg, key) for key in LENGTHS}


def unlike(claim: Claim, runs: pd.DataFrame, asked: Mapping[str, object]) -> str | None:
    """Why a claim is not judged by these runs, whatever they measured; None if it is.

    A verdict takes `scale=paper` and, where the claim depends on them, the data of its source (`THEIRS`; one of the lab's own
    those of any source), and runs that are no shorter than `asked`.
    """
    if set(runs["scale"]) != {"paper"}:
        return OTHER_SCALE
    if not claim.images:
        return None
    sources = set(runs["source"])
    theirs = THEIRS.get(claim.source.split()[0], set().union(*THEIRS.values()))
    if len(sources) != 1 or not sources <= theirs:
        return OTHER_DATA
    least = {**asked, **({"trainer.max_epochs": claim.epochs} if claim.epochs else {})}
    done = trained(runs)
    short = any(done[key].min() < value for key, value in least.items() if value is not None and key in done)
    return SHORT if short else None


def claims_table(
    claims: Iterable[Claim], runs: pd.DataFrame, asked: Mapping[str, object] = MappingProxyType({}), **tables: pd.DataFrame
) -> pd.DataFrame:
    """One row a claim: what was measured, and a verdict, or why there is none. `asked`: see `paper`."""
    rows = []
    for claim in claims:
        found = claim.measure(runs, **tables)
        rows.append((claim.source, claim.sentence, found.measured, unlike(claim, runs, asked) or found.verdict))
    table = pd.DataFrame(rows, columns=["source", "sentence", "measured", "verdict"])
    return table.assign(measured_on=provenance(runs))


def drawn(name: str, folder: Path) -> str | None:
    """The `provenance` of the figures that `write` has written there; None if there are none."""
    with suppress(OSError, ValueError, KeyError, IndexError):
        return pd.read_csv(folder / f"{name}_claims.csv")["measured_on"].iloc[0]
    return None


def write(name: str, figures: Mapping[str, Figure], runs: pd.DataFrame, folder: Path, **tables: pd.DataFrame) -> list[Path]:
    """FOLDER/FIGURE.png and .pdf, NAME.csv (the runs that are drawn) and a NAME_TABLE.csv for each table. Under a figure stands
    what its runs used, and what ACC_end is if that is an axis."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file, figure in figures.items():
        axes = [label for axes in figure.axes for label in (axes.get_xlabel(), axes.get_ylabel())]
        lines = [provenance(runs), *([ACC_END] if "ACC_end" in " ".join(axes) else [])]
        figure.text(0.5, 0.0, "\n".join(lines), ha="center", va="top", fontsize=6, color="dimgray")
        for kind in ("png", "pdf"):
            paths.append(folder / f"{file}.{kind}")
            figure.savefig(paths[-1], dpi=150, bbox_inches="tight")
    for file, table in {name: runs, **{f"{name}_{key}": table for key, table in tables.items()}}.items():
        paths.append(folder / f"{file}.csv")
        table.to_csv(paths[-1], index=False)
    return paths

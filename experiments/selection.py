"""Which runs are drawn in one figure: those that are alike in everything except its axes and the seed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import pandas as pd

from inn_lab import tracking
from inn_lab.errors import ConfigError, near
from inn_lab.identity import IMPLIED, NOT_SCIENCE
from inn_lab.schema import Config
from inn_lab.tracking import meaning

NONE_FINISHED = "no such run has finished yet"
NAMES = {"run_id", "start", "record"}  # different in every run
SHOWN = 10  # values that a message lists at most
OWN = {"model": ("model.",), "data": ("data.", "objective."), "optimizer": ("optimizer.",), "schedule": ("schedule.",)}
OWN |= {"pruning._target_": ("pruning.",)}
SCALARS = {field.name for field in fields(Config) if field.type is not Any}  # R, lr, …: not the groups


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
    is compared among its runs; and so it is with what else is in `OWN`. Of runs that are the same in everything the newest is
    kept. A setting is a number where those of the runs kept are, whatever the others have in it: an export has these alone.

    Raises ConfigError if no finished run is left.
    """
    runs = runs[runs["state"].isin(["finished", "diverged", "pruned", "undefined"])]
    if runs.empty:
        raise ConfigError(NONE_FINISHED)
    runs = runs.assign(**{key: _filled(runs[key], value) for key, value in IMPLIED.items() if key in runs})
    for column, value in wanted.items():
        runs = chosen(runs, column, value)
    columns = settings(runs, axes)
    owners = {axis: own for axis, own in OWN.items() if axis in axes and axis in runs}
    shared = [column for column in columns if not column.startswith(sum(owners.values(), ()))]
    alike = runs[_same(runs, shared, _newest(runs))]
    for owner, prefixes in owners.items():
        own = [column for column in columns if column.startswith(prefixes)]
        alike = pd.concat(part[_same(part, own, _newest(part))] for _, part in alike.groupby(owner, dropna=False))
    distinct = [column for column in dict.fromkeys(["model", "seed", *columns, *axes]) if column in alike]
    kept = alike[alike["run_id"].isin(alike.sort_values("start").groupby(distinct, dropna=False)["run_id"].last())]
    if not (kept["state"] == "finished").any():
        raise ConfigError(NONE_FINISHED)
    differ = [f"{c}={'|'.join(map(str, runs[c].unique()))}" for c in shared if runs[c].nunique(dropna=False) > 1]
    note = f"{kept['run_id'].nunique()} of {runs['run_id'].nunique()} runs"
    return kept.assign(**{column: tracking.numbers(kept[column]) for column in distinct}), note + (
        f"; choose others by {' '.join(differ)}" if differ else ""
    )


def check_column(runs: pd.DataFrame, column: str, word: str) -> None:
    """Raises ConfigError for a column of which a run has no single value; `word` is what asked for it."""
    known = [name for name in runs if "/" not in name and name != "epoch"]
    if column not in known:
        differing = [name for name in known if name not in NAMES and runs[name].nunique(dropna=False) > 1]
        hint = f"; they differ in {', '.join(differing) or 'nothing'}"
        hint = near(column, known) if get_close_matches(column, known, cutoff=0.5) else hint
        raise ConfigError(f"{word}: the runs have no such column{hint}")


def chosen(runs: pd.DataFrame, column: str, value: str) -> pd.DataFrame:
    """The runs that have a value in a column. Raises ConfigError if there are none."""
    check_column(runs, column, f"{column}={value}")
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


def folder_of(wanted: Mapping[str, str]) -> str:
    """The choice as a folder's name ("" for none), so that its figures do not replace others."""
    return re.sub(r"[^\w=.,+-]", "_", ",".join(f"{key}={value}" for key, value in sorted(wanted.items())))[:200]


def _filled(column: pd.Series, value: object) -> pd.Series:
    """Params are text unless all of them are numbers, and a missing number is null."""
    if value is None:
        return column if pd.api.types.is_numeric_dtype(column) else column.fillna("null")
    return column.fillna(value if pd.api.types.is_numeric_dtype(column) else str(value))


def _newest(runs: pd.DataFrame) -> pd.Series:
    finished = runs[runs["state"] == "finished"]
    return (finished if len(finished) else runs).sort_values("start").iloc[-1]


def _same(runs: pd.DataFrame, columns: list[str], like: pd.Series) -> pd.Series:
    alike = pd.Series(True, index=runs.index)
    for column in columns:
        alike &= (runs[column] == like[column]) | (runs[column].isna() & pd.isna(like[column]))
    return alike

"""A study as it is drawn: its runs, what they say of its claims, and its figures. Files, the page and MLflow show the same."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from experiments import selection
from experiments.claims import claims_table, paper
from experiments.report import STYLE
from inn_lab import explain, tracking
from inn_lab.errors import ConfigError

HERE = Path(__file__).parent


def names() -> list[str]:
    """The reports: modules in this folder with the name of an experiment, and the user's own in the current folder."""
    return sorted({path.stem for path in explain.yamls("experiment") if module_of(path.stem)})


def module_of(name: str) -> str | None:
    """The module that reports on an experiment; None if there is none."""
    if (HERE / f"{name}.py").exists():
        return f"experiments.{name}"
    return name if Path(f"{name}.py").exists() else None


@dataclass(frozen=True)
class Study:
    """wanted: the choice among its runs; runs: those that are drawn; note: a sentence on those left out; tables: the report's
    `TABLES`; claims: see `claims_table`."""

    name: str
    wanted: Mapping[str, str]
    module: ModuleType
    runs: pd.DataFrame
    note: str
    tables: dict[str, pd.DataFrame]
    claims: pd.DataFrame

    def figures(self) -> dict[str, Figure]:
        """By file name. They are made anew by each call."""
        with matplotlib.rc_context(STYLE):
            return self.module.figures(self.runs, **self.tables)


def chosen(
    name: str, wanted: Mapping[str, str], database: Path | None, files: Sequence[Path] = ()
) -> tuple[ModuleType, pd.DataFrame, str] | None:
    """A report, the runs that it draws, and a sentence on the runs left out; None if it has no runs. Places are those of
    `tracking.read`."""
    module = importlib.import_module(module_of(name))
    runs = tracking.read(database, name, files)
    return None if runs.empty else (module, *selection.select(runs, module.AXES, wanted))


def study(name: str, wanted: Mapping[str, str], database: Path | None, files: Sequence[Path] = ()) -> Study | None:
    """What is drawn of an experiment; None if it has no runs. Raises ConfigError if these cannot be drawn."""
    found = chosen(name, wanted, database, files)
    if found is None:
        return None
    module, runs, note = found
    tables = {}
    for key, made in getattr(module, "TABLES", {}).items():
        tables[key] = made(runs) if callable(made) else tracking.table(database, runs["run_id"].unique(), made, files)
        if isinstance(made, str) and tables[key].empty:
            raise ConfigError(f"no run has left its {made} yet")
    return Study(name, wanted, module, runs, note, tables, claims_table(module.CLAIMS, runs, paper(name), **tables))


def csv_of(module: ModuleType) -> Iterable[str]:
    """The files among its runs' artifacts that a report reads."""
    return [made for made in getattr(module, "TABLES", {}).values() if isinstance(made, str)]

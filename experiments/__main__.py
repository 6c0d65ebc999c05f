"""`python -m experiments [NAME …] [KEY=VALUE …]`: draws the figures of each experiment that has runs, and judges its claims.

KEY=VALUE chooses among runs that differ: source=digits, scale=smoke, lr=1e-3, or sweep=FOLDER, one sweep of outputs/sweeps.
Without a choice the newest run's settings are drawn. The figures of a choice go to a folder of its own in outputs/figures.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import report, selection
from experiments.claims import claims_table, paper
from experiments.verdicts import AGREES, DIFFERS
from inn_lab import config, tracking
from inn_lab.errors import ConfigError, near

HERE = Path(__file__).parent


def names() -> list[str]:
    """The reports: the modules here that are named as a YAML in conf/experiment."""
    return sorted(path.stem for path in HERE.glob("*.py") if (HERE.parent / "conf/experiment" / f"{path.stem}.yaml").exists())


def draw(name: str, wanted: Mapping[str, str], outputs: Path, console: Console) -> bool:
    """Writes the figures, table and claims of one experiment; False if it has no runs."""
    module = importlib.import_module(f"experiments.{name}")
    runs = tracking.read(outputs, name)
    if runs.empty:
        return False
    runs, note = selection.select(runs, module.AXES, wanted)
    tables = {}
    for key, made in getattr(module, "TABLES", {}).items():
        tables[key] = made(runs) if callable(made) else tracking.table(outputs, runs["run_id"].unique(), made)
        if isinstance(made, str) and tables[key].empty:
            raise ConfigError(f"no run has left its {made} yet")
    console.print(Text.assemble((name, "bold"), f": {note}"))
    console.print(report.provenance(runs), style="dim")
    claims = claims_table(module.CLAIMS, runs, paper(name), **tables)
    table = Table(*(column for column in claims.columns if column != "measured_on"))
    for row in claims.drop(columns="measured_on").itertuples(index=False):
        table.add_row(*row, style=None if row.verdict in (AGREES, DIFFERS) else "dim")
    console.print(table)
    folder = outputs / "figures" / selection.folder_of(wanted)
    before = report.drawn(name, folder)
    if before and before != report.provenance(runs):
        console.print(f"  replaces what was drawn of: {before}", style="dim")
    for path in report.write(name, module.figures(runs, **tables), runs, folder, claims=claims, **tables):
        console.print(f"  {os.path.relpath(path)}")
    return True


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see python -m experiments --help")


def read(words: list[str]) -> tuple[list[str], dict[str, str], Path]:
    """The command line: names of reports, choices among runs, and the outputs folder. Raises ConfigError for a mistake."""
    parser = Words(prog="python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="NAME or KEY=VALUE", help=f"experiments ({', '.join(names())}), or choices")
    parser.add_argument("--outputs", help="the folder of the runs and figures (INN_LAB_OUTPUTS, outputs)")
    given = parser.parse_intermixed_args(words)
    chosen = [word for word in given.words if "=" not in word]
    for name in chosen:
        if name not in names():
            raise ConfigError(f"{name}: there is no such report{near(name, names())}")
    wanted: dict[str, str] = {}
    for word in given.words:
        key, equals, value = word.partition("=")
        if equals and not (key and value):
            raise ConfigError(f"{word}: a choice is KEY=VALUE, a column of the runs and its value; e.g. source=mnist")
        if equals and wanted.setdefault(key, value) != value:
            raise ConfigError(f"{key}={wanted[key]} {word}: a figure is of one choice; give one of them")
    return chosen, wanted, Path(config.outputs(given.outputs))


def main() -> None:
    """Draws what is asked for. Exit codes: 0 done, 2 nothing could be drawn, or one of the reports that were named could not
    (a line says why), 130 stopped by Ctrl-C."""
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
    try:
        chosen, wanted, outputs = read(sys.argv[1:])
        drawn, mistakes = False, []
        for name in chosen or names():
            try:
                drawn |= draw(name, wanted, outputs, console)
            except ConfigError as error:
                if chosen or isinstance(error, tracking.Unanswered):
                    raise
                mistakes.append(f"{name}: {error}")  # the others are drawn all the same
        if not drawn:
            none = f"no runs of {', '.join(chosen or names())} in {tracking.place(outputs)}"
            raise ConfigError(mistakes[0] if mistakes else f"{none}; run one: python -m inn_lab experiment=…")
        for mistake in mistakes:
            console.print(mistake)
    except OSError as error:
        sys.exit(mistake_in(f"figures cannot be drawn: {error}; make room, change the permissions, or give --outputs"))
    except ConfigError as error:
        sys.exit(mistake_in(error))
    except KeyboardInterrupt:
        sys.exit(130)


def mistake_in(what: object) -> int:
    print(f"experiments: {what}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()

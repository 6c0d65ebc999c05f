"""`python -m experiments [NAME …] [KEY=VALUE …]`: draws the figures of each experiment that has runs, and judges its claims.
`inn-lab figures` is the same.

KEY=VALUE chooses among runs that differ: source=digits, scale=smoke, lr=1e-3, or sweep=FOLDER, one sweep of outputs/sweeps.
Without a choice the newest run's settings are drawn. The figures of a choice go to a folder of its own in outputs/figures.

--html makes pages instead of files: outputs/report/index.html of all studies, or NAME.html of each that is named. A page is one
file with figures, claims and runs; it needs no server and no network. `inn-lab report` is the same.

`curves EXPERIMENT …` draws any experiment's runs by epoch, by whatever varied in the newest sweep; a run without an experiment
is one of `adhoc`. --compare COLUMN sets the two values of a column (sweep, commit, a key) side by side.

Runs are those of the database in outputs. --runs FOLDER reads exported runs alone, --runs FOLDER --outputs OUTPUTS both; a run
that is in both counts once. --export [FOLDER] draws nothing: it adds the runs that would be drawn to FOLDER/NAME.parquet.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import curves, files, report, selection
from experiments.drawing import Study, chosen, csv_of, names, study
from experiments.verdicts import AGREES, DIFFERS
from inn_lab import config, explain, tracking, ui
from inn_lab.errors import ConfigError, near
from inn_lab.records import write_atomically

EXPORTED = "docs/runs"  # the runs that the repository holds


@dataclass(frozen=True)
class Asked:
    """The choices on the command line."""

    names: list[str]
    wanted: dict[str, str]
    outputs: Path
    database: Path | None  # the outputs whose runs are read; None for exported runs alone
    folders: list[Path]  # of exported runs
    export: Path | None
    curves: bool = False  # of any experiment
    compare: str | None = None  # the column of which two values are set side by side
    html: bool = False  # pages instead of files
    width: float | None = None  # of figures, in inches

    def files(self, name: str) -> list[Path]:
        return [folder / f"{name}.parquet" for folder in self.folders]

    def places(self) -> str:
        return " and ".join([*([tracking.place(self.database)] if self.database else []), *map(str, self.folders)])


def export(name: str, asked: Asked, console: Console) -> bool:
    """Adds the runs behind one experiment's figures to a file; False if it has no runs."""
    files = asked.files(name)
    found = chosen(name, asked.wanted, asked.database, files)
    if found is None:
        return False
    module, runs, note = found
    kept = list(runs["run_id"].unique())
    csv = {made: tracking.texts(asked.database, kept, made, files) for made in csv_of(module)}
    file = asked.export / f"{name}.parquet"
    added = tracking.save(file, [run for run in tracking.stored(asked.database, name, files) if run.run_id in kept], csv)
    console.print(Text.assemble((name, "bold"), f": {note}; {added} added to {os.path.relpath(file)}"))
    return True


def draw(name: str, asked: Asked, console: Console) -> bool:
    """Writes the figures, table and claims of one experiment; False if it has no runs."""
    drawn = study(name, asked.wanted, asked.database, asked.files(name))
    if drawn is None:
        return False
    console.print(Text.assemble((name, "bold"), f": {drawn.note}"))
    console.print(report.provenance(drawn.runs), style="dim")
    claims = drawn.claims.drop(columns="measured_on")
    table = Table(*claims.columns)
    for row in claims.itertuples(index=False):
        table.add_row(*row, style=None if row.verdict in (AGREES, DIFFERS) else "dim")
    console.print(table)
    folder = asked.outputs / "figures" / selection.folder_of(asked.wanted)
    before = files.drawn(name, folder)
    if before and before != report.provenance(drawn.runs):
        console.print(f"  replaces what was drawn of: {before}", style="dim")
    for path in files.write(name, drawn.figures(), drawn.runs, folder, asked.width, claims=drawn.claims, **drawn.tables):
        console.print(f"  {os.path.relpath(path)}")
    return True


def gather(studies: list[Study], name: str, asked: Asked, console: Console) -> bool:
    """Adds an experiment to those of which pages are made; False if it has no runs."""
    found = study(name, asked.wanted, asked.database, asked.files(name))
    if found is not None:
        studies.append(found)
        console.print(Text.assemble((name, "bold"), f": {found.note}"))
    return found is not None


def write_pages(studies: Sequence[Study], left_out: Sequence[str], asked: Asked) -> list[Path]:
    """Writes a page for each study that was named, or one of all."""
    from experiments.page import page  # Jinja2, which the files do without

    folder = asked.outputs / "report" / selection.folder_of(asked.wanted)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {f"{one.name}.html": ([one], []) for one in studies} if asked.names else {"index.html": (studies, left_out)}
    for file, (shown, others) in paths.items():
        write_atomically(folder / file, page(shown, others, links(asked, shown)).encode())
    return [folder / file for file in paths]


def links(asked: Asked, studies: Sequence[Study]) -> dict[str, str]:
    """The address of each run in MLflow's pages, by id, if a server has them all."""
    first = next((one.runs["run_id"].iloc[0] for one in studies), None)
    if not asked.database or asked.folders or first is None or not (there := ui.address(asked.database, first)):
        return {}
    found = {}
    for one in studies:
        of_study = f"{there}/#/experiments/{tracking.experiment_id(asked.database, one.name)}"
        found |= {run: f"{of_study}/runs/{run}?{ui.PAGE}" for run in one.runs["run_id"].unique()}
    return found


def draw_curves(name: str, asked: Asked, console: Console) -> bool:
    """Writes the curves of any experiment, and where they end; False if it has no runs."""
    runs = tracking.read(asked.database, name, asked.files(name))
    if runs.empty:
        return False
    for column, value in asked.wanted.items():
        runs = selection.chosen(runs, column, value)
    axes = [axis for axis in curves.axes_of(runs) if axis != asked.compare]
    side = [asked.compare] if asked.compare else []
    if asked.compare:
        selection.check_column(runs, asked.compare, f"--compare {asked.compare}")
    runs, note = selection.select(runs, (*axes, *side), asked.wanted)
    console.print(Text.assemble((name, "bold"), f": {note}"))
    console.print(report.provenance(runs), style="dim")
    tables = {"ends": curves.compared(runs, axes, asked.compare) if asked.compare else curves.ends(runs, axes)}
    table = Table(*tables["ends"].columns)
    for row in tables["ends"].itertuples(index=False):
        table.add_row(*map(str, row))
    console.print(table)
    folder, file = asked.outputs / "figures" / selection.folder_of(asked.wanted), f"{name}_curves"
    for path in files.write(file, {file: curves.figure(runs, [*side, *axes])}, runs, folder, asked.width, **tables):
        console.print(f"  {os.path.relpath(path)}")
    return True


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see python -m experiments --help")


def read(words: list[str]) -> Asked:
    """Reads the command line. Raises ConfigError for a mistake."""
    parser = Words(prog="python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="NAME or KEY=VALUE", help=f"experiments ({', '.join(names())}), or choices")
    parser.add_argument("--outputs", help="the folder of the runs and figures (INN_LAB_OUTPUTS, outputs)")
    parser.add_argument(
        "--runs", metavar="FOLDER", action="append", default=[], help="exported runs; several times for several"
    )
    parser.add_argument(
        "--export", metavar="FOLDER", nargs="?", const=EXPORTED, help=f"where runs are exported to ({EXPORTED})"
    )
    parser.add_argument("--html", action="store_true", help="pages instead of files")
    parser.add_argument("--width", metavar="INCHES", help="of the figures, for a paper: e.g. 3.4 for one column, 7 for two")
    parser.add_argument("--compare", metavar="COLUMN", help="with curves: the two values of a column, side by side")
    given = parser.parse_intermixed_args(words)
    for folder in given.runs:
        if not Path(folder).is_dir():
            raise ConfigError(f"--runs {folder}: there is no such folder; one that --export has written, e.g. {EXPORTED}")
    if given.export is not None and (given.export in names() or "=" in given.export or not given.export.strip()):
        raise ConfigError(
            f"--export {given.export}: a folder comes next, or nothing; name the experiments and choices before it"
        )
    named = [word for word in given.words if "=" not in word]
    any_of = named[:1] == ["curves"]
    known = names()
    if any_of:
        named, known = named[1:], ["adhoc", *(path.stem for path in explain.yamls("experiment"))]
        if not named or given.export:
            raise ConfigError(f"curves: name the experiments that are drawn{near('', known)}")
    elif given.compare:
        raise ConfigError(f"--compare {given.compare}: it goes with curves EXPERIMENT")
    if given.html and (any_of or given.export is not None):
        raise ConfigError("--html: a page is made of reports; leave out curves and --export")
    if given.width is not None and (given.html or given.export is not None):
        raise ConfigError("--width: figures have it that are files; leave out --html and --export")
    for name in named:
        if name not in known:
            raise ConfigError(f"{name}: there is no such {'experiment' if any_of else 'report'}{near(name, known)}")
    wanted: dict[str, str] = {}
    for word in given.words:
        key, equals, value = word.partition("=")
        if equals and not (key and value):
            raise ConfigError(f"{word}: a choice is KEY=VALUE, a column of the runs and its value; e.g. source=mnist")
        if equals and wanted.setdefault(key, value) != value:
            raise ConfigError(f"{key}={wanted[key]} {word}: a figure is of one choice; give one of them")
    outputs = Path(config.outputs(given.outputs))
    database = None if given.runs and given.outputs is None else outputs
    export = given.export and Path(given.export)
    folders = [Path(folder) for folder in given.runs]
    return Asked(named, wanted, outputs, database, folders, export, any_of, given.compare, given.html, inches(given.width))


def inches(text: str | None) -> float | None:
    """The width of figures. Raises ConfigError for one that no figure can have."""
    if text is None:
        return None
    with suppress(ValueError):
        if 2 <= float(text) <= 40:
            return float(text)
    raise ConfigError(f"--width {text}: a number of inches between 2 and 40; a column has about 3.4, a page's two have 7")


def main() -> None:
    """Draws or exports what was asked for.

    Exit codes: 0 done; 2 nothing could be done, or a report that was named could not (a line says why); 130 stopped by Ctrl-C.
    """
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
    try:
        asked = read(sys.argv[1:])
        studies: list[Study] = []  # of which pages are made
        one = draw_curves if asked.curves else export if asked.export else partial(gather, studies) if asked.html else draw
        drawn, mistakes = False, []
        for name in asked.names or names():
            try:
                drawn |= one(name, asked, console)
            except ConfigError as error:
                if asked.names or isinstance(error, tracking.Unanswered):
                    raise
                mistakes.append(f"{name}: {error}")  # the others are drawn all the same
        if not drawn:
            none = f"no runs of {', '.join(asked.names or names())} in {asked.places()}"
            raise ConfigError(mistakes[0] if mistakes else f"{none}; run one: python -m inn_lab experiment=…")
        for mistake in mistakes:
            console.print(mistake)
        for path in write_pages(studies, mistakes, asked) if asked.html else ():
            console.print(f"  {os.path.relpath(path)}")
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

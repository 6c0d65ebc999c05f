"""Draws docs/results.md anew from docs/runs: the figures, the tables of claims, and those of a report.

    python docs/redraw.py

It follows each command `python -m experiments NAME …` of the page, copies the figures that the page has, and fills each table
of claims with what the last command before it says. Claims of which nothing has been run are left out. A table whose header
names columns of one of that report's `TABLES` gets its rows.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.drawing import Study

DOCS = Path(__file__).resolve().parent
COMMAND = re.compile(r" {4}python -m experiments (\w+)((?: [\w.]+=\S+)*)$")
HEADER = "| source | claim | measured | verdict |"


def followed(line: str) -> "Study | None":
    """The study that a line of the page draws, from docs/runs; None if it is no such command."""
    from experiments.drawing import study

    if not (command := COMMAND.match(line)):
        return None
    name, wanted = command[1], dict(word.split("=", 1) for word in command[2].split())
    found = study(name, wanted, None, [DOCS / "runs" / f"{name}.parquet"])
    if found is None:
        raise SystemExit(f"docs/runs has no runs of {name}; export them: python -m experiments {name} --export")
    return found


def rows(study: "Study") -> list[str]:
    """The claims of a study as a table's rows."""
    claims = study.claims[~study.claims["measured"].str.startswith("no runs")].drop(columns="measured_on")
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in claims.itertuples(index=False)]


def cells(study: "Study", header: str) -> list[str] | None:
    """The rows of that table of a study which has all columns of a header; None if none has."""
    columns = [name.strip() for name in header.strip("|").split("|")]
    for table in study.tables.values():
        if set(columns) <= set(table):
            return ["| " + " | ".join(map(told, row)) + " |" for row in table[columns].itertuples(index=False)]
    return None


def told(value: object) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3f}"


def redrawn(page: str) -> Iterator["str | Study"]:
    """The page's lines, its tables of claims filled anew; after each command its study."""
    study, filled = None, False
    for line in page.splitlines():
        if filled and line.startswith("|"):
            continue
        yield line
        found_rows = None
        if line == HEADER:
            if study is None:
                raise SystemExit("a table of claims stands before any command")
            found_rows = rows(study)
        elif line.startswith("| ") and study:
            found_rows = cells(study, line)
        filled = found_rows is not None
        if found_rows is not None:
            yield from ["|" + "---|" * (line.count("|") - 1), *found_rows]
        if found := followed(line):
            study = found
            yield study


def main() -> None:
    from experiments import files

    page = DOCS / "results.md"
    parts = list(redrawn(page.read_text()))
    text = "".join(f"{part}\n" for part in parts if isinstance(part, str))
    page.write_text(text)
    for study in (part for part in parts if not isinstance(part, str)):
        with tempfile.TemporaryDirectory() as folder:
            files.write(study.name, study.figures(), study.runs, Path(folder))
            for drawn in Path(folder).glob("*.png"):
                if f"(figures/{drawn.name})" in text:
                    shutil.copy(drawn, DOCS / "figures")


if __name__ == "__main__":
    sys.path.insert(0, str(DOCS.parent))
    main()

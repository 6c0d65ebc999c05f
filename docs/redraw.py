"""Draws docs/results.md anew from docs/runs: the figures, and the tables of claims.

    python docs/redraw.py

It follows each command `python -m experiments NAME …` of the page, copies the figures that the page has, and fills each table
of claims with what the last command before it says. Claims of which nothing has been run are left out.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).resolve().parent
COMMAND = re.compile(r" {4}python -m experiments (\w+)((?: [\w.]+=\S+)*)$")
HEADER = "| source | claim | measured | verdict |"


def drawn(name: str, words: list[str], outputs: Path) -> list[str]:
    """The rows of a study's claims. Its figures are in `outputs`."""
    from rich.console import Console

    from experiments.__main__ import draw, read

    os.environ["INN_LAB_OUTPUTS"] = str(outputs)
    with open(os.devnull, "w") as nowhere:
        if not draw(name, read([name, *words, "--runs", str(DOCS / "runs")]), Console(file=nowhere)):
            raise SystemExit(f"docs/runs has no runs of {name}; export them: python -m experiments {name} --export")
    (claims,) = outputs.rglob(f"{name}_claims.csv")
    table = pd.read_csv(claims).drop(columns="measured_on")
    table = table[~table["measured"].str.startswith("no runs")]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in table.itertuples(index=False)]


def redrawn(page: str, outputs: Path) -> str:
    """The page with its tables of claims filled anew. The figures of each command are in a folder of `outputs`."""
    lines: list[str] = []
    rows, old = None, False
    for line in page.splitlines():
        if command := COMMAND.match(line):
            rows = drawn(command[1], command[2].split(), outputs / str(len(lines)))
        if line == HEADER:
            if rows is None:
                raise SystemExit("a table of claims stands before any command")
            lines += [line, "|---|---|---|---|", *rows]
            old = True
        old &= line.startswith("|")
        if not old:
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    page, figures = DOCS / "results.md", DOCS / "figures"
    with tempfile.TemporaryDirectory() as outputs:
        page.write_text(redrawn(page.read_text(), Path(outputs)))
        for figure in Path(outputs).rglob("*.png"):
            if (figures / figure.name).exists():
                shutil.copy(figure, figures)


if __name__ == "__main__":
    sys.path.insert(0, str(DOCS.parent))
    main()

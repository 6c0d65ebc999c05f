"""Draws docs/results.md anew from docs/runs: the figures, and the tables of claims.

    python docs/redraw.py

Each command `python -m experiments NAME …` of the page is followed, and each table of claims after it filled with what the
command says. Figures of the page are copied to docs/figures.
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
HEADER = ["| source | claim | measured | verdict |", "|---|---|---|---|"]


def drawn(name: str, words: list[str], folder: Path) -> list[str]:
    """The rows of a study's claims; its figures are written to `folder`."""
    from rich.console import Console

    from experiments.__main__ import draw, read

    with open(os.devnull, "w") as nowhere:
        asked = read([name, *words, "--runs", str(DOCS / "runs")])
        if not draw(name, asked, Console(file=nowhere)):
            raise SystemExit(f"docs/runs has no runs of {name}: run it, and python -m experiments {name} --export")
    (claims,) = folder.rglob(f"{name}_claims.csv")
    table = pd.read_csv(claims).drop(columns="measured_on")
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in table.itertuples(index=False)]


def redrawn(page: str, outputs: Path) -> str:
    """The page with its tables of claims filled anew. The figures are in the folder `outputs`."""
    os.environ["INN_LAB_OUTPUTS"] = str(outputs)
    lines, rows, at = [], None, iter(page.splitlines())
    for line in at:
        lines.append(line)
        if command := COMMAND.match(line):
            figures = outputs / f"{len(lines)}"
            os.environ["INN_LAB_OUTPUTS"] = str(figures)
            rows = drawn(command[1], command[2].split(), figures)
        elif line == HEADER[0] and rows is not None:
            lines += [HEADER[1], *rows]
            while line.startswith("|"):
                line = next(at)
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    page = DOCS / "results.md"
    with tempfile.TemporaryDirectory() as folder:
        page.write_text(redrawn(page.read_text(), Path(folder)))
        for figure in Path(folder).rglob("*.png"):
            if (DOCS / "figures" / figure.name).exists():
                shutil.copy(figure, DOCS / "figures" / figure.name)


if __name__ == "__main__":
    sys.path.insert(0, str(DOCS.parent))
    main()

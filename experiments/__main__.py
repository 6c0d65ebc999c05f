"""`python -m experiments [NAME …] [KEY=VALUE …]`: draws the figures of each experiment that has runs, and judges its claims.

KEY=VALUE chooses among runs that differ (source=digits, scale=smoke, lr=0.001); without it the newest run's settings are taken.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments import report
from experiments.verdicts import AGREES, DIFFERS
from inn_lab import config, tracking
from inn_lab.config import ConfigError, near

HERE = Path(__file__).parent


def names() -> list[str]:
    """The reports: the modules here that are named as a YAML in conf/experiment."""
    return sorted(path.stem for path in HERE.glob("*.py") if (HERE.parent / "conf/experiment" / f"{path.stem}.yaml").exists())


def draw(name: str, wanted: dict[str, str], outputs: Path, console: Console) -> bool:
    """Writes the figures, table and claims of one experiment; False if it has no runs."""
    module = importlib.import_module(f"experiments.{name}")
    runs = tracking.read(outputs, name)
    if runs.empty:
        return False
    runs, note = report.select(runs, module.AXES, wanted)
    tables = {
        key: made(runs) if callable(made) else tracking.table(outputs, runs["run_id"].unique(), made)
        for key, made in getattr(module, "TABLES", {}).items()
    }
    console.print(f"[bold]{name}[/bold]: {note}", highlight=False)
    console.print(report.provenance(runs), style="dim", highlight=False)
    claims = report.claims_table(module.CLAIMS, runs, report.paper(name), **tables)
    table = Table(*(column for column in claims.columns if column != "measured_on"))
    for row in claims.drop(columns="measured_on").itertuples(index=False):
        table.add_row(*row, style=None if row.verdict in (AGREES, DIFFERS) else "dim")
    console.print(table)
    for path in report.write(name, module.figures(runs, **tables), runs, outputs / "figures", claims=claims, **tables):
        console.print(f"  {os.path.relpath(path)}", highlight=False)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME or KEY=VALUE", help=f"experiments ({', '.join(names())}), or choices")
    parser.add_argument("--outputs", help="the folder of the runs and figures (INN_LAB_OUTPUTS, outputs)")
    arguments = parser.parse_args()
    wanted = dict(word.split("=", 1) for word in arguments.names if "=" in word)
    chosen = [word for word in arguments.names if "=" not in word]
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        for name in chosen:
            if name not in names():
                raise ConfigError(f"{name}: there is no such report{near(name, names())}")
        drawn, outputs = False, Path(config.outputs(arguments.outputs))
        for name in chosen or names():
            try:
                drawn |= draw(name, wanted, outputs, console)
            except ConfigError as error:
                if chosen:
                    raise
                console.print(f"[bold]{name}[/bold]: {error}", highlight=False)  # the others are drawn all the same
        if not drawn:
            where = tracking.place(outputs)
            raise ConfigError(f"no runs of {', '.join(chosen or names())} in {where}; run one: python -m inn_lab experiment=…")
    except ConfigError as error:
        print(f"experiments: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

"""What a sweep's parent run says of it in MLflow: its command, how its jobs ended, its figures and claims."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hydra.utils import get_method
from omegaconf import DictConfig

from inn_lab import explain
from inn_lab.records import Outcome
from inn_lab.standing import duration

if TYPE_CHECKING:
    from inn_lab.tracking import Run

MOST = 30  # rows of a table
CELL = 300  # characters of one
NOTE = 7500  # characters; MLflow takes 8000


def tell(run: "Run", config: DictConfig, report: str | None, titles: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    """Logs figures and claims as `report` draws them (`experiments.logged.log` or another function by its name), and a
    description of the sweep with the figures in it.

    What cannot be drawn is named in a line: all jobs have ended, and a sweep does not fail for a picture.
    """
    from inn_lab import tracking

    experiment, sweep = tracking.experiment_name(config.hydra), Path(config.hydra.sweep.dir).name
    figures, note, claims = [], "", []
    if report:
        try:
            figures, note, claims = get_method(report)(run, config.outputs, experiment, sweep)
        except Exception as error:  # a report's, matplotlib's, MLflow's, whatever it is
            print(f"no figures in MLflow: {str(error).splitlines()[0] if str(error) else type(error).__name__}", flush=True)
    ends = [(str(job), words, *cells(ended)) for job, (words, ended) in enumerate(zip(titles, outcomes, strict=True))]
    parts = [  # of the first MLflow shows some lines, of the rest no more until it is asked
        f"**{counted(ended.state for ended in outcomes)}**" + f" · claims: {counted(c[-1] for c in claims)}" * bool(claims),
        *asked(config),
        *(f"![{file}](get-artifact?path={quote(file)}&run_uuid={run.id})" for file in figures if run.id),
        table(("job", "what varies", "state", "ACC_end", "time"), ends),
        f"Drawn are {note}." if figures else "",
        table(("source", "claim", "measured", "verdict"), claims),
    ]
    run.tag(**{tracking.NOTE: fitting(filter(None, parts))})


def asked(config: DictConfig) -> list[str]:
    """What a sweep asks, and its command."""
    from inn_lab import tracking

    question, _ = explain.question(tracking.experiment_name(config.hydra))
    command = tracking.source([*config.hydra.overrides.task, "-m"])["mlflow.source.name"]
    return [question, f"`{command}`"]


def counted(words: Iterable[str]) -> str:
    """ "3 finished, 1 failed"."""
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


def cells(ended: Outcome) -> tuple[str, str, str]:
    """How a job ended, as a table shows it: state, ACC_end, time."""
    accuracy = "" if ended.acc_end is None else f"{ended.acc_end:.3f}"
    return ended.state + " already" * ended.already, accuracy, "" if ended.seconds is None else duration(ended.seconds)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, of the first `MOST` rows; empty without rows."""
    rows = list(rows)
    lines = [columns, ["---"] * len(columns), *rows[:MOST]]
    shown = "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)
    return (shown + f"\n\nand {len(rows) - MOST} more" * (len(rows) > MOST)) if rows else ""


def cell(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


def fitting(parts: Iterable[str]) -> str:
    """The parts below each other, cut at the end of a line to what MLflow takes."""
    text = "\n\n".join(parts)
    return text if len(text) <= NOTE else f"{text[:NOTE].rpartition(chr(10))[0]}\n\n…"

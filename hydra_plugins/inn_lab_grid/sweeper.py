"""Hydra's sweeper for the lab: an experiment's own grids, and one MLflow parent run over the jobs of a sweep."""

import itertools
import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.utils import JobReturn

from hydra_plugins.inn_lab_grid import story
from hydra_plugins.inn_lab_grid.shared import MOST, LabSweeper, axes, lost, nothing_run, of, show_table, tables, words
from inn_lab.config import title
from inn_lab.errors import ConfigError

if TYPE_CHECKING:
    from inn_lab.identity import Code
    from inn_lab.records import Outcome


@dataclass
class GridSweeperConf:
    _target_: str = "hydra_plugins.inn_lab_grid.sweeper.GridSweeper"
    grids: list[dict[str, Any]] = field(default_factory=list)
    report: str | None = "experiments.logged.log"  # what draws a sweep at its end (`story.tell`); null: nothing does


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="inn_lab")


class GridSweeper(LabSweeper):
    """Runs every combination of the values given."""

    def __init__(self, grids: list[dict[str, Any]], report: str | None = None) -> None:
        self.grids, self.report = grids, report

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        jobs = product(self.tables(arguments))
        print(f"checking {of(len(jobs))}", flush=True)
        self.foresee(axes(jobs))

        from inn_lab import again, runner, tracking

        checked, undefined = self.check(jobs)
        if len(undefined) == len(jobs):
            raise nothing_run(f"none of the {len(jobs)} jobs can be defined", undefined)
        if undefined:
            print(f"{len(undefined)} of the {len(jobs)} jobs cannot be defined, and will be recorded as undefined:", flush=True)
            print("\n".join(f"  {line}" for line in undefined), flush=True)
        outputs, resume, experiment = self.config.outputs, self.config.resume, self.experiment
        self.record()
        there = again.there(outputs, experiment, checked, resume)
        self.foreseen.quick |= there.done
        for line in there.words(len(jobs), resume):
            print(line, flush=True)
        record, code = again.of_sweep(outputs, experiment, checked, resume)
        with tracking.sweep(self.config, record, code, len(jobs), self.foreseen.axes) as run:
            results, outcomes = self.launch(jobs)
            missing = lost(outcomes)
            titles = [title(job, self.foreseen.axes) for job in jobs]
            story.tell(run, self.config, self.report, titles, outcomes)
            run.end("FINISHED", "finished", f"{missing} of {len(jobs)} jobs failed" if missing else None)
        show(titles, outcomes, [code for _, code in checked])
        folder = Path(self.config.hydra.sweep.dir)
        print(f"its figures:\n  {runner.drawn_by(outputs, experiment, sweep=folder.name)}", flush=True)
        if missing:
            sys.exit(1)
        return results


def show(titles: list[str], outcomes: list["Outcome"], codes: list["Code"]) -> None:
    """The table at the end of a sweep, and below it what there is to say of single jobs."""
    rows, notes = [], []
    for number, (job, ended, code) in enumerate(zip(titles, outcomes, codes, strict=True)):
        rows.append((str(number), job, *story.cells(ended)))
        if ended.reason or (ended.already and ended.code != code.digest):
            notes.append(f"job {number} · {job} · {ended.words(code)}")
    show_table(("job", "", "state", "ACC_end", "time"), rows)
    counts = Counter(ended.state for ended in outcomes)
    before = sum(ended.already for ended in outcomes)
    total = ", ".join(f"{count} {state}" for state, count in counts.items()) + f" ({before} already)" * bool(before)
    print(*notes, total, sep="\n", flush=True)


def combine(grids: list[dict[str, str]], arguments: list[str], parser: OverridesParser) -> list[list[str]]:
    """The overrides of each job, from an experiment's grids and the command line's arguments."""
    return product(tables(grids, arguments, parser))


def product(tables: list[list[Override]]) -> list[list[str]]:
    """The overrides of each job. No job stands there twice."""
    jobs: list[tuple[str, ...]] = []
    for found in tables:
        if (n := len(jobs) + math.prod(map(_count, found))) > MOST:
            typed = " ".join(str(o.input_line) for o in found if o.is_sweep_override())
            raise ConfigError(f"{typed}: {n} jobs, and a sweep has at most {MOST}; give fewer values")
        jobs += itertools.product(*map(words, found))
    if not jobs:
        empty = " ".join(str(o.input_line) for found in tables for o in found if o.is_sweep_override() and not _count(o))
        raise ConfigError(f"{empty}: it holds no value; give some, as R=0.1,0.2 or seed=range(0,3)")
    return [list(job) for job in dict.fromkeys(jobs)]


def _count(override: Override) -> int:
    """How many overrides one stands for. No list is made: a range may be endless."""
    values = override.value() if override.is_sweep_override() else None
    if not isinstance(values, RangeSweep):
        return len(words(override))
    if not values.step:
        raise ConfigError(f"{override.input_line}: a range's step is not 0; e.g. {override.get_key_element()}=range(0,3)")
    return max(0, math.ceil(((values.stop or 0) - (values.start or 0)) / values.step))

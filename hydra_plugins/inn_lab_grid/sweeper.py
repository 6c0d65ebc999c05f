"""Hydra's sweeper for the lab: an experiment's own grids, and one MLflow parent run over the jobs of a sweep."""

import itertools
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.inn_lab_grid.compose import Composer
from hydra_plugins.inn_lab_grid.contract import Foreseen
from inn_lab.config import check, check_choices, is_timed, title
from inn_lab.errors import ConfigError, NotHere
from inn_lab.explain import explain

if TYPE_CHECKING:
    from inn_lab.identity import Code
    from inn_lab.records import Outcome


@dataclass
class GridSweeperConf:
    _target_: str = "hydra_plugins.inn_lab_grid.sweeper.GridSweeper"
    grids: list[dict[str, Any]] = field(default_factory=list)
    report: str | None = "experiments.logged.log"  # what draws a sweep at its end (`story.tell`); null: nothing does


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="inn_lab")


MOST = 10_000  # jobs of a sweep
REPEATS = "seed"  # sweeping over this key repeats a grid rather than taking its place
WORD = 10  # seconds of looking at jobs after which it is said how far it has come


class GridSweeper(Sweeper):
    """Runs every combination of the values given.

    An experiment's YAML holds its own grids (`hydra.sweeper.grids`, a list of `key: "value,value"` tables, run one after the
    other). The command line has the last word:

    - a sweep on the command line (`R=0.1,0.2`) takes the grids' place; one over seeds alone repeats them;
    - a single value (`n_weights=100000`) takes the place of that axis, and drops a grid that is fixed at another value of it.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Any  # one of the lab's

    def __init__(self, grids: list[dict[str, Any]], report: str | None = None) -> None:
        self.grids, self.report = grids, report

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        grids = [{key: f"{key}={'null' if value is None else value}" for key, value in grid.items()} for grid in self.grids]
        jobs = combine(grids, arguments, parser)
        print(f"checking {of(len(jobs))}", flush=True)
        self.foreseen = self.launcher.foreseen = Foreseen(Composer(loader, self.config), axes(jobs))

        from hydra_plugins.inn_lab_grid import story
        from inn_lab import again, runner, tracking

        checked = self._check(jobs)
        outputs, resume, experiment = self.config.outputs, self.config.resume, tracking.experiment_name(self.config.hydra)
        print(f"recording in {tracking.place(outputs)}", flush=True)  # MLflow takes seconds to open
        tracking.recover(outputs)
        there = again.there(outputs, experiment, checked, resume)
        self.foreseen.quick |= there.done
        for line in there.words(len(jobs), resume):
            print(line, flush=True)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        tracking.experiment_id(outputs, experiment)  # and with it the database, so that no two jobs make it
        record, code = again.of_sweep(outputs, experiment, checked, resume)
        with tracking.sweep(self.config, record, code, len(jobs), self.foreseen.axes) as run:
            results = list(self.launcher.launch(jobs, initial_job_idx=0))
            tracking.recover(outputs)  # the runs of jobs that died
            outcomes = [outcome(result) for result in results]
            lost = sum(o.state in ("failed", "killed") for o in outcomes)
            titles = [title(job, self.foreseen.axes) for job in jobs]
            story.tell(run, self.config, self.report, titles, outcomes)
            run.end("FINISHED", "finished", f"{lost} of {len(jobs)} jobs failed" if lost else None)
        show(titles, outcomes, [code for _, code in checked])
        print(f"its figures:\n  {runner.drawn_by(outputs, experiment, sweep=folder.name)}", flush=True)
        if lost:
            sys.exit(1)
        return results

    def _check(self, jobs: list[list[str]]) -> list[tuple[str, "Code"]]:
        """Composes every job before the first one starts, and returns their identities and codes.

        Raises ConfigError, with a line for each, if one is no valid configuration, or none can be defined. Those that cannot be
        defined beside others that can are listed; they will be recorded as such.
        """
        from inn_lab import again, parts, tracking
        from inn_lab.identity import code

        checked: list[tuple[str, Code]] = []
        wrong: list[str] = []
        undefined: list[str] = []
        data: dict[str, Any] = {}
        here, foreseen, said = not self.launcher.elsewhere, self.foreseen, time.monotonic()
        for number, overrides in enumerate(jobs):
            if time.monotonic() - said > WORD:
                said = time.monotonic()
                print(f"{number} of {of(len(jobs))} checked", flush=True)
            words = f"job {number} · {title(overrides, foreseen.axes)}"
            try:
                cfg = foreseen.compose(overrides)
                check_choices(cfg.hydra.runtime.choices)
                if cfg.outputs != self.config.outputs:
                    raise ConfigError(f"outputs={cfg.outputs}: a sweep has one folder; run a command for each")
                with open_dict(cfg):
                    del cfg["hydra"]
                check(cfg)
                tracking.settle(cfg)
                foreseen.timed |= is_timed(cfg)
                device = parts.pick_device(cfg.trainer) if here else None
                if here:
                    foreseen.devices.add(device)
                checked.append((again.identify(cfg, device), code(cfg)))
            except (ConfigError, HydraException, OmegaConfBaseException) as error:
                wrong.append(f"{words} · {explain(error)}")
                continue
            try:
                parts.define(cfg, data, device)
            except NotHere as error:
                if here:
                    wrong.append(f"{words} · {error}")
            except ConfigError as error:
                undefined.append(f"{words} · {error}")
                foreseen.quick.add(number)
        if wrong or len(undefined) == len(jobs):
            found, which = wrong or undefined, f"the {len(jobs)} jobs"
            what = f"{len(wrong)} of {which} are not valid" if wrong else f"none of {which} can be defined"
            raise ConfigError("\n  ".join([f"{what}; nothing was run", *found]))
        if undefined:
            print(f"{len(undefined)} of the {len(jobs)} jobs cannot be defined, and will be recorded as undefined:", flush=True)
            print("\n".join(f"  {line}" for line in undefined), flush=True)
        return checked


def outcome(result: JobReturn) -> "Outcome":
    """How a job ended, whatever launcher ran it."""
    from inn_lab.records import Outcome

    try:
        return result.return_value
    except Exception as error:  # what a job raised comes out of Hydra's result
        return Outcome("failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])


def of(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def axes(jobs: list[list[str]]) -> list[str]:
    """The keys that vary among jobs, in the order of their overrides."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set(itertools.chain(*jobs))
    return list(dict.fromkeys(word.partition("=")[0] for job in jobs for word in job if word not in common))


def show(titles: list[str], outcomes: list["Outcome"], codes: list["Code"]) -> None:
    """The table at the end of a sweep, and below it what there is to say of single jobs. A narrow terminal cuts nothing."""
    from rich.console import Console
    from rich.table import Column, Table

    from hydra_plugins.inn_lab_grid.story import cells

    columns = [Column(name, no_wrap=True) for name in ("job", "state", "ACC_end", "time")]
    table = Table(columns[0], Column(overflow="fold"), *columns[1:], box=None, pad_edge=False)
    notes = []
    for number, (words, ended, code) in enumerate(zip(titles, outcomes, codes, strict=True)):
        table.add_row(str(number), words, *cells(ended))
        if ended.reason or (ended.already and ended.code != code.digest):
            notes.append(f"job {number} · {words} · {ended.words(code)}")
    Console(file=sys.stdout, highlight=False, markup=False).print(table)
    counts = Counter(ended.state for ended in outcomes)
    before = sum(ended.already for ended in outcomes)
    total = ", ".join(f"{count} {state}" for state, count in counts.items()) + f" ({before} already)" * bool(before)
    print(*notes, total, sep="\n", flush=True)


def combine(grids: list[dict[str, str]], arguments: list[str], parser: OverridesParser) -> list[list[str]]:
    """The overrides of each job, from an experiment's grids and the command line's arguments. No job stands there twice."""
    given = {override.get_key_element(): override for override in parser.parse_overrides(arguments)}
    if not grids or any(override.is_sweep_override() and key != REPEATS for key, override in given.items()):
        grids = [{}]
    jobs: list[tuple[str, ...]] = []
    clash: set[str] = set()
    fixed_at: set[str] = set()
    for grid in grids:
        axes = {override.get_key_element(): override for override in parser.parse_overrides(list(grid.values()))}
        fixed = [key for key, axis in axes.items() if not axis.is_sweep_override()]
        if other := [key for key in fixed if key in given and _values(given[key]) != _values(axes[key])]:
            clash |= {*other}
            fixed_at |= {str(axes[key].input_line) for key in other}
            continue
        found = {**axes, **given}.values()
        if (n := len(jobs) + math.prod(map(_count, found))) > MOST:
            words = " ".join(str(o.input_line) for o in found if o.is_sweep_override())
            raise ConfigError(f"{words}: {n} jobs, and a sweep has at most {MOST}; give fewer values")
        jobs += itertools.product(*map(_values, found))
    if not jobs:
        words, has = " ".join(str(given[key].input_line) for key in sorted(clash)), ", ".join(sorted(fixed_at))
        raise ConfigError(f"{words}: the experiment's grids are for {has}; take one, or give a sweep, which takes their place")
    return [list(job) for job in dict.fromkeys(jobs)]


def _count(override: Override) -> int:
    """How many overrides one stands for. No list is made: a range may be endless."""
    values = override.value() if override.is_sweep_override() else None
    if not isinstance(values, RangeSweep):
        return len(_values(override))
    if not values.step:
        raise ConfigError(f"{override.input_line}: a range's step is not 0; e.g. {override.get_key_element()}=range(0,3)")
    return max(0, math.ceil(((values.stop or 0) - (values.start or 0)) / values.step))


def _values(override: Override) -> list[str]:
    """The plain overrides that one override stands for: R=0.1,0.2 stands for R=0.1 and R=0.2."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: an interval is no list of values; give one, as R=0.1,0.2 or seed=range(0,3)")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]

"""What the lab's sweepers share: their tables of overrides, the check of jobs, what they record, the table at the end."""

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
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

MOST = 10_000  # jobs of a sweep
REPEATS = "seed"  # sweeping over this key repeats a grid rather than taking its place
WORD = 10  # seconds of looking at jobs after which it is said how far it has come


class LabSweeper(Sweeper):
    """A sweeper of the lab's.

    An experiment's YAML holds its own grids (`hydra.sweeper.grids`, a list of `key: "value,value"` tables, run one after the
    other). The command line has the last word:

    - a sweep on the command line (`R=0.1,0.2`) takes the grids' place; one over seeds alone repeats them;
    - a single value (`n_weights=100000`) takes the place of that axis, and drops a grid that is fixed at another value of it.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Any  # one of the lab's
    grids: list[dict[str, Any]]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        self.composer = Composer(hydra_context.config_loader, config)

    def tables(self, arguments: list[str]) -> list[list[Override]]:
        """The overrides of each of the experiment's grids, with the command line's changes."""
        grids = [{key: f"{key}={'null' if value is None else value}" for key, value in grid.items()} for grid in self.grids]
        return tables(grids, arguments, self.parser)

    def foresee(self, axes: list[str]) -> None:
        """Nothing is known of the next jobs yet but which keys vary among them."""
        self.foreseen = self.launcher.foreseen = Foreseen(self.composer, axes)

    def record(self) -> None:
        """Makes the sweep's folder and, if there is none, MLflow's database; tells MLflow what it has not heard yet."""
        from inn_lab import tracking

        outputs = self.config.outputs
        print(f"recording in {tracking.place(outputs)}", flush=True)  # MLflow takes seconds to open
        tracking.recover(outputs)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        tracking.experiment_id(outputs, self.experiment)  # and with it the database, so that no two jobs make it

    @property
    def experiment(self) -> str:
        from inn_lab import tracking

        return tracking.experiment_name(self.config.hydra)

    def launch(self, jobs: list[list[str]], first: int = 0) -> tuple[list[JobReturn], list["Outcome"]]:
        """Runs jobs, numbered from `first` on: their results in Hydra's form and in the lab's."""
        from inn_lab import tracking

        results = list(self.launcher.launch(jobs, initial_job_idx=first))
        tracking.recover(self.config.outputs)  # the runs of jobs that died
        return results, [outcome(result) for result in results]

    def check(self, jobs: list[list[str]], first: int = 0) -> tuple[list[tuple[str, "Code"]], list[str]]:
        """Composes the jobs, numbered from `first` on, before one of them starts. Returns their identities and codes, and a
        line for each that cannot be defined; these, the launcher is told, take no time.

        Raises ConfigError, with a line for each, if one is no valid configuration.
        """
        from inn_lab import again, parts, tracking
        from inn_lab.identity import code

        checked: list[tuple[str, Code]] = []
        wrong: list[str] = []
        undefined: list[str] = []
        data: dict[str, Any] = {}
        here, foreseen, said = not self.launcher.elsewhere, self.foreseen, time.monotonic()
        for number, overrides in enumerate(jobs, first):
            if time.monotonic() - said > WORD:
                said = time.monotonic()
                print(f"{number - first} of {of(len(jobs))} checked", flush=True)
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
        if wrong:
            raise nothing_run(f"{len(wrong)} of the {len(jobs)} jobs are not valid", wrong)
        return checked, undefined


def nothing_run(what: str, lines: list[str]) -> ConfigError:
    return ConfigError("\n  ".join([f"{what}; nothing was run", *lines]))


def outcome(result: JobReturn) -> "Outcome":
    """How a job ended, whatever launcher ran it."""
    from inn_lab.records import Outcome

    try:
        return result.return_value
    except Exception as error:  # what a job raised comes out of Hydra's result
        return Outcome("failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])


def lost(outcomes: Sequence["Outcome"]) -> int:
    """How many have no result."""
    return sum(ended.state in ("failed", "killed") for ended in outcomes)


def of(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def axes(jobs: list[list[str]]) -> list[str]:
    """The keys that vary among jobs, in the order of their overrides."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set(itertools.chain(*jobs))
    return list(dict.fromkeys(word.partition("=")[0] for job in jobs for word in job if word not in common))


def tables(grids: list[dict[str, str]], arguments: list[str], parser: OverridesParser) -> list[list[Override]]:
    """The overrides of each of an experiment's grids, of which some stand for several, with the command line's `arguments`.

    Raises ConfigError where the arguments leave no grid.
    """
    given = {override.get_key_element(): override for override in parser.parse_overrides(arguments)}
    if not grids or any(override.is_sweep_override() and key != REPEATS for key, override in given.items()):
        grids = [{}]
    found: list[list[Override]] = []
    clash: set[str] = set()
    fixed_at: set[str] = set()
    for grid in grids:
        axes = {override.get_key_element(): override for override in parser.parse_overrides(list(grid.values()))}
        fixed = [key for key, axis in axes.items() if not axis.is_sweep_override()]
        if other := [key for key in fixed if key in given and words(given[key]) != words(axes[key])]:
            clash |= {*other}
            fixed_at |= {str(axes[key].input_line) for key in other}
            continue
        found.append([*{**axes, **given}.values()])
    if not found:
        typed, has = " ".join(str(given[key].input_line) for key in sorted(clash)), ", ".join(sorted(fixed_at))
        raise ConfigError(f"{typed}: the experiment's grids are for {has}; take one, or give a sweep, which takes their place")
    return found


def words(override: Override) -> list[str]:
    """The plain overrides that one override stands for: R=0.1,0.2 stands for R=0.1 and R=0.2."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        way = "hydra/sweeper=optuna searches it, or give one, as R=0.1,0.2 or seed=range(0,3)"
        raise ConfigError(f"{override.input_line}: an interval is no list of values; {way}")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, of which the second column may be long. A narrow terminal cuts nothing."""
    from rich.console import Console
    from rich.table import Column, Table

    heads = [Column(name, overflow="fold") if place == 1 else Column(name, no_wrap=True) for place, name in enumerate(columns)]
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(file=sys.stdout, highlight=False, markup=False).print(table)

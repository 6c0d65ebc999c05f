"""Hydra's sweeper for the lab: an experiment's own grids, and one MLflow parent run over the jobs of a sweep."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from inn_lab.config import ConfigError


@dataclass
class GridSweeperConf:
    _target_: str = "hydra_plugins.inn_lab_grid.sweeper.GridSweeper"
    grids: list[dict[str, Any]] = field(default_factory=list)


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="inn_lab")

REPEATS = "seed"  # sweeping over this key repeats a grid rather than taking its place


class GridSweeper(Sweeper):
    """Runs every combination of the values given.

    An experiment's YAML holds its own grids (`hydra.sweeper.grids`, a list of `key: "value,value"` tables, run one after the
    other). The command line has the last word:

    - a sweep on the command line (`R=0.1,0.2`) takes the grids' place; one over seeds alone repeats them;
    - a single value (`n_weights=100000`) takes the place of that axis, and drops a grid that is fixed at another value of it.
    """

    def __init__(self, grids: list[dict[str, Any]]) -> None:
        self.grids = grids

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        from inn_lab import tracking

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs = combine([{k: f"{k}={v}" for k, v in grid.items()} for grid in self.grids], arguments, parser)
        self.validate_batch_is_legal(jobs)  # each job is composed before the first one starts
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        with tracking.sweep(self.config, jobs=len(jobs)):
            results = self.launcher.launch(jobs, initial_job_idx=0)
            states = [result.return_value for result in results]  # raises what a failed job raised
        if set(states) == {"undefined"}:
            raise ConfigError(f"none of the {len(jobs)} jobs could be defined; each says why above")
        return list(results)


def combine(grids: list[dict[str, str]], arguments: list[str], parser: OverridesParser) -> list[list[str]]:
    """The overrides of each job, from an experiment's grids and the command line's arguments. No job stands there twice."""
    given = {override.get_key_element(): override for override in parser.parse_overrides(arguments)}
    if not grids or any(override.is_sweep_override() and key != REPEATS for key, override in given.items()):
        grids = [{}]
    jobs = []
    for grid in grids:
        axes = {override.get_key_element(): override for override in parser.parse_overrides(list(grid.values()))}
        fixed = [key for key, axis in axes.items() if not axis.is_sweep_override()]
        if any(key in given and _values(given[key]) != _values(axes[key]) for key in fixed):
            continue
        jobs += itertools.product(*map(_values, {**axes, **given}.values()))
    return [list(job) for job in dict.fromkeys(jobs)]


def _values(override: Override) -> list[str]:
    """The plain overrides that one override stands for: R=0.1,0.2 stands for R=0.1 and R=0.2."""
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: an interval is no list of values; give one, as R=0.1,0.2 or seed=range(0,3)")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]

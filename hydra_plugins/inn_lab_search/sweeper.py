"""Hydra's sweeper that searches: Optuna says which trials, the lab's launchers run them."""

import json
import math
import shlex
import sys
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn

from hydra_plugins.inn_lab_grid import story
from hydra_plugins.inn_lab_grid.shared import REPEATS, LabSweeper, nothing_run, show_table
from hydra_plugins.inn_lab_search import result
from hydra_plugins.inn_lab_search.space import SAMPLERS, Space, rounded
from inn_lab import signals
from inn_lab.config import NONE, terms
from inn_lab.errors import ConfigError, near
from inn_lab.trials import PRUNERS, Search, Trial, optuna

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from inn_lab.identity import Code
    from inn_lab.records import Outcome

METRICS = ("val/acc_end", "val/acc_seq", "val/loss")  # what each training logs by epoch, and is not the test
DIRECTIONS = ("maximize", "minimize")


@dataclass
class SearchSweeperConf:
    _target_: str = "hydra_plugins.inn_lab_search.sweeper.SearchSweeper"
    grids: list[dict[str, Any]] = field(default_factory=list)  # each is a space of its own
    trials: int = 20  # of each space, with those of earlier commands
    n_jobs: int = 1  # trials at a time; with more of them the sampler knows less of the others
    sampler: str = "tpe"
    pruner: str = "none"
    metric: str = "val/acc_end"
    direction: str | None = None  # null: minimize a loss, maximize an accuracy
    seed: int = 0  # of the sampler
    best_of: int = 0  # how many fresh seeds the best configuration is run with


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=SearchSweeperConf, provider="inn_lab")


class SearchSweeper(LabSweeper):
    """Searches each of the experiment's grids, or what the command line varies, for the best of `trials` trials.

    A trial's value is the mean of a validation metric over the last tenth of its epochs, as the reports take it. Trials are
    asked for `n_jobs` at a time and told in their order, so that the same command gives the same trials.
    """

    def __init__(self, grids: list[dict[str, Any]], **settings: Any) -> None:
        self.grids, self.settings = grids, SearchSweeperConf(grids=grids, **settings)

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        self._check_settings()
        tables = self.tables(arguments)
        common = set.intersection(*({str(one.input_line) for one in table} for table in tables))
        plans = [self._plan(Space.of(table), common) for table in tables]  # all are checked before the first trial starts
        self.record()
        self._number = 0  # of the next job
        self._results: list[JobReturn] = []
        if missing := sum(map(self._search, plans)):
            print(f"{missing} without a result; the same command tries them again", flush=True)
            sys.exit(1)
        return self._results

    def _check_settings(self) -> None:
        its = self.settings
        for key, choices in {"sampler": SAMPLERS, "pruner": PRUNERS}.items():
            if (value := getattr(its, key)) not in choices:
                raise ConfigError(f"hydra.sweeper.{key}={value}: there is no such {key}{near(value, choices)}")
        if its.metric not in METRICS:
            why = "what the test set chooses it does not test; " if its.metric.startswith("test/") else ""
            known = f"{', '.join(METRICS[:-1])} or {METRICS[-1]}"
            raise ConfigError(f"hydra.sweeper.metric={its.metric}: {why}a search goes by {known}")
        if its.direction is None:
            its.direction = "minimize" if its.metric.endswith("loss") else "maximize"
        if its.direction not in DIRECTIONS:
            raise ConfigError(f"hydra.sweeper.direction={its.direction}: maximize or minimize; leave it out for the usual one")
        for key, least in (("trials", 1), ("n_jobs", 1), ("best_of", 0), ("seed", 0)):
            if (number := getattr(its, key)) < least:
                raise ConfigError(f"hydra.sweeper.{key}={number}: {least} or more; e.g. hydra.sweeper.{key}={max(least, 20)}")

    def _plan(self, space: Space, common: set[str]) -> "Plan":
        """Raises ConfigError for a space of which nothing is valid, or can be defined."""
        its = self.settings
        space.sampler(its.sampler, its.seed, 0)
        trials = min(its.trials, math.prod(map(len, space.points().values()))) if its.sampler == "grid" else its.trials
        axes = [*(word.partition("=")[0] for word in space.fixed if word not in common), *space.axes]
        corners = space.corners()
        print(f"checking {len(corners)} settings at the edges and in the middle of the space", flush=True)
        self.foresee(axes)
        checked, undefined = self.check(corners)
        configs = [self.composer(corner) for corner in corners]
        for cfg in configs:
            if terms(cfg).timed or terms(cfg).model == NONE:
                name = cfg.study._target_.rpartition(".")[2]
                raise ConfigError(f"study={name}: it does not train, so there is nothing to search by; leave it out")
        if len(undefined) == len(corners):
            raise nothing_run("none of these settings can be defined", undefined)
        return Plan(space, axes, trials, checked, max(cfg.trainer.max_epochs for cfg in configs))

    def _search(self, plan: "Plan") -> int:
        """Runs the trials that are missing, and the repetitions of the best. Returns how many jobs have no result."""
        from inn_lab import again, tracking

        its = self.settings
        columns = ("trial", "", "state", "epochs", its.metric)
        known_by = json.dumps([plan.space.words, its.sampler, its.pruner, its.metric, its.direction, its.seed])
        record, code = again.of_sweep(self.config.outputs, self.experiment, plan.checked, self.config.resume, known_by)
        search = Search(str(record.folder / "trials.log"), its.metric, str(its.direction), its.pruner, plan.epochs)
        with tracking.sweep(self.config, record, code, plan.trials + its.best_of, plan.axes) as run:
            study = search.stored()
            if there := len(study.trials):
                print(f"{there} of {max(there, plan.trials)} trials are there already", flush=True)
            lost: set[int] = set()
            while batch := self._next(study, search, plan, lost):
                lost |= self._run(study, search, plan, batch)
                result.log(run, study)
                print(result.stands(study, plan.trials), flush=True)
            best = result.best_of(study)
            repeats = self._repeat(plan, best) if best else []
            if best:
                config = result.as_config(plan.space.overrides(best.params), self.parser, self.composer)
                result.report(run, study, best, repeats, config, its.metric)
            rows = result.table(study, plan.axes, plan.space, repeats, its.metric)
            run.tag(
                **{tracking.NOTE: story.fitting(filter(None, [*story.asked(self.config), story.table(columns, rows[::-1])]))}
            )
            missing = len(lost) + sum(value is None for _, value in repeats)
            run.end("FINISHED", "finished", f"{missing} jobs have no result" if missing else None)
        show_table(columns, rows)
        print(result.spent(study, plan.epochs), flush=True)
        if best:
            command = ["python", "-m", "inn_lab"]
            print(f"the best one:\n  {shlex.join([*command, *plan.space.overrides(best.params)])}", flush=True)
            folder = ["--config-dir", str(record.folder / "files"), "--config-name", "best"]
            print(f"  {shlex.join([*command, *folder])}", flush=True)
        return missing

    def _next(self, study: "Study", search: Search, plan: "Plan", lost: set[int]) -> list["FrozenTrial"]:
        """The next trials: those that were begun and not told, then new ones."""
        begun = study.get_trials(deepcopy=False, states=(optuna().trial.TrialState.RUNNING,))
        batch = [trial for trial in begun if trial.number not in lost][: self.settings.n_jobs]
        while len(batch) < self.settings.n_jobs and len(study.trials) < plan.trials:
            batch.append(self._ask(study, search, plan.space))
        return batch

    def _ask(self, study: "Study", search: Search, space: Space) -> "FrozenTrial":
        """A new trial, asked for beside the file, which it enters as a whole. A kill leaves none that is half drawn."""
        made, number, copy = optuna().trial, len(study.trials), search.copied()
        copy.sampler = space.sampler(self.settings.sampler, self.settings.seed, number)
        drawn = copy.ask(space.axes).params
        asked = made.create_trial(
            state=made.TrialState.RUNNING,
            params={key: rounded(value, space.axes[key]) for key, value in drawn.items()},
            distributions=space.axes,
            system_attrs=copy.trials[number].system_attrs,
        )
        with signals.held():
            study.add_trial(asked)
        return study.trials[number]

    def _run(self, study: "Study", search: Search, plan: "Plan", batch: list["FrozenTrial"]) -> set[int]:
        """Runs trials and tells the study how they ended. Returns the numbers of those without a result."""
        jobs: dict[tuple[str, ...], list[Trial]] = {}  # a small space has the same point twice
        for trial in batch:
            jobs.setdefault(tuple(plan.space.overrides(trial.params)), []).append(Trial(search, trial.number))
        folder = Path(self.config.hydra.sweep.dir)
        for number, trials in enumerate(jobs.values(), self._number):
            trials[0].tell_job(folder / str(number))
        ends = zip(jobs.values(), self._launch([list(job) for job in jobs], plan.axes), strict=True)
        ended = sorted(((trial.number, trial, outcome) for trials, outcome in ends for trial in trials), key=itemgetter(0))
        with signals.held():
            return {number for number, trial, outcome in ended if not self._tell(study, trial, outcome)}

    def _launch(self, jobs: list[list[str]], axes: list[str]) -> list["Outcome"]:
        self.foresee(axes)
        self.check(jobs, self._number)
        results, outcomes = self.launch(jobs, self._number)
        self._number += len(jobs)
        self._results += results
        return outcomes

    def _tell(self, study: "Study", trial: Trial, outcome: "Outcome") -> bool:
        """Tells the study how a trial ended, if it has a result. What was hopeless is pruned, also if the job had been run to
        its end before: the same search gives the same trials."""
        if outcome.state == "undefined":
            trial.settle(study, "undefined", None)
        elif (value := self._value(outcome)) is None:
            return False
        else:
            series = result.series(outcome, self.settings.metric)
            pruned, last = outcome.state == "pruned", max(series, default=0)
            asked = {epoch: value for epoch, value in series.items() if pruned or epoch < last}  # not after the last of all
            if trial.hopeless_after(asked) is not None or pruned:
                trial.settle(study, "pruned", None)
            else:
                if math.isfinite(series.get(last, math.nan)):
                    trial.hear(last, series[last])
                trial.settle(study, outcome.state, value)
        return True

    def _value(self, outcome: "Outcome") -> float | None:
        """What a job's outcome is worth: the mean of the metric in the last tenth of its epochs, of one that diverged the worst
        there is. None where it has no result. Raises ConfigError for a job that does not log the metric."""
        if outcome.state not in ("finished", "diverged", "pruned"):
            return None
        metric = self.settings.metric
        series = result.series(outcome, metric)
        if outcome.state == "diverged":
            return math.inf if metric.endswith("loss") else 0.0  # as the reports have it
        if not series:
            way = "take a study that trains and validates, as study=train"
            raise ConfigError(f"hydra.sweeper.metric={metric}: a trial has ended and has not logged it; {way}")
        return result.tail(series)

    def _repeat(self, plan: "Plan", best: "FrozenTrial") -> list[tuple[str, float | None]]:
        """The best trial with fresh seeds: the seed's override and the value of each."""
        words = [word for word in plan.space.overrides(best.params) if word.partition("=")[0] != REPEATS]
        seed = self.composer(plan.space.overrides(best.params)).seed
        seeds = [f"{REPEATS}={seed + 1 + number}" for number in range(self.settings.best_of)]
        outcomes = self._launch([[*words, own] for own in seeds], [*plan.axes, REPEATS]) if seeds else []
        return [(own, self._value(outcome)) for own, outcome in zip(seeds, outcomes, strict=True)]


@dataclass(frozen=True)
class Plan:
    """A search before it begins. checked: the identities and codes of some of its jobs, by which it is known."""

    space: Space
    axes: list[str]  # the keys by which its jobs are named
    trials: int
    checked: list[tuple[str, "Code"]]
    epochs: int

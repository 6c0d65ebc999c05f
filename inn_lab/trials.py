"""A search's trials, in a file that Optuna writes and reads, and whether one of them is hopeless.

The sweeper alone writes the file, while it holds the lock of the search's record. A job reads it when it starts. Nothing is
told while jobs run, so what a job finds hopeless follows from the trials of before and from its own metrics.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study

PRUNERS = ("none", "median", "hyperband")
STUDY = "search"  # its name in the file; Hyperband draws a trial's bracket from it
NOTES = "completed_rung_"  # what Hyperband keeps with a trial begins so
TRIAL = "trial.json"  # in the folder of a sweep's job that is a trial


def optuna() -> ModuleType:
    """Optuna, which says nothing but in exceptions. Its import takes half a second, and only searches need it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Held:
    """A lock that is held already: the record's, which a killed process leaves free."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@dataclass(frozen=True)
class Search:
    """What a search's trials have in common.

    file: its path; a text, to which each change adds a line. So it may lie on a network's file system, where SQLite should not.
    metric: what is reported by epoch. direction: "minimize" or "maximize" it. pruner: one of
    PRUNERS. epochs: the most that a trial trains.
    """

    file: str
    metric: str
    direction: str
    pruner: str
    epochs: int

    def stored(self) -> "Study":
        """The study in the file, which is made if there is none. A last line that was cut off is removed."""
        made, path = optuna(), Path(self.file)
        content = path.read_bytes() if path.exists() else b""
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
        held: Any = Held()
        storage = made.storages.JournalStorage(made.storages.journal.JournalFileBackend(self.file, held))
        return made.create_study(
            storage=storage, study_name=STUDY, direction=self.direction, pruner=self._pruner(), load_if_exists=True
        )

    def copied(self) -> "Study":
        """A copy of the study, in memory. Of a trial that has not ended nothing was told: a kill may have come in between."""
        made = optuna()
        storage = made.storages.JournalStorage(made.storages.journal.JournalFileBackend(self.file))
        trials = made.load_study(study_name=STUDY, storage=storage).trials
        for trial in trials:
            if not trial.state.is_finished():
                trial.intermediate_values = {}
                trial.system_attrs = {key: known for key, known in trial.system_attrs.items() if not key.startswith(NOTES)}
        random = made.samplers.RandomSampler(0)
        copy = made.create_study(study_name=STUDY, direction=self.direction, pruner=self._pruner(), sampler=random)
        copy.add_trials(trials)
        return copy

    def _pruner(self) -> "BasePruner":
        pruners = optuna().pruners
        if self.pruner == "median":
            return pruners.MedianPruner(n_warmup_steps=self.epochs // 10)  # the first epochs say little
        if self.pruner == "hyperband":
            return pruners.HyperbandPruner(max_resource=self.epochs)
        return pruners.NopPruner()


class Trial:
    """A trial of a search, as the file has it now, while it trains: it hears what each epoch ends with, and is asked."""

    def __init__(self, search: Search, number: int) -> None:
        self.search, self.number, self.study = search, number, search.copied()
        self._trial = optuna().trial.Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)

    @classmethod
    def of_job(cls, folder: Path) -> Self | None:
        """The trial that the job with this folder is; None if it is none, or trials are not pruned."""
        try:
            told = json.loads((folder / TRIAL).read_text())
        except FileNotFoundError:
            return None
        search = Search(**told["search"])
        return None if search.pruner == "none" else cls(search, told["number"])

    def tell_job(self, folder: Path) -> None:
        """Writes what `of_job` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRIAL).write_text(json.dumps({"search": asdict(self.search), "number": self.number}))

    def hopeless(self, epoch: int, value: float) -> bool:
        """Whether it need not be trained further, after an epoch that ended with this value."""
        self.hear(epoch, value)
        return self._trial.should_prune()

    def hear(self, epoch: int, value: float) -> None:
        self._trial.report(value, epoch)

    def hopeless_after(self, series: Mapping[int, float]) -> int | None:
        """The first of these epochs after which it was hopeless."""
        return next((epoch for epoch, value in sorted(series.items()) if self.hopeless(epoch, value)), None)

    def settle(self, study: "Study", how: str, value: float | None) -> None:
        """Writes to the file how it ended, in the lab's words and in Optuna's, and what it has heard. value: of one that counts
        with it."""
        heard, there = (one.get_trials(deepcopy=False)[self.number] for one in (self.study, study))
        storage, states = study._storage, optuna().trial.TrialState
        for epoch, reported in heard.intermediate_values.items():
            storage.set_trial_intermediate_value(there._trial_id, epoch, reported)
        for key, known in heard.system_attrs.items():
            if there.system_attrs.get(key) != known:
                storage.set_trial_system_attr(there._trial_id, key, known)  # a pruner's notes
        storage.set_trial_user_attr(there._trial_id, "state", how)
        other = {"pruned": states.PRUNED, "undefined": states.FAIL}
        study.tell(self.number, value, other.get(how, states.COMPLETE))

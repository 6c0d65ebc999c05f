"""Lottery tickets: train, cut, begin again, round by round; then train what is left."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from torch import Tensor

from inn_lab.config import Terms
from inn_lab.errors import ConfigError
from inn_lab.models.base import Model
from inn_lab.seeding import generator
from inn_lab.shared import Shared
from inn_lab.studies import ModelJob
from inn_lab.studies.prune import accuracies, shared_of
from inn_lab.studies.train import fit, fit_and_test
from inn_lab.training.tickets import Iterative

State = dict[str, Any]


@Terms(method=Iterative)
def lottery(job: ModelJob) -> str:
    """Finds a pattern as `pruning` says (`Iterative`), and trains the network with it.

    Each round and the last training have the same data and end after `trainer.max_epochs`, counted from the beginning; with
    `pruning.rewind` they are so much shorter. Jobs that differ in `pruning.restart` alone share the rounds (`outputs/trained`,
    which can be deleted at any time). Logs the table `rounds`: of each round the weights that it trained, its accuracies before
    the cut, and its seconds; and `time/rounds_s`, the seconds of all. Then what `train` logs, of the last training.

    Source: Frankle and Carbin 2019. Raises ConfigError if the network has no more weights than it shall keep.
    """
    method, epochs = job.method, job.cfg.trainer.max_epochs
    assert isinstance(method, Iterative)  # its terms
    if method.rewind >= epochs:
        raise ConfigError(f"pruning.rewind={method.rewind}: that is not before the end, trainer.max_epochs={epochs}")
    sizes = method.sizes(method.matrices(job.model))
    first = copy.deepcopy(job.model.state_dict())
    rounds = Rounds(job, method, shared_of(job, f"{method.R} {method.amount} {method.rewind}"))
    state = rounds.shared.once("rewound", partial(rounds.rewound, first)) if method.rewind else first
    if state is None:
        return "diverged"
    patterns, told = [matrix.entries()[0] for matrix in method.matrices(rounds.fresh(state))], []
    for number, left in enumerate(sizes, 1):
        words = f"round {number} of {len(sizes)}"
        found = rounds.shared.once(f"round-{number}", partial(rounds.cut, words, state, patterns, left))
        if found is None:
            return "diverged"
        patterns = [pattern.to(job.device) for pattern in found["patterns"]]  # Lightning leaves a trained model on the CPU
        told.append({"round": number, **found["told"]})
    job.run.table("rounds", pd.DataFrame(told))
    job.run.metrics({"time/rounds_s": sum(row["seconds"] for row in told)})
    job = replace(job, model=rounds.fresh(state))
    method.begin(method.matrices(job.model), patterns)
    return fit_and_test(job, epochs - method.rewind, earlier=method.rewind)


@dataclass(frozen=True)
class Rounds:
    """The trainings before the last one, which jobs share. Each returns None if it diverged."""

    job: ModelJob
    method: Iterative
    shared: Shared

    def fresh(self, state: State) -> Model:
        """The network with the pattern that it had in the beginning, and the weights of a state."""
        model = self.job.make(generator=generator(self.job.cfg.seed, "model"))
        model.load_state_dict(state)
        return model.to(self.job.device)

    def rewound(self, first: State) -> State | None:
        """What the network is rewound to: `pruning.rewind` epochs after `first`."""
        model = self.fresh(first)
        return model.state_dict() if self._trains("before the rounds", model, self.method.rewind) else None

    def cut(self, words: str, state: State, patterns: Sequence[Tensor], left: Sequence[int]) -> State | None:
        """Trains the network with these patterns from `state` on, and cuts it: the "patterns" of so many entries that are left,
        and what is "told" of the round."""
        start, model = time.monotonic(), self.fresh(state)
        for matrix, pattern in zip(self.method.matrices(model), patterns, strict=True):
            matrix.rewire(pattern)
        rewind = self.method.rewind
        if not self._trains(words, model, self.job.cfg.trainer.max_epochs - rewind, earlier=rewind):
            return None
        told = {"weights": sum(map(len, patterns)), **accuracies(replace(self.job, model=model))}
        kept = self.method.cut(self.method.matrices(model), left)
        return {"patterns": kept, "told": {**told, "seconds": time.monotonic() - start}}

    def _trains(self, words: str, model: Model, epochs: int, earlier: int = 0) -> bool:
        """Whether a training comes to its end. One that was cut off goes on from its checkpoint."""
        checkpoint = self.shared.folder / "checkpoint.pt"
        job = replace(self.job, model=model, title=f"{self.job.title} · {words}")
        module = fit(job, epochs, checkpoint, None, earlier=earlier)
        checkpoint.unlink(missing_ok=True)
        return not module.diverged

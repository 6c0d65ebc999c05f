"""Lottery tickets: train, cut, begin again, round by round; then train what is left."""

import copy
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from inn_lab.config import Terms
from inn_lab.errors import ConfigError
from inn_lab.identity import code, identity
from inn_lab.models.base import Model
from inn_lab.seeding import generator
from inn_lab.shared import Shared, digest
from inn_lab.studies import ModelJob
from inn_lab.studies.prune import accuracies
from inn_lab.studies.train import fit, fit_and_test
from inn_lab.training.tickets import Iterative


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
    try:
        sizes = method.sizes(method.matrices(job.model))
    except ConfigError as error:
        raise ConfigError(f"pruning.{error}") from None
    first = copy.deepcopy(job.model.state_dict())
    own = ("pruning", "study")
    whole = OmegaConf.masked_copy(job.cfg, [str(key) for key in job.cfg if key not in own])
    keys = f"{method.R} {method.amount} {method.rewind}"
    shared = Shared(
        Path(job.cfg.outputs) / "trained", digest(job.device, identity(whole), code(job.cfg).digest, keys), job.device
    )
    checkpoint = shared.folder / "checkpoint.pt"

    def fresh(state: dict[str, Any]) -> Model:
        """The network as it was before the first cut, with the weights of a state."""
        model = job.make(generator=generator(job.cfg.seed, "model"))
        model.load_state_dict(state)
        return model.to(job.device)

    def trained(what: str, model: Model, many: int, earlier: int = 0) -> bool:
        """Whether a training comes to its end; else it diverged."""
        module = fit(replace(job, model=model, title=f"{job.title} · {what}"), many, checkpoint, None, earlier=earlier)
        checkpoint.unlink(missing_ok=True)
        return not module.diverged

    def rewound() -> dict[str, Any] | None:
        return model.state_dict() if trained("before the rounds", model := fresh(first), method.rewind) else None

    def one_round(number: int, patterns: list[Any], state: dict[str, Any]) -> dict[str, Any] | None:
        start, model = time.monotonic(), fresh(state)
        for matrix, pattern in zip(method.matrices(model), patterns, strict=True):
            matrix.rewire(pattern)
        weights = sum(map(len, patterns))
        if not trained(f"round {number} of {len(sizes)}", model, epochs - method.rewind, method.rewind):
            return None
        seconds = time.monotonic() - start
        reached = accuracies(replace(job, model=model))
        return {
            "patterns": method.cut(method.matrices(model), sizes[number - 1]),
            "told": {"round": number, "weights": weights, **reached, "seconds": seconds},
        }

    state = shared.once("rewound", rewound) if method.rewind else first
    if state is None:
        return "diverged"
    patterns, rounds = [matrix.entries()[0] for matrix in method.matrices(fresh(state))], []
    for number in range(1, len(sizes) + 1):
        found = shared.once(f"round-{number}", partial(one_round, number, patterns, state))
        if found is None:
            return "diverged"
        patterns = found["patterns"]
        rounds.append(found["told"])
    job.run.table("rounds", pd.DataFrame(rounds))
    job.run.metrics({"time/rounds_s": sum(told["seconds"] for told in rounds)})
    job = replace(job, model=fresh(state))
    method.begin(method.matrices(job.model), patterns)
    return fit_and_test(job, epochs - method.rewind, earlier=method.rewind)

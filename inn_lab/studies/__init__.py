"""Studies: functions of a `Job`, which do something with a model and its data. `study=` names the one that the runner calls.

Its other arguments are the keys of `study`. It returns how it ended, "finished", "diverged" or "pruned"; None is finished. What
it asks of a job stands above it (`config.Terms`). The sweeper looks at both. So no module here imports Lightning, which takes
seconds; the functions do.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig

from inn_lab.models.base import Model
from inn_lab.tracking import Run
from inn_lab.training.objectives import Objective
from inn_lab.training.rewiring import Method
from inn_lab.training.schedules import Factor
from inn_lab.trials import Trial


@dataclass
class Job:
    """The argument of a study: the MLflow run to log to, and the parts that the runner has built.

    `title` is how the job is called on the screen and in pictures; data of one `digest` are the same. With `data: null` in the
    experiment there are none. A job that is the `trial` of a search may be found hopeless.
    """

    run: Run
    cfg: DictConfig
    title: str
    device: torch.device
    data: Any
    digest: str | None
    trial: Trial | None = field(default=None, kw_only=True)


@dataclass
class ModelJob(Job):
    """The argument of a study with a model. `make(generator=…)` builds the model again. `optimizer(params)` makes an optimizer
    with the job's learning rate, and `schedule(updates)` says which factor that has at each of so many updates (None: a clock
    ends the training).

    A model of the user's own is a module that has of `Model` what is asked of it.
    """

    model: Model
    make: Callable[..., Model]
    objective: Objective
    optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
    schedule: Callable[[int | None], Factor]
    method: Method | None  # changes the patterns of the model's matrices in training

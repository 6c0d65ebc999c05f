"""What a job does with a model and its data. A study is a function of a Job; the runner calls the one that `study=` names.

It returns how it ended, "finished" or "diverged"; None is finished. One whose schema is `schema.Timed` times the
machine: its jobs run one by one, and on another machine they are other jobs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from inn_lab.tracking import Run


@dataclass
class Job:
    """What a study gets: the parts that the runner has built, and the MLflow run to log to.

    `title` is how the job is called on the screen and in pictures; data of one `digest` are the same. `make(generator=…)`
    builds the model again. In a study that brings its own objects (`model: null` in its experiment) there is no data, model,
    make or objective.
    """

    cfg: DictConfig
    title: str
    device: torch.device
    data: Any = None
    digest: str | None = None
    model: torch.nn.Module | None = None
    make: Callable[..., torch.nn.Module] | None = None
    objective: Any = None
    run: Run | None = None

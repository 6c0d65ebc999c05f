"""What a job does with a model and its data. A study is a function of a Job; the runner calls the one that `study=` names."""

from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from inn_lab.tracking import Run


@dataclass
class Job:
    """What a study gets: the parts that the runner has built, and the MLflow run to log to.

    `title` is how the job is called on the screen and in pictures.
    """

    cfg: DictConfig
    title: str
    device: torch.device
    data: Any
    model: torch.nn.Module
    objective: Any
    run: Run | None = None

"""One job, from its configuration to a logged run. The only place that builds objects from the configuration."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from inn_lab import config, signals, tracking
from inn_lab.config import ConfigError
from inn_lab.data import load
from inn_lab.seeding import generator
from inn_lab.studies import Job


def run(cfg: DictConfig) -> str:
    """Builds a job and runs its study inside an MLflow run; returns the run's state.

    A job whose model or data cannot be built raises ConfigError; in a sweep it is recorded as *undefined* instead, and the
    others go on.
    """
    signals.listen()
    hydra = HydraConfig.get()
    in_sweep = hydra.mode == RunMode.MULTIRUN
    experiment = tracking.experiment_name(hydra)
    title = " ".join(o for o in hydra.overrides.task if not o.startswith("experiment=")) or experiment
    choices = {group: hydra.runtime.choices[group] or "none" for group in ("model", "data", "study")}
    source = "none" if choices["data"] == "none" else cfg.source.name
    tags = {**choices, "source": source, "scale": cfg.scale.name, "commit": tracking.commit(), "job": "0"}
    if in_sweep:
        sweep = tracking.sweep_id(hydra)
        parent, jobs = tracking.parent(cfg.outputs, experiment, sweep)
        tags |= {tracking.PARENT: parent, "sweep": sweep, "job": str(hydra.job.num)}
        name, title = title, f"job {hydra.job.num + 1} of {jobs} · {title}"
    else:
        name = title
    try:
        job = build(cfg, title)
    except ConfigError as error:
        if not in_sweep:
            raise
        record = tracking.Run(cfg.outputs, experiment, name, tags | {"reason": str(error)})
        record.params(cfg)
        record.end("FINISHED", "undefined")
        print(f"{title} · undefined: {error}", flush=True)
        return "undefined"
    tags |= {"device": str(job.device), "torch": torch.__version__}
    if job.device.type == "cuda":
        tags["device"] = f"{job.device} ({torch.cuda.get_device_name(job.device)})"
    with tracking.Run(cfg.outputs, experiment, name, tags) as job.run:
        job.run.params(cfg)
        if job.model:
            job.run.metrics({f"model/{key}": value for key, value in job.model.size(job.data.steps).items()})
        _made(cfg.study)(job)
    return "finished"


def build(cfg: DictConfig, title: str) -> Job:
    """The objects of a job. Raises ConfigError where the configuration does not define them."""
    config.check(cfg)
    device = pick_device(cfg.trainer)
    if OmegaConf.select(cfg, "model._target_") is None:
        return Job(cfg, title, device)
    source = cfg.source
    data = _made(cfg.data)(
        images=load(source.name, source.root),
        image_size=source.image_size,
        mean=source.mean,
        std=source.std,
        seed=cfg.seed,
        device=device,
    )
    where = {"device": device} if "linear" in cfg.model else {}  # which way to hold a matrix is fastest depends on it
    make = partial(_made(cfg.model), data.n_inputs, data.n_outputs, **where)
    return Job(cfg, title, device, data, make(generator=generator(cfg.seed, "model")), make, _made(cfg.objective)())


def _made(node: DictConfig) -> Callable[..., Any]:
    """The class or function that a node names, with the node's values bound: what is passed to it stays a plain object."""
    try:
        return instantiate(node, _partial_=True)
    except InstantiationException as error:
        raise ConfigError(f"_target_={node._target_}: {str(error).splitlines()[0]}") from error


def pick_device(trainer: DictConfig) -> torch.device:
    """auto: the CUDA device `trainer.device` where there is CUDA, else the CPU. Raises ConfigError if it is not there."""
    there = torch.cuda.device_count()
    if trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not there):
        return torch.device("cpu")
    if not there:
        raise ConfigError("trainer=gpu: torch sees no CUDA device here; use trainer=auto or trainer=cpu")
    if not 0 <= trainer.device < there:
        raise ConfigError(f"trainer.device={trainer.device}: torch sees {there} CUDA device(s); use 0 to {there - 1}")
    return torch.device("cuda", trainer.device)

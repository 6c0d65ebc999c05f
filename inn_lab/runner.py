"""One job, from its configuration to a logged run."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from inn_lab import config, identity, parts, signals, tracking
from inn_lab.errors import ConfigError, NotHere
from inn_lab.models.base import Model
from inn_lab.records import Outcome, Record
from inn_lab.seeding import seed_globals
from inn_lab.standing import at_work, duration
from inn_lab.studies.clock import machine


def run(cfg: DictConfig) -> Outcome:
    """Runs a job, or goes on with it, or finds that it is done; returns how it ended.

    A job whose model or data cannot be built raises ConfigError; in a sweep it is recorded as *undefined* instead. There, one
    that fails is recorded as *failed* and does not raise either: the others go on.
    """
    signals.listen()
    config.check(cfg)
    hydra = HydraConfig.get()
    in_sweep = hydra.mode == RunMode.MULTIRUN
    experiment = tracking.experiment_name(hydra)
    words, tags, place = hydra.overrides.task, describe(cfg, hydra), {}
    title = name = config.title(words) or experiment
    command = None
    if in_sweep:
        number, folder = str(hydra.job.num), Path(hydra.sweep.dir)
        parent = tracking.parent(folder)
        axes, command = parent.get("axes", ()), parent["command"]  # a cluster's queue may hold jobs of a lab that wrote none
        place = {tracking.PARENT: parent["run_id"], "sweep": folder.name, "job": number}
        varies = config.title(words, axes) or experiment
        title = f"job {number} · {varies}"
        shared = config.title(word for word in words if word.partition("=")[0] not in axes)
        name = " · ".join(dict.fromkeys(filter(None, [varies, shared])))  # in a legend what varies comes first
    try:
        job, why = parts.build(cfg, title), None
    except NotHere as error:  # that is no record's end
        if not in_sweep:
            raise
        print(f"{title} · failed: {error}", flush=True)
        return Outcome("failed", reason=str(error))
    except ConfigError as error:
        if not in_sweep:
            raise
        job, why = None, error
    if not in_sweep:
        tracking.experiment_id(cfg.outputs, experiment)  # is MLflow there? later it may be away
        tracking.recover(cfg.outputs)
    which, code = identify(cfg, job.device if job else None), identity.code(cfg)
    tags["commit"] = code.name
    record = tracking.record_of(cfg.outputs, experiment, which, cfg.resume, code, command)
    with record.mine(patience=5 if in_sweep else 0) as mine:
        if not mine:
            if in_sweep:
                return Outcome("running", reason="another process has it")
            raise ConfigError(f"this run is running already (its record is {record.folder}); wait for it, or set resume=false")
        if done := record.outcome:
            tracking.take_over(cfg.outputs, record, place)
            print(f"{title} · {done.words(code)}; resume=false runs it afresh", flush=True)
            if not in_sweep:
                show(cfg, experiment, done, record)
            return done
        tags |= place
        if why:
            undefined = tracking.Run(record, cfg.outputs, experiment, name, tags)
            undefined.params(cfg)
            print(f"{title} · undefined: {why}", flush=True)
            return undefined.end("FINISHED", "undefined", str(why))
        tags |= {"device": str(job.device), "torch": torch.__version__}
        if job.device.type == "cuda":
            tags["device"] = f"{job.device} ({torch.cuda.get_device_name(job.device)})"
        with tracking.Run(record, cfg.outputs, experiment, name, tags) as job.run:
            try:
                job.run.params(cfg)
                if job.digest:
                    job.run.data(f"{tags['data']}/{tags['source']}", job.digest, cfg.data._target_)
                if job.model:
                    if isinstance(job.model, Model):
                        job.run.tag(**job.model.tags())
                    size = job.model.size(job.data.steps)
                    job.run.sizes({key if "/" in key else f"model/{key}": value for key, value in size.items()})
                seed_globals(cfg.seed, "study")
                with at_work(title) if cfg.trainer.progress else nullcontext():
                    state = parts.part_of(cfg, "study").made(job) or "finished"
                reason = "a loss or a weight is no number any more" if state == "diverged" else None
            except Exception as error:
                if not in_sweep:
                    raise
                outcome = job.run.failed(error)
                print(f"{title} · failed: {outcome.reason}", flush=True)
                return outcome
            record.finish(outcome := job.run.end("FINISHED", state, reason))
            print(f"{title} · {outcome.words()} · {duration(outcome.seconds)}", flush=True)
            if not in_sweep:
                show(cfg, experiment, outcome, record)
            return outcome


def show(cfg: DictConfig, experiment: str, outcome: Outcome, record: Record) -> None:
    """Says where a run is, and how it is drawn."""
    print(f"  record: {record.folder}")
    print(f"  MLflow: {f'run {outcome.run_id} in' if outcome.run_id else 'not heard yet by'} {tracking.place(cfg.outputs)}")
    if command := drawn_by(cfg.outputs, experiment, source=config.source(cfg), scale=cfg.scale.name):
        print(f"  figures: {command}")
    sys.stdout.flush()


def drawn_by(outputs: str, experiment: str, **chosen: str) -> str | None:
    """The command that draws the runs that have `chosen`; None for an experiment that has no report."""
    if not (identity.ROOT / "experiments" / f"{experiment}.py").exists():
        return None
    words = [f"{key}={value}" for key, value in chosen.items()]
    place = ["--outputs", outputs] if outputs != config.outputs() else []
    return shlex.join(["python", "-m", "experiments", experiment, *words, *place])


def describe(cfg: DictConfig, hydra: DictConfig) -> dict[str, str]:
    """A run's tags; of a file that it reads, data.content or model.content: reports don't mix what differs in it."""
    choices = {group: hydra.runtime.choices[group] or "none" for group in ("model", "data", "study")}
    paths = {key: path for key in sorted(identity.FILES) if (path := OmegaConf.select(cfg, key))}
    files = {f"{key.partition('.')[0]}.content": identity.content(path)[:12] for key, path in paths.items()}
    more = {"source": config.source(cfg), "scale": cfg.scale.name, "job": "0"}
    return {**choices, **files, **more, **tracking.source(hydra.overrides.task)}


def identify(cfg: DictConfig, device: torch.device | None) -> str:
    """`identity.identity`; of a study that times the machine, the machine is a part of it."""
    timed = device is not None and config.is_timed(cfg)
    return identity.identity(cfg, *(machine(device).values() if timed else ()))

"""One job, from its configuration to a logged run."""

import shlex
import sys
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from inn_lab import again, config, identity, parts, signals, tracking
from inn_lab.errors import ConfigError, NotHere
from inn_lab.models.base import Model
from inn_lab.records import Outcome, Record
from inn_lab.seeding import seed_globals
from inn_lab.standing import at_work, duration
from inn_lab.studies import Job, ModelJob
from inn_lab.trials import Trial

UNFINISHED = ("failed", "pruned")  # ends after which a job that is asked for again goes on
WHY = {"diverged": "a loss or a weight is no number any more", "pruned": "its search found it hopeless"}


def run(cfg: DictConfig) -> Outcome:
    """Runs a job, or goes on with it, or finds that it is done; returns how it ended.

    A job whose model or data cannot be built raises ConfigError; in a sweep it is recorded as *undefined* instead. There, one
    that fails is recorded as *failed* and does not raise either: the others go on.
    """
    signals.listen()
    config.check(cfg)
    tracking.settle(cfg)
    hydra: Any = HydraConfig.get()  # a DictConfig, which Hydra calls by its dataclass
    asked = Asked.by(cfg, hydra)
    begin, why = None, ""
    try:
        device = parts.pick_device(cfg.trainer)
        begin = parts.build(cfg, device)
    except NotHere as error:  # that is no record's end
        if not asked.in_sweep:
            raise
        return asked.told(Outcome("failed", reason=str(error)))
    except ConfigError as error:
        if not asked.in_sweep:
            raise
        why = str(error)
    if not asked.in_sweep:
        tracking.experiment_id(cfg.outputs, asked.experiment)  # is MLflow there? later it may be away
        tracking.recover(cfg.outputs)
    which, code = again.identify(cfg, device if begin else None), identity.code(cfg)
    record = again.record_of(cfg.outputs, asked.experiment, which, cfg.resume, code, asked.command)
    with record.mine(patience=5 if asked.in_sweep else 0) as mine:
        if not mine:
            if asked.in_sweep:
                return Outcome("running", reason="another process has it")
            raise ConfigError(f"this run is running already (its record is {record.folder}); wait for it, or set resume=false")
        if outcome := record.outcome:
            tracking.take_over(cfg.outputs, record, asked.place)
            print(f"{asked.title} · {outcome.words(code)}; resume=false runs it afresh", flush=True)
        else:
            tags = {**asked.tags, **asked.place, "commit": code.name}
            if begin is None:
                logged = tracking.Run(record, cfg.outputs, asked.experiment, asked.name, tags)
                logged.params(cfg)
                return asked.told(logged.end("FINISHED", "undefined", why))
            with tracking.Run(record, cfg.outputs, asked.experiment, asked.name, {**tags, **of_torch(device)}) as logged:
                outcome = work(begin(run=logged, title=asked.title, trial=asked.trial), asked)
                if outcome.state not in UNFINISHED:
                    record.finish(outcome)
            asked.told(outcome)
        if not asked.in_sweep:
            show(cfg, asked.experiment, outcome, record)
        return outcome


@dataclass(frozen=True)
class Asked:
    """How a job was asked for, alone or in a sweep, and by which names it goes."""

    in_sweep: bool
    experiment: str
    title: str  # on the screen
    name: str  # in MLflow
    tags: dict[str, str]
    place: dict[str, str | None]  # the tags that say which sweep it is in
    command: str | None = None  # a name of the sweep's command, which no other has
    trial: Trial | None = None  # of a search

    @classmethod
    def by(cls, cfg: DictConfig, hydra: DictConfig) -> Self:
        experiment, words, tags = tracking.experiment_name(hydra), hydra.overrides.task, describe(cfg, hydra)
        whole = config.title(words) or experiment
        if hydra.mode != RunMode.MULTIRUN:
            return cls(False, experiment, whole, whole, tags | note(words), {})
        number, folder = str(hydra.job.num), Path(hydra.sweep.dir)
        parent = tracking.parent(folder)
        axes = parent.get("axes", ())  # a cluster's queue may hold jobs of a lab that wrote none
        varies = config.title(words, axes) or experiment
        shared = config.title(word for word in words if word.partition("=")[0] not in axes)
        tags |= note(words, axes)
        name = " · ".join(dict.fromkeys(filter(None, [varies, shared])))  # in a legend what varies comes first
        place = {tracking.PARENT: parent["run_id"], "sweep": folder.name, "job": number}
        trial = Trial.of_job(folder / number)
        return cls(True, experiment, f"job {number} · {varies}", name, tags, place, parent["command"], trial)

    def told(self, outcome: Outcome) -> Outcome:
        """Prints how the job ended, and returns it."""
        took = "" if outcome.seconds is None or outcome.state == "undefined" else f" · {duration(outcome.seconds)}"
        print(f"{self.title} · {outcome.words()}{took}", flush=True)
        return outcome


def work(job: Job, asked: Asked) -> Outcome:
    """Logs what the job is made of, and does what its study says."""
    logged, cfg = job.run, job.cfg
    try:
        logged.params(cfg)
        if job.digest:
            logged.data(f"{asked.tags['data']}/{asked.tags['source']}", job.digest, cfg.data._target_)
        if isinstance(job, ModelJob):
            logged.tag(**(job.model.tags() if isinstance(job.model, Model) else {}))
            size = {key if "/" in key else f"model/{key}": value for key, value in job.model.size(job.data.steps).items()}
            logged.sizes({**{f"data/{part}": n for part, n in job.data.sizes.items()}, **size})
        seed_globals(cfg.seed, "study")
        with at_work(asked.title) if cfg.trainer.progress else nullcontext():
            state = parts.part_of(cfg, "study").made(job) or "finished"
    except Exception as error:
        if not asked.in_sweep:
            raise
        return logged.failed(error)
    return logged.end("FINISHED", state, WHY.get(state))


def note(words: Iterable[str], axes: Collection[str] = ()) -> dict[str, str]:
    """The run's description in MLflow: what was set for it, and in a sweep which of that varies there, the keys `axes`."""
    own = [word for word in words if not word.startswith(("experiment=", "resume="))]
    parts = {
        "Varies in its sweep": [word for word in own if word.partition("=")[0] in axes],
        "Set": [word for word in own if word.partition("=")[0] not in axes],
    }
    said = [f"{name}: {' '.join(f'`{word}`' for word in found)}" for name, found in parts.items() if found]
    return {tracking.NOTE: "  \n".join(said)} if said else {}


def of_torch(device: torch.device) -> dict[str, str]:
    """The tags that say by which torch and on which device a run was made."""
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {"device": f"{device}{name}", "torch": torch.__version__}


def show(cfg: DictConfig, experiment: str, outcome: Outcome, record: Record) -> None:
    """Says where a run is, and how it is drawn."""
    print(f"  record: {record.folder}")
    print(f"  MLflow: {f'run {outcome.run_id} in' if outcome.run_id else 'not heard yet by'} {tracking.place(cfg.outputs)}")
    print(f"  figures: {drawn_by(cfg.outputs, experiment, source=config.source(cfg), scale=cfg.scale.name)}")
    sys.stdout.flush()


def drawn_by(outputs: str, experiment: str, **chosen: str) -> str:
    """The command that draws the runs that have `chosen`: by the experiment's report, or by `curves`."""
    own = any(Path(place, f"{experiment}.py").exists() for place in (identity.ROOT / "experiments", "."))
    report = [experiment] if own else ["curves", experiment]
    words = [f"{key}={value}" for key, value in chosen.items()]
    place = ["--outputs", outputs] if outputs != config.outputs() else []
    return shlex.join(["python", "-m", "experiments", *report, *words, *place])


def describe(cfg: DictConfig, hydra: DictConfig) -> dict[str, str]:
    """A run's tags; of a file that it reads, data.content or model.content: reports don't mix what differs in it."""
    choices = {group: hydra.runtime.choices[group] or "none" for group in ("model", "data", "study", "optimizer", "schedule")}
    contents = {key: identity.content(OmegaConf.select(cfg, key)) for key in sorted(identity.FILES)}
    files = {f"{key.partition('.')[0]}.content": content[:12] for key, content in contents.items() if content}
    more = {"source": config.source(cfg), "scale": cfg.scale.name, "job": "0"}
    return {**choices, **files, **more, **tracking.source(hydra.overrides.task)}

"""One job, from its configuration to a logged run. The only place that builds objects from the configuration."""

import inspect
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from inn_lab import config, identity, memory, signals, tracking
from inn_lab.config import ConfigError, NotHere
from inn_lab.data import load
from inn_lab.models.base import Model
from inn_lab.records import Outcome, Record
from inn_lab.schema import ResNet
from inn_lab.seeding import generator, seed_globals
from inn_lab.shared import Shared
from inn_lab.standing import duration
from inn_lab.studies import Job
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
        job, why = build(cfg, title), None
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
                state = _made(cfg, "study").made(job) or "finished"
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


def build(cfg: DictConfig, title: str) -> Job:
    """The objects of a job. Raises ConfigError where the configuration does not define them."""
    device = pick_device(cfg.trainer)
    _made(cfg, "study").check(None)
    check_study(cfg, device)
    seed_globals(cfg.seed, "data")
    data, digest = build_data(cfg, device) if OmegaConf.select(cfg, "data._target_") else (None, None)
    if OmegaConf.select(cfg, "model._target_") is None:
        return Job(cfg, title, device, data, digest)
    make = maker(cfg, data, device)
    check_model(cfg, make, data, device)
    seed_globals(cfg.seed, "model")
    model = make(generator=generator(cfg.seed, "model"))
    return Job(cfg, title, device, data, digest, model, make, _made(cfg, "objective")())


def define(cfg: DictConfig, made: dict[str, Any], device: torch.device | None = None) -> None:
    """Raises ConfigError where `build` would. Draws no weights; keeps in `made` the data, and what has been defined, for other
    jobs that have the same.

    device: where the job will run, if that is known: only of the CPU the memory is asked for here.
    """
    here = device is not None and device.type == "cpu"
    device = torch.device("cpu")
    if not cfg.study._target_.startswith("inn_lab.studies."):  # those bring Lightning, which takes seconds
        _made(cfg, "study").check(None)
    check_study(cfg, device if here else None)
    if OmegaConf.select(cfg, "data._target_") is None:
        return
    data_of = str((config.flat(cfg.data), config.flat(cfg.source)))
    data = made[data_of] = made.get(data_of) or build_data(cfg, device)[0]
    if OmegaConf.select(cfg, "model._target_"):
        all_of = data_of + str((config.flat(cfg.model), config.flat(cfg.objective), here))
        if all_of not in made:
            check_model(cfg, maker(cfg, data, device), data, device if here else None)
            _made(cfg, "objective")()
            made[all_of] = True


def check_study(cfg: DictConfig, device: torch.device | None) -> None:
    """Raises NotHere for a study that the device's memory is too small for."""
    if device:
        for key, numbers in OmegaConf.get_type(cfg.study).numbers(cfg.study).items():
            memory.fits("the study", numbers, device, {key: OmegaConf.select(cfg, key)})


# What says how large a model is; of these a job's own are named where it is too large.
SIZES = ("n_weights", "R", "depth", "aspect_ratio", "hidden", "hidden_size", "num_layers", "embedding", "width", "blocks")
TRAINED = 4  # numbers for each that trains: itself, its derivative, Adam's two


def check_model(cfg: DictConfig, make: Callable[..., Any], data: Any, device: torch.device | None) -> None:
    """Raises ConfigError for a model that cannot be defined, NotHere for one that the device's memory is too small for.

    A model of the user's own that cannot be made without a generator is let pass: making it will tell.
    """
    batch, steps = min(data.batch_size, data.sizes["train"]), data.steps
    rest = {key: OmegaConf.select(cfg, key) for key in ("data.batch_size", "data.iterations")}
    rest |= {"seq_len": OmegaConf.select(cfg, "data.seq_len")}
    try:
        model = make(generator=None)
    except Raised:
        return
    if device and isinstance(model, Model):
        sizes = {f"model.{key}": OmegaConf.select(cfg.model, key) for key in SIZES}
        sizes |= {"scale.weights": None if cfg.scale.weights == 1 else cfg.scale.weights}
        memory.fits("the model", TRAINED * model.n_held, device, sizes)
        memory.fits("its states in a batch", batch * (data.n_inputs + steps * model.units), device, {**sizes, **rest})


def maker(cfg: DictConfig, data: Any, device: torch.device) -> Callable[..., torch.nn.Module]:
    """What builds the model for the data, from a generator."""
    more: dict[str, Any] = {}
    if "linear" in cfg.model:
        more["device"] = device  # which way to hold a matrix is fastest depends on it
    if issubclass(OmegaConf.get_type(cfg.model), ResNet):
        more["image"] = getattr(data, "image", None)
    return partial(_made(cfg, "model"), data.n_inputs, data.n_outputs, **more)


def build_data(cfg: DictConfig, device: torch.device) -> tuple[Any, str]:
    """The data group, with a source's images if it is made of such; and a hash of all that its tensors follow from."""
    made_of, what = {}, [OmegaConf.to_yaml(cfg.data, resolve=True), str(cfg.seed), *identity.own([cfg.data._target_]).values()]
    if config.of_images(cfg):
        images, look = load(cfg.source.name, cfg.source.root), OmegaConf.masked_copy(cfg.source, ["image_size", "mean", "std"])
        made_of = {"images": images, **look}
        what += [OmegaConf.to_yaml(look, resolve=True), *vars(images).values()]
    shared = Shared(Path(cfg.outputs) / "data", device, *what)
    return _made(cfg, "data")(**made_of, seed=cfg.seed, device=device, once=shared.once), shared.folder.name


PARTS = {  # what the lab asks of each
    "data": ("n_inputs", "n_outputs", "steps", "sizes", "batch_size", "batches"),
    "model": ("parameters",),
    "objective": ("read",),
}
USUAL = "leave it out for the usual one (docs/architecture.md says how to add another)"


class Raised(ConfigError):
    """A class or a function of the user's own raised something, where it was called to make a part of a job."""


@dataclass(frozen=True)
class Part:
    """The class or function that a part of the config names, with the part's values bound. It travels to other processes.

    Raises ConfigError where it is called: for what cannot be called so, for a class of the user's own that fails, with the
    place, and for what is no such part.
    """

    kind: str  # data, model, objective
    name: str  # the key and its value
    keys: str
    made: Callable[..., Any]
    mine: bool  # whether it is the user's own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.check(*args, **kwargs)
        try:
            made = self.made(*args, **kwargs)
        except Exception as error:
            if isinstance(error, ConfigError) or not self.mine:
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(f"{type(error).__name__}: {error}".split())
            place = f"{Path(where.filename).name}, line {where.lineno}"
            raise Raised(f"{self.name}: it raised {said} ({place}); mend it") from error
        if lacks := [attribute for attribute in PARTS[self.kind] if not hasattr(made, attribute)]:
            raise ConfigError(f"{self.name}: what it makes is no {self.kind}, it has no {', '.join(lacks)}; {USUAL}")
        return made

    def check(self, *args: Any, **kwargs: Any) -> None:
        try:
            inspect.signature(self.made).bind(*args, **kwargs)
        except (TypeError, ValueError) as error:  # ValueError: it is not Python's, and says nothing of how it is called
            raise ConfigError(f"{self.name}: it cannot be called as a {self.kind} is, with {self.keys}; {USUAL}") from error


def _made(cfg: DictConfig, kind: str) -> Part:
    """A part of the config: what is passed to it stays a plain object. Raises ConfigError for a name of nothing."""
    target = cfg[kind]._target_
    name, keys = f"{kind}._target_={target}", ", ".join(key for key in cfg[kind] if key != "_target_")
    try:
        made = instantiate(cfg[kind], _partial_=True)
    except InstantiationException as error:
        why = str(error.__cause__ or error).partition(", set env var")[0].splitlines()[0].rstrip(":")
        raise ConfigError(f"{name}: {why}; {USUAL}") from error
    return Part(kind, name, keys or "a job", made, bool(identity.own([target])))


def pick_device(trainer: DictConfig) -> torch.device:
    """auto: the CUDA device `trainer.device` where there is CUDA, else the CPU. Raises NotHere if it is not there."""
    there = torch.cuda.device_count()
    if trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not there):
        return torch.device("cpu")
    if not there:
        raise NotHere("trainer=gpu: torch sees no CUDA device here; use trainer=auto or trainer=cpu")
    if not 0 <= trainer.device < there:
        raise NotHere(f"trainer.device={trainer.device}: torch sees {there} CUDA device(s); use 0 to {there - 1}")
    return torch.device("cuda", trainer.device)

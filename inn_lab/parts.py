"""A job's parts: from its configuration to objects. The only place that builds any from it."""

import functools
import inspect
import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from inn_lab import config, identity, machine, weights
from inn_lab.data import load
from inn_lab.errors import ConfigError, NotHere
from inn_lab.models.base import Model
from inn_lab.seeding import generator, seed_globals
from inn_lab.shared import Shared, digest
from inn_lab.studies import Job, ModelJob
from inn_lab.training.schedules import updates


def build(cfg: DictConfig, device: torch.device) -> Callable[..., Job]:
    """A function that makes the job from its `run` and `title`; the job's other objects are built here.

    Raises ConfigError where the configuration does not define them.
    """
    part_of(cfg, "study").check(None)
    check_study(cfg, device)
    seed_globals(cfg.seed, "data")
    data, digest = build_data(cfg, device) if OmegaConf.select(cfg, "data._target_") else (None, None)
    common: dict[str, Any] = {"cfg": cfg, "device": device, "data": data, "digest": digest}
    if OmegaConf.select(cfg, "model._target_") is None:
        return functools.partial(Job, **common)
    make = maker(cfg, data, device)
    check_model(cfg, make, data, device)
    seed_globals(cfg.seed, "model")
    model = make(generator=generator(cfg.seed, "model"))
    if cfg.start_from is not None:
        start(model, cfg.start_from)
    optimizer, schedule, method = check_training(cfg, data)
    if method:
        with in_keys(keys_of(cfg, "model")):
            method.check(model)
    parts = {"objective": part_of(cfg, "objective")(), "optimizer": optimizer, "schedule": schedule, "method": method}
    return functools.partial(ModelJob, **common, model=model, make=make, **parts)


def check_training(cfg: DictConfig, data: Any) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    """What makes the optimizer, from the parameters; what makes the schedule, from the number of all updates; and the method
    that changes patterns in training, None without one. Raises ConfigError where one cannot be made."""
    optimizer, schedule = functools.partial(part_of(cfg, "optimizer"), lr=cfg.lr), part_of(cfg, "schedule")
    optimizer([torch.nn.Parameter(torch.zeros(1))])
    schedule(None if cfg.trainer.max_time else 1)(0)
    method = None
    if OmegaConf.select(cfg, "pruning._target_"):
        part = part_of(cfg, "pruning")
        steps = updates(data, cfg.trainer.max_epochs, cfg.debug)
        given = {"steps": steps, "seed": cfg.seed, "T": data.steps}
        method = part(**{name: value for name, value in given.items() if name in part.arguments})
    return optimizer, schedule, method


def start(model: Model, file: str) -> None:
    """Gives a model the weights of another run. Raises ConfigError where they do not fit."""
    try:
        weights.fill(model, weights.read(Path(file))[0])
    except ConfigError as error:
        raise ConfigError(f"start_from={file}: {error}") from error


def define(cfg: DictConfig, made: dict[str, Any], device: torch.device | None = None) -> None:
    """Raises ConfigError where `build` would. Draws no weights; keeps in `made` the data, and what has been defined, for other
    jobs that have the same.

    device: where the job will run; None where that is not known. Only the CPU's memory is asked for here.
    """
    here = device is not None and device.type == "cpu"
    device = torch.device("cpu")
    part_of(cfg, "study").check(None)
    check_study(cfg, device if here else None)
    if OmegaConf.select(cfg, "data._target_") is None:
        return
    data_of = str((config.flat(cfg.data), config.flat(cfg.source)))
    data = made[data_of] = made.get(data_of) or build_data(cfg, device)[0]
    if OmegaConf.select(cfg, "model._target_"):
        all_of = data_of + str((config.flat(cfg.model), config.flat(cfg.objective), here))
        if all_of not in made:
            check_model(cfg, maker(cfg, data, device), data, device if here else None)
            part_of(cfg, "objective")()
            made[all_of] = True
        ways = (config.flat(cfg[group]) for group in ("optimizer", "schedule", "pruning", "trainer") if cfg[group])
        trained_by = data_of + str((*ways, cfg.lr, cfg.debug))
        if trained_by not in made:
            made[trained_by] = check_training(cfg, data)


def check_study(cfg: DictConfig, device: torch.device | None) -> None:
    """Raises NotHere for a study that the device's memory is too small for."""
    if device:
        for key, numbers in config.terms(cfg).memory(cfg.study).items():
            machine.fits("the study", numbers, device, {key: OmegaConf.select(cfg, key)})


# What says how large a model is; of these a job's own are named where it is too large.
SIZES = ["n_weights", "R", "depth", "aspect_ratio", "hidden", "hidden_size", "num_layers", "embedding", "width"]
SIZES += ["layers", "blocks"]
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
        machine.fits("the model", TRAINED * model.n_held, device, sizes)
        machine.fits("its states in a batch", batch * (data.n_inputs + steps * model.units), device, {**sizes, **rest})


def maker(cfg: DictConfig, data: Any, device: torch.device) -> Callable[..., Model]:
    """A function that builds the model for the data from a generator.

    A model gets the numbers of inputs and outputs, and `image` or `device` if its constructor has that argument.
    """
    model = part_of(cfg, "model")
    known = {"image": getattr(data, "image", None), "device": device}
    more = {name: value for name, value in known.items() if name in model.arguments}
    return functools.partial(model, data.n_inputs, data.n_outputs, **more)


def build_data(cfg: DictConfig, device: torch.device) -> tuple[Any, str]:
    """The data group, with a source's images if it is made of such; and a digest of all that its tensors follow from."""
    file = identity.content(OmegaConf.select(cfg, "data.path"))
    what = [OmegaConf.to_yaml(cfg.data, resolve=True), file, str(cfg.seed), *identity.own([cfg.data._target_]).values()]
    made_of: dict[str, Any] = {}
    if config.of_images(cfg):
        with in_keys(keys_of(cfg, "source")):
            images = load(cfg.source.name, cfg.source.root)
        look = OmegaConf.masked_copy(cfg.source, ["image_size", "mean", "std"])
        made_of = {"images": images, **{str(key): value for key, value in look.items()}}
        what += [OmegaConf.to_yaml(look, resolve=True), *vars(images).values()]
    shared = Shared(Path(cfg.outputs) / "data", digest(device, identity.lab("data/*.py", "seeding.py"), *what), device)
    return part_of(cfg, "data")(**made_of, seed=cfg.seed, device=device, once=shared.once), shared.digest


@contextmanager
def in_keys(keys: Mapping[str, str]) -> Iterator[None]:
    """Errors speak of the configuration's keys in place of the arguments that they set: "swap=2: …" is "model.swap=2: …", and
    "blocks.a.b=…" is "model.blocks.a.b=…"."""
    try:
        yield
    except ConfigError as error:
        names = "|".join(map(re.escape, keys))
        raise type(error)(re.sub(rf"(?<![\w.])({names})(?=(?:\.\w+)*[=\[])", lambda name: keys[name[0]], str(error))) from error


def keys_of(cfg: DictConfig, *groups: str) -> dict[str, str]:
    """The key of each value of these groups: model.swap, but R where model.R takes over the root's."""
    return {name: key_of(cfg, group, name) for group in groups for name in cfg[group] or ()}


def key_of(cfg: DictConfig, group: str, name: str) -> str:
    node = cfg[group]._get_node(name)
    taken = node is not None and node._is_interpolation() and re.search(rf"\$\{{{name}\}}", str(node._value()))
    return name if taken else f"{group}.{name}"


PARTS = {  # what the lab asks of each
    "data": ("n_inputs", "n_outputs", "steps", "sizes", "batch_size", "batches"),
    "model": ("parameters", "size", "told"),
    "objective": ("read", "loss", "answer", "correct"),
    "optimizer": ("param_groups", "zero_grad", "step", "state_dict", "load_state_dict"),
    "schedule": ("__call__",),
    "pruning": ("around", "matrices", "check"),
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
    made: functools.partial[Any]
    key_of: Mapping[str, str]  # which key sets an argument
    mine: bool  # whether it is the user's own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.check(*args, **kwargs)
        try:
            with in_keys(self.key_of):
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

    @property
    def arguments(self) -> Collection[str]:
        """The names of the arguments that it takes."""
        try:
            return inspect.signature(self.made.func).parameters
        except (TypeError, ValueError):  # it is not Python's, and says nothing of how it is called
            return ()

    def check(self, *args: Any, **kwargs: Any) -> None:
        try:
            inspect.signature(self.made).bind(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.name}: it cannot be called as the lab calls its {self.kind}, with {self.keys}; {USUAL}"
            ) from error


def part_of(cfg: DictConfig, kind: str) -> Part:
    """A part of the config: what is passed to it stays a plain object. Raises ConfigError for a name of nothing."""
    target = cfg[kind]._target_
    name, keys = f"{kind}._target_={target}", ", ".join(key for key in cfg[kind] if key != "_target_")
    try:
        made = instantiate(cfg[kind], _partial_=True, _convert_="all")
    except InstantiationException as error:
        why = str(error.__cause__ or error).partition(", set env var")[0].splitlines()[0].rstrip(":")
        raise ConfigError(f"{name}: {why}; {USUAL}") from error
    return Part(kind, name, keys or "a job", made, keys_of(cfg, "source", kind), bool(identity.own([target])))


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

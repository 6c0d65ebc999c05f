"""The check of a configuration against what it is for: the schema, and the arguments of what it names."""

import functools
import os
import pkgutil
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from inn_lab.errors import ConfigError, near
from inn_lab.explain import OURS, explain, keys, kinds_of, meant, nodes
from inn_lab.ranges import Target, arguments, check_value, range_of, way_out


def title(overrides: Iterable[str], axes: Collection[str] = ()) -> str:
    """How a job is called: what was set for it, but for what all jobs of a command have in common anyway. In a sweep that is
    what varies in it, the keys `axes`."""
    words = [word for word in overrides if not word.startswith(("experiment=", "resume="))]
    return " ".join([word for word in words if word.partition("=")[0] in axes] or words)


# The groups that name what is built of them, and the arguments that the lab passes itself.
BUILT: dict[str, frozenset[str]] = {
    "model": frozenset({"n_inputs", "n_outputs", "image", "device", "generator"}),
    "data": frozenset({"images", "image_size", "mean", "std", "seed", "device", "once"}),
    "objective": frozenset(),
    "study": frozenset({"job"}),
    "optimizer": frozenset({"params", "lr"}),
    "schedule": frozenset({"updates"}),
    "pruning": frozenset({"steps", "seed", "T"}),  # of a method that changes patterns in training
}


def named(cfg: DictConfig, group: str) -> Callable[..., Any] | None:
    """The class or function that a group names; None without one, and for a name of nothing (`inn_lab.parts` says so)."""
    target = OmegaConf.select(cfg, f"{group}._target_")
    try:
        made = pkgutil.resolve_name(target) if isinstance(target, str) else None
    except Exception:  # a module is the user's code, and may do anything
        return None
    return made if callable(made) else None


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Terms:
    """What a study asks of a job; a decorator of its function, `@Terms(timed=True)`. A function without it has the usual terms.

    model, data: the class that they must be of, None where none is needed; and the message if they are not.
    timed: it times the machine, which a job then must have for itself; on another machine it is another job.
    cuts: it cuts what `pruning` says.
    method: the class that `pruning` must name, of a method whose patterns change between trainings.
    memory: how many numbers it holds at least beside the model and the data, by the key that they come from, of its own part of
        the configuration.
    """

    model: tuple[type | None, str] = (
        object,
        "it works on a model, and there is none; take another study or another experiment",
    )
    data: tuple[type | None, str] = (object, "it works on data, and there are none; take another study or another experiment")
    timed: bool = False
    cuts: bool = False
    method: type | None = None
    memory: Callable[[DictConfig], dict[str, float]] = lambda study: {}

    def __call__(self, study: F) -> F:
        study.terms = self  # type: ignore[attr-defined]  # functions have a __dict__
        return study


NONE: tuple[None, str] = (None, "")  # of `Terms.model` and `Terms.data`: it needs none


def terms(cfg: DictConfig) -> Terms:
    """What the job's study asks of it."""
    return getattr(named(cfg, "study"), "terms", Terms())


def is_timed(cfg: DictConfig) -> bool:
    """Whether what comes out depends on how fast the machine is: the job times it, or a clock ends the training."""
    return terms(cfg).timed or cfg.trainer.max_time is not None


def of_images(cfg: DictConfig) -> bool:
    """Whether the data are made of a source's images: then their class takes `images`."""
    made = named(cfg, "data")
    return made is not None and "images" in (arguments(made) or ())


def source(cfg: DictConfig) -> str:
    """Where the data come from, in a word: a source of images, a file, or the class that draws them; "none" without data."""
    if OmegaConf.select(cfg, "data._target_") is None:
        return "none"
    if of_images(cfg):
        return cfg.source.name
    path = OmegaConf.select(cfg, "data.path")
    return Path(path).name if path else cfg.data._target_.rpartition(".")[2].lower()


def flat(cfg: DictConfig, path: str = "") -> dict[str, Any]:
    """{"R": 0.2, "model.init": "normal", …}, interpolations resolved."""
    values: dict[str, Any] = {}
    for key in keys(cfg):
        value = cfg[key]
        if isinstance(value, DictConfig):
            values |= flat(value, f"{path}{key}.")
        else:
            values[f"{path}{key}"] = OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
    return values


def outputs(folder: str | None = None) -> str:
    """The folder of everything that is made: `folder`, or what INN_LAB_OUTPUTS says, or `outputs`. Raises ConfigError for a
    name that is empty, for that would be the folder one is in, or the root."""
    folder = os.environ.get("INN_LAB_OUTPUTS", "outputs") if folder is None else folder
    if not folder.strip():
        raise ConfigError(f"outputs={folder!r} (or INN_LAB_OUTPUTS): a folder has a name; e.g. outputs=outputs")
    return folder


def check_choices(choices: Mapping[str, Any]) -> None:
    """Raises ConfigError for a choice that is another name of the same file (/structure, ../experiment/structure). Folders and
    tags are named after choices: each has one name."""
    for group, choice in choices.items():
        if choice is not None and re.search(r"[/.]", str(choice)):
            names = near(Path(str(choice)).stem, OURS[group]) if group in OURS else f"; e.g. {group}={Path(str(choice)).stem}"
            raise ConfigError(f"{group}={choice}: a choice is a name, without a slash or a dot{names}")


def check(cfg: DictConfig) -> None:
    """Raises ConfigError for the first unknown key, for a value of a wrong type or out of its range, and for a study that the
    rest is not for. What depends on sizes is met where it is built.

    Values of a group that names a class or a function get the types of its arguments, in place: R=1 is 1.0.
    """
    for group in BUILT:
        _type(cfg, group)
    if cfg.debug is not None and OmegaConf.select(cfg, "data._target_") is None:
        raise ConfigError(f"debug={cfg.debug}: there are no data to train on; leave it out")
    later = []  # reckoned from other values, which are checked before
    for path, node in nodes(cfg):
        kinds = kinds_of(node)
        for key in keys(node):
            if kinds and key not in kinds:
                raise ConfigError(f"{path}{key}: there is no such key{meant(f'{path}{key}', cfg)}")
            if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
                later.append((f"{path}{key}", node, key, kinds.get(key)))
            else:
                check_value(f"{path}{key}", node[key], kinds.get(key))
    try:
        for name, node, key, kind in later:
            check_value(name, node[key], kind)
    except OmegaConfBaseException as error:  # a value that is missing, or taken over from another key and not allowed here
        raise ConfigError(explain(error)) from error
    flag = OmegaConf.select(cfg, "objective.flag")
    if (given := OmegaConf.select(cfg, "data.flag", default=flag)) != flag:
        raise ConfigError(f"data.flag={given}: it follows objective.flag={flag}; set that one")
    if cfg.start_from is not None and OmegaConf.select(cfg, "model._target_") is None:
        raise ConfigError(f"start_from={cfg.start_from}: there is no model that could begin with weights; leave it out")
    _check_study(cfg)


def _type(cfg: DictConfig, group: str) -> None:
    """Gives a group's values the types of the arguments that they are for. Raises ConfigError for what is no argument."""
    node = cfg._get_node(group)
    if node is None or node._is_none():
        return  # there is no such part
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{group}={node}: it has keys of its own, {group}.KEY=VALUE; leave it out for the usual one")
    if "_target_" not in keys(node):
        return  # sizes for data that are not there, from scale=smoke
    try:
        check_value(f"{group}._target_", node._target_, Target)
    except OmegaConfBaseException as error:  # taken over from a key that is not there
        raise ConfigError(explain(error)) from error
    made = named(cfg, group)
    known = made and arguments(made)
    if made is None:
        return  # `inn_lab.parts` says what ails it
    if known is None:
        return _said_unchecked(f"{group}._target_={node._target_}")
    known = {**known, "_target_": Target}
    names = known.keys() - BUILT[group]
    for key in keys(node):
        if key not in names:
            other = near(key, names - {"_target_"}) if len(names) > 1 else "; take another class or function"
            raise ConfigError(f"{group}.{key}: {group}._target_={node._target_} takes no such key{other}")
    typed = DictConfig(_schema(made, tuple(keys(node))), parent=cfg, key=group)
    values: Any = OmegaConf.to_container(node)
    for key, value in values.items():
        try:
            typed[key] = value
        except (OmegaConfBaseException, OverflowError) as error:  # an int that is no float
            way = way_out(f"{group}.{key}", known[key])
            raise ConfigError(f"{group}.{key}={value}: {way}" if way else explain(error)) from error
    cfg[group] = typed


@functools.cache
def _said_unchecked(what: str) -> None:
    """Says once what is lost with a class that takes any argument."""
    print(f"{what}: it does not say which arguments it takes; its keys are not checked", flush=True)


@functools.cache
def _schema(made: Callable[..., Any], keys: tuple[str, ...]) -> type:
    """A dataclass with the types of a class's or function's arguments, as far as OmegaConf knows them."""
    known = {**(arguments(made) or {}), "_target_": Target}
    return make_dataclass(made.__name__, [(key, _held(known[key]), MISSING) for key in keys])


def _held(kind: Any) -> Any:
    """A type as OmegaConf holds it: numbers, words, lists of them, or None; what it does not know is `Any`, in its range."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return Annotated[_held(parts[0]), *kind.__metadata__]
    if origin is typing.Literal:
        return Annotated[str if all(isinstance(part, str) for part in parts) else Any, range_of(kind)]
    if isinstance(origin, type) and issubclass(origin, Sequence) and len(parts) and _held(parts[0]) in PLAIN:
        return list[_held(parts[0])]  # type: ignore[misc]  # it is made here
    if len(parts) == 2 and type(None) in parts:
        held = _held(next(part for part in parts if part is not type(None)))
        return held | None if held is not Any else Any
    return kind if kind in PLAIN else Any


PLAIN = (bool, int, float, str)


def _check_study(cfg: DictConfig) -> None:
    study, name = terms(cfg), cfg.study._target_.rpartition(".")[2]
    for part in ("model", "data"):
        kind, why = getattr(study, part)
        there, made = OmegaConf.select(cfg, f"{part}._target_") is not None, named(cfg, part)
        if kind is not None and not (there and (made is None or issubclass(_class(made), kind))):
            raise ConfigError(f"study={name}: {why}")
    if cfg.debug in ("overfit", "profile") and (study.timed or study.model[0] is None):
        raise ConfigError(f"debug={cfg.debug}: study={name} does not train; leave one of them out")
    in_training, method = OmegaConf.select(cfg, "pruning._target_"), named(cfg, "pruning")
    if study.method and not (isinstance(method, type) and issubclass(method, study.method)):
        raise ConfigError(f"study={name}: it does what pruning={study.method.__name__.lower()} says; add that")
    if not study.method and getattr(method, "between", False):
        raise ConfigError(f"pruning._target_={in_training}: study={name} does not do that; leave study out")
    if in_training and (study.timed or study.cuts or study.model[0] is None):
        raise ConfigError(f"pruning._target_={in_training}: it is for training, and study={name} is not; leave one of them out")
    if not study.cuts:
        if cfg.pruning is not None and not in_training:
            raise ConfigError(f"study={name}: it cuts nothing; leave study out, pruning=magnitude chooses study=prune")
    elif cfg.pruning is None:
        raise ConfigError("study=prune: there is nothing to cut; add pruning=magnitude")
    if cfg.pruning is not None and cfg.trainer.max_time is not None:
        raise ConfigError(f"trainer.max_time={cfg.trainer.max_time}: pruning trains for epochs; set it to null")


def _class(made: Callable[..., Any]) -> type:
    """Of which class that is which a class or function makes."""
    found = made if isinstance(made, type) else getattr(made, "__annotations__", {}).get("return")
    return found if isinstance(found, type) else object

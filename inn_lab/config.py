"""What is asked of a configuration beyond its schema, and the one error of a user's mistake."""

import difflib
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from inn_lab.schema import ImageData, Prune, Timed


class ConfigError(Exception):
    """A user's mistake. Its text is one line: which key, what it was, what is allowed, what to do."""


class NotHere(ConfigError):
    """What a job needs is not on this machine: its device, its images. Another may have it, or this one tomorrow."""


def near(name: str, known: Iterable[str]) -> str:
    """'; did you mean A or B?' for the known names nearest to `name`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are: {', '.join(known)}"


def title(overrides: Iterable[str], axes: Collection[str] = ()) -> str:
    """How a job is called: what was set for it, but for what all jobs of a command have in common anyway. In a sweep that is
    what varies in it, the keys `axes`."""
    words = [word for word in overrides if not word.startswith(("experiment=", "resume="))]
    return " ".join([word for word in words if word.partition("=")[0] in axes] or words)


def is_timed(cfg: DictConfig) -> bool:
    """Whether what comes out depends on how fast the machine is: the job times it, or a clock ends the training."""
    return issubclass(OmegaConf.get_type(cfg.study), Timed) or cfg.trainer.max_time is not None


def of_images(cfg: DictConfig) -> bool:
    """Whether the data are made of a source's images."""
    return issubclass(OmegaConf.get_type(cfg.data), ImageData)


def source(cfg: DictConfig) -> str:
    """Where the data come from, in a word: a source of images, a file, or the class that draws them; "none" without data."""
    if OmegaConf.select(cfg, "data._target_") is None:
        return "none"
    if of_images(cfg):
        return cfg.source.name
    path = OmegaConf.select(cfg, "data.path")
    return Path(path).name if path else cfg.data._target_.rpartition(".")[2].lower()


def flat(cfg: DictConfig, path: str = "") -> dict[str, object]:
    """{"R": 0.2, "model.init": "normal", …}, interpolations resolved."""
    values = {}
    for key, value in cfg.items():
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


OURS = {"hydra/sweeper": ["grid"], "hydra/launcher": ["local", "slurm"]}  # what the lab's sweeps are run by


def check_choices(choices: Mapping[str, Any]) -> None:
    """Raises ConfigError for a choice that is another name of the same file (/structure, ../experiment/structure). Folders and
    tags are named after choices: each has one name."""
    for group, choice in choices.items():
        if choice is not None and re.search(r"[/.]", str(choice)):
            names = near(Path(str(choice)).stem, OURS[group]) if group in OURS else f"; e.g. {group}={Path(str(choice)).stem}"
            raise ConfigError(f"{group}={choice}: a choice is a name, without a slash or a dot{names}")


Rule = tuple[Callable[[Any], bool], str, Any]  # is it allowed? what is allowed, an example


def at_least(least: int, example: int) -> Rule:
    return lambda v: v >= least, f"at least {least}", example


def one_of(*known: str) -> Rule:
    return known.__contains__, f"one of {', '.join(known)}", known[0]


SIZES = (lambda v: v and min(v) >= 1, "whole numbers from 1, one or more", "[1,10]")

RANGES: dict[str, Rule] = {  # those without a dot also hold where a group takes them over, as model.R
    "R": (lambda v: v is None or 0 < v <= 1, "a density lies in (0, 1]", 0.2),
    "n_weights": (lambda v: v is None or v >= 1, "at least one weight trains", 100000),
    "depth": (lambda v: v is None or v >= 1, "a weight space has at least one row", 610),
    "aspect_ratio": (lambda v: v is None or 0 < v < 1, "depth / width lies in (0, 1)", 0.3),
    "lr": (lambda v: v > 0, "a learning rate is a positive number", "1e-3"),
    "seed": (lambda v: v >= 0, "a seed is a whole number from 0", 0),
    "resume": (lambda v: v in (True, False, "any"), "true, any or false", "any"),
    "seq_len": (lambda v: v >= 3, "an anomaly stands among at least 3 images", 9),
    "source.image_size": (lambda v: v >= 8, "the blur takes at least 8 pixels", 50),
    "source.std": (lambda v: v > 0, "a standard deviation is positive", 0.3081),
    "data.n_train": at_least(1, 2000),
    "data.n_val": at_least(1, 200),
    "data.n_test": at_least(1, 200),
    "data.batch_size": at_least(1, 32),
    "data.transforms": one_of("none", "erase", "perspective", "both"),
    "data.iterations": at_least(1, 5),
    "data.cycles": (lambda v: v > 0, "how many waves, a positive number", 1),
    "objective.at": one_of("last", "all"),
    "objective.readout": one_of("end", "last_char"),
    "objective.within": (lambda v: v > 0, "an answer this near is right, a positive number", 0.05),
    "study.iterations": at_least(2, 20),
    "study.examples": at_least(1, 10),
    "study.sizes": SIZES,
    "study.steps": (lambda v: v >= 2, "at least 2, c is zero before the first", 100),
    "study.sequences": at_least(1, 8),
    "study.counts": SIZES,
    "study.R": (lambda v: v is not None and 0 < v <= 1, "a product needs a density in (0, 1]", 0.01),
    "study.depth": (lambda v: v is not None and v >= 1, "a product needs a size from 1", 1000),
    "study.columns": at_least(1, 1),
    "pruning.target": one_of("both", "i2h", "h2h"),
    "pruning.scope": one_of("global", "layer"),
    "pruning.amount": (lambda v: 0 <= v <= 1, "the share of the weights that go lies in [0, 1]", 0.5),
    "pruning.epochs": at_least(0, 10),
    "trainer.max_epochs": at_least(1, 100),
    "trainer.max_time": (lambda v: v is None or 0 < v <= 1e9, "seconds, at most 1e9, or null for no limit", 300),
    "trainer.checkpoint_s": (lambda v: v >= 0, "seconds, 0 for every epoch", 10),
    "trainer.gradient_clip_val": (lambda v: v is None or v > 0, "a gradient's largest norm, or null for any", 1),
    "trainer.accelerator": one_of("auto", "cpu", "gpu"),
    "scale.weights": (lambda v: v > 0, "a positive factor on n_weights", 1),
}


def check(cfg: DictConfig) -> None:
    """Raises ConfigError for the first unknown key (`+key=…` gets one past Hydra), value out of its range, or study that the
    rest is not for. What depends on sizes is met where it is built."""
    for path, node in _nodes(cfg):
        known = getattr(OmegaConf.get_type(node), "__dataclass_fields__", node)
        for key in node:
            if key not in known:
                raise ConfigError(f"{path}{key}: there is no such key{near(key, known)}")
    try:
        values = flat(cfg)
    except OmegaConfBaseException as error:  # a value that is taken over from another key, and is not allowed here
        raise ConfigError(explain(error)) from error
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: must be a finite number; give one, or leave it out")
        rule = RANGES.get(key) or RANGES.get(key.rpartition(".")[2])
        if rule and not rule[0](value):
            raise ConfigError(f"{key}={value}: {rule[1]}; e.g. {key}={rule[2]}")
    flag = values.get("objective.flag")
    if values.get("data.flag", flag) != flag:
        raise ConfigError(f"data.flag={values['data.flag']}: it follows objective.flag={flag}; set that one")
    _check_study(cfg)


def _check_study(cfg: DictConfig) -> None:
    study, name = OmegaConf.get_type(cfg.study), cfg.study._target_.rpartition(".")[2]
    for part, (schema, why) in getattr(study, "takes", {}).items():
        there = OmegaConf.select(cfg, f"{part}._target_") is not None
        if not (there and issubclass(OmegaConf.get_type(cfg[part]), schema)):
            raise ConfigError(f"study={name}: {why}")
    if not issubclass(study, Prune):
        if cfg.pruning is not None:
            raise ConfigError(f"study={name}: it cuts nothing; leave study out, pruning=magnitude chooses study=prune")
    elif cfg.pruning is None:
        raise ConfigError("study=prune: there is nothing to cut; add pruning=magnitude")
    elif cfg.trainer.max_time is not None:
        raise ConfigError(f"trainer.max_time={cfg.trainer.max_time}: pruning trains for epochs; set it to null")


def _nodes(node: DictConfig, path: str = "") -> Iterable[tuple[str, DictConfig]]:
    yield path, node
    for key in node:
        if OmegaConf.is_dict(node._get_node(key)) and not OmegaConf.is_interpolation(node, key):
            yield from _nodes(node[key], f"{path}{key}.")


def explain(error: Exception) -> str:
    """One line for an error that Hydra, OmegaConf or PyYAML raised on a user's mistake; a ConfigError speaks for itself."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file == "hydra/launcher/submitit_slurm":
        return "hydra/launcher=slurm: hydra-submitit-launcher is not installed; pip install -e '.[cluster]'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}={choice}: there is no such choice{near(choice, OURS.get(group, error.options))}"
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) and not isinstance(cause, OmegaConfBaseException):
        cause = below
    where = re.match(r"In '(\S+)'", str(error))
    where = f" (in conf/{where[1]}.yaml)" if where else ""
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key and cause.parent_node is not None:
        known = {str(key) for key in cause.parent_node} | ({"experiment"} if "." not in cause.full_key else set())
        if not known:
            group = cause.full_key.rpartition(".")[0]
            return f"{cause.full_key}{where}: there is no such key without a {group}; choose one, {group}=… (--help lists them)"
        return f"{cause.full_key}{where}: there is no such key{near(str(cause.key), known - {'hydra'})}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}{where}: {str(cause).splitlines()[0]}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; {str(error).splitlines()[0]}"
    return " ".join(str(error).split())

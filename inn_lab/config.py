"""Checks of a configuration beyond its schema."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from inn_lab.errors import ConfigError, near
from inn_lab.explain import OURS, explain, keys, meant, nodes
from inn_lab.ranges import check_value
from inn_lab.schema import ImageData, Prune, Timed


def title(overrides: Iterable[str], axes: Collection[str] = ()) -> str:
    """How a job is called: what was set for it, but for what all jobs of a command have in common anyway. In a sweep that is
    what varies in it, the keys `axes`."""
    words = [word for word in overrides if not word.startswith(("experiment=", "resume="))]
    return " ".join([word for word in words if word.partition("=")[0] in axes] or words)


def schema_of(node: DictConfig) -> Any:
    """The dataclass that a node is checked against; dict where there is none."""
    return OmegaConf.get_type(node)


def is_timed(cfg: DictConfig) -> bool:
    """Whether what comes out depends on how fast the machine is: the job times it, or a clock ends the training."""
    return issubclass(schema_of(cfg.study), Timed) or cfg.trainer.max_time is not None


def of_images(cfg: DictConfig) -> bool:
    """Whether the data are made of a source's images."""
    return issubclass(schema_of(cfg.data), ImageData)


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
    """Raises ConfigError for the first unknown key (`+key=…` gets one past Hydra), value out of its range, or study that the
    rest is not for. What depends on sizes is met where it is built."""
    for path, node in nodes(cfg):
        known = getattr(schema_of(node), "__dataclass_fields__", node)
        for key in keys(node):
            if key not in known:
                raise ConfigError(f"{path}{key}: there is no such key{meant(f'{path}{key}', cfg)}")
            if not (OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key)):
                check_value(f"{path}{key}", node[key])  # before one that is reckoned from it
    try:
        values = flat(cfg)
    except OmegaConfBaseException as error:  # a value that is missing, or taken over from another key and not allowed here
        raise ConfigError(explain(error)) from error
    for key, value in values.items():
        check_value(key, value)
    flag = values.get("objective.flag")
    if values.get("data.flag", flag) != flag:
        raise ConfigError(f"data.flag={values['data.flag']}: it follows objective.flag={flag}; set that one")
    if values.get("start_from") is not None and OmegaConf.select(cfg, "model._target_") is None:
        raise ConfigError(f"start_from={cfg.start_from}: there is no model that could begin with weights; leave it out")
    _check_study(cfg)


def _check_study(cfg: DictConfig) -> None:
    study, name = schema_of(cfg.study), cfg.study._target_.rpartition(".")[2]
    for part, (schema, why) in getattr(study, "takes", {}).items():
        there = OmegaConf.select(cfg, f"{part}._target_") is not None
        if not (there and issubclass(schema_of(cfg[part]), schema)):
            raise ConfigError(f"study={name}: {why}")
    if not issubclass(study, Prune):
        if cfg.pruning is not None:
            raise ConfigError(f"study={name}: it cuts nothing; leave study out, pruning=magnitude chooses study=prune")
    elif cfg.pruning is None:
        raise ConfigError("study=prune: there is nothing to cut; add pruning=magnitude")
    elif cfg.trainer.max_time is not None:
        raise ConfigError(f"trainer.max_time={cfg.trainer.max_time}: pruning trains for epochs; set it to null")

"""What is asked of a configuration beyond its schema, and the one error of a user's mistake."""

import difflib
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from inn_lab.schema import ImageData, Prune, Timed

CONF = Path(__file__).resolve().parent.parent / "conf"


class ConfigError(Exception):
    """A user's mistake. Its text is one line: which key, what it was, what is allowed, what to do."""


class NotHere(ConfigError):
    """What a job needs is not on this machine: its device, its images. Another may have it, or this one tomorrow."""


def near(name: str, known: Iterable[str]) -> str:
    """'; did you mean A or B?' for the known names nearest to `name`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are: {', '.join(known)}"


# What people call a key, and the lab's keys for it, the likeliest first; those that the present choices have are offered.
CALLED: dict[str, tuple[str, ...]] = {
    "batch": ("data.batch_size",),
    "cuda": ("trainer",),
    "dataset": ("data", "source"),
    "density": ("R",),
    "device": ("trainer",),
    "epochs": ("trainer.max_epochs",),
    "gpu": ("trainer",),
    "hidden": ("model.hidden_size", "model.hidden", "depth"),
    "iterations": ("data.iterations", "model.max_iter"),
    "layers": ("model.num_layers", "model.hidden", "model.blocks"),
    "learning_rate": ("lr",),
    "length": ("seq_len",),
    "network": ("model",),
    "optimizer": ("lr",),
    "parameters": ("n_weights",),
    "sparsity": ("R",),
    "steps": ("data.iterations", "seq_len"),
    "time": ("trainer.max_time",),
    "units": ("model.hidden_size", "model.hidden", "depth"),
}


def meant(key: str, cfg: DictConfig, choices: Iterable[str] = ()) -> str:
    """As `near`, for a key that the configuration does not have: with the full path of those that it has, and which `choices`
    of the group have the key."""
    group, _, name = key.rpartition(".")
    if has := sorted(choices):
        return f"; {group}={', '.join(has)} {'have' if has[1:] else 'has'} it"
    paths = [f"{path}{name}" for path, node in _nodes(cfg) for name in node]
    known = [path for path in paths if path != key and path.split(".")[0] != "hydra" and not path.endswith("._target_")]
    called = difflib.get_close_matches(name.lower(), CALLED, n=1, cutoff=0.8)
    if found := [path for path in CALLED.get(*called, ()) if path in known] if called else []:
        return f"; did you mean {' or '.join(found)}?"
    last = [path for path in known if path.rpartition(".")[2] == name]
    if found := last or difflib.get_close_matches(key, known, n=3, cutoff=0.7):
        return f"; did you mean {' or '.join(found)}?"
    there = OmegaConf.select(cfg, group) if group else cfg
    return near(name, (str(k) for k in there)) if there else near(key, known)


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
MANY = 10**9  # of what is counted one by one, more than anyone waits for
WIDE = 10**8  # units of a layer; whether its weights fit into the memory is `inn_lab.memory`'s question


def count(least: int, most: int, example: Any, more: str = "") -> Rule:
    return lambda v: least <= v <= most, f"a whole number from {least} to {most}{more}", example


def real(allowed: Callable[[float], bool], what: str, example: Any) -> Rule:
    return lambda v: math.isfinite(v) and allowed(v), what, example


def or_null(rule: Rule) -> Rule:
    return lambda v: v is None or rule[0](v), f"{rule[1]}, or null", rule[2]


def each(rule: Rule, most: int) -> Rule:
    return lambda v: 1 <= len(v) <= most and all(map(rule[0], v)), f"1 to {most} of them, each {rule[1]}", f"[{rule[2]}]"


def one_of(*known: str) -> Rule:
    return known.__contains__, f"one of {', '.join(known)}", known[0]


WEIGHTS = count(1, 2**53, 100000)
DENSITY = real(lambda v: 0 < v <= 1, "a density lies in (0, 1]", 0.2)
SHARE = real(lambda v: 0 <= v <= 1, "a group's density lies in [0, 1]", 0.2)
POSITIVE = real(lambda v: 0 < v <= 1e9, "a positive number, at most 1e9", 1)
UNITS = count(1, WIDE, 100)

RANGES: dict[str, Rule] = {  # those without a dot also hold where a group takes them over, as model.R
    "R": or_null(DENSITY),
    "n_weights": or_null(WEIGHTS),
    "depth": or_null(count(1, 2**53, 610)),
    "aspect_ratio": or_null(real(lambda v: 0 < v < 1, "depth / width lies in (0, 1)", 0.3)),
    "lr": real(lambda v: v > 0, "a learning rate is a positive number", "1e-3"),
    "seed": count(0, 2**63 - 1, 0),
    "_target_": (lambda v: bool(v.strip()), "the dotted name of a class or a function", "MODULE.NAME"),
    "resume": (lambda v: v in (True, False, "any"), "true, any or false", "any"),
    "seq_len": count(3, 10_000, 9, ", an anomaly stands among at least 3 images"),
    "source.image_size": count(8, 10_000, 50, " (the blur takes 8 pixels)"),
    "source.mean": real(lambda v: abs(v) <= 1e9, "of the pixels, a finite number", 0.1307),
    "source.std": real(lambda v: v > 0, "a standard deviation is a positive, finite number", 0.3081),
    "data.n_train": count(1, MANY, 2000),
    "data.n_val": count(1, MANY, 200),
    "data.n_test": count(1, MANY, 200),
    "data.batch_size": count(1, MANY, 32),
    "data.transforms": one_of("none", "erase", "perspective", "both"),
    "data.iterations": count(1, 10_000, 5),
    "data.cycles": real(lambda v: 0 < v <= 1e9, "how many waves, a positive number, at most 1e9", 1),
    "model.num_layers": count(1, 1000, 3),
    "model.hidden_size": or_null(UNITS),
    "model.embedding": or_null(count(1, WIDE, 50)),
    "model.hidden": (
        lambda v: v is None or (UNITS[0](v) if isinstance(v, int) else len(v) <= 200 and all(map(UNITS[0], v))),
        f"the widths of up to 200 layers, each {UNITS[1]}",
        "[500,200,100]",
    ),
    "model.component": count(1, WIDE, 100),
    "model.swap": real(lambda v: 0 <= v <= 1, "a probability lies in [0, 1]", 0.2),
    "model.init_std": real(lambda v: v > 0, "a standard deviation is a positive, finite number", 0.05),
    "model.R_input": or_null(SHARE),
    "model.R_hidden": or_null(SHARE),
    "model.R_output": or_null(SHARE),
    "model.R_below": or_null(SHARE),
    "model.R_on": or_null(SHARE),
    "model.R_above": or_null(SHARE),
    "model.number": count(0, MANY, 0),
    "model.width": (lambda v: 4 <= v <= 10_000 and v % 4 == 0, "a multiple of 4, from 4 to 10000", 16),
    "model.blocks": each(count(1, 50, "2,2"), 8),
    "model.rtol": real(lambda v: 0 < v <= 1, "a tolerance lies in (0, 1]", "1e-4"),
    "model.atol": real(lambda v: 0 < v <= 1, "a tolerance lies in (0, 1]", "1e-5"),
    "model.max_iter": count(1, 1_000_000, 300),
    "model.anderson": count(0, 100, 5),
    "objective.at": one_of("last", "all"),
    "objective.readout": one_of("end", "last_char"),
    "objective.within": real(lambda v: v > 0, "an answer this near is right, a positive number", 0.05),
    "study.iterations": count(2, 1000, 20),
    "study.examples": count(1, 1000, 10),
    "study.sizes": each(count(1, 3000, "1,10"), 100),
    "study.steps": count(2, 10_000, 100, ", c is zero before the first"),
    "study.sequences": count(1, 10_000, 8),
    "study.counts": each(count(1, 3000, "1,10"), 100),
    "study.R": DENSITY,
    "study.depth": count(1, WIDE, 1000),
    "study.columns": count(1, WIDE, 1),
    "study.repeats": count(1, MANY, 200),
    "study.seconds": real(lambda v: 0 <= v <= 1e9, "seconds, from 0 to 1e9", 2),
    "pruning.target": one_of("both", "i2h", "h2h"),
    "pruning.scope": one_of("global", "layer"),
    "pruning.amount": real(lambda v: 0 <= v <= 1, "the share of the weights that go lies in [0, 1]", 0.5),
    "pruning.epochs": count(0, MANY, 10),
    "trainer.max_epochs": count(1, MANY, 100),
    "trainer.max_time": or_null(real(lambda v: 0 < v <= 1e9, "seconds, at most 1e9", 300)),
    "trainer.checkpoint_s": real(lambda v: 0 <= v <= 1e9, "seconds, 0 for every epoch, at most 1e9", 10),
    "trainer.gradient_clip_val": or_null(real(lambda v: v > 0, "a gradient's largest norm, a positive number", 1)),
    "trainer.accelerator": one_of("auto", "cpu", "gpu"),
    "trainer.device": count(0, 1023, 0, ", of a CUDA device"),
    "scale.weights": real(lambda v: 0 < v <= 1e9, "a positive factor on n_weights, at most 1e9", 1),
}


def rule_of(key: str) -> Rule | None:
    return RANGES.get(key) or RANGES.get(key.rpartition(".")[2])


def check_value(key: str, value: Any) -> None:
    """Raises ConfigError for a value out of its range, and for a number that is none."""
    rule = rule_of(key)
    if rule is None and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}={value}: must be a finite number; give one, or leave it out")
    try:
        allowed = rule is None or rule[0](value)
    except TypeError:  # a null or a text in a node of any type
        allowed = False
    if not allowed:
        raise ConfigError(f"{key}={value}: {rule[1]}; e.g. {key}={rule[2]}")


def check(cfg: DictConfig) -> None:
    """Raises ConfigError for the first unknown key (`+key=…` gets one past Hydra), value out of its range, or study that the
    rest is not for. What depends on sizes is met where it is built."""
    for path, node in _nodes(cfg):
        known = getattr(OmegaConf.get_type(node), "__dataclass_fields__", node)
        for key in node:
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
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; write KEY=VALUE, and quote what is no plain word: 'KEY=\"VALUE\"'"
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) and not isinstance(cause, OmegaConfBaseException):
        cause = below
    where = re.match(r"In '(\S+)'", str(error))
    where = f" (in conf/{where[1]}.yaml)" if where else ""
    if not (isinstance(cause, OmegaConfBaseException) and cause.full_key):
        return f"{' '.join(str(error).split())}; see python -m inn_lab --help"
    key, parent = cause.full_key, cause.parent_node
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and parent is not None:
        group = key.rpartition(".")[0]
        if not len(parent):
            return f"{key}{where}: there is no such key without a {group}; choose one, {group}=… (--help lists them)"
        return f"{key}{where}: there is no such key{meant(key, parent._get_root(), _choices_with(key))}"
    said = str(cause).splitlines()[0]
    given = re.match(r"Value '(.*)' (?:of type '\w+' could|is not a valid)", said)
    return f"{key}{f'={given[1]}' if given else ''}{where}: {_way_out(key, '' if given else said, cause)}"


def _way_out(key: str, said: str, error: OmegaConfBaseException) -> str:
    """What is allowed, where nothing else was `said`, and an example."""
    rule, kind, usual = rule_of(key), "another value", None
    if error.parent_node is not None:
        node = error.parent_node._get_node(error.key) if OmegaConf.is_dict(error.parent_node) else None
        kind = KINDS.get(node._metadata.ref_type, kind) if isinstance(node, Node) else kind
        if node is not None and not (node._is_interpolation() or node._is_missing() or OmegaConf.is_config(node)):
            usual = node._value()
    if rule:
        kind, usual = rule[1], rule[2]
    if usual is None or key.startswith("hydra."):
        return f"{said or f'{kind} is wanted'}; leave it out for the usual value"
    return f"{said or kind}; e.g. {key}={str(usual).lower() if isinstance(usual, bool) else usual}"


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _choices_with(key: str) -> list[str]:
    """The choices of a key's group that have the key, as their YAML says."""
    group, _, name = key.rpartition(".")
    found = []
    for path in sorted((CONF / group).glob("*.yaml")) if group else ():
        said = yaml.safe_load(path.read_text())
        said = said.get(group, said) or {}
        if name in said and name != "defaults":
            found.append(path.stem)
    return found

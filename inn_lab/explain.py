"""One line for what Hydra, OmegaConf and PyYAML say in many: which key, what it was, what is allowed, what to do."""

import difflib
import functools
import itertools
import re
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from inn_lab.errors import ConfigError, near
from inn_lab.ranges import range_of, way_out

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"  # where it is installed; in a clone
GROUPS = {path.name for path in CONF.iterdir() if path.is_dir()}
COMMAND = "python -m inn_lab "  # with which a comment that is a command begins
OURS = {"hydra/sweeper": ["grid", "optuna"], "hydra/launcher": ["local", "slurm"]}  # what the lab's sweeps are run by


def folders() -> list[Path]:
    """The folders of settings: the lab's, and the user's own: `conf` in the current folder, if it has a group of the lab's."""
    own = Path("conf").absolute()
    mine = own.is_dir() and own.resolve() != CONF and any((own / group).is_dir() for group in GROUPS)
    return [CONF, own] if mine else [CONF]


def yamls(group: str) -> list[Path]:
    """The choices of a group."""
    return sorted(path for folder in folders() for path in (folder / group).glob("*.yaml"))


def question(experiment: str) -> tuple[str, str]:
    """What an experiment asks, in two sentences, and its command: the first comment of its YAML. Empty where there is none."""
    lines: list[str] = []
    for path in yamls("experiment"):
        if path.stem == experiment:  # the user's own comes last, and counts
            lines = list(itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()))
    said = [line.removeprefix("#").strip() for line in lines if not line.startswith("# @package")]
    command, text = ("", said) if not said or not said[0].startswith(COMMAND) else (said[0], said[1:])
    text = list(itertools.takewhile(lambda line: not line.startswith(COMMAND), text))
    return " ".join(re.split(r"(?<=[.?!])\s+(?=[A-Z])", " ".join(text))[:2]), command


def explain(error: Exception) -> str:
    """One line for an error that Hydra, OmegaConf or PyYAML raised on a user's mistake; a ConfigError speaks for itself."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file == "hydra/launcher/submitit_slurm":
        return "hydra/launcher=slurm: hydra-submitit-launcher is not installed; pip install 'hydra-submitit-launcher>=1.2'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}={choice}: there is no such choice{near(choice, OURS.get(group, error.options))}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; write KEY=VALUE, and quote what is no plain word: 'KEY=\"VALUE\"'"
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) and not isinstance(cause, OmegaConfBaseException):
        cause = below
    named = re.match(r"In '(\S+)'", str(error))
    where = f" (in conf/{named[1]}.yaml)" if named else ""
    if not (isinstance(cause, OmegaConfBaseException) and cause.full_key):
        return f"{' '.join(str(error).split())}; see python -m inn_lab --help"
    key, parent = cause.full_key, cause.parent_node
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and parent is not None:
        group = key.rpartition(".")[0]
        if not len(parent):
            return f"{key}{where}: there is no such key without a {group}; choose one, {group}=… (--help lists them)"
        return f"{key}{where}: there is no such key{meant(key, parent._get_root(), choices_with(key))}"
    said = str(cause).splitlines()[0]
    value = re.search(r"[Vv]alue '(.*)' (?:of type '\w+' could|is not a valid|for field)", said)
    given = value[1] if value else "None" if said.endswith("is not Optional") else None
    return f"{key}{'' if given is None else f'={given}'}{where}: {_way_out(key, said if given is None else '', cause)}"


def _way_out(key: str, said: str, error: OmegaConfBaseException) -> str:
    """The message `said`, or else which values are allowed; and an example."""
    kind, usual = "another value", None
    if error.parent_node is not None and OmegaConf.is_dict(error.parent_node):
        stated = kinds_of(error.parent_node).get(error.key)
        if rule := range_of(stated):
            return f"{said}; e.g. {key}={rule.example}" if said else way_out(key, stated)
        node = error.parent_node._get_node(error.key)
        kind = KINDS.get(node._metadata.ref_type, kind) if isinstance(node, Node) else kind
        if node is not None and not (node._is_interpolation() or node._is_missing() or OmegaConf.is_config(node)):
            usual = node._value()
    if usual is None or key.startswith("hydra."):
        return f"{said or f'{kind} is wanted'}; leave it out for the usual value"
    return f"{said or kind}; e.g. {key}={str(usual).lower() if isinstance(usual, bool) else usual}"


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def choices_with(key: str) -> list[str]:
    """The choices of a key's group that have the key, as their YAML says, or of a plugin its dataclass."""
    group, _, name = key.rpartition(".")
    found = []
    if (place := group.replace(".", "/")) in OURS:
        kept = ConfigStore.instance()
        there = [choice for choice in OURS[place] if f"{choice}.yaml" in kept.list(place)]
        found = [choice for choice in there if name in kept.load(f"{place}/{choice}.yaml").node]
    for path in yamls(group) if group else ():
        said = yaml.safe_load(path.read_text())
        said = said.get(group, said) or {}
        if name in said and name != "defaults":
            found.append(path.stem)
    return found


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
    "layers": ("model.layers", "model.num_layers", "model.hidden", "model.blocks"),
    "learning_rate": ("lr",),
    "length": ("seq_len",),
    "network": ("model",),
    "early_stopping": ("trainer.patience",),
    "optimizer": ("optimizer", "lr"),
    "scheduler": ("schedule",),
    "parameters": ("n_weights",),
    "sparsity": ("R",),
    "steps": ("data.iterations", "seq_len"),
    "time": ("trainer.max_time",),
    "units": ("model.hidden_size", "model.hidden", "depth"),
}


def meant(key: str, cfg: DictConfig, choices: Iterable[str] = ()) -> str:
    """'; did you mean A or B?' for a key that the configuration does not have, with the full paths of those that it has.

    choices: those of the key's group that have it; they are named instead.
    """
    group, _, name = key.rpartition(".")
    if has := sorted(choices):
        return f"; {group.replace('.', '/')}={', '.join(has)} {'have' if has[1:] else 'has'} it"
    if "." in group and OmegaConf.is_dict(OmegaConf.select(cfg, group)):  # a table whose names are the user's own
        return f"; to add it, write +{key}=VALUE"
    paths = [f"{path}{name}" for path, node in nodes(cfg) for name in keys(node)]
    known = [path for path in paths if path != key and path.split(".")[0] != "hydra" and not path.endswith("._target_")]
    called = difflib.get_close_matches(name.lower(), CALLED, n=1, cutoff=0.8)
    if found := [path for path in CALLED[called[0]] if path in known] if called else []:
        return f"; did you mean {' or '.join(found)}?"
    last = [path for path in known if path.rpartition(".")[2] == name]
    if found := last or difflib.get_close_matches(key, known, n=3, cutoff=0.7):
        return f"; did you mean {' or '.join(found)}?"
    there = OmegaConf.select(cfg, group) if group else cfg
    return near(name, (str(k) for k in there)) if there else near(key, known)


def keys(node: DictConfig) -> list[Any]:
    """The lab's are words; OmegaConf takes bytes and enums as well."""
    return list(node)


def kinds_of(node: DictConfig) -> dict[Any, Any]:
    """The types of a node's keys, with their ranges, as its dataclass states them; none where it has none."""
    schema: Any = OmegaConf.get_type(node)
    return _kinds(schema)


@functools.cache
def _kinds(schema: Any) -> dict[Any, Any]:
    return get_type_hints(schema, include_extras=True) if is_dataclass(schema) else {}


def nodes(node: DictConfig, path: str = "") -> Iterable[tuple[str, DictConfig]]:
    yield path, node
    for key in keys(node):
        if OmegaConf.is_dict(node._get_node(key)) and not OmegaConf.is_interpolation(node, key):
            yield from nodes(node[key], f"{path}{key}.")

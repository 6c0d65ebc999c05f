"""What is asked of a configuration beyond its schema, what makes two the same, and the one error of a user's mistake."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from inn_lab.schema import ImageData, Prune, Timed


class ConfigError(Exception):
    """A user's mistake. Its text is one line: which key, what it was, what is allowed, what to do."""


def near(name: str, known: Iterable[str]) -> str:
    """'; did you mean A or B?' for the known names nearest to `name`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are: {', '.join(known)}"


# Where and on what a run happens, and what it prints: two runs that differ in these alone are the same experiment.
NOT_SCIENCE = {
    "outputs",
    "resume",
    "source.root",
    "trainer.accelerator",
    "trainer.device",
    "trainer.progress",
    "trainer.checkpoint_s",
}
FILES = {"data.path", "model.path"}  # what is in them counts, not where they are


def identity(cfg: DictConfig, *more: str) -> str:
    """A hash of what a job computes: two jobs that have it in common are the same, wherever they run. `more` counts as well."""
    values = {key: content(value) if key in FILES else value for key, value in flat(cfg).items() if key not in NOT_SCIENCE}
    return hashlib.sha256(json.dumps([values, *more], sort_keys=True, default=str).encode()).hexdigest()[:12]


def content(path: str | None) -> str | None:
    """What stands for a file that a job reads: its bytes' hash, and its suffix, which says how they are read."""
    try:
        return path and hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest() + Path(path).suffix
    except (OSError, RuntimeError):  # no such file, no such home
        return path  # whoever reads it says what is wrong


def title(overrides: Iterable[str]) -> str:
    """How a job is called: what was set for it, but for what all jobs of a command have in common anyway."""
    return " ".join(word for word in overrides if not word.startswith(("experiment=", "resume=")))


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


RANGES = {  # key: (is it allowed?, what is allowed, an example)
    "R": (lambda v: v is None or 0 < v <= 1, "a density lies in (0, 1]", "R=0.2"),
    "n_weights": (lambda v: v is None or v >= 1, "at least one weight trains", "n_weights=100000"),
    "depth": (lambda v: v is None or v >= 1, "a weight space has at least one row", "depth=610"),
    "aspect_ratio": (lambda v: v is None or 0 < v < 1, "depth / width lies in (0, 1)", "aspect_ratio=0.3"),
    "lr": (lambda v: 0 < v < float("inf"), "a learning rate is a positive number", "lr=1e-3"),
    "seed": (lambda v: v >= 0, "a seed is a whole number from 0", "seed=0"),
    "seq_len": (lambda v: v >= 3, "an anomaly stands among at least 3 images", "seq_len=9"),
    "trainer.max_epochs": (lambda v: v >= 1, "at least one epoch", "trainer.max_epochs=100"),
    "trainer.max_time": (lambda v: v is None or v > 0, "seconds, or null for no limit", "trainer.max_time=300"),
    "trainer.checkpoint_s": (lambda v: v >= 0, "seconds, 0 for every epoch", "trainer.checkpoint_s=10"),
    "trainer.accelerator": (lambda v: v in ("auto", "cpu", "gpu"), "one of auto, cpu, gpu", "trainer=auto"),
    "source.std": (lambda v: v > 0, "a standard deviation is positive", "source.std=0.3081"),
    "scale.weights": (lambda v: v > 0, "a positive factor on n_weights", "scale=paper"),
}


def check(cfg: DictConfig) -> None:
    """Raises ConfigError for the first unknown key (`+key=…` gets one past Hydra) or value out of its range."""
    for path, node in _nodes(cfg):
        known = getattr(OmegaConf.get_type(node), "__dataclass_fields__", node)
        for key in node:
            if key not in known:
                raise ConfigError(f"{path}{key}: there is no such key{near(key, known)}")
    try:
        flat(cfg)
    except OmegaConfBaseException as error:  # a value that is taken over from another key, and is not allowed here
        raise ConfigError(explain(error)) from error
    if cfg.pruning is not None and not issubclass(OmegaConf.get_type(cfg.study), Prune):
        raise ConfigError(f"study: {cfg.study._target_} cuts nothing; leave study out, pruning=magnitude chooses study=prune")
    for key, (allowed, rule, example) in RANGES.items():
        value = OmegaConf.select(cfg, key)
        if not allowed(value):
            raise ConfigError(f"{key}={value}: {rule}; e.g. {example}")


def _nodes(node: DictConfig, path: str = "") -> Iterable[tuple[str, DictConfig]]:
    yield path, node
    for key in node:
        if OmegaConf.is_dict(node._get_node(key)) and not OmegaConf.is_interpolation(node, key):
            yield from _nodes(node[key], f"{path}{key}.")


def explain(error: Exception) -> str:
    """One line for an error that Hydra, OmegaConf or PyYAML raised on a user's mistake; a ConfigError speaks for itself."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}={choice}: there is no such choice{near(choice, error.options)}"
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) and not isinstance(cause, OmegaConfBaseException):
        cause = below
    where = re.match(r"In '(\S+)'", str(error))
    where = f" (in conf/{where[1]}.yaml)" if where else ""
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key and cause.parent_node is not None:
        known = {str(key) for key in cause.parent_node} | ({"experiment"} if "." not in cause.full_key else set())
        return f"{cause.full_key}{where}: there is no such key{near(str(cause.key), known - {'hydra'})}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}{where}: {str(cause).splitlines()[0]}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; {str(error).splitlines()[0]}"
    return " ".join(str(error).split())

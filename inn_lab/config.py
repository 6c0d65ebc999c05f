"""The schema of the configuration, its resolvers, and the one error that a user's mistake raises.

Each YAML in conf/ starts from a dataclass here (its `defaults:` line says which), so an unknown key or a value of the wrong
type is an error wherever it stands: on the command line, in a group's YAML, in an experiment.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException


class ConfigError(Exception):
    """A user's mistake. Its text is one line: which key, what it was, what is allowed, what to do."""


def near(name: str, known: Iterable[str]) -> str:
    """'; did you mean A or B?' for the known names nearest to `name`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are: {', '.join(known)}"


@dataclass
class Config:
    """The root. A group's node is typed by the YAML that is chosen for it."""

    R: float | None = MISSING
    n_weights: int | None = MISSING
    depth: int | None = MISSING
    aspect_ratio: float | None = MISSING
    lr: float = MISSING
    seed: int = MISSING
    seq_len: int = MISSING
    outputs: str = MISSING
    resume: bool = MISSING
    source: Any = MISSING
    model: Any = MISSING
    data: Any = MISSING
    objective: Any = MISSING
    study: Any = MISSING
    trainer: Any = MISSING
    scale: Any = MISSING


@dataclass
class Source:
    name: str = MISSING
    root: str | None = MISSING
    image_size: int = MISSING
    mean: float = MISSING
    std: float = MISSING


@dataclass
class Sized:
    """What every data group has: the class that is built, and how many examples and how large a batch."""

    _target_: str = MISSING
    n_train: int = MISSING
    n_val: int = MISSING
    n_test: int = MISSING
    batch_size: int = MISSING


@dataclass
class AnomalyData(Sized):
    seq_len: int = MISSING
    flag: bool = MISSING


@dataclass
class ClassificationData(Sized):
    transforms: str = MISSING
    iterations: int = MISSING


@dataclass
class AnomalyObjective:
    _target_: str = MISSING
    index: bool = MISSING
    flag: bool = MISSING


@dataclass
class ClassificationObjective:
    _target_: str = MISSING
    at: str = MISSING


@dataclass
class INN:
    _target_: str = MISSING
    n_weights: int | None = MISSING
    R: float | None = MISSING
    depth: int | None = MISSING
    aspect_ratio: float | None = MISSING
    draw: str = MISSING
    bias: bool = MISSING
    init: str = MISSING
    init_std: float = MISSING
    linear: str = MISSING


@dataclass
class LayeredINN:
    _target_: str = MISSING
    hidden: list[int] = MISSING
    component: int = MISSING
    swap: float = MISSING
    bias: bool = MISSING
    init: str = MISSING
    init_std: float = MISSING
    linear: str = MISSING


@dataclass
class Grouped:
    _target_: str = MISSING
    hidden: list[int] = MISSING
    R: float = MISSING
    bias: bool = MISSING
    init: str = MISSING
    init_std: float = MISSING
    linear: str = MISSING


@dataclass
class ByColumn(Grouped):
    R_input: float | None = MISSING
    R_hidden: float | None = MISSING
    R_output: float | None = MISSING


@dataclass
class ByDiagonal(Grouped):
    R_below: float | None = MISSING
    R_on: float | None = MISSING
    R_above: float | None = MISSING


@dataclass
class Represented(Grouped):
    representation: str = MISSING


@dataclass
class Recurrent:
    _target_: str = MISSING
    n_weights: int | None = MISSING
    hidden_size: int | None = MISSING


@dataclass
class RNN(Recurrent):
    nonlinearity: str = MISSING


@dataclass
class MLP:
    _target_: str = MISSING
    n_weights: int | None = MISSING
    hidden: list[int] | None = MISSING


@dataclass
class Study:
    _target_: str = MISSING


@dataclass
class ProbeIterations(Study):
    iterations: int = MISSING


@dataclass
class Gallery(Study):
    examples: int = MISSING


@dataclass
class SRUEquivalence(Study):
    sizes: list[int] = MISSING
    steps: int = MISSING
    sequences: int = MISSING
    counts: list[int] = MISSING


@dataclass
class Timed(Study):
    """Of studies that time the machine, which a job then must have for itself."""

    repeats: int = MISSING
    seconds: float = MISSING


@dataclass
class TimeProduct(Timed):
    R: float | None = MISSING
    depth: int | None = MISSING
    columns: int = MISSING


@dataclass
class Trainer:
    accelerator: str = MISSING
    device: int = MISSING
    max_epochs: int = MISSING
    max_time: float | None = MISSING
    checkpoint_s: float = MISSING
    precision: str = MISSING
    gradient_clip_val: float | None = MISSING
    progress: bool = MISSING


@dataclass
class Scale:
    name: str = MISSING
    weights: float = MISSING


SCHEMAS = {
    "schema": Config,
    "source_schema": Source,
    "anomaly_schema": AnomalyData,
    "classification_schema": ClassificationData,
    "anomaly_objective_schema": AnomalyObjective,
    "classification_objective_schema": ClassificationObjective,
    "inn_schema": INN,
    "layered_inn_schema": LayeredINN,
    "by_column_schema": ByColumn,
    "by_diagonal_schema": ByDiagonal,
    "represented_schema": Represented,
    "recurrent_schema": Recurrent,
    "rnn_schema": RNN,
    "mlp_schema": MLP,
    "study_schema": Study,
    "probe_iterations_schema": ProbeIterations,
    "gallery_schema": Gallery,
    "sru_equivalence_schema": SRUEquivalence,
    "time_step_schema": Timed,
    "time_product_schema": TimeProduct,
    "trainer_schema": Trainer,
    "scale_schema": Scale,
}


def register() -> None:
    """Makes the schemas and resolvers known to Hydra; doing it twice is harmless."""
    for name, node in SCHEMAS.items():
        ConfigStore.instance().store(name=name, node=node)
    OmegaConf.register_new_resolver("scaled", lambda n, factor: None if n is None else max(1, round(n * factor)), replace=True)


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


def identity(cfg: DictConfig, *more: str) -> str:
    """A hash of what a job computes: two jobs that have it in common are the same, wherever they run. `more` counts as well."""
    values = {key: value for key, value in flat(cfg).items() if key not in NOT_SCIENCE}
    return hashlib.sha256(json.dumps([values, *more], sort_keys=True, default=str).encode()).hexdigest()[:12]


def title(overrides: Iterable[str]) -> str:
    """How a job is called: what was set for it, but for what all jobs of a command have in common anyway."""
    return " ".join(word for word in overrides if not word.startswith(("experiment=", "resume=")))


def is_timed(cfg: DictConfig) -> bool:
    """Whether what comes out depends on how fast the machine is: the job times it, or a clock ends the training."""
    return issubclass(OmegaConf.get_type(cfg.study), Timed) or cfg.trainer.max_time is not None


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
    "trainer.precision": (lambda v: v in ("32-true", "bf16-mixed"), "32-true or bf16-mixed", "trainer.precision=32-true"),
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

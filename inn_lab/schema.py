"""The schema of what no constructor says: the root, and the groups that the lab itself reads.

The groups that name a class or a function (`_target_`: model, data, objective, study, optimizer, schedule) have its arguments
for their schema (`inn_lab.config.check`). An unknown key or a value of the wrong type is an error wherever it stands: on the
command line, in a group's YAML, in an experiment.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, IntegerNode, OmegaConf

from inn_lab.ranges import (
    AspectRatio,
    Density,
    Factor,
    Fraction,
    Many,
    Mean,
    Range,
    Rows,
    Seconds,
    Seed,
    SequenceLength,
    Std,
    WeightCount,
    count,
    one_of,
    real,
)


@dataclass
class Config:
    """The root."""

    R: Density | None = MISSING
    n_weights: WeightCount | None = MISSING
    depth: Rows | None = MISSING
    aspect_ratio: AspectRatio | None = MISSING
    lr: Annotated[float, real(lambda v: v > 0, "a learning rate is a positive number", "1e-3")] = MISSING
    seed: Seed = MISSING
    seq_len: SequenceLength = MISSING
    outputs: str = MISSING
    start_from: str | None = MISSING
    resume: Annotated[bool | str, Range(lambda v: v in (True, False, "any"), "true, any or false", "any")] = MISSING
    debug: Annotated[str, one_of("one_batch", "overfit", "profile")] | None = None
    source: Any = MISSING
    model: Any = MISSING
    data: Any = MISSING
    objective: Any = MISSING
    study: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    pruning: Any = None
    trainer: Any = MISSING
    scale: Any = MISSING


@dataclass
class Source:
    name: str = MISSING
    root: str | None = MISSING
    image_size: Annotated[int, count(8, 10_000, 50, " (the blur takes 8 pixels)")] = MISSING
    mean: Mean = MISSING
    std: Std = MISSING


@dataclass
class Pruning:
    target: Annotated[str, one_of("both", "i2h", "h2h")] = MISSING
    scope: Annotated[str, one_of("global", "layer")] = MISSING
    amount: Fraction = MISSING
    epochs: Annotated[int, count(0, 10**9, 10)] = MISSING


@dataclass
class Trainer:
    accelerator: Annotated[str, one_of("auto", "cpu", "gpu")] = MISSING
    device: Annotated[int, count(0, 1023, 0, ", of a CUDA device")] = MISSING
    cuda_graph: Annotated[bool | str, Range(lambda v: v is False or v == "auto", "auto or false", "auto")] = MISSING
    max_epochs: Many = MISSING
    max_time: Annotated[float, real(lambda v: 0 < v <= 1e9, "seconds, at most 1e9", 300)] | None = MISSING
    patience: Annotated[int, count(1, 10**9, 5)] | None = MISSING
    best_weights: bool = MISSING
    checkpoint_s: Seconds = MISSING
    gradient_clip_val: Annotated[float, real(lambda v: v > 0, "a gradient's norm is a positive number", 1)] | None = MISSING
    progress: bool = MISSING
    keep_weights: bool = MISSING


@dataclass
class Scale:
    name: str = MISSING
    weights: Factor = MISSING


SCHEMAS = {
    "schema": Config,
    "source_schema": Source,
    "pruning_schema": Pruning,
    "trainer_schema": Trainer,
    "scale_schema": Scale,
}


WHOLE = IntegerNode._validate_and_convert_impl


def whole(node: IntegerNode, value: Any) -> int:
    """n_weights=1e5 is a whole number too. OmegaConf has no hook for it, and it shall hold wherever a value is given."""
    return WHOLE(node, int(value) if isinstance(value, float) and value.is_integer() else value)


def register() -> None:
    """Makes the schemas and resolvers known to Hydra; doing it twice is harmless."""
    IntegerNode._validate_and_convert_impl = whole  # type: ignore[method-assign,assignment]  # see `whole`
    for name, node in SCHEMAS.items():
        ConfigStore.instance().store(name=name, node=node)
    OmegaConf.register_new_resolver("scaled", lambda n, factor: None if n is None else max(1, round(n * factor)), replace=True)

"""The values that each key may have."""

import math
from collections.abc import Callable
from typing import Any

from inn_lab.errors import ConfigError

Rule = tuple[Callable[[Any], bool], str, Any]  # whether a value is allowed, what is allowed in words, and an example
MANY = 10**9  # the most of anything that is counted one by one: nobody waits longer
WIDE = 10**8  # units of a layer; `inn_lab.machine` checks whether its weights fit into memory


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

RANGES: dict[str, Rule] = {  # a key without a dot also covers the key of a group that copies it, as model.R
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
    "data.probability": real(lambda v: 0 <= v <= 1, "a probability lies in [0, 1]", 0.5),
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
    "pruning.amount": real(lambda v: 0 <= v <= 1, "the fraction of the weights to cut lies in [0, 1]", 0.5),
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
    """Raises ConfigError for a value out of its range, and for a number that is not finite."""
    rule = rule_of(key)
    if rule is None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: must be a finite number; give one, or leave it out")
        return
    try:
        allowed = rule[0](value)
    except TypeError:  # a null or a text in a node of any type
        allowed = False
    if not allowed:
        raise ConfigError(f"{key}={value}: {rule[1]}; e.g. {key}={rule[2]}")

"""The space that a search looks for the best in, in the words of Hydra's grammar, and Optuna's samplers for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from hydra_plugins.inn_lab_grid.shared import MOST, REPEATS, words
from inn_lab.errors import ConfigError
from inn_lab.trials import optuna

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "random", "grid", "cmaes")
DIGITS = 4  # that count, of a number drawn from an interval: its command can be read


@dataclass(frozen=True)
class Space:
    """What varies and what does not, by key. fixed: the overrides that all trials have. words: the axes as they were typed."""

    fixed: list[str]
    axes: dict[str, "BaseDistribution"]
    words: list[str]

    @classmethod
    def of(cls, table: Sequence[Override]) -> "Space":
        """The space that overrides are. Raises ConfigError for what is none, and where nothing varies."""
        varied = [override for override in table if override.is_sweep_override()]
        axes = {override.get_key_element(): distribution(override) for override in varied}
        if all(axis.single() for axis in axes.values()):
            example = "R=0.02,0.1,0.5 'lr=tag(log, interval(1e-5, 1e-2))'"
            raise ConfigError(f"hydra/sweeper=optuna: nothing varies, so there is nothing to search; e.g. -m {example}")
        if REPEATS in axes:
            way = "hydra.sweeper.best_of=5 runs the best one with five fresh seeds"
            raise ConfigError(f"{REPEATS}: a search that chooses the seed finds luck; give one, and {way}")
        fixed = [str(override.input_line) for override in table if override not in varied]
        return cls(fixed, axes, [str(override.input_line) for override in varied])

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """A trial's overrides."""
        return [*self.fixed, *(f"{key}={value}" for key, value in params.items())]

    def corners(self) -> list[list[str]]:
        """Overrides of its middle, and of what each axis ends with or chooses from while the others stay there."""
        middle = {key: middle_of(axis) for key, axis in self.axes.items()}
        each = [middle, *({**middle, key: value} for key, axis in self.axes.items() for value in ends_of(axis))]
        return [list(job) for job in dict.fromkeys(tuple(self.overrides(params)) for params in each)]

    def points(self) -> dict[str, Sequence[Any]]:
        """The values of each axis. Raises ConfigError where they cannot be counted, or are too many."""
        points = {}
        for key, axis in self.axes.items():
            values = values_of(axis)
            if values is None:
                way = f"give a list or a range, as {key}=range(1,5), or take tpe, random or cmaes"
                raise ConfigError(f"hydra.sweeper.sampler=grid: {key} is an interval, which has no grid; {way}")
            points[key] = values
        if (n := math.prod(map(len, points.values()))) > MOST:
            raise ConfigError(f"hydra.sweeper.sampler=grid: {n} points, and a grid has at most {MOST}; take tpe or random")
        return points

    def sampler(self, kind: str, seed: int, number: int) -> "BaseSampler":
        """Optuna's sampler for the trial of this number. What it draws follows from seed, number, and the trials of before.

        Raises ConfigError where it is not for this space.
        """
        import numpy as np

        samplers, own = optuna().samplers, int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        if kind == "grid":
            return samplers.GridSampler(self.points(), seed % 2**32)  # a shuffled list, of which it takes the number's
        if kind == "cmaes":
            self._check_numbers()
            return samplers.CmaEsSampler(seed=own, warn_independent_sampling=False)
        return samplers.RandomSampler(own) if kind == "random" else samplers.TPESampler(seed=own)

    def _check_numbers(self) -> None:
        made = optuna().distributions
        for key, axis in self.axes.items():
            if isinstance(axis, made.CategoricalDistribution):
                way = f"give {key} one value, an interval or a range of whole numbers, or take tpe, random or grid"
                raise ConfigError(f"hydra.sweeper.sampler=cmaes: {key} is a list, and it takes numbers alone; {way}")
        if sum(not axis.single() for axis in self.axes.values()) < 2:
            raise ConfigError("hydra.sweeper.sampler=cmaes: it needs two axes or more; take tpe or random")


def distribution(override: Override) -> "BaseDistribution":
    """Optuna's distribution for an override that stands for several values. A list's are texts, as they are typed.

    Raises ConfigError for what Optuna cannot search.
    """
    made, word, value = optuna().distributions, override.input_line, override.value()
    tags: set[str] = getattr(value, "tags", set())
    log, interval = "log" in tags, isinstance(value, IntervalSweep)
    if other := sorted(tags - {"log"}) or (["log"] if log and not interval else []):
        raise ConfigError(f"{word}: tag {', '.join(other)} means nothing here; known is tag(log, interval(…))")
    if getattr(value, "shuffle", False):
        raise ConfigError(f"{word}: the sampler says in which order; leave shuffle out")
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if low is None or high is None or not low < high or not math.isfinite(high - low) or (log and low <= 0):
            what = "from a positive number to a larger one" if log else "from a number to a larger one"
            raise ConfigError(f"{word}: an interval goes {what}; e.g. {override.get_key_element()}=interval(0.1, 0.5)")
        kind = made.IntDistribution if isinstance(low, int) else made.FloatDistribution
        return kind(low, high, log=log)
    endless = isinstance(value, RangeSweep) and not value.step
    if not endless and isinstance(value, RangeSweep) and isinstance(whole := value.range(), range) and whole:
        return made.IntDistribution(min(whole), max(whole), step=abs(whole.step))
    choices = [] if endless else [text.partition("=")[2] for text in words(override)]
    if not choices:
        raise ConfigError(f"{word}: it holds no value; e.g. {override.get_key_element()}=range(1,5)")
    return made.CategoricalDistribution(list(dict.fromkeys(choices)))


def values_of(axis: "BaseDistribution") -> Sequence[Any] | None:
    """All values of an axis; None of one that is an interval of real numbers, or one of which the logarithm counts."""
    made = optuna().distributions
    if isinstance(axis, made.CategoricalDistribution):
        return axis.choices
    whole = isinstance(axis, made.IntDistribution) and not axis.log
    return range(axis.low, axis.high + 1, axis.step) if whole else None  # type: ignore[attr-defined]


def ends_of(axis: "BaseDistribution") -> list[Any]:
    """What an axis chooses from, or the ends of its interval."""
    made = optuna().distributions
    return list(axis.choices) if isinstance(axis, made.CategoricalDistribution) else [axis.low, axis.high]  # type: ignore[attr-defined]


def middle_of(axis: "BaseDistribution") -> Any:
    made = optuna().distributions
    if not isinstance(axis, made.FloatDistribution | made.IntDistribution):
        return axis.choices[0]  # type: ignore[attr-defined]
    middle = math.sqrt(axis.low * axis.high) if axis.log else (axis.low + axis.high) / 2
    if isinstance(axis, made.IntDistribution):
        return axis.low + round((middle - axis.low) / axis.step) * axis.step
    return rounded(middle, axis)


def rounded(value: Any, axis: "BaseDistribution") -> Any:
    """A number with DIGITS digits, inside its interval; what is no such number stays what it is."""
    if not isinstance(value, float) or not isinstance(axis, optuna().distributions.FloatDistribution):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), axis.low), axis.high)

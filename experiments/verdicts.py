"""Do runs support a sentence? It *agrees*, it *differs*, or there are *not enough runs* to tell.

A report says what it compares: a mean of its runs, a difference or a trend (`mean`, `difference`, `trend`), or the `share` or
`correlation` of single cases. It also gives the range in which the value lies if the sentence is true. The test is the same for
all. The sentence *agrees* if the 95 % interval lies inside the range: if the truth were outside, this would happen in at most
one of 40 repetitions. It *differs* if the interval lies outside the range: if the truth were inside, this would be as rare.

Symbols: an *arm*, the values of runs that are alike in all but the seed, by seed; n seeds; k of m findings.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit
from scipy.stats import binomtest, rankdata

AGREES, DIFFERS, TOO_FEW = "agrees", "differs", "not enough runs"
RARE = 0.025  # the most that either verdict may be wrong
# The standard deviation of an anomaly task's accuracy from seed to seed, and how many runs this knowledge is worth: settings
# are known to differ much in it. Fitted to docs/runs, see docs/verdicts.md.
SPREAD, TRUSTED = 0.008, 1
ROUNDED = 0.5  # of a step: the standard deviation that seeds with equal values may still have


@dataclass(frozen=True)
class Finding:
    """The measurement in words, and how likely this or a clearer result is by chance.

    if_false: at most this likely if the sentence is false. if_true: at most this likely if it is true. 1 if nothing can be
    said.
    """

    measured: str
    if_false: float
    if_true: float

    @property
    def verdict(self) -> str:
        return AGREES if self.if_false <= RARE else DIFFERS if self.if_true <= RARE else TOO_FEW

    def said(self, measured: str) -> "Finding":
        """The same finding in other words."""
        return replace(self, measured=measured)


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and the degrees of freedom of that error (Student's t).

    The error is infinite if the value was not measured or its error is not known.
    """

    value: float
    error: float
    dof: float

    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        reach = float(stdtrit(self.dof, 1 - RARE)) * self.error if math.isfinite(self.error) else math.inf
        return self.value - reach, self.value + reach

    def within(self, low: float = -math.inf, high: float = math.inf, *, digits: int = 2) -> Finding:
        """Tests whether the value lies in [low, high]."""
        if math.isnan(self.value):
            return Finding("no runs", 1, 1)
        shown = f"{self.value:.{digits}f}"
        if not math.isfinite(self.error):
            return Finding(shown, 1, 1)
        from_low, from_high = (math.copysign(math.inf, d) if self.error == 0 and d else d / (self.error or 1)
                               for d in (self.value - low, self.value - high))  # fmt: skip
        below, above = float(stdtr(self.dof, from_low)), float(stdtr(self.dof, -from_high))
        start, end = self.interval()
        return Finding(f"{shown} ({start:.{digits}f} to {end:.{digits}f})", max(1 - below, 1 - above), min(below, above))


@dataclass(frozen=True)
class Prior:
    """What is known beforehand of the standard deviation of one run's value.

    seeds: from seed to seed, roughly: it counts as `TRUSTED` runs. examples: of an accuracy that is measured on so many
    examples, exactly.
    """

    seeds: float
    examples: float = 0.0

    def squares(self, runs: int) -> float:
        """What it adds to the sum of squares of so many runs.

        Of one run alone the interval is as wide as both parts together, each by its own distribution: Student's for the seeds,
        the normal one for the examples.
        """
        exact = (stdtrit(math.inf, RARE) / stdtrit(TRUSTED, RARE)) ** 2 if runs == 1 else 1
        return TRUSTED * (self.seeds**2 + exact * self.examples**2)


def contrast(arms: Sequence[pd.Series], shares: Sequence[float], prior: Prior | None = None) -> Estimate:
    """Σ share × arm, as a mean over seeds.

    If the seeds of one arm are all among the others', the sum is taken seed by seed (*paired*), because the same seed draws the
    same images and sequences. Otherwise each arm is a separate sample (Welch 1947).

    prior: counts as `TRUSTED` more runs in the estimate of the variance, as in Smyth's (2004) moderated t statistic, so that
    one run already has an interval. Separate samples then have the fewest degrees of freedom of any of them, because Welch's
    are too many where it is one run each. Without it, an interval takes two runs.

    Raises ValueError for an arm with two values of one seed.
    """
    given = [dict(zip(arm.index, arm, strict=True)) for arm in arms]
    if any(len(values) < len(arm) for values, arm in zip(given, arms, strict=True)):
        raise ValueError("an arm has one value for each seed")
    given = [{seed: value for seed, value in values.items() if not math.isnan(value)} for values in given]
    known, counts = TRUSTED if prior else 0, [len(values) for values in given]
    if not all(counts):
        return Estimate(math.nan, math.inf, 1)
    seeds = set.intersection(*map(set, given))
    if len(seeds) == min(counts):  # one sample, of the sum
        each = np.array(
            [sum(share * values[seed] for share, values in zip(shares, given, strict=True)) for seed in sorted(seeds)]
        )
        samples = [(each, math.hypot(*shares))]
    else:
        samples = [(share * np.array([*values.values()]), abs(share)) for share, values in zip(shares, given, strict=True)]
    value = sum(each.mean() for each, _ in samples)
    dofs = [known + len(each) - 1 for each, _ in samples]
    if not all(dofs) or not math.isfinite(value):
        return Estimate(float(value), math.inf, 1)
    before = [prior.squares(len(each)) * scale**2 if prior else 0 for each, scale in samples]
    squares = [square + ((each - each.mean()) ** 2).sum() for square, (each, _) in zip(before, samples, strict=True)]
    errors = [square / dof / len(each) for square, dof, (each, _) in zip(squares, dofs, samples, strict=True)]
    total, spent = sum(errors), sum(error**2 / dof for error, dof in zip(errors, dofs, strict=True))
    return Estimate(float(value), math.sqrt(total), min(dofs) if prior or not spent else total**2 / spent)


def mean(arm: pd.Series, prior: Prior | None = None) -> Estimate:
    """The mean of an arm."""
    return contrast([arm], [1], prior)


def in_steps(estimate: Callable[..., Estimate], *arms: pd.Series, step: float) -> Estimate:
    """A `mean` or `difference` of values that are known in steps only. Seeds with equal values may still differ."""
    return estimate(*arms, Prior(step * ROUNDED) if min(map(len, arms)) > 1 else None)


def difference(arm: pd.Series, other: pd.Series, prior: Prior | None = None) -> Estimate:
    """The mean of an arm minus that of another."""
    return contrast([arm, other], [1, -1], prior)


def ratio(arm: pd.Series, other: pd.Series, low: float = 0.0, high: float = math.inf, *, digits: int = 2) -> Finding:
    """Tests whether an arm is between `low` and `high` times another, for times and sizes: by the difference of logarithms."""
    with np.errstate(divide="ignore", over="ignore"):
        apart = difference(np.log(arm), np.log(other))
        value, start, end = np.exp([apart.value, *apart.interval()])
        found = apart.within(float(np.log(low)), float(np.log(high)))
    shown = f"{value:.{digits}f}" + (f" ({start:.{digits}f} to {end:.{digits}f})" if math.isfinite(apart.error) else "")
    return found.said("no runs" if math.isnan(value) else shown)


def trend(arms: Mapping[float, pd.Series], prior: Prior | None = None) -> Estimate:
    """The mean increase from one arm to the next: the slope over the arms in their order.

    NaN for fewer than two arms.
    """
    if len(arms) < 2:
        return Estimate(math.nan, math.inf, 1)
    places = np.arange(len(arms)) - (len(arms) - 1) / 2
    return contrast([arms[at] for at in sorted(arms)], list(places / (places**2).sum()), prior)


def of_accuracy(arms: Sequence[pd.Series], examples: int) -> Prior:
    """What is known beforehand of accuracies around those of these arms, each measured on so many examples."""
    values = [value for arm in arms for value in arm.dropna()]
    p = np.clip(np.mean(values), 0.5 / examples, 1 - 0.5 / examples) if values else 0.5
    return Prior(SPREAD, math.sqrt(p * (1 - p) / examples))


def share(cases: int, of: int, low: float = 0.0, high: float = 1.0, *, digits: int = 2) -> Finding:
    """Tests whether the fraction of independent cases lies in [low, high]. Exact binomial."""
    if not of:
        return Finding("none", 1, 1)
    low_end, high_end = binomtest(cases, of).proportion_ci(1 - 2 * RARE)
    below = binomtest(cases, of, low, "less").pvalue if low > 0 else 1.0
    above = binomtest(cases, of, high, "greater").pvalue if high < 1 else 1.0
    over = binomtest(cases, of, low, "greater").pvalue if low > 0 else 0.0
    under = binomtest(cases, of, high, "less").pvalue if high < 1 else 0.0
    text = f"{cases / of:.{digits}f} ({low_end:.{digits}f} to {high_end:.{digits}f}), {cases} of {of}"
    return Finding(text, max(over, under), min(below, above))


def correlation(x: pd.Series, y: pd.Series, low: float = -1.0, high: float = 1.0, *, digits: int = 2) -> Finding:
    """Tests whether Spearman's rank correlation lies in [low, high]: Fisher's z with the error of Bonett and Wright (2000)."""
    both = pd.DataFrame({"x": x, "y": y}).dropna()
    if len(both) < 5 or both["x"].nunique() < 2 or both["y"].nunique() < 2:
        return Finding(f"{len(both)} cases", 1, 1)
    r = float(np.corrcoef(rankdata(both["x"]), rankdata(both["y"]))[0, 1])
    return coefficient(r, len(both), low, high, 1 + r**2 / 2, digits=digits)


def coefficient(r: float, n: int, low: float = -1.0, high: float = 1.0, variance: float = 1.0, *, digits: int = 2) -> Finding:
    """Tests whether a correlation, of which r was found in n cases, lies in [low, high].

    variance: of Fisher's z, times n − 3. It is 1 for Pearson's correlation.
    """
    if math.isnan(r) or n < 5:
        return Finding(f"{n} cases", 1, 1)
    z = Estimate(_z(np.clip(r, -1 + 1e-9, 1 - 1e-9)), math.sqrt(variance / (n - 3)), math.inf)
    start, end = map(math.tanh, z.interval())
    return z.within(_z(low), _z(high)).said(f"{r:+.{digits}f} ({start:+.{digits}f} to {end:+.{digits}f}), {n} cases")


def _z(r: float) -> float:
    return math.copysign(math.inf, r) if abs(r) >= 1 else math.atanh(r)


def at_least(k: int, findings: Mapping[str, Finding]) -> Finding:
    """Tests whether at least k findings hold: partial conjunction (Benjamini and Heller 2008, Eq. 5), corrected for their
    number.

    With k = m, each must agree by itself; for "differs", one must do so m times as clearly as one alone.
    """
    m, measured = len(findings), "; ".join(f"{name} {f.measured}" for name, f in findings.items()) or "no runs"
    if not 1 <= k <= m:
        return Finding(measured, 1, 1)
    if_false, if_true = (sorted(values) for values in zip(*((f.if_false, f.if_true) for f in findings.values()), strict=True))
    return Finding(measured, min(1.0, (m - k + 1) * if_false[k - 1]), min(1.0, k * if_true[m - k]))


def all_of(findings: Mapping[str, Finding]) -> Finding:
    """Tests whether all findings hold."""
    return at_least(len(findings), findings)


def best(arm: pd.Series, others: Mapping[str, pd.Series], tie: float, prior: Prior | None = None, digits: int = 2) -> Finding:
    """Tests whether an arm is at most `tie` below every other one."""
    return all_of({name: difference(arm, other, prior).within(-tie, digits=digits) for name, other in others.items()})


def alike(arms: Mapping[float, pd.Series], margin: float, prior: Prior | None = None, digits: int = 2) -> Finding:
    """Tests whether no two arms differ by more than `margin`."""
    pairs = itertools.combinations(arms, 2)
    apart = {f"{a:g}, {b:g}": difference(arms[a], arms[b], prior) for a, b in pairs}
    return all_of({name: one.within(-margin, margin, digits=digits) for name, one in apart.items()})

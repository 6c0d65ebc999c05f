"""How often verdicts are wrong: simulated runs whose truth is known, judged as measured ones are (docs/verdicts.md).

    python -m benchmarks.calibration [--times 1000]

An accuracy is the fraction of 200 or 10,000 test examples with the right answer. The accuracy on endless data varies between
seeds; half of that variance is common to arms with the same seed. Its standard deviation is drawn anew for each simulation, as
it varies between the settings in docs/runs, or it is 0.06, which few of them exceed. The truth is at the edge of the range that
a sentence claims, where a verdict is hardest, and 0.1 on either side. A verdict is wrong if it is *differs* at the edge or
where the sentence is true, or *agrees* at the edge or where it is false.

Before that it prints what docs/runs say of the standard deviation from seed to seed: `verdicts.SPREAD` and `TRUSTED`.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from benchmarks.common import count, write
from experiments import graph_analysis, report, selection, verdicts
from experiments.verdicts import AGREES, DIFFERS, SPREAD, TOO_FEW, TRUSTED, Finding, Prior, difference, mean, of_accuracy
from inn_lab import tracking

SEEDS, ARMS = (1, 3, 5, 25, 100), 5
ANOMALY = ("random_anomaly", "uniform_anomaly")
RUNS = Path(__file__).parents[1] / "docs/runs"


@dataclass(frozen=True)
class Luck:
    """n seeds of a setting, the standard deviation from seed to seed, and how many test examples there are."""

    n: int
    spread: float
    examples: int


class World(NamedTuple):
    """Where simulations take place. spread: None if it is drawn for each of them."""

    spread: float | None
    examples: int

    def luck(self, draw: np.random.Generator, n: int) -> Luck:
        """Smyth's (2004) prior: the inverse of the variance is χ²-distributed. No accuracy has a greater deviation than 0.5."""
        drawn = SPREAD / math.sqrt(draw.chisquare(TRUSTED) / TRUSTED)
        return Luck(n, min(0.5, drawn) if self.spread is None else self.spread, self.examples)


WORLDS = (World(None, 200), World(None, 10_000), World(0.06, 10_000))


def arms(draw: np.random.Generator, levels: list[float], luck: Luck, paired: bool = True) -> list[pd.Series]:
    """Accuracies of n seeds at each of these levels; unpaired ones have seeds of their own."""
    n, half = luck.n, luck.spread * 0.5**0.5
    common, seeds = draw.normal(0, half, n), np.arange(n)
    found = []
    for k, level in enumerate(levels):
        own = draw.normal(0, half, n)
        skill = np.clip(level + own + (common if paired else draw.normal(0, half, n)), 0, 1)
        right = draw.binomial(luck.examples, skill) / luck.examples
        found.append(pd.Series(right, index=seeds if paired else seeds + k * n))
    return found


Test = Callable[[np.random.Generator, float, Luck], Finding]  # how far the truth is beyond the edge


def known(luck: Luck, *found: pd.Series) -> Prior:
    return of_accuracy(found, luck.examples)


def level(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    (a,) = arms(draw, [0.5 + by], luck)
    return mean(a, known(luck, a)).within(0.5)


def band(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    (a,) = arms(draw, [0.6 - by], luck)
    return mean(a, known(luck, a)).within(0.3, 0.6)


def ahead(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    a, b = arms(draw, [0.5 + by, 0.5], luck)
    return difference(a, b, known(luck, a, b)).within(0)


def unpaired(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    a, b = arms(draw, [0.5 + by, 0.5], luck, paired=False)
    return difference(a, b, known(luck, a, b)).within(0)


def alike(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    a, b = arms(draw, [0.6 - by, 0.5], luck)
    return difference(a, b, known(luck, a, b)).within(-0.1, 0.1)


def unknown(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    a, b = arms(draw, [0.5 + by, 0.5], luck)
    return difference(a, b).within(0)


def rises(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    found = arms(draw, [0.5 + by * (k / 2 - 1) for k in range(ARMS)], luck)
    return verdicts.trend(dict(enumerate(found)), known(luck, *found)).within(0)


def is_best(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    a, *others = arms(draw, [0.48 + by, *[0.5] * ARMS], luck)
    return verdicts.best(a, dict(zip("abcde", others, strict=True)), 0.02, known(luck, a, *others))


def several(k: int) -> Test:
    """At least k of five are above 0.5. Of the five, k − 1 are above by 0.1, one is at the edge, the others are below."""

    def test(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
        levels = [0.6] * (k - 1) + [0.5 + by] + [0.4] * (ARMS - k)
        found = arms(draw, levels, luck)
        return verdicts.at_least(k, {str(i): mean(a, known(luck, a)).within(0.5) for i, a in enumerate(found)})

    return test


def every(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    found = arms(draw, [0.5 + by] * ARMS, luck)
    return verdicts.all_of({str(i): mean(a, known(luck, a)).within(0.5) for i, a in enumerate(found)})


def cases(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    return verdicts.share(int(draw.binomial(8 * luck.n, 0.8 + by)), 8 * luck.n, 0.8)


def related(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    r = 0.3 + by
    x, y = draw.multivariate_normal([0, 0], [[1, r], [r, 1]], 8 * luck.n).T
    return verdicts.correlation(pd.Series(x), pd.Series(y), 6 / np.pi * np.arcsin(0.3 / 2))  # Spearman's of a normal one of 0.3


def straight(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    r = 0.3 + by
    x, y = draw.multivariate_normal([0, 0], [[1, r], [r, 1]], 8 * luck.n).T
    return verdicts.coefficient(float(np.corrcoef(x, y)[0, 1]), 8 * luck.n, 0.3)


def slower(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    a, b = (pd.Series(np.exp(draw.normal(np.log(ms), luck.spread, luck.n))) for ms in (20 * np.exp(by), 10))
    return verdicts.ratio(a, b, 2)


def stepped(draw: np.random.Generator, by: float, luck: Luck) -> Finding:
    found = pd.Series(np.round(draw.normal(0.7 + by, luck.spread, luck.n), 1))
    return verdicts.in_steps(mean, found, step=0.1).within(0.7)


TESTS: dict[str, Test] = {
    "a level is at least 0.5": level,
    "a level lies in 0.3 … 0.6": band,
    "an arm is ahead, same seeds": ahead,
    "an arm is ahead, other seeds": unpaired,
    "an arm is ahead, spread not known": unknown,
    "two arms are within 0.1": alike,
    "it rises over five arms": rises,
    "an arm is the best of six": is_best,
    "all five hold": every,
    "three of five hold": several(3),
    "one of five holds": several(1),
    "a share is at least 0.8 (8 n cases)": cases,
    "a correlation is at least 0.3 (8 n cases)": related,
    "Pearson's correlation is at least 0.3 (8 n cases)": straight,
    "a time is at least twice another": slower,
    "a share in tenths is at least 0.7": stepped,
}


def rows(times: int, seeds: tuple[int, ...] = SEEDS, worlds: tuple[World, ...] = WORLDS) -> Iterator[dict[str, object]]:
    """For each world, test and number of seeds: the fractions of verdicts that are wrong, and of those that are none.

    Wrong ones are counted at the edge and beside it, missing ones beside it only.
    """
    for world in worlds:
        for name, test in TESTS.items():
            for n in seeds:
                draw, found = np.random.default_rng(0), {}
                for by in (-0.1, 0.0, 0.1):
                    found[by] = Counter(test(draw, by, world.luck(draw, n)).verdict for _ in range(times))
                yield {
                    **world._asdict(),
                    "test": name,
                    "seeds": n,
                    "differs, and holds": max(found[by][DIFFERS] for by in (0.0, 0.1)) / times,
                    "agrees, and does not hold": max(found[by][AGREES] for by in (-0.1, 0.0)) / times,
                    "none": (found[-0.1][TOO_FEW] + found[0.1][TOO_FEW]) / 2 / times,
                }


def spreads(folder: Path = RUNS) -> pd.DataFrame:
    """Each setting of an anomaly task in docs/runs that ran with three seeds or more on MNIST and was tested on 10,000 images:
    the mean and the standard deviation of its accuracies."""
    found = []
    for file in sorted(folder.glob("*.parquet")):
        runs = tracking.read(None, file.stem, [file]).drop_duplicates("run_id")
        if {"seed", "data/test", report.TEST} <= set(runs):
            fit = runs["data"].isin(ANOMALY) & (runs["source"] == "mnist") & (runs["state"] == "finished")
            runs = runs[fit & (runs["data/test"] >= 10_000)]
            for _, alike in runs.groupby(["model", *selection.settings(runs, [])], dropna=False):
                ends = report.arm(alike)
                if len(ends) >= 3:
                    found.append({"study": file.stem, "seeds": len(ends), "mean": ends.mean(), "sd": ends.std()})
    return pd.DataFrame(found)


def prior(variances: pd.Series, dofs: pd.Series) -> tuple[float, float]:
    """What settings' variances say of another one's: its standard deviation, and how many runs that counts as.

    By the moments of log s², which is a χ² of `dofs` over a χ² of that number (Smyth 2004, Sec. 6.2).
    """
    off = np.log(variances) - digamma(dofs / 2) + np.log(dofs / 2)
    rest = off.var(ddof=1) - polygamma(1, dofs / 2).mean()
    if rest <= 0:
        return math.exp(off.mean() / 2), math.inf
    worth = 2 * brentq(lambda half: polygamma(1, half) - rest, 1e-3, 1e6)
    return math.exp((off.mean() + digamma(worth / 2) - math.log(worth / 2)) / 2), worth


def fits(times: int, networks: tuple[int, ...] = (50, 200)) -> Iterator[dict[str, object]]:
    """How often the interval of a cross-validated R² (`graph_analysis.over_folds`) lies on one side of the truth.

    Made graphs have five properties, which explain 0.6 of the variance of an accuracy. The truth is the mean over all
    simulations: what these folds give on average.
    """
    names = list(graph_analysis.PROPERTIES[:5])
    for n in networks:
        draw, found = np.random.default_rng(0), []
        for _ in range(times):
            made = pd.DataFrame(draw.normal(size=(n, len(names))), columns=names)
            made["test_acc"] = made.sum(axis=1) * (0.6 / len(names)) ** 0.5 + draw.normal(0, 0.4**0.5, n)
            found.append(graph_analysis.over_folds(graph_analysis.folds(made, "BayesianRidge", names)[0]))
        value, low, high = np.array(found).T
        truth = value.mean()
        yield {
            "networks": n,
            "R²": truth,
            "interval above it": (low > truth).mean(),
            "interval below it": (high < truth).mean(),
            "width": (high - low).mean(),
        }


def table(part: pd.DataFrame) -> str:
    """A row for each test, and a cell for each number of seeds: wrong both ways, and none."""
    counts = list(part["seeds"].unique())
    lines = ["| | " + " | ".join(f"n = {n}" for n in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    for name, of_test in part.groupby("test", sort=False):
        shares = of_test[["differs, and holds", "agrees, and does not hold", "none"]].itertuples(index=False)
        cells = [" / ".join(f"{100 * share:.1f}" for share in wrong) + f" · {100 * none:.0f}" for *wrong, none in shares]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often verdicts are wrong, by simulation.")
    parser.add_argument("--times", type=count, default=1000, help="simulations of each")
    times = parser.parse_args().times
    settings = spreads()
    spread, worth = prior(settings["sd"] ** 2, settings["seeds"] - 1)
    print(f"From seed to seed, by {len(settings)} settings in docs/runs: {spread:.4f}, which counts as {worth:.1f} runs")
    found = pd.DataFrame(rows(times))
    print(
        "Percent of the verdicts: differs, and holds / agrees, and does not hold · none, where the truth is 0.1 from the edge"
    )
    for (spread, examples), part in found.groupby(["spread", "examples"], sort=False, dropna=False):
        print(f"\n{examples} examples, from seed to seed {'drawn' if math.isnan(spread) else f'{spread:g}'}:\n\n{table(part)}")
    print("\nR², cross-validated:\n")
    fitted = list(fits(times))
    for fit in fitted:
        print("; ".join(f"{name} {value:.3g}" for name, value in fit.items()))
    print(f"\nwritten to {write('calibration', found.to_dict('records'))} and {write('calibration_r2', fitted)}")


if __name__ == "__main__":
    main()

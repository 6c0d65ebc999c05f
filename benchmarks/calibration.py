"""How often verdicts are wrong: simulated runs whose truth is known, judged as measured ones are (docs/verdicts.md).

    python -m benchmarks.calibration [--times 1000]

An accuracy is the fraction of 200 test examples with the right answer. The accuracy on endless data varies between seeds with a
standard deviation of 0.03, half of that, or twice that; half of the variance is common to arms with the same seed. The truth is
at the edge of the range that a sentence claims, where a verdict is hardest, and 0.1 on either side. A verdict is wrong if it is
*differs* at the edge or where the sentence is true, or *agrees* at the edge or where it is false.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from benchmarks.common import count, write
from experiments import graph_analysis, verdicts
from experiments.verdicts import AGREES, DIFFERS, SPREAD, TOO_FEW, Finding, accuracy_spread, difference, mean

EXAMPLES, SEEDS = 200, (1, 3, 5, 25, 100)
SPREADS = (0.5 * SPREAD, SPREAD, 2 * SPREAD)
ARMS = 5


def arms(draw: np.random.Generator, levels: list[float], n: int, spread: float, paired: bool = True) -> list[pd.Series]:
    """Accuracies of n seeds at each of these levels; unpaired ones have seeds of their own."""
    common = draw.normal(0, spread * 0.5**0.5, n)
    found = []
    for k, level in enumerate(levels):
        own = draw.normal(0, spread * 0.5**0.5, n)
        skill = np.clip(level + own + (common if paired else draw.normal(0, spread * 0.5**0.5, n)), 0, 1)
        found.append(pd.Series(draw.binomial(EXAMPLES, skill) / EXAMPLES, index=np.arange(n) + (0 if paired else k * n)))
    return found


Test = Callable[[np.random.Generator, float, int, float], Finding]  # how far the truth is beyond the edge, seeds, spread


def known(*found: pd.Series) -> float:
    return accuracy_spread(found, EXAMPLES)


def level(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    (a,) = arms(draw, [0.5 + by], n, spread)
    return mean(a, known(a)).within(0.5)


def band(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    (a,) = arms(draw, [0.6 - by], n, spread)
    return mean(a, known(a)).within(0.3, 0.6)


def ahead(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    a, b = arms(draw, [0.5 + by, 0.5], n, spread)
    return difference(a, b, known(a, b)).within(0)


def unpaired(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    a, b = arms(draw, [0.5 + by, 0.5], n, spread, paired=False)
    return difference(a, b, known(a, b)).within(0)


def alike(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    a, b = arms(draw, [0.6 - by, 0.5], n, spread)
    return difference(a, b, known(a, b)).within(-0.1, 0.1)


def unknown(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    a, b = arms(draw, [0.5 + by, 0.5], n, spread)
    return difference(a, b).within(0)


def rises(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    found = arms(draw, [0.5 + by * (k / 2 - 1) for k in range(ARMS)], n, spread)
    return verdicts.trend(dict(enumerate(found)), known(*found)).within(0)


def is_best(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    a, *others = arms(draw, [0.48 + by, *[0.5] * ARMS], n, spread)
    return verdicts.best(a, dict(zip("abcde", others, strict=True)), 0.02, known(a, *others))


def several(k: int) -> Test:
    """At least k of five are above 0.5. Of the five, k − 1 are above by 0.1, one is at the edge, the others are below."""

    def test(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
        levels = [0.6] * (k - 1) + [0.5 + by] + [0.4] * (ARMS - k)
        found = arms(draw, levels, n, spread)
        return verdicts.at_least(k, {str(i): mean(a, known(a)).within(0.5) for i, a in enumerate(found)})

    return test


def every(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    found = arms(draw, [0.5 + by] * ARMS, n, spread)
    return verdicts.all_of({str(i): mean(a, known(a)).within(0.5) for i, a in enumerate(found)})


def cases(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    return verdicts.share(int(draw.binomial(8 * n, 0.8 + by)), 8 * n, 0.8)


def related(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    r = 0.3 + by
    x, y = draw.multivariate_normal([0, 0], [[1, r], [r, 1]], 8 * n).T
    return verdicts.correlation(pd.Series(x), pd.Series(y), 6 / np.pi * np.arcsin(0.3 / 2))  # Spearman's of a normal one of 0.3


def straight(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    r = 0.3 + by
    x, y = draw.multivariate_normal([0, 0], [[1, r], [r, 1]], 8 * n).T
    return verdicts.coefficient(float(np.corrcoef(x, y)[0, 1]), 8 * n, 0.3)


def slower(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    a, b = (pd.Series(np.exp(draw.normal(np.log(ms), spread, n))) for ms in (20 * np.exp(by), 10))
    return verdicts.ratio(a, b, 2)


def stepped(draw: np.random.Generator, by: float, n: int, spread: float) -> Finding:
    found = pd.Series(np.round(draw.normal(0.7 + by, spread, n), 1))
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


def rows(times: int, seeds: tuple[int, ...] = SEEDS, spreads: tuple[float, ...] = SPREADS) -> Iterator[dict[str, object]]:
    """For each spread, test and number of seeds: the fractions of verdicts that are wrong, and of those that are none.

    Wrong ones are counted at the edge and beside it, missing ones beside it only.
    """
    for spread in spreads:
        for name, test in TESTS.items():
            for n in seeds:
                draw = np.random.default_rng(0)
                found = {by: Counter(test(draw, by, n, spread).verdict for _ in range(times)) for by in (-0.1, 0.0, 0.1)}
                yield {
                    "spread": spread,
                    "test": name,
                    "seeds": n,
                    "differs, and holds": max(found[by][DIFFERS] for by in (0.0, 0.1)) / times,
                    "agrees, and does not hold": max(found[by][AGREES] for by in (-0.1, 0.0)) / times,
                    "none": (found[-0.1][TOO_FEW] + found[0.1][TOO_FEW]) / 2 / times,
                }


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
    found = pd.DataFrame(rows(times))
    print(
        "Percent of the verdicts: differs, and holds / agrees, and does not hold · none, where the truth is 0.1 from the edge"
    )
    for spread, part in found.groupby("spread"):
        print(f"\nFrom seed to seed {spread:g}:\n\n{table(part)}")
    print("\nR², cross-validated:\n")
    fitted = list(fits(times))
    for fit in fitted:
        print("; ".join(f"{name} {value:.3g}" for name, value in fit.items()))
    print(f"\nwritten to {write('calibration', found.to_dict('records'))} and {write('calibration_r2', fitted)}")


if __name__ == "__main__":
    main()

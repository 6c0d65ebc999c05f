"""Darji 2022, ch. 4: the Reber strings, how many are valid, and how long they are (Table 4.2, Figs. 4.2–4.5).

D's data set are the training and test strings; the validation strings are this lab's. What D's counts of lengths give away, the
lab does otherwise: its invalid strings are as long as its valid ones. `expected` has D's.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import brentq

from experiments.claims import Claim, judge
from experiments.report import BLUE, ORANGE, PURPLE
from experiments.verdicts import Finding
from inn_lab.data.grammar import EXCHANGED, GRAMMAR, REPLACED, is_valid

AXES = ()
TABLES = {"strings": "strings.csv"}
KINDS = {"valid": BLUE, "exchanged": ORANGE, "replaced": PURPLE}
SHORTEST, OFTEN, LONGEST = 11, 22, 53  # letters, in D
COUNTED = {SHORTEST: 216, OFTEN: 2112}  # how many strings of D's have them
TRAIN, TEST, VALID = 18_750, 6_250, 12_500  # strings; how many of them are valid
SPREAD = (TRAIN * 0.25 * TEST / (TRAIN + TEST - 1)) ** 0.5  # of the valid training strings, divided at random: 34


def figures(runs: pd.DataFrame, strings: pd.DataFrame) -> dict[str, Figure]:
    """How many strings of each kind (D's Fig. 4.2), and lengths in both parts together (4.3), in training (4.4) and test (4.5);
    of the least seed."""
    first = runs.sort_values("seed")["run_id"].iloc[0]
    shown = darji(strings[strings["run_id"] == first])
    figure = Figure(figsize=(10, 7), layout="constrained")
    counts, together, training, test = figure.subplots(2, 2).flat
    stacked(counts, shown.assign(part=shown["part"].astype(pd.CategoricalDtype(["train", "test"]))), "part")
    counts.set(title="Strings", xlabel="", ylabel="strings")
    counts.legend(title="kind")
    parts = {"Both parts": (together, shown), "Training": (training, of(shown, "train")), "Test": (test, of(shown, "test"))}
    for title, (axes, part) in parts.items():
        stacked(axes, part.assign(letters=part["string"].str.len()), "letters")
        axes.plot(expected().sum(axis=1) * len(part) / len(shown), color="black", linewidth=1, label="expected of D's")
        axes.set(title=title, xlabel="letters", ylabel="strings", xlim=(SHORTEST - 2, LONGEST + 2))
    together.legend()
    return {"reber_dataset": figure}


def stacked(axes: Axes, strings: pd.DataFrame, by: str) -> None:
    """Bars of how many strings there are, the kinds on top of each other."""
    counts = strings.groupby([by, "kind"], observed=True).size().unstack(fill_value=0)
    below = pd.Series(0, index=counts.index)
    for kind, colour in KINDS.items():
        if kind in counts:
            axes.bar(counts.index, counts[kind], bottom=below, color=colour, label=kind.replace("_", " "), width=0.8)
            below = below + counts[kind]


def darji(strings: pd.DataFrame) -> pd.DataFrame:
    """The strings of D's data set: those for training and for test."""
    return strings[strings["part"] != "val"]


def of(strings: pd.DataFrame, part: str) -> pd.DataFrame:
    return strings[strings["part"] == part]


def in_each(measure: Callable[[pd.DataFrame], tuple[str, bool]]) -> Callable[..., Finding]:
    """Claim on the strings of one run, which must hold in each of them: they are counted, and chance has no part in it.

    What is told is of the first in which it doesn't, or else of the first.
    """

    def measured(runs: pd.DataFrame, strings: pd.DataFrame) -> Finding:
        found = [measure(part) for _, part in strings.groupby("run_id", sort=False)]
        if not found:
            return judge("no runs", None)
        text, holds = min(found, key=lambda one: one[1])
        return judge(text, holds)

    return measured


def half_are_valid(strings: pd.DataFrame) -> tuple[str, bool]:
    valid = darji(strings)["valid"]
    return f"{len(valid):,} strings, {valid.sum():,} valid", len(valid) == 2 * VALID and valid.sum() == VALID


def divided_at_random(strings: pd.DataFrame) -> tuple[str, bool]:
    """As many strings as in D, and as many valid training strings as a random division leaves, within three deviations."""
    (train, sized), (test, tested) = ((part["valid"].sum(), len(part)) for part in (of(strings, "train"), of(strings, "test")))
    off = (train - VALID * TRAIN / (TRAIN + TEST)) / SPREAD
    text = f"{train:,} of {sized:,} and {test:,} of {tested:,}; {off:+.1f} standard deviations from three quarters of the valid"
    return text, (sized, tested) == (TRAIN, TEST) and abs(off) <= 3


def as_the_grammar_says(strings: pd.DataFrame) -> tuple[str, bool]:
    wrong = ((strings["kind"] == "valid") != strings["valid"]).sum()
    return f"{wrong} of {len(strings):,} are called what they are not", wrong == 0


def letters(value: Callable[[pd.Series], int], expected: int, within: int) -> Callable[[pd.DataFrame], tuple[str, bool]]:
    """A number of letters, in both parts together as D has it, and told of each part."""

    def measure(strings: pd.DataFrame) -> tuple[str, bool]:
        parts = {"all": darji(strings), "training": of(strings, "train"), "test": of(strings, "test")}
        found = {name: value(part["string"].str.len()) for name, part in parts.items()}
        return ", ".join(f"{n} in {name}" for name, n in found.items()), abs(found["all"] - expected) <= within

    return measure


def shortest_ones(strings: pd.DataFrame) -> tuple[str, bool]:
    """At most twice as many as the grammar has: each other lettering is as long as a valid string."""
    valid = darji(strings)["valid"][darji(strings)["string"].str.len() == SHORTEST]
    text = f"{len(valid)}, {valid.sum()} of them valid; the grammar has {allowed(SHORTEST)}, D {COUNTED[SHORTEST]}"
    return text, len(valid) <= 2 * allowed(SHORTEST)


def allowed(length: int) -> int:
    """How many valid strings there are of so many letters."""
    paths = {0: 1}  # node: in how many ways it is reached
    for _ in range(length):
        after: dict[int, int] = {}
        for node, ways in paths.items():
            for to in GRAMMAR[node].values():
                after[to] = after.get(to, 0) + ways
        paths = after
    return paths.get(max(GRAMMAR), 0)


def seen(n: int | float) -> pd.Series:
    """The probability that a valid string of 11 letters or more is among n different ones that random walks come upon, by its
    number of letters L.

    W walks have come upon it with probability 1 − (1 − 2^−(L−2))^W; W is such that n are expected in all.
    """
    lengths = np.arange(SHORTEST, LONGEST + 20)
    missed, there = np.log1p(-(2.0 ** -(lengths - 2))), [allowed(length) for length in lengths]
    walks = brentq(lambda log: -np.expm1(missed * math.exp(log)) @ there - n, 0, 40)
    return pd.Series(-np.expm1(missed * math.exp(walks)), index=lengths)


def expected() -> pd.DataFrame:
    """How many strings of each length D's data set has, on average, if its valid strings and those of each other lettering were
    drawn until there were enough of them: columns `valid` and `invalid`."""
    others = len(EXCHANGED + REPLACED)
    valid, invalid = seen(VALID), seen(VALID / others)
    there = pd.Series({length: allowed(length) for length in valid.index})
    return pd.DataFrame({"valid": there * valid, "invalid": others * there * invalid})


def counts_of_nine_letterings(strings: pd.DataFrame) -> tuple[str, bool]:
    """D's two counts, within three standard deviations (√n at most, of draws that are independent); and what follows."""
    on_average = expected()
    total, guess = on_average.sum(axis=1), on_average.max(axis=1).sum() / on_average.to_numpy().sum()
    text = ", ".join(f"{total[length]:,.0f} of {length} letters" for length in COUNTED)
    off = [abs(count - total[length]) <= 3 * math.sqrt(total[length]) for length, count in COUNTED.items()]
    return f"{text}, most often {total.idxmax()}; the best guess by length would be right for {guess:.0%}", all(off)


def in_one_part_only(strings: pd.DataFrame) -> tuple[str, bool]:
    repeated = int(strings["string"].duplicated().sum())
    return f"{repeated} of {len(strings):,} strings stand there before", repeated == 0


def lengths_tell_nothing(strings: pd.DataFrame) -> tuple[str, bool]:
    """How often a guess by length alone would be right, if it is the best one."""
    by_length = strings.groupby([strings["string"].str.len(), "valid"]).size().unstack(fill_value=0)
    right = by_length.max(axis=1).sum() / len(strings)
    return f"the best guess by length is right for {right:.1%}", right <= 0.52


def is_among_them(string: str) -> Callable[[pd.DataFrame], tuple[str, bool]]:
    def measure(strings: pd.DataFrame) -> tuple[str, bool]:
        there = bool((darji(strings)["string"] == string).any())
        shortest = darji(strings)["string"].str.len().min()
        return f"{'there' if there else 'not there'}: it has {len(string)} letters, the shortest string {shortest}", there

    return measure


def the_grammar_allows(string: str) -> Callable[[pd.DataFrame], tuple[str, bool]]:
    return lambda strings: ("allowed" if is_valid(string) else "not allowed: after the first X comes S or X", is_valid(string))


CLAIMS = [
    Claim("D 4, Fig. 4.2", "25,000 strings, 12,500 of them valid", in_each(half_are_valid)),
    Claim(
        "D 4, Table 4.2",
        "Divided at random: 9,339 of 18,750 training strings are valid and 3,161 of 6,250 test strings (-1.1 deviations)",
        in_each(divided_at_random),
    ),
    Claim("D 4, Fig. 4.1", "The valid strings follow the grammar and the others don't", in_each(as_the_grammar_says)),
    Claim("D 4, Figs. 4.3–4.5", "The shortest strings have 11 letters", in_each(letters(pd.Series.min, SHORTEST, 0))),
    Claim(
        "D 4, Figs. 4.3–4.5",
        "Most often they have 22 letters: within 1",
        in_each(letters(lambda lengths: lengths.mode().iloc[0], OFTEN, 1)),
    ),
    Claim(
        "D 4, Figs. 4.3–4.5",
        "The longest string has 53 letters, 49 in training: within 6",
        in_each(letters(pd.Series.max, LONGEST, 6)),
    ),
    Claim("D 4, Table 4.1", "BPTTTTVPSE is one of the strings", in_each(is_among_them("BPTTTTVPSE"))),
    Claim("D 5.1", "BTSXE is a valid string", in_each(the_grammar_allows("BTSXE"))),
    Claim(
        "this lab",
        "D's 216 strings of 11 letters and 2,112 of 22 are 12,500 valid ones, and an eighth as many in each other lettering",
        in_each(counts_of_nine_letterings),
    ),
    Claim(
        "this lab",
        "Of the strings of 11 letters, 216 in D, there are no more than valid ones of that length, twice",
        in_each(shortest_ones),
    ),
    Claim("this lab", "No string is there twice, in one part or in two", in_each(in_one_part_only)),
    Claim(
        "this lab", "Its length does not tell whether a string is valid: right for 52 % at most", in_each(lengths_tell_nothing)
    ),
]

"""Curves of any experiment, by whatever was swept; two sweeps side by side; and a folder of the user's own."""

import sys

import pandas as pd
import pytest
from conftest import SMOKE
from made import run, runs

from experiments import __main__ as reports
from experiments import curves
from inn_lab.errors import ConfigError


@pytest.fixture
def figures(outputs, monkeypatch, capsys):
    """`figures("curves", …)` is `python -m experiments curves …`: (exit code, standard output, standard error)."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["experiments", *words])
        code = 0
        try:
            reports.main()
        except SystemExit as exit:
            code = exit.code or 0
        return code, *capsys.readouterr()

    return call


def swept(
    *, sweep: str, ends: dict[float, float], seeds: range = range(3), start: int = 0, **more: object
) -> list[pd.DataFrame]:
    """Made runs of one sweep over R, each at its end from the first epoch on, a little apart from seed to seed."""
    made = []
    for R, end in ends.items():
        for seed in seeds:
            one = run(R, seed=seed, sweep=sweep, **more)
            one["val/acc_end"] = one["test/acc_end"] = end + 0.001 * seed
            one["start"] = pd.Timestamp("2026-01-01") + pd.Timedelta(minutes=start)
            made.append(one)
    return made


def test_what_varied_in_the_newest_sweep_is_what_is_drawn():
    old = swept(sweep="old", ends={0.1: 0.4, 0.2: 0.5}, lr=1e-3)
    new = swept(sweep="new", ends={0.1: 0.6}, start=1, lr=1e-3) + swept(sweep="new", ends={0.1: 0.7}, start=1, lr=1e-2)
    assert curves.axes_of(runs(*old)) == ["R"]
    assert curves.axes_of(runs(*old, *new)) == ["lr"]
    assert curves.axes_of(runs(*old[:1])) == []


def test_a_setting_ends_where_its_seeds_do():
    table = curves.ends(runs(*swept(sweep="one", ends={0.1: 0.4, 0.2: 0.9})), ["R"])
    assert list(table["setting"]) == ["R=0.1", "R=0.2"] and list(table["runs"]) == [3, 3]
    assert [float(text.split()[0]) for text in table["test"]] == pytest.approx([0.401, 0.901])


def test_a_pruned_run_is_drawn_as_far_as_it_went_and_counts_for_nothing():
    both = runs(run(0.1), run(0.2, state="pruned"))
    drawn = {line.get_label(): len(line.get_xdata()) for line in curves.figure(both, ["R"]).axes[0].get_lines()}
    assert drawn["R=0.1 (1)"] == 20 and drawn["R=0.2 (1)"] == 5
    assert list(curves.ends(both, ["R"])["setting"]) == ["R=0.1"]


def test_two_sweeps_are_compared_seed_by_seed_the_older_first():
    both = runs(*swept(sweep="a", ends={0.1: 0.3, 0.2: 0.5}), *swept(sweep="b", ends={0.1: 0.5, 0.2: 0.5}, start=1))
    table = curves.compared(both, ["R"], "sweep")
    assert list(table.columns) == ["setting", "a", "b", "difference", "pairs"] and list(table["pairs"]) == [3, 3]
    (first, low, high), (second, below, above) = (
        [float(word.strip("()")) for word in text.replace(" to ", " ").split()] for text in table["difference"]
    )
    assert first == pytest.approx(0.2) and second == 0 and low > 0 and below < 0 < above and high > low
    with pytest.raises(ConfigError, match="two values are compared, and these runs have 0"):
        curves.compared(runs(*swept(sweep="a", ends={0.1: 0.3, 0.2: 0.5, 0.4: 0.6})), [], "R")


def test_many_curves_are_parted_into_panels():
    made = [
        one for lr in (1e-3, 1e-2) for one in swept(sweep="a", ends=dict.fromkeys([k / 10 for k in range(1, 7)], 0.5), lr=lr)
    ]
    figure = curves.figure(runs(*made), ["R", "lr"])
    titles = [axes.get_title() for axes in figure.axes]
    assert (
        titles[:2] == ["lr=0.001", "lr=0.01"] and len(figure.axes[0].lines) == 2 * 6
    )  # a curve, and a cross where one diverged
    assert {text.get_text() for text in figure.legends[0].texts} == {f"R={k / 10:g} (3)" for k in range(1, 7)}


def test_a_run_without_an_experiment_is_drawn(lab, figures, outputs):
    assert lab(*SMOKE, "trainer.max_epochs=1", "-m", "R=0.1,0.3")[0] == 0
    code, out, _ = figures("curves", "adhoc")
    assert code == 0 and "R=0.1" in out and (outputs / "figures/adhoc_curves.png").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ("curves", "curves: name the experiments that are drawn; known are: adhoc"),
        ("curves nope", "nope: there is no such experiment"),
        ("curves adhoc --compare sweeep", "--compare sweeep: the runs have no such column; did you mean sweep"),
        ("curves adhoc --compare R", "--compare R: two values are compared, and these runs have 0.1"),
        ("structure --compare lr", "--compare lr: it goes with curves EXPERIMENT"),
    ],
)
def test_bad_words_get_one_line(figures, monkeypatch, words, message):
    monkeypatch.setattr(reports.tracking, "read", lambda *_: runs(*swept(sweep="a", ends={0.1: 0.5})))
    code, _, err = figures(*words.split())
    assert code == 2 and message in err and err.count("\n") == 1

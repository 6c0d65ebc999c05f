"""Reports on made runs: which are drawn together, and what each claim says to runs that agree, differ or are too few."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from made import one, rows, run, runs
from matplotlib.figure import Figure

from experiments import __main__ as door
from experiments import files, report, selection
from experiments import sparsity_fixed_params as study
from experiments.claims import (
    OTHER_DATA,
    OTHER_SCALE,
    OTHER_SETTING,
    SHORT,
    Claim,
    claims_table,
    judge,
    paper,
)
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab import tracking
from inn_lab.errors import ConfigError


def verdicts(frame: pd.DataFrame) -> dict[str, str]:
    table = claims_table(study.CLAIMS, frame)
    return dict(zip(table["sentence"], table["verdict"], strict=True))


GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
H = {  # final ACC_end by density, as Hershey 2023 describes Figs. 3.14–3.17
    1_000_000: dict.fromkeys(GRID, 0.60),
    100_000: {R: 0.55 if 0.05 <= R <= 0.2 else 0.2 if R == 1.0 else 0.50 for R in GRID},
    50_000: {R: 0.50 if 0.05 <= R <= 0.2 else {0.005: 0.20, 0.6: 0.38, 0.8: 0.2, 1.0: 0.11}.get(R, 0.42) for R in GRID},
    10_000: {0.005: 0.12, 0.01: 0.14, 0.02: 0.16, 0.05: 0.20, 0.1: 0.23, 0.2: 0.20},
}


SEEDS = 9  # ends of one seed are known to ± 0.13


def as_the_thesis(change=None, seeds=SEEDS) -> pd.DataFrame:
    change = dict(change or {})
    effective = {(50_000, 0.005): change.pop("effective", 0.8)}
    ends = {(n, R): end for n, at in H.items() for R, end in at.items()} | change
    made = [
        one(R, n, end, seed=seed, **{"model/weights_effective": effective.get((n, R), 1.0) * n})
        for (n, R), end in ends.items()
        for seed in range(seeds)
    ]
    made += [one(model="lstm", n_weights=1_307_540, end=0.28, seed=seed) for seed in range(seeds)]
    return rows(*made, one(0.4, 10_000, state="undefined"))


def test_every_claim_agrees_with_runs_like_the_thesis():
    assert set(verdicts(as_the_thesis()).values()) == {AGREES}


@pytest.mark.parametrize(
    "claim, change",
    [
        (0, {(1_000_000, 1.0): 0.3}),
        (1, {(1_000_000, 0.02): 0.20}),
        (2, {(100_000, 1.0): 0.5}),
        (3, {(100_000, 0.4): 0.9}),
        (3, {(100_000, 0.4): 0.64}),  # all within their bounds, but another is better
        (3, {(100_000, 0.1): 0.3}),
        (4, {(50_000, 1.0): 0.4}),
        (5, {(50_000, 0.6): 0.6}),
        (6, {(50_000, 0.005): 0.5}),
        (7, {(50_000, 0.1): 0.1}),
        (8, {(10_000, 0.2): 0.6}),
        (9, {(10_000, 0.4): 0.3}),
        (10, {"effective": 1.0}),
    ],
)
def test_a_claim_differs(claim, change):
    frame = as_the_thesis(change)
    if claim == 9:
        frame = frame[frame["state"] == "finished"]
    assert claims_table([study.CLAIMS[claim]], frame)["verdict"][0] == DIFFERS


def test_a_claim_is_of_one_setting():
    frame = as_the_thesis().assign(lr=1e-3)
    table = claims_table(study.CLAIMS, frame)
    assert set(table["verdict"][:2]) == {OTHER_SETTING} and set(table["verdict"][2:]) == {AGREES}
    assert table["sentence"][0].endswith("density has no clear effect, lr=0.0001")  # H's
    assert table["sentence"][2].endswith("collapses to about 0.20, lr=0.001")  # of which H says nothing: that of the runs


def test_claims_without_their_runs_are_not_judged():
    assert set(verdicts(run(0.3, 777)).values()) == {TOO_FEW}


@pytest.mark.parametrize(
    "other, why",
    [({"source": "digits"}, OTHER_DATA), ({"source": "cifar10"}, OTHER_DATA), ({"scale": "smoke"}, OTHER_SCALE)],
)
def test_no_verdict_on_other_images_or_sizes(other, why):
    table = claims_table(study.CLAIMS, run(1.0, 100_000, 0.2, **other))
    assert set(table["verdict"][:-1]) == {why}  # the last is about the pattern, whatever the images
    assert table["measured"][2].startswith("0.20 (")  # but it is measured, and says on what
    assert all(value in table["measured_on"][2] for value in other.values())


def test_runs_that_are_shorter_than_the_sources_are_measured_and_not_judged():
    asked = paper("sparsity_fixed_params")
    assert asked["trainer.max_epochs"] == 100 and asked["data.n_train"] == 2000 and asked["trainer.max_time"] is None
    claims = [
        Claim("H", "at the end", lambda runs: judge("0.5", True)),
        Claim("H", "early", lambda runs: judge("0.5", False), epochs=8),
    ]
    claims.append(Claim("H", "of no image", lambda runs: judge("0.5", True), images=False))
    for epochs, expected in ((100, [AGREES, DIFFERS, AGREES]), (8, [SHORT, DIFFERS, AGREES]), (7, [SHORT, SHORT, AGREES])):
        table = claims_table(claims, run(0.2, 1000, **{"trainer.max_epochs": epochs}), asked)
        assert table["verdict"].tolist() == expected and table["measured"].tolist() == ["0.5"] * 3
    for stopped, expected in ((np.nan, [AGREES, DIFFERS]), (50, [SHORT, DIFFERS]), (6, [SHORT, SHORT])):  # epochs from 0
        early = run(0.2, 1000, **{"trainer.max_epochs": 100, "trainer.patience": 5, "stopped/epoch": stopped})
        assert claims_table(claims[:2], early, asked)["verdict"].tolist() == expected
    own = {"trainer.max_epochs": 100, "trainer.patience": 5}  # the experiment's own runs end early
    assert claims_table(claims[:1], early, own)["verdict"].tolist() == [AGREES]
    fewer = run(0.2, 1000, **{"trainer.max_epochs": 100, "data.n_train": 200})
    assert claims_table(claims, fewer, asked)["verdict"].tolist() == [SHORT, SHORT, AGREES]


def test_runs_on_different_images_are_never_drawn_together():
    frame = runs(run(0.1, source="digits"), run(0.2, source="digits"), run(0.1, source="mnist"))
    kept, note = selection.select(frame, study.AXES, {})
    assert set(kept["source"]) == {"mnist"}  # the newest
    assert note == "1 of 3 runs; choose others by source.name=digits|mnist"
    kept, _ = selection.select(frame, study.AXES, {"source": "digits"})
    assert sorted(kept["R"].unique()) == [0.1, 0.2]


def test_models_are_never_drawn_together_unless_they_are_compared():
    frame = runs(run(), run(model="gru", **{"model._target_": "gru"}), run(model="mlp", **{"model._target_": "mlp"}))
    assert set(selection.select(frame, study.AXES, {})[0]["model"]) == {"inn", "gru", "mlp"}
    assert set(selection.select(frame, ("R",), {})[0]["model"]) == {"mlp"}  # the newest


def test_settings_are_shared_but_for_axes_and_seeds():
    frame = runs(run(0.1, lr=1e-3), run(0.1, seed=0), run(0.2, seed=1), run(model="lstm", n_weights=1_307_540))
    kept, _ = selection.select(frame, study.AXES, {})
    assert set(kept["lr"]) == {1e-4} and kept["run_id"].nunique() == 3  # an LSTM without model.init is no stranger
    kept, _ = selection.select(frame, study.AXES, {"lr": "0.001"})
    assert kept["run_id"].nunique() == 1


def test_of_equal_runs_the_newest_is_drawn_and_unfinished_ones_are_not():
    kept, _ = selection.select(runs(run(end=0.3), run(end=0.6), run(end=0.9, state="failed")), study.AXES, {})
    assert report.finals(kept).mean() == pytest.approx(0.6)


@pytest.mark.parametrize(
    "wanted, message", [({"sorce": "mnist"}, "sorce=mnist.*did you mean.*source"), ({"lr": "7"}, "lr=7: no run.*lr=0.0001")]
)
def test_a_choice_that_names_no_run(wanted, message):
    with pytest.raises(ConfigError, match=message):
        selection.select(run(), study.AXES, wanted)


@pytest.mark.parametrize(
    "word", ["lr=1e-3", "lr=.001", "seed=0", "seed=0.0", "on=true", "on=True", "limit=null", "limit=None", "source=mnist"]
)
def test_a_choice_is_a_value_however_it_is_written(word):
    meant, other = run(lr=1e-3, on="True", limit="null"), {"lr": 1e-4, "on": "False", "limit": "300", "source": "digits"}
    frame = runs(meant, run(seed=1, **other), run(seed=np.nan, **other))  # seeds are floats where one is missing
    kept, _ = selection.select(frame, ("lr", "source", "on", "limit"), dict([word.split("=")]))
    assert set(kept["run_id"]) == set(meant["run_id"])


@pytest.mark.parametrize("state", [None, "failed", "undefined", "diverged"])
def test_while_no_run_has_finished_a_report_says_so(state):
    with pytest.raises(ConfigError, match=selection.NONE_FINISHED):
        selection.select(run(state=state).drop(columns=["val/acc_end", "epoch"]), study.AXES, {})


def test_where_the_newest_of_equal_runs_is_undefined_nothing_is_drawn():
    with pytest.raises(ConfigError, match="no such run has finished yet"):
        selection.select(runs(run(), run(state="undefined")), study.AXES, {})
    with pytest.raises(ConfigError, match="none of the runs that its figures show"):
        study.figures(run(model="lstm"))


@pytest.fixture
def reports(outputs, monkeypatch, capsys):
    """`reports(frame, "R=0.1", …)` is `python -m experiments R=0.1 …`, where `frame` holds the runs of every experiment: (exit
    code, standard output, standard error)."""

    def call(frame: pd.DataFrame | Exception, *words: str) -> tuple[int, str, str]:
        def read(*_):
            if isinstance(frame, Exception):
                raise frame
            return frame

        monkeypatch.setattr(tracking, "read", read)
        monkeypatch.setattr(sys, "argv", ["experiments", *words])
        code = 0
        try:
            door.main()
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    "words, message",
    [
        ("recency R=", "R=: a choice is KEY=VALUE"),
        ("=1", "=1: a choice is KEY=VALUE"),
        ("nope=1", "dataset_gallery: nope=1: the runs have no such column; they differ in model, lr, "),
        ("recency epoch=1", "epoch=1: the runs have no such column"),
        ("recency R=abc", "R=abc: no run has it; there are runs with R=0.1"),
        ("recency R=[/x]", r"R=\[/x\]: no run has it"),
        ("recency lr=1 lr=2", "lr=1 lr=2: a figure is of one choice"),
        ("recency --outputs", "argument --outputs: expected one argument; see python -m experiments --help"),
        ("recency --nope", "unrecognized arguments: --nope"),
        ("recencyy", "recencyy: there is no such report; did you mean recency"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(reports, words, message):
    frame = runs(run(0.1), run(0.1, lr=1e-3), run(0.1, model="lstm"))
    code, out, err = reports(frame, *words.split())
    assert code == 2 and out == "" and re.match(f"experiments: {message}", err) and err.count("\n") == 1


@pytest.mark.parametrize("error", [tracking.Unanswered("MLflow is away"), OSError(28, "No space left on device")])
def test_what_stands_in_every_report_s_way_is_one_line(reports, error):
    code, out, err = reports(error)
    assert code == 2 and out == "" and str(error) in err and err.count("\n") == 1


def test_a_choice_s_figures_replace_no_others_and_what_is_replaced_is_said(reports, outputs):
    old, new = run(1.0, source="digits"), run(0.1)
    words = ("sparsity_fixed_params", "source=digits")
    assert reports(old, words[0])[:1] == (0,)
    for _ in range(2):
        code, out, _ = reports(runs(old, new), *words)
        assert code == 0 and "replaces" not in out
    code, out, _ = reports(runs(old, new), words[0])
    assert code == 0 and "replaces what was drawn of: source digits" in out
    drawn = {path.relative_to(outputs / "figures").as_posix() for path in (outputs / "figures").rglob("*.png")}
    assert drawn == {"sparsity_fixed_params.png", "source=digits/sparsity_fixed_params.png"}


def test_the_band_is_the_seeds_standard_deviation():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    report.curve(axes, runs(run(end=0.4, seed=0), run(end=0.6, seed=1)), "val/acc_end", "x")
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(0.5)
    _, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert high == pytest.approx(0.5 + np.std([0.4, 0.6], ddof=1))


def test_names_stand_beside_a_panel_in_the_order_of_the_ends_and_apart():
    from matplotlib.figure import Figure

    axes = Figure(figsize=(5, 3.6)).subplots()
    ends = {"high": 0.9, "one": 0.5, "two": 0.501, "three": 0.502, "low": 0.1}
    for name, end in ends.items():
        axes.plot([1, 50 if name == "high" else 100], [0, end], label=name)
    axes.plot([1, 100], [np.nan, np.nan], label="no number")
    axes.set(ylim=(0, 1))
    report.beside(axes, "what they are")
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert list(heights) == ["low", "one", "two", "three", "high", "what they are"]
    assert np.diff(list(heights.values())).min() > 0.04  # of the panel: a row of text
    assert heights["low"] == pytest.approx(0.1) and heights["two"] == pytest.approx(0.501)  # the middle one of the crowd
    leaders = [line for line in axes.lines if line.get_transform() == axes.transAxes]
    assert [len(line.get_xdata()) for line in leaders] == [3, 3, 3, 3, 2]  # none from a line that ends before the panel does


def test_figures_say_what_they_show(tmp_path):
    frame = as_the_thesis(seeds=1)
    made = study.figures(frame)
    (figure,) = made.values()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["1,000,000 weights", "100,000 weights"] and titles[3] == "10,000 weights (undefined: R=0.4)"
    labels = [text.get_text() for text in figure.axes[1].texts]
    assert "R=0.05 (100,000)" in labels and "LSTM (1,307,540)" in labels
    paths = files.write("sparsity_fixed_params", made, frame, tmp_path, claims=claims_table(study.CLAIMS, frame))
    assert {path.name for path in paths} == {
        f"sparsity_fixed_params{end}" for end in (".png", ".pdf", ".csv", "_claims.csv", "_claims.tex")
    }
    assert all(path.stat().st_size > 0 for path in paths)
    tex = (tmp_path / "sparsity_fixed_params_claims.tex").read_text()
    assert "\\toprule" in tex and "With 10,000 weights R=0.1 is best" in tex and "\\\\\n\\bottomrule" in tex
    pdf = (tmp_path / "sparsity_fixed_params.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf and b"/Type3" not in pdf  # fonts that journals take
    footer = figure.texts[0].get_text()
    assert footer.endswith("\nACC_end: the share of inputs (sequences, images, strings) whose last output is right")
    assert all(word in footer for word in ("source mnist", "scale paper", "1 seed", "cpu", "commit 0123456"))
    assert pd.read_csv(tmp_path / "sparsity_fixed_params.csv")["val/acc_end"].max() == 0.6


@pytest.mark.parametrize("width, columns", [(3.4, 1), (7.0, 2)])
def test_figures_come_as_wide_as_a_paper_has_room_for(width, columns, tmp_path):
    frame = as_the_thesis(seeds=1)
    (figure,) = study.figures(frame).values()
    figure.axes[0].set_title("a title of as many words as go into a whole page's width")
    figure.legend([], loc="outside right upper", title="a legend")
    paths = files.write("study", {"drawn": figure}, frame, tmp_path, width)
    assert [path.name for path in paths] == [f"drawn_{width:g}in.png", f"drawn_{width:g}in.pdf", "study.csv"]
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) [\d.]+", (tmp_path / paths[1]).read_bytes())
    assert float(box) / 72 == pytest.approx(width, abs=0.1)
    assert len({round(axes.get_position().x0, 2) for axes in figure.axes}) == columns
    assert {axes.get_ylabel() for axes in figure.axes} == {"validation ACC_end"} and "\n" in figure.axes[0].get_title()
    assert {size for text in figure.axes[0].texts if (size := text.get_fontsize())} == {report.SMALL}


def test_pictures_get_smaller_and_panels_keep_their_height():
    pictures = Figure(figsize=(10, 4), layout="constrained")
    pictures.subplots(2, 10)
    files.restack(pictures, 5)
    assert tuple(pictures.get_size_inches()) == (5, 2)
    panels = Figure(figsize=(10, 4), layout="constrained")
    left, right = panels.subplots(1, 2, sharey=True)
    left.set_ylabel("shared")
    files.restack(panels, 4)
    assert tuple(panels.get_size_inches()) == (4, 8) and right.get_ylabel() == "shared"


@pytest.mark.parametrize("width", ["1", "41", "wide", "nan", "", "-3"])
def test_a_width_is_one_that_a_figure_can_have(width):
    with pytest.raises(ConfigError, match=re.escape(f"--width {width}: a number of inches between 2 and 40")):
        door.read(["--width", width] if not width.startswith("-") else [f"--width={width}"])


@pytest.mark.parametrize("other", ["--html", "--export"])
def test_a_width_is_for_files(other):
    with pytest.raises(ConfigError, match="leave out --html and --export"):
        door.read(["--width", "7", other])


def test_reports_bring_no_model_and_no_training():
    code = """
import importlib, sys
from experiments.__main__ import names
for name in names():
    importlib.import_module(f"experiments.{name}")
print([name for name in sys.modules if name.startswith(("inn_lab.models", "inn_lab.training", "pytorch_lightning"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

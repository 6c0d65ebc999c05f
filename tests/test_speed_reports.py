"""The reports on speed, on made runs: what each claim says to runs that agree, differ or are too few, and what is drawn."""

import itertools

import pandas as pd
import pytest

from experiments import matmul_speed, report, selection, training_speed
from experiments.claims import OTHER_DATA, Claim, claims_table, judge
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW

GRID = (1.0, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)


def run(number: int, **values) -> dict:
    return {
        "run_id": f"run{number}", "start": pd.Timestamp(number, unit="s"), "status": "FINISHED", "state": "finished",
        "model": "none", "data": "none", "source": "none", "scale": "paper", "scale.name": "paper", "seed": 0, "seq_len": 9,
        "device": "cpu", "commit": "0123456789", "machine.processor": "a processor", "machine.threads": 2, **values,
    }  # fmt: skip


def steps(change=None, seeds=3, **common) -> pd.DataFrame:
    """Runs of training_speed: dense ways cost N / R, CSR 1.8 N, auto the less of them. `change`: {(way, N, R): (ms, MB)}."""
    costs, took = {}, {}
    for n in (100_000, 1_000_000):
        for R in GRID:
            dense, sparse = n / R / 1e4, n / 1e4
            took[n, R] = "masked" if dense < 1.8 * sparse else "csr"
            costs["stepwise", n, R] = (4 * dense, 9 * dense)
            costs["masked", n, R] = (dense, 5 * dense)
            costs["csr", n, R] = (1.8 * sparse, 7 * sparse)
            costs["auto", n, R] = (min(dense, 1.8 * sparse), 7 * sparse)
    return pd.DataFrame(
        run(
            i, R=R, n_weights=n, model="inn", data="random_anomaly", source="digits",
            linear=took[n, R] if way == "auto" else way,
            seed=seed, **{"model.linear": way, "speed/step_ms_min": ms * (1 + 0.001 * seed), "memory/peak_mb": mb},
        )
        for i, (((way, n, R), (ms, mb)), seed) in enumerate(itertools.product((costs | (change or {})).items(), range(seeds)))
    ).assign(**common)  # fmt: skip


def products(change=None, depths=(100, 1000, 10_000), seeds=3, **common) -> pd.DataFrame:
    """Runs of matmul_speed as K describes them. `change`: {(what, R, way): ms} at the largest depth."""
    rows = []
    for R in (0.01, 0.001):
        for depth, seed in itertools.product(depths, range(seeds)):
            sparse = 1.0 if R == 0.01 else 1 / 3
            ms = {"dense": 1.0, "csr": sparse, "torch_csr": sparse, "torch_csc": sparse, "low_rank": sparse / 10}
            made = {(what, R, way): (1 + depth**2 / 1e5) * value for what in ("product", "layer") for way, value in ms.items()}
            made |= {key: value for key, value in (change or {}).items() if key[1] == R and depth == depths[-1]}
            named = {f"{what}_ms_min/{way}": value * (1 + 0.001 * seed) for (what, _, way), value in made.items()}
            rows.append(run(len(rows), R=R, depth=depth, seed=seed, **{"study.R": R, "study.depth": depth, **named}))
    return pd.DataFrame(rows).assign(**{"device": "cuda:0 (a GPU)", **common})


def verdicts(module, frame: pd.DataFrame) -> list[str]:
    return list(claims_table(module.CLAIMS, frame)["verdict"])


@pytest.mark.parametrize("module, frame", [(training_speed, steps()), (matmul_speed, products())])
def test_every_claim_agrees_with_such_runs_whatever_the_images(module, frame):
    assert set(verdicts(module, frame)) == {AGREES}


@pytest.mark.parametrize(
    "claim, change",
    [
        (0, {("csr", 1_000_000, 0.2): (287, 1)}),
        (1, {("csr", 1_000_000, 0.05): (210, 1)}),
        (2, {("csr", 1_000_000, 0.02): (270, 1)}),
        (3, {("csr", 1_000_000, 0.1): (330, 1)}),
        (4, {("masked", 100_000, 0.3): (15, 1)}),  # auto takes csr there, 18 ms
        (5, {("csr", 1_000_000, 0.005): (200, 4000)}),
    ],
)
def test_a_claim_on_training_differs(claim, change):
    found = verdicts(training_speed, steps(change))
    assert found.pop(claim) == DIFFERS and set(found) == {AGREES}


@pytest.mark.parametrize(
    "claim, change",
    [
        (0, {("product", 0.01, "dense"): 5000.0, ("product", 0.01, "torch_csc"): 5000.0}),
        (1, {("product", 0.01, "torch_csc"): 300.0}),
        (2, {("product", 0.001, "torch_csc"): 1001.0, ("product", 0.001, "low_rank"): 100.0}),
        (3, {("product", 0.001, "low_rank"): 3.0}),
        (4, {("layer", 0.01, "low_rank"): 5000.0}),
    ],
)
def test_a_claim_on_products_differs(claim, change):
    found = verdicts(matmul_speed, products(change))
    assert found.pop(claim) == DIFFERS and set(found) == {AGREES}


@pytest.mark.parametrize(
    "module, frame",
    [
        (training_speed, steps(seeds=1)),  # what runs differ by is not known from one
        (matmul_speed, products(seeds=1)),
        (training_speed, steps(**{"model.linear": "masked"})),
        (training_speed, steps(scale="smoke")),
        (training_speed, steps(**{"model.linear": "csr", "R": 0.3})),
        (training_speed, steps().query("R == 0.4")),
        (matmul_speed, products(depths=(100, 1000))),
        (matmul_speed, products(scale="smoke")),
        (matmul_speed, products(R=0.5)),
        (matmul_speed, products(device="cpu")),
    ],
)
def test_claims_without_their_runs_are_not_judged(module, frame):
    assert not {AGREES, DIFFERS} & set(verdicts(module, frame))


def test_without_a_known_peak_only_the_times_are_judged():
    frame = steps().drop(columns="memory/peak_mb")
    assert verdicts(training_speed, frame) == [AGREES] * 5 + [TOO_FEW]
    assert not training_speed.figures(frame)["training_speed"].axes[2].lines


def test_claims_about_images_still_take_mnist():
    for source in ("K 1", "this lab"):
        claims = [Claim(source, "b", lambda runs: judge("1", True), images=images) for images in (True, False)]
        assert list(claims_table(claims, steps())["verdict"]) == [OTHER_DATA, AGREES]


def test_two_machines_are_never_drawn_together():
    two, four = steps(), steps(**{"machine.threads": 4})
    four["run_id"], four["start"] = "other" + four["run_id"], four["start"] + pd.Timedelta(days=1)
    kept, note = selection.select(pd.concat([two, four], ignore_index=True), training_speed.AXES, {})
    assert set(kept["machine.threads"]) == {4} and kept["run_id"].nunique() == len(four)  # no way and no R left out
    assert note.endswith("choose others by machine.threads=2|4")


def test_the_figure_of_training_says_what_it_shows():
    frame = steps()
    figure = training_speed.figures(frame)["training_speed"]
    assert [axes.get_title() for axes in figure.axes] == ["1,000,000 weights", "100,000 weights", "", ""]
    for axes in figure.axes:
        assert axes.get_xscale() == axes.get_yscale() == "log"
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines) == {"stepwise", "masked", "csr", "auto"}
        assert [len(line.get_xdata()) for line in lines.values()] == [len(GRID)] * 4
    (stepwise,) = (line for line in figure.axes[2].lines if line.get_label() == "stepwise")
    assert stepwise.get_ydata()[0] == 9 * 1_000_000 / 0.005 / 1e4  # MB, at the lowest density
    text = report.provenance(frame)
    assert "a processor, 2 threads" in text and "source digits · scale paper · random_anomaly" in text
    assert "lr" not in text and "epochs" not in text


def test_the_figures_of_products_say_what_they_show():
    frame = products()
    figures = matmul_speed.figures(frame)
    assert set(figures) == {"matmul_speed_product", "matmul_speed_layer"}
    for figure in figures.values():
        assert [axes.get_title() for axes in figure.axes] == ["1 % of the weights", "0.1 % of the weights"]
        assert {line.get_label() for line in figure.axes[0].lines} == {"dense", "csr", "torch_csr", "torch_csc", "low_rank"}
        assert list(figure.axes[0].lines[0].get_xdata()) == [1e4, 1e6, 1e8]
    assert "source" not in report.provenance(frame)  # there are no images in a product


def test_what_auto_took_is_read_from_the_run_and_not_reckoned_anew():
    slow = {("auto", 100_000, 0.3): (25, 1)}  # csr, which it took, was timed at 18 ms
    best = training_speed.CLAIMS[4].measure
    assert best(steps(slow)).verdict == AGREES
    assert best(steps(slow).assign(linear="stepwise")).verdict == DIFFERS
    before = best(steps(slow).drop(columns="linear"))  # runs from before it was logged
    assert (before.measured, before.verdict) == ("no runs", TOO_FEW)

"""An INN that is trained through its fixed point, and what its inputs take to settle."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from made import run, runs

from experiments import settling
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab.models import INN, SettledINN
from inn_lab.seeding import generator

SIZES = {"n_weights": None, "R": 0.3, "depth": 20}
STILL = ["source=digits", "scale=smoke", "data=mnist_classification", "trainer.progress=false", "n_weights=50000"]


def pair(**options):
    settled = SettledINN(
        6, 3, **SIZES, rtol=1e-12, atol=1e-12, max_iter=2000, **options, generator=generator(0, "model")
    ).double()
    return settled, INN(6, 3, **SIZES, generator=generator(0, "model")).double()


@pytest.mark.parametrize("options", [{"linear": "csr"}, {"linear": "masked"}, {"linear": "low_rank"}, {"anderson": 3}])
def test_it_answers_as_the_same_inn_iterated_for_long_and_learns_the_same(options):
    settled, _ = pair(**options)
    _, unrolled = pair()
    if "linear" in options:
        unrolled = INN(6, 3, **SIZES, linear=options["linear"], generator=generator(0, "model")).double()
    x = torch.randn(4, 6, dtype=torch.float64, generator=generator(0, "x"))
    weight = torch.randn(4, 3, dtype=torch.float64, generator=generator(1, "x"))
    still = x[:, None].expand(-1, 400, -1)
    ours, theirs = settled(still), unrolled(still)
    torch.testing.assert_close(ours[:, 0], theirs[:, -1], rtol=0, atol=1e-10)
    assert ours.shape == theirs.shape and torch.equal(ours[:, 0], ours[:, 399])
    one = torch.autograd.grad((ours[:, -1] * weight).sum(), list(settled.parameters()))
    other = torch.autograd.grad((theirs[:, -1] * weight).sum(), list(unrolled.parameters()))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


WAYS = ("dense", "masked", "stepwise", "csr")


def held(R: float, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """By each way of holding the same matrix: what the model answers, and the gradients of its entries and of its bias."""
    found = {}
    for way in WAYS if R == 1 else WAYS[1:]:
        model = SettledINN(6, 3, n_weights=None, R=R, depth=20, linear=way, rtol=1e-12, atol=1e-12, generator=generator(0, "m"))
        y = model.double()(x)
        parameter = next(model.map.parameters())
        gradients = torch.autograd.grad(y.square().sum(), [parameter, model.bias])
        entries = gradients[0].flatten()
        found[way] = [y, entries if way == "csr" else entries[model.map.entries()[0]], gradients[1]]
    return found


@pytest.mark.parametrize("R", [0.3, 1])
def test_all_ways_of_holding_answer_and_learn_the_same(R):
    x = torch.randn(5, 1, 6, dtype=torch.float64, generator=generator(0, "x"))
    first, *others = held(R, x).values()
    for other in others:
        for a, b in zip(other, first, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("way", ["masked", "stepwise"])
def test_the_mask_is_applied_once_a_call_however_many_iterations(way, monkeypatch):
    model = SettledINN(6, 3, **SIZES, linear=way, generator=generator(0, "model"))
    times, matrix = [], type(model.map).matrix
    monkeypatch.setattr(type(model.map), "matrix", lambda self: times.append(1) or matrix(self))
    model(torch.randn(5, 1, 6, generator=generator(0, "x"))).sum().backward()
    assert model.settlings[0].record.iterations.min() > 2 and len(times) == 1


def test_each_step_of_a_sequence_is_answered_by_itself():
    model, _ = pair()
    x = torch.randn(2, 5, 6, dtype=torch.float64, generator=generator(0, "x"))
    together = model(x)
    torch.testing.assert_close(together[:, 3], model(x[:, 3:4])[:, 0])


def test_it_tells_how_long_it_took(lab, runs):
    assert lab(*STILL, "model=settled_inn", "data.iterations=1")[0] == 0
    found = runs("adhoc")
    assert found["train/iterations"].between(1, 300).all() and (found["val/settled"] == 1).all()
    effective = found["model/weights_effective"] / found["model/weights"]
    assert effective.min() > 0.9, "paths of all its iterations count, not those of one step of the input"


@pytest.mark.parametrize(
    "words, message",
    [
        (["model.rtol=0"], "model.rtol=0.0: a tolerance lies in (0, 1]"),
        (["model.atol=-1"], "model.atol=-1.0: a tolerance lies in (0, 1]"),
        (["model.tol=1e-3"], "model.tol: there is no such key; did you mean model.rtol or model.atol"),
        (["model.max_iter=0"], "model.max_iter=0"),
        (["model.anderson=-1"], "model.anderson=-1: a whole number from 0 to 100"),
    ],
)
def test_a_mistake_is_one_line(lab, words, message):
    code, _, err = lab(*STILL, "model=settled_inn", *words)
    assert code == 2 and message in err and "Traceback" not in err


def test_every_test_image_is_probed_at_every_severity(lab, outputs):
    words = ["model=settled_inn", "study=probe_settling", "data.iterations=1", "trainer.max_epochs=15"]
    assert lab(*STILL, *words)[0] == 0
    (path,) = outputs.glob("jobs/adhoc/*/files/settling.csv")
    found = pd.read_csv(path)
    assert found.groupby("severity")["example"].nunique().tolist() == [200] * 10
    assert found["iterations"].min() >= 1 and found["converged"].all() and np.isfinite(found["loss"]).all()
    right = found.groupby("severity")["right"].mean()
    assert right[0.0] > right[0.9]  # the distortion is there


def study(settled=0.8, unrolled=0.8, seeds=3, converged=1, slope=1.0, seconds=2.0, tolerance="model.rtol"):
    """Made runs of `settling`, and the table of their inputs."""
    common = {"data": "mnist_classification", "time/epoch_s": 1.0}
    parts, tables = [], []
    for seed, model in itertools.product(range(seeds), ("settled_inn", "wormhole")):
        made = run(end=settled, model=model, **{**common, "seed": seed, tolerance: 1e-4, "data.iterations": 1})
        made = made.assign(
            **{"test/acc_end": settled, "val/settled": float(converged), "val/iterations": 20.0, "time/epoch_s": seconds}
        )
        parts.append(made)
        rng = np.random.default_rng(seed)
        loss, severity = rng.random(500), np.repeat(np.arange(10) / 10, 50)
        noise = rng.normal(0, 0.1, 500)
        iterations = np.round(20 + 10 * (slope * (loss + severity) + noise))
        columns = {"severity": severity, "loss": loss, "iterations": iterations, "converged": converged}
        tables.append(pd.DataFrame({"run_id": made["run_id"].iloc[0], **columns}))
    for seed in range(seeds):
        for steps in (5, 20):
            made = run(end=unrolled, model="inn", **{**common, "seed": seed, "data.iterations": steps, tolerance: math.nan})
            parts.append(made.assign(**{"test/acc_end": unrolled}))
    empty = pd.DataFrame(columns=["run_id", "severity", "loss", "iterations", "converged"])
    return (runs(*parts), pd.concat(tables, ignore_index=True)) if parts else (run(model="inn")[:0], empty)


def verdicts(made):
    frame, inputs = made
    return [claim.measure(frame, settling=inputs).verdict for claim in settling.CLAIMS]


def test_claims():
    assert verdicts(study()) == verdicts(study(tolerance="model.tol")) == [AGREES] * 7  # older runs have that one
    assert verdicts(study(settled=0.7, converged=0, slope=-1.0, seconds=0.5)) == [DIFFERS] * 7
    assert verdicts(study(seeds=1))[:6] == [TOO_FEW] * 6
    assert verdicts(study(seeds=0)) == [TOO_FEW] * 7


def test_whether_every_input_settles_takes_a_probe():
    """Validation inputs that do not settle are enough to say no."""
    for converged, expected in ((1, TOO_FEW), (0, DIFFERS)):
        frame, inputs = study(converged=converged)
        assert verdicts((frame, inputs[:0]))[1] == expected


def test_figures_without_a_probe():
    frame, inputs = study()
    assert set(settling.figures(frame, inputs)) == {"settling", "settling_inputs"}
    unrolled = frame[frame["model"] == "inn"]
    assert set(settling.figures(unrolled, inputs[:0])) == {"settling"}

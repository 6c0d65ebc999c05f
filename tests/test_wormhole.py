"""Residual networks, those that go back, and the sine that one of them follows."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import run, runs
from torch import nn

from experiments import wormhole_classification, wormhole_sine
from experiments.claims import claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab.data import Sine
from inn_lab.models import ResNet, SettledMLP, Wormhole
from inn_lab.models.implicit import NotConverged
from inn_lab.seeding import generator
from inn_lab.training.flops import Counter
from inn_lab.training.objectives import Regression

STILL = ["source=digits", "scale=smoke", "trainer.progress=false"]
IMAGE = {"image": (1, 12, 12), "width": 4, "blocks": [1, 2]}
EXACT = {"rtol": 1e-12, "atol": 1e-12, "max_iter": 1000}


def networks(**options) -> tuple[Wormhole, ResNet]:
    """The same weights, once with the way back and once without."""
    hole = Wormhole(144, 3, **IMAGE, **options, generator=generator(0, "model")).double()
    return hole, ResNet(144, 3, **IMAGE, generator=generator(0, "model")).double()


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 1, 144, dtype=torch.float64, generator=generator(0, "x"))


def open_gates(hole: Wormhole, to: float) -> None:
    for stage in hole.stages:
        nn.init.constant_(stage.gate, to)


def test_with_closed_gates_it_is_the_plain_network():
    hole, plain = networks()
    assert torch.equal(hole(images()), plain(images()))
    assert hole.told() == {"iterations": 4.0, "settled": 1.0}  # of two stages
    assert hole.n_weights - plain.n_weights == 4 + 8  # a gate for each channel


def unrolled(hole: Wormhole, x: torch.Tensor, iterations: int = 60) -> torch.Tensor:
    """The same network by hand."""
    images = x[:, 0].view(-1, 1, 12, 12)
    for enter, stage in zip(hole.entries, hole.stages, strict=True):
        u = enter(images)
        images = torch.zeros_like(u)
        for _ in range(iterations):
            images = stage.blocks(u + stage.gate.tanh() * images)
    return hole.readout(images.mean((2, 3)))


def test_it_answers_and_learns_as_the_same_network_unrolled():
    hole, _ = networks(**EXACT)
    open_gates(hole, 0.2)
    x = images()
    ours, theirs = hole(x)[:, 0], unrolled(hole, x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    assert hole.told()["settled"] == 1 and not torch.allclose(ours, networks()[1](x)[:, 0])
    weight = torch.randn(4, 3, dtype=torch.float64, generator=generator(1, "x"))
    one = torch.autograd.grad((ours * weight).sum(), list(hole.parameters()))
    other = torch.autograd.grad((theirs * weight).sum(), list(hole.parameters()))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_an_images_answer_does_not_depend_on_its_batch():
    hole, _ = networks(**EXACT)
    open_gates(hole, 0.2)
    together = hole(images())
    for n in range(4):
        torch.testing.assert_close(together[n : n + 1], hole(images()[n : n + 1]), rtol=0, atol=1e-9)


def test_each_step_of_a_sequence_is_an_image_by_itself():
    _, plain = networks()
    x = torch.randn(2, 5, 144, dtype=torch.float64, generator=generator(0, "x"))
    torch.testing.assert_close(plain(x)[:, 3], plain(x[:, 3:4])[:, 0])


def test_layers_are_counted_as_in_the_name_of_a_resnet():
    sizes = [ResNet(784, 10, image=(1, 28, 28), width=16, blocks=[n, n], generator=None).size(1) for n in (2, 8, 12)]
    assert [size["layers"] for size in sizes] == [11, 35, 51]


@pytest.mark.parametrize(
    "words, message",
    [
        (["model=resnet", "model.width=6"], "model.width=6: a multiple of 4"),
        (["model=resnet", "model.blocks=[]"], "model.blocks=[]: 1 to 8 of them"),
        (["model=resnet", "model.blocks=[2,0]"], "model.blocks=[2, 0]: 1 to 8 of them"),
        (["model=wormhole", "model.rtol=-1"], "model.rtol=-1.0: a tolerance lies in (0, 1]"),
        (["model=wormhole", "data=sine"], "model: convolutions read images"),
        (["model=settled_mlp", "model.hidden=0"], "model.hidden=0"),
    ],
)
def test_a_mistake_is_one_line(lab, words, message):
    data = [] if "data=sine" in words else ["data=mnist_classification"]
    code, _, err = lab(*STILL, *data, *words)
    assert code == 2 and message in err and "Traceback" not in err


@pytest.mark.filterwarnings("default::inn_lab.models.implicit.NotConverged")
def test_what_does_not_settle_is_told_once_and_counted(lab, runs):
    """Two iterations are not enough once the gates are open. Told while it trains, forward and backward, and when tested."""
    with pytest.warns(NotConverged) as warned:
        words = ["model=wormhole", "model.width=4", "model.max_iter=2", "lr=0.05", "data=mnist_classification"]
        assert lab(*STILL, *words)[0] == 0
    told = [str(warning.message).partition(":")[0] for warning in warned if warning.category is NotConverged]
    assert sorted(told) == ["fix", "fix", "fix, backward"] and runs("adhoc")["train/settled"].iloc[-1] < 1


def test_operations_are_counted_as_they_are_executed():
    """Of a convolution from 1 to 1 channels by the book; of a network that goes back, each iteration."""
    convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with Counter() as counter:
        convolution(torch.randn(2, 1, 5, 6))
    assert counter.total == 2 * 2 * 30 * 9
    hole, plain = networks()
    counts = []
    for model in (plain, hole):
        with Counter() as counter, torch.no_grad():
            model(images())
        counts.append(counter.total)
    entries = 4 * 2 * 9 * (6 * 6 * 4 + 3 * 3 * 4 * 8) + 4 * 2 * 8 * 3
    assert counts[1] - entries == 2 * (counts[0] - entries)  # closed gates: two iterations, and nothing beside them


def test_what_training_costs_is_logged_by_epoch(lab, runs):
    words = ["model=wormhole", "model.width=4", "lr=0.02", "study=count_flops", "data=mnist_classification"]
    assert lab(*STILL, *words)[0] == 0
    first, last = runs("adhoc").sort_values("epoch")["train/flops"]
    assert 0 < first < last  # the gates open


# --- the sine


@given(st.floats(0.1, 20), st.integers(1, 50), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_the_sines_batches_hold_each_point_once(cycles, n, batch_size):
    data = Sine(cycles=cycles, n_train=n, n_val=3, n_test=n, batch_size=batch_size, seed=0)
    for part in ("train", "test"):
        x, y = (torch.cat(parts) for parts in zip(*data.batches(part, 1), strict=True))
        assert torch.equal(x[:, 0, 0].sort().values, data.times(part)) and len(data.batches(part)) == -(-n // batch_size)
        wave = [(1 + math.sin(math.pi * cycles * t)) / 2 for t in x[:, 0, 0].tolist()]
        assert y.tolist() == pytest.approx(wave, abs=1e-4)
        assert part == "train" or torch.equal(x[:, 0, 0], data.times(part))


def test_regression_counts_what_is_near():
    objective = Regression(within=0.1)
    outputs, y = torch.tensor([[[9.0], [0.55]], [[0.5], [0.7]]]), torch.tensor([0.5, 0.5])  # (B, T, O)
    end, each = objective.correct(outputs, y)
    assert (end.item(), each.item()) == (1, 1.0)
    assert objective.loss(outputs, y).item() == pytest.approx((0.05**2 + 0.2**2) / 2)


def test_a_network_whose_output_goes_back_is_a_fixed_point_and_learns_as_one():
    model = SettledMLP(2, 1, hidden=5, **EXACT, generator=generator(0, "model")).double()
    x = torch.randn(6, 1, 2, dtype=torch.float64, generator=generator(0, "x"))
    y = model(x)[:, 0]
    torch.testing.assert_close(model.step(y, x[:, 0]), y, rtol=0, atol=1e-11)
    z = torch.zeros_like(y)
    for _ in range(100):
        z = model.step(z, x[:, 0])
    one, other = (torch.autograd.grad(value.sum(), list(model.parameters())) for value in (y, z))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_without_the_way_back_it_is_an_ordinary_network():
    model = SettledMLP(2, 1, hidden=5, feedback=False, generator=generator(0, "model"))
    x = torch.randn(6, 1, 2, generator=generator(0, "x"))
    by_hand = torch.sigmoid(model.step.readout(torch.tanh(model.step.hidden(x))))
    torch.testing.assert_close(model(x), by_hand)
    assert model.n_weights == 2 * 5 + 5 + 5 + 1 and model.told() == {}


# --- the reports


def verdicts(module, frame: pd.DataFrame, **tables: pd.DataFrame) -> list[str]:
    return list(claims_table(module.CLAIMS, frame, **tables)["verdict"])


COSTS = {"wormhole": 120e6, 51: 125e6, 35: 80e6, 11: 23e6}


def table3(ends: dict[object, float], seeds=3, iterations=18.0, **values) -> pd.DataFrame:
    made = []
    for key, end in ends.items():
        hole = key == "wormhole"
        for seed in range(seeds):
            common = {
                "model": "wormhole" if hole else "resnet",
                "data": "mnist_classification",
                "seed": seed,
                "model/weights": 5e4,
            }
            layers = 11 if hole else key
            common |= {"model/layers": layers, "train/flops": COSTS[key], "data.n_train": 2000} | (
                {} if hole or key == 11 else {"model/weights": key * 5e3}
            )
            one = run(end=end, **{**common, "test/acc_end": end + 0.001 * seed, **values})
            made.append(one.assign(**{"val/iterations": iterations, "val/settled": 1.0} if hole else {}))
    return runs(*made)


@pytest.mark.parametrize(
    "made, expected",
    [
        (table3({"wormhole": 0.97, 11: 0.94, 35: 0.95, 51: 0.95}), [AGREES, AGREES, AGREES, AGREES]),
        (table3({"wormhole": 0.95, 11: 0.94, 35: 0.96, 51: 0.97}), [DIFFERS, AGREES, DIFFERS, AGREES]),
        (table3({"wormhole": 0.95, 11: 0.96, 35: 0.94, 51: 0.94}, iterations=4.0), [AGREES, DIFFERS, AGREES, DIFFERS]),
        (table3({"wormhole": 0.95, 11: 0.94}), [TOO_FEW, AGREES, TOO_FEW, AGREES]),
        (table3({11: 0.94, 51: 0.9}), [TOO_FEW] * 4),
        (table3({"wormhole": 0.97, 11: 0.94, 35: 0.95, 51: 0.95}, seeds=1), [TOO_FEW] * 4),
    ],
)
def test_table_3s_verdicts(made, expected):
    deeper = "wormhole" in set(made["model"]) and made["model/layers"].max() > 11
    fewer = AGREES if deeper else TOO_FEW  # weights, which are counted
    assert verdicts(wormhole_classification, made) == [*expected, TOO_FEW, fewer]  # TOO_FEW is about seconds
    for seconds, verdict in ((0.5, AGREES), (2.0, DIFFERS)):
        timed = made.assign(**{"time/epoch_s": np.where(made["model"] == "wormhole", seconds, 1.0) + 0.001 * made["seed"]})
        assert verdicts(wormhole_classification, timed)[-2] == (verdict if deeper and made["seed"].nunique() > 1 else TOO_FEW)
    if deeper:
        many = made.assign(**{"model/weights": made["model/weights"].where(made["model"] != "wormhole", 3e5)})
        assert verdicts(wormhole_classification, many)[-1] == DIFFERS
    assert wormhole_classification.figures(made).keys() == {"wormhole_classification"}


def sine(rate: float, feedback: bool, seed: int, losses: np.ndarray, error: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    one = run(data="sine", source="sine", lr=rate, seed=seed, **{"model.feedback": str(feedback)}).assign(
        **{"train/loss": losses}
    )
    true = (1 + np.sin(np.linspace(-3, 3, 50))) / 2
    return one, pd.DataFrame({"run_id": one["run_id"].iloc[0], "true": true, "answer": true + error})


SETTLED, FALLING = np.linspace(1, 0, 20) ** 8 + 0.01, np.linspace(1, 0.02, 20)


@pytest.mark.parametrize(
    "back, without, error, expected",
    [
        (SETTLED, SETTLED + 0.1, 0.01, [AGREES, AGREES, AGREES]),
        (FALLING, SETTLED, 0.2, [DIFFERS, DIFFERS, DIFFERS]),
    ],
)
def test_the_sines_verdicts(back, without, error, expected):
    made = [
        sine(rate, feedback, seed, back if feedback else without, error)
        for rate in (1e-3, 1e-2)
        for feedback in (True, False)
        for seed in (0, 1)
    ]
    frame, answers = (pd.concat(parts, ignore_index=True) for parts in zip(*made, strict=True))
    assert verdicts(wormhole_sine, frame, answers=answers) == expected
    assert wormhole_sine.figures(frame, answers).keys() == {"wormhole_sine"}
    lost = (frame["lr"] == 1e-3) & (frame["seed"] == 1)
    diverged = frame.assign(state=frame["state"].mask(lost, "diverged"))
    there = answers[~answers["run_id"].isin(diverged.loc[lost, "run_id"])]
    assert verdicts(wormhole_sine, diverged[diverged["lr"] == 1e-3], answers=there)[:2] == [DIFFERS, DIFFERS]
    one = frame["seed"] == 0
    assert verdicts(wormhole_sine, frame[one], answers=answers)[1] == TOO_FEW

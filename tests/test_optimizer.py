"""How the weights are stepped and when the training ends: optimizers, schedules, patience, best weights, and debug=…"""

import functools
import math
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMOKE
from hypothesis import given
from hypothesis import strategies as st
from made import run
from made import runs as runs_of
from safetensors.torch import load_file

from experiments import curves, report, selection
from inn_lab import records, tracking
from inn_lab.training import optimizers, schedules
from inn_lab.training.best import Best

# ---------------------------------------------------------------------------------------------------------- optimizers


def twin(name: str, w: np.ndarray, gradients: list[np.ndarray], lr: float, **keys) -> np.ndarray:
    """The weights after a step with each gradient, by the formulas of the sources, in float64."""
    decay = keys["weight_decay"]
    m = v = np.zeros_like(w)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient if name == "adamw" else gradient + decay * w
        if name == "sgd":
            m = keys["momentum"] * m + g
            w = w - lr * (g + keys["momentum"] * m if keys["nesterov"] else m)
            continue
        one, two = keys["betas"]
        m, v = one * m + (1 - one) * g, two * v + (1 - two) * g**2
        shrunk = w * (1 - lr * decay) if name == "adamw" else w
        w = shrunk - lr * (m / (1 - one**t)) / (np.sqrt(v / (1 - two**t)) + keys["eps"])
    return w


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    "name, keys",
    [
        *((name, {"betas": betas, "eps": 1e-3}) for name in ("adam", "adamw") for betas in ([0.9, 0.999], [0.0, 0.5])),
        *(("sgd", {"momentum": m, "nesterov": n}) for m, n in ((0.0, False), (0.9, False), (0.9, True))),
    ],
)
def test_a_step_is_the_formula_s(name, keys, decay):
    rng = np.random.default_rng(0)
    w, *gradients = rng.normal(size=(7, 20))
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = getattr(optimizers, name)([parameter], 0.1, weight_decay=decay, **keys)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    expected = twin(name, w, gradients, 0.1, weight_decay=decay, **keys)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


# ----------------------------------------------------------------------------------------------------------- schedules

UPDATES, WARMUP = st.integers(1, 1000), st.floats(0, 0.999)


def warmed(expected, factor, updates: int, warmup: float) -> None:
    length = round(warmup * updates)
    for update in range(updates):
        assert factor(update) == pytest.approx((update + 1) / length if update < length else expected(update, length))


@given(UPDATES, WARMUP)
def test_constant(updates, warmup):
    warmed(lambda update, length: 1, schedules.constant(updates, warmup=warmup), updates, warmup)
    assert schedules.constant(None, warmup=0.0)(updates) == 1


@given(UPDATES, WARMUP, st.floats(0, 1))
def test_cosine(updates, warmup, least):
    def expected(update: int, length: int) -> float:
        return least + (1 - least) * (1 + math.cos(math.pi * (update - length) / (updates - length))) / 2

    factor = schedules.cosine(updates, warmup=warmup, least=least)
    warmed(expected, factor, updates, warmup)
    assert round(warmup * updates) == updates or factor(updates) == factor(2 * updates) == pytest.approx(least)


@given(UPDATES, WARMUP, st.lists(st.floats(0, 0.999), min_size=1, max_size=4), st.floats(0.01, 2))
def test_step(updates, warmup, at, gamma):
    def expected(update: int, length: int) -> float:
        return math.prod(gamma for place in at if place * updates <= update)

    warmed(expected, schedules.step(updates, warmup=warmup, at=at, gamma=gamma), updates, warmup)


OWN = """
import torch
seen = []
class Mine(torch.optim.SGD):
    def __init__(self, params, lr, *, betas: list[float], eps: float, weight_decay: float):
        super().__init__(params, lr=lr)
    def step(self, *args):
        seen.append(self.param_groups[0]["lr"])
        return super().step(*args)
"""


def test_every_update_has_its_factor_also_after_a_cut(lab, tmp_path, monkeypatch):
    """With an optimizer of the user's own, which sees the learning rates. 200 examples in batches of 64 are 4 updates."""
    (tmp_path / "my_optimizer.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMOKE, "optimizer._target_=my_optimizer.Mine", "schedule=cosine", "schedule.warmup=0.25", "lr=0.01"]
    words += ["data.batch_size=64", "trainer.max_epochs=5"]
    interrupted(lab, monkeypatch, words, "training_step", epoch=2)
    assert lab(*words)[0] == 0
    import my_optimizer

    factor = schedules.cosine(20, warmup=0.25, least=0.0)
    assert my_optimizer.seen == [0.01 * factor(update) for update in range(20)]


def test_pruning_has_a_schedule_for_each_training(lab, tmp_path, monkeypatch):
    (tmp_path / "my_other_optimizer.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMOKE, "optimizer._target_=my_other_optimizer.Mine", "schedule=step", "schedule.at=[0.5]", "lr=1e-3"]
    assert lab(*words, "data.batch_size=100", "pruning=magnitude", "pruning.epochs=1")[0] == 0
    import my_other_optimizer

    assert my_other_optimizer.seen == [lr * 1e-3 for lr in (1, 1, 0.1, 0.1, 1, 0.1)]


# ------------------------------------------------------------------------------------------- patience and best weights


def interrupted(lab, monkeypatch, words: list[str], method: str, epoch: int | None = None) -> None:
    """A run that SIGTERM stops at the beginning of a step of training, or of the test."""
    from inn_lab.signals import Interrupted
    from inn_lab.training.module import Training

    whole = getattr(Training, method)

    def step(self, batches, index):
        if epoch is None or self.current_epoch == epoch:
            raise Interrupted(signal.SIGTERM)
        return whole(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, method, step)
        assert lab(*words)[0] == 128 + signal.SIGTERM


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 3))
def test_the_best_epoch_is_the_first_of_the_highest(accuracies, patience):
    best = Best(patience, keep=True)
    model = torch.nn.Linear(1, 1)
    for epoch, accuracy in enumerate(accuracies):
        torch.nn.init.constant_(model.weight, epoch)
        best.see(epoch, accuracy, model)
        seen = accuracies[: epoch + 1]
        first = seen.index(max(seen))
        assert best.epoch == first == best.weights["weight"].item() and best.over == (epoch - first >= patience)


MEASURED = ["train/loss", "val/loss", "val/acc_end", "test/loss", "test/acc_end", "best/epoch", "stopped/epoch"]
EARLY = [
    *[*SMOKE, "trainer.max_epochs=12", "trainer.patience=2", "trainer.best_weights=true", "lr=0.3"],
    *["data.n_train=100", "schedule=cosine", "schedule.warmup=0.2", "trainer.checkpoint_s=1000"],
]


def weights(outputs) -> dict:
    (file,) = outputs.glob(f"jobs/adhoc/*/files/{records.WEIGHTS}")
    return load_file(file)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_ended_early_is_finished_and_resumed_bit_for_bit(lab, outputs, monkeypatch, optimizer):
    words = [*EARLY, f"optimizer={optimizer}"]
    assert lab(*words)[0] == 0
    expected, kept = tracking.read(outputs, "adhoc").set_index("epoch"), weights(outputs)
    best, last = int(expected["best/epoch"].iloc[0]), int(expected["stopped/epoch"].iloc[0])
    assert set(expected["state"]) == {"finished"} and best > 0 and best + 2 == last == expected.index.max() < 11
    assert best == expected["val/acc_end"].argmax()
    for at, (method, epoch) in enumerate({"training_step": last, "test_step": None}.items()):
        again = outputs.with_name(f"again{at}")
        monkeypatch.setenv("INN_LAB_OUTPUTS", str(again))
        interrupted(lab, monkeypatch, words, method, epoch)
        assert lab(*words)[0] == 0
        found = tracking.read(again, "adhoc").set_index("epoch")
        pd.testing.assert_frame_equal(found[MEASURED], expected[MEASURED], check_exact=True)
        assert same(weights(again), kept) and set(found["attempts"]) == {2}


def test_the_best_weights_are_those_that_the_epoch_ended_with(lab, outputs, monkeypatch):
    words = [*SMOKE, "lr=0.3", "optimizer=sgd", "data.n_train=100"]
    assert lab(*words, "trainer.max_epochs=8", "trainer.best_weights=true")[0] == 0
    long, kept = tracking.read(outputs, "adhoc"), weights(outputs)
    best = int(long["best/epoch"].iloc[0])
    assert 0 < best < 7 and len(long) == 8 and "stopped/epoch" not in long
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(outputs.with_name("short")))
    assert lab(*words, f"trainer.max_epochs={best + 1}")[0] == 0
    short = tracking.read(outputs.with_name("short"), "adhoc")
    assert same(weights(outputs.with_name("short")), kept) and short["test/loss"].iloc[0] == long["test/loss"].iloc[0]


# ------------------------------------------------------------------------------------------------- refusals, reports


@pytest.mark.parametrize(
    "words, said",
    [
        ("optimizer=sgd optimizer.nesterov=true optimizer.momentum=0", "optimizer.nesterov=true: it looks ahead"),
        ("optimizer.betas=[0.9,1]", "optimizer.betas=[0.9, 1.0]: two shares of the past"),
        ("optimizer=sgd optimizer.eps=1", "optimizer.eps: there is no such key; optimizer=adam, adamw have it"),
        ("optimizer._target_=os.getcwd", "optimizer.betas: optimizer._target_=os.getcwd takes no such key"),
        ("schedule=cosine trainer.max_time=3", "schedule=cosine: it needs the number of all updates"),
        ("schedule=step schedule.at=[1]", "schedule.at=[1.0]: 1 to 100 of them"),
        ("schedule.warmup=0.1 trainer.max_time=3", "schedule.warmup=0.1: it needs the number of all updates"),
        ("trainer.patience=0", "trainer.patience=0: a whole number from 1"),
        ("debug=overfit experiment=matmul_speed", "debug=overfit: there are no data to train on"),
        ("debug=profile study=time_step", "debug=profile: study=time_step does not train"),
    ],
)
def test_what_cannot_be_is_one_line(lab, outputs, words, said):
    code, _, err = lab(*SMOKE, *words.split())
    assert code == 2 and err.startswith(f"inn_lab: {said}") and err.count("\n") == 1
    assert not (outputs / "jobs").exists()


def test_a_figure_says_what_was_not_the_usual_way():
    done = functools.partial(run, 0.1, source="digits", scale="paper", device="cpu", commit="a")
    usual = report.provenance(done())
    more = {"schedule._target_": "inn_lab.training.schedules.cosine", "trainer.patience": 5, "trainer.best_weights": "False"}
    assert report.provenance(done(**more)) == usual.replace(" epochs ·", " epochs · schedule cosine · patience 5 ·")


def test_optimizers_side_by_side_are_called_by_their_names():
    adam = {"optimizer._target_": "inn_lab.training.optimizers.adam", "optimizer.eps": 1e-8}
    sgd = {"optimizer._target_": "inn_lab.training.optimizers.sgd", "optimizer.momentum": 0.9}
    made = runs_of(run(0.1, **adam, optimizer="adam"), run(0.1, **sgd, optimizer="sgd"), run(0.1))  # the last: from before
    axes = curves.axes_of(made[made["optimizer"].notna()])
    kept, _ = selection.select(made, axes, {})
    arms = {label: part["run_id"].nunique() for label, part in curves.arms(kept, axes)}
    assert arms == {"optimizer=adam": 1, "optimizer=sgd": 1}


# -------------------------------------------------------------------------------------------------------------- debug


def test_one_batch_runs_everything_and_is_no_result(lab, runs):
    for _ in range(2):
        assert lab("debug=one_batch", "experiment=iterations", *SMOKE)[0] == 0
    found = runs("debug")
    assert runs("iterations").empty and found["run_id"].nunique() == 2 and set(found["state"]) == {"finished"}
    assert set(found["epoch"]) == {0} and set(found["val/acc_end"] * 32 % 1) == {0}


@pytest.mark.parametrize(
    "lr, said", [("0.003", r" learnt, ACC_end 1\.000; its loss fell"), ("1e-30", "NOT learnt, .*did NOT fall")]
)
def test_overfit_says_whether_the_batch_is_learnt(lab, runs, lr, said):
    code, out, _ = lab(
        "debug=overfit", "source=digits", "scale=smoke", "data=mnist_classification", f"lr={lr}", "trainer.max_epochs=60"
    )
    assert code == 0 and pd.Series([out]).str.contains(said).all(), out
    assert len(runs("debug")) == 60 or "NOT" not in out


def test_profile_keeps_a_table_of_operators(lab, outputs):
    code, out, _ = lab("debug=profile", *SMOKE)
    (file,) = outputs.glob("jobs/debug/*/files/profile.txt")
    table = file.read_text()  # of the slowest twenty: the network's own product is always one of them
    assert code == 0 and "Self CPU" in table and "aten::" in table and "_Iterate" in table and table in out

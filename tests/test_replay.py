"""Steps that are recorded and replayed, on a device that is none (`far.py`): they come to what plain steps come to."""

from functools import partial

import pandas as pd
import pytest
import torch
from conftest import SMOKE
from far import FAR, Graph, takes_the_gpus_place

from inn_lab import INN, tracking
from inn_lab.studies.time_step import measure
from inn_lab.training.objectives import Anomaly
from inn_lab.training.optimizers import adam
from inn_lab.training.replay import MOST, WARM, Replay

WORDS = [*SMOKE, "trainer=gpu", "trainer.max_epochs=2"]
MEASURED = ["train/loss", "train/acc_end", "val/loss", "val/acc_end"]
QUICK = [
    "model.linear=csr trainer.gradient_clip_val=1.0 schedule=cosine",
    "pruning=rigl pruning.every=10 optimizer=sgd",
]
MORE = [
    "",
    "data=mnist_classification",
    "data=uniform_anomaly optimizer=adamw",
    "model=sru",
    "model=layered_inn",
    "model=blocks",
    "model=lstm model.projection=false model.core=sparse",
    "model=gru model.core=sparse data=sine trainer.max_epochs=20",
    "model=random_graph data=sine trainer.max_epochs=20",
    "pruning=gradual pruning.every=10",
    "pruning=magnitude",
]


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch):
    takes_the_gpus_place(monkeypatch)


def job(lab, tmp_path, graph, *words):
    """What a job measures by epoch, and what it says."""
    Graph.made.clear()
    outputs = tmp_path / graph
    code, out, err = lab(*WORDS, *words, f"trainer.cuda_graph={graph}", f"outputs={outputs}")
    assert code == 0, err
    return tracking.read(outputs, "adhoc").set_index("epoch")[MEASURED].sort_index(), out


@pytest.mark.parametrize("words", [*QUICK, *(pytest.param(words, marks=pytest.mark.slow) for words in MORE)])
def test_a_job_that_replays_comes_to_the_same(lab, tmp_path, words):
    plain, _ = job(lab, tmp_path, "false", *words.split())
    assert not Graph.made
    replayed, out = job(lab, tmp_path, "auto", *words.split())
    assert "cuda_graph" not in out.replace("trainer.cuda_graph=auto outputs", "")
    assert sum(graph.replays for graph in Graph.made) > 3
    pd.testing.assert_frame_equal(plain, replayed, check_exact=True)


def test_a_network_that_settles_says_why_it_is_not_replayed(lab, tmp_path):
    _, out = job(lab, tmp_path, "auto", "model=settled_inn")
    assert out.count("its step cannot be recorded") == 1 and not any(graph.replays for graph in Graph.made)


def test_a_users_own_model_is_not_replayed(lab, tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text("from inn_lab.models import INN\n\n\nclass Counting(INN):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    _, out = job(lab, tmp_path, "auto", "model._target_=counting.Counting")
    assert out.count("Counting is not the lab's") == 1 and not Graph.made


def steps(step, n=WARM + 6, widths=(3,)):
    """What the sum is after n batches of these widths in turn, by plain steps and by `Replay`, and what that said."""
    ends, said = [], []
    for on in (False, True):
        total, draw = torch.ones(4).to(FAR), torch.Generator().manual_seed(0)
        replay = Replay(lambda x, y, total=total: step(total, x, y), lambda total=total: [total], said.append)
        replay.on = on
        for k in range(n):
            replay(torch.rand(2, widths[k % len(widths)], 4, generator=draw).to(FAR), torch.ones(2).to(FAR))
        ends.append(total.cpu())
    return (*ends, said)


def test_each_shape_is_recorded_once_and_replayed():
    plain, replayed, said = steps(lambda total, x, y: total.mul_(0.5).add_((x * x).sum((0, 1))), 3 * (WARM + 6), (3, 1, 5))
    assert torch.equal(plain, replayed) and not said
    assert [graph.replays for graph in Graph.made] == [6 - 1] * 3  # one of them for the proof


def test_a_still_image_stays_one():
    """Its steps are one in memory, so that a model works on it once."""
    strides, total = [], torch.zeros(4).to(FAR)

    def step(x, y):
        strides.append(x.stride(1))
        total.add_(x.sum((0, 1)))

    replay = Replay(step, lambda: [total], pytest.fail)
    for _ in range(WARM + 4):
        replay(torch.rand(2, 1, 4).to(FAR).expand(-1, 3, -1), torch.ones(2).to(FAR))
    assert set(strides) == {0} and Graph.made[0].replays == 3


def test_what_waits_for_the_device_is_not_recorded():
    plain, replayed, said = steps(lambda total, x, y: total.add_(float(x.sum())))
    assert torch.equal(plain, replayed)
    assert len(said) == 1 and "cannot be recorded: aten._local_scalar_dense" in said[0]


def test_what_python_counts_is_found_out_before_it_is_replayed():
    """A recorded step has the number of the moment for good."""
    count = {"n": 0}

    def step(total, x, y):
        count["n"] += 1
        total.add_(x.sum((0, 1)) * count["n"])

    total = torch.zeros(4).to(FAR)
    said = []
    replay = Replay(lambda x, y: step(total, x, y), lambda: [total], said.append)
    x = torch.ones(2, 3, 4).to(FAR)
    for _ in range(WARM + 6):
        replay(x, torch.ones(2).to(FAR))
    assert said == ["a step that was replayed did not come to the same"]
    # Recording has counted too, once: 1, 2, 3, (4), 5, …
    assert total.tolist() == [6.0 * sum(k for k in range(1, WARM + 8) if k != WARM + 1)] * 4


def test_without_memory_for_a_proof_python_computes_each_step():
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    total, said = torch.zeros(4).to(FAR), []
    state = type("Full", (), {"clone": full})()
    replay = Replay(lambda x, y: total.add_(x.sum((0, 1))), lambda: [state], said.append)
    for _ in range(WARM + 6):
        replay(torch.ones(2, 3, 4).to(FAR), torch.ones(2).to(FAR))
    assert total.tolist() == [6.0 * (WARM + 6)] * 4
    assert len(said) == 1 and said[0].startswith("the device has no memory left") and Graph.made[0].replays == 0


def test_many_shapes_are_not_all_recorded():
    plain, replayed, said = steps(lambda total, x, y: total.add_(x.sum((0, 1))), 2 * (WARM + 3) * MOST, range(1, 2 * MOST + 1))
    assert torch.equal(plain, replayed) and not said and len(Graph.made) == MOST


def test_a_step_is_timed_plain_and_replayed():
    make = partial(INN, 9, 4, n_weights=200, R=0.5, depth=None, linear="csr")
    optimizer = partial(adam, lr=0.001, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0)
    timed = partial(
        *(measure, make, 0, Anomaly(), torch.rand(4, 4, 9).to(FAR), torch.arange(4).to(FAR) % 3, FAR),
        *(optimizer, 3, 60.0),
    )
    assert "speed/replayed_ms" not in timed() and not Graph.made
    assert timed(replays=True)["speed/replayed_ms"] > 0 and Graph.made[0].replays > 3

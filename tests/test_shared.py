"""Data that jobs have in common."""

import threading

import pytest
import torch
from conftest import SMOKE

from inn_lab import shared, standing
from inn_lab.data import Classification, RandomAnomaly, load

SIZES = {"n_train": 40, "n_val": 40, "n_test": 40, "batch_size": 16, "mean": 0.3, "std": 0.4, "seed": 0, "image_size": 10}
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "kind", [lambda **k: RandomAnomaly(seq_len=3, **k), lambda **k: Classification(transforms="both", iterations=4, **k)]
)
def test_what_is_read_is_what_was_drawn(tmp_path, kind):
    images = load("digits", None)
    alone, first, second = (
        kind(images=images, **SIZES, **more)
        for more in ({}, *({"once": shared.Shared(tmp_path, "abc", CPU).once} for _ in range(2)))
    )
    for part in ("train", "val", "test"):
        for (x, y), *others in zip(*(data.batches(part) for data in (alone, first, second)), strict=True):
            for other_x, other_y in others:
                assert torch.equal(x, other_x) and torch.equal(y, other_y) and x.stride() == other_x.stride()
    assert len(list(tmp_path.glob("*/*.pt"))) == 2  # the test examples are drawn once a job


def test_jobs_that_share_their_data_draw_them_once(lab, runs, monkeypatch):
    drawn = []
    kept = shared.write_atomically
    monkeypatch.setattr(shared, "write_atomically", lambda path, *a, **k: (drawn.append(path.name), kept(path, *a, **k)))
    for words in (["lr=1e-3"], ["lr=1e-4"], ["R=0.1", "model=mlp"]):
        assert lab(*SMOKE, *words)[0] == 0
    assert sorted(drawn) == ["images.pt", "val.pt"]
    assert lab(*SMOKE, "seed=1")[0] == 0 and lab(*SMOKE, "data.n_val=100")[0] == 0
    assert len(drawn) == 6
    assert set(runs("adhoc")["state"]) == {"finished"}


def test_nothing_is_shared_that_differs(tmp_path):
    made = [
        shared.Shared(tmp_path, shared.digest(CPU, *what), CPU).once("x", lambda: torch.zeros(1))
        for what in (["a"], ["b"], [torch.zeros(3)], [None])
    ]
    assert len(made) == len(list(tmp_path.glob("*/x.pt"))) == 4


def test_a_damaged_file_is_made_anew(tmp_path, capsys):
    once = shared.Shared(tmp_path, "abc", CPU).once
    once("x", lambda: torch.ones(3))
    (path,) = tmp_path.glob("*/x.pt")
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(once("x", lambda: torch.ones(3)), torch.ones(3))
    assert "cannot be read" in capsys.readouterr().out
    assert torch.equal(torch.load(path), torch.ones(3))


def test_a_job_that_waits_for_another_says_so(tmp_path, monkeypatch, capsys):
    """And only one that has to."""
    told, making, made = [], threading.Event(), threading.Event()
    monkeypatch.setattr(shared, "PATIENCE", 0.05)

    def slowly() -> torch.Tensor:
        making.set()
        assert made.wait(60)
        return torch.ones(2)

    def tell(said: standing.Waits) -> None:
        told.append(said)
        made.set()  # the other one waits for what this one makes

    monkeypatch.setattr(standing, "listener", tell)
    once = shared.Shared(tmp_path, "abc", CPU).once
    first = threading.Thread(target=once, args=("base", slowly))
    first.start()
    assert making.wait(60)
    assert torch.equal(once("base", lambda: torch.zeros(2)), torch.ones(2))
    first.join()
    assert told == [standing.Waits(True), standing.Waits(False)]
    assert capsys.readouterr().out == "waits for base, which another job makes\n"
    once("base", lambda: torch.zeros(2))
    assert len(told) == 2

"""Whole jobs on a GPU: they come to what they come to on the CPU, and go from one to the other.

    pytest -m gpu

What tests one part on a GPU stands beside that part's other tests. `test_far.py` has the same tests on a device that is none.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMOKE
from test_survive import cut_off

import inn_lab
from inn_lab import tracking
from inn_lab.explain import CONF

GPU = "gpu"  # conf/trainer
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]
WORDS = [*SMOKE, "n_weights=200000", "trainer.max_epochs=3"]
LOSSES = ["train/loss", "val/loss"]
IMAGES_ONLY = ("resnet", "wormhole")  # convolutions


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def losses(outputs: Path) -> pd.DataFrame:
    """By epoch, of the only run there."""
    return tracking.read(outputs, "adhoc").set_index("epoch")[LOSSES].sort_index()


def both(lab, tmp_path: Path, *words: str) -> tuple[Path, Path]:
    """The outputs of a job on the CPU and of the same one on the GPU."""
    folders = (tmp_path / "on_cpu", tmp_path / "on_gpu")
    for folder, trainer in zip(folders, ("cpu", GPU), strict=True):
        code, _, err = lab(*WORDS, *words, f"trainer={trainer}", f"outputs={folder}")
        assert code == 0, err
    return folders


@pytest.mark.parametrize("data", [name for name in names("data") if name != "cifar10"])
@pytest.mark.parametrize("model", names("model"))
def test_every_model_learns_the_same_on_every_data(lab, tmp_path, model, data):
    words = [f"model={model}", f"data={data}"]
    if data == "tensors":
        np.savez(tmp_path / "own.npz", x=np.arange(7200).reshape(600, 3, 4) / 7200, y=np.arange(600) % 3)
        words.append(f"data.path={tmp_path / 'own.npz'}")
    if model in IMAGES_ONLY and data in ("reber", "sine", "tensors"):
        pytest.skip("convolutions read images")
    if model == "wormhole" and "anomaly" in data:
        pytest.skip("three epochs at this rate leave it without a fixed point")
    on_cpu, on_gpu = map(losses, both(lab, tmp_path, *words))
    assert len(on_cpu) == 3
    pd.testing.assert_frame_equal(on_gpu, on_cpu, check_exact=False, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm model.projection=false"])
def test_a_sparse_core_learns_the_same(lab, tmp_path, model):
    words = [*f"model={model}".split(), "model.core=sparse", "data=reber", "pruning=rigl", "pruning.R=0.2", "pruning.every=2"]
    on_cpu, on_gpu = map(losses, both(lab, tmp_path, *words))
    pd.testing.assert_frame_equal(on_gpu, on_cpu, check_exact=False, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("pruning", [name for name in names("pruning") if name != "none"])
def test_every_way_to_prune_keeps_as_many_weights(lab, tmp_path, pruning):
    words = [f"pruning={pruning}", *(["pruning.every=2"] if pruning in ("set", "rigl", "gradual") else [])]
    folders = both(lab, tmp_path, *words)
    on_cpu, on_gpu = (inn_lab.load(job(folder)).model.n_weights for folder in folders)
    assert on_cpu == on_gpu


@pytest.mark.parametrize("model", ["inn model.linear=csr", "inn model.linear=masked", "gru", "gru model.core=sparse", "sru"])
def test_a_replayed_step_is_a_plain_one(lab, tmp_path, model):
    found = []
    for graph in ("false", "auto"):
        words = [*f"model={model}".split(), f"trainer.cuda_graph={graph}", f"outputs={tmp_path / graph}"]
        code, out, err = lab(*WORDS, *words, f"trainer={GPU}")
        assert code == 0, err
        assert "Python computes each step" not in out or model == "gru"  # cuDNN's may not be recorded
        found.append(losses(tmp_path / graph))
    pd.testing.assert_frame_equal(*found, check_exact=True)


def job(outputs: Path) -> Path:
    (found,) = (path for path in (outputs / "jobs/adhoc").iterdir() if not path.name.startswith("sweep"))
    return found


def test_what_was_trained_on_a_gpu_is_loaded_and_tested_on_the_cpu(lab, tmp_path):
    _, on_gpu = both(lab, tmp_path)
    tested = inn_lab.load(job(on_gpu)).evaluate()
    found = tracking.read(on_gpu, "adhoc").iloc[-1]
    assert tested == pytest.approx({key: found[key] for key in tested}, abs=1e-3)
    assert lab(*WORDS, "trainer=cpu", f"start_from={job(on_gpu)}")[0] == 0


@pytest.mark.parametrize("first, then", [(GPU, "cpu"), ("cpu", GPU), (GPU, GPU)])
def test_a_run_that_was_cut_off_goes_on_on_another_device(lab, tmp_path, monkeypatch, first, then):
    undisturbed, _ = both(lab, tmp_path)
    outputs = tmp_path / "cut_off"
    words = [*WORDS, "trainer.checkpoint_s=0", f"outputs={outputs}"]
    cut_off(lab, monkeypatch, 1, *words, f"trainer={first}")
    assert lab(*words, f"trainer={then}")[0] == 0
    assert tracking.read(outputs, "adhoc")["attempts"].astype(int).max() == 2
    pd.testing.assert_frame_equal(losses(outputs), losses(undisturbed), check_exact=False, atol=1e-3, rtol=1e-3)

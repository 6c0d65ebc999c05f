"""The studies that take times: what they log, and what becomes of a process that fails. No time is compared."""

import functools

import pytest
import torch
from conftest import SMOKE

from inn_lab.models import INN
from inn_lab.studies import time_product
from inn_lab.studies.clock import LEAST, times
from inn_lab.studies.time_step import FORGET, in_child
from inn_lab.training.objectives import Anomaly

CPU = torch.device("cpu")
N = 20_000


def task(linear="csr", **changes) -> dict:
    """A step of an INN whose weight space has 4,000,000 entries, of which 20,000 train."""
    return {
        "make": functools.partial(INN, 100, 4, n_weights=N, R=0.005, linear=linear), "seed": 0, "objective": Anomaly(),
        "x": torch.ones(2, 4, 100), "y": torch.zeros(2, dtype=torch.int64),
        "device": CPU, "optimizer": functools.partial(torch.optim.Adam, lr=1e-3, fused=True),
        "repeats": 4, "seconds": 60.0, **changes,
    }  # fmt: skip


@pytest.mark.skipif(not FORGET.exists(), reason="resident memory is measured on Linux")
def test_the_peak_is_what_the_matrix_holds():
    masked, csr = (in_child(task(linear)) for linear in ("masked", "csr"))
    matrix = 16.0  # MB: 4,000,000 floats
    # Weight, mask, product, gradient and Adam's two moments, and a few that come and go.
    assert 6 * matrix <= masked["memory/peak_mb"] <= 12 * matrix
    # A few MB: states of 2000 rows, and entries. Never a matrix.
    assert 0.2 <= csr["memory/peak_mb"] <= matrix / 2
    for values in (masked, csr):
        assert 0 < values["speed/step_ms_min"] <= values["speed/step_ms"] and values["speed/repeats"] == 4


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"ended with code 1: .*ConfigError: .*R=7"):
        in_child(task(make=functools.partial(INN, 100, 4, n_weights=N, R=7.0)))


def test_the_clock_stops_by_count_and_by_time():
    calls = []
    assert len(times(lambda: calls.append(1), 7, 60.0, CPU)) == len(calls) == 7
    assert len(times(lambda: None, 1000, 0.0, CPU)) == LEAST
    assert min(times(lambda: sum(range(1000)), 5, 60.0, CPU)) > 0


def test_every_way_holds_the_same_matrix():
    bare, layers = time_product.ways(50, 0.1, 3, 0, CPU)
    expected = bare["dense"]()
    for way in ("csr", "torch_csr", "torch_csc"):
        torch.testing.assert_close(bare[way](), expected)
    for_x = {way: work()[0] for way, work in layers.items()}
    for way in ("csr", "torch_csr"):
        torch.testing.assert_close(for_x[way], for_x["dense"])
    torch.testing.assert_close(layers["csr"]()[1], layers["torch_csr"]()[1])


def test_products_need_neither_images_nor_model(lab, runs):
    words = ["source=mnist", "source.root=nowhere", "scale=smoke", "trainer.progress=false"]
    assert lab("experiment=matmul_speed", *words, "depth=500", "R=0.01")[0] == 0
    (row,) = runs("matmul_speed").to_dict("records")
    assert (row["state"], row["model"], row["data"], row["source"]) == ("finished", "none", "none", "none")
    assert row["study.depth"] == 20 and row["machine.threads"] == torch.get_num_threads()
    assert all(row[f"product_ms_min/{way}"] > 0 for way in ("dense", "csr", "torch_csr", "torch_csc", "low_rank"))
    assert "model/weights" not in row


@pytest.mark.slow  # in test_experiments.py training_speed times the INN
def test_any_model_can_be_timed_on_any_data(lab, runs):
    words = ["study=time_step", "model=lstm", "data=mnist_classification", "n_weights=200000", "study.repeats=3"]
    assert lab(*SMOKE, *words)[0] == 0
    (row,) = runs("adhoc").to_dict("records")
    assert row["state"] == "finished" and row["speed/step_ms"] > 0 and row["machine.processor"]

"""What a job does beyond training: iterating on, and pictures."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMOKE

from inn_lab.models import INN, LayeredINN
from inn_lab.records import Record
from inn_lab.seeding import generator
from inn_lab.signals import Interrupted
from inn_lab.studies.probe_iterations import probe
from inn_lab.training.module import Training

STILL = [*SMOKE, "data=mnist_classification", "trainer.max_epochs=1"]


def artifact(outputs, experiment: str, name: str) -> pd.DataFrame:
    (path,) = outputs.glob(f"jobs/{experiment}/*/files/{name}")
    return pd.read_csv(path)


@torch.no_grad()
def test_a_probe_says_what_the_network_says_after_so_many_iterations() -> None:
    model = INN(30, 4, n_weights=300, R=0.2, init_std=0.3, generator=generator(0))
    x, y = torch.randn(50, 30, generator=generator(1)), torch.randint(4, (50,), generator=generator(2))
    table = probe(model, x, y, 6)
    for k, row in table.set_index("iteration").iterrows():
        outputs = model(x[:, None].expand(-1, k, -1))[:, -1]
        assert row["acc_end"] == pytest.approx(float((outputs.argmax(1) == y).float().mean()))
        assert row["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(outputs, y)), rel=1e-5)
    states = model.iterate(x, 6)
    assert table["distance"].iloc[0] == table["norm"].iloc[0] == pytest.approx(float(states[:, 0].norm(dim=1).mean()))
    assert table["distance"].iloc[5] == pytest.approx(float((states[:, 5] - states[:, 4]).norm(dim=1).mean()), rel=1e-5)


def test_a_layered_network_stands_still_after_an_iteration_a_layer() -> None:
    model = LayeredINN(30, 4, hidden=[12, 8], component=4, init="fan_in", generator=generator(0))
    table = probe(model, torch.randn(50, 30, generator=generator(1)), torch.zeros(50, dtype=torch.int64), 7)
    assert (table["distance"][:3] > 0).all() and (table["distance"][3:] == 0).all()
    assert np.ptp(table["norm"][2:]) < 1e-6  # a mean of the same numbers, summed in another order


def test_a_contraction_contracts() -> None:
    """W of spectral norm 1/2 on the state: each step is at most half as long as the one before."""
    model = INN(10, 4, depth=20, R=1.0, generator=generator(0))
    with torch.no_grad():
        model.map.weight[:, 10:] = torch.linalg.qr(torch.randn(20, 20, generator=generator(1)))[0] / 2
    table = probe(model, torch.randn(50, 10, generator=generator(2)), torch.zeros(50, dtype=torch.int64), 12)
    assert (table["distance"].iloc[1:].to_numpy() <= 0.5 * table["distance"].iloc[:-1].to_numpy() + 1e-6).all()


def test_training_then_probing(lab, runs, outputs) -> None:
    assert lab(*STILL, "study=probe_iterations", "study.iterations=7", "data.iterations=3")[0] == 0
    table = artifact(outputs, "adhoc", "iterations.csv")
    assert table["iteration"].tolist() == list(range(1, 8))
    (row,) = runs("adhoc").to_dict("records")
    assert table["acc_end"][2] == pytest.approx(row["test/acc_end"])  # as many as in training: the test


def test_the_components_of_a_layered_inn_are_among_its_artifacts(lab, outputs) -> None:
    assert lab(*STILL, "model=layered_inn", "model.hidden=[30,20]", "model.component=10", "model.swap=0.5")[0] == 0
    table = artifact(outputs, "adhoc", "components.csv").pivot(index="row", columns="column", values="trains")
    assert table.shape == (6, 16) and table.to_numpy().sum() == 3 * 10 + 2 * 3 + 2  # traded, none lost
    assert list(outputs.glob("jobs/adhoc/*/files/weight_space.png"))


@pytest.mark.parametrize("data, steps", [("mnist_classification", 1), ("uniform_anomaly", 9)])
def test_a_gallery_shows_the_data(lab, outputs, data, steps) -> None:
    words = ["source=digits", "source.image_size=10", f"data={data}", "data.n_train=200", "study.examples=3"]
    assert lab("experiment=dataset_gallery", *words)[0] == 0
    table = artifact(outputs, "dataset_gallery", "examples.csv")
    shown = table[table["example"] >= 0]
    assert shown.groupby("example")["step"].count().tolist() == [steps] * 3
    images = np.array([np.frombuffer(bytes.fromhex(pixels), dtype=np.uint8) for pixels in shown["pixels"]])
    assert images.shape == (3 * steps, 100) and images.max() > 100
    if data == "uniform_anomaly":  # all images of a sequence but the answer's are the same
        kinds = table[table["example"] < 0]["kind"]
        assert kinds.tolist()[:2] == ["baseline", "perspective_small"] and len(kinds) == 8
        for _, sequence in shown.groupby("example"):
            usual = sequence[sequence["step"] != sequence["answer"]]["pixels"]
            assert usual.nunique() == 1 and sequence["pixels"].nunique() == 2


@pytest.mark.parametrize("value", [math.nan, 3e38], ids=["a weight that is no number", "weights that lead to none"])
@pytest.mark.parametrize("when", [0, 2], ids=["first", "last"])
def test_a_run_whose_last_step_leads_to_nothing_is_diverged(lab, runs, monkeypatch, value, when) -> None:
    """The training losses are all finite: they are measured before the steps."""
    whole = Training.training_step

    def step(self, batches, index):
        whole(self, batches, index)
        if self.current_epoch == when:
            with torch.no_grad():
                next(self.model.parameters()).fill_(value)

    monkeypatch.setattr(Training, "training_step", step)
    assert lab(*SMOKE, "trainer.max_epochs=3")[0] == 0
    found = runs("adhoc")
    assert set(found["state"]) == {"diverged"} and found["epoch"].tolist() == [*range(when + 1)]
    assert np.isfinite(found["train/loss"]).all() and "test/loss" not in found


def test_a_run_that_ends_with_a_weight_that_nothing_reads_and_is_no_number_is_diverged(lab, runs, monkeypatch) -> None:
    def end(self) -> None:
        with torch.no_grad():
            next(self.model.parameters()).view(-1)[0] = math.inf

    monkeypatch.setattr(Training, "on_train_end", end)
    assert lab(*SMOKE)[0] == 0
    assert set(runs("adhoc")["state"]) == {"diverged"} and "test/loss" not in runs("adhoc")


def test_a_run_whose_answers_to_the_test_are_no_numbers_is_diverged(lab, runs, outputs, monkeypatch) -> None:
    def begin(self) -> None:
        with torch.no_grad():
            next(self.model.parameters()).fill_(3e38)

    monkeypatch.setattr(Training, "on_test_start", begin)
    assert lab(*SMOKE)[0] == 0
    assert set(runs("adhoc")["state"]) == {"diverged"} and np.isfinite(runs("adhoc")["val/loss"]).all()
    assert not list(outputs.glob("jobs/adhoc/*/files/confusion*"))


def test_a_diverged_run_that_is_killed_before_it_says_so_is_not_trained_further(lab, runs, monkeypatch) -> None:
    whole, epochs = Training.training_step, []

    def step(self, batches, index):
        epochs.append(self.current_epoch)
        whole(self, batches, index)

    def killed(self, outcome):
        raise Interrupted(15)

    monkeypatch.setattr(Training, "training_step", step)
    words = [*SMOKE, "trainer.max_epochs=5", "lr=1e30"]
    with monkeypatch.context() as patch:
        patch.setattr(Record, "finish", killed)
        assert lab(*words)[0] == 128 + 15
    assert epochs == [0]
    assert lab(*words)[0] == 0 and epochs == [0]
    assert set(runs("adhoc")["state"]) == {"diverged"}

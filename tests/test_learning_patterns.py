"""`pruning=set`, `rigl`, … through the door: patterns change as the method says, and a run that was cut off ends as another."""

import functools
import signal

import pytest
from conftest import SMOKE
from safetensors.torch import load_file

from inn_lab.signals import Interrupted
from inn_lab.training.module import Training

OWN = [*SMOKE, "n_weights=80000", "R=0.2", "model.linear=csr", "trainer.max_epochs=4"]
WAYS = {
    "set": ["pruning.every=3"],
    "rigl": ["pruning.every=3"],
    "gradual": ["pruning.every=3", "pruning.R=0.02", "pruning.start=0.2"],
    "snip": ["pruning.R=0.05"],
    "synflow": ["pruning.R=0.05", "pruning.iterations=5"],
}


def trained(runs) -> dict[str, list[float]]:
    found = runs("adhoc").sort_values("epoch")
    return {name: found[f"train/{name}"].tolist() for name in ("weights", "grown", "overlap", "loss")}


@pytest.mark.parametrize("name", WAYS)
def test_patterns_change_as_the_method_says(lab, runs, outputs, name):
    assert lab(*OWN, f"pruning={name}", *WAYS[name])[0] == 0
    found, (run,) = trained(runs), runs("adhoc").drop_duplicates("run_id").to_dict("records")
    weights, cells = found["weights"], run["model/weights"] / run["model/density"]
    if name in ("set", "rigl"):
        assert set(weights) == {run["model/weights"]} and all(0 < grown < 1 for grown in found["grown"][:3])
        assert all(0.2 < overlap < 1 for overlap in found["overlap"])
    else:
        assert found["grown"] == [0] * 4 and weights == sorted(weights, reverse=True)
        density = float(WAYS[name][[word.startswith("pruning.R=") for word in WAYS[name]].index(True)].partition("=")[2])
        assert weights[-1] == pytest.approx(density * cells, abs=1)
        assert found["overlap"][-1] == pytest.approx(weights[-1] / run["model/weights"])
    (file,) = outputs.glob("jobs/adhoc/*/files/weights.safetensors")
    assert len(load_file(file)["map.values"]) == weights[-1]


@pytest.mark.parametrize("name", ["rigl", "gradual"])
def test_a_run_that_is_cut_off_ends_with_the_same_numbers(lab, runs, outputs, monkeypatch, name):
    words = [*OWN, f"pruning={name}", *WAYS[name], "trainer.checkpoint_s=0"]
    assert lab(*words)[0] == 0
    (file,) = outputs.glob("jobs/adhoc/*/files/weights.safetensors")
    whole, expected = file.read_bytes(), trained(runs)
    step = Training.training_step

    @functools.wraps(step)
    def cut(self, batches, at):
        if self.current_epoch == 2:
            raise Interrupted(signal.SIGTERM)
        step(self, batches, at)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", cut)
        assert lab(*words, "resume=false")[0] == 128 + signal.SIGTERM
    assert lab(*words)[0] == 0
    files = sorted(outputs.glob("jobs/adhoc/*/files/weights.safetensors"), key=lambda path: path.stat().st_mtime)
    assert len(files) == 2 and files[-1].read_bytes() == whole
    last = (
        runs("adhoc")
        .sort_values(["start", "epoch"])
        .groupby("run_id", sort=False)
        .get_group(runs("adhoc").sort_values("start")["run_id"].iloc[-1])
    )
    assert last["train/overlap"].tolist() == expected["overlap"]


@pytest.mark.parametrize(
    "words, message",
    [
        ("pruning=set pruning.fraction=2", "pruning.fraction=2.0: a fraction of the weights lies in [0, 1]"),
        ("pruning=rigl pruning.every=1000", "pruning.every=1000, pruning.end=0.75: no change would come in"),
        (
            "pruning=rigl R=1.0 n_weights=null depth=30 pruning.every=2",
            "pruning=rigl: INN holds a dense matrix, which has no pattern; set model.linear=csr",
        ),
        (
            "pruning=set study=time_step",
            "pruning._target_=inn_lab.training.rewiring.SET: it is for training, and study=time_step",
        ),
        ("pruning=snip trainer.max_time=5", "trainer.max_time=5.0: pruning trains for epochs; set it to null"),
        (
            "pruning=set pruning.every=2 model=random_graph data=reber",
            "pruning=set: the matrix of RandomGraph holds its biases",
        ),
    ],
)
def test_what_cannot_be_is_said(lab, words, message):
    code, _, err = lab(*SMOKE, *words.split())
    assert code == 2 and err.startswith(f"inn_lab: {message}") and err.count("\n") == 1

"""`pruning=set`, `rigl`, … through the door: patterns change as the method says, and a run that was cut off ends as another."""

import functools
import signal

import pandas as pd
import pytest
import torch
from conftest import SMOKE
from safetensors.torch import load_file

import inn_lab
from inn_lab import weights
from inn_lab.signals import Interrupted
from inn_lab.training.module import Training

OWN = [*SMOKE, "n_weights=80000", "R=0.2", "model.linear=csr", "trainer.max_epochs=4"]
WAYS = {
    "set": ["pruning.every=3"],
    "rigl": ["pruning.every=3"],
    "gradual": ["pruning.every=3", "pruning.R=0.02", "pruning.start=0.2"],
    "snip": ["pruning.R=0.05"],
    "synflow": ["pruning.R=0.05", "pruning.iterations=5"],
    "random": ["pruning.R=0.05"],
}
SPENT = ("weights_on_input", "weights_effective", "in_degree_cv", "out_degree_cv")
TICKET = [*SMOKE, "n_weights=20000", "R=0.4", "model.linear=csr", "trainer.max_epochs=3", "pruning=iterative", "pruning.R=0.2"]


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


@pytest.mark.parametrize("words", [*([f"pruning={name}", *way] for name, way in WAYS.items()), TICKET], ids=[*WAYS, "ticket"])
def test_a_network_with_a_learnt_pattern_is_loaded_and_tests_as_it_did(lab, runs, outputs, words):
    assert lab(*OWN, *words)[0] == 0
    (found,) = runs("adhoc").drop_duplicates("run_id", keep="last").to_dict("records")
    loaded = inn_lab.load(found["run_id"], outputs)
    assert (tested := loaded.evaluate()) == {key: found[key] for key in tested}
    assert loaded.model.n_weights == found["train/weights"]


@pytest.mark.parametrize("model", [["model=random_graph"], ["model=gru", "model.core=sparse"]], ids=["graph", "sparse core"])
def test_recurrent_layers_learn_their_links(lab, runs, outputs, model):
    words = ["pruning=rigl", "pruning.R=0.2", "pruning.every=2", "data=reber"]
    assert lab(*SMOKE, *words, *model)[0] == 0
    found, (before,) = trained(runs), runs("adhoc")["model/weights"].unique()
    assert len(set(found["weights"])) == 1 and 0 < found["weights"][0] < before and 0 < max(found["grown"]) < 1
    (file,) = outputs.glob("jobs/adhoc/*/files/weights.safetensors")
    assert sum(len(part.values) for part in inn_lab.load(file).model.weights()) == found["weights"][0]


def test_what_a_pattern_is_spent_on_is_logged(lab, runs, outputs):
    """By epoch, against the weights that were kept; and the pattern at the end, with a picture."""
    assert lab(*OWN, "pruning=set", "pruning.every=3")[0] == 0
    last = runs("adhoc").sort_values("epoch").iloc[-1]
    (folder,) = outputs.glob("jobs/adhoc/*/files")
    state, degrees = load_file(folder / "weights.safetensors"), pd.read_csv(folder / "degrees.csv")
    pointers, columns = state["map.pointers"], state["map.columns"].long()
    inputs = int(last["model/width"] - last["model/depth"])
    assert degrees["in"].tolist() == pointers.diff().tolist()
    assert degrees["out"].tolist() == columns.bincount(minlength=int(last["model/width"]))[inputs:].tolist()
    assert last["train/weights_on_input"] == pytest.approx(float((columns < inputs).double().mean()))
    assert 0 < last["train/weights_effective"] <= last["train/weights"] == len(columns)
    for side in ("in", "out"):
        assert last[f"train/{side}_degree_cv"] == pytest.approx(degrees[side].std(ddof=0) / degrees[side].mean())
    assert (folder / "pattern.png").exists()


def test_tickets_share_their_rounds_and_begin_as_they_say(lab, runs, outputs):
    assert lab(*TICKET, "-m", "pruning.restart=rewound,reinit,random")[0] == 0
    assert lab(*TICKET[:-2], "-m")[0] == 0  # the first round, alone
    found = runs("adhoc").drop_duplicates("run_id").set_index("pruning.restart")
    tables = [pd.read_csv(path) for path in outputs.glob("jobs/adhoc/*/files/rounds.csv")]
    assert len(tables) == 3 and all(table.equals(tables[0]) for table in tables)  # with their seconds: made once
    first, plain = tables[0].iloc[0], found.loc[found.index.isna()].iloc[0]
    assert first["test_acc_end"] == pytest.approx(plain["test/acc_end"])
    assert tables[0]["weights"].tolist() == [800, 672, 564, 474]
    states = {}
    for path in outputs.glob("jobs/adhoc/*/files/weights.safetensors"):
        state, about = weights.read(path)
        states[(about.config["pruning"] or {}).get("restart")] = state
    columns = {name: states[name]["map.columns"] for name in ("rewound", "reinit", "random")}
    assert {len(column) for column in columns.values()} == {398}
    assert torch.equal(columns["rewound"], columns["reinit"]) and not torch.equal(columns["rewound"], columns["random"])


@pytest.mark.parametrize("calls", [5, 11])  # in the second round; in the last training
def test_a_ticket_that_is_cut_off_ends_with_the_same_numbers(lab, runs, outputs, monkeypatch, calls):
    words = [*TICKET, "pruning.rewind=1", "trainer.checkpoint_s=0"]
    with monkeypatch.context() as patch:
        step, made = Training.training_step, []

        @functools.wraps(step)
        def cut(self, batches, at):
            made.append(self.current_epoch)
            if len(made) == calls:
                raise Interrupted(signal.SIGTERM)
            step(self, batches, at)

        patch.setattr(Training, "training_step", cut)
        assert lab(*words)[0] == 128 + signal.SIGTERM
    assert lab(*words)[0] == 0
    assert lab(*words, f"outputs={outputs / 'again'}")[0] == 0
    files = [next(folder.glob("jobs/adhoc/*/files/weights.safetensors")) for folder in (outputs, outputs / "again")]
    one, other = map(load_file, files)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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
            "pruning=set pruning.every=3 model=gru R=null n_weights=null model.hidden_size=9",
            "pruning=set: a matrix has all its",
        ),
        ("pruning=iterative study=train", "pruning._target_=inn_lab.training.tickets.Iterative: study=train does not do that"),
        ("study=lottery", "study=lottery: it does what pruning=iterative says; add that"),
        ("pruning=iterative pruning.R=0.9", "pruning.R=0.9: the network has no more from the beginning"),
        ("pruning=iterative pruning.rewind=2", "pruning.rewind=2: that is not before the end, trainer.max_epochs=2"),
        ("pruning=iterative pruning.restart=new", "pruning.restart=new: one of rewound, reinit, random"),
        (
            "pruning=set pruning.every=2 model=random_graph data=reber",
            "pruning=set: a matrix has all its entries, and can grow none; begin with fewer, e.g. pruning.R=0.1",
        ),
    ],
)
def test_what_cannot_be_is_said(lab, words, message):
    code, _, err = lab(*SMOKE, *words.split())
    assert code == 2 and err.startswith(f"inn_lab: {message}") and err.count("\n") == 1

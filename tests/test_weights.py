"""What was trained can be used: the weights of a run are kept, found, loaded, and test as they did."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import SMOKE
from safetensors.torch import load_file, save_file

import inn_lab
from inn_lab import evaluate, parts, tracking, weights
from inn_lab.errors import ConfigError
from inn_lab.records import Record
from inn_lab.tracking import store
from inn_lab.training.pruning import prune

NETWORKS = {
    "csr": ["model=inn", "R=0.1"],
    "masked": ["model=inn", "model.linear=masked"],
    "low rank": ["model=inn", "model.linear=low_rank"],
    "lstm": ["model=lstm", "n_weights=200000"],
    "blocks": ["model=by_diagonal"],
    "pruned lstm": ["model=lstm", "n_weights=200000", "pruning=magnitude", "pruning.epochs=1"],
    "pruned inn": ["model=inn", "model.linear=masked", "pruning=magnitude", "pruning.epochs=1"],
}


def folders(outputs: Path, experiment: str = "adhoc") -> list[Path]:
    return sorted(path for path in (outputs / "jobs" / experiment).iterdir() if not path.name.startswith("sweep"))


def kept(folder: Path) -> Path:
    return Record(folder).weights


@pytest.mark.parametrize("words", NETWORKS.values(), ids=NETWORKS)
def test_a_loaded_network_tests_as_it_did_when_it_was_trained(lab, outputs, runs, words):
    assert lab(*SMOKE, *words)[0] == 0
    (folder,) = folders(outputs)
    loaded = inn_lab.load(folder)
    found = runs("adhoc").iloc[-1]
    tested = loaded.evaluate()
    assert {"test/loss", "test/acc_end", "test/acc_seq"} <= tested.keys()
    assert tested == {key: found[key] for key in tested}
    assert loaded.model.n_weights == found.get("cut/weights", found["model/weights"])


def test_what_a_mask_sets_to_zero_is_not_in_the_file(lab, outputs):
    assert lab(*SMOKE, "R=0.05", "model.linear=masked")[0] == 0
    (folder,) = folders(outputs)
    model, held = inn_lab.load(folder).model, load_file(kept(folder))
    assert model.map.weight.numel() > 15 * model.n_weights
    assert sorted(held) == ["bias", "map.mask", "map.weight"]
    assert len(held["map.weight"]) == model.n_weights and held["map.mask"].nbytes == -(-model.map.mask.numel() // 8)


def test_a_file_is_enough(lab, outputs, tmp_path, monkeypatch):
    """Carried to a machine that has no runs; the data are asked for when they are used."""
    assert lab(*SMOKE)[0] == 0
    file = shutil.copy(kept(*folders(outputs)), tmp_path / "mine.bin")
    shutil.rmtree(outputs)
    with monkeypatch.context() as patch:
        patch.setattr(parts, "build_data", lambda *_: pytest.fail("the data are built"))
        loaded = inn_lab.load(file, outputs=tmp_path / "others")
    assert loaded.model(torch.zeros(2, 3, 100)).shape == (2, 3, 10)
    assert loaded.cfg.outputs == str(tmp_path / "others") and not outputs.exists()
    before = loaded.evaluate()
    size = loaded.model.n_weights
    assert prune(loaded.model, "both", "global", 0.5) == size / 2 == loaded.model.n_weights
    assert loaded.evaluate() != before


def test_a_run_is_found_by_id_and_by_what_it_is(lab, outputs, runs):
    for words in (["R=0.1"], ["R=0.2"], ["R=0.2", "seed=1"]):
        assert lab(*SMOKE, *words, "trainer.max_epochs=1")[0] == 0
    found = runs("adhoc").groupby("run_id").last().reset_index()
    wanted = found[(found["R"] == 0.2) & (found["seed"] == 1)].iloc[0]
    for run, values in ((wanted["run_id"], {}), (wanted["run_id"][:8], {}), ("adhoc", {"R": 0.2, "seed": 1, "model": "inn"})):
        loaded = inn_lab.load(run, **values)
        assert loaded.evaluate()["test/loss"] == wanted["test/loss"] and loaded.cfg.R == 0.2 and loaded.cfg.seed == 1
    for run, values, said in (
        ("adhoc", {"R": 0.2}, "adhoc R=0.2: 2 runs; they differ in seed=0, 1; or name one: "),
        ("adhoc", {"R": 0.3}, "no run has R=0.3; there are R=0.1, 0.2"),
        ("adhoc", {"sed": 0}, "its runs have no sed; did you mean seed"),
        ("adhoc", {"model": "lstm"}, "no run has model=lstm; there are model=inn"),
        ("adhc", {}, "there are no runs of it; did you mean adhoc?"),
        ("00000000", {}, "no run's id begins so"),
        ("jobs/none", {}, "jobs/none: there is no such file"),
        (folders(outputs)[0], {"R": 0.1}, "this is one run already; R cannot choose"),
        ("adhoc", {"R": 0.1, "seed": 1}, "no run has all of these values"),
    ):
        with pytest.raises(ConfigError) as error:
            inn_lab.load(run, **values)
        assert said in str(error.value) and "\n" not in str(error.value)
    (outputs / "artifacts").rename(outputs / "away")  # it is read from the record, where that is here
    assert inn_lab.load("adhoc", R=0.1, seed=0).cfg.R == 0.1
    (outputs / "away").rename(outputs / "artifacts")
    shutil.rmtree(outputs / "jobs")  # and else from MLflow's artifacts
    assert inn_lab.load("adhoc", R=0.1, seed=0).cfg.R == 0.1
    tracking.client(outputs).delete_run(wanted["run_id"])
    with pytest.raises(ConfigError, match="no run has seed=1; there are seed=0"):
        inn_lab.load("adhoc", R=0.2, seed=1)


def test_a_run_that_mlflow_has_not_heard_of_or_has_forgotten(lab, outputs, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(tracking.journal.Journal, "deliver", lambda *_: False)
        assert lab(*SMOKE)[0] == 0
    loaded = inn_lab.load("adhoc", lr=1e-3)
    assert kept(*folders(outputs)).read_bytes() and loaded.about.identity == folders(outputs)[0].name
    with monkeypatch.context() as patch:

        def silent(*_):
            raise store.unanswered(outputs, RuntimeError("no"))

        patch.setattr("inn_lab.tracking.kept.reader", silent)
        assert inn_lab.load("adhoc", lr=1e-3).about == loaded.about
        assert "does not answer" in capsys.readouterr().err
    tracking.recover(outputs)
    (run,) = tracking.client(outputs).search_runs(["1"])
    assert inn_lab.load(run.info.run_id).about == loaded.about
    tracking.client(outputs).delete_run(run.info.run_id)
    with pytest.raises(ConfigError, match="no run's id begins so"):
        inn_lab.load(run.info.run_id)


def test_weights_that_are_not_kept(lab, outputs, monkeypatch):
    code, out, _ = lab(*SMOKE, "trainer.keep_weights=false", "seed=0")
    assert code == 0 and "not kept" not in out
    monkeypatch.setattr(weights, "MOST", 1000)
    code, out, _ = lab(*SMOKE, "seed=1")
    assert code == 0 and out.count("the weights are not kept: they take 0 MB, and at most 0 MB are kept") == 1
    for folder in folders(outputs):
        assert not kept(folder).exists()
        with pytest.raises(ConfigError, match="this run has kept no weights; finished runs keep"):
            inn_lab.load(folder)
    with pytest.raises(ConfigError, match="adhoc: 2 runs, none with weights"):
        inn_lab.load("adhoc")


def test_files_that_are_none_of_the_labs_are_refused(lab, outputs, tmp_path):
    assert lab(*SMOKE)[0] == 0
    file, bad = kept(*folders(outputs)), tmp_path / "bad"
    content, state, about = file.read_bytes(), load_file(file), weights.read(file)[1]

    def refused(said: str) -> None:
        with pytest.raises(ConfigError, match=said) as error:
            inn_lab.load(bad)
        assert "\n" not in str(error.value)
        bad.unlink()

    for other in (content[: len(content) // 2], b"", b"PK\x03\x04 a pickle in a zip"):
        bad.write_bytes(other)
        refused("it cannot be read")
    save_file(state, bad)
    refused("the lab has not written this file")
    text = vars(about) | {"lab": "9.9"}
    for change, said in (
        ({"config": about.config | {"later": 1}}, "later.*the weights are of inn_lab 9.9, commit "),
        ({"n_inputs": 99}, "the weights are of inn_lab 9.9"),
        ({"config": about.config | {"model": about.config["model"] | {"later": 1}}}, "model.later: .*; the weights are of"),
        ({"config": {**about.config, "lr": "???"}}, "lr: it has no value in this file; the weights are of"),
        ({"more": 1}, "it cannot be read"),
        ({"masked": []}, "it cannot be read"),
    ):
        save_file(state, bad, {weights.KEY: json.dumps(text | change)})
        refused(said)


def test_a_run_from_before_a_key_is_loaded_with_what_was_in_effect(lab, outputs, tmp_path):
    assert lab(*SMOKE)[0] == 0
    state, about = load_file(kept(*folders(outputs))), weights.read(kept(*folders(outputs)))[1]
    assert "outputs" not in about.config and "keep_weights" not in about.config["trainer"]  # nothing of a machine
    del about.config["model"]["init_bias"], about.config["start_from"], about.config["data"]["redraw"]
    groups = {key: about.config.pop(key) for key in ("optimizer", "schedule")}
    save_file(state, tmp_path / "old", {weights.KEY: json.dumps(vars(about))})
    cfg = inn_lab.load(tmp_path / "old").cfg
    assert (cfg.model.init_bias, cfg.start_from, cfg.data.redraw) == ("zero", None, True)
    assert {"optimizer": cfg.optimizer, "schedule": cfg.schedule} == groups
    assert (cfg.trainer.keep_weights, cfg.trainer.accelerator, cfg.outputs) == (True, "auto", str(outputs))


def test_evaluate_tests_on_other_data(lab, outputs, runs, capsys, made_mnist):
    assert lab(*SMOKE)[0] == 0
    (folder,) = map(str, folders(outputs))

    def call(*words: str) -> tuple[int, str, str]:
        return evaluate.main(words), *capsys.readouterr()

    code, out, _ = call(folder)
    assert code == 0 and "tested on 200 examples, digits, seed 0, cpu" in out
    assert f"test/acc_end   {runs('adhoc')['test/acc_end'].iloc[-1]:.6g}" in out
    code, out, _ = call("adhoc", "data=uniform_anomaly", "data.n_test=50", "seed=1", f"outputs={outputs}", "trainer=cpu")
    assert code == 0 and "tested on 50 examples, digits, seed 1, cpu" in out
    few = ["data.n_train=20", "data.n_val=30", "data.n_test=30", "data=uniform_anomaly"]
    code, out, _ = call(folder, "source=mnist", f"source.root={made_mnist}", *few)
    assert code == 0 and "tested on 30 examples, mnist, seed 0" in out
    (made_mnist / "file").touch()
    for words, said in (
        ([], "name a run"),
        (["R=0.2"], "name a run"),
        ([folder, "R=0.3"], "R=0.3: the weights say what the network is"),
        ([folder, "model.R=0.3"], "model.R=0.3: the weights say what the network is"),
        ([folder, "data.n_tes=3"], "data.n_tes: there is no such key; did you mean data.n_test"),
        ([folder, "data.n_test=0"], "data.n_test=0: a whole number from 1"),
        ([folder, "data.n_test=1,2"], "data.n_test=1,2: give a key one value"),
        ([folder, "data.seq_len=5"], "they have 6 outputs, and the model was trained for 10"),
        ([folder, "source=nowhere"], "source=nowhere: there is no such choice"),
        ([folder, "objective=x"], "objective=x: it has no choices"),
        ([folder, "seed"], "seed: cannot be read"),
        ([folder, "trainer=gpu"], "" if torch.cuda.is_available() else "trainer=gpu: torch sees no CUDA device"),
        (["nothing"], "nothing: in "),
        ([folder, f"outputs={made_mnist}/file"], "make room, change the permissions, or set outputs"),
    ):
        code, out, err = call(*words)
        assert not said or (code == 2 and not out and err.startswith("evaluate: ") and said in err and err.count("\n") == 1)


def test_to_import_the_package_takes_torch_at_most():
    heavy = ["hydra", "mlflow", "pytorch_lightning", "pandas", "matplotlib", "safetensors"]
    check = f"import sys, inn_lab; assert not set({heavy}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = inn_lab.lod


STILL = ["lr=1e-30", "trainer.max_epochs=1"]  # a training that changes nothing


def test_a_training_begins_with_the_weights_of_another_run(lab, outputs, runs):
    words = [*SMOKE, "model.linear=masked", "pruning=magnitude", "pruning.epochs=1", "pruning.amount=0.9"]
    assert lab(*words)[0] == 0
    (folder,) = folders(outputs)
    first = runs("adhoc").iloc[-1]
    again = [*SMOKE, "model.linear=masked", *STILL]
    assert lab(*again, f"start_from={folder}")[0] == 0
    found = runs("adhoc").groupby("record").last()
    second = found[found["study"] == "train"].iloc[0]
    assert [second[key] for key in ("test/loss", "test/acc_seq")] == [first[key] for key in ("test/loss", "test/acc_seq")]
    assert second["model/weights"] == first["cut/weights"] and second["start_from.content"] == first["weights"]

    for same in (kept(folder), first["run_id"]):  # the same weights make the same job
        assert "finished already" in lab(*again, f"start_from={same}")[1]
    shutil.rmtree(folder)
    assert "finished already" in lab(*again, f"start_from={first['run_id'][:8]}")[1]
    assert lab(*again)[0] == 0 and len(runs("adhoc")["run_id"].unique()) == 3
    assert runs("adhoc").groupby("record").last()["test/loss"].nunique() == 2


def test_weights_that_do_not_fit_or_are_not_there(lab, outputs):
    assert lab(*SMOKE)[0] == 0
    (folder,) = folders(outputs)
    lstm = ["model=lstm", "n_weights=200000"]
    for words, said in (
        ([*lstm, f"start_from={folder}"], "the weights do not fit LSTM: Missing key(s)"),
        (["n_weights=200000", f"start_from={folder}"], "the weights do not fit INN: size mismatch for bias"),
        (["start_from=adhc"], "start_from=adhc: in "),
        (["start_from=adhc", "-m"], "start_from=adhc: in "),
        (["start_from=adhoc", "experiment=matmul_speed"], "there is no model that could begin with weights"),
    ):  # fmt: skip
        code, _, err = lab(*SMOKE, *words)
        assert code == 2 and said in err, err
        assert "-m" in words or err.count("\n") == 1

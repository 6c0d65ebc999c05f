"""Which job is the same, and by which code: what is finished is taken over or run afresh, and said."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMOKE
from hydra import compose, initialize_config_dir
from made import run, runs
from omegaconf import OmegaConf

from experiments import selection
from inn_lab import again, config, identity, records, schema, seeding, tracking
from inn_lab.explain import CONF
from inn_lab.shared import Shared

GOLDEN = json.loads((Path(__file__).parent / "identities.json").read_text())


@pytest.fixture(autouse=True)
def no_golden_paths(monkeypatch):
    monkeypatch.setenv("INN_LAB_OUTPUTS", "outputs")


def test_a_job_is_the_one_that_it_was_in_every_release_before():
    """If this fails, a new key makes other runs of all that users have: enter it in `identity.LATER`, with the value that was
    in effect before. Only what changes a result may change an identity; then its line in identities.json is written anew."""
    schema.register()
    found = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for words in GOLDEN:
            config.check(cfg := compose("config", words.split()))
            found[words] = identity.identity(cfg)
    assert found == GOLDEN
    assert {path.stem for path in (CONF / "experiment").glob("*.yaml")} <= {words.partition("=")[2] for words in GOLDEN}


def test_a_key_that_came_later_counts_where_it_differs(monkeypatch):
    before = identity.identity(OmegaConf.create({"lr": 1e-3}))
    monkeypatch.setitem(identity.LATER, "model.depth", 3)
    assert identity.identity(OmegaConf.create({"lr": 1e-3, "model": {"depth": 3}})) == before
    assert identity.identity(OmegaConf.create({"lr": 1e-3, "model": {"depth": 4}})) != before


@pytest.mark.parametrize(
    "key, value, wrong",
    [
        ("data.flag", "True", "False"),
        ("trainer.precision", "32-true", "bf16-mixed"),
        ("model.later", 0.5, 0.7),
        ("start_from", "null", "a"),
        ("optimizer.betas", "[0.9, 0.999]", "[0.5, 0.999]"),
        ("schedule._target_", "inn_lab.training.schedules.constant", "inn_lab.training.schedules.cosine"),
        ("trainer.patience", "null", "5"),
        ("trainer.best_weights", "False", "True"),
    ],
)
def test_runs_from_before_a_key_are_drawn_with_those_that_have_it(monkeypatch, key, value, wrong):
    monkeypatch.setitem(identity.IMPLIED, "model.later", 0.5)
    for order in (["other", "old", "new"], ["new", "other", "old"]):
        made = {"old": lambda: run(0.1), "new": lambda: run(0.2, **{key: value}), "other": lambda: run(0.4, **{key: wrong})}
        kept, _ = selection.select(runs(*(made[name]() for name in order)), ("R",), {})
        assert set(kept["R"]) == {0.1, 0.2}, order


# ------------------------------------------------------------------------------------------------------- the code of a job


@pytest.fixture
def files(tmp_path, monkeypatch):
    """files(NAME=TEXT, **{"FOLDER/NAME": TEXT}): modules of the user's own, on Python's path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**texts: str) -> None:
        for name, text in texts.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


def code_of(target: str) -> identity.Code:
    return identity.code(OmegaConf.create({"model": {"_target_": target}}))


def test_the_code_of_a_job_is_that_of_all_its_own_modules(files):
    files(
        one_net="import one_base, os, torch\nclass Net(one_base.Base): pass",
        one_base="from one_sizes import N\nclass Base: n = N",
    )
    files(one_sizes="N = 1", one_other="N = 1")
    first = code_of("one_net.Net")
    assert first == code_of("one_net.Net") and first != code_of("one_other.N")
    assert first.name.startswith(f"{identity.commit()}+one_base,one_net,one_sizes-")
    assert code_of("inn_lab.models.INN") == (identity.commit(), identity.lab())
    files(one_other="N = 2")
    assert code_of("one_net.Net") == first
    files(one_sizes="N = 22")
    assert code_of("one_net.Net").digest != first.digest and code_of("one_net.Net").name != first.name


def test_what_lies_in_packages_and_folders_counts(files):
    deep = "from . import near\nfrom .near import helper\nfrom .. import nothing"
    files(**{"two/deep": deep, "two/near": "def helper(): return 1"})
    first = code_of("two.deep.Net")  # a folder without an __init__.py
    assert set(identity.own(["two.deep.Net"])) == {"two.deep", "two.near"}
    files(**{"two/near": "def helper(): return 22"})
    assert code_of("two.deep.Net").digest != first.digest
    files(**{"three/__init__": "from three.deep import Net", "three/deep": "class Net: pass"})
    assert set(identity.own(["three.Net"])) == {"three", "three.deep"}


def test_comments_docstrings_and_layout_do_not_count(files):
    files(four="def f(x):\n    return x + 1")
    first = code_of("four.f")
    files(four='"""Four."""\n\ndef f(x):  # adds one\n    """One more."""\n    return (\n        x + 1)\n')
    assert code_of("four.f").digest == first.digest
    files(four="def f(x):\n    return x + 2")
    assert code_of("four.f").digest != first.digest


def test_of_a_library_counts_the_module_that_is_named(files):
    assert set(identity.own(["torch.nn.Identity"])) == {"torch.nn"}
    files(**{"site-packages/lib_one": "import lib_two", "site-packages/lib_two": ""})
    sys.path.insert(
        1, str(Path(sys.path[0]) / "site-packages")
    )  # of another environment, as PYTHONPATH or a .pth file bring it
    assert set(identity.own(["six_own.f", "lib_one.f"])) == {"lib_one"}
    files(six_own="import lib_one, lib_two, json")
    assert set(identity.own(["six_own.f"])) == {"six_own"}


@pytest.mark.parametrize("text", ["def f(:", "raise RuntimeError('at import')", "\0"])
def test_a_module_that_cannot_be_imported_has_a_code_all_the_same(files, text):
    files(five=text)
    assert code_of("five.Net").digest != identity.lab()
    assert code_of("no_such_module.Net").digest == identity.lab()


# ----------------------------------------------------------------------------------------- what is there already, and whose

STUDY = "def study(job):\n    job.run.metrics({{'test/acc_end': {}}})\n"


def test_results_of_other_code_are_run_afresh_or_taken_and_said(lab, runs, files):
    files(mine=STUDY.format(0.25))
    words = [*SMOKE, "study._target_=mine.study", "-m"]
    code, out, _ = lab(*words, "seed=0,1")
    assert code == 0 and "already" not in out
    by = identity.short(identity.commit()) + "+mine-"
    code, out, _ = lab(*words, "seed=0,1")
    assert code == 0 and "2 of 2 jobs are finished already" in out and "2 finished (2 already)" in out and by not in out
    files(mine=STUDY.format(0.75))
    code, out, _ = lab(*words, "seed=0,1", "resume=any")
    said = f"2 of 2 jobs were finished by other code ({by}"
    assert code == 0 and said in out and "they are taken as they are; resume=true runs these jobs afresh" in out
    assert out.count(f"finished already by other code ({by}") == 2 and set(runs("adhoc")["test/acc_end"]) == {0.25}
    code, out, _ = lab(*words, "seed=0,1,2")
    assert code == 0 and said.replace("2 of 2", "2 of 3") in out and "these jobs run afresh; resume=any takes" in out
    assert "3 finished" in out and "(" not in out.splitlines()[-1]
    assert sorted(runs("adhoc")["test/acc_end"]) == [0.25, 0.25, 0.75, 0.75, 0.75]
    files(mine=STUDY.format(0.25))  # back again: those that this code has made
    code, out, _ = lab(*words, "seed=0,1,2")
    assert "2 of 3 jobs are finished already" in out and "1 of 3 jobs were finished by other code" in out


@pytest.mark.parametrize("resume, taken", [(True, "a"), ("any", "b"), (False, None)])
def test_of_several_records_the_one_of_this_code_counts(outputs, resume, taken):
    def record(code: str, done: bool) -> records.Record:
        made = again.find(outputs, "adhoc", "abc", {"code": code}, resume=False)
        if done:
            made.finish(records.Outcome("finished", commit=code, code=code))
        return made

    made = {"a": record("a", done=False), "b": record("b", done=True), "c": record("c", done=False)}
    found = again.look(outputs, "adhoc", "abc", "a", resume)
    assert (found and found.folder) == (taken and made[taken].folder)
    assert again.finished_by_other(outputs, "adhoc", "abc", "a").code == "b"
    assert again.finished_by_other(outputs, "adhoc", "abc", "b") is None


def test_what_was_undefined_is_asked_again(lab, runs, files, tmp_path):
    """Its cause may be a bug, or lie outside of the code: it is no result."""
    files(bug="from pathlib import Path\nfrom inn_lab.errors import ConfigError\nfrom inn_lab.models import MLP\n"
          "def make(*sizes, generator, **_):\n"
          f"    if generator and not Path('{tmp_path}/mended').exists(): raise ConfigError('a bug')\n"
          "    return MLP(*sizes, hidden=[3], generator=generator)")  # fmt: skip
    words = [*SMOKE, "model._target_=bug.make", "-m", "seed=0"]
    for _ in range(2):
        assert "1 undefined" in lab(*words)[1] and set(runs("adhoc")["state"]) == {"undefined"}
    (tmp_path / "mended").touch()
    code, out, _ = lab(*words)
    assert code == 0 and "1 finished" in out and "already" not in out
    found = runs("adhoc")
    assert set(found["state"]) == {"finished"} and set(found["attempts"]) == {3} and found["run_id"].nunique() == 1
    assert "reason" not in found or found["reason"].isna().all()


def test_a_run_from_before_that_was_undefined_for_ever_is_asked_again(outputs):
    record = again.find(outputs, "adhoc", "abc", {"code": "a"}, resume=True)
    record.finish(records.Outcome("undefined", code="a"))
    assert record.outcome is None and again.look(outputs, "adhoc", "abc", "a", True).folder == record.folder


def test_a_larger_sweep_has_all_its_jobs_as_children(lab, runs, outputs):
    assert lab(*SMOKE, "-m", "seed=0,1")[0] == 0
    (first,) = {path.name for path in (outputs / "sweeps").iterdir()}
    code, out, _ = lab(*SMOKE, "-m", "seed=2,1,0")
    assert code == 0 and "2 of 3 jobs are finished already" in out
    (second,) = {path.name for path in (outputs / "sweeps").iterdir()} - {first}
    found = runs("adhoc").groupby("seed").last()
    client = tracking.client(outputs)
    (parent,) = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in found["run_id"]}
    assert client.get_run(parent).data.tags["jobs"] == "3"
    assert list(found["sweep"]) == [f"{first} {second}"] * 2 + [second] and list(found["job"]) == [2, 1, 0]
    for sweep, n in ((first, 2), (second, 3)):
        assert selection.select(runs("adhoc"), (), {"sweep": sweep})[0]["run_id"].nunique() == n


# ------------------------------------------------------------------------------------------ draws from the global generators

DRAWING = """
import random, numpy as np, torch
from inn_lab.models import MLP
class Noisy(torch.nn.Module):
    def __init__(self, n_inputs, n_outputs, *, generator, **sizes):
        super().__init__()
        self.net, self.noise = torch.nn.Linear(n_inputs, n_outputs), np.random.rand() * random.random()
        self.n_weights = 1
    def size(self, steps): return {"weights": 1, "noise": self.noise}
    def told(self): return {"drawn": float(torch.rand(()) + np.random.rand() + random.random())}
    def forward(self, x): return self.net(x + self.noise * torch.randn_like(x))
"""


def test_a_model_that_draws_from_the_global_generators_gives_the_same_numbers(lab, runs, files):
    files(noisy=DRAWING)
    words = [*SMOKE, "model._target_=noisy.Noisy", "trainer.checkpoint_s=0"]
    for seed in ("0", "0", "1"):
        torch.rand(3), np.random.rand(3), random.random()
        assert lab(*words, f"seed={seed}", "resume=false")[0] == 0
    metrics = ["train/loss", "val/loss", "test/loss", "train/drawn", "test/drawn", "model/noise"]
    first, repeated, other = (part[metrics].to_numpy() for _, part in sorted(runs("adhoc").groupby("start")))
    assert (first == repeated).all() and (first != other).all()


def test_what_is_made_once_does_not_move_the_global_generators(tmp_path):
    shared, drawn = Shared(tmp_path, "abc", torch.device("cpu")), []
    for _ in range(2):  # made, then read
        seeding.seed_globals(0)
        torch.rand(1)
        made = shared.once("noise", lambda: torch.rand(3) + np.random.rand() + random.random())
        drawn.append((made.tolist(), torch.rand(1).item(), np.random.rand(), random.random()))
    seeding.seed_globals(1)
    assert drawn[0] == drawn[1]
    assert Shared(tmp_path / "again", "abc", torch.device("cpu")).once("noise", lambda: torch.rand(3)).shape == (3,)


def test_what_auto_took_is_logged(lab, runs):
    assert lab(*SMOKE, "-m", "R=0.1,1.0")[0] == 0
    assert lab(*SMOKE, "model.linear=low_rank")[0] == 0
    took = runs("adhoc").groupby("start").first()[["model.linear", "linear"]]
    assert sorted(map(tuple, took.to_numpy())) == [("auto", "csr"), ("auto", "masked"), ("low_rank", "low_rank")]

"""A sweep survives: kills, signals, faults of disk, database and server. What is finished stays, what was cut off goes on."""

import contextlib
import json
import math
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import SMOKE
from omegaconf import OmegaConf

import inn_lab
from inn_lab import again, identity, records, signals, standing, tracking
from inn_lab.identity import Code
from inn_lab.standing import Standing

PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the processes of a sweep are found in Linux's /proc")
MEASURED = ["train/loss", "train/acc_end", "val/loss", "val/acc_end", "test/loss", "test/acc_end", "model/weights"]
EPOCHS = 12
SWEEP = [*SMOKE, f"trainer.max_epochs={EPOCHS}", "trainer.checkpoint_s=0", "hydra.launcher.n_jobs=2", "-m", "R=0.1,0.2"]


def start(outputs: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    environment = {**os.environ, "INN_LAB_OUTPUTS": str(outputs), **environment}
    command = [sys.executable, "-m", "inn_lab", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def run(outputs: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    process = start(outputs, *arguments, **environment)
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def measured(outputs: Path) -> pd.DataFrame:
    """What the runs of a sweep measured, by job and epoch; exactly one row each."""
    runs = tracking.read(outputs, "adhoc")
    assert set(runs["state"]) == {"finished"} and set(runs["status"]) == {"FINISHED"}
    return runs.set_index(["R", "seed", "epoch"])[MEASURED].sort_index()


def everything(outputs: Path) -> list:
    client = tracking.client(outputs)
    return client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)


def lengths(outputs: Path) -> dict[Path, int]:
    """How many bytes each job of a sweep has in its journal; the sweep's own does not count."""
    jobs = outputs.glob("jobs/adhoc/[!s]*/journal.jsonl")  # a job is named by a hexadecimal hash, a sweep sweep-HASH
    return {path: path.stat().st_size for path in jobs}


@PROC
@pytest.mark.parametrize(
    "signum, times, seeds",
    [
        (signal.SIGKILL, 1, 2),
        *(pytest.param(signum, 10, 3, marks=pytest.mark.slow) for signum in (signal.SIGKILL, signal.SIGTERM)),
    ],
)
def test_a_sweep_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(lab, tmp_path, signum, times, seeds):
    """A few epochs after two jobs have gone on, so that every kill finds two at work and leaves something for the next one."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    words, jobs, moments = [*SWEEP, f"seed=range(0,{seeds})", f"outputs={killed}"], 2 * seeds, random.Random(times)
    code, out, _ = lab(*words[:-1], f"outputs={undisturbed}")
    assert code == 0, out
    expected = measured(undisturbed)
    assert len(expected) == jobs * EPOCHS
    marks = undisturbed.glob("jobs/adhoc/*/done.json")
    epoch = sum(json.loads(mark.read_text())["seconds"] for mark in marks) / len(expected)
    for _ in range(times):
        before, process = lengths(killed), start(killed, *words)
        begun = time.time() + 300
        while sum(size > before.get(path, 0) for path, size in lengths(killed).items()) < 2 and process.poll() is None:
            assert time.time() < begun
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 4 * epoch))
        if signum == signal.SIGKILL:
            for pid in family(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            process.send_signal(signum)
        out, _ = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 128 + signum, 0), out
    code, out, _ = lab(*words)
    assert code == 0 and f"{jobs} finished" in out, out
    pd.testing.assert_frame_equal(measured(killed), expected, check_exact=True)
    runs = everything(killed)
    cut_off = [run for run in runs if "job" in run.data.tags and int(run.data.tags["attempts"]) > 1]
    assert len(cut_off) >= 2, "the kills came when there was nothing left to kill"
    assert len(runs) == jobs + 1 and {run.info.status for run in runs} == {"FINISHED"}  # the jobs and the sweep, once each


@PROC
def test_a_job_that_dies_takes_no_other_with_it(lab, outputs):
    """One job's process is killed, as when the memory runs out: the others finish, and the same command mends the loss."""
    words = [*SMOKE, "trainer.max_epochs=20", "hydra.launcher.n_jobs=2", "-m", "seed=0,1"]

    def kill_one() -> None:
        until = time.time() + 100
        while len(lengths(outputs)) < 2 and time.time() < until:
            time.sleep(0.01)
        for pid in family(os.getpid())[1:]:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/1").startswith(str(outputs.resolve())):
                    return os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    code, out, _ = lab(*words)
    killer.join()
    assert code == 1 and "1 killed" in out and "1 finished" in out, out
    assert "its process ended with signal SIGKILL (the memory may have run out)" in out
    states = sorted(run.data.tags.get("state", "") for run in everything(outputs) if "job" in run.data.tags)
    assert states == ["finished", "killed"]
    code, out, _ = lab(*words)
    assert code == 0 and "2 finished" in out


def test_what_is_finished_is_not_run_again_unless_asked(lab, runs, outputs):
    code, first, _ = lab(*SMOKE, "R=0.2")
    code, out, _ = lab(*SMOKE, "R=0.2", "trainer.checkpoint_s=3")  # how often it saves is no other science
    (record,), found = outputs.glob("jobs/adhoc/*"), runs("adhoc").iloc[-1]
    score = f"test ACC_end {found['test/acc_end']:.3f}"
    where = [f"  record: {record}", f"  MLflow: run {found['run_id']} in {tracking.uri(outputs)}"]
    where.append("  figures: python -m experiments curves adhoc source=digits scale=smoke")
    called = f"{' '.join(SMOKE)} R=0.2"
    assert first.startswith(f"{called} · starting\n{called} · finished, {score} · ")
    assert out.splitlines()[1] == (f"{called} trainer.checkpoint_s=3 · finished already, {score}; resume=false runs it afresh")
    assert code == 0 and first.splitlines()[2:] == out.splitlines()[2:] == where
    assert runs("adhoc")["run_id"].nunique() == 1
    assert lab(*SMOKE, "R=0.2", "resume=false")[0] == 0
    assert runs("adhoc")["run_id"].nunique() == 2
    assert lab(*SMOKE, "R=0.2", "lr=0.01")[0] == 0
    assert runs("adhoc")["run_id"].nunique() == 3


def test_a_finished_run_that_was_deleted_in_mlflow_is_run_again(lab, runs, outputs):
    assert lab(*SMOKE)[0] == 0
    tracking.client(outputs).delete_run(runs("adhoc")["run_id"][0])
    code, out, _ = lab(*SMOKE)
    assert code == 0 and "already" not in out
    assert runs("adhoc")["state"].tolist() == ["finished"] * 2


def begun(outputs: Path, identity: str = "abc") -> tracking.Run:
    """A run that has logged an epoch, and whose process then ends without a word."""
    record = again.record_of(outputs, "adhoc", identity, resume=True, code=Code("a", "a"))
    run = tracking.Run(record, outputs, "adhoc", "a run", {"job": "0"})
    run.metrics({"val/loss": 1.0}, epoch=0)
    return run


def test_a_run_that_died_and_was_deleted_in_mlflow_is_heard_of_no_more(outputs, capsys):
    run = begun(outputs)
    tracking.client(outputs).delete_run(run.id)
    tracking.recover(outputs)
    assert capsys.readouterr().out == "" and not run.record.pending.exists()
    again = begun(outputs)
    assert again.record.folder.name == "abc-2" and again.id != run.id
    assert tracking.client(outputs).get_run(again.id).info.lifecycle_stage == "active"


def test_a_sweep_whose_run_was_deleted_in_mlflow_gets_another(outputs):
    hydra = {"overrides": {"task": ["R=0.1"]}, "runtime": {"choices": {}}, "sweep": {"dir": str(outputs / "sweeps/now")}}
    cfg, ids = OmegaConf.create({"outputs": str(outputs), "resume": True, "hydra": hydra}), []
    (outputs / "sweeps/now").mkdir(parents=True)
    for _ in range(3):
        with tracking.sweep(
            cfg, again.record_of(outputs, "adhoc", "sweep-abc", True, Code("a", "a")), Code("a", "a"), 1
        ) as run:
            ids.append(run.id)
        if len(ids) == 1:
            tracking.client(outputs).delete_run(run.id)
    assert ids[0] != ids[1] == ids[2]


def test_an_experiment_that_was_deleted_in_mlflow_is_said_before_training(lab, outputs):
    client, where = tracking.client(outputs), tracking.experiment_id(outputs, "adhoc")
    client.delete_experiment(where)
    code, _, err = lab(*SMOKE)
    assert code == 2 and len(err.splitlines()) == 1 and f"it was deleted in MLflow at {tracking.uri(outputs)}" in err
    client.restore_experiment(where)
    assert tracking.experiment_id(outputs, "adhoc") == where


def test_another_mlflow_hears_of_a_job_that_is_done(lab, runs, outputs, monkeypatch):
    assert lab(*SMOKE)[0] == 0
    expected = runs("adhoc")[MEASURED]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{outputs}/other.db")
    assert runs("adhoc").empty
    code, out, _ = lab(*SMOKE)
    assert code == 0 and "finished already" in out
    pd.testing.assert_frame_equal(runs("adhoc")[MEASURED], expected, check_exact=True)


def test_what_mlflow_hears_twice_stands_there_once(lab, runs, outputs):
    """A kill between telling MLflow and noting it down."""
    assert lab(*SMOKE)[0] == 0
    expected = runs("adhoc")
    (delivered,) = outputs.glob("jobs/adhoc/*/delivered.json")
    state = json.loads(delivered.read_text())
    for damage in (json.dumps({**state, "entries": 1}), "{"):  # the second: not even the run's id is known
        delivered.write_text(damage)
        delivered.with_name("pending").touch()
        tracking.recover(outputs)
        assert json.loads(delivered.read_text()) == state
        pd.testing.assert_frame_equal(runs("adhoc"), expected)
        client = tracking.client(outputs)
        assert all(len(client.get_metric_history(state["run_id"], key)) == 2 for key in ("val/loss", "train/loss"))


def test_the_time_a_job_lay_dead_is_not_its_own(lab, runs, outputs, monkeypatch):
    cut_off(lab, monkeypatch, epoch=4)
    (journal,) = outputs.glob("jobs/adhoc/*/journal.jsonl")
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    entries = [{**entry, "time": entry["time"] - 3_600_000} for entry in entries if entry["do"] != "end"]
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))  # killed an hour ago, without a word
    journal.with_name("pending").touch()
    (journal.with_name("delivered.json")).unlink()
    tracking.recover(outputs)
    assert set(runs("adhoc")["state"]) == {"killed"}
    assert lab(*LONG)[0] == 0
    assert 0 < json.loads(journal.with_name("done.json").read_text())["seconds"] < 600


def test_other_code_does_not_go_on_with_a_run_that_was_cut_off(outputs):
    first = again.find(outputs, "adhoc", "abc", {"code": "a"}, resume=True)
    assert again.find(outputs, "adhoc", "abc", {"code": "a"}, resume=True).folder == first.folder
    assert again.find(outputs, "adhoc", "abc", {"code": "b"}, resume="any").folder.name == "abc-2"
    assert again.find(outputs, "adhoc", "abc", {"code": "a"}, resume=True).folder == first.folder
    assert again.find(outputs, "adhoc", "abc", {"code": "a"}, resume=False).folder.name == "abc-3"


def test_jobs_that_begin_at_once_are_one(outputs, monkeypatch):
    whole, seen = records.write_atomically, []

    def write(path, *more, **options):
        if not seen:  # just now another process looks for the same job
            seen.append(path)
            seen.append(again.find(outputs, "adhoc", "abc", {"id": "2", "code": "a"}, resume=True))
        whole(path, *more, **options)

    monkeypatch.setattr(records, "write_atomically", write)
    found = again.find(outputs, "adhoc", "abc", {"id": "1", "code": "a"}, resume=True)
    assert found.folder == seen[1].folder and found.about["id"] == seen[1].about["id"]
    assert [path.name for path in (outputs / "jobs/adhoc").iterdir()] == ["abc"]


def test_the_code_s_name_is_its_commit_and_what_was_edited(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    def name() -> str:
        return identity.commit.__wrapped__()

    monkeypatch.setattr("inn_lab.identity.ROOT", tmp_path)
    code, other = tmp_path / "inn_lab/models/code.py", tmp_path / "README.md"
    code.parent.mkdir(parents=True)
    code.write_text("one")
    other.write_text("one")
    outside = name()
    assert re.fullmatch(r"inn_lab-[0-9.]+-[0-9a-f]{8}", outside) and outside == name()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "nohup.out").write_text("")
    other.write_text("two")
    clean = name()
    assert clean == git("rev-parse", "HEAD") and identity.short(clean) == clean[:7]
    names = [outside]
    for edit in (lambda: code.write_text("two"), lambda: code.write_text("three"), lambda: code.with_name("b.py").touch()):
        edit()
        names.append(name())
    assert len(set(names)) == 4 and names[-1] == name()
    assert all(re.fullmatch(f"{clean}-dirty-[0-9a-f]{{8}}", one) for one in names[1:])
    assert identity.short(names[1]) == names[1].replace(clean, clean[:7])


def test_a_record_is_one_process_s_own(outputs):
    record = again.find(outputs, "adhoc", "abc", {"code": "a"}, resume=True)
    with record.mine() as mine, records.Record(record.folder).mine() as also:
        assert mine and not also
    with record.mine() as mine:
        assert mine


def test_a_job_on_another_machine_lives_as_long_as_its_heart_beats(outputs):
    """Locks do not reach through every network's file system."""
    record = again.find(outputs, "adhoc", "abc", {"code": "a"}, resume=True)
    beat = record.folder / "heartbeat"
    beat.write_text("another-machine")
    with record.mine() as mine:
        assert not mine
    long_ago = time.time() - 2 * records.SILENT
    os.utime(beat, (long_ago, long_ago))
    with record.mine() as mine:
        assert mine and beat.read_text() != "another-machine"


def test_readers_do_not_wait_for_writers(outputs):
    tracking.client(outputs)
    with contextlib.closing(sqlite3.connect(outputs / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_run_that_is_running_is_not_started_twice(lab, outputs, monkeypatch):
    assert lab(*SMOKE)[0] == 0
    (folder,) = (outputs / "jobs/adhoc").iterdir()
    with records.Record(folder).mine():
        code, _, err = lab(*SMOKE)
    assert code == 2 and "this run is running already" in err


def cut_off(lab, monkeypatch, epoch: int, *words: str) -> None:
    """A run of these words, or of LONG, that a signal stops in the middle of an epoch."""
    from inn_lab.signals import Interrupted
    from inn_lab.training.module import Training

    whole = Training.training_step

    def step(self, batches, index):
        if self.current_epoch == epoch:
            raise Interrupted(signal.SIGTERM)
        whole(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", step)
        assert lab(*(words or LONG))[0] == 128 + signal.SIGTERM


LONG = [*SMOKE, "trainer.max_epochs=6", "trainer.checkpoint_s=1000"]


@pytest.mark.parametrize("model", ["inn", "lstm", "mlp"])
def test_a_resumed_run_ends_bit_for_bit_as_an_undisturbed_one(lab, outputs, monkeypatch, model):
    monkeypatch.setitem(globals(), "LONG", [*LONG, f"model={model}", "n_weights=200000"])
    assert lab(*LONG)[0] == 0
    expected = tracking.read(outputs, "adhoc").set_index("epoch")[MEASURED]
    (trained,) = outputs.glob(f"jobs/adhoc/*/files/{records.WEIGHTS}")
    outputs = outputs.with_name("again")
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(outputs))
    cut_off(lab, monkeypatch, epoch=4)
    killed = tracking.read(outputs, "adhoc")
    assert killed["epoch"].tolist() == [0, 1, 2, 3] and set(killed["status"]) == {"KILLED"}
    assert set(killed["reason"]) == {"stopped by SIGTERM"}
    assert len(list(outputs.glob("jobs/adhoc/*/checkpoint.pt"))) == 1  # written when it was stopped, whatever checkpoint_s says
    assert lab(*LONG)[0] == 0
    resumed = tracking.read(outputs, "adhoc")
    pd.testing.assert_frame_equal(resumed.set_index("epoch")[MEASURED], expected, check_exact=True)
    assert set(resumed["attempts"]) == {2} and set(resumed["state"]) == {"finished"}
    assert next(outputs.glob(f"jobs/adhoc/*/files/{records.WEIGHTS}")).read_bytes() == trained.read_bytes()
    assert not list(outputs.glob("jobs/adhoc/*/checkpoint.pt"))


def test_what_is_left_is_reckoned_from_this_attempt_s_epochs(monkeypatch, capsys):
    from inn_lab.training import progress

    measured = {"val/acc_end": 0.5, "val/loss": 1.0, "time/epoch_s": 10.0}
    trainer = SimpleNamespace(current_epoch=8, max_epochs=12, callback_metrics=measured, callbacks=[])
    shown, now = progress.ShowProgress("a run", shown=True), 100.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    monkeypatch.setattr(standing.time, "monotonic", lambda: now)
    told = []
    monkeypatch.setattr(standing, "listener", told.append)
    shown.on_train_start(trainer, None)
    now += 10
    shown.on_train_epoch_end(trainer, SimpleNamespace(diverged=False))
    assert capsys.readouterr().out == "a run · epoch 9/12 · val ACC_end 0.500 · 30 s left · loss 1.000\n"
    assert told == [Standing(8, 12), Standing(9, 12, 0.5, left=30.0, curve=(0.5,))]
    trainer.callback_metrics["val/loss"], trainer.current_epoch = float("nan"), 9
    shown.on_train_epoch_end(trainer, SimpleNamespace(diverged=True))
    assert capsys.readouterr().out == "a run · epoch 10/12 · val ACC_end 0.500 · loss nan\n"
    assert told[2:] == []  # at once after the last word: the launcher may be busy
    now, shown.shown, trainer.callback_metrics["val/loss"] = now + 10, False, 1.0
    shown.on_train_epoch_end(trainer, SimpleNamespace(diverged=False))
    assert told[2:] and not capsys.readouterr().out  # trainer.progress=false: the launcher alone hears it


def test_a_job_that_has_nothing_to_say_says_that_it_is_at_work(monkeypatch, capsys):
    monkeypatch.setattr(standing, "SILENT", 0.4)
    monkeypatch.setattr(standing, "LOOK", 0.1)
    with standing.at_work("a run"):
        time.sleep(0.6)
        standing.tell(Standing(3, 10, 0.25))
        time.sleep(0.6)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"a run · at work for \d s", first)
    assert re.fullmatch(r"a run · epoch 3/10 · val ACC_end 0.250 · at work for \d s", last)
    monkeypatch.setattr(standing, "SILENT", 5)
    with standing.at_work("a run"):
        time.sleep(0.3)
    assert not capsys.readouterr().out
    assert str(Standing(3, 10, left=50.0).after(20)) == "epoch 3/10 · 30 s left"
    assert str(Standing(3, 10, 0.5, 9.0, (0.0, 0.3, 0.5))) == "epoch 3/10 · val ACC_end 0.500 ▁▃▅ · 9 s left"


def test_a_curve_is_drawn_in_ten_bars_at_most():
    assert standing.drawn([1.0]) == "█" and standing.drawn([-3.0, 0.0, 1.0, 7.0, math.nan]) == "▁▁██?"
    assert standing.drawn([0.0] * 50 + [0.99] * 50) == "▁" * 5 + "█" * 5
    assert standing.drawn([0.0] * 10 + [1.0]) == "▁" * 9 + "▅"


def test_a_damaged_checkpoint_is_said_and_the_run_starts_from_its_beginning(lab, runs, outputs, monkeypatch):
    cut_off(lab, monkeypatch, epoch=4)
    (checkpoint,) = outputs.glob("jobs/adhoc/*/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    code, out, _ = lab(*LONG)
    assert code == 0 and "checkpoint.pt cannot be read" in out
    found = runs("adhoc")
    assert found["epoch"].tolist() == [0, 1, 2, 3, 4, 5] and set(found["state"]) == {"finished"}


def test_a_damaged_mark_counts_as_none(lab, runs, outputs):
    assert lab(*SMOKE)[0] == 0
    (mark,) = outputs.glob("jobs/adhoc/*/done.json")
    record = records.Record(mark.parent)
    assert record.outcome
    for damage in (b"", b"{", b"[]", b'{"state": "finished", "what": 1}', bytes(20)):
        mark.write_bytes(damage)
        assert record.outcome is None
    assert lab(*SMOKE)[0] == 0
    found = runs("adhoc")
    assert found["epoch"].tolist() == [0, 1] and set(found["attempts"]) == {2}
    assert json.loads(mark.read_text())["state"] == "finished"


def test_a_journal_whose_last_line_was_cut_off_goes_on(lab, runs, outputs, monkeypatch):
    cut_off(lab, monkeypatch, epoch=4)
    (journal,) = outputs.glob("jobs/adhoc/*/journal.jsonl")
    with journal.open("a") as file:
        file.write('{"do": "metrics", "val')
    assert lab(*LONG)[0] == 0
    assert runs("adhoc")["epoch"].tolist() == [0, 1, 2, 3, 4, 5]


def test_what_follows_a_journal_that_lost_its_end_is_delivered(outputs, runs):
    """A power cut: what the journal held last is gone, though MLflow heard it."""
    run = begun(outputs)
    journal = run.record.journal.read_bytes()
    run.metrics({"val/loss": 0.5}, epoch=1)
    run.tag(more="words")
    run.record.journal.write_bytes(journal)
    with begun(outputs) as again:
        again.metrics({"val/loss": 0.5}, epoch=1)
    assert again.id == run.id
    found = runs("adhoc")
    assert found["epoch"].tolist() == [0, 1] and set(found["status"]) == {"FINISHED"} and set(found["attempts"]) == {2}


def test_a_run_that_stops_being_a_number_is_diverged_and_keeps_its_metrics(lab, runs):
    code, out, _ = lab(*SMOKE, "trainer.max_epochs=5", "-m", "lr=1e30,1e-3")
    assert code == 0 and "1 diverged, 1 finished" in out
    assert " · lr=1e+30 · diverged: a loss or a weight is no number any more · " in out
    by_lr = {lr: rows for lr, rows in runs("adhoc").groupby("lr")}
    assert set(by_lr[1e30]["state"]) == {"diverged"} and set(by_lr[1e30]["status"]) == {"FINISHED"}
    assert by_lr[1e30]["train/loss"].isna().all() and by_lr[1e30]["val/acc_end"].notna().all()
    assert len(by_lr[1e-3]) == 5
    code, out, _ = lab(*SMOKE, "trainer.max_epochs=5", "-m", "lr=1e30,1e-3")  # nothing is left to do
    assert "1 diverged, 1 finished" in out and runs("adhoc")["run_id"].nunique() == 2


FAILING = """
import random, numpy, torch
from pathlib import Path
from inn_lab.studies.train import train
def study(job):
    tries = Path("{tries}")
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if len(tries.read_text()) < 3: raise RuntimeError("not yet")
    return train(job)
"""


def test_retries_and_the_traceback(lab, runs, outputs, tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(FAILING.format(tries=tmp_path / "tries"))
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMOKE, "study._target_=failing.study", "-m", "seed=0"]
    code, out, _ = lab(*words, "hydra.launcher.retries=1")
    assert code == 1 and "failed: RuntimeError: not yet; once more" in out
    (failed,) = runs("adhoc")["run_id"]
    client = tracking.client(outputs)
    assert client.get_run(failed).info.status == "FAILED" and client.get_run(failed).data.tags["attempts"] == "2"
    trace = Path(client.download_artifacts(failed, "traceback.txt")).read_text()
    assert 'raise RuntimeError("not yet")' in trace
    assert lab(*words)[0] == 0
    assert set(runs("adhoc")["state"]) == {"finished"} and set(runs("adhoc")["run_id"]) == {failed}


def test_afresh_means_once_a_command_however_often_it_is_tried(lab, runs, tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(FAILING.format(tries=tmp_path / "tries"))
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMOKE, "study._target_=failing.study", "resume=false", "hydra.launcher.retries=2", "-m", "seed=0"]
    assert lab(*words)[0] == 0
    assert set(runs("adhoc")["attempts"]) == {3} and runs("adhoc")["run_id"].nunique() == 1
    assert lab(*words)[0] == 0
    assert sorted(runs("adhoc").groupby("run_id")["attempts"].first()) == [1, 3]


def test_fail_fast_ends_the_sweep(lab, runs, tmp_path, monkeypatch):
    (tmp_path / "roof.py").write_text("def study(job): raise RuntimeError('the roof is on fire')")
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMOKE, "study._target_=roof.study", "hydra.launcher.n_jobs=1", "hydra.launcher.fail_fast=true"]
    code, out, _ = lab(*words, "-m", "seed=0,1,2")
    assert code == 1 and "1 failed, 2 waiting" in out


# Faults of what lies around


def test_a_damaged_database_is_one_line_and_a_run_s_results_wait_for_another(lab, runs, outputs, capsys):
    outputs.mkdir()
    (outputs / "mlflow.db").write_bytes(b"no database" * 100)
    code, _, err = lab(*SMOKE)
    assert code == 2 and len(err.splitlines()) == 1 and "does not answer (file is not a database)" in err
    with begun(outputs) as run:
        assert run.id is None
        assert capsys.readouterr().out.count("does not answer (file is not a database)") == 1
        (outputs / "mlflow.db").unlink()
    assert runs("adhoc")["val/loss"].tolist() == [1.0]


@pytest.mark.slow  # MLflow waits 20 s for the lock, each time
def test_a_database_that_is_locked_does_not_stop_training(lab, runs, outputs, monkeypatch):
    """Another program holds the database while a run trains: what it logs waits on disk, and arrives with the next command."""
    from inn_lab.training.module import Training

    assert lab(*SMOKE, "seed=7")[0] == 0
    monkeypatch.setattr("inn_lab.tracking.run.PATIENCE", 1)
    other = sqlite3.connect(outputs / "mlflow.db")
    whole = Training.training_step

    def step(self, batches, index):
        if self.current_epoch == 1:
            other.execute("BEGIN EXCLUSIVE")
        whole(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", step)
        code, out, _ = lab(*SMOKE, "trainer.max_epochs=3")
    other.rollback()
    assert code == 0 and "does not answer" in out and "locked" in out
    found = runs("adhoc")[lambda f: f["seed"] == 0]
    assert found["epoch"].tolist() == [0] and set(found["status"]) == {"RUNNING"}
    assert lab(*SMOKE, "seed=7")[0] == 0  # any command delivers
    found = runs("adhoc")[lambda f: f["seed"] == 0]
    assert found["epoch"].tolist() == [0, 1, 2] and set(found["status"]) == {"FINISHED"} and found["test/acc_end"].notna().all()


def serve(port: int, folder: Path) -> None:
    """What `mlflow server` runs, in this process."""
    from mlflow import server
    from werkzeug.serving import make_server

    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder}/server.db"
    os.environ[server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = str(folder / "files")
    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    make_server("127.0.0.1", port, server.app, threaded=True).serve_forever()


@pytest.fixture
def server(tmp_path, empty_database, monkeypatch):
    """start(), stop() of an MLflow server of its own, and its address."""
    forks = multiprocessing.get_context("forkserver")  # the launcher's has MLflow imported; `mlflow server` takes 10 s
    forks.set_forkserver_preload(["inn_lab.preload"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where, running = f"http://127.0.0.1:{port}", []
    shutil.copyfile(empty_database, tmp_path / "server.db")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")

    def begin() -> None:
        running.append(forks.Process(target=serve, args=(port, tmp_path), daemon=True))
        running[-1].start()
        until = time.time() + 90
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{where}/health").close()
                return
            assert time.time() < until and running[-1].is_alive()
            time.sleep(0.1)

    def end() -> None:
        if running:
            process = running.pop()
            process.kill()
            process.join()

    yield begin, end, where
    end()


@PROC
def test_a_server_that_goes_away_and_comes_back(lab, runs, outputs, server, monkeypatch, capsys):
    begin, end, where = server
    monkeypatch.setattr("inn_lab.tracking.run.PATIENCE", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where.replace("//", "//me:secret@"))
    code, _, err = lab(*SMOKE)
    assert code == 2 and len(err.splitlines()) == 1 and f"MLflow at {where} does not answer" in err
    begin()
    from inn_lab.training.module import Training

    whole = Training.training_step

    def step(self, batches, index):
        if self.current_epoch == 1:
            end()
        whole(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", step)
        code, out, _ = lab(*SMOKE, "trainer.max_epochs=3")
    assert code == 0 and "does not answer" in out
    begin()
    assert set(runs("adhoc")["status"]) == {"RUNNING"}
    tracking.recover(outputs)
    found = runs("adhoc")
    assert found["epoch"].tolist() == [0, 1, 2] and set(found["status"]) == {"FINISHED"}
    files = {file.path for file in tracking.client(outputs).list_artifacts(found["run_id"][0])}
    assert files == {"config.yaml", "confusion.csv", "confusion.png", "weight_space.png", "weights.safetensors"}
    (outputs / "jobs").rename(outputs / "away")  # the network is loaded from the server
    assert inn_lab.load(found["run_id"][0]).evaluate()["test/loss"] == found["test/loss"][0]
    (outputs / "away").rename(outputs / "jobs")

    with begun(outputs) as run:  # what a server refuses, and what it takes
        run.metrics({"val/acc_end": 0.5, "nan": math.nan, "grad norm (L2)": 2.0}, epoch=0)
        run.tag(note="n" * 9000)
    with begun(outputs):
        pass
    told, out = tracking.client(outputs).get_run(run.id), capsys.readouterr().out
    assert told.info.status == "FINISHED" and told.data.tags["state"] == "finished" and told.data.tags["note"].startswith("nn")
    assert told.data.metrics.keys() == {"val/loss", "val/acc_end", "nan"} and math.isnan(told.data.metrics["nan"])
    assert f"MLflow at {where} refuses the metric grad norm (L2) (" in out and out.count("refuses") == 1
    assert not any(b"secret" in path.read_bytes() for path in outputs.rglob("*") if path.is_file())


def test_outputs_that_cannot_be_written_are_one_line(lab, outputs):
    outputs.write_text("")
    for arguments in ([*SMOKE], [*SMOKE, "-m", "seed=0,1"]):
        code, _, err = lab(*arguments)
        assert code == 2 and err.startswith("inn_lab: outputs cannot be written") and len(err.splitlines()) == 1, err


@pytest.mark.slow
def test_a_full_disk_is_a_clear_end_and_what_was_there_stays(tmp_path):
    """No file may grow beyond 8 kB, as the database's log and the checkpoints would. With room again, it goes on."""
    assert run(tmp_path, *SMOKE)[0] == 0
    before = measured(tmp_path)
    arguments = [*SMOKE, "trainer.max_epochs=4", "trainer.checkpoint_s=0"]
    code = "import sys; from inn_lab.tracking import run; run.PATIENCE = 1; from inn_lab.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "INN_LAB_OUTPUTS": str(tmp_path)}, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)),
    )  # fmt: skip
    assert done.returncode in (1, 2) and "File too large" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    code, out = run(tmp_path, *arguments)
    assert code == 0, out
    after = tracking.read(tmp_path, "adhoc")
    assert after["state"].eq("finished").all() and sorted(after.groupby("run_id").size()) == [2, 4]
    kept = after[after["trainer.max_epochs"] == 2].set_index(["R", "seed", "epoch"])[MEASURED].sort_index()
    pd.testing.assert_frame_equal(kept, before, check_exact=True)


@pytest.mark.slow
def test_eight_jobs_at_once_on_a_database_that_is_not_there_yet(tmp_path):
    words = [*SMOKE, "trainer.max_epochs=50", "hydra.launcher.n_jobs=8", "-m", "seed=range(0,8)"]
    code, out = run(tmp_path, *words)
    assert code == 0 and "8 finished" in out, out
    found = tracking.read(tmp_path, "adhoc")
    assert len(found) == 8 * 50 and found[MEASURED].notna().all().all()


def test_a_signal_waits_until_mlflow_has_heard_an_entry():
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    heard = []
    try:
        signals.listen()
        with pytest.raises(signals.Interrupted, match="SIGTERM"), signals.held():
            with signals.held():
                signal.raise_signal(signal.SIGTERM)
                heard.append("inner")
            heard.append("outer")
        with signals.held():
            heard.append("no signal")
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    assert heard == ["inner", "outer", "no signal"]

"""Between a record and MLflow: what is refused, what is new, what is damaged, and what nobody may read."""

import contextlib
import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMOKE
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from omegaconf import OmegaConf

from experiments import __main__ as reports
from inn_lab import again, doctor, records, tracking, ui
from inn_lab.errors import ConfigError
from inn_lab.identity import Code
from inn_lab.seeding import put_random_states, random_states
from inn_lab.tracking import journal, store

CODE = Code("a", "a")


def begun(outputs: Path, identity: str = "abc") -> tracking.Run:
    record = again.record_of(outputs, "adhoc", identity, resume=True, code=CODE)
    return tracking.Run(record, outputs, "adhoc", "a run", {"job": "0"})


def in_mlflow(outputs: Path, run: tracking.Run) -> MlflowRun:
    return tracking.client(outputs).get_run(run.id)


# What MLflow shows of a run


def test_a_run_says_who_started_it_by_which_command_on_which_data(lab, outputs, runs):
    """In MLflow's own tags and inputs; and its sizes are params, of which MLflow draws no charts."""
    assert lab(*SMOKE, "trainer.max_epochs=1")[0] == 0
    (run_id,) = runs("adhoc")["run_id"]
    (kept,) = (outputs / "data").iterdir()
    for emptied_database in (False, True):
        if emptied_database:  # what waits on disk says the same
            emptied(outputs)
            assert lab(*SMOKE, "trainer.max_epochs=1")[0] == 0
            (run_id,) = runs("adhoc")["run_id"]
        found = tracking.client(outputs).get_run(run_id)
        assert found.data.tags["mlflow.source.name"] == f"python -m inn_lab {' '.join(SMOKE)} trainer.max_epochs=1"
        assert found.data.tags["mlflow.source.type"] == "LOCAL" and found.data.tags["mlflow.user"] == tracking.user()
        (used,) = found.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("random_anomaly/digits", kept.name)
        assert found.data.params["model/weights"] == "4000" and not [key for key in found.data.metrics if "model/" in key]
        assert runs("adhoc")["model/weights"].tolist() == [4000]


def test_sizes_of_old_runs_and_new_ones_are_one_column_of_numbers(outputs):
    with begun(outputs, "old") as old:
        old.metrics({"model/density": 0.25, "graph/diameter": float("nan")})
    for _ in range(2):  # an attempt that goes on says it no second time
        with begun(outputs, "new") as new:
            new.sizes({"model/density": 0.1, "graph/diameter": float("nan")})
    found = tracking.read(outputs, "adhoc").set_index("run_id")
    assert found["model/density"].to_dict() == {old.id: 0.25, new.id: 0.1} and found["graph/diameter"].isna().all()
    assert new.record.journal.read_text().count("model/density") == 1


def test_two_jobs_that_name_new_data_at_once_both_have_it(outputs, capsys, monkeypatch):
    """Both make it; the database takes one, and the other asks again."""
    whole, late = MlflowClient.log_inputs, [MlflowException("UNIQUE constraint failed", codes.BAD_REQUEST)]

    def log_inputs(*arguments):
        if late:
            raise late.pop()
        return whole(*arguments)

    monkeypatch.setattr(MlflowClient, "log_inputs", log_inputs)
    with begun(outputs) as run:
        run.data("random_anomaly/digits", "0123", "inn_lab.data.RandomAnomaly")
    (used,) = in_mlflow(outputs, run).inputs.dataset_inputs
    assert used.dataset.digest == "0123" and capsys.readouterr().out == ""


@pytest.mark.parametrize("content", ["", 'a,b\n"1'])
def test_a_table_that_cannot_be_read_is_one_line(outputs, content):
    with begun(outputs) as run:
        run.file("probe.csv", lambda path: path.write_text(content))
    with pytest.raises(ConfigError, match=f"^probe.csv of run {run.id} cannot be read"):
        tracking.table(outputs, [run.id], "probe.csv")


def test_a_user_without_a_name_is_a_number(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: {}["no such uid"])
    assert tracking.user() == str(os.getuid())


# What MLflow refuses


def test_what_mlflow_refuses_is_named_and_takes_nothing_with_it(outputs, capsys):
    with begun(outputs) as run:
        for epoch in (0, 1):
            run.metrics({"a": 1.0, "grad norm (L2)": 2.0, **{f"m{i}": float(i) for i in range(8)}}, epoch)
        run.tag(**{"good": "1", "bad|": "2"})
        run.metrics({"later": 3.0})
    found, out = in_mlflow(outputs, run), capsys.readouterr().out
    assert found.info.status == "FINISHED" and found.data.tags["state"] == "finished"
    assert found.data.metrics == {"a": 1.0, **{f"m{i}": float(i) for i in range(8)}, "later": 3.0}
    assert found.data.tags["good"] == "1" and found.data.tags["refused"] == "metric grad norm (L2); tag bad|"
    assert len(out.splitlines()) == 2 and "refuses the metric grad norm (L2) (Invalid value" in out  # once for two epochs
    assert str(run.record.folder) in out and "grad norm (L2)" in run.record.journal.read_text()
    assert json.loads(run.record.delivered.read_text())["refused"] == ["metric grad norm (L2)", "tag bad|"]
    assert not run.record.pending.exists()
    with begun(outputs) as again:  # what was refused once is not said again
        again.metrics({"grad norm (L2)": 2.0}, epoch=2)
    assert capsys.readouterr().out == ""


def test_of_many_params_the_one_that_is_refused_is_left_out(outputs, capsys):
    """One that is too long a name, one that was another value before, and a value that is as long as it likes."""
    with begun(outputs) as run:
        run._write("params", values={"a": "1"}, text="")
        values = {"a": "2", "k" * 300: "1", "long": "x" * 9000, **{f"p{i}": str(i) for i in range(150)}}
        run._write("params", values=values, text="a: 2")
    params, out = in_mlflow(outputs, run).data.params, capsys.readouterr().out
    assert params["a"] == "1" and params["long"].startswith("x") and all(params[f"p{i}"] == str(i) for i in range(150))
    assert "refuses the param a (Changing param values is not allowed" in out and f"the param {'k' * 300} (" in out
    assert in_mlflow(outputs, run).info.status == "FINISHED"


def test_values_that_are_no_numbers_long_names_and_broken_text_arrive(outputs, capsys):
    record = again.record_of(outputs, "adhoc", "abc", resume=True, code=CODE)
    with tracking.Run(record, outputs, "adhoc", "n" * 400, {"job": "0", "nobody": None}) as run:
        run.metrics({"nan": float("nan"), "inf": float("inf")})
        run.tag(text="caf\udce9 é", long="t" * 9000)
    found = in_mlflow(outputs, run)
    assert found.info.run_name == "n" * 250 and "nobody" not in found.data.tags
    assert np.isnan(found.data.metrics["nan"]) and found.data.metrics["inf"] > 1e300
    assert found.data.tags["text"] == "caf? é" and found.data.tags["long"].startswith("ttt")
    assert found.info.status == "FINISHED" and "refuses" not in capsys.readouterr().out


def test_a_file_that_is_gone_stops_nothing(outputs, capsys):
    run = begun(outputs)
    run._journal._quiet_until = time.monotonic() + 60
    run.file("words.txt", lambda path: path.write_text("words"))
    (run.record.folder / "files/words.txt").unlink()
    run.end("FINISHED", "finished")
    assert in_mlflow(outputs, run).info.status == "FINISHED"
    assert "refuses the file words.txt" in capsys.readouterr().out


def test_a_run_that_mlflow_refuses_ends_as_it_ended_and_waits_on_disk(outputs, capsys, monkeypatch):
    def refuse(*_, **__):
        raise MlflowException("no more runs here", codes.INVALID_PARAMETER_VALUE)

    tracking.experiment_id(outputs, "adhoc")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", refuse)
        start = time.monotonic()
        with begun(outputs) as run:
            run.metrics({"val/loss": 1.0})
        assert time.monotonic() - start < 10  # there is nothing to wait for
    assert run.outcome.state == "finished" and run.id is None and run.record.pending.exists()
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 and "refuses this run (no more runs here)" in out
    tracking.recover(outputs)
    assert tracking.read(outputs, "adhoc")[["state", "val/loss"]].values.tolist() == [["finished", 1.0]]


def test_a_run_that_is_deleted_while_it_runs_ends_as_it_ended(outputs, capsys):
    with begun(outputs) as run:
        tracking.client(outputs).delete_run(run.id)
        run.metrics({"val/loss": 1.0})
        run.metrics({"val/loss": 0.5}, epoch=1)
    out = capsys.readouterr().out
    assert run.outcome.state == "finished" and len(out.splitlines()) == 1 and "refuses this run" in out
    tracking.recover(outputs)
    assert not run.record.pending.exists() and capsys.readouterr().out == ""


def test_what_is_no_answer_is_no_refusal():
    damaged = MlflowException("(sqlite3.DatabaseError) database disk image is malformed", codes.BAD_REQUEST)
    too_long = MlflowException("(psycopg2.errors.StringDataRightTruncation) value too long", codes.BAD_REQUEST)
    locked = MlflowException("(sqlite3.OperationalError) database is locked", codes.TEMPORARILY_UNAVAILABLE)
    assert store.refused(too_long) and not store.refused(damaged) and not store.refused(locked)
    for code in (codes.INTERNAL_ERROR, codes.PERMISSION_DENIED, codes.REQUEST_LIMIT_EXCEEDED, codes.ENDPOINT_NOT_FOUND):
        assert not store.refused(MlflowException("", code))
    assert not store.refused(ConnectionError()) and not store.refused(ConfigError("a line"))


# Another MLflow, and a new one


def emptied(outputs: Path) -> None:
    """As if the database had been removed and made again; that file itself is open in this process."""
    with contextlib.closing(sqlite3.connect(outputs / "mlflow.db")) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if table != "alembic_version":
                connection.execute(f"DELETE FROM {table}")
        connection.commit()


def test_a_new_database_is_told_of_what_is_done(lab, runs, outputs):
    assert lab(*SMOKE)[0] == 0
    expected = runs("adhoc").drop(columns="run_id")
    emptied(outputs)
    code, out, _ = lab(*SMOKE)
    (record,) = (outputs / "jobs/adhoc").iterdir()
    assert code == 0 and f"MLflow at {tracking.uri(outputs)} has not heard of {record}; it is told now\n" in out
    pd.testing.assert_frame_equal(runs("adhoc").drop(columns="run_id"), expected, check_exact=True)  # told, not run again
    assert f"MLflow at {tracking.uri(outputs)} has no adhoc yet: it is told what {outputs}/jobs/adhoc holds\n" in out
    assert "MLflow at" not in lab(*SMOKE)[1]


def test_in_a_new_database_a_job_that_is_done_has_the_sweep_s_new_run_as_its_parent(outputs, capsys):
    folder = outputs / "sweeps/now"
    folder.mkdir(parents=True)
    hydra = {"overrides": {"task": ["R=0.1"]}, "runtime": {"choices": {}}, "sweep": {"dir": str(folder)}}
    cfg = OmegaConf.create({"outputs": str(outputs), "resume": True, "hydra": hydra})
    record = again.record_of(outputs, "adhoc", "abc", resume=True, code=CODE)
    with tracking.sweep(cfg, again.record_of(outputs, "adhoc", "sweep-abc", True, CODE), CODE, 1):
        tags = {"job": "0", tracking.PARENT: tracking.parent(folder)["run_id"]}
        with tracking.Run(record, outputs, "adhoc", "a run", tags):
            pass
    emptied(outputs)
    with tracking.sweep(cfg, again.record_of(outputs, "adhoc", "sweep-abc", True, CODE), CODE, 1) as sweep:
        tracking.take_over(outputs, record, {tracking.PARENT: tracking.parent(folder)["run_id"]})
    children = tracking.client(outputs).search_runs([tracking.experiment_id(outputs, "adhoc")], "tags.job = '0'")
    assert [run.data.tags[tracking.PARENT] for run in children] == [sweep.id]
    assert capsys.readouterr().out.count("it is told now") == 2  # once for the sweep, once for its job


def test_a_run_that_was_cut_off_goes_on_in_a_new_database(outputs, capsys):
    run = begun(outputs)
    run.metrics({"val/loss": 1.0})
    emptied(outputs)
    with begun(outputs) as again:
        again.metrics({"val/loss": 0.5}, epoch=1)
    assert again.id != run.id and again.record.folder == run.record.folder
    assert capsys.readouterr().out.count("has not heard of") == 1
    assert tracking.read(outputs, "adhoc")["val/loss"].tolist() == [1.0, 0.5]


def test_how_an_earlier_attempt_ended_is_no_longer_said(outputs):
    with pytest.raises(KeyboardInterrupt), begun(outputs):
        raise KeyboardInterrupt
    assert tracking.read(outputs, "adhoc")["reason"].notna().all()
    run = begun(outputs)
    assert not {"reason", "state"} & in_mlflow(outputs, run).data.tags.keys()
    run.end("FINISHED", "finished")
    emptied(outputs)  # another MLflow hears it as it is
    tracking.take_over(outputs, run.record, {})
    found = tracking.read(outputs, "adhoc")
    assert found["state"].tolist() == ["finished"] and "reason" not in found


# Processes that begin at once


@pytest.mark.slow
def test_processes_that_make_the_database_and_an_experiment_at_once_agree(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["inn_lab.preload"])
    with processes.Pool(4) as pool:
        ids = pool.starmap(tracking.experiment_id, [(str(tmp_path), "new")] * 4, chunksize=1)
    assert len(set(ids)) == 1
    assert tracking.client(tmp_path).get_experiment(ids[0]).name == "new"


def test_an_experiment_that_another_process_makes_first_is_used(outputs, monkeypatch):
    whole = MlflowClient.create_experiment

    def create(client, name, **more):
        whole(client, name, **more)
        return whole(client, name, **more)

    monkeypatch.setattr(MlflowClient, "create_experiment", create)
    where = tracking.experiment_id(outputs, "new")
    assert tracking.client(outputs).get_experiment(where).name == "new"


@pytest.mark.slow
def test_two_sweeps_that_begin_at_once_in_an_empty_folder_both_end_whole(tmp_path):
    environment = {**os.environ, "INN_LAB_OUTPUTS": str(tmp_path / "new")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    sweep = [sys.executable, "-m", "inn_lab", *SMOKE, "-m"]
    at_once = [subprocess.Popen([*sweep, seeds], **pipes) for seeds in ("seed=0,1", "seed=1,2")]
    ended = [process.communicate(timeout=300)[0] for process in at_once]
    assert [process.returncode for process in at_once] == [0, 0], ended
    found = tracking.read(tmp_path / "new", "adhoc")
    assert sorted(found.groupby("run_id")["seed"].first()) == [0, 1, 2] and set(found["state"]) == {"finished"}


# Reading makes nothing


def test_a_report_and_the_doctor_make_no_database(outputs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments", "recency", "--outputs", str(outputs)])
    with pytest.raises(SystemExit) as stopped:
        reports.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and len(said.splitlines()) == 1
    assert said.startswith(f"experiments: no runs of recency in {tracking.uri(outputs)}")
    assert doctor.main() == 0 and "no database yet; the first run makes" in capsys.readouterr().out
    assert not outputs.exists()


def test_a_report_on_a_run_that_has_not_ended_is_one_line(outputs, monkeypatch, capsys):
    record = again.record_of(outputs, "recency", "abc", resume=True, code=CODE)
    tracking.Run(record, outputs, "recency", "a run", {"job": "0"}).metrics({"val/loss": 1.0})
    monkeypatch.setattr(sys, "argv", ["experiments", "recency", "--outputs", str(outputs)])
    with pytest.raises(SystemExit) as stopped:
        reports.main()
    assert stopped.value.code == 2 and capsys.readouterr().err == "experiments: no such run has finished yet\n"


def test_a_report_from_an_mlflow_that_does_not_answer_is_one_line(outputs, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", ["experiments", "recency", "--outputs", str(outputs)])
    with pytest.raises(SystemExit) as stopped:
        reports.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and len(said.splitlines()) == 1 and "MLflow at http://127.0.0.1:9 does not answer" in said


# Damage


@pytest.mark.parametrize("damage", [b"5", b"[]", b"{}", b"{", b"\0" * 40, b"\xff\xfe", b""])
def test_what_is_no_entry(damage):
    assert journal._entry(damage) is None


@pytest.mark.parametrize("line, damage", [(0, b"5"), (1, b"\0" * 40), (2, b"{")])
def test_a_damaged_line_costs_no_other(outputs, capsys, line, damage):
    run = begun(outputs)
    for epoch in (0, 1):
        run.metrics({"val/loss": float(epoch)}, epoch)
    path = run.record.journal
    lines = path.read_bytes().splitlines()
    before = b"\n".join([*lines[:line], damage, *lines[line + 1 :], b'{"cut o'])
    path.write_bytes(before)
    tracking.recover(outputs)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 and out.startswith(f"{path}: damaged lines are left out, ")
    assert path.with_suffix(".damaged").read_bytes() == before
    kept = [float(epoch) for epoch in (0, 1) if epoch + 1 != line]
    assert [point.value for point in tracking.client(outputs).get_metric_history(run.id, "val/loss")] == [0.0, 1.0]
    emptied(outputs)
    with begun(outputs) as again:  # and no line about it any more
        pass
    assert "damaged lines" not in capsys.readouterr().out
    assert [point.value for point in tracking.client(outputs).get_metric_history(again.id, "val/loss")] == kept
    assert in_mlflow(outputs, again).info.status == "FINISHED"


def test_a_last_line_without_its_end_is_kept(outputs, capsys):
    run = begun(outputs)
    run.metrics({"val/loss": 1.0})
    run.record.journal.write_bytes(run.record.journal.read_bytes().rstrip(b"\n"))
    with begun(outputs) as again:
        again.metrics({"val/loss": 0.5}, epoch=1)
    assert tracking.read(outputs, "adhoc")["val/loss"].tolist() == [1.0, 0.5] and capsys.readouterr().out == ""


@pytest.mark.parametrize("there", [0, 1, 3])
def test_of_the_random_states_of_gpus_those_are_put_back_that_have_one(monkeypatch, there):
    states, put = {**random_states(), "cuda": [torch.ByteTensor([1]), torch.ByteTensor([2])]}, {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, number: put.update({number: state.item()}))
    put_random_states(states)
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    put_random_states(states)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())
    assert put == {number: number + 1 for number in range(min(there, 2))}


MOUNTS = """\
overlay / overlay rw 0 0
server:/data /data nfs4 rw 0 0
/dev/sda1 /data/local ext4 rw 0 0
weka /my\\040data wekafs rw 0 0
systemd-1 /auto autofs rw 0 0
/dev/sdb1 /auto xfs rw 0 0
you@host: /home/you/there fuse.rclone rw 0 0
"""


@pytest.mark.parametrize(
    "path, local",
    [
        ("/outputs", True), ("/data/outputs", False), ("/data/local/outputs", True), ("/my data/outputs", False),
        ("/auto/outputs", True), ("/home/you/there/outputs", False), ("/database/outputs", True),
    ],
)  # fmt: skip
def test_only_file_systems_known_to_be_this_machine_s_get_a_write_ahead_log(monkeypatch, path, local):
    monkeypatch.setattr(store.Path, "read_text", lambda *_, **__: MOUNTS)
    assert store._on_a_local_disk(Path(path) / "mlflow.db") is local


# Passwords


@given(
    user=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/@:")),
    password=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/")),
)
def test_no_name_and_no_password_stands_in_an_address(user, password):
    assert store.without_password(f"at http://{user}:{password}@host:5000/path, twice") == "at http://host:5000/path, twice"


def test_what_is_no_password_stays():
    for text in ("sqlite:////home/a@b/mlflow.db", "http://host/a@b", "mail a@b"):
        assert store.without_password(text) == text


def test_a_password_is_not_printed(lab, outputs, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    code, out, err = lab(*SMOKE)
    assert code == 2 and "MLflow at http://127.0.0.1:9 does not answer" in err
    doctor.main()
    with pytest.raises(SystemExit, match="2"):
        ui.main()
    said = out + err + "".join(capsys.readouterr())
    assert said.count("MLflow at http://127.0.0.1:9 does not answer") == 3 and "secret" not in said and "me:" not in said


def test_a_password_is_not_stored_and_another_one_is_the_same_mlflow(outputs, monkeypatch):
    begun(outputs)
    (delivered,) = outputs.glob("jobs/*/*/delivered.json")
    state = json.loads(delivered.read_text())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host")
    assert store.place(outputs) == "http://host"
    for stored in ("http://host", "http://me:secret@host", "http://you:other@host"):
        delivered.write_text(json.dumps({**state, "uri": stored}))
        assert journal.Journal(records.Record(delivered.parent), outputs, "adhoc").run_id == state["run_id"]

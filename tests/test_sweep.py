"""Sweeps: which jobs they have, what MLflow holds afterwards, and that seeds mean what they say."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import SMOKE
from hydra.core.override_parser.overrides_parser import OverridesParser

from hydra_plugins.inn_lab_grid.sweeper import combine
from inn_lab import tracking

GRIDS = [
    {"model": "model=inn", "n_weights": "n_weights=100,50", "R": "R=0.1,0.2,0.4"},
    {"model": "model=lstm", "n_weights": "n_weights=130"},
]


def jobs(*arguments: str) -> list[str]:
    return [" ".join(job) for job in combine(GRIDS, list(arguments), OverridesParser.create())]


def test_with_m_alone_the_grids_are_run():
    assert len(jobs("experiment=x")) == 7
    assert jobs("experiment=x")[0] == "model=inn n_weights=100 R=0.1 experiment=x"
    assert jobs("experiment=x")[-1] == "model=lstm n_weights=130 experiment=x"


def test_a_sweep_on_the_command_line_takes_the_place_of_the_grids():
    assert jobs("experiment=x", "R=0.3,0.5") == ["experiment=x R=0.3", "experiment=x R=0.5"]


def test_a_sweep_over_seeds_repeats_the_grids():
    assert len(jobs("seed=0,1,2")) == 21
    assert len(set(jobs("seed=range(0,3)"))) == 21


def test_a_single_value_fixes_its_axis_and_drops_a_grid_fixed_at_another():
    assert jobs("n_weights=100") == [
        "model=inn n_weights=100 R=0.1",
        "model=inn n_weights=100 R=0.2",
        "model=inn n_weights=100 R=0.4",
    ]
    assert jobs("model=lstm") == ["model=lstm n_weights=130"]
    assert len(jobs("lr=1")) == 7


def test_no_job_stands_there_twice():
    assert jobs("R=0.1,0.1,0.2") == ["R=0.1", "R=0.2"]


def test_an_interval_is_no_list(lab):
    code, _, err = lab(*SMOKE, "-m", "R=interval(0,1)")
    assert code == 2 and "an interval is no list of values" in err


def test_a_sweep_is_a_parent_run_with_its_jobs_as_children(lab, runs, outputs):
    code, out, _ = lab("experiment=sparsity_fixed_params", *SMOKE, "-m", "n_weights=100000,200000,10")
    assert code == 0
    assert "1 of the 3 jobs cannot be defined" in out and "2 finished, 1 undefined" in out
    found = runs("sparsity_fixed_params")
    by_job = found.groupby("job").last()
    assert list(by_job["state"]) == ["finished", "finished", "undefined"]
    assert set(by_job["status"]) == {"FINISHED"}
    assert "cannot be defined" in by_job["reason"][2]
    (log,) = outputs.glob("sweeps/*/2/output.log")
    assert log.read_text().startswith("job 2 ")  # as the launcher calls it
    assert set(found["source"]) == {"digits"} and set(found["scale"]) == {"smoke"}
    assert set(by_job["device"][:2]) == {"cpu"} or by_job["device"][:2].str.startswith("cuda").all()
    for column in ("val/acc_end", "val/acc_seq", "val/loss", "train/loss", "time/epoch_s", "test/acc_end", "model/depth"):
        assert found[found["state"] == "finished"][column].notna().all(), column
    assert list(by_job["model/weights"][:2]) == [4000, 8000]
    assert list(found[found["job"] == 0]["epoch"]) == [0, 1]

    client = tracking.client(outputs)
    (experiment,) = [e for e in client.search_experiments() if e.name == "sparsity_fixed_params"]
    everything = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in everything if "jobs" in run.data.tags]
    children = [run for run in everything if run is not parent]
    assert parent.info.status == "FINISHED" and parent.data.tags["jobs"] == "3"
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["sweep"] for run in everything} == {parent.data.tags["sweep"]}
    finished = next(run for run in children if run.data.tags["job"] == "0")
    assert {file.path for file in client.list_artifacts(finished.info.run_id)} == {
        "config.yaml",
        "confusion.csv",
        "confusion.png",
    }
    assert finished.data.params["model.R"] == "0.2" and finished.data.params["trainer.max_epochs"] == "2"
    assert len(finished.data.tags["commit"]) >= 7


def test_a_sweep_of_which_nothing_can_be_defined_is_a_mistake(lab, runs):
    code, _, err = lab(*SMOKE, "-m", "n_weights=1,2")
    assert code == 2 and err.startswith("inn_lab: none of the 2 jobs can be defined; nothing was run\n  job 0 ")
    assert runs("adhoc").empty


def test_every_job_is_checked_before_the_first_one_starts(lab, runs):
    code, _, err = lab(*SMOKE, "-m", "R=0.1,2.0,much", "data.batch_size=32,0")
    assert code == 2 and err.startswith("inn_lab: 5 of the 6 jobs are not valid; nothing was run\n")
    assert "job 1 " in err and "data.batch_size=0: at least 1; e.g. data.batch_size=32" in err
    assert "job 2 " in err and "R=2.0: a density lies in (0, 1]" in err and "job 4 " in err and "Value 'much'" in err
    assert runs("adhoc").empty


def test_a_job_that_fails_leaves_the_others(lab, runs, tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text(
        "from inn_lab.studies.train import train\n"
        "def study(job):\n"
        "    if job.cfg.seed == 0: raise RuntimeError('the roof is on fire')\n"
        "    train(job)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = lab(*SMOKE, "study._target_=crashing.study", "-m", "seed=0,1")
    assert code == 1 and "1 failed, 1 finished" in out and "RuntimeError: the roof is on fire" in out
    states = runs("adhoc").groupby("job").last()
    assert list(states["state"]) == ["failed", "finished"] and list(states["status"]) == ["FAILED", "FINISHED"]
    assert states["reason"][0] == "RuntimeError: the roof is on fire"


def test_the_same_command_gives_the_same_numbers_bit_for_bit(lab, runs):
    metrics = ["train/loss", "val/loss", "val/acc_end", "val/acc_seq", "test/loss", "test/acc_end"]
    for seed in ("0", "0", "1"):
        assert lab(*SMOKE, "R=0.2", f"seed={seed}", "resume=false")[0] == 0
    first, again, other = (part[metrics].to_numpy() for _, part in sorted(runs("adhoc").groupby("start")))
    assert (first == again).all()
    assert (first[:, [0, 1, 4]] != other[:, [0, 1, 4]]).all()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_leaves_nothing_running(outputs, runs, signum):
    command = [sys.executable, "-m", "inn_lab", "source=digits", "scale=smoke", "trainer.max_epochs=100000", "-m", "seed=0,1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    try:
        deadline = time.time() + 120
        while not ((outputs / "mlflow.db").exists() and "val/loss" in runs("adhoc")):
            assert time.time() < deadline and process.poll() is None
            time.sleep(0.3)
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signum
    assert err.strip().splitlines()[-1] == f"inn_lab: stopped by {signum.name}; the same command goes on from here"
    client = tracking.client(outputs)
    ended = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(ended) == 3  # the sweep and its two jobs
    assert {run.info.status for run in ended} == {"KILLED"}

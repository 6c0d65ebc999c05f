"""Sweeps on SLURM: on one that is none (`tests/slurm/fake`), and on a real one (`tests/slurm/start.sh`; `pytest -m slurm`)."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import SMOKE
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from test_search import LOSS, RATES, SEARCH, trials
from test_survive import everything, measured, run, start

pytest.importorskip("submitit", reason="hydra-submitit-launcher is not installed")

from hydra_plugins.inn_lab_local import launcher
from hydra_plugins.inn_lab_slurm.launcher import SlurmLauncher, squeue_watcher, where
from inn_lab import tracking
from inn_lab.data import sources

ON_SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
A_MINUTE = [*SMOKE, "trainer=cpu", "trainer.progress=false", "trainer.max_epochs=500", "trainer.checkpoint_s=2"]
JOBS = ["-m", "R=0.1,0.2", "seed=0,1"]


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch) -> Path:
    """The folder of a SLURM that is none: `tests/slurm/fake` runs the jobs on this machine."""
    (tmp_path / "slurm").mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    monkeypatch.setenv("PATH", f"{Path(__file__).parent / 'slurm/fake'}:{os.environ['PATH']}")
    return tmp_path / "slurm"


PREEMPTED = """
import os, signal
from pathlib import Path
def study(job):
    first = not Path("{there}").exists()
    Path("{there}").touch()
    if first: os.kill(os.getpid(), signal.SIGUSR2)
    job.run.metrics({{"test/acc_end": 0.5}})
"""


def test_a_job_that_slurm_starts_again_goes_on_with_its_record_also_if_all_begin_afresh(
    lab, outputs, tmp_path, fake_slurm, monkeypatch
):
    (tmp_path / "preempted.py").write_text(PREEMPTED.format(there=tmp_path / "there"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    words = [*SMOKE, "study._target_=preempted.study", "hydra/launcher=slurm", "resume=false", "-m", "R=0.2"]
    code, out, _ = lab(*words)
    assert code == 0 and "1 finished" in out, out + (fake_slurm / "log").read_text()
    (job,) = [run for run in everything(outputs) if "job" in run.data.tags]
    assert job.data.tags["attempts"] == "2" and job.data.tags["state"] == "finished"
    assert "#SBATCH --exclusive" not in (fake_slurm / "script").read_text()


@pytest.mark.slow
def test_a_search_on_slurm_prunes_as_on_one_machine(lab, outputs, fake_slurm):
    """Two arrays: five trials, then the one that learns nothing."""
    code, out, err = lab(*SEARCH, *LOSS, *RATES, "hydra.sweeper.n_jobs=5", *ON_SLURM, "trainer=cpu")
    assert code == 0, out + err + (fake_slurm / "log").read_text()
    assert [trial[:2] for trial in trials(outputs)] == [*((number, "COMPLETE") for number in range(5)), (5, "PRUNED")]
    ended = tracking.read(outputs, "adhoc").groupby("lr")["state"].last()
    assert ended.pop(1e-9) == "pruned" and set(ended) == {"finished"}


def test_a_job_that_takes_times_asks_slurm_for_a_node_and_what_sbatch_refuses_is_one_line(lab, fake_slurm):
    words = [*SMOKE, "study=time_step", "hydra/launcher=slurm", "hydra.launcher.partition=nowhere", "-m", "seed=0,1"]
    code, _, err = lab(*words)
    assert code == 2 and err.splitlines()[-1] == (
        "inn_lab: hydra/launcher=slurm: sbatch refuses the jobs: sbatch: error: invalid partition specified: nowhere"
    )
    assert "#SBATCH --exclusive\n" in (fake_slurm / "script").read_text()


def test_of_jobs_that_run_slurm_s_launcher_says_where_they_stand(fake_slurm, tmp_path, capsys):
    told = where(str(tmp_path), 1)
    told.parent.mkdir()
    told.write_text("epoch 3/10 · val ACC_end 0.250 · 7 s left")
    (fake_slurm / "running").mkdir()
    for job in ("1_0", "1_1"):
        (fake_slurm / "running" / job).touch()
    watcher = squeue_watcher(str(tmp_path), ["R=0.1", "R=0.2", "R=0.4"])
    for number in range(3):
        watcher.register_job(f"1_{number}")
    watcher.update()
    assert capsys.readouterr().out == (
        "SLURM: 2 running, 1 ended\n  job 1 · R=0.2 · epoch 3/10 · val ACC_end 0.250 · 7 s left\n"
    )
    watcher.update()
    assert not capsys.readouterr().out  # nothing has changed


def test_without_its_package_the_launcher_for_slurm_says_what_to_install(lab, monkeypatch):
    Plugins.instance()
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "submitit_slurm.yaml")
    code, _, err = lab(*SMOKE, "hydra/launcher=slurm", "-m", "seed=0")
    message = (
        "inn_lab: hydra/launcher=slurm: hydra-submitit-launcher is not installed; pip install 'hydra-submitit-launcher>=1.2'\n"
    )
    assert (code, err) == (2, message)


@pytest.mark.skipif(shutil.which("srun") is not None, reason="SLURM is here")
def test_without_slurm_its_launcher_is_one_line(lab):
    code, _, err = lab(*SMOKE, "hydra/launcher=slurm", "-m", "seed=0")
    assert code == 2 and err.startswith("inn_lab: hydra/launcher=slurm: there is no sbatch and no srun and no squeue here; ")


NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


@pytest.mark.parametrize(
    "word, message",
    [
        pytest.param("trainer=gpu", "trainer=gpu: torch sees no CUDA device here", marks=NO_CUDA),
        ("source=mnist", "train-images-idx3-ubyte: damaged"),
    ],
)
def test_devices_and_images_are_asked_for_where_the_jobs_run(lab, outputs, monkeypatch, tmp_path, word, message):
    for file in sources.IDX:
        (tmp_path / "MNIST/raw").mkdir(parents=True, exist_ok=True)
        (tmp_path / "MNIST/raw" / file).write_bytes(b"not whole")
    monkeypatch.setenv("INN_LAB_DATA", str(tmp_path))
    words = [*SMOKE, word, "-m", "seed=0,1"]
    code, _, err = lab(*words)
    assert code == 2 and "2 of the 2 jobs are not valid" in err and err.count(message) == 2
    assert SlurmLauncher.elsewhere
    monkeypatch.setattr(launcher.LocalLauncher, "elsewhere", True)
    code, out, err = lab(*words)
    assert code == 1 and "2 failed" in out and message in out, err
    assert [path.name[:5] for path in (outputs / "jobs/adhoc").iterdir()] == ["sweep"]  # the same command tries them again


def on_slurm(test):
    there = pytest.mark.skipif(not shutil.which("sinfo"), reason="there is no SLURM here; tests/slurm/start.sh makes one")
    return pytest.mark.slurm(there(test))


def at_work() -> list[str]:
    """The ids of one's jobs that have been running for a while: before submitit listens, any signal ends a process."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=RUNNING", "--format=%i %M"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    times = {job: time.split(":") for job, time in map(str.split, lines)}
    return [job for job, (minutes, seconds) in times.items() if 60 * int(minutes) + int(seconds) >= 15]


@pytest.fixture
def no_jobs_left():
    yield
    subprocess.run(["scancel", "--me"], check=False)


@on_slurm
@pytest.mark.parametrize("how", [["scancel", "--signal=USR2"], ["scancel", "--signal=TERM"], ["scontrol", "requeue"]])
def test_jobs_that_are_preempted_again_and_again_end_as_if_nothing_had_happened(tmp_path, no_jobs_left, how):
    """USR2 is what a time limit sends, TERM what a preemption with a grace time does."""
    code, out = run(tmp_path / "undisturbed", *A_MINUTE, *JOBS)
    assert code == 0, out
    process = start(tmp_path / "slurm", *A_MINUTE, *ON_SLURM, *JOBS)
    moments, hit = random.Random(0), []
    until = time.time() + 900
    while process.poll() is None and time.time() < until:
        time.sleep(moments.uniform(2, 6))
        for job in at_work():
            if hit.count(job) < 2 and moments.random() < 0.9:
                done = subprocess.run([*how, job], capture_output=True)  # fails where the job has just ended
                hit += [job] if done.returncode == 0 else []
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and "4 finished" in out, out
    assert len(hit) >= 2, "hardly a job was disturbed"
    pd.testing.assert_frame_equal(measured(tmp_path / "slurm"), measured(tmp_path / "undisturbed"), check_exact=True)
    assert len(everything(tmp_path / "slurm")) == 5


@on_slurm
def test_a_job_that_dies_on_slurm_ends_as_killed_and_the_same_command_mends_it(tmp_path, no_jobs_left):
    """Without accounting SLURM forgets such a job, and submitit alone would wait for ever."""
    words = [*A_MINUTE, *ON_SLURM, "-m", "seed=0,1"]
    process = start(tmp_path, *words)
    while len(list(tmp_path.glob("jobs/adhoc/*/heartbeat"))) < 3:
        assert process.poll() is None
        time.sleep(0.2)
    victims = [pid for pid in processes("submitit.core._submit") if f"{tmp_path}/sweeps" in pid[1]]
    os.kill(victims[0][0], signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "1 finished" in out and "1 killed" in out, out
    assert {run.info.status for run in everything(tmp_path)} == {"FINISHED", "KILLED"}
    code, out = run(tmp_path, *words)
    assert code == 0 and "2 finished" in out, out


def processes(word: str) -> list[tuple[int, str]]:
    """(pid, command line) of the Python processes whose command line has a word in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if word in line and line.startswith(sys.executable):
            found.append((int(path.parent.name), line))
    return found

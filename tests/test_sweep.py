"""Sweeps: which jobs they have, what MLflow holds afterwards, and that seeds mean what they say."""

import multiprocessing
import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import SMOKE
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.inn_lab_grid import sweeper
from hydra_plugins.inn_lab_grid.compose import Composer
from hydra_plugins.inn_lab_grid.contract import Foreseen
from hydra_plugins.inn_lab_grid.sweeper import combine
from hydra_plugins.inn_lab_local import board, launcher
from inn_lab import schema, signals, standing, tracking
from inn_lab.explain import CONF, explain
from inn_lab.identity import Code
from inn_lab.records import Outcome
from inn_lab.standing import Standing

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


def test_a_null_in_a_grid_is_a_null(lab, runs, tmp_path):
    (tmp_path / "experiment").mkdir()
    grid = "{model: inn, depth: null, pruning: set, pruning.every: 2, pruning.R: null}"
    (tmp_path / "experiment/own.yaml").write_text(f"# @package _global_\nhydra: {{sweeper: {{grids: [{grid}]}}}}\n")
    assert lab("--config-dir", str(tmp_path), "experiment=own", *SMOKE, "-m")[0] == 0
    assert set(runs("own")["pruning.R"].map(str)) <= {"null", "None", "nan"}


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
    assert out.startswith("checking 3 jobs\n")
    assert "1 of the 3 jobs cannot be defined" in out and "2 finished, 1 undefined" in out
    found = runs("sparsity_fixed_params")
    by_job = found.groupby("job").last()
    assert list(by_job["state"]) == ["finished", "finished", "undefined"]
    assert set(by_job["status"]) == {"FINISHED"}
    assert "cannot be defined" in by_job["reason"][2]
    (log,) = outputs.glob("sweeps/*/2/output.log")
    assert log.read_text().startswith("job 2 · n_weights=10 · undefined: ")  # as the launcher calls it
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
    assert out.endswith(f"its figures:\n  python -m experiments sparsity_fixed_params sweep={parent.data.tags['sweep']}\n")
    assert parent.info.run_name == "sparsity_fixed_params · n_weights · 3 jobs"
    finished = next(run for run in children if run.data.tags["job"] == "0")
    assert finished.info.run_name == f"n_weights=100000 · {' '.join(SMOKE)}"
    assert {file.path for file in client.list_artifacts(finished.info.run_id)} == {
        "config.yaml",
        "confusion.csv",
        "confusion.png",
        "weight_space.png",
        "weights.safetensors",
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
    assert "job 1 " in err and "data.batch_size=0: a whole number from 1 to 1000000000; e.g. data.batch_size=100" in err
    assert "job 2 " in err and "R=2.0: a density lies in (0, 1]" in err and "job 4 " in err and "R=much: a density" in err
    code, _, err = lab(*SMOKE, "study._target_=inn_lab.studies.train.nope", "-m", "seed=0,1")
    assert code == 2 and err.startswith("inn_lab: none of the 2 jobs can be defined") and "train.nope" in err
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


@pytest.fixture
def listening(monkeypatch):
    """`listening()`: from here on signals are the lab's, as outside of pytest. Afterwards no job is left."""
    listen = signals.listen
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    Plugins.instance()  # Hydra reads the launcher's module anew, once
    yield listen
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    for child in multiprocessing.active_children():
        child.kill()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_leaves_nothing_running(lab, outputs, monkeypatch, listening, signum):
    """When both of its jobs have ended an epoch."""
    whole = board.Board.tick

    def tick(self, running, waiting):
        listening()
        whole(self, running, waiting)
        if sum('"val/loss"' in path.read_text() for path in outputs.glob("jobs/adhoc/*/journal.jsonl")) == 2:
            signal.raise_signal(signum)

    monkeypatch.setattr(board.Board, "tick", tick)
    monkeypatch.setattr(launcher, "TICK", 0.05)
    code, _, err = lab(*SMOKE, "trainer.max_epochs=100000", "hydra.launcher.n_jobs=2", "-m", "seed=0,1")
    assert code == 128 + signum and not multiprocessing.active_children()
    assert err.splitlines()[-1] == f"inn_lab: stopped by {signum.name}; the same command goes on from here"
    client = tracking.client(outputs)
    ended = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(ended) == 3  # the sweep and its two jobs
    assert {run.info.status for run in ended} == {"KILLED"}


def test_ctrl_c_just_after_a_job_was_started_ends_that_job_too(lab, monkeypatch, listening):
    whole = launcher.LocalLauncher._start

    def start(self, *given):
        listening()
        whole(self, *given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(launcher.LocalLauncher, "_start", start)
    code, _, err = lab(*SMOKE, "trainer.max_epochs=100000", "hydra.launcher.n_jobs=2", "resume=false", "-m", "seed=0,1")
    assert code == 130 and not multiprocessing.active_children()
    assert err.splitlines()[-1] == "inn_lab: stopped by SIGINT; without resume=false the same command goes on from here"


CPU, FIRST, SECOND = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)


@pytest.mark.parametrize(
    "devices, gpus, jobs",
    [
        ({CPU}, 0, 4),
        ({CPU}, 1, 4),  # trainer=cpu where there is a GPU
        ({CPU}, 4, 4),
        ({FIRST}, 1, 1),
        ({FIRST}, 4, 4),  # they are dealt out
        ({CPU, FIRST}, 2, 2),
        ({SECOND}, 4, 1),  # trainer.device=1: that one
    ],
)
def test_as_many_jobs_at_a_time_as_there_are_of_the_devices_that_they_take(devices, gpus, jobs):
    assert launcher.at_a_time(devices, gpus, cores=4) == jobs


@pytest.mark.parametrize(
    "more, together",
    [
        ({"devices": {CPU}}, [2, 3, 3, 3, 2, 2, 1, 1]),  # a third one beside the one that waits
        ({"devices": {FIRST}}, [2, 2, 2, 2, 2, 2, 1, 1]),  # whose memory they would share
        ({"devices": {CPU}, "timed": True}, [1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_a_job_that_waits_for_another_leaves_its_place(monkeypatch, more, together):
    """Four jobs, two at a time. The second one waits. At every second look the one that began first has ended."""
    ends, seen = {}, []

    def start(self, task, threads, gpus):
        task.answers, theirs = multiprocessing.Pipe(duplex=False)
        task.process = SimpleNamespace(sentinel=task.number)
        ends[task.number] = theirs
        if task.number == 1:
            theirs.send(standing.Waits(True))

    def look(sentinels, tick):
        seen.append(len(sentinels))
        if len(seen) % 2:
            return []
        ends[sentinels[0]].send(Outcome("finished"))
        return sentinels[:1]

    monkeypatch.setattr(launcher.LocalLauncher, "_start", start)
    monkeypatch.setattr(launcher, "wait", look)
    monkeypatch.setattr(launcher, "setup_globals", lambda: None)
    monkeypatch.setattr(launcher, "configure_log", lambda *given: None)
    made = launcher.LocalLauncher(n_jobs=2, retries=0, fail_fast=False)
    made.config = OmegaConf.create({"hydra": {"hydra_logging": {}, "verbose": False, "sweep": {"dir": "none"}}})
    made.foreseen = Foreseen(compose=lambda words: OmegaConf.create(), axes=["R"], **more)
    returned = made.launch([[f"R=0.{number}"] for number in range(1, 5)], 0)
    assert [result.return_value.state for result in returned] == ["finished"] * 4 and seen == together


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The board's. It is 100 o'clock."""
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(board, "time", clock)
    return clock


@pytest.fixture
def ended(clock, capsys):
    """`ended(seconds, outcome, running, waiting)`: how it is said that the sweep stands when a job has ended."""
    shown = board.Board(n_jobs=2, total=10)

    def ended(seconds: float, outcome: Outcome, running: list[launcher.Task], waiting: list[launcher.Task]) -> str:
        shown.ended(launcher.Task(0, [], "job 0", outcome=outcome, started=100 - seconds), running, waiting)
        return capsys.readouterr().out.rpartition(" | ")[2].strip()

    return ended


def task(runs_for: float = 0, **more: object) -> launcher.Task:
    return launcher.Task(1, [], "job 1 · R=0.1", started=100 - runs_for, **more)


def test_the_time_left_is_reckoned_from_jobs_that_were_run_here(ended):
    waiting, done = [task(), task()], Outcome("finished")
    assert ended(0.1, Outcome("finished", already=True), [task()], waiting) == "1 of 10 done, 1 running, 2 waiting"
    assert ended(0.1, Outcome("undefined"), [task()], waiting) == "2 of 10 done, 1 running, 2 waiting"
    assert ended(0.1, Outcome("failed"), [task()], waiting) == "3 of 10 done, 1 running, 2 waiting"
    assert ended(10, done, [task()], waiting) == "4 of 10 done, 1 running, 2 waiting, 20 s left"
    assert ended(0.1, Outcome("finished", already=True), [], waiting) == "5 of 10 done, 0 running, 2 waiting, 10 s left"
    assert ended(20, Outcome("diverged"), [task()], waiting) == "6 of 10 done, 1 running, 2 waiting, 30 s left"


def test_the_time_left_counts_what_running_jobs_have_had_and_none_that_take_no_time(ended):
    done = Outcome("finished")
    assert ended(10, done, [task(4)], [task(), task(quick=True)]) == "1 of 10 done, 1 running, 2 waiting, 10 s left"
    assert ended(10, done, [task(4)], []) == "2 of 10 done, 1 running, 0 waiting, 6 s left"
    assert ended(10, done, [task(40)], [task(7)]) == "3 of 10 done, 1 running, 1 waiting, 10 s left"  # 7: a try that failed
    assert ended(10, done, [], [task(quick=True)]) == "4 of 10 done, 0 running, 1 waiting"
    assert ended(10, done, [], []) == "5 of 10 done, 0 running, 0 waiting"


def test_what_running_jobs_tell_is_shown_at_least_every_half_minute(clock, capsys):
    shown, at_work = (
        board.Board(n_jobs=2, total=4),
        [task(5), task(20, standing=Standing(10, 40, 0.25, 60, (0.1, 0.25)), heard=100)],
    )
    shown.tick(at_work, [task()])
    assert capsys.readouterr().out == ""
    clock.now += 30
    shown.tick(at_work, [task()])
    assert capsys.readouterr().out.splitlines() == [
        "0 of 4 done, 2 running, 1 waiting, 1 min 50 s left",  # a job takes 50 + 30 s, and the next place is free in 30 s
        "  job 1 · R=0.1 · for 35 s",
        "  job 1 · R=0.1 · epoch 10/40 · val ACC_end 0.250 ▁▃ · 30 s left",
    ]


def test_the_table_at_the_end_is_not_cut_where_the_terminal_is_narrow(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    words = "model.hidden=[512,256,128] trainer.gradient_clip_val=0.25 data.transforms=perspective seed=3"
    reason = "R=0.4 with n_weights=10000 cannot be defined: the weight space would be smaller than the images"
    ends = [Outcome("finished", 0.8125, 3725.0), Outcome("undefined", reason=reason)]
    sweeper.show([words, "R=0.4"], ends, [Code("a", "a")] * 2)
    out = capsys.readouterr().out
    table, _, notes = out.partition("job 1 · ")
    assert max(map(len, table.splitlines())) <= 80 and "…" not in out
    assert all(word in table for word in ("seed=3", "R=0.4", "finished", "undefined", "0.812", "1 h 02 min"))
    assert notes == f"R=0.4 · undefined: {reason}\n1 finished, 1 undefined\n"


COMPOSED = [
    "seed=2 model=lstm n_weights=130 n_weights=140",
    "experiment=structure model.hidden=[3,4] trainer.max_time=3.5",
    "model.R=${lr} source.root='a b' pruning=magnitude pruning.amount=0.9",
    "+model.foo=2",
    "data={n_train:3}",
    "R=much",
    "model.width=3",
]


def test_jobs_are_composed_as_hydra_composes_them_and_each_set_of_choices_once(monkeypatch):
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        words = ["hydra.launcher.n_jobs=2", "hydra.job.name=a", *SMOKE]
        master = loader.load_configuration("config", words, RunMode.MULTIRUN)
        assert str(master.hydra.sweep.dir)  # it holds the time, which is the same for all jobs
        composer = Composer(loader, master)
        for job in map(str.split, COMPOSED):
            assert seen(composer, [*SMOKE, *job]) == seen(partial(loader.load_sweep_config, master), [*SMOKE, *job])
        monkeypatch.setattr(loader, "load_sweep_config", None)
        assert [composer([*SMOKE, f"seed={seed}", "R=0.1"]).seed for seed in range(3)] == [0, 1, 2]


def seen(compose, job: list[str]) -> object:
    """All that a configuration is: values, types, flags, and what its resolvers gave; or the error instead."""
    try:
        config = compose(job)
    except (HydraException, OmegaConfBaseException) as error:
        return explain(error)

    def nodes(node):
        meta = node._metadata
        yield type(node), meta.flags, meta.ref_type, meta.optional, meta.object_type, getattr(meta, "resolver_cache", None)
        for child in node._content.values() if isinstance(node._content, dict) else ():
            yield from nodes(child) if OmegaConf.is_dict(child) else [(type(child), child._metadata.ref_type)]

    return OmegaConf.to_container(config), str(config.hydra.sweep.dir), list(nodes(config))


@pytest.mark.parametrize("words", ["hydra/sweeper=basic", "hydra/launcher=basic", "hydra/launcher=submitit_local"])
@pytest.mark.parametrize("flag", ["", "-m"])
def test_sweepers_and_launchers_that_the_lab_s_sweeps_cannot_do_with_are_one_line(lab, outputs, words, flag):
    if words.endswith("submitit_local"):
        pytest.importorskip("submitit")
    code, _, err = lab(*SMOKE, words, *flag.split(), "seed=0")
    known = "grid" if "sweeper" in words else "local"
    assert code == 2 and err.startswith(f"inn_lab: {words}: it does not run the lab's sweeps; ") and known in err
    assert len(err.splitlines()) == 1 and not outputs.exists()


def test_a_launcher_that_is_not_installed_is_one_line_and_only_what_works_is_offered(lab):
    code, _, err = lab(*SMOKE, "hydra/launcher=jobli", "-m", "seed=0")
    assert (code, err) == (2, "inn_lab: hydra/launcher=jobli: there is no such choice; known are: local, slurm\n")


def test_a_model_of_one_s_own_that_cannot_be_made_is_one_job_s_line(lab, runs, tmp_path, monkeypatch):
    (tmp_path / "falling.py").write_text(
        "from inn_lab.models import MLP\n"
        "def make(n_inputs, n_outputs, *, number, generator, **_):\n"
        "    if number: raise ValueError('seven is too many')\n"
        "    assert generator, 'this one always draws'\n"
        "    return MLP(n_inputs, n_outputs, hidden=[5], generator=generator)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = [*SMOKE, "model=random_graph", "model._target_=falling.make", "trainer.max_epochs=1"]
    code, out, _ = lab(*own, "-m", "model.number=0,7")
    assert code == 0 and "1 finished, 1 undefined" in out
    assert "model._target_=falling.make: it raised ValueError: seven is too many (falling.py, line 3); mend it" in out
    code, _, err = lab(*own, "model.number=7")
    assert code == 2 and len(err.splitlines()) == 1 and "(falling.py, line 3)" in err

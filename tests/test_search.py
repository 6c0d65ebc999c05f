"""Searches: the space, which trials there are, that they survive, what is pruned, and what is said of a mistake."""

import contextlib
import itertools
import json
import math
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import SMOKE
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from optuna import Study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from test_survive import PROC, family, lengths, run, start

from experiments import selection
from hydra_plugins.inn_lab_local import launcher
from hydra_plugins.inn_lab_search import result
from hydra_plugins.inn_lab_search.space import Space, distribution
from inn_lab import tracking
from inn_lab.records import Outcome, numbered
from inn_lab.trials import Search, Trial

SEARCH = [*SMOKE, "hydra/sweeper=optuna", "-m"]
LR = "lr=tag(log,interval(1e-5,1e-1))"


def parsed(*words: str):
    return OverridesParser.create().parse_overrides(list(words))


@pytest.mark.parametrize(
    "word, expected",
    [
        ("R=interval(0.1,0.5)", FloatDistribution(0.1, 0.5)),
        ("lr=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("n_weights=int(interval(10,20))", IntDistribution(10, 20)),
        ("n_weights=tag(log,int(interval(10,1000)))", IntDistribution(10, 1000, log=True)),
        ("depth=range(2,9,3)", IntDistribution(2, 8, step=3)),
        ("depth=range(8,1,-3)", IntDistribution(2, 8, step=3)),
        ("R=range(0.125,0.5,0.125)", CategoricalDistribution(["0.125", "0.25", "0.375"])),
        ("R=0.1,null,0.1", CategoricalDistribution(["0.1", "null"])),
        ("model.hidden=[3,4],[5]", CategoricalDistribution(["[3,4]", "[5]"])),
        ("model=choice(inn,lstm)", CategoricalDistribution(["inn", "lstm"])),
    ],
)
def test_a_space_is_written_in_hydra_s_words(word, expected):
    assert distribution(*parsed(word)) == expected


def test_of_a_space_the_edges_and_the_middle_are_looked_at():
    space = Space.of(parsed("seed=3", LR, "model=inn,lstm", "depth=range(1,10)"))
    assert space.corners() == [
        ["seed=3", *job.split()]
        for job in (
            "lr=0.001 model=inn depth=5",
            "lr=1e-05 model=inn depth=5",
            "lr=0.1 model=inn depth=5",
            "lr=0.001 model=lstm depth=5",
            "lr=0.001 model=inn depth=1",
            "lr=0.001 model=inn depth=9",
        )
    ]


def test_an_objective_is_what_the_reports_take():
    assert result.tail({epoch: epoch for epoch in range(20)}) == 18.5
    assert result.tail({0: 0.5, 1: 0.25}) == 0.25


BAD = [
    ("hydra.sweeper.trials=0", LR, "hydra.sweeper.trials=0: 1 or more; e.g. hydra.sweeper.trials=20"),
    ("hydra.sweeper.n_jobs=-1", LR, "hydra.sweeper.n_jobs=-1: 1 or more"),
    ("hydra.sweeper.trials=many", LR, "hydra.sweeper.trials=many: a whole number"),
    ("hydra.sweeper.sampler=tpes", LR, "hydra.sweeper.sampler=tpes: there is no such sampler; did you mean tpe?"),
    ("hydra.sweeper.pruner=meridian", LR, "hydra.sweeper.pruner=meridian: there is no such pruner; did you mean median?"),
    ("hydra.sweeper.direction=up", LR, "hydra.sweeper.direction=up: maximize or minimize; "),
    (
        "hydra.sweeper.metric=test/acc_end",
        LR,
        "hydra.sweeper.metric=test/acc_end: what the test set chooses it does not test; ",
    ),
    ("hydra.sweeper.metric=val/acc", LR, "hydra.sweeper.metric=val/acc: a search goes by val/acc_end, val/acc_seq or val/loss"),
    ("hydra.sweeper.nothing=1", LR, "hydra.sweeper.nothing: there is no such key"),
    ("R=0.1", "lr=1e-3", "hydra/sweeper=optuna: nothing varies, so there is nothing to search; e.g. -m R=0.02,0.1,0.5 "),
    ("R=choice(0.1)", "lr=1e-3", "hydra/sweeper=optuna: nothing varies"),
    ("seed=0,1", LR, "seed: a search that chooses the seed finds luck; "),
    (
        LR,
        "R=interval(0.5,0.1)",
        "R=interval(0.5,0.1): an interval goes from a number to a larger one; e.g. R=interval(0.1, 0.5)",
    ),
    (LR, "R=tag(log,interval(0,1))", "R=tag(log,interval(0,1)): an interval goes from a positive number to a larger one"),
    (
        LR,
        "R=tag(logs,interval(0.1,1))",
        "R=tag(logs,interval(0.1,1)): tag logs means nothing here; known is tag(log, interval(…))",
    ),
    (LR, "R=shuffle(0.1,0.2)", "R=shuffle(0.1,0.2): the sampler says in which order; leave shuffle out"),
    (LR, "depth=range(3,3)", "depth=range(3,3): it holds no value"),
    (LR, "hydra.sweeper.sampler=grid", "hydra.sweeper.sampler=grid: lr is an interval, which has no grid; give a list or"),
    ("hydra.sweeper.sampler=grid", "seed=1 depth=range(0,99999)", "hydra.sweeper.sampler=grid: 99999 points"),
    (LR, "R=0.1,0.2 hydra.sweeper.sampler=cmaes", "hydra.sweeper.sampler=cmaes: R is a list, and it takes numbers alone"),
    (LR, "hydra.sweeper.sampler=cmaes", "hydra.sweeper.sampler=cmaes: it needs two axes or more; take tpe or random"),
    ("lr=1e-3", "n_weights=1,2", "none of these settings can be defined; nothing was run\n  job 0 · n_weights=1 · "),
    ("lr=1e-3", "R=interval(0.5,1.5)", "1 of the 3 jobs are not valid; nothing was run\n  job 2 · R=1.5 · R=1.5: a density"),
    ("study=time_step model=inn", "R=0.1,0.2", "study=time_step: it does not train, so there is nothing to search by; "),
]


@pytest.mark.parametrize("first, second, message", BAD)
def test_a_mistake_is_answered_before_anything_runs(lab, outputs, first, second, message):
    code, _, err = lab(*SEARCH, *first.split(), *second.split())
    assert code == 2 and err.startswith(f"inn_lab: {message}"), err
    assert not (outputs / "mlflow.db").exists() and not (outputs / "jobs").exists()


def test_the_grid_s_sweeper_names_the_other_one(lab):
    code, _, err = lab(*SMOKE, "-m", LR)
    assert code == 2 and err.startswith(f"inn_lab: {LR}: an interval is no list of values; hydra/sweeper=optuna searches it")
    code, _, err = lab(*SMOKE, "-m", "hydra.sweeper.trials=3", "R=0.1,0.2")
    assert (code, err) == (2, "inn_lab: hydra.sweeper.trials: there is no such key; hydra/sweeper=optuna has it\n")


EPOCHS = 9


@pytest.fixture
def made(lab, monkeypatch, outputs):
    """`made.lab(…)`: a search of made jobs: with lr=x and R=y the accuracy rises to -(log10 x + 3)² - y. `made.kill` says at
    which launch a kill comes; `made.ran` has the overrides of all jobs, and after how many epochs they ended."""
    Plugins.instance()  # Hydra reads the launcher's module anew, once
    state = SimpleNamespace(kill=None, launches=0, ran=[], lab=lab, records=itertools.count())

    def launch(self, jobs, initial_job_idx):
        state.launches += 1
        folder, results = Path(self.config.hydra.sweep.dir), []
        for number, overrides in enumerate(jobs, initial_job_idx):
            if state.launches == state.kill:
                raise KeyboardInterrupt
            values = dict(word.split("=", 1) for word in overrides)
            end = -((math.log10(float(values["lr"])) + 3) ** 2) - float(values.get("R", 0))
            trial, record = Trial.of_job(folder / str(number)), outputs / "made" / str(next(state.records))
            record.mkdir(parents=True)
            lines, ended = [], "finished"
            for epoch in range(EPOCHS):
                lines.append(
                    json.dumps({"do": "metrics", "time": 0, "epoch": epoch, "values": {"val/acc_end": end - 1 / (epoch + 1)}})
                )
                if trial and epoch < EPOCHS - 1 and trial.hopeless(epoch, end - 1 / (epoch + 1)):
                    ended = "pruned"
                    break
            (record / "journal.jsonl").write_text("\n".join(lines) + "\n")
            state.ran.append((tuple(overrides), len(lines)))
            done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            done.return_value = Outcome(ended, record=str(record))
            results.append(done)
        return results

    monkeypatch.setattr(launcher.LocalLauncher, "launch", launch)
    monkeypatch.setattr(result, "picture", lambda *given: given[-1].write_bytes(b"a picture"))  # they take a second
    return state


def trials(outputs: Path) -> list[tuple]:
    """What the study of the only search holds."""
    (file,) = outputs.glob("jobs/*/search-*/trials.log")
    found = Search(str(file), "val/acc_end", "maximize", "none", EPOCHS).stored().trials
    return [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in found]


TWO = [LR, "R=interval(0.1,0.9)"]


@pytest.mark.parametrize(
    "words",
    [
        ["hydra.sweeper.sampler=tpe"],
        ["hydra.sweeper.sampler=random", "hydra.sweeper.pruner=median"],
        ["hydra.sweeper.sampler=tpe", "hydra.sweeper.pruner=hyperband"],
        ["hydra.sweeper.sampler=cmaes"],
        ["hydra.sweeper.sampler=tpe", "hydra.sweeper.n_jobs=3"],
    ],
)
def test_a_search_that_is_killed_ends_with_the_trials_of_one_that_is_not(made, outputs, tmp_path, monkeypatch, words):
    command = [*SEARCH, *TWO, *words, f"trainer.max_epochs={EPOCHS}", "hydra.sweeper.trials=16"]
    code, _, err = made.lab(*command)
    assert code == 0, err
    expected, whole = trials(outputs), made.ran
    assert len(expected) == 16
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(tmp_path / "killed"))
    made.ran = []
    for kill in (3, 2, 2):  # while a trial runs
        made.launches, made.kill = 0, kill
        with pytest.raises(KeyboardInterrupt):
            made.lab(*command)
    made.kill = None
    whole_tell, told = Study.tell, itertools.count()

    def tell(self, *given, **more):  # and while one is told
        if next(told) == 3:
            raise KeyboardInterrupt
        return whole_tell(self, *given, **more)

    monkeypatch.setattr(Study, "tell", tell)
    with pytest.raises(KeyboardInterrupt):
        made.lab(*command)
    code, out, _ = made.lab(*command)
    assert code == 0 and " of 16 trials are there already\n" in out
    assert trials(tmp_path / "killed") == expected
    # What was run and not told is launched again; its record then says that it is done.
    assert list(dict.fromkeys(made.ran)) == whole and len(made.ran) <= len(whole) + 3
    if "pruner" in str(words):
        pruned = [trial for trial in expected if trial[1] == "PRUNED"]
        assert pruned and all(len(trial[4]) < EPOCHS for trial in pruned)
        assert sum(len(trial[4]) for trial in expected) == sum(epochs for _, epochs in whole)


def test_more_trials_are_added_to_those_that_are_there(made, outputs):
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=12")[0] == 0
    whole = trials(outputs)
    made.ran.clear()
    next(outputs.glob("jobs/adhoc/search-*/trials.log")).unlink()
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=5")[0] == 0
    assert trials(outputs) == whole[:5]
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=12")[0] == 0
    assert trials(outputs) == whole and len(made.ran) == 12
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=12")[0] == 0
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=12", "trainer.progress=true")[0] == 0
    assert len(made.ran) == 12  # nothing was left to do
    for other in ("hydra.sweeper.seed=1", "hydra.sweeper.pruner=median", "hydra.sweeper.sampler=random", "n_weights=200000"):
        assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=1", other)[0] == 0
    assert len(made.ran) == 16 and len(list(outputs.glob("jobs/adhoc/search-*"))) == 5


def test_a_grid_ends_when_all_its_points_were_tried(made, outputs):
    words = ["lr=1e-3,1e-2,1e-1", "R=0.1,0.5", "hydra.sweeper.sampler=grid"]
    assert made.lab(*SEARCH, *words)[0] == 0
    assert len({(trial[2]["lr"], trial[2]["R"]) for trial in trials(outputs)}) == len(made.ran) == 6


def test_the_same_point_twice_is_one_job(made, outputs):
    assert made.lab(*SEARCH, "lr=1e-3,1e-2", "hydra.sweeper.trials=6", "hydra.sweeper.n_jobs=6")[0] == 0
    assert len(made.ran) == 2 and len(trials(outputs)) == 6


def test_tpe_finds_what_is_best(made, outputs):
    code, out, _ = made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=40", "hydra.sweeper.best_of=3")
    assert code == 0
    best = max(trials(outputs), key=lambda trial: trial[3])
    assert 1e-4 < best[2]["lr"] < 1e-2 and best[2]["R"] < 0.3
    assert [job for job, _ in made.ran[40:]] == [
        (*(w for w in SMOKE), f"lr={best[2]['lr']}", f"R={best[2]['R']}", f"seed={seed}") for seed in (1, 2, 3)
    ]
    value, rows = f"{best[3]:.3f}", [" ".join(line.split()) for line in out.splitlines()]
    assert f"the best one: trial {best[0]} {value}" in rows
    assert sum(line.startswith(f"trial {best[0]} with seed=") and line.endswith(value) for line in rows) == 3


def test_a_mean_has_student_s_interval():
    mean, low, high = result.interval([11.0, 12.0, 13.0], "val/loss")
    assert (mean, round(low, 3), round(high, 3)) == (12.0, 9.516, 14.484)  # t = 4.303 at 2 degrees of freedom, error 1/√3


def test_an_interval_ends_where_the_metric_ends():
    assert result.interval([0.9, 0.5], "val/acc_end")[1:] == (0, 1)
    assert result.interval([0.1, 0.5], "val/loss")[1:] == pytest.approx((0, 0.3 + 12.706 * 0.2), abs=1e-3)


def test_a_study_that_does_not_log_the_metric_ends_the_search(made, outputs):
    code, _, err = made.lab(*SEARCH, LR, "hydra.sweeper.metric=val/loss")
    assert code == 2 and len(made.ran) == 1
    assert err.startswith("inn_lab: hydra.sweeper.metric=val/loss: a trial has ended and has not logged it; take a study that ")


def test_a_line_that_was_cut_off_is_no_trial(made, outputs):
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=2")[0] == 0
    with next(outputs.glob("jobs/adhoc/search-*/trials.log")).open("a") as file:
        file.write('{"op_code": 4, "wor')
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=4")[0] == 0
    assert [trial[1] for trial in trials(outputs)] == ["COMPLETE"] * 4


def test_two_searches_at_once_are_one_line(made, outputs):
    assert made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=1")[0] == 0
    (record,) = outputs.glob("jobs/adhoc/search-*")
    with numbered(outputs, "adhoc", record.name)[0][1].mine() as mine:
        assert mine
        code, _, err = made.lab(*SEARCH, *TWO, "hydra.sweeper.trials=2")
    assert code == 2 and err.startswith("inn_lab: this sweep is running already") and len(trials(outputs)) == 1


def test_each_grid_of_an_experiment_is_searched_on_its_own(made, outputs, tmp_path):
    (tmp_path / "experiment").mkdir()
    grids = '[{model: inn, lr: "tag(log,interval(1e-4,1e-2))"}, {model: lstm, n_weights: 200000, lr: "1e-3,1e-2"}]'
    (tmp_path / "experiment/own.yaml").write_text(f"# @package _global_\nhydra: {{sweeper: {{grids: {grids}}}}}\n")
    own = ["--config-dir", str(tmp_path), *SEARCH, "experiment=own", "hydra.sweeper.trials=2"]
    code, _, err = made.lab(*own)
    assert code == 0, err
    assert [job[0] for job, _ in made.ran] == ["model=inn"] * 2 + ["model=lstm"] * 2
    assert len(list(outputs.glob("jobs/own/search-*"))) == 2
    made.ran.clear()
    assert made.lab(*own, "model=lstm", "hydra.sweeper.seed=1")[0] == 0
    assert {job[1:2] for job, _ in made.ran} == {("n_weights=200000",)}


LOSS = ["hydra.sweeper.sampler=grid", "hydra.sweeper.pruner=median", "hydra.sweeper.metric=val/loss", "trainer.max_epochs=4"]
RATES = ["lr=1e-9,1e-3,2e-3,3e-3,4e-3,5e-3", "hydra.sweeper.seed=2"]  # the one that learns nothing comes last


def test_what_a_search_prunes_is_recorded_as_pruned_and_goes_on_where_no_search_asks_for_it(
    lab, runs, outputs, tmp_path, monkeypatch
):
    """Jobs as they are, in processes of their own."""
    code, out, err = lab(*SEARCH, *LOSS, *RATES, "hydra.sweeper.best_of=2")
    assert code == 0, err
    found = runs("adhoc")
    ended = found.groupby("lr").last()
    pruned, others = ended.loc[1e-9], ended.drop(1e-9)
    assert pruned["state"] == "pruned" and pruned["status"] == "FINISHED" and math.isnan(pruned["test/acc_end"])
    assert set(others["state"]) == {"finished"} and pruned["epoch"] < 3 and set(others["epoch"]) == {3}
    first = found[found["seed"] == 0].groupby("lr").last()
    assert [trial[3] for trial in trials(outputs)[:5]] == [first["val/loss"][float(t[2]["lr"])] for t in trials(outputs)[:5]]
    assert trials(outputs)[5][1:3] == ("PRUNED", {"lr": "1e-09"})
    drawn, _ = selection.select(found, ("lr",), {})
    assert 1e-9 in set(drawn["lr"])

    client = tracking.client(outputs)
    everything = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in everything if "jobs" in run.data.tags]
    best = min((trial for trial in trials(outputs)[:5]), key=lambda trial: trial[3])
    assert parent.data.tags["best.lr"] == best[2]["lr"] and parent.data.tags["best.trial"] == str(best[0])
    known = parent.data.metrics
    assert known["search/best"] == best[3] and known["repeats/low"] < known["repeats/mean"] < known["repeats/high"]
    assert len(client.get_metric_history(parent.info.run_id, "search/value")) == 5
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {
        "best.yaml", "history.png", "importances.png", "parallel_coordinates.png", "slices.png",
    }  # fmt: skip
    command = out.splitlines()[-1].split()
    assert command[:4] == ["python", "-m", "inn_lab", "--config-dir"]
    assert "finished already" in lab(*command[3:])[1]  # it is the best trial's job

    again = lab(*SEARCH, *LOSS, *RATES)
    assert again[0] == 0 and trials(outputs)[5][1] == "PRUNED" and " · pruned" not in again[1]  # it is not asked for again
    alone = [*SMOKE, "trainer.max_epochs=4", "lr=1e-9"]
    assert lab(*alone)[0] == 0
    went_on = runs("adhoc").query("lr == 1e-9")
    assert set(went_on["state"]) == {"finished"} and set(went_on["attempts"].map(int)) == {2}
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(tmp_path / "undisturbed"))
    assert lab(*alone)[0] == 0
    whole = tracking.read(tmp_path / "undisturbed", "adhoc")
    measured = ["epoch", "train/loss", "val/loss", "test/loss"]
    assert went_on[measured].to_numpy().tolist() == whole[measured].to_numpy().tolist()


@PROC
@pytest.mark.slow
def test_a_search_of_40_trials_that_is_killed_five_times_ends_with_those_of_the_undisturbed_one(tmp_path, monkeypatch):
    """One job at a time; the kills come at random moments, but each once the search has gone on."""
    words = ["hydra.sweeper.trials=40", "hydra.sweeper.pruner=median", "trainer.max_epochs=2", "trainer.checkpoint_s=0"]
    command = [*SEARCH, "trainer=cpu", *TWO, *words]
    undisturbed, killed, moments = tmp_path / "undisturbed", tmp_path / "killed", random.Random(5)
    begun = time.time()
    code, out = run(undisturbed, *command)
    assert code == 0, out
    whole, expected = time.time() - begun, trials(undisturbed)
    assert len(expected) == 40 and {state for _, state, *_ in expected} == {"COMPLETE", "PRUNED"}
    for _ in range(5):
        before, process, deadline = sum(lengths(killed).values()), start(killed, *command), time.time() + 300
        while sum(lengths(killed).values()) == before and process.poll() is None:
            assert time.time() < deadline
            time.sleep(0.01)
        time.sleep(moments.uniform(0, whole / 10))  # five of them are half of it at most, however fast the machine
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    there = len(trials(killed))
    code, out = run(killed, *command)
    assert code == 0 and 5 <= there < 40, out
    assert trials(killed) == expected
    measured = [tracking.read(folder, "adhoc").set_index(["lr", "R", "epoch"]).sort_index() for folder in (undisturbed, killed)]
    columns = ["val/loss", "val/acc_end", "test/acc_end", "state"]
    pd.testing.assert_frame_equal(*(runs[columns] for runs in measured), check_exact=True)
    assert measured[1]["attempts"].map(int).max() > 1, "no kill came while a trial was at work"

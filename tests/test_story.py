"""What MLflow's pages say of a sweep, its jobs and their experiment."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import SMOKE

from experiments import logged
from hydra_plugins.inn_lab_grid import story
from inn_lab import tracking, ui
from inn_lab.errors import ConfigError
from inn_lab.records import Outcome

SWEEP = ["experiment=sparsity_fixed_params", *SMOKE, "-m", "R=0.1,0.4"]
FIGURE = "sparsity_fixed_params.png"


@pytest.fixture
def parent(outputs):
    """`parent()`: the newest sweep's run, and the names of its files."""

    def newest():
        there = tracking.client(outputs)
        experiments = [experiment.experiment_id for experiment in there.search_experiments()]
        run = there.search_runs(experiments, "tags.jobs LIKE '%'", order_by=["start_time DESC"])[0]
        return run, {file.path for file in there.list_artifacts(run.info.run_id)}

    return newest


def test_a_sweep_tells_its_story(lab, outputs, parent, runs):
    assert lab(*SWEEP)[0] == 0
    run, files = parent()
    assert files == {FIGURE, "sparsity_fixed_params_claims.csv"}
    note = run.data.tags[tracking.NOTE]
    command = f"`python -m inn_lab {' '.join(SWEEP[:-2])} R=0.1,0.4 -m`"
    first, question, then, picture, jobs, which, claims = note.split("\n\n")
    assert first.startswith("**2 finished** · claims: ") and question.startswith("Hershey 2023, 3.4.2") and then == command
    assert (
        picture == f"![{FIGURE}](get-artifact?path={FIGURE}&run_uuid={run.info.run_id})"
        and "| 1 | R=0.4 | finished | 0." in jobs
    )
    assert which == "Drawn are 2 of 2 runs." and re.search(r"\| .* at R=0.1, .* at R=0.4 \| other scale \|", claims)

    there = tracking.client(outputs)
    experiment = there.get_experiment(run.info.experiment_id)
    assert experiment.tags[tracking.NOTE].startswith("Hershey 2023, 3.4.2")
    said = [there.get_run(job).data.tags[tracking.NOTE] for job in runs("sparsity_fixed_params")["run_id"].unique()]
    common = "  \nSet: `source=digits` `scale=smoke` `trainer.progress=false`"
    assert sorted(said) == [f"Varies in its sweep: `R={R}`{common}" for R in (0.1, 0.4)]


def test_runs_can_be_sorted_by_their_best_validation(lab, runs):
    assert lab("experiment=iterations", *SMOKE, "trainer.max_epochs=4")[0] == 0
    found = runs("iterations")
    assert set(found["best/val_acc_end"]) == {found["val/acc_end"].max()} and len(found) == 4


def test_a_description_of_the_user_s_own_stays(lab, outputs):
    assert lab("experiment=iterations", *SMOKE)[0] == 0
    there = tracking.client(outputs)
    number = there.get_experiment_by_name("iterations").experiment_id
    for mine, kept in (("mine", "mine"), ("", "")):
        there.set_experiment_tag(number, tracking.NOTE, mine)
        assert tracking.experiment_id(outputs, "iterations") == number
        assert there.get_experiment(number).tags[tracking.NOTE] == kept


@pytest.mark.parametrize(
    "error, said",
    [(ConfigError("no run has left its probe yet"), "no run has left its probe yet"), (MemoryError(), "MemoryError")],
)
def test_what_cannot_be_drawn_is_a_line_and_no_failure(lab, parent, monkeypatch, error, said):
    def fails(*_):
        raise error

    monkeypatch.setattr(logged, "study", fails)
    code, out, _ = lab(*SWEEP)
    assert code == 0 and f"\nno figures in MLflow: {said}\n" in out and "\n2 finished\n" in out
    run, files = parent()
    assert files == set() and run.info.status == "FINISHED" and "**2 finished**" in run.data.tags[tracking.NOTE]


def test_nothing_is_drawn_without_a_report_or_where_none_is_wanted(lab, parent, monkeypatch):
    monkeypatch.setattr(logged, "study", lambda *_: pytest.fail("a report was asked for"))
    for words in ([*SMOKE, "-m", "R=0.1,0.4"], [*SWEEP, "hydra.sweeper.report=null"]):
        code, out, _ = lab(*words)
        run, files = parent()
        assert code == 0 and "no figures" not in out and files == set() and "**2 finished**\n" in run.data.tags[tracking.NOTE]


def test_a_description_is_short_enough_for_mlflow():
    rows = [(str(job), "R=0.1 | " + "x" * 500, *story.cells(Outcome("finished", 0.5, 61))) for job in range(100)]
    table = story.table(("job", "what", "state", "ACC_end", "time"), rows)
    assert (
        table.count("\n| ") == 31
        and table.endswith("and 70 more")
        and "R=0.1 \\| xx" in table
        and "| 0.500 | 1 min 01 s |" in table
    )
    assert story.table(("job",), []) == ""
    whole = story.fitting(["question", table, table])
    assert len(whole) <= 8000 and whole.endswith("\n\n…") and whole.splitlines()[-3].endswith("|")


@pytest.mark.slow
@pytest.mark.browser
def test_mlflow_shows_the_figure_of_a_sweep(chromium, outputs, parent, tmp_path):
    """On the parent run's first page, and among its artifacts."""
    subprocess.run([sys.executable, "-m", "inn_lab", *SWEEP], check=True, stdout=subprocess.DEVNULL)
    run, _ = parent()
    with (
        (tmp_path / "ui.log").open("w+") as log,
        subprocess.Popen([sys.executable, "-m", "inn_lab", "ui"], stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            deadline = time.monotonic() + 60
            while "startup complete" not in (said := (tmp_path / "ui.log").read_text()):
                assert server.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.5)
            place = re.search(r"http://127.0.0.1:\d+", said)[0]
            shown = chromium.new_page()
            asked = []
            shown.on("request", lambda request: asked.append(request.url))
            shown.goto(f"{place}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?{ui.PAGE}")
            shown.wait_for_function(f"document.querySelector('img[src*=\"{FIGURE}\"]')?.naturalWidth > 500")
            shown.get_by_role("tab", name="Artifacts").click()
            shown.get_by_text(f"{FIGURE[:-4]}_claims.csv").wait_for()
            assert all(url.startswith((place, "data:", "blob:")) for url in asked)
        finally:
            os.killpg(server.pid, signal.SIGTERM)

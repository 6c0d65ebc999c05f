"""The benchmarks: what is typed, and that each one runs and writes its rows."""

import argparse
import csv
import importlib
from pathlib import Path

import pytest

import benchmarks
from benchmarks.common import count, positive

NAMES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("[a-z]*.py"))
TIMES = {  # a column of its rows
    "solver_speed": "iteration_ms",
    "block_speed": "fused_ms",
    "cell_speed": "sparse_ms",
    "graph_speed": "wavefront_ms",
    "rewiring_speed": "step_ms",
}
BY_SIZE = [pytest.param(*of, marks=[pytest.mark.slow] if of[0] != "solver_speed" else []) for of in TIMES.items()]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_imported(name):
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("name, column", BY_SIZE)
def test_a_benchmark_times_its_ways_on_this_machine(name, column, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(tmp_path))
    monkeypatch.setattr("benchmarks.common.WARM", 0)
    monkeypatch.setattr("sys.argv", [name, "--seconds", "0.001"])
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(module, "ROUNDS", 1, raising=False)
    module.main()
    assert f"{name}.csv" in capsys.readouterr().out
    with (tmp_path / "figures" / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows and all(float(row[column]) > 0 and row["machine.threads"] for row in rows)


@pytest.mark.slow
def test_whole_commands_are_timed(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["job_speed", "run", "--smoke", "--trainer", "cpu"])
    module = importlib.import_module("benchmarks.job_speed")
    monkeypatch.setitem(module.COMMANDS, "run", ["R=0.1", "trainer.max_epochs=3"])
    module.main()
    assert "what run" in capfd.readouterr().out
    with (tmp_path / "figures/job_speed.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["epochs"], row["exit_code"]) == ("3", "0") and 0 < float(row["training_s"]) < float(row["seconds"])


@pytest.mark.slow
def test_lightning_is_timed_beside_a_bare_loop(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["loop_speed", "--epochs", "1"])
    importlib.import_module("benchmarks.loop_speed").main()
    bare, lightning, _ = capsys.readouterr().out.splitlines()
    assert (bare.split()[0], lightning.split()[0]) == ("bare", "lightning") and float(lightning.split()[1]) > 0


@pytest.mark.parametrize(
    "what, text", [(count, "0"), (count, "-3"), (count, "2.5"), (positive, "nan"), (positive, "0"), (positive, "x")]
)
def test_what_is_no_number_of_seconds_or_rounds_is_said(what, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text}: .*; e.g."):
        what(text)


def test_numbers_of_seconds_and_rounds():
    assert (count("3"), positive("0.5")) == (3, 0.5)

"""Runs as files of a repository: exported, read beside a database or without one, drawn alike."""

import getpass
import math
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.__main__ import main
from inn_lab import tracking
from inn_lab.tracking.export import PRIVATE, Stored, load, save

ROOT = Path(__file__).parent.parent
SMALL = ["source=digits", "scale=smoke", "trainer.progress=false", "trainer.max_epochs=2"]


@pytest.fixture
def call(outputs, monkeypatch, capsys):
    """`call(word, …)`: exit code, stdout and stderr of `python -m experiments`, where INN_LAB_OUTPUTS is `outputs`."""
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(outputs))

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["experiments", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code or 0
        return code, *capsys.readouterr()

    return run


def made(folder: Path) -> dict[str, pd.DataFrame]:
    """The CSV files beside a report's figures, without what an export leaves out."""
    found = {path.name: pd.read_csv(path) for path in folder.glob("*.csv")}
    return {file: table.drop(columns=[key for key in PRIVATE if key in table]) for file, table in found.items()}


def stored(name: str, start: int = 0, **texts: str) -> Stored:
    texts = {"state": "finished", "lr": "0.001"} | texts
    return Stored(name, "FINISHED", start, texts, {"test/loss": 0.1}, {0: {"val/loss": 1.0}, 1: {"val/loss": 1 / 3}})


@pytest.mark.parametrize("name", ["iterations", pytest.param("sparsity_fixed_params", marks=pytest.mark.slow)])
def test_a_figure_is_the_same_from_the_database_and_from_its_export(lab, call, outputs, tmp_path, monkeypatch, name):
    """The first has TABLES, the second none."""
    for words in (["lr=0.001", "seed=0"], ["lr=0.001", "seed=1"], ["lr=0.01", "seed=0"]):
        assert lab(f"experiment={name}", *SMALL, *words)[0] == 0
    folder, elsewhere = tmp_path / "exported", tmp_path / "elsewhere"
    code, out, _ = call(name, "lr=0.001", "--export", folder)
    assert code == 0 and "2 of 2 runs" in out and "2 added" in out
    assert call(name, "lr=0.001")[0] == 0
    expected = made(outputs / "figures" / "lr=0.001")
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(elsewhere))
    code, out, _ = call("--runs", folder)
    assert code == 0 and "2 of 2 runs" in out and not (elsewhere / "mlflow.db").exists()
    drawn = made(elsewhere / "figures")
    assert drawn.keys() == expected.keys() and {f"{name}.csv", f"{name}_claims.csv"} <= drawn.keys()
    for file, table in expected.items():
        pd.testing.assert_frame_equal(drawn[file], table)

    code, out, _ = call(name, "lr=0.001", "--runs", folder, "--outputs", outputs)  # each run is in both
    assert code == 0 and "2 of 2 runs" in out
    for file, table in made(outputs / "figures" / "lr=0.001").items():
        pd.testing.assert_frame_equal(table, expected[file])
    code, out, _ = call(name, "lr=0.01", "--runs", folder, "--outputs", outputs)  # that run is in the database alone
    assert code == 0 and "1 of 1 runs" in out

    file = folder / f"{name}.parquet"
    before = file.read_bytes()
    assert call(name, "lr=0.001", "--export", folder, "--outputs", outputs)[0] == 0 and file.read_bytes() == before
    rows = pq.read_table(file)
    code, out, _ = call(name, "lr=0.01", "--export", folder, "--outputs", outputs)
    assert code == 0 and "1 added" in out
    after = pq.read_table(file)
    assert after.num_rows > rows.num_rows and after.slice(0, rows.num_rows).equals(rows)
    words = "\n".join(map(str, after.to_pylist()))
    for private in (str(tmp_path), str(outputs), str(Path.home()), str(ROOT), socket.gethostname(), "mlflow.", "'record'"):
        assert private not in words
    assert f"'{getpass.getuser()}'" not in words


def test_values_come_back_as_they_were(tmp_path):
    """NaN, infinite and missing numbers, and all bits of the others."""
    odd = Stored("a", "FINISHED", 5, {"lr": "null", "R": "0.1"}, {"x": math.nan, "y": 0.1 + 0.2}, {0: {"val/loss": math.inf}})
    late = Stored("b", "KILLED", 7, {"lr": "1e-3", "model": "inn"}, {}, {3: {"val/acc": math.nan, "val/loss": 1 / 3}})
    file = tmp_path / "new" / "a.parquet"
    assert save(file, [late, odd], {"t.csv": {"a": "n,word\n1,\n2,é\n"}}) == 2
    assert [run.run_id for run in load(file)] == ["a", "b"]
    assert repr(load(file)) == repr([odd, late])
    frame = tracking.read(None, "a", [file])
    assert frame["run_id"].tolist() == ["b", "a"] and frame["lr"].dtype == float and frame["model"].tolist()[0] == "inn"
    assert frame["epoch"].tolist() == [3, 0] and frame["val/loss"].tolist() == [1 / 3, math.inf]
    table = tracking.table(None, ["b", "a"], "t.csv", [file])
    assert table["run_id"].tolist() == ["a", "a"] and table["n"].dtype == int and table["word"].isna().tolist() == [True, False]


def test_paths_keep_their_last_name_only(tmp_path):
    texts = {"data.path": "/home/some one/series.csv", "model.path": "['~me/a/g.json', '/mnt/h.json']", "outputs": "/tmp/o"}
    texts |= {"data._target_": "inn_lab.data.Reber", "share": "1/2", "record": "17"}
    save(tmp_path / "a.parquet", [stored("a", **texts)], {})
    found = load(tmp_path / "a.parquet")[0].texts
    assert found == {
        "state": "finished",
        "lr": "0.001",
        "data.path": "series.csv",
        "model.path": "['g.json', 'h.json']",
        "data._target_": "inn_lab.data.Reber",
        "share": "1/2",
    }


def test_files_are_drawn_without_mlflow(tmp_path):
    """The repository's own runs, in a process that cannot import it."""
    code = "import sys; sys.modules['mlflow'] = None; from experiments.__main__ import main; main()"
    words = ["reber_dataset", "--runs", str(ROOT / "docs/runs")]
    environment = {"INN_LAB_OUTPUTS": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures" / "reber_dataset.png").exists()


def test_what_cannot_be_read_is_said_in_one_line(call, tmp_path):
    def said(*words: object) -> str:
        code, _, err = call(*words)
        assert code == 2 and err.startswith("experiments: ") and err.count("\n") == 1
        return err

    folder, file = tmp_path / "exported", tmp_path / "exported" / "iterations.parquet"
    assert "exported: there is no such folder" in said("iterations", "--runs", folder)
    folder.mkdir()
    assert f"no runs of iterations in {folder}" in said("iterations", "--runs", folder)
    file.write_text("no parquet")
    assert f"{file} cannot be read" in said("iterations", "--runs", folder)
    assert f"{file} cannot be read" in said("--runs", folder)
    pq.write_table(pa.table({"a": [1]}), file)
    assert f"{file} has not the columns of exported runs" in said("iterations", "--runs", folder)
    file.unlink()
    save(file, [stored("a")], {})
    whole = file.read_bytes()
    for share in (0.3, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        assert f"{file} cannot be read" in said("iterations", "--runs", folder)
    file.write_bytes(whole[:20] + b"\x00" * 40 + whole[60:])
    assert f"{file} cannot be read" in said("iterations", "--runs", folder)
    file.write_bytes(b"")
    assert f"{file} cannot be read" in said("iterations", "--runs", folder)
    half = tmp_path / "half.parquet"
    save(half, [stored("a")], {})
    pq.write_table(pq.read_table(half).slice(1), file)
    assert f"{file} begins in the middle of run a" in said("iterations", "--runs", folder)


def test_what_cannot_be_exported_is_said_in_one_line(call, lab, tmp_path):
    code, _, err = call("iterations", "--export", tmp_path / "new")
    assert code == 2 and "no runs of iterations" in err and not (tmp_path / "new").exists()
    code, _, err = call("--export", "iterations")
    assert code == 2 and "--export iterations: a folder comes next" in err
    assert lab("experiment=iterations", *SMALL)[0] == 0
    (tmp_path / "file").write_text("")
    code, _, err = call("iterations", "--export", tmp_path / "file")
    assert code == 2 and "cannot be written" in err and err.count("\n") == 1
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "iterations.parquet").write_text("no parquet")
    code, _, err = call("iterations", "--export", folder)
    assert code == 2 and "cannot be read" in err and (folder / "iterations.parquet").read_text() == "no parquet"

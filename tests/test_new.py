"""`inn-lab new`: the folder that it makes runs, is checked as the lab's own are, and has a figure with a verdict."""

import subprocess
import sys

import pytest

from experiments import __main__ as reports
from inn_lab import new
from inn_lab.errors import ConfigError


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The name of a new study, whose folder is the current one."""
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name.translate(str.maketrans('-.', '__'))}"
    new.make(name)
    monkeypatch.chdir(tmp_path / name)
    monkeypatch.syspath_prepend(tmp_path / name)
    return name


def test_a_new_study_runs_and_is_drawn(lab, outputs, runs, study, monkeypatch, capsys):
    words = (f"experiment={study}", "data.n_train=100", "trainer.max_epochs=1", "trainer.progress=false")
    assert lab(*words)[0] == 0
    assert set(runs(study)["source"]) == {"recall"} and set(runs(study)["model._target_"]) == {f"{study}.Leaky"}
    monkeypatch.setattr(sys, "argv", ["experiments", study])
    reports.main()
    out = capsys.readouterr().out
    assert "A state that forgets slowly" in out and "cut short" in out  # its own YAML says 20 epochs
    assert (outputs / f"figures/{study}.png").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ("model.leak=2", "model.leak=2.0: a probability lies in [0, 1]"),
        ("model.leek=1", "model.leek: there is no such key; did you mean model.leak"),
        ("data.delay=long", "data.delay=long: a whole number from 1 to 1000; e.g. data.delay=8"),
        ("model=leeky", "model=leeky: there is no such choice; did you mean leaky?"),
    ],
)
def test_its_keys_are_checked(lab, study, words, message):
    code, _, err = lab(f"experiment={study}", *words.split())
    assert code == 2 and err.startswith(f"inn_lab: {message}") and err.count("\n") == 1


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "new: one name is wanted"),
        (["A-b"], "new A-b: its module has this name"),
        (["class"], "new class: its module has this name"),
        (["json"], "new json: a module or an experiment has this name"),
        (["structure"], "new structure: a module or an experiment has this name"),
        (["there"], "new there: this folder is there already"),
    ],
)
def test_a_name_that_cannot_be_taken_is_said(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError) as caught:
        new.make(*words)
    assert str(caught.value).startswith(message) and [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.slow
def test_its_own_tests_pass(study):
    subprocess.run([sys.executable, "-m", "pytest", "-q"], check=True)

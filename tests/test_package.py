"""The lab without its clone: installed from a wheel, and `inn-lab`'s commands."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

from experiments import __main__ as reports
from inn_lab import __version__, doctor, identity, ui

ROOT = Path(__file__).parent.parent
PACKAGES = ("inn_lab", "experiments", "hydra_plugins")
NAME = rf"inn_lab-{re.escape(__version__)}-[0-9a-f]{{8}}"  # of the code, where there is no clone


def call(*command: str | Path, cwd: Path) -> str:
    """What it prints; an error with all of it unless it ends with 0."""
    alone = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "INN_LAB", "MLFLOW_TRACKING"))}
    done = subprocess.run(command, cwd=cwd, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def repository(folder: Path) -> str:
    """Makes it a user's repository with a file; its commit."""
    folder.mkdir()
    (folder / "notes").touch()
    for words in ("init", "add .", "-c user.name=x -c user.email=x commit -m mine"):
        call("git", *words.split(), cwd=folder)
    return call("git", "rev-parse", "HEAD", cwd=folder).strip()


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.suffix in (".py", ".yaml", ".html")}


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's repository, with an environment in .venv that the lab's wheel is installed in."""
    place = tmp_path_factory.mktemp("package")
    clone, mine = place / "clone", place / "mine"
    for name in (*PACKAGES, "conf", "examples", "benchmarks", "tests"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, clone)
    old = clone / "build/lib/inn_lab/old.py"  # an earlier build's, of a file that is deleted by now
    old.parent.mkdir(parents=True)
    old.touch()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, clone, cwd=place)
    repository(mine)
    venv.create(mine / ".venv", symlinks=True)
    (wheel,) = place.glob("*.whl")
    call(*pip, "--python", mine / ".venv/bin/python", "install", "--no-deps", wheel, cwd=place)
    (there,) = mine.glob(".venv/lib/python3*/site-packages")
    (there / "others.pth").write_text(str(Path(torch.__file__).parents[1]))  # what the lab needs, without its editable install
    return mine


def test_a_wheel_is_the_whole_lab(mine):
    (there,) = mine.glob(".venv/lib/python3*/site-packages")
    assert {path.name for path in there.iterdir()} == {*PACKAGES, f"inn_lab-{__version__}.dist-info", "others.pth"}
    data = {Path(name) / path for name in ("conf", "examples") for path in files(ROOT / name)}
    assert files(there / "inn_lab") == files(ROOT / "inn_lab") | data
    assert all(files(there / name) == files(ROOT / name) for name in ("experiments", "hydra_plugins"))
    assert "inn-lab figures [NAME …]" in call(mine / ".venv/bin/inn-lab", "--help", cwd=mine)
    code = "from inn_lab import identity; print(identity.__file__, identity.commit(), identity.lab())"
    file, name, digest = call(mine / ".venv/bin/python", "-c", code, cwd=mine).split()
    assert file == str(there / "inn_lab/identity.py")
    assert re.fullmatch(NAME, name) and digest == identity.lab()  # by another name the same code: it runs no job again


@pytest.mark.slow
def test_it_runs_and_draws_from_any_folder(mine):
    lab = mine / ".venv/bin/inn-lab"
    words = ("experiment=sparsity_fixed_params", "source=digits", "scale=smoke", "trainer.max_epochs=1")
    out = call(lab, *words, "-m", "R=0.9,1.0", cwd=mine)
    assert "\n2 finished\n" in out and "\n  python -m experiments sparsity_fixed_params sweep=" in out
    out = call(lab, "figures", cwd=mine)
    assert re.search(rf"\bcommit {NAME}\b", " ".join(out.split()))
    assert (mine / "outputs/figures/sparsity_fixed_params.png").exists()
    assert {path.name for path in mine.iterdir()} == {".git", ".venv", "notes", "outputs"}


def test_the_repository_of_a_user_is_not_the_lab_s(tmp_path, monkeypatch):
    """The lab's files are in a folder of it; or git runs in a hook of it."""
    commit = repository(tmp_path / "mine")
    lab = tmp_path / "mine/lab"
    (lab / "inn_lab").mkdir(parents=True)
    (lab / "inn_lab/code.py").touch()
    monkeypatch.setattr(identity, "ROOT", lab)
    assert call("git", "rev-parse", "HEAD", cwd=lab).strip() == commit  # git's own answer there
    assert re.fullmatch(NAME, identity.commit.__wrapped__())
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "mine/.git"))
    assert re.fullmatch(NAME, identity.commit.__wrapped__())


@pytest.mark.parametrize("name, module", [("doctor", doctor), ("figures", reports), ("report", reports), ("ui", ui)])
def test_a_command_is_the_first_word(lab, monkeypatch, name, module):
    monkeypatch.setattr(module, "main", lambda: print("its words:", sys.argv[1:]) or 3)
    more = ["structure", "source=digits"] if module is reports else []
    assert lab(name, *more) == (3, f"its words: {['--html'] * (name == 'report') + more}\n", "")


@pytest.mark.parametrize(
    "words, message",
    [
        ("figurs", "figurs: this is no command and no KEY=VALUE; did you mean figures?"),
        ("lstm -m", "lstm: this is no command and no KEY=VALUE; known are: doctor, evaluate, figures, new, report, ui"),
        ("source=digits figures", "figures: it comes first: inn-lab figures …"),
        ("doctor source=digits", "source=digits: doctor takes no words; INN_LAB_OUTPUTS names another folder of runs"),
    ],
)
def test_a_mistaken_command_is_one_line(lab, words, message):
    assert lab(*words.split()) == (2, "", f"inn_lab: {message}\n")


def test_a_command_says_what_it_does(lab):
    for name in ("doctor", "figures", "ui"):
        code, out, _ = lab(name, "--help")
        assert code == 0 and re.search(r"`(inn-lab|python -m) (doctor|experiments|ui)\b.*`: ", out)

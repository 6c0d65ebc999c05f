"""Which job this is, and which code computes it.

Two jobs with one identity compute the same, wherever they run. Two codes with one digest compute it in the same way. A job that
this code has finished is not run again; `again.look` decides by these two.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import re
import subprocess
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from inn_lab import __version__
from inn_lab.config import flat
from inn_lab.explain import CONF

ROOT = Path(__file__).resolve().parents[1]  # the clone, or the folder that the lab is installed in, beside others' packages
LAB = ROOT / "inn_lab"
CODE = ("inn_lab/**/*.py", "hydra_plugins/inn_lab_*/**/*.py", f"{CONF.relative_to(ROOT)}/**/*.yaml")  # what `commit` names
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
PYTHON = Path(sysconfig.get_path("stdlib")).resolve()
INSTALLED = {"site-packages", "dist-packages"}  # folders of what pip or a system has installed, of whatever environment

# Where and on what a run happens, and what it prints: two runs that differ in these alone are the same experiment.
NOT_SCIENCE = {
    "outputs",
    "resume",
    "source.root",
    "trainer.accelerator",
    "trainer.device",
    "trainer.cuda_graph",
    "trainer.progress",
    "trainer.checkpoint_s",
    "trainer.keep_weights",
}
FILES = {"data.path", "model.path", "start_from"}  # what is in them counts, not where they are

# Keys that came later, and the value that all runs had in effect before. At that value they do not count, so that the runs from
# before stay the same runs. A new key is entered here; tests/identities.json tells if it is not.
LATER: dict[str, object] = {
    "data.redraw": True,
    "data.probability": 1.0,
    "model.init_bias": "zero",
    "model.core": "torch",
    "model.R_layers": None,
    "model.spread": "uniform",
    "pruning.R": None,
    "pruning.reinit": False,
    "start_from": None,
    "debug": None,
    "optimizer._target_": "inn_lab.training.optimizers.adam",
    "optimizer.betas": [0.9, 0.999],
    "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.0,
    "schedule._target_": "inn_lab.training.schedules.constant",
    "schedule.warmup": 0.0,
    "trainer.patience": None,
    "trainer.best_weights": False,
}
# What a run had in effect without one of these keys or tags, which came later or are gone. Reports draw it with the others.
IMPLIED = {**LATER, "optimizer": "adam", "schedule": "constant", "data.flag": True, "trainer.precision": "32-true"}


def identity(cfg: DictConfig, *more: str) -> str:
    """A hash of what a job computes: two jobs that have it in common are the same, wherever they run. `more` counts as well."""
    values = {
        key: content(value) if key in FILES else value
        for key, value in flat(cfg).items()
        if key not in NOT_SCIENCE and not (key in LATER and value == LATER[key])
    }
    return hashlib.sha256(json.dumps([values, *more], sort_keys=True, default=str).encode()).hexdigest()[:12]


def content(path: str | None) -> str | None:
    """The identity of a file that a job reads: the hash of its bytes, and its suffix, which says how they are read."""
    try:
        if not path or not (file := Path(path).expanduser()).is_file():  # a device has no end
            return path
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() + file.suffix
    except (OSError, RuntimeError, ValueError):  # not to be read, no such home, no name of a file
        return path  # whoever reads it says what is wrong


class Code(NamedTuple):
    """The code of a job.

    name: for people, the lab's `commit`, and +MODULE-DIGEST where the job names code of the user's own.
    digest: two codes that have it in common do the same; comments, docstrings and layout do not count.
    """

    name: str
    digest: str


def code(cfg: DictConfig) -> Code:
    """The code of a job: the lab's, and of the classes and functions that the job names, wherever they are."""
    mine = own(str(value) for key, value in flat(cfg).items() if key.rpartition(".")[2] == "_target_" and value)
    if not mine:
        return Code(commit(), lab())
    names, digest = sorted({name.partition(".")[0] for name in mine}), digest_of(sorted(mine.items()))
    return Code(f"{commit()}+{','.join(names)}-{digest[:8]}", digest_of([("inn_lab", lab()), ("own", digest)]))


@functools.cache
def lab(*patterns: str) -> str:
    """A digest of the lab's own code, or of those of its files that match."""
    files = {path.relative_to(LAB) for pattern in patterns or ("**/*.py",) for path in LAB.glob(pattern)}
    mine = sorted(path for path in files if path.parts[0] != "examples")  # they lie there where the lab is installed
    return digest_of((str(path), read(LAB / path, 0)[0]) for path in mine)


def own(targets: Iterable[str]) -> dict[str, str]:
    """The code of the user's own that a job names: {module: what it says}, with what these modules import in turn.

    Of a library that a job names, the module that holds the name; what it imports is the library's business.
    """
    found: dict[str, str] = {}
    waiting = [module for target in targets if target.partition(".")[0] != LAB.name and (module := module_of(target))]
    while waiting:
        module = waiting.pop()
        path = place(module)
        if module in found or path is None or path.suffix != ".py" or not path.is_file():
            continue
        found[module], names = read(path, path.stat().st_mtime_ns)
        if not in_a_library(module):
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            above = module.rpartition(".")[0]
            waiting += [
                name for name in (above, *(absolute(name, package) for name in names)) if name and not in_a_library(name)
            ]
    return found


def module_of(target: str) -> str | None:
    """The module that a dotted name begins with: "nets.deep.Net" -> "nets.deep"; None if there is no such module."""
    while target and place(target) is None:
        target = target.rpartition(".")[0]
    return target or None


def place(module: str) -> Path | None:
    """A module's file, of a folder without an __init__.py the folder; None if there is no such module."""
    with suppress(
        Exception
    ):  # looking for a.b imports a, and that is the user's code: whoever builds the job tells what ails it
        spec = importlib.util.find_spec(module)
        if spec and (where := spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)):
            return Path(where).resolve()
    return None


def in_a_library(module: str) -> bool:
    """Whether the lab, Python or an installed package has it. Asked of the first word, for which nothing is imported."""
    path = place(module.partition(".")[0])
    known = (LAB, ROOT / "experiments", PYTHON)
    return path is None or any(map(path.is_relative_to, known)) or not INSTALLED.isdisjoint(path.parts)


def absolute(name: str, package: str) -> str | None:
    """An imported name from the root: "..nets.Net" of the package a.b is a.nets.Net."""
    with suppress(ImportError):
        return importlib.util.resolve_name(name, package)
    return None


@functools.cache
def read(path: Path, _changed: int) -> tuple[str, list[str]]:
    """A Python file's code without comments, docstrings and layout; and the names that it imports."""
    try:
        tree = ast.parse(text := path.read_bytes())
    except (SyntaxError, ValueError):  # whoever imports it tells
        return hashlib.sha256(text).hexdigest(), []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (f"{node.module}." if node.module else "")
            names += [base.rstrip(".") or base, *(base + alias.name for alias in node.names)]
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            del node.body[0]
    return ast.dump(tree), names


def digest_of(parts: Iterable[tuple[str, str]]) -> str:
    """Of (name, what it says), in order."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


@functools.cache
def commit() -> str:
    """The lab's code by name: its git commit, where the files differ from it with -dirty and a digest of them
    (COMMIT-dirty-1a2b3c4d); without a clone of its own its version and that digest (inn_lab-0.1.0-1a2b3c4d). Two states of the
    code never have the same name."""

    def git(*words: str) -> str:
        # The repository is named: git would take the one of a user, in whose folder the lab is.
        here = ["git", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}", *words]
        return subprocess.run(here, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    name = f"inn_lab-{__version__}"
    if not CONF.is_relative_to(LAB):  # where it is installed, a repository is not the lab's
        with suppress(OSError, subprocess.CalledProcessError):
            head = git("rev-parse", "HEAD")
            if not git("--glob-pathspecs", "status", "--porcelain", "--untracked-files=all", "--", *CODE):
                return head
            name = f"{head}-dirty"
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return f"{name}-{digest.hexdigest()[:8]}"


def short(commit: str) -> str:
    """A commit as it is printed: 1234567, 1234567-dirty-1a2b3c4d."""
    return re.sub(r"^([0-9a-f]{7})[0-9a-f]{33}", r"\1", commit)

"""Every experiment's YAML, and every choice of every group: composed, built, run for a batch."""

import copy
import importlib
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import SMOKE
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig

from experiments import __main__ as door
from experiments import claims, drawing, selection
from experiments.verdicts import AGREES, DIFFERS
from hydra_plugins.inn_lab_grid.sweeper import combine
from hydra_plugins.inn_lab_search.space import Space
from inn_lab import config, explain, parts, schema, tracking
from inn_lab.errors import ConfigError

CONF = Path(__file__).parent.parent / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


SHORT = {
    "pruning": ["pruning.epochs=1"],
    "pace": ["data.n_train=100"],
    "set_mnist": ["data.n_train=600"],
    "sru_equivalence": ["study.steps=10"],
}


def first_jobs(name: str) -> list[list[str]]:
    """The first job of each of an experiment's grids."""
    grids = (
        yaml.safe_load((CONF / f"experiment/{name}.yaml").read_text()).get("hydra", {}).get("sweeper", {}).get("grids", [{}])
    )
    parser = OverridesParser.create()
    words = [{key: f"{key}={'null' if value is None else value}" for key, value in grid.items()} for grid in grids]
    return [first_trial(grid, parser) or combine([grid], [], parser)[0] for grid in words]


def first_trial(grid: dict[str, str], parser: OverridesParser) -> list[str] | None:
    """The middle of a grid that is a space to search; None of one that is not."""
    table = parser.parse_overrides(list(grid.values()))
    searched = any(isinstance(axis.value(), IntervalSweep) for axis in table if axis.is_sweep_override())
    return Space.of(table).corners()[0] if searched else None


def composed(*words: str) -> DictConfig:
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*SMOKE, *words])


def kinds(jobs: list[list[str]]) -> list[list[str]]:
    """The jobs with a choice (of a model, data, …) that no job before has. Their combinations are for the slow test."""
    seen: set[str] = set()
    found = []
    for job in jobs:
        choices = {word for word in job if (CONF / word.partition("=")[0]).is_dir()} or {""}
        if not choices <= seen:
            found.append(job)
        seen |= choices
    return found


@pytest.fixture(scope="module")
def paper():
    """`claims.paper`, which composes a configuration, once for each experiment."""
    return cache(claims.paper)


@pytest.mark.parametrize("chosen", [kinds, pytest.param(list, marks=pytest.mark.slow)], ids=["kinds", "grids"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_from_end_to_end(lab, runs, outputs, monkeypatch, capsys, paper, name, chosen):
    """A job of each kind in its grids, or slowly of each grid, then its figures and claims. Those that aren't run are built."""
    monkeypatch.setattr(drawing, "paper", paper)
    short = ["trainer.max_epochs=1", *SHORT.get(name, ())]
    jobs = first_jobs(name)
    run = chosen(jobs)
    for job in jobs:
        if job in run:
            assert lab(f"experiment={name}", *SMOKE, *job, *short)[0] == 0
        else:
            cfg = composed(f"experiment={name}", *job, *short)
            config.check(cfg)
            parts.build(cfg, torch.device("cpu"))
    assert list(runs(name).drop_duplicates("run_id")["state"]) == ["finished"] * len(run)
    monkeypatch.setattr(sys, "argv", ["experiments", name, "--outputs", str(outputs)])
    door.main()
    out = capsys.readouterr().out
    assert f"{len(run)} of {len(run)} runs" in out and "scale smoke" in out
    made = {path.suffix for path in (outputs / "figures").glob(f"{name}*") if path.stat().st_size > 0}
    assert made == {".png", ".pdf", ".csv", ".tex"} and (outputs / "figures" / f"{name}_claims.csv").exists()
    assert not judged(outputs, name, paper(name))


def judged(outputs: Path, name: str, asked: dict[str, object]) -> list[str]:
    """The sentences on data or training that get a verdict from these runs, were they of the source's scale and data."""
    module = importlib.import_module(f"experiments.{name}")
    runs, _ = selection.select(tracking.read(outputs, name), module.AXES, {})
    tables = {
        key: made(runs) if callable(made) else tracking.table(outputs, runs["run_id"].unique(), made)
        for key, made in getattr(module, "TABLES", {}).items()
    }
    given = [claim for claim in module.CLAIMS if claim.images]
    like = runs.assign(scale="paper", source=min(claims.THEIRS.get(given[0].source.split()[0], {"mnist"}))) if given else runs
    table = claims.claims_table(given, like, asked, **tables)
    return table[table["verdict"].isin([AGREES, DIFFERS])]["sentence"].tolist()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_its_command_and_has_a_report(name):
    text = (CONF / f"experiment/{name}.yaml").read_text()
    assert f"{text.splitlines()[1]} ".startswith(f"# python -m inn_lab experiment={name} ") and " -m\n" in text
    question, command = explain.question(name)
    assert command == text.splitlines()[1].removeprefix("# ") and len(question) > 40 and "#" not in question
    assert name in door.names()


@pytest.fixture(scope="module")
def with_choice():
    """`with_choice("model=inn")`: the configuration with this choice, composed once."""
    return cache(lambda word: composed("n_weights=200000", word))


@pytest.mark.parametrize("model", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
@pytest.mark.parametrize("data", sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "cifar10"))
def test_every_model_runs_on_every_data(outputs, with_choice, tmp_path, model, data):
    """Built as a job is, trained on one batch. (cifar10 on digits is mnist_classification; see test_colour.py.)"""
    cfg = copy.deepcopy(with_choice(f"data={data}"))
    cfg.model = with_choice(f"model={model}").model  # no model's YAML says anything beside its own part
    if data == "tensors":
        np.savez(tmp_path / "own.npz", x=np.arange(7200).reshape(600, 3, 4) / 7200, y=np.arange(600) % 3)
        cfg.data.path = str(tmp_path / "own.npz")
    config.check(cfg)
    if model in ("resnet", "wormhole") and data in ("reber", "sine", "tensors"):
        with pytest.raises(ConfigError, match="convolutions read images, and these data are none"):
            parts.build(cfg, torch.device("cpu"))
        return
    job = parts.build(cfg, torch.device("cpu"))(run=None, title="")
    x, y = next(iter(job.data.batches("train")))
    job.objective.loss(job.objective.read(job.model(x), x), y).backward()
    grads = [parameter.grad for parameter in job.model.parameters()]
    assert job.data.steps == 1 or None not in grads  # at a single step nothing reads the state
    assert any(grad is not None for grad in grads) and all(grad.isfinite().all() for grad in grads if grad is not None)
    assert job.model.size(job.data.steps)["weights"] == job.model.n_weights > 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["sparsity_fixed_parms"], "there is no such report; did you mean sparsity_fixed_params or sparsity_fixed_dims?"),
        (["sparsity_fixed_params"], "no runs of sparsity_fixed_params in sqlite:///"),
    ],
)
def test_a_report_that_cannot_be_drawn(outputs, monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, "argv", ["experiments", *words, "--outputs", str(outputs)])
    with pytest.raises(SystemExit) as exit:
        door.main()
    assert exit.value.code == 2 and message in capsys.readouterr().err


def test_what_cannot_be_drawn_does_not_keep_the_rest_from_it(lab, outputs, monkeypatch, capsys):
    for name in ("iterations", "sparsity_fixed_params"):
        assert lab(f"experiment={name}", *SMOKE, "trainer.max_epochs=1")[0] == 0
    monkeypatch.setattr(sys, "argv", ["experiments", "lr=0.0001", "--outputs", str(outputs)])
    door.main()
    out = capsys.readouterr().out
    assert (
        "iterations: lr=0.0001: no run has it; there are runs with lr=0.001" in out and "sparsity_fixed_params: 1 of 1" in out
    )

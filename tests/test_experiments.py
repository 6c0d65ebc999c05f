"""Every experiment's YAML, and every choice of every group: composed, built, run for a batch."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments import claims, selection
from experiments.__main__ import main, names
from experiments.verdicts import AGREES, DIFFERS
from hydra_plugins.inn_lab_grid.sweeper import combine
from inn_lab import parts, schema, tracking
from inn_lab.errors import ConfigError

CONF = Path(__file__).parent.parent / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def first_jobs(name: str) -> list[list[str]]:
    """The first job of each of an experiment's grids."""
    grids = (
        yaml.safe_load((CONF / f"experiment/{name}.yaml").read_text()).get("hydra", {}).get("sweeper", {}).get("grids", [{}])
    )
    parser = OverridesParser.create()
    return [combine([{key: f"{key}={value}" for key, value in grid.items()}], [], parser)[0] for grid in grids]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_from_end_to_end(lab, runs, outputs, monkeypatch, capsys, name):
    """A job of each of its grids, then its figures and claims."""
    jobs = first_jobs(name)
    for job in jobs:
        words = ["source=digits", "scale=smoke", "trainer.progress=false", *job, "trainer.max_epochs=1"]
        words += {"pruning": ["pruning.epochs=1"], "pace": ["data.n_train=200"]}.get(name, [])
        assert lab(f"experiment={name}", *words)[0] == 0
    assert list(runs(name).drop_duplicates("run_id")["state"]) == ["finished"] * len(jobs)
    monkeypatch.setattr(sys, "argv", ["experiments", name, "--outputs", str(outputs)])
    main()
    out = capsys.readouterr().out
    assert f"{len(jobs)} of {len(jobs)} runs" in out and "scale smoke" in out
    made = {path.suffix for path in (outputs / "figures").glob(f"{name}*") if path.stat().st_size > 0}
    assert made == {".png", ".pdf", ".csv"} and (outputs / "figures" / f"{name}_claims.csv").exists()
    assert not judged(outputs, name)


def judged(outputs: Path, name: str) -> list[str]:
    """The sentences on data or training that get a verdict from these runs, were they of the source's scale and data."""
    module = importlib.import_module(f"experiments.{name}")
    runs, _ = selection.select(tracking.read(outputs, name), module.AXES, {})
    tables = {
        key: made(runs) if callable(made) else tracking.table(outputs, runs["run_id"].unique(), made)
        for key, made in getattr(module, "TABLES", {}).items()
    }
    given = [claim for claim in module.CLAIMS if claim.images]
    like = runs.assign(scale="paper", source=min(claims.THEIRS.get(given[0].source.split()[0], {"mnist"}))) if given else runs
    table = claims.claims_table(given, like, claims.paper(name), **tables)
    return table[table["verdict"].isin([AGREES, DIFFERS])]["sentence"].tolist()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_its_command_and_has_a_report(name):
    text = (CONF / f"experiment/{name}.yaml").read_text()
    assert text.splitlines()[1] == f"# python -m inn_lab experiment={name} -m"
    assert name in names()


@pytest.mark.parametrize("model", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
@pytest.mark.parametrize("data", sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "cifar10"))
def test_every_model_runs_on_every_data(outputs, tmp_path, model, data):
    """Composed and built as a job is, trained on one batch. (cifar10 on digits is mnist_classification; see test_colour.py.)"""
    schema.register()
    words = ["source=digits", "scale=smoke", "n_weights=200000", f"model={model}", f"data={data}"]
    if data == "tensors":
        np.savez(tmp_path / "own.npz", x=np.arange(7200).reshape(600, 3, 4) / 7200, y=np.arange(600) % 3)
        words.append(f"data.path={tmp_path / 'own.npz'}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", words)
    if model in ("resnet", "wormhole") and data in ("reber", "sine", "tensors"):
        with pytest.raises(ConfigError, match="convolutions read images, and these data are none"):
            parts.build(cfg, torch.device("cpu"))
        return
    job = parts.build(cfg, torch.device("cpu"))(run=None, title="")
    x, y = next(iter(job.data.batches("train")))
    job.objective.loss(job.objective.read(job.model(x), x), y).backward()
    assert all(parameter.grad.isfinite().all() for parameter in job.model.parameters())
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
        main()
    assert exit.value.code == 2 and message in capsys.readouterr().err


def test_what_cannot_be_drawn_does_not_keep_the_rest_from_it(lab, outputs, monkeypatch, capsys):
    for name in ("iterations", "sparsity_fixed_params"):
        assert (
            lab(f"experiment={name}", "source=digits", "scale=smoke", "trainer.progress=false", "trainer.max_epochs=1")[0] == 0
        )
    monkeypatch.setattr(sys, "argv", ["experiments", "lr=0.0001", "--outputs", str(outputs)])
    main()
    out = capsys.readouterr().out
    assert (
        "iterations: lr=0.0001: no run has it; there are runs with lr=0.001" in out and "sparsity_fixed_params: 1 of 1" in out
    )

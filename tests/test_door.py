"""The command line: what it offers, and what it says to a mistake."""

import re
import subprocess
import sys

import pytest
import torch
from conftest import SMOKE

from experiments import __main__ as reports
from inn_lab import doctor, ui


def test_help_shows_groups_choices_and_examples_without_heavy_imports():
    code = (
        "import runpy, sys; sys.argv = ['inn_lab', '--help']\n"
        "try: runpy.run_module('inn_lab', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('HEAVY', {'torch', 'numpy', 'mlflow', 'networkx', 'matplotlib'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY set()" in out
    for line in (
        "model: blocks, by_column, by_diagonal, gru, inn, layered_inn, lstm, mlp, random_graph, represented, resnet, rnn, "
        "settled_inn, settled_mlp, sru, wormhole",
        "data: cifar10, mnist_classification, random_anomaly, reber, sine, tensors, uniform_anomaly",
        "source: cifar10, digits, fashion_mnist, mnist",
        "scale: paper, smoke",
        "trainer: auto, cpu, gpu",
        "optimizer: adam, adamw, sgd",
        "schedule: constant, cosine, step",
        "debug: one_batch, overfit, profile",
        "study: count_flops, gallery, lottery, probe_iterations, probe_settling, prune, sru_equivalence, strings, "
        "time_product, time_step, train",
    ):
        assert line in out
    assert out.count("python -m inn_lab ") == 4  # three examples, and where the flags are listed


@pytest.mark.parametrize(
    "line, choices",
    [("inn-lab mod", {"model="}), ("inn-lab model=l", {"model=lstm"}), ("inn-lab trainer.max_ep", {"trainer.max_epochs="})],
)
def test_tab_completion(lab, monkeypatch, line, choices):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setattr(sys, "argv", ["inn-lab"])
    _, out, _ = lab("-sc", "query=bash")
    assert choices <= set(out.split())


def test_the_configuration_is_in_colour_on_a_terminal_alone(lab, monkeypatch):
    _, plain, _ = lab("--cfg", "job")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    _, out, _ = lab("--cfg", "job")
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()]
    assert "\x1b" not in plain and out.count("\x1b") > 100 and lines == plain.splitlines()


MISTAKES = {
    "foo=1": "foo: there is no such key",
    "+foo=1": "foo: there is no such key",
    "+model.inti=normal": "model.inti: model._target_=inn_lab.models.INN takes no such key; did you mean init",
    "modle=lstm": "modle: there is no such key; did you mean model",
    "model.inti=normal": "model.inti: there is no such key; did you mean model.init",
    "model=lstn": "model=lstn: there is no such choice; did you mean lstm?",
    "source=mnits": "source=mnits: there is no such choice; did you mean .*mnist",
    "model=null": "model=null: model is one of its choices; known are: .*lstm",
    "-m model=inn,null": "model=inn,null: model is one of its choices",
    "hydra/launcher=null": "hydra/launcher=null: hydra/launcher is one of its choices; leave it out",
    "source=[]": r"source=\[\]: source is one of its choices",
    "experiment=/structure": "experiment=/structure: a choice is a name, without a slash or a dot; e.g. experiment=structure",
    "experiment=../experiment/structure": "experiment=../experiment/structure: a choice is a name",
    "experiment=structure.yaml": "experiment=structure.yaml: a choice is a name",
    "model=/inn": "model=/inn: a choice is a name, without a slash or a dot; e.g. model=inn",
    "outputs=": "outputs='' .or INN_LAB_OUTPUTS.: a folder has a name; e.g. outputs=outputs",
    "outputs=null": "outputs=None: a text is wanted; leave it out",
    "hydra.run.dir=": "hydra.run.dir=: it lies outside outputs=.*; leave it out, or set outputs=…",
    "hydra.run.dir=/nowhere": "hydra.run.dir=/nowhere: it lies outside outputs=",
    "-m hydra.sweep.dir=/nowhere": "hydra.sweep.dir=/nowhere: it lies outside outputs=",
    "-m hydra.sweep.subdir=../../../x": "hydra.sweep.subdir=../../../x: it lies outside outputs=",
    "hydra.output_subdir=/nowhere": "hydra.output_subdir=/nowhere: it lies outside outputs=",
    "hydra.job.name=../../../x": "hydra.job.name=../../../x: it lies outside outputs=",
    "~model": "~model: nothing can be taken away, only set; model=…",
    "~seed": "~seed: nothing can be taken away",
    "pruning.amount=0.5": "pruning.amount: there is no such key without a pruning; choose one, pruning=…",
    "experiment=sparsity": "experiment=sparsity: there is no such choice; .*sparsity_fixed_params",
    "R=abc": r"R=abc: a density lies in \(0, 1\], or null; e.g. R=0.2",
    "R=[": r"R=\[: cannot be read",
    "R=1.5": r"R=1.5: a density lies in \(0, 1\], or null; e.g. R=0.2",
    "R=0": r"R=0.0: a density lies in \(0, 1\]",
    "lr=-1": "lr=-1.0: a learning rate is a positive number",
    "seed=-1": "seed=-1: a whole number from 0 to",
    "seq_len=2": "seq_len=2: a whole number from 3 to 10000, an anomaly stands among at least 3 images",
    "seq_len=200": "seq_len=200",
    "n_weights=100": "cannot be defined.*n_weights.*R",
    "depth=610": "n_weights.*R.*depth.*too many",
    "R=null": "n_weights.*(too few|needs|missing|alone)",
    "model=lstm n_weights=1000": "n_weights=1000.*n_weights",
    "objective.index=false objective.flag=false": "nothing is left to train for",
    "data=mnist_classification objective.at=first": "objective.at=first: one of last, all",
    "data=mnist_classification data.transforms=shear": "transforms=shear.*none",
    "data.batch_size=0": "batch_size=0",
    "learning_rate=1e-3": r"learning_rate: there is no such key; did you mean lr\?",
    "epochs=3": r"epochs: there is no such key; did you mean trainer.max_epochs\?",
    "batch_size=64": r"batch_size: there is no such key; did you mean data.batch_size\?",
    "model.hidden_size=9": "model.hidden_size: there is no such key; model=gru, lstm, rnn, sru have it",
    "R=0.1,0.2": "R=0.1,0.2: several values are a sweep; add -m",
    "-m R=0.1, 0.2": "0.2: this is no KEY=VALUE; a list of values has no space after its commas",
    "R=${nope}": "R: Interpolation key 'nope' not found; e.g. R=0.2",
    "source.name=???": "source.name: Missing mandatory value",
    "-p nope -c job": "--package=nope: the configuration has no such part; known are: ",
    "-p model.nope -c job": "--package=model.nope: the configuration has no such part; see --cfg job --package=model",
    "model=by_column model._target_=inn_lab.models.LSTM": "model.hidden: model._target_=inn_lab.models.LSTM takes no such key",
    "--nope": "--nope: there is no such flag",
    "=1": "=1: no key begins so",
    "-m seed=range(0,1e9)": "1000000000 jobs, and a sweep has at most 10000; give fewer values",
    "-m seed=range(0,1,0)": r"seed=range\(0,1,0\): a range's step is not 0",
    "experiment=sparsity_fixed_params -m model=gru": "model=gru: the experiment's grids are for model=inn, model=lstm",
    "model.depth=1e7 model.n_weights=null": "model.depth=10000000: the model would take .* of memory, and ",
    "source.image_size=9999": "source.image_size=9999: 1797 images would take .* of memory, and this machine has",
    "model._target_=torch.nn.Identity": "what it makes is no model, it has no size, told; leave it out",
    "objective._target_=torch.nn.Identity": "what it makes is no objective, it has no read, loss, answer, correct; leave it",
    "model._target_=os.getcwd": "model.n_weights: model._target_=os.getcwd takes no such key",
    "data=reber data.path=/dev/zero": "data.path=/dev/zero: it cannot be read as a table .it is a folder or a device.; give",
    "model.init=xavier": "init=xavier.*normal",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(lab, outputs, arguments):
    code, _, err = lab("source=digits", *arguments.split())
    assert code == 2
    (line,) = err.strip().splitlines()
    assert line.startswith("inn_lab: ")
    assert re.search(MISTAKES[arguments], line), line
    assert not (outputs / "mlflow.db").exists()  # nothing was run


def test_every_job_of_a_sweep_goes_by_one_name_and_into_one_folder(lab, outputs):
    for words, message in [
        ("experiment=structure,../experiment/structure", "experiment=../experiment/structure: a choice is a name"),
        ("outputs=a,b", "outputs=b: a sweep has one folder; run a command for each"),
    ]:
        code, _, err = lab(*SMOKE, "-m", words)
        assert code == 2 and "nothing was run" in err.splitlines()[0] and message in err.splitlines()[-1]
        assert not (outputs / "jobs").exists()


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_name_of_the_outputs_folder_is_one_line_wherever_it_is_read(lab, capsys, monkeypatch, tmp_path, empty):
    monkeypatch.setenv("INN_LAB_OUTPUTS", empty)
    monkeypatch.chdir(tmp_path)
    line = f"outputs={empty!r} (or INN_LAB_OUTPUTS): a folder has a name; e.g. outputs=outputs"
    for words in (SMOKE, [*SMOKE, "-m", "seed=0,1"]):
        code, _, err = lab(*words)
        assert (code, err) == (2, f"inn_lab: {line}\n")
    with pytest.raises(SystemExit, match="2"):
        ui.main()
    assert capsys.readouterr().err == f"ui: {line}\n"
    assert doctor.main() == 1 and capsys.readouterr().out.count(line) == 2
    for words in ([], ["--outputs", empty]):
        monkeypatch.setattr(sys, "argv", ["experiments", "structure", *words])
        with pytest.raises(SystemExit, match="2"):
            reports.main()
        assert capsys.readouterr().err == f"experiments: {line}\n"
    assert not list(tmp_path.iterdir())


def test_a_report_s_name_leads_nowhere(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments", "../x"])
    with pytest.raises(SystemExit, match="2"):
        reports.main()
    assert capsys.readouterr().err.startswith("experiments: ../x: there is no such report")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(lab):
    code, _, err = lab(*SMOKE, "trainer=gpu")
    assert (code, err) == (2, "inn_lab: trainer=gpu: torch sees no CUDA device here; use trainer=auto or trainer=cpu\n")


@pytest.mark.parametrize("words", ["", "-m seed=0,1"])
@pytest.mark.parametrize("folder", ["outputs", "elsewhere"])
def test_outputs_that_may_not_be_written_are_said_and_no_other_folder_is_called_so(lab, outputs, monkeypatch, words, folder):
    path = outputs.with_name(folder) / "jobs"

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("inn_lab.again.find", refuse)
    if folder == "elsewhere" and not words:
        with pytest.raises(RuntimeError, match="PermissionError inside a job"):  # where a job reads, it says what it cannot
            lab(*SMOKE)
        return
    code, _, err = lab(*SMOKE, *words.split())
    head = "outputs cannot be written: " if folder == "outputs" else ""
    assert code == 2 and err.splitlines()[-1].startswith(f"inn_lab: {head}[Errno 13] Permission denied: '{path}'")


@pytest.mark.parametrize(
    "yaml, message",
    [
        (
            "model: {inti: fan_in}",
            r"model.inti: model._target_=inn_lab.models.INN takes no such key; did you mean init",
        ),
        ("fooo: 1", r"fooo \(in conf/experiment/mine.yaml\): there is no such key"),
        ("R: much", r"R=much \(in conf/experiment/mine.yaml\): a density"),
        ("R: [", "while parsing"),
        ("defaults: [override /model: foo]", "model=foo: there is no such choice"),
    ],
)
def test_a_mistake_in_a_yaml(lab, tmp_path, yaml, message):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{yaml}\n")
    code, _, err = lab("--config-dir", str(tmp_path), "experiment=mine")
    assert code == 2
    (line,) = err.strip().splitlines()
    assert re.search(message, line), line


def test_a_class_that_takes_anything_works_and_it_is_said(lab, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = OWN.replace("own_net", "any_net").replace(
        'window: Annotated[int, count(1, 9, 3)], to: Literal["mean", "last"], ', ""
    )
    (tmp_path / "any_net.py").write_text(text.replace("generator):", "generator, **more):").replace(", window", ", more"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/anything.yaml").write_text("_target_: any_net.Net\nwindow: 3\n")
    words = ["--config-dir", str(tmp_path), *SMOKE, "model=anything", "trainer.max_epochs=1", "-m", "+model.more=2", "seed=0,1"]
    code, out, _ = lab(*words)
    said = "model._target_=any_net.Net: it does not say which arguments it takes; its keys are not checked"
    assert (
        code == 0
        and out.count(said) == 1
        and out.index(said) < out.index("2 at a time" if "2 at a time" in out else "at a time")
    )


OWN = """
from typing import Annotated, Literal
from inn_lab.models.base import Model, linear
from inn_lab.ranges import count

class Net(Model):
    def __init__(self, n_inputs, n_outputs, *, window: Annotated[int, count(1, 9, 3)], to: Literal["mean", "last"], generator):
        super().__init__(n_inputs)
        self.readout, self.window = linear(n_inputs, n_outputs, generator), window

    def forward(self, x):
        return self.readout(x)
"""


@pytest.mark.parametrize(
    "words, message",
    [
        ("", None),
        ("model.window=10", "model.window=10: a whole number from 1 to 9; e.g. model.window=3"),
        ("model.window=wide", "model.window=wide: a whole number from 1 to 9; e.g. model.window=3"),
        ("model.to=first", "model.to=first: one of mean, last; e.g. model.to=mean"),
        ("+model.widow=2", "model.widow: model._target_=own_net.Net takes no such key; did you mean window?"),
        ("+model.generator=2", "model.generator: model._target_=own_net.Net takes no such key"),
    ],
)
def test_the_arguments_of_an_own_class_are_its_schema(lab, tmp_path, monkeypatch, words, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_net.py").write_text(OWN)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/own.yaml").write_text("_target_: own_net.Net\nwindow: 3\nto: mean\n")
    code, _, err = lab("--config-dir", str(tmp_path), *SMOKE, "model=own", "trainer.max_epochs=1", *words.split())
    assert (code == 0) == (message is None), err
    assert message is None or err.startswith(f"inn_lab: {message}")

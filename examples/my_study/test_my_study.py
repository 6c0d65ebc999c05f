"""`pytest` here: the model remembers its first input, and the experiment runs for one epoch."""

import subprocess
import sys

import torch
from my_study import Leaky, Recall


def test_the_first_input_reaches_the_last_output():
    model = Leaky(4, 4, hidden=30, R=0.5, leak=0.5, generator=torch.Generator().manual_seed(0))
    x = torch.zeros(1, 9, 4)
    other = x.clone()
    other[0, 0] = 1
    assert not torch.equal(model(x)[0, -1], model(other)[0, -1])


def test_each_symbol_is_shown_first():
    sizes = {"n_train": 100, "n_val": 10, "n_test": 10, "batch_size": 25}
    data = Recall(symbols=4, delay=3, **sizes, seed=0, device=torch.device("cpu"), once=None)
    x, y = map(torch.cat, zip(*data.batches("train"), strict=True))
    assert x.shape == (100, 4, 4) and (x[:, 0].argmax(1) == y).float().mean() > 0.8


def test_the_experiment_runs(tmp_path):
    words = ["experiment=my_study", "trainer.max_epochs=1", "data.n_train=100", f"outputs={tmp_path}"]
    subprocess.run([sys.executable, "-m", "inn_lab", *words], check=True)

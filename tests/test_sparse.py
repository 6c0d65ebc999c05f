"""Sparse layers in anybody's network: they compute what a masked `torch.nn.Linear` does, and torch's tools work on them."""

import copy
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from inn_lab.errors import ConfigError
from inn_lab.seeding import generator
from inn_lab.sparse import Sparse, count_weights, sparsify


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.ModuleDict({"deep": nn.Linear(20, 8)})["deep"], nn.LayerNorm(8))


def gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Of x and then of the parameters, the weights first."""
    parameters = sorted(module.named_parameters(), key=lambda named: named[0].endswith("bias"))
    return list(torch.autograd.grad(module(x).square().sum(), [x, *(parameter for _, parameter in parameters)]))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1), st.booleans(), st.sampled_from(["csr", "masked", "auto"]))
def test_a_sparse_layer_is_a_masked_linear_one(n_in, n_out, R, bias, linear):
    layer = Sparse(n_in, n_out, R=R, bias=bias, linear=linear, generator=generator(0)).double()
    indices, values = layer.map.entries()
    assert layer.n_weights == len(indices) == max(1, round(R * n_in * n_out))
    twin = nn.Linear(n_in, n_out, bias=bias).double()
    with torch.no_grad():
        twin.weight.zero_().view(-1)[indices] = values
        if bias:
            twin.bias.copy_(layer.bias)
    x = torch.randn(3, n_in, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(layer(x), twin(x))
    dx, dw, *db = gradients(twin, x)
    got = gradients(layer, x)
    found = got[1] if got[1].dim() == 1 else got[1].flatten()[indices]  # values alone, or a whole matrix
    assert torch.allclose(got[0], dx) and torch.allclose(found, dw.flatten()[indices])
    assert all(map(torch.allclose, got[2:], db))


def test_it_is_initialised_as_torch_does_by_what_a_row_reads():
    layer = Sparse(1000, 50, R=0.1, generator=generator(0))
    bound = 1 / 100**0.5
    _, values = layer.map.entries()
    for drawn in (values, layer.bias.detach()):
        assert drawn.abs().max() <= bound and float(drawn.std()) == pytest.approx(bound / 3**0.5, rel=0.2)


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_torchs_tools_work_on_it(linear):
    layer = Sparse(16, 8, R=0.3, linear=linear, generator=generator(0))
    x = torch.randn(4, 16, requires_grad=True)
    y, grads = layer(x), gradients(layer, x)
    held = io.BytesIO()
    torch.save(layer, held)
    held.seek(0)
    loaded = Sparse(16, 8, R=0.3, linear=linear, generator=generator(1))
    loaded.load_state_dict(layer.state_dict())
    for other in (torch.load(held, weights_only=False), copy.deepcopy(layer), layer.to("cpu"), loaded):
        assert torch.equal(other(x), y)
    (again,) = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).square().sum(), [x])
    assert torch.equal(again, grads[0])
    with torch.autocast("cpu"):
        assert torch.allclose(layer(x.to(torch.bfloat16)).float(), y, atol=0.05)


@pytest.mark.filterwarnings("ignore")  # torch warns of itself while it looks at what it cannot compile
@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_a_compiled_network_around_it_computes_the_same(linear):
    whole = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), Sparse(16, 8, R=0.3, linear=linear, generator=generator(0)), nn.Tanh())
    x = torch.randn(4, 16, requires_grad=True)
    compiled = torch.compile(whole, backend="aot_eager")
    assert torch.allclose(compiled(x), whole(x))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients(compiled, x), gradients(whole, x), strict=True))


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_a_sparsified_network_keeps_its_largest_weights_and_counts_right(linear):
    dense = network()
    sparse = sparsify(copy.deepcopy(dense), 0.25, linear=linear)
    for before, after in ((dense[0], sparse[0]), (dense[2], sparse[2])):
        indices, values = after.map.entries()
        weight = before.weight.detach().flatten()
        assert torch.equal(values, weight[indices]) and len(indices) == weight.numel() // 4
        gone = torch.ones_like(weight, dtype=torch.bool)
        gone[indices] = False
        assert weight[gone].abs().max() <= values.abs().min()
    assert count_weights(dense) == sum(p.numel() for p in dense.parameters())
    assert count_weights(sparse) == (240 + 160) // 4 + 20 + 8 + 16
    whole = sparsify(copy.deepcopy(dense), 1.0)
    x = torch.randn(3, 12)
    assert torch.allclose(whole(x), dense(x), atol=1e-6)


def test_random_entries_names_that_are_skipped_and_layers_in_two_places():
    first, second = (sparsify(network(), 0.5, keep="random", skip=["0"], generator=generator(seed)) for seed in (0, 1))
    assert type(first[0]) is nn.Linear and not torch.equal(first[2].map.entries()[0], second[2].map.entries()[0])
    layer = nn.Linear(5, 5)
    twice = sparsify(nn.Sequential(layer, nn.ReLU(), layer), 0.5)
    assert isinstance(twice[0], Sparse) and twice[0] is twice[2]
    assert isinstance(sparsify(nn.Linear(5, 5), 0.5), Sparse)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Sparse(0, 3, R=0.5), "in_features=0: must be a whole number"),
        (lambda: Sparse(3, 3, R=1.5), r"R=1.5: a density lies in \(0, 1\]; e.g. R=0.2"),
        (lambda: Sparse(3, 3, R=0.5, linear="coo"), "linear=coo: there is no such way"),
        (lambda: sparsify(network(), 0.0), "R=0.0: a density"),
        (lambda: sparsify(network(), 0.5, keep="smallest"), "keep=smallest: there is no such choice; did you mean largest"),
        (lambda: sparsify(network(), 0.5, skip=["1"]), "skip=1: no layer of this name is a torch.nn.Linear"),
        (lambda: sparsify(Tied(), 0.5), "embedding.weight and head.weight are one tensor"),
        (lambda: sparsify(nn.TransformerEncoderLayer(8, 2, 8), 0.5), "linear1 is part of torch's TransformerEncoderLayer"),
    ],
)
def test_what_cannot_be_made_sparse_is_said(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_what_the_docs_show_runs_and_prints_what_they_say(capsys):
    text = (Path(__file__).parents[1] / "docs/library.md").read_text()
    code = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    exec("\n".join(code), {})
    said = [line.partition("# ")[2] for line in code if line.startswith("print(") and "# " in line]
    assert capsys.readouterr().out.splitlines()[: len(said)] == said


def test_the_library_brings_torch_and_no_framework():
    code = """
import sys, torch, inn_lab
inn = inn_lab.INN(20, 3, n_weights=200, R=0.2)
inn(torch.randn(2, 4, 20)).sum().backward()
layer = inn_lab.sparsify(torch.nn.Sequential(torch.nn.Linear(9, 9)), 0.2)
assert set(inn_lab.__all__) <= set(dir(inn_lab)), set(inn_lab.__all__) - set(dir(inn_lab))
heavy = {"hydra", "omegaconf", "pytorch_lightning", "mlflow", "matplotlib", "pandas", "torchvision"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

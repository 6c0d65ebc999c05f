"""The compiled ticks of recurrent layers, against torch's modules, torch's ticks and the library's tanh."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inn_lab.errors import ConfigError
from inn_lab.linear import csr, kernels
from inn_lab.models import GRU, LSTM, RNN, ticks
from inn_lab.models.recurrent import as_wavefront
from inn_lab.models.ticks import CELLS
from inn_lab.seeding import generator

I, O = 4, 2  # noqa: E741
BUILD = {
    "tanh": partial(RNN, nonlinearity="tanh"),
    "relu": partial(RNN, nonlinearity="relu"),
    "lstm": partial(LSTM, projection=False),
    "gru": GRU,
}


def pair(cell: str, **sizes) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same network by torch and as one sparse matrix."""
    return tuple(BUILD[cell](I, O, core=core, generator=generator(3), **sizes) for core in ("torch", "sparse"))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64)


def derivatives(model: torch.nn.Module, x: Tensor, back: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    x = x.clone().requires_grad_()
    y = model(x)
    (y * back).sum().backward()
    return y.detach(), {**{name: parameter.grad for name, parameter in model.named_parameters()}, "x": x.grad}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(CELLS)), st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 40),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_a_sparse_core_equals_torchs_in_value_and_every_gradient(cell, layers, hidden, steps, batch, embedded, seed) -> None:
    plain, sparse = (
        model.double() for model in pair(cell, hidden_size=hidden, num_layers=layers, embedding=3 if embedded else None)
    )
    x, back = normal(batch, steps, I, seed=seed), normal(batch, steps, O, seed=seed + 1)
    (y, theirs), (same, ours) = (derivatives(model, x, back) for model in (plain, sparse))
    assert torch.allclose(same, y, atol=1e-10, rtol=0)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(theirs[name])  # the gradients stand where the weights stood
    assert torch.allclose(ours.pop("core.map.values"), as_wavefront(plain.core, cell).map.values.detach(), atol=1e-9, rtol=0)
    assert all(torch.allclose(grad, theirs[name], atol=1e-9, rtol=0) for name, grad in ours.items())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch", [3, 32, 45])
def test_the_kernels_of_float32_equal_torchs_ticks(batch: int, cell: str, monkeypatch) -> None:
    """Which are what runs on CUDA. Also where some weights are gone."""
    _, model = pair(cell, hidden_size=9, num_layers=3)
    model.keep([torch.rand(len(w.values), generator=generator(n)) < 0.6 for n, w in enumerate(model.weights())])
    x, back = (normal(batch, 7, n, seed=n).float() for n in (I, O))
    y, ours = derivatives(model, x, back)
    model.zero_grad()
    monkeypatch.setattr(ticks, "KERNELS", set())
    other, theirs = derivatives(model, x, back)
    assert torch.allclose(y, other, atol=2e-6, rtol=0)
    for name, grad in ours.items():
        assert torch.allclose(grad, theirs[name], atol=2e-5 * float(theirs[name].abs().max()), rtol=0), name


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_batch_is_divided_among_threads(threads: int) -> None:
    _, model = pair("gru", hidden_size=5)
    x = normal(45, 6, I, seed=0).float()
    alone, before = torch.cat([model(part) for part in x.split(1)]), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = model(x)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(alone, together, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 4e-7), (np.float64, 1e-15)])
def test_tanh_and_the_gate(dtype: type, error: float) -> None:
    x = np.concatenate([np.linspace(-20, 20, 40_001), [0.0, 1e-30, -1e-30, 1e30, -1e30, math.inf, -math.inf]]).astype(dtype)
    squashed, gated = x.copy(), x.copy()
    kernels.squash(squashed)
    kernels.gate(gated)
    true = x.astype(np.float64)
    assert np.abs(squashed - np.tanh(true)).max() < error
    assert np.abs(gated - (1 + np.tanh(true / 2)) / 2).max() < error
    assert (np.abs(squashed) <= 1).all() and ((gated >= 0) & (gated <= 1)).all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_no_number_stays_none(dtype: torch.dtype, cell: str) -> None:
    """Or a run that has diverged would go on."""
    _, model = pair(cell, hidden_size=16)
    model, x = model.to(dtype), normal(32, 8, I, seed=0).to(dtype)
    x[3, 2, 1] = math.nan
    y = model(x)
    assert y[3, 2:].isnan().all() and int(y.isnan().sum()) == y[3, 2:].numel()


def test_a_sparse_core_costs_what_it_holds_and_counts_as_torchs() -> None:
    plain, sparse = pair("lstm", hidden_size=6, num_layers=2)
    assert sparse.n_weights == plain.n_weights and sparse.size(5) == plain.size(5)
    assert all(torch.equal(a.values, b.values) for a, b in zip(sparse.weights(), plain.weights(), strict=True))
    kept = [torch.arange(len(w.values)) % 10 == 0 for w in plain.weights()]
    for model in (plain, sparse):
        model.keep(kept)
    x = normal(3, 5, I, seed=0).float()
    assert sparse.n_weights == plain.n_weights and torch.allclose(sparse(x), plain(x), atol=1e-6)
    held = [sum(parameter.numel() for parameter in model.parameters()) for model in (sparse, plain)]
    assert held == [sparse.n_weights, sum(len(stays) for stays in kept) + 4 * 6 * 2 * 2 + 2 * 6 + 2]


def test_weights_that_do_not_lie_one_after_the_other_are_refused() -> None:
    """A kernel would read others."""
    _, model = pair("gru", hidden_size=5)
    values = model.core.map.values
    values.data = torch.zeros(2 * len(values))[::2]
    with pytest.raises(ValueError, match="a wavefront: numbers do not lie one after the other"):
        model(torch.zeros(3, 4, I))


def test_only_what_is_needed_of_the_gradient_is_computed(monkeypatch) -> None:
    _, model = pair("tanh", hidden_size=5)
    seen: list[tuple] = []
    real = csr.compiled
    monkeypatch.setattr(ticks, "compiled", lambda name: lambda *args: (seen.append((name, args)), real(name)(*args)))
    x = normal(3, 5, I, seed=0).float()
    for needed in (False, True):
        model(x.requires_grad_(needed)).sum().backward()
    low = [args[14] for name, args in seen if name == "backward_ticks"]
    assert low == [model.core.y, 2]  # the rows above are the input's


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: GRU(I, O, hidden_size=5, core="spars"), r"core=spars: there is no such core; did you mean sparse\?"),
        (lambda: LSTM(I, O, hidden_size=5, core="sparse"), "core=sparse: it knows no projection; set projection=false"),
    ],
)
def test_errors_name_the_key_and_the_way_out(build, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build()

"""Masked: a dense product with a mask, in value and in gradient, whose fixed entries stay exactly zero."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inn_lab.linear import Masked
from inn_lab.patterns import draw_exact
from inn_lab.seeding import generator

steady = settings(deadline=None, derandomize=True)  # the same examples each time, however busy the machine
OUT, IN = 7, 11


def masked(n: int, seed: int = 0) -> tuple[Masked, Tensor]:
    """A Masked of n entries in float64, and the same matrix written out."""
    g = generator(seed)
    indices = draw_exact(OUT, IN, n, g)
    values = torch.randn(n, generator=g, dtype=torch.float64)
    dense = torch.zeros(OUT, IN, dtype=torch.float64)
    for index, value in zip(indices.tolist(), values.tolist(), strict=True):
        dense[index // IN, index % IN] = value
    return Masked(OUT, IN, indices, values), dense


@steady
@given(st.integers(0, OUT * IN), st.integers(0, 2**30))
def test_equals_the_dense_product_in_value_and_gradient(n: int, seed: int) -> None:
    module, dense = masked(n, seed)
    g = generator(seed, "x")
    x = torch.randn(2, 3, IN, generator=g, dtype=torch.float64, requires_grad=True)
    back = torch.randn(2, 3, OUT, generator=g, dtype=torch.float64)
    grad_weight, grad_x = torch.autograd.grad(module(x), [module.weight, x], back)
    assert torch.allclose(module(x), torch.einsum("oi,bti->bto", dense, x), atol=1e-12, rtol=0)
    assert torch.allclose(grad_x, torch.einsum("oi,bto->bti", dense, back), atol=1e-12, rtol=0)
    pattern = dense != 0
    assert torch.allclose(grad_weight, torch.einsum("bto,bti->oi", back, x) * pattern, atol=1e-12, rtol=0)
    assert module.n_weights == n == int(pattern.sum())


@pytest.mark.parametrize("columns", [0, 4, IN])
@pytest.mark.parametrize("n", [30, OUT * IN])
def test_split_sums_to_forward_in_value_and_gradient(columns: int, n: int) -> None:
    module, _ = masked(n)
    x = torch.randn(2, 3, IN, generator=generator(1), dtype=torch.float64)
    left, right = module.split(columns)
    cut = left(x[..., :columns]) + right(x[..., columns:])
    assert torch.allclose(cut, module(x), atol=1e-12, rtol=0)
    for one, other in zip(
        torch.autograd.grad(cut.square().sum(), module.parameters()),
        torch.autograd.grad(module(x).square().sum(), module.parameters()),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-11, rtol=0)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    ],
    ids=["Adam", "AdamW", "SGD"],
)
def test_fixed_entries_stay_exactly_zero_and_the_others_move(optimizer) -> None:
    module, dense = masked(30)
    before = module.weight.detach().clone()
    x = torch.randn(5, IN, generator=generator(2), dtype=torch.float64)
    steps = optimizer(module.parameters())
    for _ in range(5):
        steps.zero_grad()
        left, right = module.split(4)
        (left(x[:, :4]) + right(x[:, 4:])).square().sum().backward()
        steps.step()
    assert bool((module.weight[dense == 0] == 0).all())
    assert bool((module.weight != before)[dense != 0].all())


def test_a_loaded_state_is_cut_to_its_pattern() -> None:
    module, dense = masked(30)
    state = {**module.state_dict(), "weight": torch.full((OUT, IN), 3.0, dtype=torch.float64)}
    copied = copy.deepcopy(module)
    for loaded in (module, copied):
        loaded.load_state_dict(state)
        assert torch.equal(loaded.weight, 3.0 * (dense != 0))
    assert torch.nn.Sequential(module).load_state_dict({f"0.{key}": value for key, value in state.items()})
    assert torch.equal(module.weight, 3.0 * (dense != 0))


def test_a_state_brings_its_pattern() -> None:
    module, other = masked(30)[0], masked(20, seed=1)[0]
    module.load_state_dict(other.state_dict())
    x = torch.randn(4, IN, generator=generator(3), dtype=torch.float64)
    assert torch.equal(module(x), other(x))
    assert module.n_weights == 20


def test_a_full_pattern_carries_no_mask() -> None:
    full, dense = masked(OUT * IN)
    assert full.mask is None
    assert full.n_weights == OUT * IN
    assert torch.equal(full.weight, dense)
    assert masked(OUT * IN - 1)[0].mask is not None

"""Patterns: exactly as many different entries as asked for, each as likely as any other, and the same from the same seed."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inn_lab.patterns import draw_bernoulli, draw_exact, effective
from inn_lab.seeding import generator

steady = settings(deadline=None, derandomize=True)  # the same examples each time, however busy the machine


@steady
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**30))
def test_exactly_n_different_sorted_entries(rows: int, columns: int, share: float, seed: int) -> None:
    n = round(share * rows * columns)
    drawn = draw_exact(rows, columns, n, generator(seed))
    assert drawn.dtype == torch.int64
    assert drawn.shape == (n,)
    assert bool((drawn.diff() > 0).all())
    assert bool(((drawn >= 0) & (drawn < rows * columns)).all())


@pytest.mark.parametrize("n", [0, 1, 6, 7, 12])
def test_the_edges_of_a_small_matrix(n: int) -> None:
    assert len(set(draw_exact(3, 4, n, generator(0)).tolist())) == n


@pytest.mark.parametrize("n", [-1, 13])
def test_more_entries_than_there_are_is_an_error(n: int) -> None:
    with pytest.raises(ValueError, match=rf"cannot draw {n} different entries of a 3 × 4 matrix"):
        draw_exact(3, 4, n, generator(0))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_set_of_entries_is_equally_likely(n: int) -> None:
    g, draws = generator(1), 6000
    seen = Counter(tuple(draw_exact(2, 3, n, g).tolist()) for _ in range(draws))
    sets = math.comb(6, n)
    assert len(seen) == sets
    expected = draws / sets
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_square < (sets - 1) + 4 * math.sqrt(2 * (sets - 1))  # mean and four standard deviations of the law


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_rows_get_their_share(share: float) -> None:
    rows, columns = 200, 500
    counts = torch.bincount(draw_exact(rows, columns, round(share * rows * columns), generator(2)) // columns, minlength=rows)
    variance = columns * share * (1 - share)  # of a row's count, but for the little that the fixed total takes away
    assert abs(float((counts - share * columns).square().mean()) / variance - 1) < 0.4


def test_a_small_draw_from_a_huge_matrix_makes_no_matrix() -> None:
    drawn = draw_exact(2**20, 2**20, 1000, generator(3))  # a mask of it would take a tebibyte
    assert len(drawn) == 1000
    assert int(drawn[-1]) > 2**39


def test_the_seed_fixes_the_draw() -> None:
    for draw in (lambda g: draw_exact(30, 40, 300, g), lambda g: draw_bernoulli(30, 40, 0.3, g)):
        assert torch.equal(draw(generator(4)), draw(generator(4)))
        assert draw(generator(4)).tolist() != draw(generator(5)).tolist()


@pytest.mark.parametrize("R", [0.02, 0.5, 0.95])
def test_bernoulli_counts_have_the_binomial_mean_and_variance(R: float) -> None:
    g, draws, total = generator(6), 2000, 20 * 25
    counts = torch.tensor([float(len(draw_bernoulli(20, 25, R, g))) for _ in range(draws)])
    variance = total * R * (1 - R)
    assert abs(float(counts.mean()) - total * R) < 4 * math.sqrt(variance / draws)
    assert abs(float(counts.var()) / variance - 1) < 4 * math.sqrt(2 / draws)


def test_bernoulli_entries_are_independent_of_each_other() -> None:
    g, draws, R = generator(7), 8000, 0.3
    seen = Counter(tuple(draw_bernoulli(1, 3, R, g).tolist()) for _ in range(draws))
    for size, ways in ((0, [()]), (1, [(0,), (1,), (2,)]), (2, [(0, 1), (0, 2), (1, 2)]), (3, [(0, 1, 2)])):
        p = R**size * (1 - R) ** (3 - size)
        for entries in ways:
            assert abs(seen[entries] - draws * p) < 4 * math.sqrt(draws * p * (1 - p))


def test_density_one_is_every_entry() -> None:
    assert torch.equal(draw_bernoulli(5, 7, 1.0, generator(8)), torch.arange(35))


# ------------------------------------------------------------------------------------------------------ effective weights


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 8), st.floats(0, 0.6), st.integers(1, 7), st.integers(0, 2**30))
@settings(deadline=None, derandomize=True)
def test_effective_weights_are_those_that_the_outputs_feel(n_inputs, n_outputs, hidden, density, steps, seed) -> None:
    """Against differentiation: a linear network of positive weights, all steps read, has a gradient exactly there."""
    depth = hidden + n_outputs
    width = n_inputs + depth
    indices = draw_exact(depth, width, round(density * depth * width), generator(seed))
    weight = torch.zeros(depth * width, dtype=torch.float64)
    weight[indices] = 1.0
    weight.requires_grad_()
    matrix, h, y = weight.view(depth, width), torch.zeros(depth, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for _ in range(steps):
        h = matrix @ torch.cat([torch.ones(n_inputs, dtype=torch.float64), h])
        y = y + h[hidden:].sum()
    y.backward()
    felt = int((weight.grad[indices] != 0).sum())
    assert effective(indices, n_inputs, width, n_outputs, steps) == felt


def test_effective_weights_of_a_chain() -> None:
    """x → h1 → h2 → y takes three applications; a weight from h2 to a unit that leads nowhere never counts."""
    width = 1 + 4  # x | h1 h2 dead y
    chain = torch.tensor([0 * width + 0, 1 * width + 1, 2 * width + 2, 3 * width + 2])
    assert [effective(chain, 1, width, 1, steps) for steps in (1, 2, 3, 4)] == [0, 0, 3, 3]

"""Eq. 3.1 and its relatives: the source's own numbers, the identities between the pairs, and errors whose advice holds."""

import math
import re
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inn_lab.errors import ConfigError
from inn_lab.sizing import (
    erdos_renyi,
    given_or_found,
    gru_hidden,
    lstm_hidden,
    mlp_count,
    mlp_hidden,
    rnn_hidden,
    sru_hidden,
    weight_space,
)

steady = settings(deadline=None, derandomize=True)  # the same examples each time, however busy the machine
inputs = st.integers(1, 5000)
outputs = st.integers(1, 50)
weights = st.integers(1, 10**7)
densities = st.floats(1e-4, 1)


def number(text: str, error: pytest.ExceptionInfo[ConfigError]) -> float:
    """The number that stands after `text` in the error."""
    found = re.search(re.escape(text) + r"([0-9.e-]*[0-9])", str(error.value))
    assert found, f"{text!r} is not in {error.value}"
    return float(found[1])


@steady
@given(sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=5), R=st.floats(0.01, 1))
def test_erdos_renyi_has_the_density_and_the_proportion(sizes, R):
    densities = erdos_renyi(sizes, R)
    assert sum(d * n * m for d, (n, m) in zip(densities, sizes, strict=True)) == pytest.approx(R * sum(n * m for n, m in sizes))
    shares = [d * n * m / (n + m) for d, (n, m) in zip(densities, sizes, strict=True)]
    assert all(0 < d <= 1 for d in densities)
    assert all(share == pytest.approx(max(shares)) for d, share in zip(densities, shares, strict=True) if d < 1)


def test_the_layers_of_mocanu():
    """784-1000-1000-1000-10 with 89,797 of 2,794,000 weights: the last layer is whole."""
    *others, last = erdos_renyi([(784, 1000), (1000, 1000), (1000, 1000), (1000, 10)], 89_797 / 2_794_000)
    assert last == 1 and others == pytest.approx([0.0314, 0.0276, 0.0276], abs=5e-5)


# ------------------------------------------------------------------------------------------------------------- Eq. 3.1


def test_the_sources_sizes() -> None:
    space = weight_space(2500, 10, n_weights=1_000_000, R=0.2)
    assert (space.width, space.depth, space.n_weights) == (3812, 1312, 1_000_000)
    assert weight_space(2500, 10, R=0.5, depth=810).n_weights == 1_340_550
    assert weight_space(2500, 10, R=1, depth=610).n_weights == 1_897_100
    assert weight_space(2500, 10, R=0.02, depth=610).n_weights == 37_942


def test_a_space_ends_where_the_source_found_it() -> None:
    with pytest.raises(ConfigError, match=r"n_weights=10000 and R=0.4.*cannot be defined.*depth 9.96") as error:
        weight_space(2500, 10, n_weights=10_000, R=0.4)
    assert number("raise n_weights to ", error) == 10_040
    assert weight_space(2500, 10, n_weights=10_000, R=0.2).depth > 10


@steady
@given(inputs, outputs, weights, densities)
def test_weights_over_entries_is_the_density_up_to_rounding_one_row(i: int, o: int, n: int, R: float) -> None:
    assume(n / R >= o * (i + o))
    space = weight_space(i, o, n_weights=n, R=R)
    assert space.width == i + space.depth
    assert space.depth >= o
    below, above = ((space.depth + half) * (space.width + half) for half in (-0.5001, 0.5001))
    assert below <= n / R <= above  # Eq. 3.1 to the nearest row
    assert space.n_weights == min(n, space.depth * space.width)
    assert space.density == space.n_weights / (space.depth * space.width)


@steady
@given(inputs, outputs, densities, st.integers(1, 3000))
def test_every_pair_leads_to_the_same_space(i: int, o: int, R: float, depth: int) -> None:
    assume(depth >= o and R * depth * (i + depth) > 1)
    space = weight_space(i, o, R=R, depth=depth)
    assert space.n_weights == round(R * depth * (i + depth))
    ratio = depth / (i + depth)
    assert weight_space(i, o, R=R, aspect_ratio=ratio) == space
    assert weight_space(i, o, n_weights=space.n_weights, depth=depth) == space
    assert weight_space(i, o, n_weights=space.n_weights, aspect_ratio=ratio) == space
    assert weight_space(i, o, n_weights=space.n_weights, R=space.density) == space


@steady
@given(inputs, outputs, weights, weights, densities, densities)
def test_more_weights_or_a_lower_density_never_make_a_smaller_space(
    i: int, o: int, n1: int, n2: int, R1: float, R2: float
) -> None:
    few, many = sorted((n1, n2))
    sparse, dense = sorted((R1, R2))
    assume(few / dense >= o * (i + o))
    small = weight_space(i, o, n_weights=few, R=dense)
    assert small.depth <= weight_space(i, o, n_weights=many, R=dense).depth
    assert small.depth <= weight_space(i, o, n_weights=few, R=sparse).depth


@steady
@given(inputs, outputs, weights, densities)
def test_what_the_error_advises_would_do_and_is_the_least(i: int, o: int, n: int, R: float) -> None:
    assume(n / R < 0.9999 * o * (i + o))
    with pytest.raises(ConfigError, match="cannot be defined") as error:
        weight_space(i, o, n_weights=n, R=R)
    enough, low = int(number("raise n_weights to ", error)), number("lower R to ", error)
    assert weight_space(i, o, n_weights=enough, R=R).depth >= o
    assert weight_space(i, o, n_weights=n, R=low).depth >= o
    with pytest.raises(ConfigError, match=r"cannot be defined|n_weights=0"):
        weight_space(i, o, n_weights=enough - 1, R=R)
    with pytest.raises(ConfigError, match=r"cannot be defined|a density lies in"):
        weight_space(i, o, n_weights=n, R=low * 1.002)


@steady
@given(inputs, outputs, st.floats(1e-6, 0.999))
def test_an_aspect_ratio_too_small_for_the_outputs_names_one_that_does(i: int, o: int, ratio: float) -> None:
    assume(ratio < 0.999 * o / (i + o))
    with pytest.raises(ConfigError, match="cannot be defined") as error:
        weight_space(i, o, R=1, aspect_ratio=ratio)
    assert weight_space(i, o, R=1, aspect_ratio=number("give aspect_ratio=", error)).depth >= o


@steady
@given(inputs, st.integers(10, 500), weights)
def test_more_weights_than_entries_names_what_does(i: int, depth: int, n: int) -> None:
    assume(n > depth * (i + depth))
    with pytest.raises(ConfigError, match=f"{depth} × {i + depth} has only") as error:
        weight_space(i, 10, n_weights=n, depth=depth)
    room = int(number("or depth=", error))
    assert weight_space(i, 10, n_weights=n, depth=room).density <= 1
    with pytest.raises(ConfigError, match="has only"):
        weight_space(i, 10, n_weights=n, depth=room - 1)
    assert weight_space(i, 10, n_weights=int(number("give n_weights=", error)), depth=depth).density == 1


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (
            {"n_weights": 100_000, "R": 0.2, "depth": 610},
            r"^n_weights=100000, R=0.2 and depth=610 are too many: two of n_weights, R and depth\|aspect_ratio fix the weight "
            r"space; set one to null$",
        ),
        ({"R": 0.2, "depth": 610, "aspect_ratio": 0.2}, "set one of depth and aspect_ratio, which say the same, to null"),
        ({"n_weights": 9, "R": 0.2, "depth": 610, "aspect_ratio": 0.2}, "are too many.*set two to null"),
        ({"depth": 610, "aspect_ratio": 0.2}, "say the same thing.*give n_weights or R"),
        ({}, "no size is given.*add n_weights=100000 and R=0.2"),
        ({"R": 0.2}, "R=0.2 alone is too few.*add n_weights=100000"),
        ({"n_weights": 9}, "n_weights=9 alone is too few.*add R=0.2"),
        ({"depth": 9, "R": 0.2}, "depth=9.*cannot be defined.*depth=10"),
        ({"depth": 610, "R": 1e-9}, "no weight would train; R must be at least"),
        ({"n_weights": 10**6, "R": 1e-320}, "more than"),
        ({"n_weights": 0, "R": 0.2}, "n_weights=0: must be a whole number from 1"),
        ({"n_weights": 1e5, "R": 0.2}, "n_weights=100000.0: must be a whole number"),
        ({"depth": True, "R": 0.2}, "depth=True: must be a whole number"),
        ({"n_weights": 9, "R": 0}, r"R=0: a density lies in \(0, 1\]"),
        ({"n_weights": 9, "R": 1.01}, "R=1.01: a density"),
        ({"n_weights": 9, "R": math.nan}, "R=nan: a density"),
        ({"n_weights": 9, "R": "dense"}, "R=dense: a density"),
        ({"n_weights": 9, "aspect_ratio": 1.0}, r"aspect_ratio=1.0: depth / width lies in \(0, 1\)"),
        ({"n_weights": 9, "aspect_ratio": math.inf}, "aspect_ratio=inf: depth"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(sizes: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as error:
        weight_space(2500, 10, **sizes)
    assert "\n" not in str(error.value)


def test_arithmetic_needs_no_torch() -> None:
    code = "import sys, inn_lab.sizing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ------------------------------------------------------------------------------------------------------ the other models


def test_the_sources_lstm() -> None:
    assert lstm_hidden(2500, 10, 1_307_540) == 130
    with pytest.raises(ConfigError, match=r"n_weights=50000: .*hidden size would be 5 .*n_weights=110638"):
        lstm_hidden(2500, 10, 50_000)
    with pytest.raises(ConfigError, match=r"hidden size would be 10 .*n_weights=110638"):
        lstm_hidden(2500, 10, 100_000)
    assert lstm_hidden(2500, 10, 110_638) == 11


@steady
@given(inputs, outputs, weights)
def test_recurrent_hidden_sizes_are_the_nearest(i: int, o: int, n: int) -> None:
    def lstm(h: int) -> int:
        return h * (4 * i + 4 * o + 8 + o)

    def gated(h: int, gates: int) -> int:
        return gates * h * (i + h + 2) + (h + 1) * o

    cases = [(lstm_hidden, lstm), (rnn_hidden, lambda h: gated(h, 1)), (gru_hidden, lambda h: gated(h, 3))]
    for hidden, count in cases:
        try:
            h = hidden(i, o, n)
        except ConfigError as error:
            assert "cannot be defined" in str(error)
            smallest = o + 1 if hidden is lstm_hidden else 1
            assert abs(count(smallest) - n) >= abs(count(smallest - 1) - n)
            assert hidden(i, o, count(smallest)) == smallest
            assert f"n_weights={count(smallest)} " in str(error)
        else:
            assert abs(count(h) - n) <= min(abs(count(h - 1) - n), abs(count(h + 1) - n))


@steady
@given(inputs, outputs, weights)
def test_an_sru_is_the_nearest_of_all_even_where_it_takes_a_product_less(i: int, o: int, n: int) -> None:
    def count(h: int) -> int:
        return (3 if h == i else 4) * h * i + 4 * h + (h + 1) * o

    try:
        h = sru_hidden(i, o, n)
    except ConfigError as error:
        assert f"give n_weights={count(1)} (hidden size 1)" in str(error)
        assert all(abs(o - n) <= abs(count(k) - n) for k in (1, i))
    else:
        assert abs(count(h) - n) == min(abs(count(k) - n) for k in (*range(max(1, h - 2), h + 3), n // (4 * i + o + 4) or 1, i))
        assert sru_hidden(i, o, count(i)) == i


def test_the_sources_mlp() -> None:
    n = mlp_count(2500, 10, (500, 200, 100))
    assert n == 2501 * 500 + 501 * 200 + 201 * 100 + 101 * 10
    assert mlp_hidden(2500, 10, n) == (500, 200, 100)


@steady
@given(st.integers(1, 300), outputs, st.integers(1, 200_000))
def test_mlp_widths_are_the_nearest_in_proportion(i: int, o: int, n: int) -> None:
    least = mlp_count(i, o, (3, 1, 1))
    if n < least:
        with pytest.raises(ConfigError, match=rf"give n_weights={least} "):
            mlp_hidden(i, o, n)
        return
    hidden = mlp_hidden(i, o, n)
    # every triple in the proportion, found by walking the scale just past each place where a width is rounded up
    steps = sorted({(k + 0.5) / part + 1e-9 for part in (5, 2, 1) for k in range(part * (hidden[2] + 2))})
    triples = {tuple(math.floor(part * s + 0.5) for part in (5, 2, 1)) for s in steps if s >= 0.5}
    assert hidden in triples
    assert abs(mlp_count(i, o, hidden) - n) == min(abs(mlp_count(i, o, triple) - n) for triple in triples)


def test_exactly_one_size() -> None:
    assert given_or_found("hidden", None, 5, lambda n: [n]) == [5] and given_or_found("hidden", [3], None, lambda n: [n]) == [3]
    with pytest.raises(ConfigError, match=r"n_weights=5 and hidden=\[3\] are too many.*n_weights=null or hidden=null"):
        given_or_found("hidden", [3], 5, lambda n: [n])
    with pytest.raises(ConfigError, match="set one of n_weights and hidden"):
        given_or_found("hidden", None, None, lambda n: [n])

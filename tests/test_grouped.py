"""Kale's block matrices: sizes and counts to the digit, and what cannot be dealt out."""

import pytest
import torch

from inn_lab.errors import ConfigError
from inn_lab.models import Sequential2D, by_column, by_diagonal, represented
from inn_lab.seeding import generator
from inn_lab.sizing import areas, column_group, diagonal_group

K34 = {"hidden": [434, 434, 434], "R": 0.2, "bias": False}
TABLE_5 = {0: 0.584, 0.001: 0.582, 0.01: 0.565, 0.05: 0.488, 0.1: 0.392, 0.2: 0.2, 0.225: 0.152, 0.25: 0.104, 0.275: 0.056}
TABLE_6 = {0: 0.23, 0.001: 0.2298, 0.01: 0.228, 0.05: 0.222, 0.1: 0.215, 0.2: 0.2, 0.4: 0.17, 0.8: 0.11, 1: 0.08}
LOW_RANK = {0.01: 16180, 0.02: 22380, 0.05: 47780, 0.1: 94340, 0.2: 188430, 0.3: 279770, 0.5: 467340}  # Table 7


def counts(model: Sequential2D, rows: list[int], columns: list[int]) -> torch.Tensor:
    """How many entries train in each block."""
    trains = torch.zeros(model.depth * model.width)
    trains[model.map.entries()[0]] = 1
    return torch.tensor(
        [
            [int(block.sum()) for block in part.split(columns, dim=1)]
            for part in trains.view(model.depth, model.width).split(rows)
        ]
    )


DIAGONAL = ("R_below", "R_on", "R_above")
ROWS, COLUMNS = [434, 434, 434, 10], [2500, 434, 434, 434, 10]


def test_the_groups_have_the_sources_sizes() -> None:
    column = areas(2500, 10, [434] * 3, column_group)
    assert column == {"R_input": 3_280_000, "R_hidden": 1_708_224, "R_output": 13_120}
    diagonal = areas(2500, 10, [434] * 3, diagonal_group)
    assert diagonal == {"R_below": 3_858_088, "R_on": 565_168, "R_above": 578_088}


@pytest.mark.parametrize("R_input, R_hidden", [*TABLE_5.items(), (0.3, 0.008)])
def test_weights_by_column_are_table_5(R_input: float, R_hidden: float) -> None:
    model = by_column(2500, 10, R_input=R_input, R_hidden=None, R_output=0.2, generator=generator(0), **K34)
    there = counts(model, ROWS, COLUMNS)
    assert abs(model.n_weights - 1_000_268) <= 10 and model.size(11)["parameters"] == model.n_weights
    assert int(there[:, 0].sum()) == pytest.approx(R_input * 3_280_000, abs=2)
    assert int(there[:, 4].sum()) == pytest.approx(0.2 * 13_120, abs=2)
    assert int(there[:, 1:4].sum()) / 1_708_224 == pytest.approx(R_hidden, abs=6e-4)


@pytest.mark.parametrize("R_above, R_below", TABLE_6.items())
def test_weights_by_diagonal_are_table_6(R_above: float, R_below: float) -> None:
    model = by_diagonal(2500, 10, R_above=R_above, R_below=None, R_on=0.2, generator=generator(0), **K34)
    there = counts(model, ROWS, COLUMNS)
    assert abs(model.n_weights - 1_000_268) <= 10
    above = sum(int(there[i, j]) for i in range(4) for j in range(5) if j > i + 1)
    below = sum(int(there[i, j]) for i in range(4) for j in range(5) if j <= i)
    assert above == pytest.approx(R_above * 578_088, abs=5)
    assert below / 3_858_088 == pytest.approx(R_below, abs=6e-4)


@pytest.mark.parametrize("R, n_weights", LOW_RANK.items())
def test_low_rank_weights_are_table_7_and_sparse_ones_the_density(R: float, n_weights: int) -> None:
    sizes = {"hidden": [300, 20], "R": R, "bias": False, "generator": generator(0)}
    low_rank = represented(2500, 10, representation="low_rank", **sizes)
    assert low_rank.n_weights == n_weights == sum(p.numel() for p in low_rank.parameters())
    sparse = represented(2500, 10, representation="sparse", **sizes)
    blocks = [(m, n) for m in (300, 20, 10) for n in (2500, 300, 20, 10) if (m, n) != (10, 20)]
    assert sparse.n_weights == sum(round(R * m * n) for m, n in blocks) + 200


def test_dense_blocks_start_sparse_and_all_train() -> None:
    model = represented(2500, 10, hidden=[300, 20], R=0.05, representation="dense", bias=False, generator=generator(0))
    assert model.n_weights == 933_900
    start = model.map(torch.eye(model.width)).T
    parts = [part.split([2500, 300, 20, 10], dim=1) for part in start.split([300, 20, 10])]
    for i, m in enumerate((300, 20, 10)):
        for j, n in enumerate((2500, 300, 20, 10)):
            expected = 200 if (i, j) == (2, 2) else round(0.05 * m * n)
            assert parts[i][j].count_nonzero() == expected
    model(torch.randn(4, 3, 2500, generator=generator(1))).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad
    moved = model.map(torch.eye(model.width)).T
    assert (moved != 0).sum() > 2 * (start != 0).sum()


@pytest.mark.parametrize(
    "build, densities, text",
    [
        (by_column, {"R_input": 0.4, "R_hidden": None, "R_output": 0.2}, "R_hidden would have to be -0.184 for R=0.2"),
        (by_column, {"R_input": 1.2, "R_hidden": None, "R_output": 0.2}, "R_input=1.2: a group's density"),
        (by_column, {"R_input": 0.2, "R_hidden": 0.2, "R_output": 0.2}, "give two of them, and null for the third"),
        (by_diagonal, {"R_below": None, "R_on": None, "R_above": 0.2}, "give two of them, and null for the third"),
    ],
)
def test_densities_that_do_not_make_the_whole(build, densities: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(2500, 10, **densities, **K34, generator=None)


@pytest.mark.parametrize("hidden", [[], [0], [434, 0]])
@pytest.mark.parametrize("build, names", [(by_column, ("R_input", "R_hidden", "R_output")), (by_diagonal, DIAGONAL)])
def test_a_group_without_blocks(build, names, hidden: list[int]) -> None:
    densities = dict(zip(names, (0.2, None, 0.2), strict=True))
    with pytest.raises(ConfigError, match=r"hidden=\[.*\]: at least one layer, none empty"):
        build(2500, 10, hidden=hidden, R=0.2, **densities, generator=None)


def test_an_unknown_representation() -> None:
    with pytest.raises(ConfigError, match=r"representation=spars: .*did you mean sparse"):
        represented(100, 10, hidden=[30], R=0.2, representation="spars", generator=None)


@pytest.mark.slow  # four networks of a million weights; small ones: test_fused_execution_equals_block_by_block
def test_the_benchmarks_slow_twin_is_the_same_network() -> None:
    """What is timed block by block gives what the fused network gives, in value and input gradient."""
    from benchmarks.block_speed import BlockByBlock, grids

    x = torch.randn(2, 3, 2500, generator=generator(1)).requires_grad_()
    for model, rows in grids().values():
        twin = BlockByBlock(model, rows)
        (fast,), (slow,) = (torch.autograd.grad(way(x).square().sum(), x) for way in (model, twin))
        assert torch.allclose(model(x), twin(x), rtol=1e-3, atol=1e-3)
        assert torch.allclose(fast, slow, rtol=1e-2, atol=1e-2 * float(fast.abs().max()))
        assert model.n_weights <= sum(p.numel() for p in twin.parameters())


def test_the_whole_needs_a_density(lab):
    code, _, err = lab("source=digits", "scale=smoke", "model=by_column", "R=null")
    assert code == 2 and err.startswith("inn_lab: model.R=None: ") and err.count("\n") == 1

"""Kale's block matrices: layers whose groups of blocks differ in density, or whose blocks are stored in one of three ways."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from inn_lab.errors import ConfigError, near
from inn_lab.models.sequential2d import Block, Factored, Sequential2D, Trainable
from inn_lab.ranges import Density, GroupDensity, Widths
from inn_lab.sizing import Group, areas, column_group, diagonal_group, fill, whole

REPRESENTATIONS = ("dense", "sparse", "low_rank")


def by_column(
    n_inputs: int,
    n_outputs: int,
    *,
    hidden: Widths,
    R: Density,
    R_input: GroupDensity | None,
    R_hidden: GroupDensity | None,
    R_output: GroupDensity | None,
    device: torch.device | None = None,
    **options: Any,
) -> Sequential2D:
    """A block matrix with one density for the columns of the input, one for the hidden state's and one for the output's.

    Source: Kale 2024, 3.3, Table 5: 2500 + 434 + 434 + 434 + 10, R = 0.2, R_output = 0.2.

    Args:
        hidden: the widths of the hidden layers. Every block may have trainable entries. Hidden rows are ReLU, outputs linear.
        R: the density of the whole matrix. It determines the density of the one group that is given as None.
        device, options: as in `Sequential2D`.

    Raises ConfigError without hidden layers, and unless two of the three densities are given and leave the third in [0, 1].
    """
    given = {"R_input": R_input, "R_hidden": R_hidden, "R_output": R_output}
    return _grouped(n_inputs, n_outputs, hidden, R, given, column_group, device=device, **options)


def by_diagonal(
    n_inputs: int,
    n_outputs: int,
    *,
    hidden: Widths,
    R: Density,
    R_below: GroupDensity | None,
    R_on: GroupDensity | None,
    R_above: GroupDensity | None,
    device: torch.device | None = None,
    **options: Any,
) -> Sequential2D:
    """A block matrix with one density for the blocks below the diagonal, which feed forward, one for those on it, one for those
    above.

    The block on the diagonal reads the layer that it writes.

    Source: Kale 2024, 3.4, Table 6: 2500 + 434 + 434 + 434 + 10, R = 0.2, R_on = 0.2.

    Args and errors as of `by_column`.
    """
    given = {"R_below": R_below, "R_on": R_on, "R_above": R_above}
    return _grouped(n_inputs, n_outputs, hidden, R, given, diagonal_group, device=device, **options)


def represented(
    n_inputs: int,
    n_outputs: int,
    *,
    hidden: Widths,
    R: Density,
    representation: str,
    device: torch.device | None = None,
    **options: Any,
) -> Sequential2D:
    """All blocks dense, sparse or of low rank, at density R. The block from the last hidden layer to the output is always
    dense.

    A "sparse" block has round(R · mn) trainable entries. A "low_rank" block is A B of rank max(1, round(R · mn / (m + n))). In
    a "dense" block all entries are trainable; all but round(R · mn) start at zero.

    Source: Kale 2024, 3.5, Table 7: 2500 + 300 + 20 + 10, no biases.

    Args: hidden, device, options: as of `by_column`. Raises ConfigError for an unknown `representation`.
    """
    if representation not in REPRESENTATIONS:
        raise ConfigError(
            f"representation={representation}: there is no such representation{near(str(representation), REPRESENTATIONS)}"
        )

    def block(row: int, column: int, entries: int) -> Block:
        if (row, column) == (len(hidden), len(hidden)):
            return Trainable()
        n = round(R * entries)
        kinds: dict[str, Block] = {"dense": Trainable(start=n), "sparse": Trainable(n), "low_rank": Factored(R)}
        return kinds[representation]

    return _layers(n_inputs, n_outputs, hidden, block, device=device, **options)


def _grouped(
    n_inputs: int,
    n_outputs: int,
    hidden: Sequence[int],
    R: float,
    given: Mapping[str, float | None],
    group: Group,
    **options: Any,
) -> Sequential2D:
    if min(hidden, default=0) < 1:
        raise ConfigError(f"hidden={list(hidden)}: at least one layer, none empty, or a group has no blocks; e.g. [434]")
    densities = fill(given, R, areas(n_inputs, n_outputs, hidden, group))

    def block(row: int, column: int, entries: int) -> Block:
        return Trainable(round(densities[group(row, column, len(hidden) + 1)] * entries))

    return _layers(n_inputs, n_outputs, hidden, block, **options)


def _layers(
    n_inputs: int, n_outputs: int, hidden: Sequence[int], block: Callable[[int, int, int], Block], **options: Any
) -> Sequential2D:
    for layer, units in enumerate(hidden):
        whole(f"hidden[{layer}]", units)
    rows = [*hidden, n_outputs]
    columns = [n_inputs, *rows]
    return Sequential2D(
        n_inputs,
        n_outputs,
        rows=rows,
        columns=columns,
        grid=[[block(i, j, height * width) for j, width in enumerate(columns)] for i, height in enumerate(rows)],
        activation=[("relu", sum(hidden)), ("linear", n_outputs)],
        **options,
    )

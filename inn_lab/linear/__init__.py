"""How a weight matrix is stored, multiplied and differentiated.

Every weight matrix is (out, in) and maps (…, in) to (…, out). `n_weights` is the number of its trainable entries. `iterate`
applies the matrix repeatedly, to an input and its own output.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from inn_lab.errors import ConfigError, near
from inn_lab.linear.base import ACTIVATIONS, Activation, Patterned, WeightMatrix, admit, check_entries, is_still
from inn_lab.linear.composed import LowRank, Sum, draw_factors
from inn_lab.linear.csr import CSR, Fixed
from inn_lab.linear.dense import Dense, Masked, Stepwise

KINDS: dict[str, type[Patterned]] = {"dense": Dense, "masked": Masked, "csr": CSR, "stepwise": Stepwise}
DENSE_FROM = 0.65  # CPU: the density from which masked is faster than csr
SPARSE_FROM = 50_000_000  # CUDA: the entries from which csr is faster than masked; below, both wait for launches


def fastest(n: int, entries: int, device: torch.device) -> str:
    """The kind that `auto` chooses for n trainable entries in a matrix of `entries`; measured in docs/results.md.

    The choice depends on sizes alone. A trial could choose differently each time, and results would not be reproducible.
    """
    if n == entries:
        return "dense"
    sparse = n < DENSE_FROM * entries if device.type == "cpu" else entries > SPARSE_FROM
    return "csr" if sparse else "masked"


def check_kind(kind: str, n: int, entries: int) -> None:
    """Raises ConfigError unless `kind` can store n trainable entries of a matrix of `entries`."""
    known = ["auto", "low_rank", *KINDS]
    if kind not in known:
        raise ConfigError(f"linear={kind}: there is no such way to hold a matrix{near(kind, known)}")
    if kind == "low_rank":
        raise ConfigError("linear=low_rank: only model=inn is of low rank as a whole; take masked, csr or auto")
    if kind == "dense" and n != entries:
        raise ConfigError("linear=dense: every entry trains in a dense matrix; set R=1, or take masked, csr or auto")


def from_entries(
    kind: str, out_features: int, in_features: int, indices: Tensor, values: Tensor, device: torch.device | None = None
) -> Patterned:
    """Makes a weight matrix of one of `KINDS` from its trainable entries; with "auto" the fastest kind.

    All kinds can store the same matrix: `from_entries("csr", out, in, *masked.entries())` is exact. `device` is where the
    matrix will run, by default the device of the values. Only "auto" uses it.

    Raises ConfigError for an unknown or unsuitable kind, TypeError or ValueError for entries that do not fit the matrix.
    """
    check_entries(out_features, in_features, indices, values)
    entries = out_features * in_features
    if kind == "auto":
        kind = fastest(len(indices), entries, device or values.device)
    check_kind(kind, len(indices), entries)
    return KINDS[kind](out_features, in_features, indices, values)


def fitting(matrix: Patterned, out_features: int, in_features: int, state: Mapping[str, Tensor], prefix: str) -> Patterned:
    """A matrix into which a state can be loaded: `matrix` if it fits, otherwise a new one of the state's kind and size.

    A pruned matrix has fewer entries, and `auto` may store it as another kind than the whole one. A new matrix gets its
    positions and values only when the state is loaded. The matrix's names in the state begin with `prefix`.
    """
    kinds: dict[str, type[Patterned]] = {"values": CSR, "mask": Masked, "weight": Dense}  # the name that tells
    held = [name for name in kinds if prefix + name in state]
    own = matrix.state_dict()
    n = len(state[prefix + "values"]) if "values" in held else 0
    if not held or (held == [name for name in kinds if name in own] and n == len(own.get("values", ()))):
        return matrix
    _, values = matrix.entries()
    return kinds[held[0]](out_features, in_features, torch.arange(n, device=values.device), values.new_zeros(n))


__all__ = [
    "ACTIVATIONS",
    "CSR",
    "KINDS",
    "Activation",
    "Dense",
    "Fixed",
    "LowRank",
    "Masked",
    "Stepwise",
    "Sum",
    "WeightMatrix",
    "admit",
    "check_kind",
    "draw_factors",
    "fastest",
    "fitting",
    "from_entries",
    "is_still",
]

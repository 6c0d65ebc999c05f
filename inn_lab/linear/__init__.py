"""How a weight matrix is stored, multiplied and differentiated.

The family's one call shape: every weight matrix is (out, in) and maps (…, in) to (…, out). `n_weights` counts what trains;
`iterate` applies the matrix again and again, to its own output and an input. A model uses nothing else of it.
"""

from torch import Tensor

from inn_lab.config import ConfigError, near
from inn_lab.linear.base import WeightMatrix, is_still
from inn_lab.linear.csr import CSR
from inn_lab.linear.dense import Dense, Masked, Stepwise
from inn_lab.linear.low_rank import LowRank

KINDS = {"dense": Dense, "masked": Masked, "csr": CSR, "stepwise": Stepwise}  # of entries; low_rank has none
DENSE_FROM = 0.4  # the density from which a masked product is faster than CSR on the CPU (docs/results.md)


def from_entries(kind: str, out_features: int, in_features: int, indices: Tensor, values: Tensor) -> WeightMatrix:
    """A weight matrix of one of `KINDS` (or `auto`, the fastest) from its trainable entries, flat and sorted, and their values.

    All kinds hold the same matrix: `from_entries("csr", out, in, *masked.entries())` is exact. `auto` decides by density,
    not by a trial, so that the same command takes the same way each time.
    """
    full = len(indices) == out_features * in_features
    if kind == "auto":
        kind = "dense" if full else "csr" if len(indices) < DENSE_FROM * out_features * in_features else "masked"
    if kind not in KINDS:
        raise ConfigError(
            f"model.linear={kind}: there is no such way to hold a matrix{near(kind, ['auto', 'low_rank', *KINDS])}"
        )
    if kind == "dense" and not full:
        raise ConfigError("model.linear=dense: every entry trains in a dense matrix; set R=1, or take masked, csr or auto")
    return KINDS[kind](out_features, in_features, indices, values)


__all__ = ["CSR", "KINDS", "Dense", "LowRank", "Masked", "Stepwise", "WeightMatrix", "from_entries", "is_still"]

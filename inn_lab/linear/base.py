"""What all weight matrices share."""

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


ACTIVATIONS: dict[str, Map] = {"relu": torch.relu, "linear": lambda a: a, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class Activation:
    """σ, one after the other for so many rows: Activation(("relu", 600), ("linear", 10)) of (B, 610) -> (B, 610)."""

    def __init__(self, *rows: tuple[str, int]) -> None:
        together = [(name, sum(n for _, n in same)) for name, same in groupby(rows, key=lambda row: row[0])]
        self.rows = [(name, n) for name, n in together if n]

    @property
    def n_relu(self) -> int | None:
        """How many rows of ReLU stand above none but linear ones; None where others stand there too."""
        names = [name for name, _ in self.rows]
        counts = {"relu": 0, "linear": 0, **dict(self.rows)}
        return counts["relu"] if names in (["relu", "linear"], ["relu"], ["linear"]) else None

    def __call__(self, total: Tensor) -> Tensor:
        parts = total.split([n for _, n in self.rows], dim=1)
        return torch.cat([ACTIVATIONS[name](part) for (name, _), part in zip(self.rows, parts, strict=True)], dim=1)


class WeightMatrix(torch.nn.Module):
    """A matrix W (out, in) of which some entries train and the others are fixed zeros.

    Each kind says how it stores W: `n_weights`, what trains; `forward`, (…, in) -> (…, out); `split(columns)`, two maps, of the
    first columns and of the others, whose sum is `forward` and which share what a sequence needs to do only once.
    """

    n_weights: int

    def split(self, columns: int) -> tuple[Map, Map]:
        raise NotImplementedError

    def iterate(self, x: Tensor, bias: Tensor | None, activation: Activation, n_outputs: int) -> Tensor:
        """The states of h ← σ(W [x; h] + b) from h = 0, their last `n_outputs` rows: (B, T, I) -> (B, T, n_outputs).

        The input's part of the product doesn't depend on the state: one product for all steps, or for the one image where x is
        still.
        """
        from_input, from_state = self.split(x.shape[2])
        still = is_still(x)
        drive = from_input(x[:, 0] if still else x)  # (B, I) -> (B, H), or (B, T, I) -> (B, T, H)
        drive = drive if bias is None else drive + bias
        outputs, state = [], None  # h = 0 before: no product
        for now in [drive] * x.shape[1] if still else drive.unbind(1):
            state = activation(now if state is None else from_state(state) + now)  # (B, H)
            outputs.append(state[:, -n_outputs:])
        return torch.stack(outputs, dim=1)  # (B, T, n_outputs)


def is_still(x: Tensor) -> bool:
    """Whether the T steps of (B, T, I) are one image, expanded: what depends on the input alone need be computed only once."""
    return x.shape[1] == 1 or x.stride(1) == 0

"""A sparse weight matrix stored densely, with a mask."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear


class Masked(torch.nn.Module):
    """y = (M ∘ W) x: the entries at `indices` train, all others are fixed zeros.

    A fixed entry starts at zero and its gradient is zero, so no optimizer moves it, with or without weight decay; a loaded
    state is cut to its pattern, which is loaded with it. A full pattern needs no mask and pays for none.

    Args:
        indices: (n,) flat, row · in_features + column, without repeats.
        values: (n,) what these entries start at.
    """

    def __init__(self, out_features: int, in_features: int, indices: Tensor, values: Tensor) -> None:
        super().__init__()
        weight = values.new_zeros(out_features * in_features)
        weight[indices] = values
        self.weight = torch.nn.Parameter(weight.view(out_features, in_features))
        mask = torch.zeros_like(weight)  # of the weight's own type: a product with a boolean mask takes several times as long
        mask[indices] = 1
        full = len(indices) == len(weight)
        self.register_buffer("mask", None if full else mask.view(out_features, in_features))
        self.register_load_state_dict_post_hook(_cut_to_pattern)

    @property
    def n_weights(self) -> int:
        return self.weight.numel() if self.mask is None else int(self.mask.count_nonzero())

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self._matrix())  # (..., in) -> (..., out)

    def split(self, columns: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Two maps, of the first `columns` inputs and of the others, whose sum is `forward`.

        (..., columns) -> (..., out) and (..., in − columns) -> (..., out). The mask is applied once, here, however often they
        are called: they hold the weights as they are now, so split anew in each forward pass.
        """
        left, right = self._matrix().split([columns, self.weight.shape[1] - columns], dim=1)
        return partial(linear, weight=left), partial(linear, weight=right)

    def _matrix(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask


@torch.no_grad()
def _cut_to_pattern(module: Masked, _keys: object) -> None:
    if module.mask is not None:
        module.weight.masked_fill_(module.mask == 0, 0)

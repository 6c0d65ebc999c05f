"""Weight matrices that store all their entries, with or without a mask."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from inn_lab.linear.base import Activation, Change, Map, Patterned


class Dense(Patterned):
    """A matrix in which every entry is trainable. Entries that are not in `indices` start at zero."""

    def __init__(self, out_features: int, in_features: int, indices: Tensor, values: Tensor) -> None:
        super().__init__(out_features, in_features, indices, values)
        weight = values.new_zeros(out_features * in_features)
        weight[indices] = values
        self.weight = torch.nn.Parameter(weight.view(out_features, in_features))

    @property
    def n_weights(self) -> int:
        return self.weight.numel()

    def matrix(self) -> Tensor:
        """W (out, in), with its graph for autograd."""
        return self.weight

    def entries(self) -> tuple[Tensor, Tensor]:
        return torch.arange(self.weight.numel(), device=self.weight.device), self.weight.detach().flatten()

    def at_entries(self, numbers: Tensor) -> Tensor:
        return numbers.flatten()

    @property
    def _like(self) -> Tensor:
        return self.weight

    def _forward(self, x: Tensor) -> Tensor:
        return linear(x, self.matrix())  # (…, in) -> (…, out)

    def _split(self, columns: int) -> tuple[Map, Map]:
        left, right = self.matrix().split([columns, self.in_features - columns], dim=1)
        return Map(linear, (left,)), Map(linear, (right,))


class Masked(Dense):
    """A sparse matrix W = weight ⊙ mask. It costs what a dense matrix costs.

    `forward` and `split` apply the mask once a call, so `iterate` applies it once for all steps. The optimizer sees a dense
    parameter; outside the pattern the parameter and its gradient are zero. A loaded state is set to zero there.
    """

    mask: Tensor

    def __init__(self, out_features: int, in_features: int, indices: Tensor, values: Tensor) -> None:
        super().__init__(out_features, in_features, indices, values)
        mask = values.new_zeros(out_features * in_features)  # as floats: a product with booleans takes many times as long
        mask[indices] = 1
        self.register_buffer("mask", mask.view(out_features, in_features))
        self.register_load_state_dict_post_hook(_cut_to_pattern)

    @property
    def n_weights(self) -> int:
        return int(self.mask.count_nonzero())

    def matrix(self) -> Tensor:
        matrix = self.weight * self.mask
        if matrix.requires_grad:
            matrix.register_hook(self.full_gradient.add_whole)
        return matrix

    def entries(self) -> tuple[Tensor, Tensor]:
        indices = self.mask.flatten().nonzero().flatten()
        return indices, self.weight.detach().flatten()[indices]

    def at_entries(self, numbers: Tensor) -> Tensor:
        return numbers[self.mask != 0]

    def _rewire(self, indices: Tensor) -> Change:
        mask = torch.zeros_like(self.mask).flatten().index_fill_(0, indices, 1).view_as(self.mask)
        stays, before = (mask * self.mask).bool(), self.weight

        def carry(numbers: Tensor) -> Tensor:
            return torch.where(stays, numbers, 0)

        self.mask, self.weight = mask, torch.nn.Parameter(carry(before.detach()))
        return Change(before, self.weight, carry)


@torch.no_grad()
def _cut_to_pattern(module: Masked, _keys: object) -> None:
    module.weight.masked_fill_(module.mask == 0, 0)


class Stepwise(Masked):
    """As `Masked`, but each step applies the mask and multiplies [x; h] by all of W, as the sources do. Kept for comparison."""

    def _iterate(self, x: Tensor, bias: Tensor | None, activation: Activation, n_outputs: int) -> Tensor:
        state = x.new_zeros(len(x), len(self.weight))  # (B, H)
        outputs = []
        for now in x.unbind(1):
            state = activation(linear(torch.cat([now, state], dim=1), self.matrix(), bias))  # (B, I + H) -> (B, H)
            outputs.append(state[:, -n_outputs:])
        return torch.stack(outputs, dim=1)

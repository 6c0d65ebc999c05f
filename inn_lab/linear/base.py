"""What all weight matrices share."""

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class WeightMatrix(torch.nn.Module):
    """A matrix W (out, in) of which some entries train and the others are fixed zeros.

    Each kind says how it stores W: `n_weights`, what trains; `forward`, (…, in) -> (…, out); `split(columns)`, two maps, of the
    first columns and of the others, whose sum is `forward` and which share what a sequence needs to do only once.
    """

    n_weights: int

    def split(self, columns: int) -> tuple[Map, Map]:
        raise NotImplementedError

    def iterate(self, x: Tensor, bias: Tensor | None, n_linear: int) -> Tensor:
        """The states of h ← σ(W [x; h] + b) from h = 0, their last `n_linear` rows: (B, T, I) -> (B, T, n_linear).

        σ is ReLU, but linear on those last rows (Hershey 2023, 2.1.3). The input's part of the product doesn't depend on the
        state: one product for all steps, or for the one image where x is still.
        """
        n_inputs = x.shape[2]
        from_input, from_state = self.split(n_inputs)
        still = is_still(x)
        drive = from_input(x[:, 0] if still else x)  # (B, I) -> (B, H), or (B, T, I) -> (B, T, H)
        drive = drive if bias is None else drive + bias
        drives = [drive] * x.shape[1] if still else drive.unbind(1)  # T × (B, H)
        outputs, total = [], drives[0]  # h = 0 before
        for after in [*drives[1:], None]:
            hidden, output = total.split([total.shape[1] - n_linear, n_linear], dim=1)
            outputs.append(output)
            if after is not None:
                total = from_state(torch.cat([hidden.relu(), output], dim=1)) + after
        return torch.stack(outputs, dim=1)  # (B, T, n_linear)


def is_still(x: Tensor) -> bool:
    """Whether the T steps of (B, T, I) are one image, expanded: what depends on the input alone need be computed only once."""
    return x.shape[1] == 1 or x.stride(1) == 0

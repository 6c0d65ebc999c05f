"""A weight matrix of low rank."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from inn_lab.linear.base import Map, WeightMatrix


def rank(out_features: int, in_features: int, R: float) -> int:
    """The rank at which A and B hold about the share R of the matrix's entries: k = max(1, round(R · mn / (m + n)))."""
    return max(1, round(R * out_features * in_features / (out_features + in_features)))


class LowRank(WeightMatrix):
    """W = A B with A (out, k) and B (k, in): k (out + in) weights train.

    The entries of A and B are N(0, σ²) with σ⁴ = std² / k, so that those of W have standard deviation `std`.
    """

    def __init__(self, out_features: int, in_features: int, R: float, std: float, generator: torch.Generator) -> None:
        super().__init__()
        k = rank(out_features, in_features, R)
        sigma = (std**2 / k) ** 0.25

        def drawn(rows: int, columns: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(rows, columns, generator=generator, device=generator.device) * sigma)

        self.A, self.B = drawn(out_features, k), drawn(k, in_features)

    @property
    def n_weights(self) -> int:
        return self.A.numel() + self.B.numel()

    def matrix(self) -> Tensor:
        """W (out, in), as autograd sees it."""
        return self.A @ self.B

    def forward(self, x: Tensor) -> Tensor:
        return linear(linear(x, self.B), self.A)  # (…, in) -> (…, k) -> (…, out)

    def split(self, columns: int) -> tuple[Map, Map]:
        left, right = self.B.split([columns, self.B.shape[1] - columns], dim=1)
        return lambda x: linear(linear(x, left), self.A), lambda h: linear(linear(h, right), self.A)

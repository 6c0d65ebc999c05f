"""Weight matrices that are made of others."""

from collections.abc import Iterable

import torch
from torch import Tensor

from inn_lab.linear.base import Map, WeightMatrix
from inn_lab.linear.dense import Dense


def rank(out_features: int, in_features: int, R: float) -> int:
    """The rank at which A and B hold about the share R of the matrix's entries: k = max(1, round(R · mn / (m + n)))."""
    return max(1, round(R * out_features * in_features / (out_features + in_features)))


def draw_factors(
    out_features: int, in_features: int, R: float, std: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A (out, k) and B (k, in), of entries N(0, σ²) with σ⁴ = std² / k, so that those of A B have standard deviation `std`."""
    k = rank(out_features, in_features, R)
    sigma = (std**2 / k) ** 0.25
    shapes = ((out_features, k), (k, in_features))
    A, B = (torch.randn(*shape, generator=generator, device=generator.device) * sigma for shape in shapes)
    return A, B


class LowRank(WeightMatrix):
    """W = A B with A (out, k) and B (k, in), which train."""

    def __init__(self, A: WeightMatrix, B: WeightMatrix) -> None:
        super().__init__()
        self.A, self.B = A, B

    @classmethod
    def drawn(cls, out_features: int, in_features: int, R: float, std: float, generator: torch.Generator) -> "LowRank":
        """One with dense factors: k (out + in) weights train."""
        factors = draw_factors(out_features, in_features, R, std, generator)
        return cls(*(Dense(*factor.shape, torch.arange(factor.numel()), factor.flatten()) for factor in factors))

    @property
    def n_weights(self) -> int:
        return self.A.n_weights + self.B.n_weights

    def forward(self, x: Tensor) -> Tensor:
        return self.A(self.B(x))  # (…, in) -> (…, k) -> (…, out)

    def split(self, columns: int) -> tuple[Map, Map]:
        left, right = self.B.split(columns)
        return lambda x: self.A(left(x)), lambda h: self.A(right(h))


class Sum(WeightMatrix):
    """W = Σ of matrices of one shape, each stored in its own way."""

    def __init__(self, parts: Iterable[WeightMatrix]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    @property
    def n_weights(self) -> int:
        return sum(part.n_weights for part in self.parts)

    def forward(self, x: Tensor) -> Tensor:
        return sum(part(x) for part in self.parts)

    def split(self, columns: int) -> tuple[Map, Map]:
        lefts, rights = zip(*(part.split(columns) for part in self.parts), strict=True)
        return lambda x: sum(left(x) for left in lefts), lambda h: sum(right(h) for right in rights)

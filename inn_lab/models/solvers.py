"""Solvers of z = f(z) and of the linear equation u = b + J u. The samples of a batch are solved independently.

Symbols: B samples; n numbers in a sample's state, whatever its shape (…).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.linalg import solve_ex, vector_norm

Function = Callable[[Tensor], Tensor]
COMPACT = 0.75  # below this fraction of unfinished samples, the finished ones leave the batch
REGULAR = 1e-8  # regularises Anderson's least squares: differences become collinear as they shrink
TINY = 1e-150  # the least length of a difference; its square does not underflow
MEMORY = 20  # directions that minimal residuals keep, with as many images: 40 states
SLOW = 0.9  # a direction that leaves a larger fraction of the residual was a poor one
ROUNDING = 100.0  # rounding errors; the part of a direction that is new must exceed them


@dataclass
class Convergence:
    """How the samples converged, each (B,).

    iterations: how many each sample took. residuals: the last one as a multiple of the tolerance (see `Solver`), not finite if
    the sample's numbers are not. adjoint: the record of the last backward pass; None before there was one.
    """

    iterations: Tensor
    residuals: Tensor
    adjoint: "Convergence | None" = None

    @property
    def converged(self) -> Tensor:
        return self.residuals <= 1


@dataclass(frozen=True)
class Solver:
    """When a sample has converged, and how it is iterated.

    Args:
        rtol, atol: a state has converged when its last change is within the tolerance atol + rtol |z|, as the root of the mean
            square over its n numbers: √(Σᵢ ((z_t − z_{t−1})ᵢ / (atol + rtol |z_t|ᵢ))² / n) ≤ 1. A linear equation is solved
                when
            ‖b + J u − u‖₂ ≤ rtol ‖b‖₂.
        max_iter: the most iterations. A sample that has not converged by then is left as it is.
        anderson: how many changes Anderson's (1965) acceleration of z = f(z) combines; 0 for the plain iteration.

    Raises ValueError for values out of their range.
    """

    rtol: float = 1e-4
    atol: float = 1e-5
    max_iter: int = 300
    anderson: int = 0

    def __post_init__(self) -> None:
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: a tolerance is a positive number; e.g. {name}=1e-4")
        for name, value, least, what in (
            ("max_iter", self.max_iter, 1, "how many iterations there are at most"),
            ("anderson", self.anderson, 0, "how many changes are combined, 0 for none"),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value}: {what}, a whole number from {least}; e.g. {name}={100 if least else 5}")

    def settle(self, make: Callable[[Tensor], Function], z: Tensor) -> tuple[Tensor, Convergence]:
        """Iterates from z to a fixed point z = f(z), (B, …). `make(rows)` returns f for some of the samples."""
        return self._run(make, z, Iteration(flat(z), self))

    def solve(self, make: Callable[[Tensor], Function], b: Tensor) -> tuple[Tensor, Convergence]:
        """Solves u = b + J u, (B, …). `make(rows)` returns the linear map u ↦ J u for some of the samples.

        For a sample that does not converge, u is the best one found: its residual b + J u − u is no longer than b. For a sample
        with a number that is not finite, u = 0.
        """
        size = vector_norm(flat(b), math.inf, dim=1) if b.numel() else b.new_ones(len(b))
        size = torch.where(size == 0, 1, size)  # so that squares of b's numbers neither underflow nor overflow
        u, record = self._run(make, b, MinimalResiduals(flat(b) / size[:, None], self.rtol))
        return torch.where(wide(record.residuals.isfinite(), u), u * wide(size, u), 0), record

    def _run(self, make: Callable[[Tensor], Function], like: Tensor, method: "Method") -> tuple[Tensor, Convergence]:
        rows = torch.arange(len(like), device=like.device)  # the samples in the batch; all unfinished ones are among them
        live = torch.ones_like(rows, dtype=torch.bool)
        parts = torch.zeros_like(rows), method.found.new_full((len(rows),), math.inf)  # iterations and residuals, of rows
        whole = [torch.empty_like(part) for part in (method.found, *parts)]
        apply = make(rows)

        def step(z: Tensor) -> Tensor:
            return flat(apply(z.view(len(z), *like.shape[1:])))

        for count in range(1, self.max_iter + 1):
            residuals, improves = method.step(step, live)
            parts = torch.where(live, count, parts[0]), torch.where(live, residuals, parts[1])
            live = live & improves
            n_live = int(live.sum())
            over = n_live == 0 or count == self.max_iter
            if over or n_live < COMPACT * len(rows):
                for all_of_them, part in zip(whole, (method.found, *parts), strict=True):
                    all_of_them[rows] = part
                if over:
                    break
                rows, parts = rows[live], (parts[0][live], parts[1][live])
                method.take(live)
                live = live[live]
                apply = make(rows)
        return whole[0].view_as(like), Convergence(whole[1], whole[2])


class Method(Protocol):
    """An iterative method for the samples in the batch. found: their current solutions, (B, n)."""

    found: Tensor

    def step(self, f: Function, live: Tensor) -> tuple[Tensor, Tensor]:
        """Iterates the live samples once. Returns the residuals, see `Convergence`, and for which samples another iteration may
        help."""

    def take(self, rows: Tensor) -> None:
        """Keeps only some of the samples."""


class Iteration:
    """z ← f(z), with Anderson's acceleration if the solver asks for it."""

    def __init__(self, z: Tensor, solver: Solver) -> None:
        self.found, self.solver = z, solver
        self.mixed = Anderson(z, solver.anderson) if solver.anderson else None

    def take(self, rows: Tensor) -> None:
        self.found = self.found[rows]
        if self.mixed:
            self.mixed.take(rows)

    def step(self, f: Function, live: Tensor) -> tuple[Tensor, Tensor]:
        old, new = self.found, f(self.found)
        step = new - old
        allowed = new.abs().mul_(self.solver.rtol).add_(self.solver.atol)
        residuals = vector_norm(torch.div(step, allowed, out=allowed), dim=1) / max(1, step.shape[1]) ** 0.5
        moves = residuals > 1  # False for a state that is not a number; it never recovers
        if self.mixed:
            new = torch.where(moves[:, None], self.mixed(new, step), new)
        self.found = torch.where(live[:, None], new, old)
        return residuals, moves


class Anderson:
    """Anderson's acceleration for each sample. The next z is f(z) minus a combination of its last changes, the one that would
    minimise the residual f(z) − z if f were linear.

    The products of the residuals' changes are kept; each iteration computes one new row of them. They are in double precision,
    since REGULAR would be lost in single precision.

    Source: D. G. Anderson (1965), Iterative procedures for nonlinear integral equations; Walker and Ni (2011), Eq. 2.2.
    """

    def __init__(self, z: Tensor, memory: int) -> None:
        shape = len(z), memory, z.shape[1]
        self.values = z.new_zeros(shape)  # changes of f(z); a ring buffer, zero where it is not filled
        self.steps = z.new_zeros(shape, dtype=torch.float64)  # of f(z) − z
        self.products = z.new_zeros(len(z), memory, memory, dtype=torch.float64)
        self.last: tuple[Tensor, Tensor] | None = None  # f(z) and f(z) − z
        self.count = 0

    def take(self, rows: Tensor) -> None:
        self.values, self.steps, self.products = self.values[rows], self.steps[rows], self.products[rows]
        if self.last:
            self.last = self.last[0][rows], self.last[1][rows]

    def __call__(self, new: Tensor, step: Tensor) -> Tensor:
        """The next z from f(z) and f(z) − z, (B, n)."""
        step = step.double()
        before, self.last = self.last, (new, step)
        if before is None:
            return new
        at = self.count % self.products.shape[1]
        self.count += 1
        torch.sub(new, before[0], out=self.values[:, at])
        change = torch.sub(step, before[1], out=self.steps[:, at])
        row, side = (torch.stack((change, step), dim=1) @ self.steps.mT).unbind(1)  # (B, m)
        self.products[:, at], self.products[:, :, at] = row, row
        length = self.products.diagonal(dim1=1, dim2=2).sqrt().clamp_min(TINY)  # so that early changes do not hide late ones
        matrix = self.products / (length[:, :, None] * length[:, None, :])
        matrix.diagonal(dim1=1, dim2=2).add_(REGULAR)
        share = solve_ex(matrix, (side / length)[:, :, None])[0].mT / length[:, None]  # (B, 1, m)
        return new - (share.to(new) @ self.values)[:, 0]


class MinimalResiduals:
    """u ← u + a p, where p and a make b + J u − u as short as the directions so far allow.

    The images q = p − J p are made orthonormal, so that a is an inner product. The direction is the residual as long as that
    makes progress, otherwise the last image. The method is then GMRES (Saad and Schultz 1986), which finds the solution whether
    or not ρ(J) < 1. After MEMORY directions it restarts from the residual, and gives up a sample whose residual they hardly
    reduced.

    Source: Eisenstat, Elman and Schultz (1983), GCR; Jiránek and Rozložník (2010), which direction.
    """

    def __init__(self, b: Tensor, rtol: float) -> None:
        self.b, self.found, self.left, self.last = b, torch.zeros_like(b), b, b
        self.allowed = rtol * vector_norm(b, dim=1).clamp_min(1)  # b's greatest number is 1, or they are all zero
        self.residuals = self.before = vector_norm(b, dim=1) / self.allowed
        self.slow = torch.zeros(len(b), dtype=torch.bool, device=b.device)
        self.directions, self.images = (b.new_empty(len(b), MEMORY, b.shape[1]) for _ in range(2))
        self.count = 0

    def take(self, rows: Tensor) -> None:
        for name in ("b", "found", "left", "last", "allowed", "residuals", "before", "slow"):
            setattr(self, name, getattr(self, name)[rows])
        for name in ("directions", "images"):
            old, known = getattr(self, name), self.count % MEMORY
            new = old.new_empty(len(self.b), *old.shape[1:])
            new[:, :known] = old[rows, :known]
            setattr(self, name, new)

    def step(self, f: Function, live: Tensor) -> tuple[Tensor, Tensor]:
        at = self.count % MEMORY
        self.count += 1
        if at == 0 and self.count > 1:
            self.left = self.b + f(self.found) - self.found
            self.slow = torch.zeros_like(self.slow)
            self.before = self.residuals
        p = torch.where(self.slow[:, None], self.last, self.left)
        q = p - f(p)
        P, Q = self.directions[:, :at], self.images[:, :at]  # (B, k, n)
        size = vector_norm(q, dim=1)
        share = q[:, None] @ Q.mT  # (B, 1, k)
        p, q = p - (share @ P)[:, 0], q - (share @ Q)[:, 0]
        rest = vector_norm(q, dim=1)
        new = live & (rest > ROUNDING * torch.finfo(q.dtype).eps * size)
        p, q = (torch.where(new[:, None], value / rest[:, None], 0) for value in (p, q))
        a = (q * self.left).sum(1, keepdim=True)
        self.found, self.left, self.last = self.found + a * p, self.left - a * q, q
        self.directions[:, at], self.images[:, at] = p, q
        residuals = torch.where(size.isfinite(), vector_norm(self.left, dim=1) / self.allowed, math.nan)
        self.slow, self.residuals = residuals > SLOW * self.residuals, residuals
        improves = new & (residuals > 1)
        if at == MEMORY - 1:
            improves &= residuals <= SLOW * self.before
        return residuals, improves


def flat(states: Tensor) -> Tensor:
    """(B, …) -> (B, n)"""
    return states.reshape(len(states), math.prod(states.shape[1:]))


def wide(values: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, …)"""
    return values.view(-1, *[1] * (like.dim() - 1))

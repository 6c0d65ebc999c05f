"""Iterate until it settles: a fixed point, differentiated where it stands and not through the way that led there.

Symbols: B samples, which settle each by itself; ρ spectral radius.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call, jvp

from inn_lab.config import ConfigError
from inn_lab.sizing import whole

Step = Callable[[Tensor], Tensor]
REGULAR = 1e-8  # of Anderson's least squares, as a share of their size: residuals become collinear as they shrink
TINY = 1e-200  # the least such size
COMPACT = 0.75  # when the share of samples that still move falls below it, the settled ones are left out of the batch


class NotConverged(UserWarning):
    """A fixed point was not reached: the state is that of the last iteration, and its derivatives are approximate."""


@dataclass(frozen=True)
class Record:
    """How samples settled. iterations: how many each took (B,); residuals: ‖z_t − z_{t−1}‖₂ at its last one (B,)."""

    iterations: Tensor
    residuals: Tensor
    converged: Tensor  # (B,), booleans


@dataclass(frozen=True)
class Solver:
    """When a state has settled, and how it gets there.

    Args:
        tol: settled is what moves by no more than this, ‖z_t − z_{t−1}‖₂ ≤ ε, over all entries of a sample.
        max_iter: what has not settled then is left as it is, and a `NotConverged` says so.
        anderson: how many iterates Anderson's (1965) acceleration combines; 0 for the plain iteration.
    """

    tol: float = 1e-3
    max_iter: int = 300
    anderson: int = 0

    def __call__(self, make: Callable[[Tensor], Step], z: Tensor) -> tuple[Tensor, Record]:
        """The fixed point, (B, …), that is reached from z.

        `make(rows)` returns the step for some of the samples; it is called again when enough of them have settled.
        """
        z = z.clone()
        rows = torch.arange(len(z), device=z.device)  # in the batch; those that have not settled are among them
        moving = torch.ones(len(z), dtype=torch.bool, device=z.device)
        iterations = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        residuals = torch.full((len(z),), math.inf, dtype=z.dtype, device=z.device)
        step, mixed = make(rows), Anderson(self.anderson)
        for count in range(1, self.max_iter + 1):
            old = z[rows]
            new = step(old)
            moved = _flat(new - old).norm(dim=1)  # (rows,)
            live = moving[rows]
            settled = moved <= self.tol
            following = torch.where(_wide(settled, new), new, mixed(old, new)) if self.anderson else new
            z[rows] = torch.where(_wide(live, new), following, old)
            iterations[rows[live]] = count
            residuals[rows] = torch.where(live, moved, residuals[rows])
            moving[rows] = live & ~settled
            left = moving[rows]
            n_left = int(left.sum())
            if not n_left:
                break
            if n_left < COMPACT * len(rows):
                rows = rows[left]
                mixed.take(left)
                step = make(rows)
        return z, Record(iterations, residuals, ~moving)


def _flat(states: Tensor) -> Tensor:
    """(B, …) -> (B, n)"""
    return states.reshape(len(states), -1)


def _wide(mask: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, …)"""
    return mask.view(-1, *[1] * (like.dim() - 1))


class Anderson:
    """Anderson's acceleration, sample by sample: the combination of the last iterates whose residual would be least.

    Source: D. G. Anderson (1965), Iterative procedures for nonlinear integral equations; Walker and Ni (2011), Eq. 2.2.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.values: list[Tensor] = []  # f(z), (B, …)
        self.steps: list[Tensor] = []  # f(z) − z

    def take(self, rows: Tensor) -> None:
        """Goes on with some of the samples."""
        self.values = [value[rows] for value in self.values]
        self.steps = [step[rows] for step in self.steps]

    def __call__(self, old: Tensor, new: Tensor) -> Tensor:
        self.values = [*self.values, new][-self.memory - 1 :]
        self.steps = [*self.steps, new - old][-self.memory - 1 :]
        if len(self.steps) < 2:
            return new
        residual = _flat(self.steps[-1]).double()  # (B, n); in single precision REGULAR would be lost
        changes = torch.stack([residual - _flat(step) for step in self.steps[:-1]], dim=1)  # (B, m, n)
        products = changes @ changes.mT  # (B, m, m)
        size = products.diagonal(dim1=1, dim2=2).sum(1).clamp_min(TINY)  # 0 for what has settled and is still in the batch
        products = products + (REGULAR * size)[:, None, None] * torch.eye(changes.shape[1]).to(products)
        share = torch.linalg.solve(products, changes @ residual[:, :, None]).squeeze(2).to(new)  # (B, m)
        back = torch.stack([_flat(new - value) for value in self.values[:-1]], dim=1)  # (B, m, n)
        return new - (share[:, :, None] * back).sum(1).view_as(new)


def fix(
    f: Callable[..., Tensor] | torch.nn.Module,
    x: Tensor | Sequence[Tensor],
    z0: Tensor,
    *,
    tol: float = 1e-3,
    max_iter: int = 300,
    anderson: int = 0,
) -> tuple[Tensor, Record]:
    """z = f(z, x), reached by iterating from z0, and differentiable in x and in the weights of f.

    Reverse mode is a second fixed point, T*z ← T*z + (∂f/∂z)ᵀ T*z (Eq. 8), and forward mode (`torch.func.jvp`) the tangent's,
    ż ← ∂f/∂z ż + ∂f/∂x ẋ (Eq. 7): both at the state that was reached, so that memory does not depend on the iterations, and
    derivatives are exact where it has settled. Both converge where the iteration does, for ρ(∂f/∂z) < 1.

    Source: Habiba and Pearlmutter 2021, Eqs. 3 and 6–8, Algorithm 2.

    Shapes: z0 (B, …) and each of x (B, …); f(z, *x) -> (B, …), sample by sample: samples that have settled are left out.

    Args:
        f: a module, whose parameters get gradients, or a function, which may use nothing else that needs a gradient.
        x: what z depends on, a tensor or several.
        z0: where the iteration starts; the fixed point does not depend on it, so it gets no gradient.
        tol, max_iter, anderson: see `Solver`; derivatives are found by the same.

    Returns z and a `Record`. Warns with `NotConverged` where a sample has not settled, in the backward pass too. Raises
    ValueError for a function with weights of its own, and where f does not keep z's shape.
    """
    xs = (x,) if isinstance(x, Tensor) else tuple(x)
    names, weights = (
        zip(*f.named_parameters(), strict=True) if isinstance(f, torch.nn.Module) and list(f.parameters()) else ((), ())
    )

    def call(z: Tensor, *inputs: Tensor) -> Tensor:
        own = dict(zip(names, inputs[len(xs) :], strict=True))
        return functional_call(f, own, (z, *inputs[: len(xs)])) if own else f(z, *inputs[: len(xs)])

    problem = Problem(call, len(xs), Solver(tol, max_iter, anderson))
    problem.check(z0, xs, weights)
    z = Fix.apply(problem, z0, *xs, *weights)
    return z, problem.record


class Settling:
    """`fix` as a model calls it, which counts what passes. Raises ConfigError for options out of their range."""

    def __init__(self, tol: float, max_iter: int, anderson: int) -> None:
        if not 0 < tol < math.inf:
            raise ConfigError(f"model.tol={tol}: a state settles within a positive distance; e.g. model.tol=1e-3")
        whole("model.max_iter", max_iter)
        if anderson < 0:
            raise ConfigError(f"model.anderson={anderson}: how many iterates are combined, 0 for none; e.g. model.anderson=5")
        self.options = {"tol": tol, "max_iter": max_iter, "anderson": anderson}
        self.record: Record | None = None  # the last call's
        self.sums: Tensor | float = 0.0  # iterations, settled samples and samples, since `told` was asked

    def __call__(self, f: torch.nn.Module, x: Tensor, z0: Tensor) -> Tensor:
        z, self.record = fix(f, x, z0, **self.options)
        counted = [self.record.iterations.sum(), self.record.converged.sum(), torch.tensor(len(z0), device=z0.device)]
        self.sums = self.sums + torch.stack(counted).double()
        return z

    def told(self) -> dict[str, float]:
        """Of the samples since it was last asked: "iterations", their mean, and "settled", the share that did."""
        (iterations, settled, samples), self.sums = self.sums.tolist(), 0.0
        return {"iterations": iterations / samples, "settled": settled / samples}


class Settled:
    """What models have in common that iterate until they settle, at one place or at several: `settlings`."""

    settlings: Sequence[Settling]

    def told(self) -> dict[str, float]:
        """Of the passes since it was last asked: "iterations", a sample's mean, of all places together, and "settled", the
        share that did; of several places the least."""
        told = [settling.told() for settling in self.settlings]
        if not told:
            return {}
        return {"iterations": sum(one["iterations"] for one in told), "settled": min(one["settled"] for one in told)}

    def took(self) -> tuple[Tensor, Tensor]:
        """Of the samples of the last pass (B · T of a sequence): how many iterations each took, and whether it settled."""
        records = [settling.record for settling in self.settlings]
        iterations, converged = (
            torch.stack(parts) for parts in zip(*((r.iterations, r.converged) for r in records), strict=True)
        )
        return iterations.sum(0), converged.all(0)


class Problem:
    """f as a function of z, of what is given for each sample, and of the weights; and how its fixed points are found."""

    def __init__(self, f: Callable[..., Tensor], n_inputs: int, solver: Solver) -> None:
        self.f, self.n_inputs, self.solver = f, n_inputs, solver
        self.record: Record | None = None

    def check(self, z0: Tensor, xs: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        if any(len(x) != len(z0) for x in xs):
            raise ValueError(f"x has {[len(x) for x in xs]} samples, z0 has {len(z0)}")
        with torch.enable_grad():
            out = self.f(z0[:1].detach(), *(x[:1].detach() for x in xs), *(weight.detach() for weight in weights))
        if out.shape != z0[:1].shape:
            raise ValueError(f"f turns a state of {tuple(z0.shape[1:])} into one of {tuple(out.shape[1:])}")
        if out.requires_grad:
            raise ValueError("f uses a tensor that needs a gradient and is not passed to it; make f a module, or pass it in x")

    def of(self, inputs: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, ...]:
        """The inputs for some of the samples; weights are shared."""
        if len(rows) == len(inputs[0] if self.n_inputs else rows):
            return tuple(inputs)
        return tuple(value[rows] if place < self.n_inputs else value for place, value in enumerate(inputs))

    def solve(self, make: Callable[[Tensor], Step], z: Tensor, what: str) -> tuple[Tensor, Record]:
        z, record = self.solver(make, z)
        lost = ~record.converged
        if lost.any():
            warnings.warn(
                f"{what}: {int(lost.sum())} of {len(z)} samples have not settled after {self.solver.max_iter} iterations; "
                f"their last step was {float(record.residuals[lost].max()):.3g}, more than tol={self.solver.tol:g}",
                NotConverged,
                stacklevel=4,
            )
        return z, record


class Fix(torch.autograd.Function):
    """The fixed point of a `Problem`, and its derivatives."""

    @staticmethod
    def forward(problem: Problem, z0: Tensor, *inputs: Tensor) -> Tensor:
        def make(rows: Tensor) -> Step:
            given = problem.of(inputs, rows)
            return lambda z: problem.f(z, *given)

        z, problem.record = problem.solve(make, z0, "fix")
        return z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], z: Tensor) -> None:
        ctx.problem, _, *given = inputs
        ctx.save_for_backward(z, *given)
        ctx.save_for_forward(z, *given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        problem, (z, *inputs) = ctx.problem, ctx.saved_tensors
        wanted = [place for place, needed in enumerate(ctx.needs_input_grad[2:]) if needed]

        def graph(rows: Tensor, *needing: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
            given = [value.detach() for value in problem.of(inputs, rows)]
            here = z[rows].detach().requires_grad_()
            with torch.enable_grad():
                for place in needing:
                    given[place].requires_grad_()
                return problem.f(here, *given), here, tuple(given)

        def make(rows: Tensor) -> Step:
            out, here, _ = graph(rows)
            return lambda u: grad[rows] + torch.autograd.grad(out, here, u, retain_graph=True)[0]

        u, _ = problem.solve(make, grad, "fix, backward")
        out, _, given = graph(torch.arange(len(z), device=z.device), *wanted)
        grads = torch.autograd.grad(out, [given[place] for place in wanted], u, allow_unused=True)
        found = dict(zip(wanted, grads, strict=True))
        return None, None, *(found.get(place) for place in range(len(inputs)))

    @staticmethod
    def jvp(ctx: Any, _problem: None, _z0: Tensor | None, *tangents: Tensor | None) -> Tensor:
        problem, (z, *inputs) = ctx.problem, ctx.saved_tensors
        whole = [torch.zeros_like(value) if t is None else t for value, t in zip(inputs, tangents, strict=True)]

        def make(rows: Tensor) -> Step:
            at = (z[rows], *problem.of(inputs, rows))
            along = problem.of(whole, rows)
            return lambda t: jvp(problem.f, at, (t, *along))[1]

        return problem.solve(make, torch.zeros_like(z), "fix, forward mode")[0]

"""Iterates to a fixed point, and differentiates there instead of through the iterations.

Symbols: B samples, which converge independently of each other; ρ spectral radius.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from inn_lab.errors import ConfigError
from inn_lab.linear.by_hand import first_order
from inn_lab.models.base import Model
from inn_lab.models.solvers import Convergence, Function, Solver, flat, wide

NAMED = 5  # samples that a warning names


class NotConverged(UserWarning):
    """Some samples have not converged to a fixed point, or their derivatives have not. Their results are approximate."""


def fix(
    f: Callable[..., Tensor] | torch.nn.Module,
    x: Tensor | Sequence[Tensor],
    z0: Tensor,
    *,
    weights: Sequence[Tensor] = (),
    rtol: float = 1e-4,
    atol: float = 1e-5,
    max_iter: int = 300,
    anderson: int = 0,
) -> tuple[Tensor, Convergence]:
    """Iterates from z0 to z = f(z, x). The result is differentiable in x and in the weights of f.

    Reverse mode solves a linear equation, T*z = grad + (∂f/∂z)ᵀ T*z (Eq. 8). Forward mode (`torch.func.jvp`) solves that of the
    tangent, ż = ∂f/∂z ż + ∂f/∂x ẋ (Eq. 7). Both are solved at the last state, so memory does not depend on the number of
    iterations, and derivatives are exact where the state has converged. By the implicit function theorem they are those of the
    fixed point, even of one that does not attract (ρ(∂f/∂z) ≥ 1).

    Samples never affect each other. If a sample's derivatives are not found to within `rtol`, the best ones found are used;
    their residual is no larger than the incoming gradient. A sample whose state or derivatives are not finite adds nothing to
    the gradients.

    Source: Habiba and Pearlmutter 2021, Eqs. 3 and 6–8, Algorithm 2; the linear equations by minimal residuals (see
    `solvers.MinimalResiduals`), which need no ρ < 1 as the iteration of Algorithm 2 does.

    Shapes: z0 (B, …) and each of x (B, …); f(z, *x, *weights) -> (B, …), sample by sample: converged samples are left out.

    Args:
        f: a module, whose parameters get gradients; or a function, which must not use any other tensor that needs a gradient.
        x: one tensor or several, on which z depends.
        z0: the start of the iteration. It gets no gradient, because the fixed point does not depend on it.
        weights: tensors that all samples share and that get gradients, e.g. a matrix that is computed once for all iterations.
        rtol, atol, max_iter, anderson: see `Solver`.

    Returns z and a `Convergence`. Warns with `NotConverged` if samples, or their derivatives, have not converged. Raises
    ValueError for options out of range, for x and z0 that do not fit each other, for a function that uses other weights, and if
    f changes the shape, dtype or device of z.
    """
    xs = (x,) if isinstance(x, Tensor) else tuple(x)
    own = dict(f.named_parameters()) if isinstance(f, torch.nn.Module) else {}
    n_given = len(xs) + len(weights)

    def call(z: Tensor, *inputs: Tensor) -> Tensor:
        given, values = inputs[:n_given], inputs[n_given:]
        if isinstance(f, torch.nn.Module):
            return functional_call(f, dict(zip(own, values, strict=True)), (z, *given))
        return f(z, *given)

    problem = Problem(call, len(xs), Solver(rtol, atol, max_iter, anderson))
    if z0.dim() == 0 or not z0.is_floating_point():
        raise ValueError(f"z0 is {shown(z0)}: a state is of floating point, (B, …); e.g. torch.zeros(B, n)")
    if any(value.shape[:1] != z0.shape[:1] for value in xs):
        raise ValueError(f"x has {[len(value) if value.dim() else None for value in xs]} samples, z0 has {len(z0)}")
    z = Fix.apply(problem, z0, *xs, *weights, *own.values())
    return z, problem.record


def shown(z: Tensor) -> str:
    return f"{tuple(z.shape)} of {z.dtype} on {z.device}"


class Settling:
    """`fix` for use in a model; it counts iterations. Raises ConfigError for options out of range, see `Solver`."""

    def __init__(self, rtol: float, atol: float, max_iter: int, anderson: int) -> None:
        self.options: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_iter": max_iter, "anderson": anderson}
        try:
            Solver(**self.options)
        except ValueError as error:
            raise ConfigError(f"{error}") from error
        self.record: Convergence | None = None  # of the last call
        self.sums: Tensor | None = None  # iterations, converged samples and samples, since `told` was called

    def __call__(self, f: Callable[..., Tensor], x: Tensor, z0: Tensor, weights: Sequence[Tensor] = ()) -> Tensor:
        z, self.record = fix(f, x, z0, weights=weights, **self.options)
        parts = [self.record.iterations.sum(), self.record.converged.sum(), torch.tensor(len(z0), device=z0.device)]
        counted = torch.stack(parts).double()
        self.sums = counted if self.sums is None else self.sums + counted
        return z

    def told(self) -> dict[str, float]:
        """Since the last call: "iterations", their mean per sample, and "settled", the fraction of samples that converged."""
        if self.sums is None:
            return {}
        (iterations, settled, samples), self.sums = self.sums.tolist(), None
        return {"iterations": iterations / samples, "settled": settled / samples}


class Settled(Model):
    """Base class of the models that iterate until they converge, in one stage or in several (`settlings`)."""

    settlings: Sequence[Settling]

    def told(self) -> dict[str, float]:
        """Since the last call: "iterations", the mean per sample, summed over stages; "settled", the smallest fraction of
        samples that converged in any stage."""
        told = [one for settling in self.settlings if (one := settling.told())]
        if not told:
            return {}
        return {"iterations": sum(one["iterations"] for one in told), "settled": min(one["settled"] for one in told)}

    def took(self) -> tuple[Tensor, Tensor]:
        """For each sample of the last call (B · T of a sequence): how many iterations it took, and whether it converged."""
        records = [settling.record for settling in self.settlings if settling.record]
        iterations, converged = (
            torch.stack(parts) for parts in zip(*((r.iterations, r.converged) for r in records), strict=True)
        )
        return iterations.sum(0), converged.all(0)


class Problem:
    """A function f(z, *inputs) and the solver of its fixed points. The first `n_inputs` inputs are per sample, the others
    shared."""

    def __init__(self, f: Callable[..., Tensor], n_inputs: int, solver: Solver) -> None:
        self.f, self.n_inputs, self.solver = f, n_inputs, solver
        self.record: Convergence

    def at(self, inputs: Sequence[Tensor], rows: Tensor) -> Function:
        """One iteration z ↦ f(z) for some of the samples. It checks what f returns."""
        given = [value.detach() for value in self.of(inputs, rows)]

        def step(z: Tensor) -> Tensor:
            with torch.enable_grad():
                out = self.f(z, *given)
            if not isinstance(out, Tensor):
                raise ValueError(f"f returns a {type(out).__name__}; it must return the next state, a tensor")
            if (out.shape, out.dtype, out.device) != (z.shape, z.dtype, z.device):
                raise ValueError(f"f turns a state {shown(z)} into one {shown(out)}; it must keep shape, dtype and device")
            if out.requires_grad:
                raise ValueError(
                    "f uses a tensor that needs a gradient and is not passed to it; make f a module, or pass it in x or weights"
                )
            return out

        return step

    def of(self, inputs: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, ...]:
        """The inputs for some of the samples. Shared inputs stay as they are."""
        if self.n_inputs == 0 or len(rows) == len(inputs[0]):
            return tuple(inputs)
        return tuple(value[rows] if place < self.n_inputs else value for place, value in enumerate(inputs))

    def tell(self, what: str, record: Convergence, missed: str) -> None:
        """Warns if samples have not converged."""
        lost = ~record.residuals.isfinite()
        slow = ~record.converged & ~lost
        parts = []
        if slow.any():
            worst, most = float(record.residuals[slow].max()), int(record.iterations[slow].max())
            parts.append(f"{named(slow)} {missed} after {most} iterations, by up to {worst:.3g} times the tolerance")
        if lost.any():
            parts.append(f"{named(lost)} came to numbers that are not finite")
        if parts:
            tolerance = f"rtol={self.solver.rtol:g}, atol={self.solver.atol:g}, max_iter={self.solver.max_iter}"
            warnings.warn(f"{what}: {'; '.join(parts)} ({tolerance})", NotConverged, stacklevel=4)


def named(samples: Tensor) -> str:
    """ "2 of 32 samples (7, 11)"; the first few of them."""
    places = samples.nonzero().flatten().tolist()
    return f"{len(places)} of {len(samples)} samples ({', '.join(map(str, places[:NAMED]))}{', …' * (len(places) > NAMED)})"


class Fix(torch.autograd.Function):
    """The fixed point of a `Problem`, and its derivatives."""

    @staticmethod
    def forward(problem: Problem, z0: Tensor, *inputs: Tensor) -> Tensor:
        z, problem.record = problem.solver.settle(lambda rows: problem.at(inputs, rows), z0.detach())
        problem.tell("fix", problem.record, "have not settled")
        return z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], z: Tensor) -> None:
        ctx.problem, _, *given = inputs
        ctx.save_for_backward(z, *given)
        ctx.save_for_forward(z, *given)

    @staticmethod
    @first_order("a fixed point")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        problem, (z, *inputs) = ctx.problem, ctx.saved_tensors
        wanted = [place for place, needed in enumerate(ctx.needs_input_grad[2:]) if needed]

        def graph(rows: Tensor, *needing: int) -> tuple[Tensor, Tensor, list[Tensor]]:
            leaves = [value.detach().requires_grad_(place in needing) for place, value in enumerate(inputs)]
            here = z[rows].detach().requires_grad_()
            with torch.enable_grad():
                return problem.f(here, *problem.of(leaves, rows)), here, leaves

        def make(rows: Tensor) -> Function:
            out, here, _ = graph(rows)
            return lambda u: torch.autograd.grad(out, here, u, retain_graph=True)[0]

        u, record = problem.solver.solve(make, of_finite(grad, z))
        problem.record.adjoint = record
        problem.tell("fix, backward", record, "have approximate gradients")
        rows = record.residuals.isfinite().nonzero().flatten()  # where f is not finite, a product with zero is not zero
        out, _, leaves = graph(rows, *wanted)
        grads = torch.autograd.grad(out, [leaves[place] for place in wanted], u[rows], allow_unused=True)
        found = dict(zip(wanted, grads, strict=True))
        return None, None, *(found.get(place) for place in range(len(inputs)))

    @staticmethod
    def jvp(ctx: Any, _problem: None, _z0: Tensor | None, *tangents: Tensor | None) -> Tensor:
        problem, (z, *inputs) = ctx.problem, ctx.saved_tensors
        along = [torch.zeros_like(value) if t is None else t for value, t in zip(inputs, tangents, strict=True)]

        def make(rows: Tensor) -> Function:
            here, given = z[rows], problem.of(inputs, rows)
            return lambda t: jvp(lambda z: problem.f(z, *given), (here,), (t,))[1]

        b = jvp(lambda *given: problem.f(z, *given), tuple(inputs), tuple(along))[1]
        t, record = problem.solver.solve(make, of_finite(b, z))
        problem.tell("fix, forward mode", record, "have approximate tangents")
        return t


def of_finite(values: Tensor, z: Tensor) -> Tensor:
    """`values` (B, …), NaN for samples whose state z is not finite."""
    return torch.where(wide(flat(z).isfinite().all(1), z), values, torch.nan)

"""The fixed-point operator: where it lands, and its derivatives."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inn_lab.models.implicit import NotConverged, fix
from inn_lab.models.solvers import Anderson, Solver
from inn_lab.seeding import generator

EXACT = {"rtol": 1e-13, "atol": 1e-13, "max_iter": 2000}
WAYS = pytest.mark.parametrize("anderson", [0, 3])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64)


class Cell(torch.nn.Module):
    """z ← tanh(W z + U x + b), a contraction where ‖W‖₂ = `slope` < 1."""

    def __init__(self, n: int = 5, inputs: int = 3, slope: float = 0.8, seed: int = 0) -> None:
        super().__init__()
        W = draw(n, n, seed=seed)
        self.W = torch.nn.Parameter(slope * W / torch.linalg.matrix_norm(W, 2))
        self.U, self.b = torch.nn.Parameter(draw(n, inputs, seed=seed + 1)), torch.nn.Parameter(draw(n, seed=seed + 2))

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z @ self.W.T + x @ self.U.T + self.b)


def unrolled(f, x, z, steps=600):
    for _ in range(steps):
        z = f(z, x)
    return z


@WAYS
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 6), samples=st.integers(1, 4), slope=st.floats(0, 0.95), seed=st.integers(0, 2**16))
def test_it_is_where_unrolling_ends_and_so_are_its_derivatives(anderson, n, samples, slope, seed):
    f, x, z0 = Cell(n, 2, slope, seed), draw(samples, 2, seed=seed + 3).requires_grad_(), draw(samples, n, seed=seed + 4)
    weight = draw(samples, n, seed=seed + 5)
    z, record = fix(f, x, z0, anderson=anderson, **EXACT)
    long = unrolled(f, x, z0)
    assert record.converged.all()
    torch.testing.assert_close(z, long, rtol=0, atol=1e-11)
    leaves = [x, *f.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((z * weight).sum(), leaves), torch.autograd.grad((long * weight).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_finite_differences():
    x = draw(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: fix(Cell(), x, torch.zeros(2, 5, dtype=torch.float64), **EXACT)[0], (x,))


@WAYS
def test_a_linear_map_has_its_solution(anderson):
    """z = A z + x, so z = (I − A)⁻¹ x, and the gradient of wᵀz with respect to x is (I − A)⁻ᵀ w."""
    A = 0.3 * draw(4, 4)
    inverse = torch.linalg.inv(torch.eye(4, dtype=torch.float64) - A)
    x, w = draw(3, 4, seed=1).requires_grad_(), draw(3, 4, seed=2)
    z, _ = fix(lambda z, x: z @ A.T + x, x, torch.zeros(3, 4, dtype=torch.float64), anderson=anderson, **EXACT)
    torch.testing.assert_close(z, x @ inverse.T)
    torch.testing.assert_close(torch.autograd.grad((z * w).sum(), x)[0], w @ inverse)


def test_known_numbers():
    """Heron's square root with its derivative, and the number that is its own cosine."""
    x = torch.tensor([[2.0], [3.0], [1e-4]], dtype=torch.float64, requires_grad=True)
    z, record = fix(lambda z, x: (z + x / z) / 2, x, torch.ones(3, 1, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(z, x.sqrt())
    assert record.iterations.max() < 20  # it converges quadratically
    torch.testing.assert_close(torch.autograd.grad(z.sum(), x)[0], 0.5 / x.detach().sqrt())
    z, _ = fix(lambda z: torch.cos(z), [], torch.zeros(1, 1, dtype=torch.float64), **EXACT)
    assert z.item() == pytest.approx(0.7390851332151607, abs=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, when it loads its forward mode
def test_forward_mode_is_the_tangent_of_unrolling():
    f, x, along = Cell(), draw(4, 3), draw(4, 3, seed=1)
    z0 = torch.zeros(4, 5, dtype=torch.float64)
    value, tangent = torch.func.jvp(lambda x: fix(f, x, z0, **EXACT)[0], (x,), (along,))
    long, expected = torch.func.jvp(lambda x: unrolled(f, x, z0), (x,), (along,))
    torch.testing.assert_close(value, long, rtol=0, atol=1e-11)
    torch.testing.assert_close(tangent, expected, rtol=0, atol=1e-10)
    e = 1e-6
    difference = (unrolled(f, x + e * along, z0) - unrolled(f, x - e * along, z0)) / (2 * e)
    torch.testing.assert_close(tangent, difference, rtol=0, atol=1e-8)


class Counted(torch.nn.Module):
    """z ← s z + x with a slope s of each sample's own; counts for how many samples it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0

    def forward(self, z, x, slope):
        self.samples += len(z)
        return slope * z + x


@pytest.mark.parametrize("anderson", [1, 2, 5])
def test_acceleration_takes_what_has_settled_among_what_still_moves(anderson):
    """In single precision, as models train: the settled one is too few to be left out, and its differences are exactly zero."""
    slope = torch.tensor([0.0, 0.9, 0.9, 0.9])[:, None]
    z, record = fix(lambda z, s: s * z + 1, slope, torch.zeros(4, 1), anderson=anderson, rtol=1e-5, max_iter=400)
    assert record.converged.all() and record.iterations[0] < record.iterations[1:].min()
    torch.testing.assert_close(z, 1 / (1 - slope), rtol=0, atol=1e-3)


def test_second_derivatives_are_refused():
    x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    z, _ = fix(lambda z, x: torch.tanh(z) / 2 + x, x, torch.zeros(1, 1, dtype=torch.float64), **EXACT)
    for loss in ((z**2).sum(), z.sum()):
        with pytest.raises(RuntimeError, match="a fixed point has no second derivative; leave out create_graph=True"):
            torch.autograd.grad(loss, x, create_graph=True)


@WAYS
def test_samples_settle_each_by_itself_and_then_cost_nothing(anderson):
    """Easy and hard ones together come out as one by one, in values, records and gradients."""
    slope = torch.tensor([0.0] * 60 + [0.5] * 30 + [0.98], dtype=torch.float64)[:, None]
    x, z0 = draw(len(slope), 1).requires_grad_(), torch.zeros(len(slope), 1, dtype=torch.float64)
    f, options = Counted(), {"rtol": 1e-11, "atol": 1e-11, "max_iter": 3000, "anderson": anderson}
    z, record = fix(f, [x, slope], z0, **options)
    asked = f.samples  # those that have settled are never more than a quarter of a batch
    assert asked <= int(record.iterations.sum()) / 0.75 < int(record.iterations.max()) * len(slope)
    (grad,) = torch.autograd.grad(z.sum(), x)
    assert f.samples - asked <= 2 * len(slope)  # for the linear equation, and for what it is multiplied by
    torch.testing.assert_close(z, x / (1 - slope), rtol=0, atol=1e-7)
    torch.testing.assert_close(grad, 1 / (1 - slope), rtol=0, atol=1e-7)
    for n in (0, 60, 90):
        alone, one = fix(Counted(), [x[n : n + 1], slope[n : n + 1]], z0[n : n + 1], **options)
        assert torch.equal(alone[0], z[n]) and one.iterations.item() == record.iterations[n]
    assert record.iterations[0] == 2 and record.iterations[0] < record.iterations[60] <= record.iterations[90]


def test_anderson_gets_there_sooner():
    """A slow contraction: eigenvalues up to 0.99."""
    basis, _ = torch.linalg.qr(draw(20, 20))
    A = basis * torch.linspace(0, 0.99, 20, dtype=torch.float64) @ basis.T
    x, z0, options = (
        draw(8, 20, seed=1),
        torch.zeros(8, 20, dtype=torch.float64),
        {"rtol": 1e-10, "atol": 1e-10, "max_iter": 5000},
    )
    plain, slow = fix(lambda z, x: z @ A + x, x, z0, **options)
    fast, quick = fix(lambda z, x: z @ A + x, x, z0, anderson=5, **options)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-6)
    assert 5 * quick.iterations.max() < slow.iterations.min()


def test_twice_in_one_graph():
    """One module in two places, the second fed by the first: gradients add up as unrolling's do."""
    f, x = Cell(3, 3), draw(4, 3).requires_grad_()
    z0 = torch.zeros(4, 3, dtype=torch.float64)

    def network(solve):
        first = solve(f, x, z0)
        return (solve(f, 2 * first + x, z0) * first).sum()

    leaves = [x, *f.parameters()]
    ours = torch.autograd.grad(network(lambda *given: fix(*given, **EXACT)[0]), leaves)
    theirs = torch.autograd.grad(network(unrolled), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_does_not_settle_is_said():
    x, z0 = torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64)
    slope = torch.tensor([[0.1], [1.1], [-1.0]], dtype=torch.float64)
    message = r"fix: 2 of 3 samples \(1, 2\) have not settled after 50 iterations, by up to .* times the tolerance \(rtol=1e-06"
    with pytest.warns(NotConverged, match=message):
        _, record = fix(Counted(), [x, slope], z0, rtol=1e-6, max_iter=50)
    assert record.converged.tolist() == [True, False, False] and record.iterations.tolist()[1:] == [50, 50]
    assert (record.residuals[1:] > 1).all() and record.residuals[0] <= 1


@WAYS
@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_state_that_is_no_number_is_said_and_touches_nobody(anderson, lost):
    """Of three samples the second one's f is not finite: its output, its part of the gradients, and the others'."""
    f, x, weight = Cell(), draw(3, 3).requires_grad_(), draw(3, 5, seed=7)
    one, other = (torch.tensor([[1.0], [value], [1.0]], dtype=torch.float64) for value in (lost, 1.0))
    f.forward = lambda z, x, factor: factor * Cell.forward(f, z, x)
    with pytest.warns(NotConverged) as warned:
        z, record = fix(f, [x, one], torch.zeros(3, 5, dtype=torch.float64), anderson=anderson, **EXACT)
        ours = torch.autograd.grad((z * weight)[::2].sum(), [x, *f.parameters()])
    told = [str(warning.message) for warning in warned]
    assert told[0].startswith("fix: 1 of 3 samples (1) came to numbers that are not finite") and len(told) == 2
    assert told[1].startswith("fix, backward: 1 of 3 samples (1) came to numbers that are not finite")
    assert record.converged.tolist() == record.adjoint.converged.tolist() == [True, False, True]
    assert record.iterations[1] == 1 and not z[1].isfinite().any()
    long = unrolled(lambda z, x: f(z, x, other), x, torch.zeros(3, 5, dtype=torch.float64))
    for a, b in zip(ours, torch.autograd.grad((long * weight)[::2].sum(), [x, *f.parameters()]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


class Bent(torch.nn.Module):
    """z ← w sin z + x: at x = 0 the state 0 is a fixed point, whatever w; for w > 1 it attracts no other state."""

    def __init__(self, w: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.full((3,), w, dtype=dtype))

    def forward(self, z, x):
        return self.w * torch.sin(z) + x


def test_a_sample_on_an_unstable_point_has_that_points_derivatives_and_the_others_theirs():
    """The adjoint's iteration would grow without end there; the implicit function's derivative is 1 / (1 − w)."""
    f, x = Bent(2.0), torch.zeros(32, 3, dtype=torch.float64, requires_grad=True)
    z0 = torch.ones(32, 3, dtype=torch.float64)
    z0[7] = 0
    z, record = fix(f, x, z0, **EXACT)
    got = torch.autograd.grad(z.sum(), [x, f.w])
    assert record.converged.all() and record.adjoint.converged.all() and torch.equal(z[7], z0[7])
    at = z.detach()
    torch.testing.assert_close(got[0], 1 / (1 - 2 * at.cos()))
    torch.testing.assert_close(got[1], (at.sin() / (1 - 2 * at.cos())).sum(0))


def test_a_sample_without_derivatives_is_said_and_touches_nobody():
    """At slope 1 the fixed point has no derivative: what is taken is bounded, and the other samples' is exact."""
    slope = torch.tensor([0.5] * 31 + [1.0], dtype=torch.float64)[:, None]
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    x = torch.zeros(32, 1, dtype=torch.float64, requires_grad=True)
    f, z0 = lambda z, x, slope, weight: slope * torch.sin(z) + weight * x, torch.zeros(32, 1, dtype=torch.float64)
    z, record = fix(f, [x, slope], z0, weights=[weight])
    with pytest.warns(NotConverged, match=r"fix, backward: 1 of 32 samples \(31\) have approximate gradients"):
        (grad,) = torch.autograd.grad(z.sum(), x)
    assert record.converged.all() and (~record.adjoint.converged).nonzero().tolist() == [[31]]
    torch.testing.assert_close(grad[:31], torch.full_like(grad[:31], 2.0), rtol=1e-3, atol=0)
    assert grad[31].abs() <= 1


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    size=st.floats(0.0, 20.0),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e30]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    max_iter=st.sampled_from([1, 3, 300]),
    seed=st.integers(0, 2**16),
)
def test_linear_equations_are_solved_or_said_not_to_be(n, size, scale, dtype, max_iter, seed):
    """Of any matrix, whatever its eigenvalues: what is left is never more than b, and what is said of it is true."""
    J, b = size * draw(4, n, n, seed=seed).to(dtype) / math.sqrt(n), scale * draw(4, n, seed=seed + 1).to(dtype)
    u, record = Solver(rtol=1e-3, max_iter=max_iter).solve(lambda rows: lambda u: (J[rows] @ u[:, :, None])[:, :, 0], b)
    left = (b + (J @ u[:, :, None])[:, :, 0] - u).double().div(scale).norm(dim=1) / b.double().div(scale).norm(dim=1)
    assert u.isfinite().all() and record.iterations.max() <= max_iter
    assert (left <= 1.001).all()
    torch.testing.assert_close(left, 1e-3 * record.residuals.double(), rtol=0.01, atol=1e-4)
    if max_iter == 300 and n <= 5:
        assert record.converged.all() or dtype == torch.float32


@pytest.mark.parametrize("of", [1e-6, 1.0, 1e6])
def test_tolerances_do_not_depend_on_how_large_states_and_gradients_are(of):
    """Neither on the number of a state's entries: a state of the same ones four times over settles as soon."""
    f, x = Cell(slope=0.9), draw(4, 3)
    z0 = torch.zeros(4, 5, dtype=torch.float64)
    _, record = fix(f, x, z0, rtol=1e-4, atol=1e-5)
    _, wide = fix(lambda z, x: f(z[:, :5], x).detach().repeat(1, 4), x, z0.repeat(1, 4), rtol=1e-4, atol=1e-5)
    _, large = fix(lambda z, x: of * f(z / of, x).detach(), x, z0, rtol=1e-4, atol=of * 1e-5)
    assert record.iterations.tolist() == wide.iterations.tolist() == large.iterations.tolist()
    x.requires_grad_()
    found = []
    for factor in (1.0, of):
        z, record = fix(f, x, z0)
        found.append(torch.autograd.grad(factor * z.square().sum(), x)[0] / factor)
        found.append(record.adjoint.iterations)
    torch.testing.assert_close(found[2], found[0])
    assert torch.equal(found[3], found[1])


@pytest.mark.parametrize("memory", [1, 3])
def test_acceleration_is_what_its_definition_says(memory):
    """Walker and Ni (2011), Eq. 2.2, by least squares over all that it remembers, iterate by iterate."""
    A, x = 0.5 * draw(6, 6), draw(1, 6, seed=1)
    mixed, z, zs = Anderson(x, memory), torch.zeros(1, 6, dtype=torch.float64), []
    for _ in range(5):
        new = torch.tanh(z @ A.T) + x
        zs.append((new, new - z))
        values, steps = (torch.stack(part).diff(dim=0)[-memory:, 0] for part in zip(*zs, strict=True))
        expected = new
        if len(zs) > 1:
            expected = new - torch.linalg.lstsq(steps.T, zs[-1][1].T).solution.T @ values
        z = mixed(new, new - z)
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-4)


def test_who_leaves_the_batch_leaves_the_acceleration_too():
    mixed = Anderson(torch.zeros(4, 3), 2)
    for n in range(3):
        mixed(torch.full((4, 3), float(n)), torch.full((4, 3), 0.5**n))
    mixed.take(torch.tensor([True, False, True, False]))
    assert {len(kept) for kept in (mixed.values, mixed.steps, mixed.products, *mixed.last)} == {2}


MEMORY = """
import resource, sys, torch
from inn_lab.models.implicit import fix
torch.set_num_threads(1)
f = torch.nn.Linear(512, 512)
torch.nn.init.orthogonal_(f.weight, gain=0.999)
class Cell(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.f = f
    def forward(self, z, x):
        return torch.tanh(self.f(z)) + x
import warnings; warnings.simplefilter("ignore")
x, z = torch.randn(2048, 512), torch.zeros(2048, 512)
if sys.argv[1] == "fix":
    z, _ = fix(Cell(), x, z, rtol=1e-30, atol=1e-30, max_iter=int(sys.argv[2]))
else:
    for _ in range(int(sys.argv[2])): z = Cell()(z, x)
z.sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(way: str, iterations: int) -> int:
    done = subprocess.run([sys.executable, "-c", MEMORY, way, str(iterations)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_memory_does_not_depend_on_the_iterations():
    few = peak("fix", 30)  # enough for all the directions that the backward pass keeps
    assert peak("fix", 300) < 1.1 * few
    assert peak("unrolled", 300) > 2 * few


Z = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "f, x, z0, message",
    [
        (lambda z, x: z[:, :1], Z, Z, r"a state \(2, 3\) of torch.float32 on cpu into one \(2, 1\) of torch.float32 on cpu"),
        (lambda z, x: z[:1], Z, Z, r"into one \(1, 3\)"),
        (lambda z, x: z.double(), Z, Z, r"a state \(2, 3\) of torch.float32 on cpu into one \(2, 3\) of torch.float64"),
        (lambda z, x: z.to("meta"), Z, Z, "on meta"),
        (lambda z, x: (z, x), Z, Z, "f returns a tuple"),
        (lambda z, x: z, torch.zeros(3, 3), Z, r"x has \[3\] samples, z0 has 2"),
        (lambda z, x: z, torch.tensor(1.0), Z, r"x has \[None\] samples, z0 has 2"),
        (lambda z, x: z, Z, torch.zeros(2, 3, dtype=torch.int64), r"z0 is \(2, 3\) of torch.int64"),
        (lambda z, x: z, Z, torch.tensor(1.0), r"z0 is \(\) of torch.float32"),
        (lambda z, x: z * WEIGHT, Z, Z, "a tensor that needs a gradient and is not passed"),
    ],
)
def test_what_is_no_such_function(f, x, z0, message):
    with pytest.raises(ValueError, match=message), torch.no_grad():
        fix(f, x, z0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rtol": 0.0}, "rtol=0.0: a tolerance is a positive number"),
        ({"rtol": math.nan}, "rtol=nan"),
        ({"atol": -1e-3}, "atol=-0.001"),
        ({"atol": math.inf}, "atol=inf"),
        ({"max_iter": 0}, "max_iter=0: how many iterations there are at most, a whole number from 1"),
        ({"max_iter": 2.5}, "max_iter=2.5"),
        ({"anderson": -1}, "anderson=-1: how many changes are combined"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        fix(lambda z, x: z, Z, Z, **options)


@WAYS
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,), (0, 2, 3)])
def test_nothing_is_a_fixed_point(anderson, shape):
    x = torch.ones(shape, requires_grad=True)
    z, record = fix(lambda z, x: 0.5 * z + x, x, torch.zeros(shape), anderson=anderson)
    z.sum().backward()
    assert z.shape == x.grad.shape == shape and record.converged.all() and len(record.iterations) == shape[0]


def test_f_is_asked_once_an_iteration():
    f, slope = Counted(), torch.full((4, 1), 0.5)
    _, record = fix(f, [torch.ones(4, 1), slope], torch.zeros(4, 1))
    assert f.samples == record.iterations.sum()


WEIGHT = torch.ones(3, requires_grad=True)


def test_a_flat_sample_of_one_number():
    """States of any shape: (B,) too."""
    z, record = fix(lambda z, x: 0.5 * z + x, torch.ones(2), torch.zeros(2), rtol=1e-6)
    assert (
        z.tolist() == pytest.approx([2, 2], abs=1e-5) and record.residuals.max() <= 1 and math.isfinite(record.residuals.max())
    )

"""The fixed-point operator: where it lands, and its derivatives."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inn_lab.models.fixed_point import NotConverged, fix
from inn_lab.seeding import generator

EXACT = {"tol": 1e-13, "max_iter": 2000}
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
    z, record = fix(lambda z, s: s * z + 1, slope, torch.zeros(4, 1), anderson=anderson, tol=1e-5, max_iter=400)
    assert record.converged.all() and record.iterations[0] < record.iterations[1:].min()
    torch.testing.assert_close(z, 1 / (1 - slope), rtol=0, atol=1e-3)


def test_second_derivatives_are_refused():
    x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    z, _ = fix(lambda z, x: torch.tanh(z) / 2 + x, x, torch.zeros(1, 1, dtype=torch.float64), **EXACT)
    (first,) = torch.autograd.grad((z**2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@WAYS
def test_samples_settle_each_by_itself_and_then_cost_nothing(anderson):
    """Easy and hard ones together come out as one by one, in values, records and gradients."""
    slope = torch.tensor([0.0] * 60 + [0.5] * 30 + [0.98], dtype=torch.float64)[:, None]
    x, z0 = draw(len(slope), 1).requires_grad_(), torch.zeros(len(slope), 1, dtype=torch.float64)
    f, options = Counted(), {"tol": 1e-10, "max_iter": 3000, "anderson": anderson}
    z, record = fix(f, [x, slope], z0, **options)
    (grad,) = torch.autograd.grad(z.sum(), x)
    assert f.samples < 0.3 * int(record.iterations.max()) * len(slope) or anderson
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
    x, z0, options = draw(8, 20, seed=1), torch.zeros(8, 20, dtype=torch.float64), {"tol": 1e-9, "max_iter": 5000}
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
    with pytest.warns(NotConverged, match=r"fix: 2 of 3 samples have not settled after 50 iterations; .* more than tol=1e-06"):
        _, record = fix(Counted(), [x, slope], z0, tol=1e-6, max_iter=50)
    assert record.converged.tolist() == [True, False, False] and record.iterations.tolist()[1:] == [50, 50]
    assert (record.residuals[1:] > 1e-6).all() and record.residuals[0] <= 1e-6
    with pytest.warns(NotConverged), torch.no_grad():  # a state that is no number has not settled
        _, record = fix(lambda z, x: z / 0 * x, x, z0, max_iter=3)
    assert not record.converged.any()


def test_a_backward_pass_that_does_not_settle_is_said():
    """At z = 0 the map stands still whatever its slope, but its adjoint grows."""
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    z, record = fix(lambda z, x: 2 * torch.sin(z) + x, x, torch.zeros(1, 1, dtype=torch.float64))
    assert record.converged.all()
    with pytest.warns(NotConverged, match="fix, backward: 1 of 1"):
        z.sum().backward()


MEMORY = """
import resource, sys, torch
from inn_lab.models.fixed_point import fix
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
    z, _ = fix(Cell(), x, z, tol=0.0, max_iter=int(sys.argv[2]))
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
    few = peak("fix", 10)
    assert peak("fix", 300) < 1.2 * few
    assert peak("unrolled", 300) > 2 * few


@pytest.mark.parametrize(
    "f, x, z0, message",
    [
        (lambda z, x: z[:, :1], torch.zeros(2, 3), torch.zeros(2, 3), r"a state of \(3,\) into one of \(1,\)"),
        (lambda z, x: z, torch.zeros(3, 3), torch.zeros(2, 3), r"x has \[3\] samples, z0 has 2"),
        (lambda z, x: z * WEIGHT, torch.zeros(2, 3), torch.zeros(2, 3), "a tensor that needs a gradient and is not passed"),
    ],
)
def test_what_is_no_such_function(f, x, z0, message):
    with pytest.raises(ValueError, match=message):
        fix(f, x, z0)


WEIGHT = torch.ones(3, requires_grad=True)


def test_a_flat_sample_of_one_number():
    """States of any shape: (B,) too."""
    z, record = fix(lambda z, x: 0.5 * z + x, torch.ones(2), torch.zeros(2), tol=1e-6)
    assert (
        z.tolist() == pytest.approx([2, 2], abs=1e-5)
        and record.residuals.max() <= 1e-6
        and math.isfinite(record.residuals.max())
    )

"""What a model, a weight matrix and a kernel are given is checked before they read it, and what they saved serves twice."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inn_lab.linear import CSR, KINDS, Activation, Dense, Fixed, LowRank, Masked, Sum, csr, from_entries
from inn_lab.models import INN, MLP, RandomGraph, Sequential2D
from inn_lab.models.sequential2d import Factored, Identity, Trainable
from inn_lab.models.wavefront import Link, Wavefront
from inn_lab.patterns import draw_exact
from inn_lab.seeding import generator

OUT, IN = 7, 11
KERNELS = [
    "test_the_kernels_equal_torch_sparse",
    "test_the_recurrent_steps_equal_torch_sparse",
    "test_gradcheck_of_the_sequence",
]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "x"), dtype=dtype)


def entries(n: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    return draw_exact(OUT, IN, n, generator(seed)), drawn(n, seed=seed)


def test_nothing_reads_past_its_memory() -> None:
    """The kernels' tests, and whatever a model may be called with, where every address is checked (see fuzz.py)."""
    tests = Path(__file__).parent
    quick = {"NUMBA_OPT": "0", "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    words = [
        str(tests / "fuzz.py"),
        *(f"{tests / 'test_linear.py'}::{name}" for name in KERNELS),
        "-x",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env={**os.environ, **quick, "NUMBA_BOUNDSCHECK": "1"},
        cwd=tests.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"


# ------------------------------------------------------------------------------------------------------------ sentences


def inn(**options) -> INN:
    return INN(20, 3, n_weights=500, R=0.1, **options, generator=generator(0))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: inn()(torch.zeros(16, 7, 5)),
            ValueError,
            r"INN: x has the shape \(16, 7, 5\); it must be \(B, T, 20\), B and T at least 1; .* n_inputs=20, and the data",
        ),
        (lambda: inn().states(torch.zeros(2, 3, 5)), ValueError, r"CSR: x has the shape \(2, 3, 5\); it must be \(B, T, 20\)"),
        (lambda: inn().iterate(torch.zeros(2, 21), 4), ValueError, r"CSR: x has the shape \(2, 4, 21\)"),
        (lambda: inn()(torch.zeros(2, 0, 20)), ValueError, r"\(2, 0, 20\).*B and T at least 1"),
        (
            lambda: inn()(torch.zeros(2, 3, 20, dtype=torch.float64)),
            TypeError,
            r"INN: x is torch.float64 and the weights torch.float32; convert one, e.g. x.to\(torch.float32\)",
        ),
        (lambda: inn()(torch.zeros(2, 3, 20, device="meta")), ValueError, r"on meta and the weights on cpu; .*x.to\('cpu'\)"),
        (lambda: inn()([[[0.0] * 20]]), TypeError, "INN: x is a list; give a dense tensor of torch"),
        (lambda: inn()(torch.zeros(2, 3, 20).to_sparse()), TypeError, "x is a tensor of layout torch.sparse_coo"),
        (lambda: inn().half()(torch.zeros(2, 3, 20).half()), TypeError, "weights are torch.float16; a sparse product"),
        (lambda: inn().type(torch.float64)(drawn(2, 3, 20)), TypeError, "the pattern became torch.float64; .*model.double"),
        (lambda: MLP(4, 2, hidden=[3], generator=None)(torch.zeros(1, 1, 4)), ValueError, "MLP: built with generator=None"),
        (lambda: INN(4, 2, depth=9, R=0.5, generator=None)(torch.zeros(1, 1, 4)), ValueError, "INN: built with generator=None"),
        (lambda: Masked(OUT, IN, *entries())(drawn(2, 5)), ValueError, r"x has the shape \(2, 5\); it must be \(…, 11\)"),
        (lambda: CSR(OUT, IN, *entries()).split(12), ValueError, "columns=12; a matrix of 11 is cut at 0 to as many"),
        (lambda: CSR(OUT, IN, *entries()).split(4)[1](drawn(2, 4)), ValueError, r"h has the shape \(2, 4\); .*\(…, 7\)"),
        (lambda: iterated(drawn(2, 3, 4), drawn(6)), ValueError, r"bias has the shape \(6,\); it must be \(7,\)"),
        (lambda: iterated(drawn(2, 3, 4), rows=6), ValueError, "the activation is for 6 rows, and the matrix has 7"),
        (lambda: iterated(drawn(2, 3, 4), n_outputs=0), ValueError, "n_outputs=0; of a state of 7 rows, 1 to as many"),
        (lambda: Activation(("relo", 3)), ValueError, "'relo': there is no such activation; did you mean relu"),
        (lambda: Activation(("relu", -3)), ValueError, "of -3 rows: a number of rows is 0 or more"),
    ],
)  # fmt: skip
def test_what_a_call_cannot_use_is_said_in_a_sentence(call, error, text: str) -> None:
    with pytest.raises(error, match=text) as raised:
        call()
    assert "\n" not in str(raised.value)


def iterated(x: Tensor, bias: Tensor | None = None, rows: int = OUT, n_outputs: int = 1) -> Tensor:
    return CSR(OUT, IN, *entries()).iterate(x, bias, Activation(("relu", rows - 1), ("linear", 1)), n_outputs)


def test_the_default_network_reads_no_more_than_its_input() -> None:
    """Of a width that is not its own it once read on, behind the input, in both directions."""
    with pytest.raises(ValueError, match="must be"):
        inn()(torch.randn(16, 7, 5, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("kind", [*KINDS.values(), Fixed])
@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda i, v: (i.flip(0), v), ValueError, "indices are not sorted, or one stands there twice"),
        (lambda i, v: (i.index_fill(0, torch.tensor([1]), int(i[0])), v), ValueError, "not sorted, or one stands there twice"),
        (lambda i, v: (i + OUT * IN - i[-1], v), ValueError, r"of a matrix of 7 × 11 lies in \[0, 77\)"),
        (lambda i, v: (i - i[0] - 1, v), ValueError, "indices go from -1 to"),
        (lambda i, v: (i.int(), v), TypeError, "indices are torch.int32; they must be torch.int64"),
        (lambda i, v: (i.double(), v), TypeError, "indices are torch.float64"),
        (lambda i, v: (i[:, None], v), TypeError, r"indices have the shape \(30, 1\); a dense tensor \(n,\)"),
        (lambda i, v: (i.tolist(), v), TypeError, "indices are a list"),
        (lambda i, v: (i, v[1:]), ValueError, "30 indices on cpu and 29 values on cpu"),
        (lambda i, v: (i, v.to("meta")), ValueError, "30 values on meta"),
        (lambda i, v: (i, v.long()), TypeError, "values are torch.int64; weights are real numbers"),
        (lambda i, v: (i, v.to(torch.complex64)), TypeError, "values are torch.complex64"),
    ],
)
def test_entries_that_are_none_are_refused(kind, change, error, text: str) -> None:
    given = change(*entries())
    with pytest.raises(error, match=text):
        kind(OUT, IN, *given)
    with pytest.raises(error, match=text):
        from_entries("auto", OUT, IN, *given)


def test_a_pattern_of_more_than_32_bits_is_refused() -> None:
    none = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    for sizes, given in [
        ((2**31, 2), none),
        ((2, 2**31), none),
        ((2**20, 2**20), [one[:1].expand(2**31) for one in entries()]),
    ]:
        with pytest.raises(ValueError, match="csr: 2147483648 rows, columns or entries; it counts up to 2147483647"):
            CSR(*sizes, *given)
    with pytest.raises(ValueError, match="out_features=-1: a matrix has a whole number of rows"):
        CSR(-1, 2, *none)


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ({}, "at least one block"),
        ({(0, 0): (3, 2, 4), (3, 0): (3, 2, 5)}, r"the block at \(3, 0\) is of \(3, 5\): .* not as wide"),
        ({(0, 0): (3, 2, 4), (0, 4): (2, 2, 4)}, r"the block at \(0, 4\) is of \(2, 4\): .* not as high"),
        ({(0, 0): (3, 2, 4), (2, 4): (3, 2, 4)}, "the rows of the blocks, {0: 3, 2: 3}, overlap or end after 7"),
        ({(0, 0): (3, 2, 4), (3, 9): (3, 2, 4)}, "the columns of the blocks, {0: 4, 9: 4}, overlap or end after 11"),
        ({(-1, 0): (3, 2, 4)}, "the rows of the blocks, {-1: 3}"),
    ],
)
def test_blocks_of_low_rank_that_do_not_fit_are_refused(blocks, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LowRank(OUT, IN, {at: (drawn(high, k), drawn(k, wide)) for at, (high, k, wide) in blocks.items()})


def test_a_sum_is_of_matrices_of_one_shape() -> None:
    for parts in ([], [CSR(OUT, IN, *entries()), CSR(IN, OUT, *entries())]):
        with pytest.raises(ValueError, match="give one or more of the same shape"):
            Sum(parts)


def test_links_that_are_none_are_refused() -> None:
    full = torch.ones(2, 3, dtype=torch.bool)
    for link, text in [
        (Link(1, 0, full), "a link from 1 to 0: it goes up, from −1"),
        (Link(0, 2, full), "from 0 to 2: it goes up, from −1 .* to at most 1"),
        (Link(0, 1, full.T), r"its mask is torch.bool \(3, 2\), not bool \(2, 3\)"),
        (Link(0, 1, full.double()), "its mask is torch.float64"),
    ]:
        with pytest.raises(ValueError, match=text):
            Wavefront([3, 2], [link], "tanh", generator(0))
    with pytest.raises(ValueError, match="cell=elman: there is no such cell"):
        Wavefront([3, 2], [], "elman", generator(0))


# -------------------------------------------------------------------------------------------------------- loaded states


@pytest.mark.parametrize("kind", [CSR, Fixed])
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda s: s["columns"].add_(2**20), "are no pattern of 30 entries in 7 × 11: the state is damaged"),
        (lambda s: s["columns"].sub_(IN), "no pattern"),
        (lambda s: s["pointers"][3:].add_(2), "no pattern"),
        (lambda s: s["pointers"].copy_(s["pointers"].flip(0)), "no pattern"),
        (lambda s: s.update(columns=s["columns"].flip(0)), "not sorted, or one stands there twice"),
        (
            lambda s: s.update(CSR(OUT, IN, *entries(29)).state_dict()),
            r"columns are torch.int32 \(29,\), and of this matrix .* \(30,\)",
        ),
        (lambda s: s.update(CSR(OUT + 1, IN, *entries()).state_dict()), r"pointers are torch.int32 \(9,\)"),
        (lambda s: s.update(columns=s["columns"].long()), "columns are torch.int64"),
        (lambda s: s.update(columns=s["columns"].repeat_interleave(2)[::2]), "columns are torch.int32"),
        (lambda s: s.update(values=s["values"][1:]), "30 indices on cpu and 29 values"),
    ],
)
def test_a_damaged_state_is_refused_and_leaves_the_matrix_as_it_was(kind, assign: bool, damage, text: str) -> None:
    matrix = kind(OUT, IN, *entries(seed=1))
    x, state = drawn(2, IN), copy.deepcopy(kind(OUT, IN, *entries()).state_dict())
    y = matrix(x).detach()
    damage(state)
    with pytest.raises(RuntimeError, match=text):
        matrix.load_state_dict(state, assign=assign)
    assert torch.equal(matrix(x), y)


def test_a_pass_that_waits_keeps_its_pattern_when_another_is_loaded() -> None:
    matrix, other = (CSR(OUT, IN, *entries(seed=seed)) for seed in (0, 1))
    x = drawn(2, 3, IN).requires_grad_()
    (expected,) = torch.autograd.grad(matrix(x).sum(), x)
    y = matrix(x).sum()
    pattern = {name: tensor for name, tensor in other.state_dict().items() if name != "values"}
    matrix.load_state_dict(pattern, strict=False)
    assert torch.equal(torch.autograd.grad(y, x)[0], expected)
    assert torch.equal(matrix.entries()[0], other.entries()[0])


def test_pruning_between_the_passes_leaves_the_first_ones_pattern() -> None:
    model = RandomGraph(6, 2, graph="watts_strogatz", number=1, cell="tanh", generator=generator(0)).double()
    y, parameter = model(drawn(2, 3, 6)).sum(), model.core.map.values
    (expected,) = torch.autograd.grad(y, parameter, retain_graph=True)
    model.keep([torch.zeros(len(w.values), dtype=torch.bool) for w in model.weights()])
    assert torch.equal(torch.autograd.grad(y, parameter)[0], expected)


# ------------------------------------------------------------------------------------------------------- what kernels see


def test_the_kernels_are_handed_nothing_that_does_not_fit() -> None:
    """Below the models too: whoever calls these."""
    block, values = CSR(OUT, IN, *entries()).blocks(IN)[0], entries()[1]
    square = CSR(OUT, OUT, torch.arange(OUT) * OUT, values[:OUT]).blocks(OUT)[0]
    for call, text in [
        (lambda: csr.product(block, values, drawn(2, IN - 1, 3)), "product: x has the shape"),
        (
            lambda: csr.product(block, values[1:], drawn(2, IN, 3)),
            r"product: the values are \(29,\) on cpu, and the pattern \(30,\)",
        ),
        (lambda: csr.product(block, values, drawn(2, 3, IN).mT), "do not lie one after the other"),
        (lambda: csr.product(block, values[:1].expand(30), drawn(2, IN, 3)), "do not lie one after the other"),
        (lambda: csr.sampled(block, drawn(2, OUT, 3), drawn(1, IN, 3), values), "sampled: g has the shape"),
        (lambda: csr.transpose(block, values[1:]), "transpose: the values"),
        (lambda: csr.forward_steps(block, values, drawn(3, OUT, 2), 4, 3), "7 × 11; a state's is square"),
        (lambda: csr.forward_steps(square, values[:OUT], drawn(3, OUT, 2), 8, 3), "8 rows of ReLU"),
        (
            lambda: csr.forward_steps(square, values[:OUT], drawn(2, OUT, 2), 4, 3),
            r"forward_steps: drive has the shape \(2, 7, 2\)",
        ),
        (
            lambda: csr.backward_steps(square, values[:OUT], drawn(3, 2, 2), drawn(4, OUT, 2)),
            "backward_steps: grad has the shape",
        ),
        (lambda: csr.backward_steps(square, values[:OUT], drawn(3, 8, 2), drawn(3, OUT, 2)), "-1 rows of ReLU"),
    ]:
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError, match=r"x is torch\.float32 and the weights torch\.float64"):
        csr.product(block, values, drawn(2, IN, 3).float())


def test_the_number_of_threads_may_change_between_products() -> None:
    """A block is cut into pieces for the threads that there were at first; more or fewer of them take the same pieces."""
    before, results = torch.get_num_threads(), []
    try:
        for first, then in [(1, 1), (1, 3), (3, 1)]:
            matrix, x = CSR(OUT, IN, *entries()), drawn(2, 5, IN - OUT).requires_grad_()
            for threads in (first, then):
                torch.set_num_threads(threads)
                y = matrix.iterate(x, None, Activation(("relu", 4), ("linear", 3)), 3)
                results.append([y, *torch.autograd.grad(y.sum(), [x, matrix.values])])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for result in results[1:] for one, other in zip(results[0], result, strict=True))


# ------------------------------------------------------------------------------------------------- derivatives, precision


def networks() -> dict[str, torch.nn.Module]:
    """One of each way to hold what trains, of 4 inputs."""
    g = generator(0)
    inns = {
        kind: INN(4, 3, depth=9, R=1.0 if kind == "dense" else 0.5, linear=kind, generator=g) for kind in [*KINDS, "low_rank"]
    }
    grid = [[Trainable(9), Factored(0.5)], [None, Identity()]]
    mixed = Sequential2D(4, 4, rows=[4, 4], columns=[8, 4], grid=grid, activation=[("tanh", 8)], generator=g)
    graphs = {
        c: RandomGraph(4, 3, graph="watts_strogatz", number=1, cell=c, generator=g) for c in ("tanh", "relu", "lstm", "gru")
    }
    return {name: model.double() for name, model in {**inns, "sum": mixed, **graphs}.items()}


@pytest.mark.parametrize("name", networks())
def test_a_second_backward_pass_gives_the_same_gradients(name: str) -> None:
    model, x = networks()[name], drawn(2, 19, 4).requires_grad_()
    wanted = [x, *model.parameters()]
    y = model(x).square().sum()
    first, second, third = (torch.autograd.grad(y, wanted, retain_graph=again) for again in (True, True, False))
    for one, other in ((first, second), (first, third)):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("call", ["product", "iterate", "wavefront"])
def test_second_derivatives_are_refused(call: str) -> None:
    """Also of (W x).sum(), whose gradient from above is a constant: a penalty on what comes out must not count as none."""
    matrix, x = CSR(OUT, IN, *entries()), drawn(2, 3, IN).requires_grad_()
    y = {
        "product": lambda: matrix(x),
        "iterate": lambda: matrix.iterate(x[..., : IN - OUT], None, Activation(("relu", 4), ("linear", 3)), 3),
        "wavefront": lambda: Wavefront([IN], [Link(-1, 0, torch.ones(IN, IN, dtype=torch.bool))], "gru", generator(0)).double()(
            x
        ),
    }[call]()
    for loss in (y.sum(), y.square().sum()):
        with pytest.raises(RuntimeError, match="has no second derivative; leave out create_graph=True"):
            torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="functorch transforms"):  # torch's own sentence
        torch.func.grad(lambda x: matrix(x).sum())(x)


@pytest.mark.parametrize("name", ["csr", "masked", "sum", "gru"])
def test_autocast_takes_what_it_is_given(name: str) -> None:
    """Sparse products keep the weights' precision, whatever comes to them from others that do not."""
    model, x = networks()[name].float(), drawn(2, 5, 4, dtype=torch.float32)
    y = model(x)
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            found = model(given)
        found.float().square().sum().backward()
        assert torch.allclose(found.float(), y, atol=0.05)
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("kind", [CSR, Masked, Dense])
def test_one_vector_and_none(kind) -> None:
    indices, values = torch.arange(OUT * IN), drawn(OUT * IN)
    matrix, dense = kind(OUT, IN, indices, values), values.view(OUT, IN)
    for shape in [(IN,), (1, IN), (0, IN), (2, 0, IN)]:
        x = drawn(*shape).requires_grad_()
        y = matrix(x)
        assert y.shape == (*shape[:-1], OUT) and torch.allclose(y, x @ dense.T, atol=1e-12)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.allclose(gradient, dense.sum(0).expand(shape), atol=1e-12)
    empty = kind(3, 0, indices[:0], values[:0])
    assert torch.equal(empty(torch.zeros(2, 0, dtype=torch.float64)), torch.zeros(2, 3, dtype=torch.float64))

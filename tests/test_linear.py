"""The weight matrices: every kind holds the same matrix, in value and in every gradient, and trains only its own entries."""

import copy
import resource
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inn_lab.errors import ConfigError
from inn_lab.linear import CSR, KINDS, Activation, Dense, LowRank, Masked, Stepwise, WeightMatrix, csr, fastest, from_entries
from inn_lab.linear.composed import rank
from inn_lab.patterns import draw_exact
from inn_lab.seeding import generator

steady = settings(deadline=None, derandomize=True)  # the same examples each time, however busy the machine
OUT, IN = 7, 11
STATM = Path("/proc/self/statm")
SPARSE = [Masked, Stepwise, CSR]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "x"), dtype=torch.float64)


def entries(n: int, seed: int = 0, out: int = OUT, width: int = IN) -> tuple[Tensor, Tensor, Tensor]:
    """n entries in float64, and the same matrix written out, one by one."""
    g = generator(seed)
    indices = draw_exact(out, width, n, g)
    values = torch.randn(n, generator=g, dtype=torch.float64)
    dense = torch.zeros(out, width, dtype=torch.float64)
    for index, value in zip(indices.tolist(), values.tolist(), strict=True):
        dense[index // width, index % width] = value
    return indices, values, dense


def at_entries(matrix: WeightMatrix, gradient: Tensor, indices: Tensor) -> Tensor:
    """The gradient of the trainable entries, in order, from that of the parameter."""
    return gradient if isinstance(matrix, CSR) else gradient.flatten()[indices]


def iterate(matrix: WeightMatrix, x: Tensor, bias: Tensor | None, n_linear: int) -> Tensor:
    """ReLU, and linear in the last rows, the outputs."""
    rows = matrix.split(x.shape[2])[0](x[:1, 0]).shape[1]
    return matrix.iterate(x, bias, Activation(("relu", rows - n_linear), ("linear", n_linear)), n_linear)


@pytest.mark.parametrize("kind", SPARSE)
@steady
@given(st.integers(0, OUT * IN), st.integers(0, 2**30))
def test_forward_equals_the_dense_product_in_value_and_gradient(kind, n: int, seed: int) -> None:
    indices, values, dense = entries(n, seed)
    matrix = kind(OUT, IN, indices, values)
    x, back = drawn(2, 3, IN, seed=seed).requires_grad_(), drawn(2, 3, OUT, seed=seed + 1)
    (parameter,) = matrix.parameters()
    grad, grad_x = torch.autograd.grad(matrix(x), [parameter, x], back)
    assert torch.allclose(matrix(x), torch.einsum("oi,bti->bto", dense, x), atol=1e-12, rtol=0)
    assert torch.allclose(grad_x, torch.einsum("oi,bto->bti", dense, back), atol=1e-12, rtol=0)
    expected = torch.einsum("bto,bti->oi", back, x).flatten()[indices]
    assert torch.allclose(at_entries(matrix, grad, indices), expected, atol=1e-12, rtol=0)
    assert matrix.n_weights == n == int((dense != 0).sum())


@steady
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40)),  # inputs, outputs and hidden rows
    st.tuples(st.integers(1, 6), st.integers(1, 5)),  # steps, batch
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**30),
)
def test_iterating_is_the_same_for_every_kind(sizes, shape, density, still, with_bias, seed) -> None:
    """CSR, masked and dense agree with the slow twin in output and every gradient; empty rows and columns included."""
    (n_inputs, n_linear, hidden), (steps, batch) = sizes, shape
    rows, width = hidden + n_linear, n_inputs + hidden + n_linear
    n = round(density * rows * width)
    indices, values, _ = entries(n, seed, rows, width)
    values /= max(1.0, n / rows) ** 0.5  # keeps many steps within the same order of magnitude
    one_image = drawn(batch, 1 if still else steps, n_inputs, seed=seed)
    back = drawn(batch, steps, n_linear, seed=seed + 1)
    results = []
    for kind in [*SPARSE, *([Dense] if n == rows * width else [])]:
        matrix = kind(rows, width, indices, values)
        x = one_image.clone().requires_grad_()
        bias = drawn(rows, seed=seed + 2).requires_grad_() if with_bias else None
        y = iterate(matrix, x.expand(batch, steps, n_inputs), bias, n_linear)
        (parameter,) = matrix.parameters()
        wanted = [parameter, x, *([bias] if with_bias else [])]
        grad, *others = torch.autograd.grad(y, wanted, back, allow_unused=True)
        grad = torch.zeros_like(parameter) if grad is None else grad
        others = [torch.zeros_like(p) if g is None else g for p, g in zip(wanted[1:], others, strict=True)]
        results.append([y, at_entries(matrix, grad, indices), *others])
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert torch.allclose(one, other, atol=1e-10, rtol=1e-10)


def test_gradcheck_of_the_sequence() -> None:
    indices, values, _ = entries(40, out=6, width=11)
    matrix = CSR(6, 11, indices, values)
    x, bias = drawn(2, 3, 5).requires_grad_(), drawn(6).requires_grad_()
    blocks = matrix.blocks(5)
    assert torch.autograd.gradcheck(lambda *a: csr._Iterate.apply(*a, blocks, 2), (x, matrix.values, bias))
    assert torch.autograd.gradcheck(lambda *a: csr._Product.apply(*a, blocks[1]), (drawn(4, 6).requires_grad_(), matrix.values))


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-11, rtol=0)


@pytest.mark.parametrize("cache", [2**20, 200])  # bytes: `sampled` takes all of x at once, or a row or two at a time
@steady
@given(st.integers(0, OUT * IN), st.integers(0, IN), st.integers(1, 3), st.integers(1, 75), st.integers(0, 2**30))
def test_the_kernels_equal_torch_sparse(cache: int, n: int, columns: int, s: int, c: int, seed: int) -> None:
    """For any number of columns: the kernels take 32, 8 and single ones."""
    indices, values, _ = entries(n, seed)
    for block in CSR(OUT, IN, indices, values).blocks(columns):
        x, g = drawn(s, block.n_columns, c, seed=seed), drawn(s, OUT, c, seed=seed + 1)
        assert same(csr.product(block, values, x), csr.torch_product(block, values, x))
        transposed, places = block.transposed
        turned = csr.gather(values, places)
        assert torch.equal(turned, values[places])
        assert same(csr.product(transposed, turned, g), csr.torch_product(transposed, turned, g))
        ours, theirs = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        csr.sampled(block, g, x, ours, cache)
        csr.torch_sampled(block, g, x, theirs)
        assert same(ours, theirs)


@steady
@given(
    st.integers(0, OUT * OUT),
    st.integers(1, OUT),
    st.tuples(st.integers(1, 5), st.integers(1, 75)),
    st.booleans(),
    st.integers(0),
)
def test_the_recurrent_steps_equal_torch_sparse(n: int, n_linear: int, shape, still: bool, seed: int) -> None:
    """What CUDA runs, on the CPU: only the hidden rows of the last state may differ, which nothing reads."""
    (steps, batch), n_relu = shape, OUT - n_linear
    indices, values, _ = entries(n, seed % 2**30, OUT, OUT)
    block = CSR(OUT, OUT, indices, values).blocks(OUT)[0]
    drive = drawn(1 if still else steps, OUT, batch, seed=seed % 2**30)
    theirs = csr.torch_forward_steps(block, values, drive, n_relu, steps)
    ours = csr.forward_steps(block, values, drive.clone(), n_relu, steps)
    assert same(ours[:-1], theirs[:-1]) and same(ours[-1, n_relu:], theirs[-1, n_relu:])
    grad = drawn(steps, n_linear, batch, seed=seed % 2**30 + 1)
    assert same(csr.backward_steps(block, values, grad, ours), csr.torch_backward_steps(block, values, grad, theirs))


@pytest.mark.parametrize("columns", [0, 4, IN])
@pytest.mark.parametrize("make", [*SPARSE, "low_rank"])
def test_split_sums_to_forward_in_value_and_gradient(columns: int, make) -> None:
    matrix = LowRank.drawn(OUT, IN, 0.5, 0.1, generator(0)).double() if make == "low_rank" else make(OUT, IN, *entries(30)[:2])
    x = drawn(2, 3, IN)
    left, right = matrix.split(columns)
    cut = left(x[..., :columns]) + right(x[..., columns:])
    assert torch.allclose(cut, matrix(x), atol=1e-12, rtol=0)
    for one, other in zip(
        torch.autograd.grad(cut.square().sum(), matrix.parameters()),
        torch.autograd.grad(matrix(x).square().sum(), matrix.parameters()),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-11, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_every_kind_takes_over_the_entries_of_every_other(kind: str, other: str) -> None:
    indices, values, dense = entries(OUT * IN if "dense" in (kind, other) else 30)
    one = from_entries(kind, OUT, IN, indices, values)
    two = from_entries(other, OUT, IN, *one.entries())
    assert torch.equal(two.entries()[0], indices) and torch.equal(two.entries()[1], values)
    assert torch.allclose(two(torch.eye(IN, dtype=torch.float64)).T, dense, atol=0, rtol=0)


@pytest.mark.parametrize(("n", "kind"), [(OUT * IN, Dense), (OUT * IN - 1, Masked), (5, CSR)])
def test_auto_goes_by_density_on_the_cpu(n: int, kind) -> None:
    assert type(from_entries("auto", OUT, IN, *entries(n)[:2])) is kind


def test_auto_goes_by_size_on_cuda() -> None:
    """There a small matrix waits for launches, however sparse it is."""
    cuda = torch.device("cuda")
    assert fastest(1000, 1_000_000, cuda) == "masked"
    assert fastest(1_000_000, 200_000_000, cuda) == "csr"
    assert type(from_entries("auto", OUT, IN, *entries(5)[:2], cuda)) is Masked


def test_unknown_and_impossible_kinds() -> None:
    with pytest.raises(ConfigError, match=r"linear=crs: .*did you mean csr"):
        from_entries("crs", OUT, IN, *entries(5)[:2])
    with pytest.raises(ConfigError, match=r"linear=dense: every entry trains.*set R=1"):
        from_entries("dense", OUT, IN, *entries(5)[:2])


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", SPARSE)
def test_fixed_entries_stay_exactly_zero_and_the_others_move(kind, optimizer: str) -> None:
    indices, values, dense = entries(30)
    matrix = kind(OUT, IN, indices, values)
    steps = OPTIMIZERS[optimizer](matrix.parameters())
    for _ in range(5):
        steps.zero_grad()
        iterate(matrix, drawn(5, 3, IN - OUT), None, 3).square().sum().backward()
        matrix(drawn(5, IN)).square().sum().backward()
        steps.step()
    now = matrix(torch.eye(IN, dtype=torch.float64)).T
    assert bool((now[dense == 0] == 0).all()) and bool((now != dense)[dense != 0].all())


def test_a_loaded_state_is_cut_to_its_pattern() -> None:
    indices, values, dense = entries(30)
    matrix = Masked(OUT, IN, indices, values)
    state = {**matrix.state_dict(), "weight": torch.full((OUT, IN), 3.0, dtype=torch.float64)}
    for loaded in (matrix, copy.deepcopy(matrix)):
        loaded.load_state_dict(state)
        assert torch.equal(loaded.weight, 3.0 * (dense != 0))


@pytest.mark.parametrize("kind", SPARSE)
def test_a_state_brings_its_pattern(kind) -> None:
    matrix, other = (kind(OUT, IN, *entries(20, seed)[:2]) for seed in (0, 1))
    x = drawn(4, 3, IN - OUT)
    iterate(matrix, x, None, 2)  # what it keeps of its own pattern must not survive
    matrix.load_state_dict(copy.deepcopy(other.state_dict()))
    assert torch.equal(iterate(matrix, x, None, 2), iterate(other, x, None, 2))
    assert torch.equal(matrix.entries()[0], other.entries()[0])


def test_csr_holds_nothing_of_the_size_of_the_matrix() -> None:
    indices, values, _ = entries(50, out=2000, width=3000)
    matrix = CSR(2000, 3000, indices, values)
    iterate(matrix, drawn(2, 3, 1000), None, 5).sum().backward()
    held = [*matrix.parameters(), *matrix.buffers()]
    held += [t for pair in matrix._blocks.values() for b in pair for t in vars(b).values() if isinstance(t, Tensor)]
    assert max(tensor.numel() for tensor in held) < 3002


@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from Linux's /proc")
def test_hundreds_of_training_steps_leave_memory_flat() -> None:
    """CSR tensors as parameters leak here (pytorch #109445); a leak of the values alone would show as 32 MB."""
    indices, values, _ = entries(20_000, out=500, width=900)
    matrix = CSR(500, 900, indices, values.float())
    optimizer = torch.optim.Adam(matrix.parameters(), fused=True)
    x = drawn(4, 5, 400).float()

    def train(steps: int) -> int:
        for _ in range(steps):
            optimizer.zero_grad()
            iterate(matrix, x, None, 5).square().sum().backward()
            optimizer.step()
        return int(STATM.read_text().split()[1]) * resource.getpagesize()

    before = train(100)
    assert train(400) - before < 8e6


@pytest.mark.parametrize(
    ("out", "width", "R", "k"), [(300, 2500, 0.05, 13), (20, 300, 0.02, 1), (10, 20, 0.5, 3), (4, 4, 0.01, 1)]
)
def test_the_rank_holds_about_the_share_of_the_weights(out: int, width: int, R: float, k: int) -> None:
    assert rank(out, width, R) == k  # max(1, round(R · mn / (m + n)))
    assert LowRank.drawn(out, width, R, 0.1, generator(0)).n_weights == k * (out + width)


def test_low_rank_is_the_product_of_its_factors() -> None:
    matrix = LowRank.drawn(60, 80, 0.5, 0.05, generator(0)).double()
    x, bias = drawn(3, 4, 20), drawn(60)
    dense = Dense(60, 80, torch.arange(60 * 80), (matrix.A[0] @ matrix.B["0"]).detach().flatten())
    assert torch.allclose(matrix(drawn(5, 80)), dense(drawn(5, 80)), atol=1e-12, rtol=0)
    assert torch.allclose(iterate(matrix, x, bias, 6), iterate(dense, x, bias, 6), atol=1e-10, rtol=0)
    assert abs(float((matrix.A[0] @ matrix.B["0"]).detach().std()) / 0.05 - 1) < 0.15


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("still", [False, True])
def test_csr_on_a_gpu_equals_the_cpu(still: bool) -> None:
    indices, values, _ = entries(900, out=60, width=100)
    x = drawn(3, 1 if still else 5, 40)
    results = []
    for device in ("cpu", "cuda"):
        matrix = CSR(60, 100, indices, values).to(device)
        bias = drawn(60).to(device).requires_grad_()
        here = x.to(device).requires_grad_()
        y = iterate(matrix, here.expand(3, 5, 40), bias, 7)
        grads = torch.autograd.grad(y.square().sum(), [matrix.values, bias, here])
        results.append([tensor.cpu() for tensor in (y, *grads)])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10, rtol=1e-10)

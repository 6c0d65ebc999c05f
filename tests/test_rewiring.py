"""Patterns that change while a network trains, against twins that hold whole matrices."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import cos, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inn_lab.errors import ConfigError
from inn_lab.linear import CSR, Activation, Dense, Fixed, Masked, Stepwise
from inn_lab.linear import gradient as gradients
from inn_lab.linear.base import Patterned
from inn_lab.linear.gradient import FullGradient, largest
from inn_lab.models import GRU, INN, LSTM, MLP, RNN, SRU, RandomGraph, ResNet, Sequential2D, SettledINN
from inn_lab.models.base import Model
from inn_lab.models.sequential2d import Factored, Identity, Trainable
from inn_lab.patterns import draw_absent, draw_exact
from inn_lab.seeding import generator
from inn_lab.sparse import Sparse
from inn_lab.training.foresight import SNIP, Random, SynFlow
from inn_lab.training.rewiring import SET, Gradual, Method, RigL
from inn_lab.training.tickets import Iterative

steady = settings(deadline=None, derandomize=True, max_examples=40)
OUT, IN = 7, 11
I, O, T = 6, 3, 4  # noqa: E741
KINDS = [CSR, Masked]
OPTIMIZERS: dict[str, Callable] = {
    "adam": partial(torch.optim.Adam, lr=0.01, fused=True, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, lr=0.01, amsgrad=True),
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9, fused=True),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "x"), dtype=torch.float64)


def pattern(n: int, seed: int) -> Tensor:
    return draw_exact(OUT, IN, n, generator(seed, "pattern"))


def dense(matrix: Patterned) -> Tensor:
    """All entries, flat."""
    indices, values = matrix.entries()
    return values.new_zeros(matrix.out_features * matrix.in_features).index_copy_(0, indices, values)


def spread(matrix: Patterned, numbers: Tensor) -> Tensor:
    """Numbers by entry, like the parameter, at their places among all entries, flat."""
    indices = matrix.entries()[0]
    return numbers.new_zeros(matrix.out_features * matrix.in_features).index_copy_(0, indices, matrix.at_entries(numbers))


def outputs(matrix: Patterned, x: Tensor) -> Tensor:
    return matrix.iterate(x, None, Activation(("relu", OUT - O), ("linear", O)), O)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
@steady
@given(n=st.tuples(st.integers(0, OUT * IN), st.integers(0, OUT * IN)), seed=st.integers(0, 2**30))
def test_values_gradients_and_the_optimizers_state_move_with_their_entries(kind, optimizer: str, n, seed: int) -> None:
    """The twin is each tensor of whole matrices, times where both patterns are."""
    old, new = pattern(n[0], seed), pattern(n[1], seed + 1)
    matrix = kind(OUT, IN, old, drawn(n[0], seed=seed))
    steps = OPTIMIZERS[optimizer](matrix.parameters())
    x = drawn(2, 3, IN - OUT, seed=seed)
    for _ in range(2):
        steps.zero_grad()
        outputs(matrix, x).square().sum().backward()
        steps.step()
    (parameter,) = matrix.parameters()
    state = {k: v if v.dim() == 0 else spread(matrix, v) for k, v in steps.state[parameter].items()}
    before, grad = dense(matrix), spread(matrix, parameter.grad)
    both = torch.zeros(OUT * IN, dtype=torch.float64)
    both[new[torch.isin(new, old)]] = 1
    matrix.rewire(new).follow(steps)
    (parameter,) = matrix.parameters()
    assert torch.equal(matrix.entries()[0], new) and matrix.n_weights == len(new)
    assert torch.equal(dense(matrix), before * both) and torch.equal(spread(matrix, parameter.grad), grad * both)
    moved = steps.state[parameter]
    assert list(steps.state) == [parameter] == steps.param_groups[0]["params"] and moved.keys() == state.keys()
    for name, value in state.items():
        now = moved[name] if value.dim() == 0 else spread(matrix, moved[name])
        assert torch.equal(now, value if value.dim() == 0 else value * both)
    fresh = kind(OUT, IN, *matrix.entries())
    for one, other in zip(*(torch.autograd.grad(outputs(m, x).sum(), m.parameters()) for m in (matrix, fresh)), strict=True):
        assert torch.equal(one, other) and torch.equal(outputs(matrix, x), outputs(fresh, x))
    steps.step()  # as if it had been the pattern always


@pytest.mark.parametrize("kind", KINDS)
def test_a_waiting_backward_pass_has_the_pattern_that_it_began_with(kind) -> None:
    matrix, twin = (kind(OUT, IN, pattern(30, 0), drawn(30)) for _ in range(2))
    (parameter,) = matrix.parameters()
    x = drawn(2, 3, IN - OUT)
    waits = outputs(matrix, x).square().sum()
    matrix.rewire(pattern(20, 1))
    outputs(matrix, x)
    waits.backward()
    outputs(twin, x).square().sum().backward()
    assert torch.equal(parameter.grad, next(twin.parameters()).grad) and next(matrix.parameters()).grad is None


def test_a_product_costs_what_is_left() -> None:
    """What CSR multiplies is as large as the pattern: each of its entries once, and once in the transpose."""
    matrix = CSR(200, 500, draw_exact(200, 500, 5000, generator(0)), drawn(5000))
    x = drawn(2, 3, 300)
    for n in (5000, 1000, 50):
        matrix.rewire(matrix.entries()[0][:n])
        matrix.iterate(x, None, Activation(("relu", 190), ("linear", 10)), 10).sum().backward()
        held = [t for pair in matrix._blocks.values() for b in pair for t in vars(b).values() if isinstance(t, Tensor)]
        multiplied = sum(int((b.stops - b.starts).sum()) for pair in matrix._blocks.values() for b in pair)
        transposed = sum(len(b.transposed[1]) for pair in matrix._blocks.values() for b in pair)
        assert multiplied == transposed == n == matrix.n_weights and max(t.numel() for t in held) <= max(n, 501)


def models(linear: str, density: float = 0.3, seed: int = 0) -> dict[str, Callable[[], torch.nn.Module]]:
    draw = partial(generator, seed, "model")
    grid = [[Trainable(12), Identity(0.5), None], [None, Trainable(4), Factored(0.5)]]
    sizes = {"rows": [3, 3], "columns": [6, 3, 3], "grid": grid, "activation": [("relu", 3), ("linear", 3)]}
    return {
        "inn": lambda: INN(I, O, R=density, depth=12, linear=linear, init_std=0.5, generator=draw()),
        "tanh": lambda: Sequential2D(
            I, O, rows=[9], columns=[15], grid=[[Trainable(60)]], activation=[("tanh", 9)], linear=linear, generator=draw()
        ),
        "sum": lambda: Sequential2D(I, O, **sizes, linear=linear, init_std=0.5, generator=draw()),
        "settled": lambda: SettledINN(I, O, R=density, depth=12, linear=linear, generator=draw()),
        "layer": lambda: Sparse(I, O, R=0.4, linear=linear, generator=draw()),
    }


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("name", models("csr"))
@pytest.mark.parametrize("linear", ["csr", "masked", "stepwise"])
def test_the_full_gradient_is_that_of_a_dense_matrix(linear: str, name: str, still: bool) -> None:
    model = models(linear)[name]().double()
    x = drawn(5, 1, I).expand(5, T, I) if still else drawn(5, T, I)
    matrix = next(m for m in model.modules() if isinstance(m, Patterned) and not isinstance(m, Fixed))
    whole = Dense(matrix.out_features, matrix.in_features, *matrix.entries())
    loss = model(x).square().sum() + model(x).sum()  # two passes add up
    with pytest.raises(RuntimeError, match="no gradient of this matrix"), matrix.full_gradient.listening():
        matrix.full_gradient.rows(0, 1)
    with matrix.full_gradient.listening():
        loss.backward()
        found = torch.cat([matrix.full_gradient.rows(0, 2), matrix.full_gradient.rows(2, matrix.out_features)])
    twin = copy.deepcopy(model)
    if isinstance(twin, Sequential2D):
        twin._hold(whole)
    else:
        twin.map = whole
    (twin(x).square().sum() + twin(x).sum()).backward()
    assert torch.allclose(found, whole.weight.grad, atol=1e-9 * float(whole.weight.grad.abs().max()), rtol=0)
    own = matrix.at_entries(next(matrix.parameters()).grad)
    assert torch.allclose(found.flatten()[matrix.entries()[0]], own, atol=1e-12, rtol=1e-9)
    loss = model(x).sum()
    loss.backward()  # nobody listens
    assert matrix.full_gradient._terms is None and matrix.full_gradient._whole is None


def test_a_pass_that_writes_over_what_it_used_is_heard_in_full() -> None:
    model = RandomGraph(I, O, graph="watts_strogatz", number=1, cell="tanh", generator=generator(0)).double()
    matrix = model.core.map
    for steps in range(1, 9):  # it takes some ticks together, and here one may be left
        model.zero_grad()
        with matrix.full_gradient.listening():
            model(drawn(2, steps, I)).square().sum().backward()
            found = matrix.full_gradient.rows(0, matrix.out_features).flatten()[matrix.entries()[0]]
        assert torch.allclose(found, matrix.values.grad, atol=1e-12, rtol=1e-9)


def test_what_grows_is_zero_whatever_stood_outside_the_mask() -> None:
    matrix = Masked(OUT, IN, pattern(30, 0), drawn(30))
    torch.nn.init.ones_(matrix.weight)
    matrix.rewire(torch.arange(OUT * IN))
    assert torch.equal(dense(matrix).nonzero().flatten(), pattern(30, 0))


@steady
@given(st.data(), st.integers(0, OUT * IN), st.integers(0, 2**30), st.sampled_from([1, 25, 2**20]))
def test_the_largest_absent_gradients_equal_ones_by_position(data, n: int, seed: int, tile: int) -> None:
    k = data.draw(st.integers(0, OUT * IN - n))
    indices, draw = pattern(n, seed), generator(seed, "x")
    g, x = (torch.randint(-2, 3, (3, size, 2), generator=draw).double() for size in (OUT, IN))
    gradient = FullGradient(OUT, IN)
    whole = torch.einsum("soc,sic->oi", g, x).abs().flatten().tolist()
    present = set(indices.tolist())
    expected = sorted(sorted((at for at in range(OUT * IN) if at not in present), key=lambda at: -whole[at])[:k])
    before, gradients.TILE = gradients.TILE, tile
    try:
        with gradient.listening():
            gradient.add(g[:, :, :1], x[:, :, :1], 0)
            gradient.add(g[:, :, 1:], x[:, :4, 1:], 0)
            gradient.add(g[:, :, 1:], x[:, 4:, 1:], 4)
            assert gradient.largest_absent(indices, k).tolist() == expected
            with pytest.raises(ValueError, match="absent entries of a matrix that has"):
                gradient.largest_absent(indices, OUT * IN - n + 1)
    finally:
        gradients.TILE = before


def test_a_gradient_that_is_no_number_is_the_largest() -> None:
    gradient = FullGradient(2, 2)
    with gradient.listening():
        gradient.add_whole(torch.tensor([[1.0, torch.nan], [torch.inf, 2.0]]))
        assert gradient.largest_absent(torch.tensor([0]), 2).tolist() == [1, 2]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.data())
def test_the_largest_of_equal_ones_the_first(values, data) -> None:
    k = data.draw(st.integers(0, len(values)))
    expected = sorted(sorted(range(len(values)), key=lambda at: -values[at])[:k])
    assert largest(torch.tensor(values, dtype=torch.float32), k).nonzero().flatten().tolist() == expected


@steady
@given(st.data(), st.integers(0, OUT * IN), st.integers(0, 2**30))
def test_entries_are_drawn_from_the_absent_ones(data, n: int, seed: int) -> None:
    k = data.draw(st.integers(0, OUT * IN - n))
    indices = pattern(n, seed)
    found = draw_absent(indices, OUT * IN, k, generator(seed))
    assert len(found) == k == len(found.unique()) and not torch.isin(found, indices).any()
    assert bool((found[1:] > found[:-1]).all()) and all(0 <= at < OUT * IN for at in found.tolist())


def test_each_absent_entry_is_drawn_equally_often() -> None:
    present, g = torch.tensor([0, 3, 4, 9]), generator(0)
    counts = torch.cat([draw_absent(present, 10, 2, g) for _ in range(3000)]).bincount(minlength=10)
    assert (counts[present] == 0).all() and (counts[[1, 2, 5, 6, 7, 8]] / 1000 - 1).abs().max() < 0.15


# Methods


STEPS = 40


def train(model, method: Method, steps=range(STEPS), optimizer=None, seen: Callable | None = None, name: str = "adam"):
    """Trains on drawn numbers, and returns the optimizer. seen(step, when) is called before the change and after."""
    optimizer = optimizer or OPTIMIZERS[name](model.parameters())
    dtype = next(model.parameters()).dtype
    for step in steps:
        draw = generator(step, "data")
        x, y = torch.randn(8, T, I, generator=draw, dtype=dtype), torch.randn(8, T, O, generator=draw, dtype=dtype)
        optimizer.zero_grad()
        with method.around(step, model, optimizer):
            (model(x) - y).square().mean().backward()
            if seen and method.due(step):
                seen(step, x, y)
        if seen and method.due(step):
            seen(step, None, None)
        optimizer.step()
    return optimizer


def by_size(numbers: dict[int, float]) -> list[int]:
    return sorted(numbers, key=lambda at: (abs(numbers[at]), at))


class Watch:
    """The pattern and values before and after each change, and the gradient of the whole matrix, by a dense twin."""

    def __init__(self, model: Sequential2D) -> None:
        self.model, self.changes = model, []

    def __call__(self, step: int, x: Tensor | None, y: Tensor | None) -> None:
        indices, values = self.model.map.entries()
        now = dict(zip(indices.tolist(), values.tolist(), strict=True))
        if x is None:
            self.changes[-1].append(now)
            return
        twin = copy.deepcopy(self.model)
        twin._hold(Dense(twin.depth, twin.width, indices, values))
        (twin(x) - y).square().mean().backward()
        self.changes.append([step, now, dict(enumerate(twin.map.weight.grad.flatten().tolist()))])


def watched(method: Method, linear: str = "csr", density: float = 0.3) -> list[list]:
    model = models(linear, density)["inn"]().double()
    watch = Watch(model)
    train(model, method, seen=watch)
    return watch.changes


def values_stay(before: dict[int, float], after: dict[int, float]) -> bool:
    return all(value == before.get(at, 0.0) for at, value in after.items())


RESTARTS = ("rewound", "reinit", "random")
CELLS, N = 12 * 18, 65  # of `models`' inn; round(0.3 · 216)
METHODS = {
    "gradual": Gradual(steps=STEPS, every=5, R=0.05, start=0.3),
    "set": SET(steps=STEPS, every=7, seed=1),
    "rigl": RigL(steps=STEPS, every=7),
    "snip": SNIP(R=0.1),
    "synflow": SynFlow(R=0.1, T=T, iterations=7),
}


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_gradual_drops_the_smallest_to_the_cubic_schedule(linear: str) -> None:
    changes = watched(METHODS["gradual"], linear)
    assert [step for step, *_ in changes] == [0, 5, 10, 15, 20, 25, 30]
    for step, before, _, after in changes:
        n = round(CELLS * (0.05 + 0.25 * (1 - step / 30) ** 3))
        assert list(after) == sorted(by_size(before)[len(before) - n :]) and values_stay(before, after)
    assert len(changes[-1][-1]) == round(0.05 * CELLS)


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_set_drops_the_smallest_of_either_sign_and_grows_as_many(linear: str) -> None:
    changes = watched(METHODS["set"], linear)
    assert [step for step, *_ in changes] == [7, 14, 21, 28, 35]
    for _, before, _, after in changes:
        sides = [{at: w for at, w in before.items() if (w >= 0) is side} for side in (True, False)]
        kept = {at for side in sides for at in by_size(side)[round(0.3 * len(side)) :]}
        assert kept <= after.keys() and len(after) == N and len(after.keys() - before.keys()) > 5
        assert values_stay(before, after)


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_rigl_drops_the_smallest_and_grows_at_the_largest_gradients(linear: str) -> None:
    changes = watched(METHODS["rigl"], linear)
    assert [step for step, *_ in changes] == [7, 14, 21, 28]
    for step, before, gradient, after in changes:
        k = round(0.15 * (1 + cos(pi * step / 30)) * N)
        kept = set(by_size(before)[k:])
        grown = sorted((at for at in gradient if at not in kept), key=lambda at: -abs(gradient[at]))[:k]
        assert after.keys() == kept | set(grown) and len(after) == N and values_stay(before, after)


def test_rigl_takes_no_step_when_it_changes_and_the_others_do() -> None:
    for name, stays in (("rigl", True), ("set", False)):
        model = models("csr")["inn"]()
        steps = train(model, METHODS[name], range(7))
        bias = model.bias.detach().clone()
        train(model, METHODS[name], [7], steps)
        assert torch.equal(model.bias, bias) is stays


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_snip_keeps_the_weights_that_change_the_loss_most(linear: str) -> None:
    ((step, before, gradient, after),) = watched(METHODS["snip"], linear)
    scores = {at: value * gradient[at] for at, value in before.items()}
    assert step == 0 and list(after) == sorted(by_size(scores)[-round(0.1 * CELLS) :]) and values_stay(before, after)


@pytest.mark.parametrize("linear", ["csr", "masked"])
@pytest.mark.parametrize("name", ["snip", "synflow"])
def test_the_control_has_the_same_pattern_with_values_of_the_whole_matrix(linear: str, name: str) -> None:
    ((_, before, _, chosen),) = watched(METHODS[name], linear)
    ((_, whole, _, after),) = watched(replace(METHODS[name], reinit=True, seed=3), linear)
    ((*_, other),) = watched(replace(METHODS[name], reinit=True, seed=4), linear)
    assert whole == before and after.keys() == chosen.keys() and after != other
    assert len(set(after.values())) == len(after) and set(after.values()) <= set(before.values())
    assert sum(map(abs, after.values())) < sum(map(abs, chosen.values()))


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_synflow_keeps_the_weights_that_most_flows_through(linear: str) -> None:
    """The twin sums over the powers of the matrix of magnitudes, one entry at a time, by forward differences."""
    ((_, before, _, after),) = watched(METHODS["synflow"], linear)

    def flow(weights: dict[int, float]) -> float:
        W = torch.zeros(CELLS, dtype=torch.float64)
        W[list(weights)] = torch.tensor(list(weights.values()), dtype=torch.float64).abs()
        W, state, total = W.view(12, 18), torch.zeros(12, dtype=torch.float64), 0.0
        for _ in range(T):
            state = W @ torch.cat([torch.ones(I, dtype=torch.float64), state])
            total += float(state[-O:].sum())
        return total

    def score(weights: dict[int, float], at: int) -> float:
        """w dS/dw; S is a polynomial in w, of which a central difference is near enough."""
        return (flow({**weights, at: weights[at] * 1.001}) - flow({**weights, at: weights[at] * 0.999})) / 0.002

    left, n = dict(before), round(0.1 * CELLS)
    for iteration in range(1, 8):
        size = round(N * (n / N) ** (iteration / 7))
        scores = {at: score(left, at) for at in left}
        left = {at: left[at] for at in sorted(by_size(scores)[len(left) - size :])}
    assert after == left


@pytest.mark.parametrize("name", METHODS)
def test_masked_and_csr_learn_the_same_pattern(name: str) -> None:
    trained = [models(linear)["inn"]().double() for linear in ("csr", "masked", "stepwise")]
    for model in trained:
        train(model, METHODS[name])
    one, *others = [model.map.entries() for model in trained]
    for indices, values in others:
        assert torch.equal(one[0], indices) and torch.allclose(one[1], values, atol=1e-9, rtol=0)


def is_resumed(make: Callable[..., torch.nn.Module], method: Method) -> None:
    """Asserts that a network which goes on from a checkpoint, with a pattern of its own before, ends bit for bit alike."""
    whole, first, second = make(), make(), make(seed=3)
    train(whole, method)
    steps = train(first, method, range(22))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    state, steps = steps.state_dict(), OPTIMIZERS["adam"](second.parameters())
    steps.load_state_dict(copy.deepcopy(state))
    train(second, method, range(22, STEPS), steps)
    ours, theirs = whole.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_a_run_that_goes_on_from_a_checkpoint_ends_bit_for_bit_alike(linear: str, name: str) -> None:
    is_resumed(lambda seed=0: models(linear, seed=seed)["inn"](), METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_a_block_matrix_beside_others_and_layers_of_a_users_own(name: str) -> None:
    model = models("csr")["sum"]()
    fixed = [part.entries()[0].clone() for part in model.modules() if isinstance(part, Fixed)]
    before = model.map.parts[0].n_weights
    train(model, METHODS[name])
    now = model.map.parts[0].n_weights
    assert (now == before) if name in ("set", "rigl") else now < before
    assert all(torch.equal(a, b.entries()[0]) for a, b in zip(fixed, model.map.parts[2:], strict=True))
    layers = torch.nn.Sequential(Sparse(I, 20, R=0.5), torch.nn.ReLU(), Sparse(20, O, R=0.5))
    if name == "synflow":
        with pytest.raises(ConfigError, match="asks a model of the lab for its inputs, which Sequential is not"):
            train(layers, METHODS[name])
        return
    sizes = [layer.n_weights for layer in (layers[0], layers[2])]
    train(layers, METHODS[name], name="sgd")
    now = [layer.n_weights for layer in (layers[0], layers[2])]
    assert (now == sizes) if name in ("set", "rigl") else sum(now) < sum(sizes)
    if name == "snip":
        assert sum(now) == round(0.1 * (20 * I + 20 * O))


BY_MASKS = {
    "mlp": partial(MLP, I, O, hidden=[9, 7]),
    "rnn": partial(RNN, I, O, hidden_size=8),
    "lstm": partial(LSTM, I, O, hidden_size=5, num_layers=2),
    "gru": partial(GRU, I, O, hidden_size=5),
    "sru": partial(SRU, I, O, hidden_size=5),
    "resnet": partial(ResNet, I, O, image=(1, 2, 3), width=4, blocks=[1]),
}


def by_masks(name: str, seed: int = 0) -> Model:
    """Half of the weights are left, drawn at random."""
    model = BY_MASKS[name](generator=generator(seed, "model")).double()
    draw = generator(seed, "kept")
    model.keep([torch.rand(len(weights.values), generator=draw) < 0.5 for weights in model.weights()])
    return model


@pytest.mark.parametrize("name", BY_MASKS)
@pytest.mark.parametrize("method", ["set", "rigl"])
def test_models_that_are_pruned_by_masks_grow_as_well(method: str, name: str) -> None:
    """The twin has no masks: its weights outside are zero, and have gradients."""
    model, method = by_masks(name), METHODS[method]
    seen: list[list[dict[int, float]]] = []

    def watch(step: int, x: Tensor | None, y: Tensor | None) -> None:
        now = [dict(zip(*(part.tolist() for part in held.entries()), strict=True)) for held in model.rewirable()]
        if x is None:
            for matrix, (before, gradient), after in zip(model.rewirable(), seen, now, strict=True):
                assert len(after) == len(before) and values_stay(before, after)
                if gradient is not None and isinstance(method, RigL):
                    k = round(0.15 * (1 + cos(pi * step / 30)) * len(before))
                    kept = set(by_size(before)[k:])
                    grown = sorted((at for at in gradient if at not in kept), key=lambda at: -abs(gradient[at]))[:k]
                    assert after.keys() == kept | set(grown)
                held = torch.zeros(matrix.out_features * matrix.in_features, dtype=torch.bool)
                held[list(after)] = True
                assert (matrix.parameter.flatten()[~held] == 0).all()
            return
        twin = copy.deepcopy(model)
        twin.masks = torch.nn.Module()
        twin.zero_grad()
        (twin(x) - y).square().mean().backward()
        gradients = [dict(enumerate(matrix.grad.flatten().tolist())) for _, _, matrix in twin.matrices()]
        seen[:] = zip(now, gradients, strict=True)

    before, start = model.n_weights, {name: mask.clone() for name, mask in model.masks.named_buffers()}
    train(model, method, seen=watch)
    assert seen and model.n_weights == before
    assert all((mask != start[name]).any() for name, mask in model.masks.named_buffers())


@pytest.mark.parametrize("name", BY_MASKS)
@pytest.mark.parametrize("method", METHODS)
def test_masks_are_resumed_from_a_checkpoint_too(method: str, name: str) -> None:
    is_resumed(partial(by_masks, name), METHODS[method])


GRAPH_METHODS = {
    **METHODS,
    **{name: replace(METHODS[name], R=0.4) for name in ("set", "rigl")},
    "random": Random(R=0.1, seed=2),
}


def random_graph(cell: str, seed: int = 0) -> RandomGraph:
    return RandomGraph(I, O, graph="watts_strogatz", number=1, cell=cell, generator=generator(seed, "model")).double()


@pytest.mark.parametrize("cell", ["tanh", "gru"])
@pytest.mark.parametrize("name", GRAPH_METHODS)
def test_random_graphs_learn_their_links(name: str, cell: str) -> None:
    """The twin stores every weight that may be there, zero or not, so all have gradients."""
    model, method = random_graph(cell), GRAPH_METHODS[name]
    biases = model.core.map.entries()[0] % model.core.width < 2
    fixed, seen = model.core.map.entries()[0][biases], []

    def patterns() -> list[dict[int, float]]:
        return [dict(zip(*(part.tolist() for part in cells.entries()), strict=True)) for cells in model.core.rewirable()]

    def watch(step: int, x: Tensor | None, y: Tensor | None) -> None:
        if x is None:
            seen[-1].append(patterns())
            return
        twin = copy.deepcopy(model)
        for cells in twin.core.rewirable():
            cells.rewire(torch.arange(cells.in_features))
        (twin(x) - y).square().mean().backward()
        grads = [cells.at_entries(cells.parameter.grad).tolist() for cells in twin.core.rewirable()]
        seen.append([step, patterns(), grads])

    train(model, method, seen=watch)
    cells = sum(len(room) for room in model.core.room)
    for step, before, found, after in seen:
        assert all(map(values_stay, before, after))
        for old, gradient, new in zip(before, found, after, strict=True):
            if name == "rigl" and step:
                k = round(0.15 * (1 + cos(pi * step / 30)) * len(old))
                kept = set(by_size(old)[k:])
                grown = sorted((at for at in range(len(gradient)) if at not in kept), key=lambda at: -abs(gradient[at]))[:k]
                assert new.keys() == kept | set(grown)
            elif name in ("set", "rigl"):
                assert len(new) == (len(old) if step else min(len(old), round(0.4 * len(gradient))))
            elif name == "gradual":
                density = 0.05 + 0.25 * (1 - step / 30) ** 3
                assert list(new) == sorted(by_size(old)[len(old) - min(len(old), round(density * len(gradient))) :])
        if name in ("snip", "synflow"):
            assert sum(map(len, after)) == round(0.1 * cells)
    assert torch.isin(fixed, model.core.map.entries()[0]).all()  # biases never go
    where = torch.cat([fixed, *model.core.room])
    assert len(where) == len(where.unique()) and torch.isin(model.core.map.entries()[0], where).all()


@pytest.mark.parametrize("name", GRAPH_METHODS)
def test_a_random_graph_is_resumed_from_a_checkpoint_too(name: str) -> None:
    is_resumed(partial(random_graph, "lstm"), GRAPH_METHODS[name])


def sparse_core(seed: int = 0) -> GRU:
    return GRU(I, O, hidden_size=7, num_layers=2, core="sparse", generator=generator(seed, "model")).double()


@pytest.mark.parametrize("name", GRAPH_METHODS)
def test_a_sparse_core_is_resumed_from_a_checkpoint_too(name: str) -> None:
    is_resumed(sparse_core, GRAPH_METHODS[name])


@pytest.mark.parametrize(
    "name", sorted(GRAPH_METHODS.keys() - {"random", "set"})
)  # these draw, and count entries in another order
def test_a_sparse_core_takes_the_pattern_that_masks_take(name: str) -> None:
    """Of the same network."""
    masked = GRU(I, O, hidden_size=7, num_layers=2, generator=generator(0, "model")).double()
    sparse, method = sparse_core(), GRAPH_METHODS[name]
    if name == "rigl":
        method = replace(method, R=None)
        kept = [torch.rand(len(w.values), generator=generator(1)) < 0.4 for w in masked.weights()]
        masked.keep(kept)
        sparse.keep(kept)
    for model in (masked, sparse):
        train(model, method)
    for a, b in zip(masked.weights(), sparse.weights(), strict=True):
        assert len(a.values) == len(b.values) and torch.allclose(a.values, b.values, atol=1e-7, rtol=0)


WRONG: list[tuple[Callable, str]] = [
    (lambda: RigL(steps=100), "every=100, end=0.75: no change would come in 100 steps"),
    (lambda: Gradual(steps=1000, R=1.5), "R=1.5: a density lies in"),
    (lambda: SET(steps=1000, seed=0, fraction=-1), "fraction=-1: a fraction of the weights"),
    (lambda: SynFlow(R=0.1, T=0), "T=0: a whole number from 1"),
]


@pytest.mark.parametrize("make, text", WRONG)
def test_a_method_that_cannot_be(make, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


@pytest.mark.parametrize(
    "model, text",
    [
        (lambda: torch.nn.Linear(I, O), "pruning=snip: Linear holds no sparse matrix; put layers of `inn_lab.sparse` into it"),
        (lambda: INN(I, O, R=1.0, depth=9), "INN holds a dense matrix, which has no pattern; set linear=csr"),
        (lambda: INN(I, O, R=0.3, depth=9, linear="low_rank"), "pruning: a matrix of low rank has no entries of its own"),
    ],
)
def test_a_network_whose_pattern_cannot_change(model, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        train(model(), METHODS["snip"])


@pytest.mark.parametrize("name", ["set", "rigl"])
def test_what_grows_needs_room(name: str) -> None:
    method = METHODS[name]
    for refused in (lambda: method.check(BY_MASKS["gru"]()), lambda: train(BY_MASKS["gru"](), method)):
        with pytest.raises(ConfigError, match=f"pruning={name}: a matrix has all its entries, and can grow none; begin with"):
            refused()


@pytest.mark.parametrize("name", ["set", "rigl", "random"])
@pytest.mark.parametrize("whole", ["gru", "inn"])
def test_a_random_part_of_each_matrix_is_left_in_the_beginning(name: str, whole: str) -> None:
    model = models("csr", 1.0)["inn"]() if whole == "inn" else BY_MASKS["gru"]()
    kinds = {
        "set": SET(steps=STEPS, every=7, R=0.2),
        "rigl": RigL(steps=STEPS, every=7, R=0.2),
        "random": Random(R=0.2, seed=0),
    }
    method = kinds[name]
    method.check(model)
    before = [matrix.entries() for matrix in method.matrices(model)]
    train(model, method, steps=range(1))
    for (indices, values), matrix in zip(before, method.matrices(model), strict=True):
        left, now = matrix.entries()
        assert len(left) == round(0.2 * matrix.out_features * matrix.in_features) and torch.isin(left, indices).all()
        assert name == "set" or torch.equal(now, values[torch.searchsorted(indices, left)])  # rigl and random take no step
    train(model, method, steps=range(1, STEPS))
    assert [len(matrix.entries()[0]) for matrix in method.matrices(model)] == [
        round(0.2 * len(indices)) for indices, _ in before
    ]


@steady
@given(density=st.floats(0.05, 1), R=st.floats(0.01, 1), amount=st.floats(0.05, 0.9))
def test_tickets_shrink_by_the_same_fraction_to_the_density(density: float, R: float, amount: float) -> None:
    method, patterns = Iterative(R=R, amount=amount, seed=0), [pattern(max(1, round(density * OUT * IN)), 0), pattern(60, 1)]
    matrices = [CSR(OUT, IN, indices, drawn(len(indices))) for indices in patterns]
    before = [len(matrix.entries()[0]) for matrix in matrices]
    after = [min(n, max(1, round(R * OUT * IN))) for n in before]
    if after == before:
        with pytest.raises(ConfigError, match="has no more from the beginning"):
            method.sizes(matrices)
        return
    sizes = method.sizes(matrices)
    assert sizes[-1] == after
    shares = [max(n / left for n, left in zip(before, after, strict=True)) ** (-1 / len(sizes))]
    assert 1 - amount <= shares[0] + 1e-9 and (
        len(sizes) == 1 or shares[0] ** (len(sizes) / (len(sizes) - 1)) < 1 - amount + 1e-9
    )
    for wider, narrower in zip([before, *sizes], sizes, strict=False):
        assert all(left <= n for n, left in zip(wider, narrower, strict=True))
    for matrix, n, kept in zip(matrices, sizes[0], method.cut(matrices, sizes[0]), strict=True):
        indices, values = matrix.entries()
        largest_first = sorted(range(len(indices)), key=lambda at: (-abs(values[at]), -at))  # of equal ones the first goes
        assert kept.tolist() == sorted(indices[largest_first[:n]].tolist())


@pytest.mark.parametrize("kind", ["csr", "masked", "gru"])
def test_a_ticket_has_the_values_of_before_and_its_controls_others(kind: str) -> None:
    made = {restart: BY_MASKS["gru"]() if kind == "gru" else models(kind, 0.5)["inn"]() for restart in RESTARTS}
    for restart, model in made.items():
        method = Iterative(R=0.1, seed=3, restart=restart)
        matrices = method.matrices(model)
        before = [(indices, values.clone()) for indices, values in (matrix.entries() for matrix in matrices)]
        found = [indices[::3].contiguous() for indices, _ in before]
        method.begin(matrices, found)
        for (indices, values), pattern, matrix in zip(before, found, method.matrices(model), strict=True):
            left, now = matrix.entries()
            same = torch.equal(now, values[torch.searchsorted(indices, left)])
            assert len(left) == len(pattern) and torch.isin(left, indices).all()
            assert torch.equal(left, pattern) is (restart != "random") and same is (restart != "reinit")
            assert torch.isin(now, values).all() and len(now.unique()) == len(now)


def test_what_cannot_be_rewired() -> None:
    matrix = CSR(OUT, IN, pattern(30, 0), drawn(30))
    with pytest.raises(ValueError, match="not sorted, or one stands there twice"):
        matrix.rewire(torch.tensor([4, 4]))
    with pytest.raises(ValueError, match="lies in"):
        matrix.rewire(torch.tensor([OUT * IN]))
    for other in (Fixed(OUT, IN, *matrix.entries()), Dense(OUT, IN, *matrix.entries())):
        with pytest.raises(ConfigError, match="its pattern cannot change; hold the matrix as csr or masked"):
            other.rewire(pattern(20, 0))
    steps = torch.optim.LBFGS(matrix.parameters())

    def closure() -> Tensor:
        steps.zero_grad()
        loss = (outputs(matrix, drawn(2, 3, IN - OUT)) - 1).square().sum()
        loss.backward()
        return loss

    steps.step(closure)
    with pytest.raises(TypeError, match=r"LBFGS keeps .*, which cannot follow a changed pattern; take Adam"):
        matrix.rewire(pattern(20, 1)).follow(steps)
    assert isinstance(Stepwise(OUT, IN, *matrix.entries()).rewire(pattern(20, 0)).after, torch.nn.Parameter)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_learns_the_same_pattern(name: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        model = models("csr")["inn"]().double().to(device)
        optimizer = OPTIMIZERS["adam"](model.parameters())
        for step in range(STEPS):
            draw = generator(step, "data")
            x, y = (torch.randn(8, T, n, generator=draw, dtype=torch.float64).to(device) for n in (I, O))
            optimizer.zero_grad()
            with METHODS[name].around(step, model, optimizer):
                (model(x) - y).square().mean().backward()
            optimizer.step()
        found.append([tensor.cpu() for tensor in model.map.entries()])
    (indices, values), (others, theirs) = found
    assert torch.equal(indices, others) and torch.allclose(values, theirs, atol=1e-9, rtol=0)

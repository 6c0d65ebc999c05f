"""The block matrix: its networks are torch.nn's own (Hershey 2023, 2.1.3–2.1.5), and its fused execution is the plain one."""

from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from inn_lab.errors import ConfigError
from inn_lab.linear import ACTIVATIONS, Fixed, LowRank, Sum
from inn_lab.models import INN, LayeredINN, Sequential2D
from inn_lab.models.layered_inn import trade
from inn_lab.models.sequential2d import Factored, Identity, Trainable
from inn_lab.seeding import generator

steady = settings(deadline=None, derandomize=True, max_examples=40)
HELD = ["masked", "csr", "stepwise"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64)


def fill(model: Sequential2D, blocks: dict[tuple[int, int], Tensor], bias: Tensor) -> None:
    """Writes blocks (top, left): W, into what trains of a block matrix, and its bias."""
    indices, _ = model.map.entries()
    weight = torch.zeros(model.depth, model.width, dtype=torch.float64)
    for (top, left), block in blocks.items():
        weight[top : top + block.shape[0], left : left + block.shape[1]] = block
    (parameter,) = model.map.parameters()
    with torch.no_grad():
        parameter.copy_(weight.flatten()[indices] if parameter.dim() == 1 else weight)
        model.bias.copy_(bias)


def block_gradients(model: Sequential2D, blocks: dict[tuple[int, int], Tensor]) -> list[Tensor]:
    (parameter,) = model.map.parameters()
    gradient = torch.zeros(model.depth * model.width, dtype=torch.float64)
    indices, _ = model.map.entries()
    gradient[indices] = parameter.grad if parameter.dim() == 1 else parameter.grad.flatten()[indices]
    gradient = gradient.view(model.depth, model.width)
    return [gradient[i : i + b.shape[0], j : j + b.shape[1]] for (i, j), b in blocks.items()]


def assert_same(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("linear", HELD)
def test_a_layered_network_is_an_inn_with_one_iteration_a_layer(linear: str) -> None:
    widths = [12, 9, 7, 4]
    layers = [nn.Linear(a, b).double() for a, b in pairwise(widths)]
    mlp = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    inn = LayeredINN(12, 4, hidden=widths[1:-1], component=5, linear=linear, generator=generator(0)).double()
    tops, lefts = [0, 9, 16], [0, 12, 21]
    blocks = {at: layer.weight for at, layer in zip(zip(tops, lefts, strict=True), layers, strict=True)}
    fill(inn, blocks, torch.cat([layer.bias for layer in layers]))
    assert inn.n_weights == sum(layer.weight.numel() for layer in layers)
    x, back = draw(6, 12), draw(6, 4, seed=1)
    y = inn(x[:, None].expand(-1, 3, -1))[:, -1]
    assert_same([y], [mlp(x)])
    (y * back).sum().backward()
    (mlp(x) * back).sum().backward()
    assert_same(block_gradients(inn, blocks), [layer.weight.grad for layer in layers])
    assert_same([inn.bias.grad], [torch.cat([layer.bias.grad for layer in layers])])
    longer = inn(x[:, None].expand(-1, 8, -1))  # a fixed point from there on
    assert_same([longer[:, 2]] * 5, list(longer[:, 3:].unbind(1)))


@pytest.mark.parametrize("linear", HELD)
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
@pytest.mark.parametrize("projected", [False, True])
def test_torchs_rnn_is_an_inn_and_with_a_projection_takes_one_iteration_more(linear, nonlinearity, projected) -> None:
    inputs, hidden, outputs, steps = 6, 8, 3, 5
    rnn, projection = nn.RNN(inputs, hidden, nonlinearity=nonlinearity, batch_first=True).double(), nn.Linear(8, 3).double()
    rows = [hidden, outputs] if projected else [hidden]
    model = Sequential2D(
        inputs,
        outputs if projected else hidden,
        rows=rows,
        columns=[inputs, *rows],
        grid=[[Trainable(), Trainable(), None], [None, Trainable(), None]] if projected else [[Trainable(), Trainable()]],
        activation=[(nonlinearity, hidden), *([("linear", outputs)] if projected else [])],
        linear=linear,
        generator=generator(0),
    ).double()
    blocks = {(0, 0): rnn.weight_ih_l0, (0, inputs): rnn.weight_hh_l0}
    bias = rnn.bias_ih_l0 + rnn.bias_hh_l0
    if projected:
        blocks[hidden, inputs], bias = projection.weight, torch.cat([bias, projection.bias])
    fill(model, blocks, bias)
    x = draw(4, steps, inputs)
    if projected:  # y reads the state of the step before: one more iteration, whatever the input then
        expected, y = projection(rnn(x)[0]), model(torch.cat([x, draw(4, 1, inputs, seed=2)], dim=1))[:, 1:]
    else:
        expected, y = rnn(x)[0], model(x)
    assert_same([y], [expected])
    back = draw(*y.shape, seed=1)
    (y * back).sum().backward()
    (expected * back).sum().backward()
    weights = [rnn.weight_ih_l0, rnn.weight_hh_l0, *([projection.weight] if projected else [])]
    assert_same(block_gradients(model, blocks), [weight.grad for weight in weights])


BLOCKS = [None, Identity(), Identity(-2.0), Trainable(), Trainable(6), Trainable(6, "bernoulli"), Factored(0.3)]


@steady
@given(
    st.lists(st.integers(2, 6), min_size=1, max_size=3),
    st.lists(st.integers(2, 6), min_size=1, max_size=2),
    st.data(),
    st.integers(0, 2**30),
)
def test_fused_execution_equals_block_by_block(rows, inputs, data, seed) -> None:
    """Against the obvious twin: each block multiplied by itself, each row of blocks through its own activation."""
    columns = [*inputs, *rows]
    pick = lambda i, j: data.draw(  # noqa: E731
        st.sampled_from([b for b in BLOCKS if not (isinstance(b, Identity) and rows[i] != columns[j])])
    )
    grid = [[pick(i, j) for j in range(len(columns))] for i in range(len(rows))]
    if not any(isinstance(block, Trainable | Factored) for row in grid for block in row):
        grid[0][0] = Trainable()
    grid = [
        [
            Trainable(min(b.n, rows[i] * columns[j]), b.draw) if isinstance(b, Trainable) and b.n else b
            for j, b in enumerate(row)
        ]
        for i, row in enumerate(grid)
    ]
    names = [data.draw(st.sampled_from(sorted(ACTIVATIONS))) for _ in rows]
    linear = data.draw(st.sampled_from(["csr", "masked", "auto"]))
    model = Sequential2D(
        sum(inputs),
        rows[-1],
        rows=rows,
        columns=columns,
        grid=grid,
        activation=list(zip(names, rows, strict=True)),
        init_std=0.5,
        linear=linear,
        generator=generator(seed),
    ).double()
    with torch.no_grad():
        model.bias.copy_(draw(sum(rows), seed=seed))
    weight = model.map(torch.eye(model.width, dtype=torch.float64)).T  # (H, I + H), as it multiplies
    blocks = [part.split(columns, dim=1) for part in weight.split(rows)]
    for i, row in enumerate(grid):
        for j, block in enumerate(row):
            if block is None:
                assert not blocks[i][j].any()
            elif isinstance(block, Identity):
                assert torch.equal(blocks[i][j], block.scale * torch.eye(rows[i], dtype=torch.float64))
            elif isinstance(block, Trainable) and block.draw == "exact":
                assert blocks[i][j].count_nonzero() == block.count(rows[i], columns[j])
            elif isinstance(block, Factored):
                assert torch.linalg.matrix_rank(blocks[i][j]) <= max(
                    1, round(0.3 * rows[i] * columns[j] / (rows[i] + columns[j]))
                )
    x = draw(3, 4, sum(inputs), seed=seed + 1)
    state = [torch.zeros(3, n, dtype=torch.float64) for n in rows]
    biases, states = model.bias.split(rows), []
    for now in x.unbind(1):
        seen = [*now.split(inputs, dim=1), *state]
        state = [
            ACTIVATIONS[names[i]](sum(part @ blocks[i][j].T for j, part in enumerate(seen)) + biases[i])
            for i in range(len(rows))
        ]
        states.append(torch.cat(state, dim=1))
    slow = torch.stack(states, dim=1)
    assert torch.allclose(model.states(x), slow, atol=1e-9, rtol=1e-9)
    assert torch.allclose(model(x), slow[..., -rows[-1] :], atol=1e-9, rtol=1e-9)
    (slow_grad,) = torch.autograd.grad(slow[..., -rows[-1] :].square().sum(), model.bias, allow_unused=True, retain_graph=True)
    (grad,) = torch.autograd.grad(model(x).square().sum(), model.bias)
    assert torch.allclose(grad, slow_grad, atol=1e-8, rtol=1e-8)


def test_many_blocks_are_few_products() -> None:
    """However many blocks: what trains is one matrix, the identities one, the low ranks a product a column and one a row."""
    rows = [8] * 6
    grid = [[[Trainable(10), Identity(), Factored(0.2), None][(i + j) % 4] for j in range(7)] for i in range(6)]
    model = Sequential2D(8, 8, rows=rows, columns=[8, *rows], grid=grid, activation=[("relu", 48)], generator=generator(0))
    assert isinstance(model.map, Sum) and len(model.map.parts) == 3
    matrix, low, fixed = model.map.parts
    assert isinstance(low, LowRank) and isinstance(fixed, Fixed) and not list(fixed.parameters())
    trainable = sum(isinstance(block, Trainable) for row in grid for block in row)
    factored = sum(isinstance(block, Factored) for row in grid for block in row)
    assert matrix.n_weights == 10 * trainable
    assert len(low.A) <= 6 and len(low.B) <= 7
    assert low.n_weights == factored * (8 + 8) * 1  # k = max(1, round(0.2 · 64 / 16))
    assert model.n_weights == sum(p.numel() for p in model.map.parameters())


def test_an_inn_is_a_block_matrix_of_one_block() -> None:
    inn = INN(20, 3, n_weights=150, R=0.3, linear="csr", generator=generator(5))
    by_hand = Sequential2D(
        20,
        3,
        rows=[inn.depth],
        columns=[inn.width],
        grid=[[Trainable(150)]],
        activation=[("relu", inn.depth - 3), ("linear", 3)],
        linear="csr",
        generator=generator(5),
    )
    x = draw(2, 4, 20).float()
    assert torch.equal(inn(x), by_hand(x))


def test_biases_are_drawn_last_and_uniformly() -> None:
    sizes, hows = {"n_weights": 30_000, "R": 0.1}, ("zero", "uniform", "uniform")
    zero, uniform, again = (INN(500, 10, **sizes, init_bias=how, generator=generator(1)) for how in hows)
    assert (zero.bias == 0).all() and torch.equal(uniform.bias, again.bias)
    for one, other in zip(zero.map.entries(), uniform.map.entries(), strict=True):
        assert torch.equal(one, other)  # patterns and weights are the same
    scaled = uniform.bias.detach() * uniform.width**0.5
    assert scaled.min() >= -1 and scaled.max() <= 1 and scaled.min() < -0.97 and scaled.max() > 0.97
    assert abs(float(scaled.mean())) < 4.5 / (3 * len(scaled)) ** 0.5
    assert abs(float(scaled.var()) - 1 / 3) < 4.5 * (4 / 45 / len(scaled)) ** 0.5
    assert INN(500, 10, **sizes, init_bias="uniform", bias=False, generator=generator(1)).bias is None


def test_an_identity_remembers() -> None:
    """A block that keeps what it was given: h ← [x; h_first], the second half is the input of a step before."""
    model = Sequential2D(
        3,
        3,
        rows=[3, 3],
        columns=[3, 3, 3],
        grid=[[Identity(), None, None], [None, Identity(), None]],
        activation=[("linear", 6)],
        generator=generator(0),
    ).double()
    x = draw(2, 5, 3)
    assert torch.equal(model(x)[:, 1:], x[:, :-1]) and not model(x)[:, 0].any()
    assert model.n_weights == 0 and model.size(5)["weights_effective"] == 0


def test_effective_weights_see_paths_over_identities() -> None:
    """Input → trains → identity → output: those 9 weights count once there are three iterations."""
    sizes = {"rows": [3, 3], "columns": [3, 3, 3], "activation": [("relu", 3), ("linear", 3)], "generator": generator(0)}
    model = Sequential2D(3, 3, grid=[[Trainable(), None, None], [None, Identity(), None]], **sizes)
    assert [model.size(steps)["weights_effective"] for steps in (1, 2, 3)] == [0, 9, 9]


def test_iterating_is_a_sequence_of_the_same_image() -> None:
    model = INN(20, 3, n_weights=150, R=0.3, generator=generator(0)).double()
    x = draw(4, 20)
    states = model.iterate(x, 6)
    assert states.shape == (4, 6, model.depth)
    assert torch.allclose(states[..., -3:], model(x[:, None].repeat(1, 6, 1)), atol=1e-12)


# --------------------------------------------------------------------------------------- components that trade places


def layered(swap: float, seed: int = 0) -> LayeredINN:
    return LayeredINN(2500, 10, hidden=[500, 200, 100], swap=swap, generator=generator(seed))


def test_the_thesis_network_is_cut_as_the_thesis_says() -> None:
    model = layered(0.0)
    assert (model.depth, model.width, model.n_weights) == (810, 3310, 2500 * 500 + 500 * 200 + 200 * 100 + 100 * 10)
    assert len(model.components) == 9 and {len(row) for row in model.components} == {34}
    assert sum(map(sum, model.components)) == 25 * 5 + 5 * 2 + 2 + 1


@pytest.mark.parametrize("swap", [0.2, 0.5, 1.0])
def test_trades_keep_the_number_of_components_that_train_and_about_that_of_the_weights(swap: float) -> None:
    models = [layered(swap, seed) for seed in range(4)]
    for model in models:
        assert sum(map(sum, model.components)) == 138
        assert 0.85 < model.n_weights / 1_371_000 < 1.02  # fewer: what trains moves to the small components of the edge
        columns = [100] * 25 + [100] * 8 + [10]
        weight = torch.zeros(810 * 3310)
        weight[model.map.entries()[0]] = 1
        for row, part in zip(model.components, weight.view(810, 3310).split([100] * 8 + [10]), strict=True):
            for trains, block in zip(row, part.split(columns, dim=1), strict=True):
                assert block.all() if trains else not block.any()
    assert models[0].components != models[1].components
    assert models[0].components == layered(swap, 0).components  # by the seed alone


def test_each_component_trades_with_its_probability() -> None:
    """With a partner of its own number, each block moves at most twice; the share of trades is `swap`."""
    moved = []
    for seed in range(200):
        grid = [[10 * i + j for j in range(10)] for i in range(10)]
        trade(grid, 0.05, generator(seed))
        moved.append(sum(block != 10 * i + j for i, row in enumerate(grid) for j, block in enumerate(row)))
        assert sorted(chain(*grid)) == list(range(100))
    assert abs(sum(moved) / 200 - 9.6) < 0.6  # of 100 blocks 5 trade, each moves two, fewer where one is hit twice


@pytest.mark.parametrize(
    "options, text",
    [
        ({"swap": 1.5}, r"swap=1.5: a probability"),
        ({"component": 0}, r"component=0: must be a whole number"),
        ({"hidden": [50, 0]}, r"hidden\[1\]=0"),
        ({"init": "xavier"}, r"init=xavier: there is no such init"),
        ({"init_bias": "unifrom"}, r"init_bias=unifrom: there is no such init_bias; did you mean uniform"),
        ({"linear": "dense"}, r"linear=dense"),
    ],
)
def test_bad_values_are_named(options: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        LayeredINN(100, 10, **{"hidden": [50, 20], "generator": None, **options})


@pytest.mark.parametrize(
    "options",
    [{"columns": [3, 3]}, {"grid": [[None, None]]}, {"activation": [("relu", 5)]}, {"grid": [[Identity(), None, None]] * 2}],
)
def test_blocks_that_do_not_fit(options: dict) -> None:
    sizes = {"rows": [4, 2], "columns": [3, 4, 2], "grid": [[Trainable()] * 3] * 2, "activation": [("relu", 6)]}
    with pytest.raises(ValueError):
        Sequential2D(3, 2, **{**sizes, **options}, generator=generator(0))

"""The models: the INN against a slow obvious twin and by hand, torch's own networks, sizes, seeds and errors."""

from functools import partial

import pytest
import torch
from torch import Tensor

from inn_lab.errors import ConfigError
from inn_lab.linear import is_still
from inn_lab.models import GRU, INN, LSTM, MLP, RNN, SRU, Blocks, LayeredINN, RandomGraph
from inn_lab.seeding import generator

B, T, I, O = 3, 5, 12, 4  # noqa: E741

BLOCKS = {
    "a": {"input": {"R": 0.5}, "a": {"R": 0.2, "lr": 0}},
    "b": {"a": {"rank": 2}, "b": "diagonal"},
    "output": {"b": "dense"},
}
MODELS = {
    "inn": lambda g: INN(I, O, n_weights=150, R=0.3, generator=g),
    "inn_low_rank": lambda g: INN(I, O, depth=20, R=0.3, linear="low_rank", generator=g),
    "inn_bernoulli": lambda g: INN(I, O, R=0.3, depth=20, draw="bernoulli", init="fan_in", generator=g),
    "lstm": lambda g: LSTM(I, O, n_weights=700, generator=g),
    "lstm_unprojected": lambda g: LSTM(I, O, n_weights=700, projection=False, generator=g),
    "rnn": lambda g: RNN(I, O, n_weights=700, nonlinearity="relu", generator=g),
    "gru": lambda g: GRU(I, O, n_weights=700, generator=g),
    "gru_stacked": lambda g: GRU(I, O, hidden_size=9, num_layers=3, embedding=6, generator=g),
    "gru_sparse": lambda g: GRU(I, O, hidden_size=9, num_layers=3, embedding=6, core="sparse", generator=g),
    "lstm_sparse": lambda g: LSTM(I, O, n_weights=700, projection=False, core="sparse", generator=g),
    "sru": lambda g: SRU(I, O, n_weights=700, generator=g),
    "sru_square": lambda g: SRU(I, O, hidden_size=I, generator=g),
    "mlp": lambda g: MLP(I, O, n_weights=700, generator=g),
    "mlp_sparse": lambda g: MLP(I, O, hidden=[20, 20], R_layers=0.3, spread="erdos_renyi", generator=g),
    "random_graph": lambda g: RandomGraph(I, O, graph="watts_strogatz", number=1, cell="gru", generator=g),
    "layered_inn": lambda g: LayeredINN(I, O, hidden=[20, 10], component=5, swap=0.3, generator=g),
    "blocks": lambda g: Blocks(I, O, layers={"a": 15, "b": 9}, blocks=BLOCKS, generator=g),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Networks as small as these gain nothing from a second thread, and wait for it where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=dtype)


def gradients(model: torch.nn.Module, y: Tensor, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((y * draw(*y.shape, seed=9, dtype=y.dtype)).sum(), [*model.parameters(), x]))


def same(one: list[Tensor], other: list[Tensor], atol: float) -> bool:
    return all(torch.allclose(a, b, atol=atol, rtol=0) for a, b in zip(one, other, strict=True))


def slow_inn(model: INN, x: Tensor) -> Tensor:
    """x̄ = [x; h], h ← σ(W x̄ + b), literally."""
    depth, outputs = model.depth, model.n_outputs
    weight = model.map.matrix()
    h, ys = x.new_zeros(x.shape[0], depth), []
    for t in range(x.shape[1]):
        total = torch.cat([x[:, t], h], dim=1) @ weight.T  # (B, I + H) -> (B, H)
        if model.bias is not None:
            total = total + model.bias
        h = torch.cat([torch.relu(total[:, : depth - outputs]), total[:, depth - outputs :]], dim=1)
        ys.append(h[:, depth - outputs :])
    return torch.stack(ys, dim=1)


# -------------------------------------------------------------------------------------------------------------- the INN


@pytest.mark.parametrize(
    "options",
    [
        {"n_weights": 150, "R": 0.3},
        {"n_weights": 150, "R": 0.3, "bias": False},
        {"depth": 20, "R": 1.0},
        {"depth": O, "R": 0.5},  # no hidden row
        {"depth": 20, "R": 0.02, "draw": "bernoulli"},  # rows without a weight: there ReLU stands exactly at 0
    ],
    ids=str,
)
@pytest.mark.parametrize("still", [False, True], ids=["moving", "still"])
def test_inn_equals_its_slow_twin_in_value_and_every_gradient(options: dict, still: bool) -> None:
    model = INN(I, O, **options, init_std=0.3, linear="masked", generator=generator(0)).double()
    x = draw(B, 1 if still else T, I).requires_grad_()
    steps = x.expand(B, T, I) if still else x
    assert is_still(steps) == still
    y, slow = model(steps), slow_inn(model, steps)
    assert y.shape == (B, T, O)
    assert same([y], [slow], 1e-10)
    assert same(gradients(model, y, x), gradients(model, slow, x), 1e-10)


def test_inn_of_three_neurons_by_hand() -> None:
    model = INN(1, 1, depth=3, R=1.0, generator=generator(0))
    with torch.no_grad():  # columns: x, h1, h2, y
        model.map.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0], [0, 2, 3, 0.5]]))
        model.bias.copy_(torch.tensor([0.0, 1, -4]))
    y = model(torch.tensor([[[1.0], [3.0], [-2.0], [0.0]]]))
    # h after each step: (1, 0, -4) · (3, 0, 2·1 + 3·0 - 2 - 4 = -4) · (0, 3, 2·3 - 2 - 4 = 0) · (0, 1, 3·3 + 0 - 4 = 5)
    assert y.flatten().tolist() == [-4.0, -4.0, 0.0, 5.0]


def test_the_first_output_comes_from_the_input_alone_and_the_state_carries_on() -> None:
    model = INN(I, O, depth=20, R=1.0, init_std=0.3, generator=generator(0)).double()
    x, other = draw(B, T, I), draw(B, T, I, seed=1)
    assert torch.allclose(model(x)[:, 0], x[:, 0] @ model.map.weight[-O:, :I].T, atol=1e-12, rtol=0)
    other[:, 1:] = x[:, 1:]
    assert not torch.allclose(model(other)[:, -1], model(x)[:, -1], atol=1e-3, rtol=0)
    other = x.clone()
    other[:, -1] += 1
    assert torch.allclose(model(other)[:, :-1], model(x)[:, :-1], atol=1e-12, rtol=0)


def test_inn_draws_what_it_is_asked_for() -> None:
    exact = INN(100, 10, n_weights=5000, R=0.2, linear="masked", generator=generator(0))
    assert exact.n_weights == 5000
    size = exact.size(T)
    assert size == {
        "weights": 5000,
        "weights_effective": 5000,  # at this density everything is connected
        "parameters": 5000 + exact.depth,
        "depth": exact.depth,
        "width": exact.width,
        "density": 5000 / (exact.depth * exact.width),
    }
    assert int((exact.map.weight != 0).sum()) == 5000
    counts = {INN(100, 10, n_weights=5000, R=0.2, draw="bernoulli", generator=generator(s)).n_weights for s in range(8)}
    assert len(counts) > 4  # binomial: 5000 ± 63
    assert all(abs(count - 5000) < 5 * 63 for count in counts)
    assert INN(100, 10, n_weights=5000, R=0.2, bias=False, generator=generator(0)).size(T)["parameters"] == 5000


def test_inn_initialisation_has_its_law() -> None:
    normal = INN(400, 10, n_weights=40_000, R=0.2, init_std=0.05, linear="masked", generator=generator(0))
    values = normal.map.weight[normal.map.weight != 0].detach()
    assert abs(float(values.mean())) < 4 * 0.05 / 200
    assert abs(float(values.std()) / 0.05 - 1) < 4 / 282
    assert float(normal.bias.detach().abs().max()) == 0
    fan_in = INN(400, 10, n_weights=40_000, R=0.2, init="fan_in", linear="masked", generator=generator(0))
    per_row = (fan_in.map.weight != 0).sum(1)
    scaled = fan_in.map.weight.detach() * (per_row[:, None] / 2).sqrt()  # N(0, 1) in every row, however many weights it has
    assert int(per_row.min()) < int(per_row.max())
    assert abs(float(scaled.square().sum(1).div(per_row).mean()) - 1) < 0.03
    sparse = INN(
        400, 10, R=0.002, depth=300, init="fan_in", linear="masked", generator=generator(0)
    )  # rows with no weight at all
    assert bool(sparse.map.weight.isfinite().all())


# ----------------------------------------------------------------------------------------------------- the other models


def test_the_lstm_has_the_sources_parameters() -> None:
    assert LSTM(2500, 10, hidden_size=130, generator=generator(0)).n_weights == 1_307_540
    assert LSTM(2500, 10, n_weights=1_307_540, generator=generator(0)).size(T) == {
        "weights": 1_307_540,
        "parameters": 1_307_540,
        "depth": 130,
    }


def test_the_mlp_is_the_sources_at_its_size() -> None:
    by_size = MLP(2500, 10, n_weights=1_371_810, generator=generator(0))
    assert by_size.size(T) == {"weights": 1_371_810, "parameters": 1_371_810, "depth": 810, "width": 3310}
    by_hidden = MLP(2500, 10, hidden=[500, 200, 100], generator=generator(0))
    assert same(list(by_size.parameters()), list(by_hidden.parameters()), 0)


@pytest.mark.parametrize("name", ["lstm", "lstm_unprojected", "rnn", "gru", "sru", "mlp"])
def test_one_n_weights_serves_every_model(name: str) -> None:
    model = MODELS[name](generator(0))
    assert model.n_weights == sum(p.numel() for p in model.parameters())
    assert abs(model.n_weights - 700) < 100


@pytest.mark.parametrize("kind", [LSTM, RNN, GRU])
def test_recurrent_models_are_torchs_own_and_drawn_by_its_law(kind: type[torch.nn.Module]) -> None:
    hidden = 400
    model = kind(I, O, hidden_size=hidden, generator=generator(0))
    options = {"proj_size": O} if kind is LSTM else {}
    twin = getattr(torch.nn, kind.__name__)(I, hidden, batch_first=True, **options)
    assert [p.shape for p in model.core.parameters()] == [p.shape for p in twin.parameters()]
    for mine, theirs in zip(model.parameters(), [*twin.parameters(), *torch.nn.Linear(hidden, O).parameters()], strict=False):
        bound = hidden**-0.5
        assert float(mine.detach().abs().max()) <= bound
        if mine.numel() > 100:
            assert float(mine.detach().abs().max()) > 0.9 * bound
            assert abs((mine.std() / theirs.std()).item() - 1) < 0.2
    with torch.no_grad():
        for mine, theirs in zip(model.core.parameters(), twin.parameters(), strict=True):
            theirs.copy_(mine)
    x = draw(B, T, I, dtype=torch.float32)
    assert torch.allclose(model(x), model.readout(twin(x)[0]), atol=1e-6)


BASE = {"hidden_size": 50, "num_layers": 3, "embedding": 50}  # Darji 2022, Table 5.1


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (partial(RNN, nonlinearity="tanh"), partial(torch.nn.RNN, nonlinearity="tanh")),
        (partial(RNN, nonlinearity="relu"), partial(torch.nn.RNN, nonlinearity="relu")),
        (partial(LSTM, projection=False), torch.nn.LSTM),
        (GRU, torch.nn.GRU),
    ],
    ids=["tanh", "relu", "lstm", "gru"],
)
def test_the_base_models_are_an_embedding_three_layers_and_a_readout(build, kind) -> None:
    """Against torch's own modules one after the other, in value and every gradient."""
    model = build(128, 2, **BASE, generator=generator(0)).double()
    embedding, readout = torch.nn.Embedding(128, 50).double(), torch.nn.Linear(50, 2).double()
    layers = [kind(50, 50, batch_first=True).double() for _ in range(3)]
    plain = [embedding.weight, *(p for layer in layers for p in layer.parameters()), *readout.parameters()]
    ours = list(model.parameters())
    with torch.no_grad():
        for theirs, mine in zip(plain, ours, strict=True):
            theirs.copy_(mine.T if theirs is embedding.weight else mine)
    codes = torch.randint(128, (B, T), generator=generator(1))
    states = embedding(codes)
    for layer in layers:
        states = layer(states)[0]
    expected, y = readout(states), model(torch.eye(128, dtype=torch.float64)[codes])
    assert same([y], [expected], 1e-12)
    back = draw(B, T, 2)
    theirs, mine = (torch.autograd.grad((out * back).sum(), of) for out, of in ((expected, plain), (y, ours)))
    assert same([mine[0].T, *mine[1:]], list(theirs), 1e-12)


def test_an_embedding_is_drawn_by_torchs_law_and_the_layers_by_theirs() -> None:
    model = GRU(128, 2, **BASE, generator=generator(0))
    values = model.embedding.detach()  # 6400 from N(0, 1)
    assert abs(float(values.mean())) < 4 / 80 and abs(float(values.std()) - 1) < 4 / 113
    for parameter in [*model.core.parameters(), *model.readout.parameters()]:
        largest = float(parameter.detach().abs().max()) * 50**0.5
        assert largest <= 1 and (largest > 0.8 or parameter.numel() < 50)


def test_the_mlp_maps_each_step_by_itself() -> None:
    model = MLP(I, O, hidden=[9, 6], generator=generator(0)).double()
    x = draw(B, T, I)
    w = [p.detach() for p in model.parameters()]
    first = torch.relu(x[:, 2] @ w[0].T + w[1])
    by_hand = torch.relu(first @ w[2].T + w[3]) @ w[4].T + w[5]
    assert torch.allclose(model(x)[:, 2], by_hand, atol=1e-12, rtol=0)
    assert float(w[2].abs().max()) <= 1 / 3  # 1 / √fan_in
    assert float(w[2].abs().max()) > 0.9 / 3


# ------------------------------------------------------------------------------------------------------- what all share


@pytest.mark.parametrize("name", MODELS)
def test_shape_and_still_image(name: str) -> None:
    model = MODELS[name](generator(0)).double()
    image = draw(B, 1, I).requires_grad_()
    still, copied = image.expand(B, T, I), image.repeat(1, T, 1)
    assert is_still(still)
    assert not is_still(copied)
    y, slow = model(still), model(copied)
    assert y.shape == (B, T, O)
    assert same([y], [slow], 1e-12)
    assert same(gradients(model, y, image), gradients(model, slow, image), 1e-11)
    assert model(image).shape == (B, 1, O)


@pytest.mark.parametrize("name", MODELS)
def test_the_generator_alone_fixes_the_parameters(name: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = MODELS[name](generator(0)).state_dict()
    assert torch.equal(before, torch.get_rng_state())  # torch's global generator is left alone
    torch.manual_seed(1)
    again, other = MODELS[name](generator(0)).state_dict(), MODELS[name](generator(1)).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    names = ("weight", "values", ".A.", ".B.", "core.v", "core.b")
    weights = [key for key in one if any(name in key for name in names)]
    assert weights
    assert not any(one[key].shape == other[key].shape and torch.equal(one[key], other[key]) for key in weights)


@pytest.mark.parametrize("name", MODELS)
def test_it_learns(name: str) -> None:
    """A few steps of Adam on one batch: every parameter gets a gradient, and the loss falls."""
    model = MODELS[name](generator(0))
    x, target = draw(16, T, I, dtype=torch.float32), draw(16, T, O, seed=1, dtype=torch.float32)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        adam.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert all(float(p.grad.abs().max()) > 0 for p in model.parameters())
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda g: INN(I, O, n_weights=150, R=0.3, depth=20, generator=g), "n_weights=150, R=0.3 and depth=20 are too many"),
        (
            lambda g: INN(I, O, depth=20, R=0.3, draw="bernouli", generator=g),
            r"draw=bernouli: .*did you mean bernoulli\?",
        ),
        (lambda g: INN(I, O, depth=20, R=0.3, init="he", generator=g), "init=he: there is no such init"),
        (lambda g: INN(I, O, depth=20, R=0.3, init_std=0, generator=g), "init_std=0: a standard deviation is positive"),
        (lambda g: LSTM(I, O, generator=g), "set one of n_weights and hidden_size"),
        (lambda g: LSTM(I, O, n_weights=700, hidden_size=9, generator=g), "n_weights=700 and hidden_size=9 are too many"),
        (lambda g: LSTM(I, O, hidden_size=O, generator=g), "hidden_size=4: .*must exceed its 4 outputs.*hidden_size=5"),
        (lambda g: RNN(I, O, hidden_size=0, generator=g), "hidden_size=0: must be a whole number from 1"),
        (lambda g: RNN(I, O, hidden_size=9, nonlinearity="tan", generator=g), "nonlinearity=tan: .*did you mean tanh"),
        (lambda g: GRU(I, O, n_weights=3, generator=g), "n_weights=3: .*cannot be defined"),
        (
            lambda g: GRU(I, O, n_weights=700, num_layers=2, generator=g),
            "num_layers=2, embedding=None: n_weights.*give hidden_size and n_weights=null",
        ),
        (lambda g: RNN(I, O, n_weights=700, embedding=5, generator=g), "num_layers=1, embedding=5: n_weights"),
        (lambda g: LSTM(I, O, hidden_size=9, num_layers=0, generator=g), "num_layers=0: must be a whole number from 1"),
        (lambda g: LSTM(I, O, hidden_size=9, embedding=0, generator=g), "embedding=0: must be a whole number from 1"),
        (lambda g: SRU(I, O, generator=g), "set one of n_weights and hidden_size"),
        (lambda g: SRU(I, O, n_weights=3, generator=g), r"n_weights=3: an SRU .*cannot be defined; give n_weights=60 \(hidden"),
        (lambda g: SRU(I, O, hidden_size=0, generator=None), "hidden_size=0: must be a whole number from 1"),
        (lambda g: MLP(I, O, hidden=[5], n_weights=700, generator=g), "hidden=null"),
        (lambda g: MLP(I, O, hidden=[5, 0], generator=g), r"hidden\[1\]=0: must be a whole number from 1"),
    ],
)
def test_errors_name_the_key_and_the_way_out(build, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(generator(0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: compares its results with the CPU's")
@pytest.mark.parametrize("name", MODELS)
def test_cuda_equals_cpu(name: str) -> None:
    model = MODELS[name](generator(0)).double()
    x = draw(B, T, I).requires_grad_()
    y = model(x)
    expected = [y, *gradients(model, y, x)]
    model.cuda()
    y = model(x.cuda())
    got = torch.autograd.grad((y * draw(*y.shape, seed=9).cuda()).sum(), [*model.parameters(), x])
    assert same([y.cpu(), *(grad.cpu() for grad in got)], expected, 1e-9)


@pytest.mark.parametrize("linear", ["csr", "stepwise", "auto"])
def test_the_same_seed_is_the_same_network_however_it_is_held(linear: str) -> None:
    x = draw(B, T, I)
    masked, other = (
        INN(I, O, n_weights=150, R=0.3, linear=kind, generator=generator(0)).double() for kind in ("masked", linear)
    )
    assert torch.allclose(masked(x), other(x), atol=1e-12, rtol=0)
    assert masked.size(T) == other.size(T)

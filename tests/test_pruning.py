"""Pruning: the right weights go, and stay away."""

import copy
import io
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from inn_lab import parts, schema
from inn_lab.data.sets import ImageSet
from inn_lab.errors import ConfigError
from inn_lab.explain import CONF
from inn_lab.linear import CSR, KINDS, Masked
from inn_lab.models import GRU, INN, LSTM, MLP, RNN, SRU, RandomGraph, ResNet, Sequential2D, SettledMLP
from inn_lab.models.base import Model
from inn_lab.models.sequential2d import Identity, Trainable
from inn_lab.seeding import generator
from inn_lab.signals import Interrupted
from inn_lab.studies import ModelJob
from inn_lab.training.module import Training
from inn_lab.training.pruning import prune, smallest

SMOKE = ["source=digits", "scale=smoke", "trainer.progress=false"]
OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.001, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.001, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.001, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001, momentum=0.9),
}


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_the_smallest_go_and_as_many_as_asked_for(values, amount):
    n = round(amount * len(values))
    goes = smallest(torch.tensor(values, dtype=torch.float64), n).nonzero().flatten().tolist()
    assert goes == sorted(sorted(range(len(values)), key=lambda at: abs(values[at]))[:n])  # of equal ones the first


def build(model: str, *words: str) -> ModelJob:
    schema.register()
    words = ["source=digits", "scale=smoke", "n_weights=200000", f"model={model}", *words]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return parts.build(compose("config", words), torch.device("cpu"))(run=None, title="")


MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
KEPT_BY = ["inn", "lstm", "random_graph"]  # by rebuilding, by masks, by a matrix of its own: these with each optimizer


def left(model: Model) -> torch.Tensor:
    return torch.cat([weights.values for weights in model.weights()])


@pytest.mark.filterwarnings("ignore::inn_lab.models.implicit.NotConverged")  # at these learning rates
@pytest.mark.parametrize(
    "model, optimizer",
    [(model, "adam") for model in MODELS] + [(model, o) for model in KEPT_BY for o in OPTIMIZERS if o != "adam"],
)
def test_what_was_cut_stays_exactly_zero(model, optimizer):
    """Every model of the lab, whatever the optimizer; the rest goes on learning."""
    words = {"represented": ["model.representation=sparse"], "wormhole": ["model.max_iter=20"]}
    job = build(model, *words.get(model, []))
    before = job.model.n_weights
    possible = len(left(job.model))
    gone = prune(job.model, "both", "global", 0.6)
    assert gone == round(0.6 * possible) and job.model.n_weights == before - gone
    cut = left(job.model)
    step = OPTIMIZERS[optimizer](job.model.parameters())
    for x, y in job.data.batches("train"):
        step.zero_grad()
        job.objective.loss(job.model(x), y).backward()
        step.step()
    now = left(job.model)
    assert len(now) == len(cut) == possible - gone and job.model.n_weights == before - gone
    assert (now != cut).float().mean() > 0.5
    for place, mask in job.model.masks.named_buffers():
        parameter = job.model.get_parameter(place.replace("/", "."))
        assert (parameter[~mask] == 0).all() and (parameter.grad[~mask] == 0).all()


IDENTITIES = [[Trainable(), Identity(0.5), None], [None, Trainable(), Identity()]]
SUM = {"rows": [3, 3], "columns": [6, 3, 3], "grid": IDENTITIES, "activation": [("relu", 3), ("linear", 3)]}
MASKED = {  # models of 6 inputs that lose entries by masks
    "lstm": partial(LSTM, 6, 3, hidden_size=5, num_layers=2),
    "gru": partial(GRU, 6, 3, hidden_size=5, embedding=4),
    "rnn": partial(RNN, 6, 3, hidden_size=5),
    "sru": partial(SRU, 6, 3, hidden_size=5),
    "mlp": partial(MLP, 6, 3, hidden=[7, 5]),
    "settled_mlp": partial(SettledMLP, 6, 3, hidden=5),
    "resnet": partial(ResNet, 6, 3, image=(1, 2, 3), width=4, blocks=[1]),
}
REBUILT = {  # and by a matrix that takes another one's place; `auto` holds what is left by CSR
    "csr": partial(INN, 6, 3, R=0.5, depth=10, linear="csr"),
    "masked": partial(INN, 6, 3, R=0.5, depth=10, linear="masked"),
    "stepwise": partial(INN, 6, 3, R=0.5, depth=10, linear="stepwise"),
    "auto, masked": partial(INN, 6, 3, R=0.7, depth=10),
    "auto, dense": partial(INN, 6, 3, R=1.0, depth=10),
    "sum": partial(Sequential2D, 6, 3, **SUM),
    "graph": partial(RandomGraph, 6, 3, graph="watts_strogatz", number=1, cell="tanh"),
}


def made(name: str, seed: int = 0) -> Model:
    return (MASKED | REBUILT)[name](generator=generator(seed, "model"))


def sequences(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 3, 6, generator=generator(seed, "x"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MASKED)
def test_what_was_cut_stays_zero_under_an_optimizer_that_had_begun_before(name, optimizer):
    """Its momentum would move the weights: the outputs are those of the twin whose weights are set to zero by hand."""
    model, twin = made(name), made(name)
    step = OPTIMIZERS[optimizer](model.parameters())
    for seed in range(6):
        if seed == 3:
            prune(model, "both", "global", 0.5)
            size = model.n_weights
        step.zero_grad()
        model(sequences(seed)).square().sum().backward()
        step.step()
    masks = {place.replace("/", "."): mask for place, mask in model.masks.named_buffers()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            twin.get_parameter(name).copy_(parameter * masks.get(name, 1))
    assert torch.equal(model(sequences()), twin(sequences())) and model.n_weights == size
    assert sum(int((~mask).sum()) for mask in masks.values()) == twin.n_weights - size


def loaded(state: dict, other: Model) -> Model:
    file = io.BytesIO()
    torch.save(state, file)
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    return other


@pytest.mark.parametrize(
    "again",
    [
        lambda name, model: copy.deepcopy(model),
        lambda name, model: model.double().float(),
        lambda name, model: loaded(model.state_dict(), made(name, 1)),
        lambda name, model: loaded(model.state_dict(), otherwise_cut(name)),
    ],
    ids=["copied", "converted", "loaded", "loaded into one that was cut otherwise"],
)
@pytest.mark.parametrize("name", [*MASKED, *REBUILT])
def test_what_was_cut_stays_away_from_a_copy(name, again):
    model = made(name)
    prune(model, "both", "global", 0.5)
    size, outputs = model.n_weights, model(sequences()).detach()
    copied = again(name, model)
    assert copied.n_weights == size and torch.equal(copied(sequences()), outputs)
    step = torch.optim.Adam(copied.parameters(), lr=0.01)
    copied(sequences()).square().sum().backward()
    step.step()
    assert copied.n_weights == size and len(left(copied)) == len(left(model))
    for place, mask in copied.masks.named_buffers():
        assert (copied.get_parameter(place.replace("/", "."))[~mask] == 0).all()


def otherwise_cut(name: str) -> Model:
    model = made(name, 1)
    prune(model, "i2h", "layer", 0.9)
    return model


@pytest.mark.parametrize("name", [*MASKED, *REBUILT])
def test_the_state_of_a_whole_model_makes_it_whole(name):
    whole = made(name)
    model = loaded(whole.state_dict(), otherwise_cut(name))
    assert model.n_weights == whole.n_weights and torch.equal(model(sequences()), whole(sequences()))
    prune(model, "both", "global", 0.5)  # and it can be cut again
    prune(whole, "both", "global", 0.5)
    assert model.n_weights == whole.n_weights and torch.equal(model(sequences()), whole(sequences()))


def test_the_state_of_another_model_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        made("rnn").load_state_dict(RNN(6, 3, hidden_size=4, generator=generator(0, "model")).state_dict())


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["rnn", "mlp", "csr", "masked", "graph"]))
@settings(max_examples=30)
def test_a_second_cut_takes_its_share_of_what_is_left(first, second, name):
    model = made(name)
    size, magnitudes = model.n_weights, left(model).abs().sort().values
    gone = prune(model, "both", "global", first)
    assert gone == round(first * len(magnitudes))
    if gone < len(magnitudes):
        gone += prune(model, "both", "global", second)
    assert model.n_weights == size - gone and torch.equal(left(model).abs().sort().values, magnitudes[gone:])


def inn(linear: str = "csr", R: float = 0.5) -> INN:
    return INN(6, 3, n_weights=None, R=R, depth=10, linear=linear, generator=generator(0, "model"))


def dense(model: Sequential2D) -> torch.Tensor:
    return model.map(torch.eye(model.width)).detach().T


@pytest.mark.parametrize("linear", KINDS)
def test_a_block_matrix_loses_the_entries_and_keeps_the_others(linear):
    model = inn(linear, R=1.0 if linear == "dense" else 0.5)
    before = dense(model)
    trainable = before != 0
    threshold = before[trainable].abs().sort().values[int(trainable.sum()) // 2]
    prune(model, "both", "global", 0.5)
    torch.testing.assert_close(dense(model), before * (before.abs() >= threshold), rtol=0, atol=0)
    assert model.n_weights == int((dense(model) != 0).sum())


@pytest.mark.parametrize("target, columns", [("i2h", slice(0, 6)), ("h2h", slice(6, 16))])
def test_a_block_matrix_loses_what_reads_the_input_or_what_reads_the_state(target, columns):
    model, whole = inn(), dense(inn())
    prune(model, target, "global", 1.0)
    expected = whole.clone()
    expected[:, columns] = 0
    torch.testing.assert_close(dense(model), expected, rtol=0, atol=0)


def test_fixed_identities_are_not_cut():
    model = made("sum")
    prune(model, "both", "global", 1.0)
    expected = torch.zeros(6, 12)
    expected[:3, 6:9], expected[3:, 9:] = torch.eye(3) / 2, torch.eye(3)
    torch.testing.assert_close(dense(model), expected, rtol=0, atol=0)
    assert model.n_weights == 0


@pytest.mark.parametrize("linear, before, after", [("auto", Masked, CSR), ("masked", Masked, Masked), ("csr", CSR, CSR)])
def test_what_is_left_is_held_as_was_asked_for(linear, before, after):
    """On the CPU `auto` multiplies by entries where there are few."""
    model = inn(linear, R=0.7)
    assert type(model.map) is before
    prune(model, "both", "global", 0.9)
    assert type(model.map) is after


@pytest.mark.parametrize(
    "model",
    [
        inn(),
        RNN(6, 3, hidden_size=5, generator=generator(0, "model")),
        RandomGraph(6, 3, graph="watts_strogatz", number=1, cell="tanh", generator=generator(0, "model")),
    ],
)
def test_without_what_reads_the_state_there_is_no_memory(model):
    prune(model, "h2h", "global", 1.0)
    x = torch.randn(2, 4, 6, generator=generator(0, "x"))
    other = torch.randn(2, 4, 6, generator=generator(1, "x"))
    other[:, -1] = x[:, -1]
    torch.testing.assert_close(model(x)[:, -1], model(other)[:, -1])
    assert not torch.allclose(model(x)[:, 0], model(other)[:, 0])


def test_a_target_spares_the_others_and_the_readout():
    model = LSTM(6, 3, hidden_size=5, generator=generator(0, "model"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    prune(model, "h2h", "global", 0.5)
    changed = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert changed == ["core.weight_hh_l0"]


def test_a_sparse_mlp_loses_its_smallest_entries():
    model, fresh = (MLP(6, 3, hidden=[17, 15], R_layers=0.6, generator=generator(seed, "model")) for seed in (0, 1))
    before = torch.cat([weights.values for weights in model.weights()])
    biases = 17 + 15 + 3
    assert model.n_weights == len(before) + biases
    assert prune(model, "both", "global", 0.5) == round(0.5 * len(before))
    after = torch.cat([weights.values for weights in model.weights()])
    assert torch.equal(after, before[before.abs() >= after.abs().min()]) and model.n_weights == len(after) + biases
    fresh.load_state_dict(model.state_dict())  # of as many entries as the state has
    x = torch.randn(4, 2, 6, generator=generator(0, "x"))
    assert torch.equal(fresh(x), model(x)) and fresh.n_weights == model.n_weights


def shares(model: MLP, whole: MLP) -> list[float]:
    pairs = zip(model.weights(), whole.weights(), strict=True)
    return [1 - len(weights.values) / len(before.values) for weights, before in pairs]


def test_scopes():
    """Layers of different widths have weights of different size: globally the widest layer's go first."""
    sizes = dict(hidden=[40, 10])
    by_layer, of_all, whole = (MLP(100, 10, **sizes, generator=generator(0, "model")) for _ in range(3))
    prune(by_layer, "both", "layer", 0.5)
    assert shares(by_layer, whole) == [0.5, 0.5, 0.5]
    prune(of_all, "both", "global", 0.5)
    first, second, third = shares(of_all, whole)
    assert first > second > third
    assert torch.equal(left(of_all).abs().sort().values, left(whole).abs().sort().values[len(left(whole)) // 2 :])


@pytest.mark.parametrize(
    "model, words, message",
    [
        (MLP(6, 3, hidden=[4], generator=generator(0, "model")), ("h2h", "global", 0.5), "MLP has no such weights"),
        (inn("low_rank"), ("both", "global", 0.5), "a matrix of low rank has no entries of its own"),
    ],
)
def test_what_cannot_be_cut(model, words, message):
    with pytest.raises(ConfigError, match=message):
        prune(model, *words)


@pytest.mark.parametrize(
    "words, message",
    [
        (["pruning=magnitud"], "pruning=magnitud: there is no such choice; did you mean magnitude"),
        (["pruning=magnitude", "pruning.amounts=0.5"], "pruning.amounts: there is no such key; did you mean pruning.amount"),
        (["pruning=magnitude", "model.linear=low_rank"], "a matrix of low rank has no entries"),
    ],
)
def test_a_mistake_is_one_line(lab, words, message):
    code, _, err = lab(*SMOKE, *words)
    assert code == 2 and message in err and "Traceback" not in err and err.count("\n") == 1


def test_cuts_share_one_training(lab, runs, outputs):
    """The network before the cut is the plain study's, trained once; without a cut nothing changes."""
    assert lab(*SMOKE)[0] == 0
    plain = runs("adhoc").iloc[-1]
    code, out, _ = lab(*SMOKE, "pruning=magnitude", "pruning.epochs=1", "-m", "pruning.amount=0.0,0.9,1.0")
    assert code == 0 and "3 finished" in out
    assert len(list(outputs.glob("trained/*/base.pt"))) == 1
    cut = runs("adhoc").dropna(subset="cut/weights").drop_duplicates("run_id").set_index("pruning.amount").sort_index()
    assert set(cut["base/test_acc_end"]) == {plain["test/acc_end"]} and set(cut["base/val_acc_end"]) == {plain["val/acc_end"]}
    assert cut.loc[0.0, "cut/test_acc_end"] == plain["test/acc_end"]
    n = plain["model/weights"]
    assert cut["cut/weights"].tolist() == [n, n - round(0.9 * n), 0]
    assert cut.loc[1.0, "cut/test_acc_end"] < 0.4  # nothing is left but biases


def test_a_training_that_is_cut_off_goes_on_before_the_cut_and_after_it(lab, runs, outputs, monkeypatch):
    words = [*SMOKE, "pruning=magnitude", "pruning.epochs=2", "trainer.max_epochs=4", "trainer.checkpoint_s=1000"]
    whole, batches, epochs, drawn = Training.training_step, ImageSet.batches, [], []

    def step(self, batches, index):
        epochs.append(self.current_epoch)
        if len(epochs) in (3, 7):
            raise Interrupted(15)
        whole(self, batches, index)

    def draw(self, part, epoch=0):
        if part == "train":
            drawn.append(epoch)
        return batches(self, part, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", step)
        patch.setattr(ImageSet, "batches", draw)
        assert [lab(*words)[0] for _ in range(3)] == [128 + 15, 128 + 15, 0]
    # Each training went on where it was, and the one after the cut had the data of the epochs that follow.
    assert epochs == [0, 1, 2, 2, 3, 0, 1, 1] and drawn == [0, 1, 2, 2, 3, 4, 5, 5]
    assert runs("adhoc")["epoch"].tolist() == [0, 1]  # counted from the cut
    again = outputs.with_name("again")
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(again))
    assert lab(*words)[0] == 0
    keys = ["base/val_acc_end", "base/test_acc_end", "cut/test_acc_end", "test/acc_end", "val/loss"]
    from inn_lab import tracking

    once, twice = (tracking.read(folder, "adhoc").iloc[-1][keys].tolist() for folder in (again, outputs))
    assert once == twice


@pytest.mark.parametrize("model", ["rnn", "inn"])
def test_a_network_that_diverged_before_the_cut_is_not_cut(lab, runs, monkeypatch, model):
    def end(self):
        with torch.no_grad():
            next(self.model.parameters()).view(-1)[0] = torch.nan

    monkeypatch.setattr(Training, "on_train_end", end)
    assert lab(*SMOKE, f"model={model}", "pruning=magnitude")[0] == 0
    assert set(runs("adhoc")["state"]) == {"diverged"} and "cut/weights" not in runs("adhoc")

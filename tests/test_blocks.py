"""A block matrix by names: the same networks as by hand, and as a loop over the blocks; and what is said to a mistake."""

import re
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from conftest import SMOKE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inn_lab.errors import ConfigError
from inn_lab.linear import ACTIVATIONS, LowRank
from inn_lab.models import Blocks, LayeredINN, Sequential2D, by_column, represented
from inn_lab.seeding import generator
from inn_lab.studies.weight_space import shares
from inn_lab.training.optimizers import adam, scaled
from inn_lab.training.pruning import prune

USUAL = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
steady = settings(deadline=None, derandomize=True, max_examples=40)
EXAMPLE: dict[str, Any] = {
    "layers": {"a": 8, "b": 6},
    "blocks": {
        "a": {"input": {"R": 0.5}, "a": {"R": 0.25}, "output": "dense"},
        "b": {"a": {"rank": 2}, "b": "diagonal"},
        "output": {"b": "dense"},
    },
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64)


def built(n_inputs: int = 5, n_outputs: int = 3, seed: int = 0, **options: Any) -> Blocks:
    return Blocks(n_inputs, n_outputs, generator=generator(seed), **{**EXAMPLE, **options}).double()


def dense(model: Sequential2D) -> Tensor:
    """W (H, I + H), as it multiplies, with its graph."""
    return model.map(torch.eye(model.width, dtype=torch.float64)).T


def parts(model: Blocks, weight: Tensor) -> dict[tuple[str, str], Tensor]:
    """A matrix by blocks."""
    rows, columns = model.names
    cut = [part.split(model.columns, dim=1) for part in weight.split(model.rows)]
    return {(row, column): cut[i][j] for (i, row), (j, column) in product(enumerate(rows), enumerate(columns))}


def slow(blocks: dict[tuple[str, str], Tensor], bias: dict[str, Tensor], functions: dict[str, str], x: Tensor) -> Tensor:
    """The outputs, each layer from what it reads: (B, T, I) -> (B, T, O)."""
    state = {row: torch.zeros(len(x), len(b), dtype=torch.float64) for row, b in bias.items()}
    outputs = []
    for now in x.unbind(1):
        seen = {"input": now, **state}
        state = {
            row: ACTIVATIONS[functions[row]](sum((seen[c] @ w.T for (r, c), w in blocks.items() if r == row), b))
            for row, b in bias.items()
        }
        outputs.append(state["output"])
    return torch.stack(outputs, dim=1)


def test_a_layered_network() -> None:
    options: dict[str, Any] = {"linear": "csr", "init_bias": "uniform"}
    layered = LayeredINN(12, 4, hidden=[9, 7], component=100, generator=generator(0), **options)
    model = Blocks(
        12,
        4,
        layers={"a": 9, "b": 7},
        blocks={"a": {"input": "dense"}, "b": {"a": "dense"}, "output": {"b": "dense"}},
        generator=generator(1),
        **options,
    )
    x = draw(3, 5, 12).float()
    assert not torch.equal(model(x), layered(x))
    model.load_state_dict(layered.state_dict())
    assert torch.equal(model(x), layered(x))
    for network in (model, layered):
        network(x).square().sum().backward()
    for one, other in zip(model.parameters(), layered.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert model.size(5) == layered.size(5)


def test_kales_networks_are_drawn_alike() -> None:
    """The same blocks in the same order, so from one generator the same weights."""
    columns = {"input": 0.1, "a": 0.4, "b": 0.4, "output": 0.2}
    rows = {row: {column: {"R": R} for column, R in columns.items()} for row in ("a", "b", "output")}
    common: dict[str, Any] = {"bias": False, "generator": generator(0)}
    whole = (5 * 0.1 + (8 + 6) * 0.4 + 3 * 0.2) / 22
    kale = by_column(5, 3, hidden=[8, 6], R=whole, R_input=0.1, R_hidden=None, R_output=0.2, **common)
    model = Blocks(5, 3, layers=EXAMPLE["layers"], blocks=rows, bias=False, generator=generator(0))
    x = draw(2, 4, 5).float()
    assert torch.equal(model(x), kale(x)) and model.n_weights == kale.n_weights

    ranks = [[round(0.5 * m * n / (m + n)) for n in (5, 8, 6, 3)] for m in (8, 6, 3)]
    rows = {
        row: {column: {"rank": max(1, k)} for column, k in zip(columns, line, strict=True)}
        for row, line in zip(("a", "b", "output"), ranks, strict=True)
    }
    rows["output"]["b"] = "dense"
    kale = represented(5, 3, hidden=[8, 6], R=0.5, representation="low_rank", bias=False, generator=generator(0))
    model = Blocks(5, 3, layers=EXAMPLE["layers"], blocks=rows, bias=False, generator=generator(0))
    assert torch.equal(model(x), kale(x)) and model.n_weights == kale.n_weights


WORDS = st.sampled_from(["dense", "diagonal", "identity"])
TABLES = st.one_of(
    st.fixed_dictionaries({"R": st.floats(0.2, 1)}, optional={"lr": st.sampled_from([0, 0.1, 3]), "init": st.just("fan_in")}),
    st.fixed_dictionaries({"rank": st.integers(1, 2)}, optional={"lr": st.sampled_from([0.1, 1]), "init_std": st.just(0.7)}),
    st.fixed_dictionaries({"kind": st.sampled_from(["dense", "diagonal"])}, optional={"lr": st.sampled_from([0, 0.5])}),
)


@st.composite
def descriptions(draw: Any) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3))
    layers = {name: draw(st.integers(2, 5)) for name in names}
    sizes = {"input": 4, **layers, "output": 3}
    blocks: dict[str, dict[str, Any]] = {}
    for row in [*layers, "output"]:
        read = draw(st.lists(st.sampled_from(list(sizes)), unique=True, min_size=1))
        blocks[row] = {column: draw(st.one_of(WORDS, TABLES)) for column in read}
        for column, block in blocks[row].items():
            if sizes[row] != sizes[column] and (block in ("diagonal", "identity") or "diagonal" in str(block)):
                blocks[row][column] = None if len(read) > 1 else "dense"
        if not any(blocks[row].values()):
            blocks[row][read[0]] = "dense"
    blocks["output"]["input"] = "dense"
    functions = {name: draw(st.sampled_from(sorted(ACTIVATIONS))) for name in names}
    return {"layers": layers, "blocks": blocks, "activation": functions}


@steady
@given(descriptions(), st.sampled_from(["csr", "masked", "auto"]), st.integers(0, 2**30))
def test_it_is_a_loop_over_the_blocks_in_value_and_gradient(description, linear, seed) -> None:
    model = built(4, 3, seed, **description, linear=linear, init_std=0.5, init_bias="uniform")
    blocks = parts(model, dense(model))
    trained = 0
    for (row, column), weight in blocks.items():
        said = description["blocks"][row].get(column)
        said = {"kind": said} if isinstance(said, str) else said or {}
        m, n = weight.shape
        entries = {"dense": m * n, "diagonal": m, "identity": m, None: round(said.get("R", 0) * m * n)}[said.get("kind")]
        if "rank" in said:
            assert torch.linalg.matrix_rank(weight) == said["rank"]
            trained += said["rank"] * (m + n)
            continue
        assert weight.count_nonzero() == entries
        if said.get("kind") in ("diagonal", "identity"):
            assert torch.equal(weight, weight.diagonal().diag())
        if said.get("kind") == "identity":
            assert torch.equal(weight, torch.eye(m, dtype=torch.float64))
        else:
            trained += entries if said.get("lr", 1) else 0
    assert model.n_weights == trained
    assert Blocks(4, 3, **description, generator=None).n_weights == trained
    bias = dict(zip(model.names[0], model.bias.split(model.rows), strict=True))
    functions = {name: "relu" for name in bias} | description["activation"] | {"output": "linear"}
    x = draw(3, 4, 4, seed=seed)
    fast, twin = model(x), slow(blocks, bias, functions, x)
    assert torch.allclose(fast, twin, rtol=1e-10, atol=1e-10)
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(fast.square().sum(), parameters),
        torch.autograd.grad(twin.square().sum(), parameters),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("linear", ["csr", "masked"])
def test_a_block_with_a_learning_rate_of_its_own_is_a_group_of_adams(linear: str) -> None:
    """Against torch's parameter groups, with a parameter for each block."""
    rates = {("a", "input"): 0.1, ("a", "a"): 0.0, ("a", "output"): 1.0, ("b", "a"): 3.0, ("b", "b"): 0.5, ("output", "b"): 2.0}
    description = deepcopy(EXAMPLE["blocks"])
    for (row, column), lr in rates.items():
        said = description[row][column]
        description[row][column] = {**({"kind": said} if isinstance(said, str) else said), "lr": lr}
    model = built(blocks=description, linear=linear, init_std=0.5)
    (low,) = (part for part in model.map.parts if isinstance(part, LowRank))
    A, B = low.A[low.tops.index(8)].detach().clone().requires_grad_(), low.B["5"].detach().clone().requires_grad_()
    leaves = {at: w.detach().clone().requires_grad_() for at, w in parts(model, dense(model)).items() if at in rates}
    masks = {at: leaf != 0 for at, leaf in leaves.items()}
    biases = zip(model.names[0], model.bias.split(model.rows), strict=True)
    bias = {name: b.detach().clone().requires_grad_() for name, b in biases}
    groups = [{"params": [leaf], "lr": 0.01 * rates[at]} for at, leaf in leaves.items() if at != ("b", "a")]
    groups += [{"params": [A, B], "lr": 0.01 * 3.0}, {"params": list(bias.values()), "lr": 0.01}]
    reference, optimizer = torch.optim.Adam(groups), scaled(adam(model.parameters(), 0.01, **USUAL), model)
    functions = {"a": "relu", "b": "relu", "output": "linear"}

    def whole() -> dict[tuple[str, str], Tensor]:
        return {at: leaf * masks[at] for at, leaf in leaves.items()} | {("b", "a"): A @ B}

    start = {at: w.detach().clone() for at, w in whole().items()}
    for step in range(20):
        x = draw(4, 6, 5, seed=step)
        for each, y in ((optimizer, model(x)), (reference, slow(whole(), bias, functions, x))):
            each.zero_grad()
            (y - 1).square().mean().backward()
            each.step()
    ends = parts(model, dense(model))
    for at, twin in whole().items():
        assert torch.allclose(ends[at], twin, rtol=1e-9, atol=1e-9)
        assert torch.equal(ends[at], start[at]) == (at == ("a", "a"))


def test_without_factors_the_optimizer_is_adam_alone() -> None:
    plain, own = built(), built(blocks={**EXAMPLE["blocks"], "a": {"input": {"R": 0.5, "lr": 0.1}}})
    first, second = (scaled(adam(model.parameters(), 0.01, **USUAL), model) for model in (plain, own))
    assert not first._optimizer_step_pre_hooks and second._optimizer_step_pre_hooks


def test_each_block_is_drawn_as_it_says() -> None:
    blocks = {
        "a": {"input": {"R": 0.5}, "a": {"R": 0.25, "init": "fan_in"}, "b": {"R": 0.5, "init_std": 2.0, "lr": 0}},
        "b": {"a": {"rank": 3, "init_std": 0.3}, "input": {"kind": "dense", "init_std": 0.7}},
        "output": {"b": "dense"},
    }
    model = built(60, 3, layers={"a": 200, "b": 100}, blocks=blocks)
    there = parts(model, dense(model).detach())
    drawn = {at: w[w != 0] for at, w in there.items() if w.any()}
    in_row = sum((there["a", column] != 0).sum(1) for column in ("input", "a", "b"))
    expected = {("a", "input"): 0.05, ("a", "b"): 2.0, ("b", "a"): 0.3, ("b", "input"): 0.7, ("output", "b"): 0.05}
    for at, std in expected.items():
        n = len(drawn[at]) if at != ("b", "a") else 900  # of low rank: so many numbers, which are multiplied
        assert abs(float(drawn[at].square().mean().sqrt()) / std - 1) < 4.5 / (2 * n) ** 0.5
    scaled = (there["a", "a"] / (2 / in_row).sqrt()[:, None])[there["a", "a"] != 0]
    assert abs(float(scaled.square().mean()) - 1) < 4.5 * (2 / len(scaled)) ** 0.5


def test_the_order_of_the_names_does_not_matter() -> None:
    """One identity, one model."""
    turned = {"layers": {"b": 6, "a": 8}, "blocks": {row: dict(reversed(EXAMPLE["blocks"][row].items())) for row in "ba"}}
    turned["blocks"] = {"output": {"b": "dense"}, **turned["blocks"]}
    x = draw(2, 4, 5)
    assert torch.equal(built(**turned)(x), built()(x))
    absent = {**EXAMPLE["blocks"], "c": None, "b": {"a": {"rank": 2, "R": None}, "b": "diagonal", "input": None}}
    assert torch.equal(built(blocks=absent, layers={**EXAMPLE["layers"], "c": None})(x), built()(x))


RESERVOIR = {"a": {"input": {"R": 0.5, "lr": 0}, "a": {"R": 0.5, "lr": 0}}, "output": {"a": {"R": 0.5, "lr": 0.1}}}


def test_a_reservoir_is_part_of_the_state_and_is_not_pruned() -> None:
    model, other = (built(layers={"a": 20}, blocks=RESERVOIR, seed=seed) for seed in (0, 1))
    assert model.n_weights == 30 and sum(p.numel() for p in model.parameters()) == 30 + 23
    before = parts(model, dense(model).detach())
    assert prune(model, "both", "global", 0.5) == 15
    after = parts(model, dense(model).detach())
    assert after["output", "a"].count_nonzero() == 15
    assert all(torch.equal(after["a", column], before["a", column]) for column in ("input", "a"))
    ((parameter, factors),) = model.lr_factors()
    assert parameter.shape == factors.shape and (factors == 0.1).all()
    other.load_state_dict(model.state_dict())
    x = draw(2, 4, 5)
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("most", [400, 7])
def test_the_picture_counts_the_entries(most: int) -> None:
    model = built(blocks={**EXAMPLE["blocks"], "b": {"a": {"rank": 2}, "b": "identity", "input": {"R": 0.3, "lr": 0}}})
    found = shares(model, most)
    assert {share.shape for share in found.values()} == {(min(17, most), min(22, most))}
    rows, columns = ((torch.arange(n) * min(n, most) // n).bincount() for n in (17, 22))
    counts = {kind: float((share * torch.outer(rows, columns)).sum()) for kind, share in found.items()}
    assert counts == pytest.approx({"trainable": 20 + 16 + 24 + 18, "low rank": 28, "fixed": 6 + 9})
    if most == 400:
        fixed = parts(model, found["fixed"])
        assert torch.equal(fixed["b", "b"], torch.eye(6)) and fixed["b", "input"].unique() == pytest.approx([0.3])


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"a": {"inptu": "dense"}}, "blocks.a.inptu=dense: there is no such layer to read; did you mean input?"),
    ({"c": {"a": "dense"}}, "blocks.c={'a': 'dense'}: there is no such row; known are: a, b, output"),
    ({"a": {"input": "dens"}}, "blocks.a.input=dens: there is no such kind of block; did you mean dense or identity?"),
    ({"a": {"input": {"kind": "dens"}}}, "blocks.a.input.kind=dens: there is no such kind of block; did you mean "),
    ({"a": {"input": 0.5}}, "blocks.a.input=0.5: a block is one of dense, diagonal, identity, or a table; e.g. "),
    ({"a": {"input": {}}}, "blocks.a.input={}: a block has one of kind, R, rank, and this one has none"),
    ({"a": {"input": {"R": 0.1, "rank": 2}}}, "blocks.a.input={'R': 0.1, 'rank': 2}: a block has one of kind, R, rank, and "),
    ({"a": {"input": {"R": 0.1, "lrr": 2}}}, "blocks.a.input.lrr=2: there is no such key of a block; did you mean lr"),
    ({"a": {"input": {"R": 2}}}, "blocks.a.input.R=2: a density lies in (0, 1]; e.g. blocks.a.input.R=0.2"),
    ({"a": {"input": {"R": True}}}, "blocks.a.input.R=True: a density lies in (0, 1]"),
    ({"a": {"input": {"R": "0.1"}}}, "blocks.a.input.R=0.1: a density lies in (0, 1]"),
    ({"a": {"input": {"R": 0.001}}}, "blocks.a.input.R=0.001: of 8 × 5 entries that is none"),
    ({"a": {"input": {"rank": 6}}}, "blocks.a.input.rank=6: a block of 8 × 5 has at most rank 5"),
    ({"a": {"input": {"rank": 1.5}}}, "blocks.a.input.rank=1.5: must be a whole number"),
    ({"a": {"input": {"rank": 1, "lr": 0}}}, "blocks.a.input.lr=0: a block with a rank is always trainable"),
    ({"a": {"input": {"rank": 1, "init": "fan_in"}}}, "blocks.a.input.init=fan_in: a block with a rank is drawn with init_std"),
    ({"a": {"input": {"R": 0.5, "lr": -1}}}, "blocks.a.input.lr=-1: times the learning rate"),
    ({"a": {"input": {"R": 0.5, "init_std": 0}}}, "blocks.a.input.init_std=0: a standard deviation is a positive"),
    ({"a": {"input": {"R": 0.5, "init": "normol"}}}, "blocks.a.input.init=normol: there is no such init; did you mean normal?"),
    ({"a": {"input": {"R": 0.5, "init": "fan_in", "init_std": 1}}}, "blocks.a.input.init_std=1.0: init=fan_in does not use it"),
    ({"a": {"input": "identity"}}, "blocks.a.input=identity: it is square, and this block is of 8 × 5"),
    ({"a": {"a": {"kind": "identity", "lr": 0.1}}}, "blocks.a.a={'kind': 'identity', 'lr': 0.1}: an identity is fixed"),
    ({"output": None}, "blocks.output={}: output reads nothing; give it a block, e.g. +blocks.output.input=dense"),
    ({"b": {"c": None}}, "blocks.b={}: b reads nothing"),
    ({"b": "dense"}, "blocks.b=dense: a table of names is wanted"),
    ({"b": {3: "dense"}}, "blocks.b.3=dense: a name is a word of letters, digits and _, not 3"),
]


@pytest.mark.parametrize("change, text", MISTAKES, ids=str)
def test_a_mistake_in_a_block_is_one_line_with_its_key(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}.*$"):
        Blocks(5, 3, layers=EXAMPLE["layers"], blocks={**EXAMPLE["blocks"], **change}, generator=None)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"layers": {"a": 8, "b": 6.5}}, "layers.b=6.5: must be a whole number"),
        ({"layers": {"a": 8, "b": 6, "input": 5}}, "layers.input=5: the data say how wide it is"),
        ({"layers": 3}, "layers=3: a table of names is wanted"),
        ({"activation": {"a": "tahn"}}, "activation.a=tahn: there is no such activation; did you mean tanh?"),
        ({"activation": {"a": ["tanh"]}}, "activation.a=['tanh']: there is no such activation"),
        ({"activation": {"output": "tanh"}}, "activation.output=tanh: there is no such layer; known are: a, b"),
        ({"layers": {}, "blocks": {"output": {"input": {"R": 1, "lr": 0}}}}, "blocks={'output': {'input': {'R': 1, 'lr': 0}"),
        ({"init": "fan_on"}, "init=fan_on: there is no such init; did you mean fan_in"),
    ],
)
def test_a_mistake_elsewhere(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}.*$"):
        Blocks(5, 3, **{**EXAMPLE, **options}, generator=None)


def test_on_the_command_line(lab, runs, outputs) -> None:
    words = [*SMOKE, "model=blocks", "model.layers={a:30,b:20}", "model.activation.a=tanh", "model.blocks.a.a.R=0.3"]
    code, _, err = lab(*words, "model.blocks.b.a.rank=21")
    assert code == 2 and err == "inn_lab: model.blocks.b.a.rank=21: a block of 20 × 30 has at most rank 20; give no more\n"
    code, _, err = lab(*words, "model.blocks.a.input.lr=0")
    assert code == 2 and err.endswith("lr: there is no such key; to add it, write +model.blocks.a.input.lr=VALUE\n")
    changes = ["+model.blocks.b.a={rank:null,R:0.5}", "+model.blocks.a.input.lr=0", "+model.blocks.b.input=null"]
    assert lab(*words, *changes)[0] == 0
    row = runs("adhoc").iloc[-1]
    assert row["model/weights"] == round(0.3 * 900) + round(0.5 * 600) + 20 + 200
    assert (row["model.blocks.a.a.R"], row["model.blocks.output.b"]) == (0.3, "dense")
    assert list(outputs.glob("jobs/adhoc/*/files/weight_space.png"))

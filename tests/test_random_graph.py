"""Graphs, their layers and properties, and the networks made of them: by hand, in closed form, against slow obvious twins."""

import itertools
import math
import statistics

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks import graph_speed
from inn_lab import graphs
from inn_lab.errors import ConfigError
from inn_lab.identity import identity
from inn_lab.models import RandomGraph
from inn_lab.models.ticks import CELLS
from inn_lab.seeding import generator

TABLE_5_2 = [(0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]  # Darji 2022


def graph(edges, nodes=()) -> nx.Graph:
    made = nx.Graph()
    made.add_nodes_from(nodes)
    made.add_edges_from(edges)
    return made


@st.composite
def connected(draw, most=8) -> nx.Graph:
    """A connected graph whose nodes stand in any order."""
    n = draw(st.integers(3, most))
    order = draw(st.permutations(range(n)))
    tree = {frozenset((node, draw(st.integers(0, node - 1)))) for node in range(1, n)}
    more = draw(st.sets(st.sampled_from(list(itertools.combinations(range(n), 2)))))
    return graph([tuple(edge) for edge in tree] + sorted(more), order)


# ------------------------------------------------------------------------------------------------------------- the graphs


def test_the_layers_are_those_of_darjis_example() -> None:
    assert graphs.layers(graph(TABLE_5_2, range(5))) == [[0, 1], [2], [3], [4]]
    assert graphs.layers(graph(TABLE_5_2, [4, 3, 2, 1, 0])) == [[4], [3], [2], [1, 0]]  # the order of the nodes decides


@settings(max_examples=60, deadline=None)
@given(connected())
def test_a_layer_is_the_longest_path_that_leads_to_it(made: nx.Graph) -> None:
    order = list(made)

    def longest(node) -> int:  # Algorithm 2, as it stands
        return max([-1, *(longest(other) for other in made[node] if order.index(other) < order.index(node))]) + 1

    layers = graphs.layers(made)
    assert {node: layer for layer, nodes in enumerate(layers) for node in nodes} == {node: longest(node) for node in made}
    assert all(layers)


def test_a_long_path_needs_no_recursion() -> None:
    assert len(graphs.layers(nx.path_graph(5000))) == 5000


@pytest.mark.parametrize("n", [3, 4, 7])
def test_properties_in_closed_form(n: int) -> None:
    star, complete = graphs.properties(nx.star_graph(n - 1)), graphs.properties(nx.complete_graph(n))
    path, cycle = graphs.properties(nx.path_graph(n)), graphs.properties(nx.cycle_graph(n))
    assert tuple(star) == graphs.PROPERTIES and len(star) == 23
    expected = {
        "layers": 2, "nodes": n, "edges": n - 1, "source_nodes": 1, "sink_nodes": n - 1, "diameter": 2, "density": 1 / n,
        "average_shortest_path_length": 2 * (n - 1) / n, "eccentricity_mean": (2 * n - 1) / n, "eccentricity_var": 1 / n,
        "degree_mean": 2 / n, "degree_var": (n - 2) ** 2 / (n - 1) ** 2 / n, "nodes_betweenness_mean": 1 / n,
        "nodes_betweenness_var": 1 / n, "edge_betweenness_mean": 2 / n, "edge_betweenness_var": 0,
        "closeness_mean": (1 + (n - 1) ** 2 / (2 * n - 3)) / n, "closeness_var": ((n - 2) / (2 * n - 3)) ** 2 / n,
    }  # fmt: skip
    assert {key: star[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    same = {key for key in graphs.PROPERTIES if key.endswith(("var", "std"))}
    assert {key: complete[key] for key in same} == pytest.approx(dict.fromkeys(same, 0), abs=1e-12)
    assert (complete["layers"], complete["density"], complete["closeness_mean"]) == (n, pytest.approx(0.5), pytest.approx(1))
    assert (path["layers"], path["diameter"]) == (n, n - 1)
    assert path["average_shortest_path_length"] == pytest.approx((n + 1) / 3)
    assert (cycle["eccentricity_mean"], cycle["degree_var"]) == (n // 2, 0)
    assert cycle["edge_betweenness_mean"] == pytest.approx(cycle["average_shortest_path_length"] / n)


def slow_properties(made: nx.Graph) -> dict[str, float]:
    """All shortest paths, listed."""
    nodes, edges, layers = list(made), [frozenset(edge) for edge in made.edges], graphs.layers(made)
    n = len(nodes)
    paths = {}
    for a, b in itertools.combinations(nodes, 2):
        routes = [list(route) for route in nx.all_simple_paths(made, a, b)]
        least = min(map(len, routes))
        paths[frozenset((a, b))] = [route for route in routes if len(route) == least]
    distance = {pair: len(routes[0]) - 1 for pair, routes in paths.items()}
    away = {a: [distance[frozenset((a, b))] for b in nodes if b != a] for a in nodes}
    between = {a: sum(sum(a in r[1:-1] for r in routes) / len(routes) for routes in paths.values()) for a in nodes}
    through = {
        edge: sum(sum(edge in map(frozenset, itertools.pairwise(r)) for r in routes) / len(routes) for routes in paths.values())
        for edge in edges
    }
    pairs = n * (n - 1) / 2
    spreads = {
        "eccentricity": [max(away[a]) for a in nodes],
        "degree": [len(made[a]) / (n - 1) for a in nodes],
        "closeness": [(n - 1) / sum(away[a]) for a in nodes],
        "nodes_betweenness": [between[a] / ((n - 1) * (n - 2) / 2) for a in nodes],
        "edge_betweenness": [through[edge] / pairs for edge in edges],
    }
    values = {
        "layers": len(layers), "nodes": n, "edges": len(edges), "source_nodes": len(layers[0]), "sink_nodes": len(layers[-1]),
        "diameter": max(distance.values()), "density": len(edges) / (n * (n - 1)),
        "average_shortest_path_length": sum(distance.values()) / pairs,
    }  # fmt: skip
    for name, each in spreads.items():
        of = (statistics.mean(each), statistics.variance(each), statistics.stdev(each))
        values |= dict(zip((f"{name}_mean", f"{name}_var", f"{name}_std"), of, strict=True))
    return values


@settings(max_examples=40, deadline=None)
@given(connected(6))
def test_properties_equal_their_slow_twin(made: nx.Graph) -> None:
    assert graphs.properties(made) == pytest.approx(slow_properties(made), abs=1e-7)  # a std of 0 comes out as √ε


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_drawn_graphs_are_darjis(kind: str) -> None:
    drawn = [graphs.draw(kind, number) for number in range(60)]
    assert {len(made) for made in drawn} <= set(range(10, 51)) and len({len(made) for made in drawn}) > 25
    for number, made in enumerate(drawn):
        n, found = len(made), graphs.properties(made)  # connected, or it raises
        m = n // 10 if kind == "barabasi_albert" else 0
        assert list(made) == list(range(n))
        assert found["edges"] == (m * (n - m) if m else n * (n // 5 // 2))
        assert not m or found["source_nodes"] == m  # as in each of the rows of Darji's published tables
        assert nx.utils.graphs_equal(made, graphs.draw(kind, number))
    assert len({frozenset(made.edges) for made in drawn}) == len(drawn)


# -------------------------------------------------------------------------------------------------------------- from files


def test_a_graph_comes_back_from_every_format(tmp_path) -> None:
    made = graph(TABLE_5_2, range(5))
    writers = {
        ".graphml": nx.write_graphml, ".gml": nx.write_gml, ".adjlist": nx.write_adjlist, ".edgelist": nx.write_edgelist,
        ".txt": nx.write_edgelist,
    }  # fmt: skip
    assert set(writers) == set(graphs.READERS)
    for suffix, write in writers.items():
        write(made, tmp_path / f"g{suffix}")
        back = graphs.read(tmp_path / f"g{suffix}")
        assert list(back) == list(made) and set(map(frozenset, back.edges)) == set(map(frozenset, made.edges))
    (tmp_path / "named.txt").write_text("b a 0.5\na c 7\n")
    assert list(graphs.read(tmp_path / "named.txt")) == ["b", "a", "c"]


MISTAKES = {
    ("none.gml", None): "none.gml: there is no such file; give one that ends in .adjlist, .edgelist, .gml, .graphml, .txt",
    ("g.pickle", ""): "g.pickle: a graph's file ends in",
    ("g.gml", "graph ["): "g.gml: it cannot be read as .gml",
    ("g.graphml", "<a"): "g.graphml: it cannot be read as .graphml",
    ("empty.txt", ""): "empty.txt: 0 nodes; a graph has at least 3",
    ("two.txt", "0 1"): "two.txt: 2 nodes",
    ("apart.txt", "0 1\n1 2\n3 4"): "apart.txt: the graph is not connected",
    ("loop.txt", "0 1\n1 2\n2 2"): "loop.txt: node 2 has an edge to itself",
}


@pytest.mark.parametrize(("name", "text"), MISTAKES, ids=lambda value: str(value)[:12])
def test_what_is_no_graph_is_one_clear_line(tmp_path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=MISTAKES[name, text]) as error:
        graphs.read(tmp_path / name)
    assert str(error.value).startswith("path=") and "\n" not in str(error.value)


def test_directed_and_parallel_edges_are_refused(tmp_path) -> None:
    nx.write_gml(nx.DiGraph([(0, 1), (1, 2)]), tmp_path / "d.gml")
    nx.write_gml(nx.MultiGraph([(0, 1), (0, 1), (1, 2)]), tmp_path / "p.gml")
    for name, word in {"d.gml": "directed", "p.gml": "parallel"}.items():
        with pytest.raises(ConfigError, match=f"{word} edges; give a simple, undirected graph"):
            graphs.read(tmp_path / name)
    with pytest.raises(ConfigError, match="not connected"):
        graphs.properties(nx.empty_graph(4))


def test_a_job_is_known_by_what_is_in_its_graph_s_file(tmp_path) -> None:
    def known(name: str) -> str:
        path = name if name.startswith("~") else str(tmp_path / name)
        return identity(OmegaConf.create({"model": {"graph": None, "path": path}}))

    for name, text in {"a.txt": "0 1\n1 2", "b.txt": "0 1\n1 2", "a.adjlist": "0 1\n1 2", "c.txt": "0 1\n0 2"}.items():
        (tmp_path / name).write_text(text)
    assert known("a.txt") == known("b.txt")  # wherever it lies
    assert len({known(name) for name in ("a.txt", "a.adjlist", "c.txt", "none.txt", "~nobody/a.txt")}) == 5


# ------------------------------------------------------------------------------------------------------------ the networks

B, T, I, O = 3, 6, 7, 2  # noqa: E741
GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}


def sigmoid(a: Tensor) -> Tensor:
    return 1 / (1 + (-a).exp())


def slow_unit(cell: str, read: list[Tensor], state: list[Tensor], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """A unit's next state, by the equations in torch's documentation: read and state hold a sum for each gate."""
    if cell in ("tanh", "relu"):
        return {"tanh": torch.tanh, "relu": torch.relu}[cell](read[0] + state[0]), c
    if cell == "gru":
        r, z = (sigmoid(read[k] + state[k]) for k in (0, 1))
        return (1 - z) * torch.tanh(read[2] + r * state[2]) + z * h, c
    i, f, g, o = (read[k] + state[k] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
    return sigmoid(o) * torch.tanh(c), c


def slow_network(model: RandomGraph, cell: str, x: Tensor) -> Tensor:
    """Layer by layer, step by step, unit by unit, from the description. What each weight is for is read off its place."""
    layers, gates = graphs.layers(model.graph), GATES[cell]
    indices, _ = model.core.map.entries()
    values = dict(zip(indices.tolist(), model.core.map.values.unbind(), strict=True))
    units, columns = model.core.units, model.core.width
    input_rows, state_rows = zip(*CELLS[cell].gates, strict=True)
    first, below = 2 + len(layers[0]), 2 + len(layers[0]) + len(model.graph)  # columns: 1, 1, e, y, h
    place = {node: first + k for k, node in enumerate(node for layer in layers for node in layer)}
    zero, used, start, links = torch.zeros(B, dtype=x.dtype), set(), 0, {}

    def weight(row: int, unit: int, column: int) -> Tensor:
        at = (row * units + unit) * columns + column
        used.add(at)
        return values[at]

    for source in range(-1, len(layers)):  # the units stand in this order
        for target in range(source + 1, len(layers)):
            before = layers[source] if source >= 0 else []
            if (source, target) == (-1, 0) or any(model.graph.has_edge(a, b) for a in before for b in layers[target]):
                links[source, target], start = start, start + len(layers[target])
    assert start == units
    e = [[sum(model.embedding[k, i] * x[:, t, i] for i in range(I)) for t in range(T)] for k in range(len(layers[0]))]
    y = {node: [zero] * T for node in model.graph}
    for target, nodes in enumerate(layers):
        for source in [source for source, into in links if into == target]:
            mine = range(links[source, target], links[source, target] + len(nodes))
            h = c = dict.fromkeys(mine, zero)
            for t in range(T):
                after = {}
                for unit, node in zip(mine, nodes, strict=True):
                    if source < 0:
                        seen = [(2 + k, e[k][t]) for k in range(len(nodes))]
                    else:
                        seen = [(place[a], y[a][t]) for a in layers[source] if model.graph.has_edge(a, node)]
                    read = [weight(r, unit, 0) + sum((weight(r, unit, at) * v for at, v in seen), zero) for r in input_rows]
                    state = [weight(r, unit, 1) + sum(weight(r, unit, below + u) * h[u] for u in mine) for r in state_rows]
                    after[unit] = slow_unit(cell, read, state, h[unit], c[unit])
                h, c = ({unit: pair[k] for unit, pair in after.items()} for k in (0, 1))
                for unit, node in zip(mine, nodes, strict=True):
                    y[node] = [*y[node][:t], y[node][t] + h[unit], *y[node][t + 1 :]]
    assert used == set(values) and gates == len(input_rows)  # every weight has a place, and no other
    last = torch.stack([torch.stack(y[node], dim=1) for node in layers[-1]], dim=2)  # (B, T, nodes)
    return last @ model.readout.weight.T + model.readout.bias


GRAPHS = {
    "Darji's example": graph(TABLE_5_2, range(5)),
    "no skips": nx.path_graph(4),
    "wide": nx.complete_bipartite_graph(3, 2),
    "all skips": nx.complete_graph(5),
    "two layers, a triangle": graph([(0, 2), (1, 2), (0, 1), (3, 2), (3, 4)], [0, 3, 1, 2, 4]),
}


def network(made: nx.Graph, cell: str, tmp_path, seed: int = 0) -> RandomGraph:
    nx.write_adjlist(nx.relabel_nodes(made, {node: k for k, node in enumerate(made)}), tmp_path / "g.adjlist")
    return RandomGraph(I, O, path=str(tmp_path / "g.adjlist"), cell=cell, generator=generator(seed)).double()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", GRAPHS)
def test_it_equals_its_slow_twin_in_value_and_every_gradient(name: str, cell: str, tmp_path) -> None:
    model = network(GRAPHS[name], cell, tmp_path)
    x = torch.randn(B, T, I, generator=generator(1), dtype=torch.float64).requires_grad_()
    y, slow = model(x), slow_network(model, cell, x)
    assert y.shape == (B, T, O) and torch.allclose(y, slow, atol=1e-10, rtol=0)
    back = torch.randn(B, T, O, generator=generator(2), dtype=torch.float64)
    of = [*model.parameters(), x]
    for mine, twin in zip(*(torch.autograd.grad((out * back).sum(), of) for out in (y, slow)), strict=True):
        assert torch.allclose(mine, twin, atol=1e-10, rtol=0) and float(twin.abs().max()) > 0


@pytest.mark.parametrize(("cell", "kind"), [("tanh", "RNN"), ("relu", "RNN"), ("lstm", "LSTM"), ("gru", "GRU")])
def test_a_path_is_a_stack_of_torchs_own_layers_of_one_unit(cell: str, kind: str, tmp_path) -> None:
    model = network(nx.path_graph(4), cell, tmp_path)
    options = {"nonlinearity": cell} if kind == "RNN" else {}
    twin = getattr(torch.nn, kind)(1, 1, num_layers=4, batch_first=True, **options).double()
    reads, feels = zip(*CELLS[cell].gates, strict=True)
    matrix = torch.zeros(model.core.rows * 4 * model.core.width, dtype=torch.float64)
    indices, values = model.core.map.entries()
    matrix[indices] = values
    matrix = matrix.view(model.core.rows, 4, model.core.width)  # columns: 1, 1, e, y_0 … y_3, h
    with torch.no_grad():
        for layer in range(4):
            found = {
                "weight_ih": matrix[reads, layer, 2 + layer],
                "weight_hh": matrix[feels, layer, 7 + layer],
                "bias_ih": matrix[reads, layer, 0],
                "bias_hh": matrix[feels, layer, 1],
            }
            for key, value in found.items():
                parameter = getattr(twin, f"{key}_l{layer}")
                parameter.copy_(value.view_as(parameter))
    x = torch.randn(B, T, I, generator=generator(1), dtype=torch.float64)
    states = twin(x @ model.embedding.T)[0]
    assert torch.allclose(model(x), states @ model.readout.weight.T + model.readout.bias, atol=1e-12, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", graphs.KINDS)
def test_it_equals_torchs_own_modules_layer_by_layer(kind: str, cell: str) -> None:
    """Of a drawn graph of 30 nodes."""
    model = graph_speed.network(kind, cell).double()
    slow = graph_speed.LayerByLayer(model, cell)
    x = torch.randn(B, T, 128, generator=generator(1), dtype=torch.float64).requires_grad_()
    y, other = model(x), slow(x)
    assert torch.allclose(y, other, atol=1e-12, rtol=0)
    back = torch.randn(B, T, 2, generator=generator(2), dtype=torch.float64)
    of = [model.embedding, model.readout.weight, x]  # which the two share
    for mine, twin in zip(*(torch.autograd.grad((out * back).sum(), of) for out in (y, other)), strict=True):
        assert torch.allclose(mine, twin, atol=1e-10, rtol=0)


def test_a_state_of_an_earlier_version_can_be_loaded(tmp_path) -> None:
    """It holds buffers that follow from the links."""
    model, other = (network(nx.complete_graph(4), "gru", tmp_path, seed) for seed in (0, 1))
    old = model.state_dict() | {f"core.{name}": getattr(model.core, name) for name in ("heard_at", "felt_at", "total")}
    assert len(old) == len(model.state_dict()) + 3
    other.load_state_dict(old)
    x = torch.randn(B, T, I, generator=generator(1), dtype=torch.float64)
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("cell", CELLS)
def test_what_trains_is_what_the_graph_has(cell: str) -> None:
    """Counted from the graph, and each number uniform in ±1/√width of the layer it is for."""
    model = RandomGraph(128, 2, graph="barabasi_albert", number=4, cell=cell, generator=generator(0))
    layers, made = graphs.layers(model.graph), model.graph
    widths = [len(layer) for layer in layers]
    pairs = {(s, t) for t in range(len(layers)) for s in range(t) if nx.cut_size(made, layers[s], layers[t])}
    units = widths[0] + sum(widths[t] for _, t in pairs)
    full = widths[0] ** 2 + sum(widths[t] ** 2 for _, t in pairs)
    core = GATES[cell] * (widths[0] ** 2 + made.number_of_edges() + full + 2 * units)
    assert model.core.map.n_weights == core
    assert model.n_weights == core + 128 * widths[0] + 2 * (widths[-1] + 1)
    size = model.size(40)
    assert size["weights"] == size["parameters"] == model.n_weights
    assert {key.removeprefix("graph/"): value for key, value in size.items() if "/" in key} == graphs.properties(made)
    indices, values = model.core.map.entries()
    bounds = torch.cat([torch.full((widths[0],), widths[0])] + [torch.full((widths[t],), widths[t]) for _, t in sorted(pairs)])
    scaled = values * bounds.repeat(model.core.rows)[indices // model.core.width].sqrt()  # uniform in ±1
    assert 0.95 < float(scaled.abs().max()) <= 1 + 1e-6
    assert abs(float(scaled.square().mean()) * 3 - 1) < 4 * math.sqrt(0.8 / len(scaled))


def test_the_number_fixes_the_graph_and_the_seed_the_weights() -> None:
    one, other = (RandomGraph(I, O, graph="watts_strogatz", number=3, cell="gru", generator=generator(s)) for s in (0, 1))
    assert nx.utils.graphs_equal(one.graph, other.graph)
    assert not torch.equal(one.embedding, other.embedding)
    third = RandomGraph(I, O, graph="watts_strogatz", number=2, cell="gru", generator=generator(0))
    assert not nx.utils.graphs_equal(one.graph, third.graph)


def test_no_step_sees_a_later_one_and_none_a_neighbour_in_the_batch() -> None:
    model = RandomGraph(I, O, graph="watts_strogatz", number=1, cell="lstm", generator=generator(0)).double()
    x = torch.randn(B, T, I, generator=generator(1), dtype=torch.float64)
    y, other = model(x), x.clone()
    other[:, 3:] += 1
    other[0] += 1
    again = model(other)
    assert torch.equal(again[1:, :3], y[1:, :3])
    assert bool((again[1:, 3:] != y[1:, 3:]).any(dim=2).all())
    assert torch.allclose(model(x[:1, :2]), y[:1, :2], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"graph": "watts_strogats"}, r"graph=watts_strogats: .*did you mean watts_strogatz\?"),
        ({"graph": "watts_strogatz", "number": -1}, "number=-1: graphs are counted from 0"),
        ({"graph": "watts_strogatz", "cell": "elman"}, "cell=elman: there is no such cell; known are: gru"),
        ({"graph": "watts_strogatz", "path": "g.gml"}, "graph=watts_strogatz and path=g.gml: give one of them"),
        ({}, "graph=None and path=None: give one"),
        ({"path": "none.gml"}, "path=none.gml: there is no such file"),
    ],
)  # fmt: skip
def test_errors_name_the_key_and_the_way_out(options: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        RandomGraph(I, O, **{"cell": "tanh", **options}, generator=None)

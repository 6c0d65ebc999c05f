"""Graphs for networks: drawn by number, or read from a file; their layers and their properties."""

from collections.abc import Hashable
from pathlib import Path

import networkx as nx
import numpy as np
import torch

from inn_lab.errors import ConfigError, near
from inn_lab.seeding import generator

KINDS = ("watts_strogatz", "barabasi_albert")
MOST = 500  # nodes of a graph, and ten times as many edges; its properties take seconds then
NODES = (10, 50)  # a drawn graph has so many, both included
SPREADS = ("eccentricity", "degree", "closeness", "nodes_betweenness", "edge_betweenness")
PROPERTIES = (
    *("layers", "nodes", "edges", "source_nodes", "sink_nodes", "diameter", "density", "average_shortest_path_length"),
    *(f"{name}_{of}" for name in SPREADS for of in ("mean", "var", "std")),
)
READERS = {
    ".adjlist": nx.read_adjlist,
    ".edgelist": lambda path: nx.read_edgelist(path, data=False),
    ".gml": nx.read_gml,
    ".graphml": nx.read_graphml,
    ".txt": lambda path: nx.read_edgelist(path, data=False),
}


def draw(kind: str, number: int) -> nx.Graph:
    """The connected random graph of this kind and number. It does not depend on a run's seed.

    Its number of nodes n is uniform in 10 … 50. "watts_strogatz" rewires every edge of a ring in which each node has its n // 5
    nearest neighbours (the even number below); "barabasi_albert" gives each new node n // 10 edges, the first one to n // 10
    nodes that have no edges.

    Source: Darji 2022, 5.3. Newer versions of networkx begin such a graph with a star around its *first* node, which leaves one
    source node where Darji's graphs have n // 10. Here the star is around the last of its nodes, as it was then.

    Raises ConfigError for an unknown kind and a negative number.
    """
    if kind not in KINDS:
        raise ConfigError(f"graph={kind}: there is no such kind of graph{near(str(kind), KINDS)}")
    if number < 0:
        raise ConfigError(f"number={number}: graphs are counted from 0; e.g. number=0")
    rng = generator(number, "graph", kind)
    n, seed = (int(torch.randint(low, high, (), generator=rng)) for low, high in ((NODES[0], NODES[1] + 1), (0, 2**31)))
    if kind == "watts_strogatz":
        return nx.connected_watts_strogatz_graph(n, n // 5, 1, tries=10_000, seed=seed)  # about one in three is connected
    return nx.barabasi_albert_graph(n, n // 10, seed=seed, initial_graph=nx.complete_bipartite_graph(n // 10, 1))


def read(path: str | Path) -> nx.Graph:
    """The graph in a file: .graphml, .gml, .adjlist, or .edgelist and .txt, which have an edge in each line.

    Other data of nodes and edges are ignored. Nodes whose names are whole numbers are ordered by them, others as in the file.

    Raises ConfigError for a file that cannot be read, and as `check`.
    """
    path, name = Path(path).expanduser(), f"path={path}"
    if path.suffix not in READERS:
        raise ConfigError(f"{name}: a graph's file ends in {', '.join(READERS)}")
    if not path.is_file():
        raise ConfigError(f"{name}: there is no such file; give one that ends in {', '.join(READERS)}")
    try:
        found = READERS[path.suffix](path)
    except Exception as error:  # each of networkx' readers has errors of its own
        why = " ".join(str(error).split())
        raise ConfigError(f"{name}: it cannot be read as {path.suffix} ({why}); write it by networkx, for example") from error
    if all(str(node).isdecimal() for node in found):
        found = nx.relabel_nodes(found, {node: int(node) for node in found})
        ordered = found.__class__()
        ordered.add_nodes_from(sorted(found))
        ordered.add_edges_from(found.edges)
        found = ordered
    check(found, name)
    return found


def check(graph: nx.Graph, name: str) -> None:
    """Raises ConfigError unless a network can be made from the graph and all its properties are defined."""
    if len(graph) > MOST or graph.number_of_edges() > 10 * MOST:
        of = f"{len(graph)} nodes and {graph.number_of_edges()} edges"
        raise ConfigError(f"{name}: {of}; give a graph of at most {MOST} nodes and {10 * MOST} edges")
    if graph.is_directed() or graph.is_multigraph():
        raise ConfigError(f"{name}: {'directed' if graph.is_directed() else 'parallel'} edges; give a simple, undirected graph")
    if loop := next(nx.selfloop_edges(graph), None):
        raise ConfigError(
            f"{name}: node {loop[0]} has an edge to itself; take it out, every unit reads its layer's state anyway"
        )
    if len(graph) < 3:
        raise ConfigError(f"{name}: {len(graph)} nodes; a graph has at least 3, or its properties have no variance")
    if not nx.is_connected(graph):
        raise ConfigError(f"{name}: the graph is not connected, so that distances are infinite; give a connected one")


def layers(graph: nx.Graph) -> list[list[Hashable]]:
    """The nodes by layer. An edge leads from the node that is earlier in the graph's order to the later one.

    A node to which no edge leads is in layer 0. Any other node is one layer above the highest node that leads to it.

    Source: Darji 2022, Algorithm 2.
    """
    index: dict[Hashable, int] = {}
    for node in graph:
        index[node] = 1 + max((index[other] for other in graph[node] if other in index), default=-1)
    found: list[list[Hashable]] = [[] for _ in range(1 + max(index.values(), default=-1))]
    for node, layer in index.items():
        found[layer].append(node)
    return found


def properties(graph: nx.Graph) -> dict[str, float]:
    """The 23 `PROPERTIES` of a graph, under Darji's names.

    The density is edges over n (n − 1), half of the usual one for undirected graphs. Source nodes are those of the first layer,
    sink nodes those of the last. "degree" is degree centrality; var and std are of samples, with n − 1.

    Source: Darji 2022, 3.7.2 and 5.3.2.

    Raises ConfigError as `check`.
    """
    check(graph, "graph")
    of, n, edges = layers(graph), len(graph), graph.number_of_edges()
    eccentricity = nx.eccentricity(graph)
    values = {
        "layers": len(of),
        "nodes": n,
        "edges": edges,
        "source_nodes": len(of[0]),
        "sink_nodes": len(of[-1]),
        "diameter": max(eccentricity.values()),
        "density": edges / (n * (n - 1)),
        "average_shortest_path_length": nx.average_shortest_path_length(graph),
    }
    spreads = (
        eccentricity,
        nx.degree_centrality(graph),
        nx.closeness_centrality(graph),
        nx.betweenness_centrality(graph),
        nx.edge_betweenness_centrality(graph),
    )
    for name, spread in zip(SPREADS, spreads, strict=True):
        each = np.array(list(spread.values()), dtype=float)
        var = float(each.var(ddof=1))
        values |= {f"{name}_mean": float(each.mean()), f"{name}_var": var, f"{name}_std": var**0.5}
    return values

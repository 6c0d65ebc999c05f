"""A recurrent network whose layers and connections are those of a graph."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from inn_lab import graphs
from inn_lab.errors import ConfigError, near
from inn_lab.linear import is_still
from inn_lab.models.base import Model, Weights, linear, normal
from inn_lab.models.ticks import CELLS
from inn_lab.models.wavefront import Link, Wavefront
from inn_lab.ranges import MANY, count


class RandomGraph(Model):
    """The nodes of a graph are units, its layers are recurrent layers, its edges are the weights between them.

        e = E x;   y_0 = rnn(e);   y_l = Σ rnn_s,l(y_s) over the layers s < l with an edge from s to l;   out = V y_last + c

    Each rnn has its own units, as many as its target layer has nodes. Its input weights exist where the graph has an edge, the
    same for all gates; those of the first layer are full. The weights from its own state are full.

    Source: Darji 2022, 5.3, and for what it leaves open the code of its results (deepstruct's ArbitraryStructureRNN): E is as
    wide as the first layer and drawn from N(0, 1), each skip has its own rnn. That code repeats each row of a mask for the
    gates one by one, but torch stores the gates block by block. So the gates of its LSTM and GRU read other nodes than the
    graph says, and each gate others. Here they read the graph's.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, O outputs.

    Args:
        graph, number: the kind of random graph and which one of them, see `inn_lab.graphs.draw`.
        path: a file with the graph, in place of `graph` (then None); see `inn_lab.graphs.read`.
        cell: "tanh", "relu", "lstm" or "gru".

    Raises ConfigError unless one of `graph` and `path` is given, for an unknown `graph` or `cell`, and for a file or a graph
    from which no network can be made.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        graph: str | None = None,
        number: Annotated[int, count(0, MANY, 0)] = 0,
        path: str | None = None,
        cell: str,
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        super().__init__(n_inputs)
        if cell not in CELLS:
            raise ConfigError(f"cell={cell}: there is no such cell{near(str(cell), CELLS)}")
        if graph is not None and path is None:
            self.graph = graphs.draw(graph, number)
        elif graph is None and path is not None:
            self.graph = graphs.read(path)
        else:
            raise ConfigError(f"graph={graph} and path={path}: give one of them; a file goes with graph=null")
        self.units = len(self.graph)
        if generator is None:
            return
        layers = graphs.layers(self.graph)
        widths = [len(layer) for layer in layers]
        links = [Link(-1, 0, torch.ones(widths[0], widths[0], dtype=torch.bool))]
        layer = {node: place for place, nodes in enumerate(layers) for node in nodes}
        for source, target in sorted(
            {tuple(sorted((layer[a], layer[b]))) for a, b in self.graph.edges}, key=lambda pair: pair[::-1]
        ):
            mask = [[self.graph.has_edge(node, other) for other in layers[source]] for node in layers[target]]
            links.append(Link(source, target, torch.tensor(mask)))
        self.embedding = normal(widths[0], n_inputs, generator)
        self.core = Wavefront(widths, links, cell, generator)
        self.readout = linear(widths[-1], n_outputs, generator)

    def weights(self) -> list[Weights]:
        """By layer, the weights that read other units and the weights that read the units' own states; no biases."""
        return self.core.weights()

    def keep(self, kept: Sequence[Tensor]) -> None:
        """As in `Model`. Pruned weights are no longer stored."""
        self.core.keep(kept)

    def size(self, steps: int) -> dict[str, float]:
        """As in `Model`; also the graph's properties, each as graph/NAME."""
        return {**super().size(steps), **{f"graph/{key}": value for key, value in graphs.properties(self.graph).items()}}

    def forward(self, x: Tensor) -> Tensor:
        e = torch.nn.functional.linear(x[:, :1] if is_still(x) else x, self.embedding)  # (B, T or 1, I) -> (B, T or 1, E)
        return self.readout(self.core(e.expand(-1, x.shape[1], -1)))  # (B, T, O)

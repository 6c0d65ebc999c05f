"""torch's recurrent networks, sized by their number of weights and drawn from a generator."""

import math
import re
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from inn_lab.errors import ConfigError, near
from inn_lab.models.base import Model, Weights, drawn, linear, normal
from inn_lab.models.wavefront import Link, Wavefront
from inn_lab.ranges import Layers, Units, WeightCount
from inn_lab.sizing import given_or_found, gru_hidden, lstm_hidden, rnn_hidden, whole

NONLINEARITIES = ("tanh", "relu")
Core = Literal["torch", "sparse"]
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Recurrent(Model):
    """A recurrent core with H = hidden_size, an optional embedding before it, and a readout of its states.

    A core is called as torch's are, with (B, T, I), and returns its states (B, T, H) first. It is initialised as torch's are,
    uniform in ±1/√H.

    `embedding` is the number of inputs of the core: x is multiplied by a trainable matrix, drawn from N(0, 1). For x that is 1
    at a symbol and 0 elsewhere, this is torch.nn.Embedding. With `num_layers`, so many cores are stacked; each reads the states
    of the one below.

    `core` says what computes it. "torch" is torch's own module; pruned weights are zeros in it, which cost what the others
    cost. "sparse" is a `Wavefront`: all layers as one sparse matrix, which costs what its weights cost. On the CPU it is faster
    at R = 0.25 and below (benchmarks/cell_speed.py). Both begin with the same values. They compute the same but for rounding.

    Raises ConfigError for an unknown `core`, unless exactly one of `n_weights` and `hidden_size` is given, and for n_weights
    with an embedding or with several layers, because it does not say how to divide them.
    """

    def __init__(
        self,
        kind: type[torch.nn.Module],
        hidden_from: Callable[[int, int, int], int],
        n_inputs: int,
        n_outputs: int,
        n_weights: int | None,
        hidden_size: int | None,
        generator: torch.Generator | None,
        embedding: int | None = None,
        core: str = "torch",
        cell: str = "",
        **options: Any,
    ) -> None:
        super().__init__(n_inputs)
        if core not in (known := get_args(Core)):
            raise ConfigError(f"core={core}: there is no such core{near(str(core), known)}")
        num_layers = options.get("num_layers", 1)
        whole("num_layers", num_layers)
        if embedding is not None:
            whole("embedding", embedding)

        def find(n_weights: int) -> int:
            if num_layers > 1 or embedding is not None:
                raise ConfigError(
                    f"num_layers={num_layers}, embedding={embedding}: n_weights fixes the size of one layer, with "
                    "no embedding; give hidden_size and n_weights=null, e.g. hidden_size=50 n_weights=null"
                )
            return hidden_from(n_inputs, n_outputs, n_weights)

        hidden = self.hidden_size = given_or_found("hidden_size", hidden_size, n_weights, find)
        whole("hidden_size", hidden)
        self.units = hidden * num_layers
        bound = 1 / math.sqrt(hidden)
        self.embedding = None if embedding is None else normal(embedding, n_inputs, generator)
        self.core = drawn(kind, embedding or n_inputs, hidden, bound=bound, generator=generator, **options)
        if core == "sparse" and generator is not None:
            self.core = as_wavefront(cast(torch.nn.RNNBase, self.core), cell)
        self.readout = torch.nn.Identity() if "proj_size" in options else linear(hidden, n_outputs, generator)

    def size(self, steps: int) -> dict[str, float]:
        """As in `Model`; "depth" is the hidden size."""
        return {**super().size(steps), "depth": self.hidden_size}

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        """The matrices that read the input or the state; not the readout and not the LSTM's projection."""
        named = ((re.fullmatch(r"weight_(ih|hh)_l(\d+)", name), matrix) for name, matrix in self.core.named_parameters())
        return [(int(name[2]), {"ih": "i2h", "hh": "h2h"}[name[1]], matrix) for name, matrix in named if name]

    def weights(self) -> list[Weights]:
        """As in `Model`: of the matrices that read the input or the state."""
        return self.core.weights() if isinstance(self.core, Wavefront) else super().weights()

    def keep(self, kept: Sequence[Tensor]) -> None:
        """As in `Model`. A sparse core no longer stores what is pruned."""
        if isinstance(self.core, Wavefront):
            self.core.keep(kept)
        else:
            super().keep(kept)

    def forward(self, x: Tensor) -> Tensor:
        if self.embedding is not None:
            x = torch.nn.functional.linear(x, self.embedding)  # (B, T, I) -> (B, T, E)
        states = self.core(x)  # (B, T, I or E) -> (B, T, H); of the projected LSTM (B, T, O)
        return self.readout(states if isinstance(states, Tensor) else states[0])  # (B, T, O)


@torch.no_grad()
def as_wavefront(core: torch.nn.RNNBase, cell: str) -> Wavefront:
    """A stack of torch's recurrent layers as one sparse matrix with all its weights, which computes the same states."""
    hidden, like = core.hidden_size, core.get_parameter("weight_ih_l0")
    reads = [core.input_size] + [hidden] * (core.num_layers - 1)  # how much each layer reads
    links = [Link(k - 1, k, torch.ones(hidden, n, dtype=torch.bool)) for k, n in enumerate(reads)]
    stack = Wavefront([hidden] * core.num_layers, links, cell, torch.Generator(), core.input_size).to(like)
    matrix = like.new_zeros(stack.rows, stack.units, stack.width)
    for k, n in enumerate(reads):
        mine = slice(k * hidden, (k + 1) * hidden)
        left, own = (stack.y + (k - 1) * hidden if k else 2), stack.h + mine.start  # columns: 1, 1, e, y, h
        parts = [getattr(core, f"{name}_l{k}").chunk(len(stack.cell.gates)) for name in PARTS]
        for (by_input, by_state), w, u, b, c in zip(stack.cell.gates, *parts, strict=True):
            matrix[by_input, mine, left : left + n], matrix[by_input, mine, 0] = w, b
            matrix[by_state, mine, own : own + hidden], matrix[by_state, mine, 1] = u, c
    stack.map.values.copy_(matrix.flatten()[stack.map.entries()[0]])
    return stack


class LSTM(Recurrent):
    """torch.nn.LSTM whose output is a projection of its state, with H = hidden_size cells.

    The projection is also fed back: each step reads [x; y], and N = H (4I + 5O + 8). With `projection=False` the state itself
    is fed back, and a linear readout gives the outputs.

    Source: Hershey 2023, 2.1.6; at I = 2500, O = 10, H = 130 its 1,307,540 weights. Without projection Darji 2022, 5.1.
    Initialised uniform in ±1/√H, as torch does; `num_layers`, `embedding` and `core` as in `Recurrent`.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state, O outputs, N weights.

    Raises ConfigError as `Recurrent` does, unless H exceeds the O of a projection, and for a sparse core with a projection.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_weights: WeightCount | None = None,
        hidden_size: Units | None = None,
        projection: bool = True,
        num_layers: Layers = 1,
        embedding: Units | None = None,
        core: Core = "torch",
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        if projection and hidden_size is not None and hidden_size <= n_outputs:
            raise ConfigError(
                f"hidden_size={hidden_size}: an LSTM's hidden size must exceed its {n_outputs} outputs; "
                f"give hidden_size={n_outputs + 1} or more"
            )
        if projection and core == "sparse":
            raise ConfigError("core=sparse: it knows no projection; set projection=false, or core=torch")
        sizes = (n_inputs, n_outputs, n_weights, hidden_size)
        hidden_from = lstm_hidden if projection else partial(rnn_hidden, gates=4)
        options: dict[str, Any] = {"proj_size": n_outputs} if projection else {}
        options |= {"num_layers": num_layers, "batch_first": True}
        super().__init__(torch.nn.LSTM, hidden_from, *sizes, generator, embedding, core, "lstm", **options)

    def forward(self, x: Tensor) -> Tensor:
        with warnings.catch_warnings():  # on the CPU torch warns that it takes its default kernel here: it's as fast
            warnings.filterwarnings("ignore", message="LSTM with projections")
            return super().forward(x)


class RNN(Recurrent):
    """torch.nn.RNN (Elman 1990) with a linear readout: h ← σ(W x + U h + b), y = V h + c; σ is tanh or ReLU.

    Initialised uniform in ±1/√H, as torch does; `num_layers`, `embedding` and `core` as in `Recurrent`.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state, O outputs.

    Raises ConfigError as `Recurrent`, and for an unknown `nonlinearity`.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_weights: WeightCount | None = None,
        hidden_size: Units | None = None,
        nonlinearity: str = "tanh",
        num_layers: Layers = 1,
        embedding: Units | None = None,
        core: Core = "torch",
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ConfigError(
                f"nonlinearity={nonlinearity}: there is no such nonlinearity{near(str(nonlinearity), NONLINEARITIES)}"
            )
        sizes = (n_inputs, n_outputs, n_weights, hidden_size)
        options: dict[str, Any] = {"nonlinearity": nonlinearity, "num_layers": num_layers, "batch_first": True}
        super().__init__(torch.nn.RNN, rnn_hidden, *sizes, generator, embedding, core, nonlinearity, **options)


class GRU(Recurrent):
    """torch.nn.GRU (Cho et al. 2014) with a linear readout.

    Initialised uniform in ±1/√H, as torch does; `num_layers`, `embedding` and `core` as in `Recurrent`.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state, O outputs.

    Raises ConfigError as `Recurrent`.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_weights: WeightCount | None = None,
        hidden_size: Units | None = None,
        num_layers: Layers = 1,
        embedding: Units | None = None,
        core: Core = "torch",
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        sizes = (n_inputs, n_outputs, n_weights, hidden_size)
        options = {"num_layers": num_layers, "batch_first": True}
        super().__init__(torch.nn.GRU, gru_hidden, *sizes, generator, embedding, core, "gru", **options)

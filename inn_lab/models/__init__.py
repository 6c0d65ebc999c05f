"""The models. Each maps (B, T, I) to (B, T, O): B sequences of T steps, I inputs and O outputs a step."""

from inn_lab.models.blocks import Blocks
from inn_lab.models.grouped import by_column, by_diagonal, represented
from inn_lab.models.implicit import fix
from inn_lab.models.inn import INN
from inn_lab.models.layered_inn import LayeredINN
from inn_lab.models.mlp import MLP
from inn_lab.models.random_graph import RandomGraph
from inn_lab.models.recurrent import GRU, LSTM, RNN
from inn_lab.models.residual import ResNet, Wormhole
from inn_lab.models.sequential2d import Sequential2D
from inn_lab.models.settled_inn import SettledINN
from inn_lab.models.settled_mlp import SettledMLP
from inn_lab.models.sru import SRU

__all__ = [
    "GRU",
    "INN",
    "LSTM",
    "MLP",
    "RNN",
    "SRU",
    "Blocks",
    "LayeredINN",
    "RandomGraph",
    "ResNet",
    "Sequential2D",
    "SettledINN",
    "SettledMLP",
    "Wormhole",
    "by_column",
    "by_diagonal",
    "fix",
    "represented",
]

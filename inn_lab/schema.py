"""The schema of the configuration, and its resolver.

Each YAML in conf/ starts from a dataclass here (its `defaults:` line says which), so an unknown key or a value of the wrong
type is an error wherever it stands: on the command line, in a group's YAML, in an experiment.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, IntegerNode, OmegaConf


@dataclass
class Config:
    """The root. A group's node is typed by the YAML that is chosen for it."""

    R: float | None = MISSING
    n_weights: int | None = MISSING
    depth: int | None = MISSING
    aspect_ratio: float | None = MISSING
    lr: float = MISSING
    seed: int = MISSING
    seq_len: int = MISSING
    outputs: str = MISSING
    start_from: str | None = MISSING
    resume: bool | str = MISSING
    source: Any = MISSING
    model: Any = MISSING
    data: Any = MISSING
    objective: Any = MISSING
    study: Any = MISSING
    pruning: Any = None
    trainer: Any = MISSING
    scale: Any = MISSING


@dataclass
class Source:
    name: str = MISSING
    root: str | None = MISSING
    image_size: int = MISSING
    mean: float = MISSING
    std: float = MISSING


@dataclass
class Sized:
    """Keys of every data group: the class that is built, the numbers of examples and the batch size."""

    _target_: str = MISSING
    n_train: int = MISSING
    n_val: int = MISSING
    n_test: int = MISSING
    batch_size: int = MISSING


@dataclass
class ImageData(Sized):
    """Of data groups that are made of a source's images."""

    redraw: bool = MISSING
    probability: float = MISSING


@dataclass
class AnomalyData(ImageData):
    seq_len: int = MISSING
    flag: bool = MISSING


@dataclass
class ClassificationData(ImageData):
    transforms: str = MISSING
    iterations: int = MISSING


@dataclass
class ReberData(Sized):
    path: str | None = MISSING


@dataclass
class SineData(Sized):
    cycles: float = MISSING


@dataclass
class AnomalyObjective:
    _target_: str = MISSING
    index: bool = MISSING
    flag: bool = MISSING


@dataclass
class ClassificationObjective:
    _target_: str = MISSING
    at: str = MISSING


@dataclass
class StringObjective:
    _target_: str = MISSING
    readout: str = MISSING


@dataclass
class RegressionObjective:
    _target_: str = MISSING
    within: float = MISSING


@dataclass
class BlockMatrix:
    _target_: str = MISSING
    bias: bool = MISSING
    init_bias: str = MISSING
    init: str = MISSING
    init_std: float = MISSING
    linear: str = MISSING


@dataclass
class INN(BlockMatrix):
    n_weights: int | None = MISSING
    R: float | None = MISSING
    depth: int | None = MISSING
    aspect_ratio: float | None = MISSING
    draw: str = MISSING


@dataclass
class Tolerances:
    """Of models that iterate until they settle."""

    rtol: float = MISSING
    atol: float = MISSING
    max_iter: int = MISSING
    anderson: int = MISSING


@dataclass
class SettledINN(Tolerances, INN):
    pass


@dataclass
class LayeredINN(BlockMatrix):
    hidden: list[int] = MISSING
    component: int = MISSING
    swap: float = MISSING


@dataclass
class Grouped(BlockMatrix):
    hidden: list[int] = MISSING
    R: float = MISSING


@dataclass
class ByColumn(Grouped):
    R_input: float | None = MISSING
    R_hidden: float | None = MISSING
    R_output: float | None = MISSING


@dataclass
class ByDiagonal(Grouped):
    R_below: float | None = MISSING
    R_on: float | None = MISSING
    R_above: float | None = MISSING


@dataclass
class Represented(Grouped):
    representation: str = MISSING


@dataclass
class Recurrent:
    _target_: str = MISSING
    n_weights: int | None = MISSING
    hidden_size: int | None = MISSING


@dataclass
class Stacked(Recurrent):
    num_layers: int = MISSING
    embedding: int | None = MISSING


@dataclass
class RNN(Stacked):
    nonlinearity: str = MISSING


@dataclass
class LSTM(Stacked):
    projection: bool = MISSING


@dataclass
class MLP:
    _target_: str = MISSING
    n_weights: int | None = MISSING
    hidden: list[int] | None = MISSING


@dataclass
class RandomGraph:
    _target_: str = MISSING
    graph: str | None = MISSING
    number: int = MISSING
    path: str | None = MISSING
    cell: str = MISSING


@dataclass
class ResNet:
    _target_: str = MISSING
    width: int = MISSING
    blocks: list[int] = MISSING


@dataclass
class Wormhole(Tolerances, ResNet):
    pass


@dataclass
class SettledMLP(Tolerances):
    _target_: str = MISSING
    hidden: int = MISSING
    feedback: bool = MISSING


@dataclass
class Study:
    """A study. `takes`: the schemas that its model and data must have, and the message if they do not."""

    @staticmethod
    def numbers(study: DictConfig) -> dict[str, float]:
        """How many numbers it holds at least beside the model and the data, by the key that they come from."""
        return {}

    takes = {
        "model": (object, "it works on a model, and there is none; take another study or another experiment"),
        "data": (object, "it works on data, and there are none; take another study or another experiment"),
    }
    _target_: str = MISSING


@dataclass
class Prune(Study):
    """Of the study that cuts what `pruning` says."""


@dataclass
class CountFlops(Study):
    takes = Study.takes | {
        "model": (
            ResNet,
            "it counts torch's own operations, which only residual networks use; take model=resnet or model=wormhole",
        )
    }


@dataclass
class ProbeIterations(Study):
    takes = {
        "model": (BlockMatrix, "this model is not iterated; take model=inn or model=layered_inn"),
        "data": (ClassificationData, "iterating on takes a still image; take data=mnist_classification"),
    }
    iterations: int = MISSING


@dataclass
class ProbeSettling(Study):
    takes = Study.takes | {"data": (ClassificationData, "it distorts still images; take data=mnist_classification")}


@dataclass
class Gallery(Study):
    takes = {"data": (ImageData, "these data are no images; take data=mnist_classification, for example")}
    examples: int = MISSING


@dataclass
class Strings(Study):
    takes = {"data": (ReberData, "these data are no strings; take data=reber")}


@dataclass
class SRUEquivalence(Study):
    takes = {}
    sizes: list[int] = MISSING
    steps: int = MISSING
    sequences: int = MISSING
    counts: list[int] = MISSING

    @staticmethod
    def numbers(study: DictConfig) -> dict[str, float]:
        return {"study.sequences": 2 * 4 * study.steps * study.sequences * max(study.sizes)}  # x, h, c and r, in float64


@dataclass
class Timed(Study):
    """Of studies that time the machine, which a job then must have for itself."""

    repeats: int = MISSING
    seconds: float = MISSING


@dataclass
class TimeProduct(Timed):
    takes = {}
    R: float | None = MISSING
    depth: int | None = MISSING
    columns: int = MISSING

    @staticmethod
    def numbers(study: DictConfig) -> dict[str, float]:
        return {
            "study.depth": 3 * study.depth**2 + 8 * study.R * study.depth**2,  # W and its derivative; what is sparse
            "study.columns": 4 * study.depth * study.columns,
        }


@dataclass
class Pruning:
    target: str = MISSING
    scope: str = MISSING
    amount: float = MISSING
    epochs: int = MISSING


@dataclass
class Trainer:
    accelerator: str = MISSING
    device: int = MISSING
    max_epochs: int = MISSING
    max_time: float | None = MISSING
    checkpoint_s: float = MISSING
    gradient_clip_val: float | None = MISSING
    progress: bool = MISSING
    keep_weights: bool = MISSING


@dataclass
class Scale:
    name: str = MISSING
    weights: float = MISSING


SCHEMAS = {
    "schema": Config,
    "source_schema": Source,
    "anomaly_schema": AnomalyData,
    "classification_schema": ClassificationData,
    "reber_schema": ReberData,
    "sine_schema": SineData,
    "anomaly_objective_schema": AnomalyObjective,
    "classification_objective_schema": ClassificationObjective,
    "string_objective_schema": StringObjective,
    "regression_objective_schema": RegressionObjective,
    "inn_schema": INN,
    "settled_inn_schema": SettledINN,
    "layered_inn_schema": LayeredINN,
    "by_column_schema": ByColumn,
    "by_diagonal_schema": ByDiagonal,
    "represented_schema": Represented,
    "recurrent_schema": Recurrent,
    "gru_schema": Stacked,
    "rnn_schema": RNN,
    "lstm_schema": LSTM,
    "mlp_schema": MLP,
    "random_graph_schema": RandomGraph,
    "resnet_schema": ResNet,
    "wormhole_schema": Wormhole,
    "settled_mlp_schema": SettledMLP,
    "study_schema": Study,
    "prune_schema": Prune,
    "count_flops_schema": CountFlops,
    "probe_iterations_schema": ProbeIterations,
    "probe_settling_schema": ProbeSettling,
    "gallery_schema": Gallery,
    "strings_schema": Strings,
    "sru_equivalence_schema": SRUEquivalence,
    "time_step_schema": Timed,
    "time_product_schema": TimeProduct,
    "pruning_schema": Pruning,
    "trainer_schema": Trainer,
    "scale_schema": Scale,
}


WHOLE = IntegerNode._validate_and_convert_impl


def whole(node: IntegerNode, value: Any) -> int:
    """n_weights=1e5 is a whole number too. OmegaConf has no hook for it, and it shall hold wherever a value is given."""
    return WHOLE(node, int(value) if isinstance(value, float) and value.is_integer() else value)


def register() -> None:
    """Makes the schemas and resolvers known to Hydra; doing it twice is harmless."""
    IntegerNode._validate_and_convert_impl = whole  # type: ignore[method-assign,assignment]  # see `whole`
    for name, node in SCHEMAS.items():
        ConfigStore.instance().store(name=name, node=node)
    OmegaConf.register_new_resolver("scaled", lambda n, factor: None if n is None else max(1, round(n * factor)), replace=True)

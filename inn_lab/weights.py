"""The weights of a trained network as a file, and what one has to know to build the network again.

The format is safetensors: tensors and a text, nothing that a reader would execute. The text names the classes of the model and
the data, as a configuration does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from inn_lab import __version__
from inn_lab.errors import ConfigError
from inn_lab.identity import NOT_SCIENCE, identity
from inn_lab.linear import Masked
from inn_lab.models.base import Model
from inn_lab.records import WEIGHTS, Record

MOST = 100_000_000  # bytes: weights that take more are not kept
SHOWN = 3  # misfits that a message lists at most
KEY = "inn_lab"  # of the text in the file


@dataclass(frozen=True)
class About:
    """The text in a file of weights.

    lab, commit, code: the version of the lab that wrote it, the name of the code, and its digest (`identity.Code`).
    experiment, identity: of the job that the weights are of.
    n_inputs, n_outputs, image: the sizes that the model was built with; of data that are no images, image is None.
    config: the resolved configuration, without where and on what the job ran (`identity.NOT_SCIENCE`).
    masked: {the name of a mask: (the name of its tensor, the shape of both)}. Of these the file has the mask as bits and the
        entries that it leaves.
    """

    lab: str
    commit: str
    code: str
    experiment: str
    identity: str
    n_inputs: int
    n_outputs: int
    image: Sequence[int] | None
    config: Any
    masked: dict[str, tuple[str, Sequence[int]]]


def about(model: torch.nn.Module, cfg: DictConfig, data: Any, record: Record) -> About:
    """What a file says of a job's model."""
    made, state = record.about, model.state_dict()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    for key in NOT_SCIENCE:
        group, _, name = key.rpartition(".")
        (config[group] if group else config).pop(name, None)
    return About(
        lab=__version__,
        commit=str(made.get("commit")),
        code=str(made.get("code")),
        experiment=str(made.get("experiment")),
        identity=identity(cfg),
        n_inputs=data.n_inputs,
        n_outputs=data.n_outputs,
        image=getattr(data, "image", None),
        config=config,
        masked={mask: (tensor, list(state[mask].shape)) for mask, tensor in masks_of(model).items()},
    )


def masks_of(model: torch.nn.Module) -> dict[str, str]:
    """The masks in a model's state, each with the tensor that it is for: of masked matrices, and of pruned weights."""
    found = {}
    for name, module in model.named_modules():
        at = f"{name}." if name else ""
        if isinstance(module, Masked):
            found[f"{at}mask"] = f"{at}weight"
        elif isinstance(module, Model):
            found |= {f"{at}masks.{place}": at + place.replace("/", ".") for place, _ in module.masks.named_buffers()}
    return found


def packed(model: torch.nn.Module, of: About) -> bytes:
    """The file. The same weights of the same job are the same bytes. Raises ConfigError for more than `MOST`, and for what the
    format does not hold."""
    from safetensors import SafetensorError
    from safetensors.torch import save

    state = model.state_dict()
    try:
        state = {name: tensor.detach().cpu() for name, tensor in state.items()}
        for mask, (tensor, _) in of.masked.items():
            left = state[mask] != 0
            state[mask], state[tensor] = torch.from_numpy(np.packbits(left.numpy())), state[tensor][left]
        if (size := sum(tensor.nbytes for tensor in state.values())) > MOST:
            raise ConfigError(f"they take {size / 1e6:.0f} MB, and at most {MOST / 1e6:.0f} MB are kept")
        whole = {name: tensor.contiguous().clone() for name, tensor in state.items()}  # tied tensors are written twice
        return save(whole, {KEY: json.dumps(asdict(of), sort_keys=True)})
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:  # no tensors, or not of known types
        raise ConfigError(f"the format does not hold them ({' '.join(str(error).split())})") from error


def unpacked(state: dict[str, Tensor], of: About) -> dict[str, Tensor]:
    """The state that was packed."""
    whole = dict(state)
    for mask, (tensor, shape) in of.masked.items():
        bits = np.unpackbits(state[mask].numpy(), count=int(np.prod(shape)))
        left = torch.from_numpy(bits).bool().view(*shape)
        whole[mask], whole[tensor] = left, state[tensor].new_zeros(*shape).masked_scatter(left, state[tensor])
    return whole


def fill(model: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives a model the weights of a state, with its masks. Raises ConfigError for names or shapes that are not the model's."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        _, *lines = (" ".join(line.split()) for line in str(error).splitlines())
        more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise ConfigError(f"the weights do not fit {type(model).__name__}: {' '.join(lines[:SHOWN])}{more}") from error


def read(path: Path) -> tuple[dict[str, Tensor], About]:
    """The state of a model, and what the file says of it. Raises ConfigError for a file that is none of the lab's."""
    from safetensors import SafetensorError, safe_open

    ways = f"give a run's {WEIGHTS}, as the lab has written it"
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise ConfigError(f"{path}: the lab has not written this file; {ways}")
            of = About(**json.loads(text))
            if not all(isinstance(table, dict) for table in (of.config, of.masked)):
                raise TypeError("its text is damaged")
            return unpacked({name: file.get_tensor(name) for name in file.keys()}, of), of  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{path}: it cannot be read ({' '.join(str(error).split())}); {ways}") from error

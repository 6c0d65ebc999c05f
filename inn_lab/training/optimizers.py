"""Optimizers: functions of a model's parameters and the learning rate, which is the root's `lr`. `optimizer=` names one."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from inn_lab.errors import ConfigError
from inn_lab.models.base import Model
from inn_lab.ranges import BIG, Range, real

_MOMENTUM = real(lambda v: 0 <= v < 1, "a share of the past, in [0, 1)", 0.9)
Momentum = Annotated[float, _MOMENTUM]
Betas = Annotated[
    Sequence[float],
    Range(lambda v: len(v) == 2 and all(map(_MOMENTUM.allowed, v)), "two shares of the past, each in [0, 1)", "[0.9,0.999]"),
]
Eps = Annotated[float, real(lambda v: 0 < v <= BIG, "a small positive number", "1e-8")]
Decay = Annotated[float, real(lambda v: 0 <= v <= BIG, "the weights' share in the gradient, from 0 to 1e9", 0.01)]


def adam(params: Iterable[Parameter], lr: float, *, betas: Betas, eps: Eps, weight_decay: Decay) -> Optimizer:
    """Adam (Kingma and Ba 2015, Algorithm 1). `weight_decay` times the weights is added to the gradient."""
    return torch.optim.Adam(params, lr=lr, betas=_two(betas), eps=eps, weight_decay=weight_decay, fused=True)


def adamw(params: Iterable[Parameter], lr: float, *, betas: Betas, eps: Eps, weight_decay: Decay) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2). Each step takes lr · `weight_decay` times the weights from them."""
    return torch.optim.AdamW(params, lr=lr, betas=_two(betas), eps=eps, weight_decay=weight_decay, fused=True)


def sgd(params: Iterable[Parameter], lr: float, *, momentum: Momentum, nesterov: bool, weight_decay: Decay) -> Optimizer:
    """Gradient descent with momentum, v = momentum · v + gradient, weights −= lr · v; with `nesterov` weights −= lr ·
    (gradient + momentum · v) (Sutskever et al. 2013, as torch writes it). `weight_decay` is as in `adam`.

    Raises ConfigError for nesterov without momentum.
    """
    if nesterov and not momentum:
        raise ConfigError("nesterov=true: it looks ahead along the momentum, and there is none; set momentum=0.9")
    return torch.optim.SGD(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True)


def scaled(optimizer: Optimizer, model: torch.nn.Module) -> Optimizer:
    """The optimizer; an entry to which `Model.lr_factors` gives a factor then has the learning rate factor · lr.

    An optimizer of this module moves an entry by lr times what does not depend on lr, so the entry's move is multiplied after
    each step. It costs a copy of the parameters that have factors, and nothing if none has.
    """
    factors = model.lr_factors() if isinstance(model, Model) else []
    before: list[Tensor] = []

    def keep(*_: Any) -> None:
        before[:] = [parameter.detach().clone() for parameter, _ in factors]

    @torch.no_grad()
    def scale(*_: Any) -> None:
        for old, (parameter, factor) in zip(before, factors, strict=True):
            parameter.copy_(old.lerp(parameter, factor))

    if factors:
        optimizer.register_step_pre_hook(keep)
        optimizer.register_step_post_hook(scale)
    return optimizer


def on_device(optimizer: Optimizer, device: torch.device) -> None:
    """Lets a fused optimizer, as those of this module, have its learning rate on a GPU, where a replayed step reads it."""
    for group in optimizer.param_groups:
        group["lr"] = float(group["lr"])  # a checkpoint's may be a tensor
        if group.get("fused"):
            if device.type != "cpu":
                group["lr"] = torch.tensor(group["lr"], device=device)
            if "capturable" in group:
                group["capturable"] = device.type != "cpu"


def set_rate(group: dict[str, Any], lr: float) -> None:
    """Sets the learning rate, in place where it is on a GPU."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def _two(betas: Sequence[float]) -> tuple[float, float]:
    first, second = betas
    return first, second

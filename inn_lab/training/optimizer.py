"""The one optimizer, with a learning rate for each entry where a model asks for it."""

from typing import Any

import torch
from torch import Tensor

from inn_lab.models.base import Model


def adam(model: torch.nn.Module, lr: float) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015). An entry to which `Model.lr_factors` gives a factor has the learning rate factor · lr.

    Adam moves an entry by lr · m̂ / (√v̂ + ε), and m̂ and v̂ do not depend on lr. So the entry's move is multiplied, after each
    step. It costs a copy of the parameters that have factors, and nothing if none has.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    scaled = model.lr_factors() if isinstance(model, Model) else []
    before: list[Tensor] = []

    def keep(*_: Any) -> None:
        before[:] = [parameter.detach().clone() for parameter, _ in scaled]

    @torch.no_grad()
    def scale(*_: Any) -> None:
        for old, (parameter, factors) in zip(before, scaled, strict=True):
            parameter.copy_(old.lerp(parameter, factors))

    if scaled:
        optimizer.register_step_pre_hook(keep)
        optimizer.register_step_post_hook(scale)
    return optimizer

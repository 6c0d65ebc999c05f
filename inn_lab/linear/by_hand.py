"""What derivatives that are written by hand have in common."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def first_order(what: str, instead: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A derivative by hand, which has no derivative: it refuses create_graph=True.

    torch's `once_differentiable` does so only where what comes from above has a derivative itself, and counts the rest as
    constant: of the gradient of (W x).sum(), all of it.
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(backward)
        def refusing(ctx: Any, grad: Tensor) -> Any:
            if torch.is_grad_enabled():
                raise RuntimeError(f"{what} has no second derivative; leave out create_graph=True{instead}")
            return backward(ctx, grad)

        return refusing

    return decorate

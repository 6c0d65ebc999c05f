"""Shared by the hand-written derivatives: they refuse to be differentiated again."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def first_order(what: str, instead: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a hand-written backward pass, which has no derivative itself: with create_graph=True it raises RuntimeError.

    torch's `once_differentiable` raises only if the incoming gradient needs a gradient. Otherwise it treats the result as a
    constant, for example the gradient of (W x).sum(), and the second derivative would silently be wrong.
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(backward)
        def refusing(ctx: Any, grad: Tensor) -> Any:
            if torch.is_grad_enabled():
                raise RuntimeError(f"{what} has no second derivative; leave out create_graph=True{instead}")
            return backward(ctx, grad)

        return refusing

    return decorate

"""Magnitude pruning: the smallest weights go, and stay away."""

import torch
from torch import Tensor

from inn_lab.errors import ConfigError
from inn_lab.linear.gradient import largest, magnitudes
from inn_lab.models.base import Model

TARGETS = {"both": ("i2h", "h2h"), "i2h": ("i2h",), "h2h": ("h2h",)}


def prune(model: Model, target: str, scope: str, amount: float) -> int:
    """Sets the round(amount · n) weights of smallest magnitude to zero, for good; returns how many.

    Of a model that was pruned before n counts what is left: two cuts of 0.5 leave a quarter.

    Source: Darji 2022, 3.6.1 and 5.2. D cuts what lies below a percentile of the magnitudes, which at 100 % leaves the largest
    one; here none is left.

    Args:
        target: which weights: those that read a layer's input ("i2h"), its state ("h2h"), or "both". Biases and embeddings
            stay, and what only reads a recurrent network's state; a layered network's last layer is a layer like the others.
        scope: the smallest of all layers ("global": D's code and its results) or as many in each layer ("layer": D's text).

    Raises ConfigError for a model that has no such weights, or none left.
    """
    weights = model.weights()
    chosen = [w for w in weights if w.reads in TARGETS[target] and len(w.values)]
    if not chosen:
        raise ConfigError(f"pruning.target={target}: {type(model).__name__} has no such weights; take another target or model")
    groups = [chosen] if scope == "global" else [[w for w in chosen if w.layer == n] for n in sorted({w.layer for w in chosen})]
    kept = {id(w): torch.ones_like(w.values, dtype=torch.bool) for w in weights}
    gone = 0
    for group in groups:
        values = torch.cat([w.values for w in group])
        n = round(amount * len(values))
        masks = (~smallest(values, n)).split([len(w.values) for w in group])
        kept |= {id(w): mask for w, mask in zip(group, masks, strict=True)}
        gone += n
    model.keep([kept[id(w)] for w in weights])
    return gone


def smallest(values: Tensor, n: int) -> Tensor:
    """Which are the n of smallest magnitude, of equal ones the first: (m,) -> (m,), booleans."""
    return largest(-magnitudes(values), n)

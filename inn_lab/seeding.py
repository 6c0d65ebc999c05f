"""Random streams by name: all random numbers of the lab itself come from a `generator` with a name.

The global generators of torch, numpy and Python are seeded too, for a user's model, data or study that draws from them.
"""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def generator(seed: int, *stream: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """An independent random stream for each `seed` and name.

    `generator(0, "pattern")` and `generator(0, "train", 7)` (epoch 7) share nothing, and neither changes when another part of a
    run draws more or fewer numbers. The streams are spread by numpy's SeedSequence.
    """
    return torch.Generator(device=device).manual_seed(_spread(seed, *stream))


def seed_globals(seed: int, *stream: str | int) -> None:
    """Seeds the global generators of Python, numpy and torch, CUDA's too, with a stream of the `seed` and name."""
    state = _spread(seed, *stream)
    random.seed(state)
    np.random.seed(state % 2**32)
    torch.manual_seed(state)


@contextmanager
def aside(seed: int, *stream: str | int) -> Iterator[None]:
    """Inside, the global generators draw from another stream; afterwards they continue as if nothing had been drawn."""
    states = random_states()
    seed_globals(seed, *stream)
    try:
        yield
    finally:
        put_random_states(states)


def random_states() -> dict[str, Any]:
    """The states of all global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def put_random_states(states: dict[str, Any]) -> None:
    """Restores the states, for as many GPUs as there are: the machine that saved them may have had more or fewer."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    for number, state in zip(range(torch.cuda.device_count()), states["cuda"] or (), strict=False):
        torch.cuda.set_rng_state(state, number)


def _spread(seed: int, *stream: str | int) -> int:
    """A seed of 63 bits for a seed and a name."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in stream]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)[0]) >> 1

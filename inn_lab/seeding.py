"""Random streams: every draw in the lab comes from a generator named here, never from torch's global state."""

import zlib

import numpy as np
import torch


def generator(seed: int, *stream: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """An independent random stream of its own for each `seed` and name.

    `generator(0, "pattern")` and `generator(0, "train", 7)` (epoch 7) share nothing, and neither changes when another part of a
    run draws more or fewer numbers. The streams are spread by numpy's SeedSequence.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in stream]
    state = np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state) >> 1)

"""Examples of the data, as a table of pictures."""

from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor

from inn_lab.config import NONE, Terms
from inn_lab.data import ANOMALY, ImageSet, apply_mixed
from inn_lab.linear import is_still
from inn_lab.ranges import count
from inn_lab.seeding import generator
from inn_lab.studies import Job


@Terms(model=NONE, data=(ImageSet, "these data are no images; take data=mnist_classification, for example"))
def gallery(job: Job, examples: Annotated[int, count(1, 1000, 10)]) -> None:
    """Logs examples.csv: the first test examples, one row an image.

    Columns: `example`, `step`, `answer` (the class, or which step is the anomaly), `kind` and `pixels`, bytes in hexadecimal,
    plane by plane, row by row. Of still images there is one step. Sequences come with one image under each kind of transform
    more: `kind` names it, and `example` is −1.
    """
    shown: list[dict[str, Any]] = []
    for x, y in job.data.batches("test"):
        still = is_still(x)
        for sequence, answer in zip((x[:, :1] if still else x[:, :-1]).cpu(), y.tolist(), strict=True):  # not the blank
            example = len(shown) and shown[-1]["example"] + 1
            if example == examples:
                break
            pixels = sequence * job.data.std + job.data.mean
            shown += [
                {"example": example, "step": step, "answer": answer, "kind": "", "pixels": as_text(image)}
                for step, image in enumerate(pixels)
            ]
    if not still:
        shown += [
            {"example": -1, "step": step, "answer": -1, "kind": kind, "pixels": as_text(image)}
            for step, (kind, image) in enumerate(zip(ANOMALY, every_kind(job), strict=True))
        ]
    job.run.table("examples", pd.DataFrame(shown))


def every_kind(job: Job) -> Tensor:
    """The first test image under each of the sequences' transforms, (8, height, width) or (8, 3, height, width)."""
    pixels, _ = job.data.images("test")
    kinds = torch.arange(len(ANOMALY))
    return apply_mixed(pixels[:1], kinds, generator(job.cfg.seed, "gallery"), which=torch.zeros_like(kinds)).cpu()


def as_text(pixels: Tensor) -> str:
    """Pixels in [0, 1] as bytes, in hexadecimal."""
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy().tobytes().hex()

"""Train, then ask how long it takes each input to settle: do hard ones take longer?"""

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from inn_lab.config import Terms
from inn_lab.data import Classification
from inn_lab.data.transforms import apply_steps, normalise, perspective_transform
from inn_lab.models.implicit import Settled
from inn_lab.seeding import generator
from inn_lab.studies import ModelJob
from inn_lab.studies.train import train

SEVERITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # the distortion scales of perspective


@Terms(data=(Classification, "it distorts still images; take data=mnist_classification"))
def probe_settling(job: ModelJob) -> str:
    """Trains as `train` does, then logs `settling.csv`, a row for each test image under each severity of perspective.

    Columns: `severity`, `example`, `iterations`, `converged`, `loss`, `right`. The images are the test part's, before the
    data's own transforms.

    Source: Habiba and Pearlmutter 2021, 2: for some inputs a solution is there soon, for others much later.

    A model that is not iterated until it settles is only trained.
    """
    state = train(job)
    if state == "finished" and isinstance(job.model, Settled) and job.model.settlings:
        job.run.table("settling", probe(job, job.model))
    return state


@torch.no_grad()
def probe(job: ModelJob, model: Settled) -> pd.DataFrame:
    data = job.data
    images, y = (part.to(data.device) for part in data.images("test"))
    rows = []
    for severity in SEVERITIES:
        x = normalise(distort(images, severity, job.cfg.seed).flatten(1), data.mean, data.std)  # (B, I)
        logits = model.to(x.device)(x[:, None])[:, 0]  # (B, O)
        iterations, converged = model.took()
        columns = {
            "iterations": iterations,
            "converged": converged.int(),
            "loss": cross_entropy(logits, y, reduction="none"),
            "right": (logits.argmax(-1) == y).int(),
        }
        table = {name: values.tolist() for name, values in columns.items()}
        rows.append(pd.DataFrame({"severity": severity, "example": range(len(y)), **table}))
    return pd.concat(rows, ignore_index=True)


def distort(images: Tensor, severity: float, seed: int) -> Tensor:
    """The images in perspective, each with corners of its own; shapes as of `apply_steps`."""
    if severity == 0:
        return images
    return apply_steps(images, (perspective_transform(severity),), generator(seed, "severity"))

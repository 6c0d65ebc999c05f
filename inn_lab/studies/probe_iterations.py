"""Train, then ask how the answer and the state go on when the network is iterated less or more often than in training."""

from typing import Annotated, cast

import pandas as pd
import torch
from torch import Tensor

from inn_lab.config import Terms
from inn_lab.data import Classification
from inn_lab.models import Sequential2D
from inn_lab.ranges import count
from inn_lab.studies import ModelJob
from inn_lab.studies.train import train


@Terms(
    model=(Sequential2D, "this model is not iterated; take model=inn or model=layered_inn"),
    data=(Classification, "iterating on takes a still image; take data=mnist_classification"),
)
def probe_iterations(job: ModelJob, iterations: Annotated[int, count(2, 1000, 20)]) -> str:
    """Trains as `train` does, then logs `iterations.csv`: the test data after 1 … `iterations` iterations; see `probe`."""
    state = train(job)
    if state == "finished":
        model = cast(Sequential2D, job.model)  # its terms admit no other
        images = ((x[:, 0], y) for x, y in job.data.batches("test"))
        x, y = (torch.cat(part) for part in zip(*images, strict=True))  # (B, I), (B,)
        job.run.table("iterations", probe(model.to(x.device), x, y, iterations))
    return state


@torch.no_grad()
def probe(model: Sequential2D, x: Tensor, y: Tensor, iterations: int) -> pd.DataFrame:
    """A row for each iteration k, of images x (B, I) and classes y (B,), means over the images:

    `acc_end`, right answers after k iterations; `loss`, their cross entropy; `distance`, ‖h_k − h_{k−1}‖₂; `norm`, ‖h_k‖₂. In
    a fixed point the distance is 0; where it falls, iterating contracts.
    """
    states = model.iterate(x, iterations)  # (B, K, H)
    outputs = states[..., -model.n_outputs :]  # (B, K, O)
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
    loss = torch.nn.functional.cross_entropy(outputs.transpose(1, 2), y[:, None].expand(-1, iterations), reduction="none")
    columns = {
        "acc_end": (outputs.argmax(-1) == y[:, None]).float(),  # (B, K), as all of these
        "loss": loss,
        "distance": (states - before).norm(dim=2),
        "norm": states.norm(dim=2),
    }
    means = {name: values.mean(0).tolist() for name, values in columns.items()}
    return pd.DataFrame({"iteration": range(1, iterations + 1), **means})

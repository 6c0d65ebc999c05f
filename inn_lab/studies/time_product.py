"""How long a product of one matrix takes, held in each of several ways."""

import statistics
from collections.abc import Callable

import torch
from omegaconf import DictConfig
from torch import Tensor

from inn_lab import machine
from inn_lab.config import NONE, Terms
from inn_lab.linear import CSR, LowRank
from inn_lab.linear.csr import product
from inn_lab.linear.dense import Dense
from inn_lab.patterns import draw_exact
from inn_lab.ranges import Density, Many, Seconds, Units
from inn_lab.seeding import generator
from inn_lab.studies import Job
from inn_lab.studies.clock import WARM, times

Work = Callable[[], object]


def memory(study: DictConfig) -> dict[str, float]:
    """As `Terms.memory`: W and its derivative, and what is sparse; x and what is made of it."""
    matrices = 3 * study.depth**2 + 8 * study.R * study.depth**2
    return {"study.depth": matrices, "study.columns": 4 * study.depth * study.columns}


@Terms(model=NONE, data=NONE, timed=True, memory=memory)
def time_product(job: Job, R: Density, depth: Units, columns: Units, repeats: Many, seconds: Seconds) -> None:
    """Times W x for W (depth, depth) of density R and x (depth, columns), W held in each way, side by side.

    Logs, for each way, the median and the least of the times: `product_ms/WAY` and `product_ms_min/WAY` of the bare product,
    `layer_ms/WAY` and `layer_ms_min/WAY` of a layer's forward and backward pass (for W and for x). The job has no model and no
    data: W and x are drawn here.

    Source: Kale 2024, 3.1 (x a vector: `columns` = 1).
    """
    values: dict[str, float] = {}
    for name, works in zip(("product", "layer"), ways(depth, R, columns, job.cfg.seed, job.device), strict=True):
        for way, work in works.items():
            for _ in range(WARM):
                work()
            taken = times(work, repeats, seconds, job.device)
            values |= {f"{name}_ms/{way}": statistics.median(taken), f"{name}_ms_min/{way}": min(taken)}
    job.run.tag(**machine.tags(job.device))
    job.run.metrics(values)
    if job.cfg.trainer.progress:
        print(
            f"{job.title} · {', '.join(f'{k[11:]} {v:.3g} ms' for k, v in values.items() if k[:11] == 'product_ms/')}",
            flush=True,
        )


def ways(depth: int, R: float, columns: int, seed: int, device: torch.device) -> tuple[dict[str, Work], dict[str, Work]]:
    """The bare products by way, and the layers by way; the sparse ways and the dense one hold the same matrix.

    dense: all entries, most of them zeros. csr: the lab's. torch_csr, torch_csc: torch.sparse, bare; as a layer only CSR, whose
    values can be the parameter (the gradient of a CSC tensor is a dense matrix). low_rank: as many weights as R makes, in A B.
    """
    rng = generator(seed, "product")
    indices = draw_exact(depth, depth, max(1, round(R * depth**2)), rng)
    entries = torch.randn(len(indices), generator=rng)
    dense = Dense(depth, depth, indices, entries).to(device)
    csr = CSR(depth, depth, indices, entries).to(device)
    low_rank = LowRank.drawn(depth, depth, R, 1.0, rng).to(device)
    block, values = csr.blocks(depth)[0], csr.values.detach()
    torch_csr = block.tensor(values)
    torch_csc = torch_csr.to_sparse_csc()
    x = torch.randn(depth, columns, generator=rng).to(device)  # (n, C)
    g = torch.randn(columns, depth, generator=rng).to(device)  # (C, n): the derivative that comes from above

    def layer(forward: Callable[[Tensor], Tensor], parameters: list[Tensor]) -> Work:
        rows = x.T.contiguous().requires_grad_()  # (C, n)

        return lambda: torch.autograd.grad(forward(rows), [rows, *parameters], g)

    W, A, B = dense.weight.detach(), low_rank.A[0].detach(), low_rank.B["0"].detach()
    bare = {
        "dense": lambda: W @ x,
        "csr": lambda: product(block, values, x[None])[0],
        "torch_csr": lambda: torch_csr @ x,
        "torch_csc": lambda: torch_csc @ x,
        "low_rank": lambda: A @ (B @ x),
    }
    layers = {
        "dense": layer(dense, [dense.weight]),
        "csr": layer(csr, [csr.values]),
        "torch_csr": layer(lambda rows: (block.tensor(csr.values) @ rows.T).T, [csr.values]),
        "low_rank": layer(low_rank, [*low_rank.parameters()]),
    }
    return bare, layers

"""The SRU as an iterated block function: does it compute the SRU, and what do its matrices hold?"""

from typing import Annotated

import pandas as pd
import torch
from omegaconf import DictConfig
from torch import Tensor

from inn_lab.config import NONE, Terms
from inn_lab.linear import Sum, WeightMatrix
from inn_lab.linear.base import Patterned
from inn_lab.models import SRU
from inn_lab.models.sru import SRUCell
from inn_lab.models.sru_blocks import DIAGONALS, ENTRIES, STATE, STEPS, WEIGHTS, G, H, SRUBlocks, csc, start
from inn_lab.ranges import count as counted
from inn_lab.ranges import each
from inn_lab.seeding import generator
from inn_lab.studies import Job

EXACT = 1e-12  # as near two ways to compute the same number in float64 come
PRODUCTS = {"G": len(STEPS), "H": STEPS.count("F")}  # in the six steps; F(x̄) takes one with each


Counts = Annotated[list[int], each(counted(1, 3000, "1,10"), 100)]


def memory(study: DictConfig) -> dict[str, float]:
    """As `Terms.memory`: x, h, c and r, in float64."""
    return {"study.sequences": 2 * 4 * study.steps * study.sequences * max(study.sizes)}


@Terms(model=NONE, data=NONE, memory=memory)
def sru_equivalence(
    job: Job,
    sizes: Counts,
    steps: Annotated[int, counted(2, 10_000, 100, ", c is zero before the first")],
    sequences: Annotated[int, counted(1, 10_000, 8)],
    counts: Counts,
) -> None:
    """Logs `error/blocks`, `error/model` and `error/eq24`, the largest of `errors`, and five tables.

    errors.csv, steps.csv, counts.csv: see the functions of these names. blocks.csv: each block of G and H that is not zero.
    csc.csv: the same by compressed sparse columns, position by position.

    Source: Kale 2024, 2.6–2.8.1.
    """
    seed, device = job.cfg.seed, job.device
    made = [(*pair(n, seed, device), draw(n, steps, sequences, seed, device)) for n in sizes]
    tables = {
        "errors": pd.DataFrame([{"n": x.shape[2], "steps": steps, **errors(cell, blocks, x)} for cell, blocks, x in made]),
        "steps": held(*made[-1]),
        "counts": pd.DataFrame([count(SRUBlocks(n, generator=generator(seed, "counts"))) for n in counts]),
        "blocks": blocks_table(),
        "csc": csc_table(),
    }
    job.run.metrics({f"error/{way}": tables["errors"][way].max() for way in ("blocks", "model", "eq24")})
    for name, table in tables.items():
        job.run.table(name, table)


def pair(n: int, seed: int, device: torch.device) -> tuple[SRUCell, SRUBlocks]:
    """An SRU and the same as blocks, in float64."""
    cell = SRU(n, n, hidden_size=n, generator=generator(seed, "sru", n)).core.double()
    return cell.to(device), SRUBlocks(n, generator=generator(seed, "blocks", n)).double().take(cell).to(device)


def draw(n: int, steps: int, sequences: int, seed: int, device: torch.device) -> Tensor:
    """Inputs from N(0, 1), (B, T, n)."""
    return torch.randn(sequences, steps, n, generator=generator(seed, "x", n), dtype=torch.float64).to(device)


def equations(cell: SRUCell, x: Tensor, c: Tensor) -> dict[str, Tensor]:
    """One step of the SRU as it is written, from x_t and c_{t−1} (B, n): all that the blocks' state may hold, by name."""
    W, W_f, W_r = cell.weight.chunk(3)
    (v_f, v_r), (b_f, b_r) = cell.v, cell.b
    f = torch.sigmoid(x @ W_f.T + v_f * c + b_f)
    r = torch.sigmoid(x @ W_r.T + v_r * c + b_r)
    kept, new = f * c, (1 - f) * (x @ W.T)
    state, passed = kept + new, (1 - r) * x
    values = (x, c, torch.ones_like(x), f, 1 - f, x @ W.T, kept, new, state, r, 1 - r, r * state, passed, r * state + passed)
    return dict(zip(ENTRIES, values, strict=True)) | {"½cₜ₋₁": c / 2, "0": torch.zeros_like(x)}


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@torch.no_grad()
def errors(cell: SRUCell, blocks: SRUBlocks, x: Tensor) -> dict[str, float]:
    """The largest distance from the equations, over all h_t and c_t of the sequences x (B, T, n).

    `blocks`; `model`, the SRU as the lab trains it; `eq24`, blocks that start as Kale 2024, Eq. 24 is printed, with zeros in
    entry 1.
    """

    def printed(now: Tensor, c: Tensor) -> Tensor:
        state = start(now, c)
        state[:, STATE * blocks.n : (STATE + 1) * blocks.n] = 0
        return state

    c, states = x.new_zeros(x[:, 0].shape), []
    for now in x.unbind(1):
        values = equations(cell, now, c)
        c = values["c"]
        states.append(torch.stack([values["h"], c]))
    expected = torch.stack(states, dim=2)  # (2, B, T, n)
    ways = {"blocks": blocks(x), "model": cell(x), "eq24": blocks(x, printed)}
    return {way: distance(torch.stack(got), expected) for way, got in ways.items()}


@torch.no_grad()
def held(cell: SRUCell, blocks: SRUBlocks, x: Tensor) -> pd.DataFrame:
    """The content of each entry of the state at first (step 0) and after each of the six steps, for the last x_t of (B, T, n).

    `holds`: what of the equations it equals, "*" where nothing; `error`: its distance from what it is named after.
    """
    before = cell(x)[1][:, -2]
    values = equations(cell, x[:, -1], before)
    rows = []
    for step, state in enumerate(blocks.steps(start(x[:, -1], before))):
        for entry, (name, value) in enumerate(zip(ENTRIES, state.split(blocks.n, dim=1), strict=True)):
            equal = [other for other in values if distance(value, values[other]) <= EXACT]
            holds = name if name in equal else next(iter(equal), "*")
            error = distance(value, values[name])
            rows.append({"step": step, "entry": entry, "name": name, "holds": holds, "error": error})
    return pd.DataFrame(rows)


def count(blocks: SRUBlocks) -> dict[str, float]:
    """Counts of the two matrices' entries and of the six steps' multiplications.

    By matrix, `dense` and `csc`, the numbers that are stored: all entries; or each one's value and row, and where the columns
    begin, one more than there are columns. `nonzero` of `multiplications`, in all ten products; `one_product`, what a single
    one takes, by which Kale 2024 divides.
    """
    cells = (len(ENTRIES) * blocks.n) ** 2
    entries = {"G": stored(blocks.G), "H": stored(blocks.H)}
    nonzero = sum(times * entries[name] for name, times in PRODUCTS.items())
    total = sum(PRODUCTS.values()) * cells
    row = {"n": blocks.n, "nonzero": nonzero, "one_product": cells, "multiplications": total, "share": nonzero / total}
    for name, n in entries.items():
        row |= {f"{name}_entries": n, f"{name}_dense": cells, f"{name}_csc": 2 * n + len(ENTRIES) * blocks.n + 1}
    return row


def stored(matrix: WeightMatrix) -> int:
    """How many entries a sparse matrix holds, those that don't train as well."""
    parts = matrix.parts if isinstance(matrix, Sum) else [matrix]
    return sum(len(part.entries()[0]) for part in parts if isinstance(part, Patterned))


def blocks_table() -> pd.DataFrame:
    """Each block that is not zero: `matrix`, `row`, `column`, `symbol` and `kind` (identity, weights or diagonal)."""
    kinds = dict.fromkeys(WEIGHTS, "weights") | dict.fromkeys(DIAGONALS, "diagonal")
    return pd.DataFrame(
        [
            {"matrix": name, "row": i, "column": j, "symbol": symbol, "kind": kinds.get(symbol, "identity")}
            for name, symbols in (("G", G), ("H", H))
            for i, row in enumerate(symbols)
            for j, symbol in enumerate(row)
            if symbol != "."
        ]
    )


def csc_table() -> pd.DataFrame:
    """`matrix`, `array` (val, row_ind, col_ptr), `position`, `value`."""
    return pd.DataFrame(
        [
            {"matrix": name, "array": array, "position": position, "value": value}
            for name, symbols in (("G", G), ("H", H))
            for array, values in zip(("val", "row_ind", "col_ptr"), csc(symbols), strict=True)
            for position, value in enumerate(values)
        ]
    )

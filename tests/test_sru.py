"""The SRU: as the lab trains it, as two block matrices that are iterated (Kale 2024, 2.6–2.8.1), and as its equations."""

import pandas as pd
import pytest
import torch
from conftest import SMOKE
from hypothesis import given, settings
from hypothesis import strategies as st
from made import run, runs
from scipy.sparse import csc_matrix
from torch import Tensor

from experiments import sru_equivalence
from experiments.claims import OTHER_SCALE, claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW
from inn_lab.models import SRU
from inn_lab.models.sequential2d import Diagonal, Sequential2D, Trainable
from inn_lab.models.sru import SRUCell
from inn_lab.models.sru_blocks import ENTRIES, G, H, SRUBlocks, csc, start
from inn_lab.seeding import generator
from inn_lab.studies.sru_equivalence import blocks_table, count, csc_table, errors, held, pair

steady = settings(deadline=None, derandomize=True, max_examples=30)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64)


def slow(cell: SRUCell, x: Tensor) -> tuple[Tensor, Tensor]:
    """The SRU as it is written, unit by unit of time."""
    W, W_f, W_r, *W_h = cell.weight.split(cell.hidden_size)
    (v_f, v_r), (b_f, b_r) = cell.v, cell.b
    c, hs, cs = x.new_zeros(len(x), cell.hidden_size), [], []
    for t in range(x.shape[1]):
        f = torch.sigmoid(x[:, t] @ W_f.T + v_f * c + b_f)
        r = torch.sigmoid(x[:, t] @ W_r.T + v_r * c + b_r)
        c = f * c + (1 - f) * (x[:, t] @ W.T)
        hs.append(r * c + (1 - r) * (x[:, t] @ W_h[0].T if W_h else x[:, t]))
        cs.append(c)
    return torch.stack(hs, dim=1), torch.stack(cs, dim=1)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


# ------------------------------------------------------------------------------------------------ three ways to compute it


@steady
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40), st.booleans(), st.integers(0, 2**20))
def test_the_model_is_its_equations_in_value_and_every_gradient(inputs, hidden, steps, still, seed) -> None:
    model = SRU(inputs, 3, hidden_size=hidden, generator=generator(seed)).double()
    given = draw(2, 1 if still else steps, inputs, seed=seed).requires_grad_()
    x = given.expand(2, steps, inputs)
    got, expected = model.core(x), slow(model.core, x)
    assert max(map(distance, got, expected)) < 1e-13
    back = draw(2, steps, hidden, seed=1)
    parameters = [*model.core.parameters(), given]
    gradients = [torch.autograd.grad((h * back).sum() + (c * back).square().sum(), parameters) for h, c in (got, expected)]
    assert max(map(distance, *gradients)) < 1e-10
    assert torch.equal(model(x), model.readout(got[0]))


@settings(steady, max_examples=10)  # each takes a tenth of a second
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**20))
def test_the_blocks_are_the_sru_in_value_and_every_gradient(n, steps, seed) -> None:
    cell = SRU(n, n, hidden_size=n, generator=generator(seed)).core.double()
    blocks = SRUBlocks(n, generator=generator(seed)).double().take(cell)
    x = draw(2, steps, n, seed=seed)
    h, c = cell(x)
    got = blocks(x)
    assert max(map(distance, got, (h, c))) < 1e-12
    assert max(map(distance, got, slow(cell, x))) < 1e-12
    back = draw(2, steps, n, seed=1)
    gradients = torch.autograd.grad((h * back).sum() + c.square().sum(), [cell.weight, cell.v, cell.b])
    (gradient,) = torch.autograd.grad((got[0] * back).sum() + got[1].square().sum(), [blocks.G.parts[0].values])
    assert distance(gradient, blocks.entries(*gradients)) < 1e-10


def test_the_blocks_are_read_from_their_pictures() -> None:
    """G and H as dense matrices, block by block."""
    n = 3
    cell, blocks = pair(n, 0, torch.device("cpu"))
    W, W_f, W_r = cell.weight.split(n)
    named = {"I": torch.eye(n), "-I": -torch.eye(n), "W": W, "W_f": W_f, "W_r": W_r, ".": torch.zeros(n, n)}
    named |= dict(zip(("V_f", "V_r", "B_f", "B_r"), map(torch.diag, [*cell.v, *cell.b]), strict=True))
    for symbols, matrix in ((G, blocks.G), (H, blocks.H)):
        dense = torch.cat([torch.cat([named[s].double() for s in row], dim=1) for row in symbols])
        assert torch.equal(matrix(torch.eye(14 * n, dtype=torch.float64)).T, dense)


def test_blocks_take_only_an_sru_of_their_size() -> None:
    for cell in (SRU(4, 1, hidden_size=3, generator=generator(0)).core, SRU(4, 1, hidden_size=4, generator=generator(0)).core):
        with pytest.raises(ValueError, match=f"4 inputs and {cell.hidden_size} hidden units for blocks of 3"):
            SRUBlocks(3, generator=generator(0)).take(cell)


def test_a_diagonal_is_an_elementwise_product() -> None:
    """Kale 2024, Eq. 20, in any block matrix."""
    sizes = {"rows": [3], "columns": [3, 3], "activation": [("linear", 3)], "bias": False, "generator": generator(0)}
    model = Sequential2D(3, 3, grid=[[Diagonal(), None]], **sizes).double()
    x = draw(2, 4, 3)
    assert model.n_weights == 3
    assert torch.allclose(model(x), model.map.entries()[1] * x, atol=1e-15)
    with pytest.raises(ValueError, match="a block of 3 × 2 has no diagonal"):
        Sequential2D(2, 3, **{**sizes, "columns": [2, 3]}, grid=[[Diagonal(), Trainable()]])


# -------------------------------------------------------------------------------------------------- Table 2, cell by cell

STATES = """
    x     x     x     x         x         x         x
    cₜ₋₁  cₜ₋₁  cₜ₋₁  cₜ₋₁      *         c         c
    1     1     1     1         1         1         1
    ½cₜ₋₁ f     f     f         f         *         *
    ½cₜ₋₁ *     1−f   1−f       1−f       1−f       *
    0     Wx    Wx    Wx        Wx        Wx        Wx
    ½cₜ₋₁ ½cₜ₋₁ f     f⊙cₜ₋₁    f⊙cₜ₋₁    *         *
    ½cₜ₋₁ ½cₜ₋₁ *     (1−f)⊙Wx  (1−f)⊙Wx  (1−f)⊙Wx  (1−f)⊙Wx
    cₜ₋₁  cₜ₋₁  cₜ₋₁  *         c         c         *
    0     r     r     r         r         *         *
    0     1     1−r   1−r       1−r       1−r       *
    0     0     r     *         *         r⊙c       *
    0     0     1     (1−r)⊙x   (1−r)⊙x   (1−r)⊙x   (1−r)⊙x
    0     0     0     *         *         *         h
"""


def test_the_state_after_each_step() -> None:
    """As Kale 2024, Table 2, but for three ticks: c₁ after step 5, c after step 6 and h after step 5 are not yet, or no longer,
    what they are named after: the step before, entry 1 holds neither c_{t−1} nor c_t."""
    table = held(*pair(5, 0, torch.device("cpu")), draw(3, 4, 5))
    assert table.pivot(index="entry", columns="step", values="holds").to_numpy().tolist() == sru_equivalence.rows(STATES)
    assert table[table["holds"] == table["name"]]["error"].max() < 1e-14
    assert table[table["holds"] == "*"]["error"].min() > 1e-3
    differs = sru_equivalence.beside(table)[lambda both: both["differs"]]
    assert set(zip(differs["entry"], differs["step"], strict=True)) == {(6, 5), (13, 5), (8, 6)}


def test_a_step_of_one_number_by_hand() -> None:
    """W = 2 and gates that stand at ½; x = 3, c = 1: c ← ½ · 1 + ½ · 6 = 3.5, h = ½ · 3.5 + ½ · 3 = 3.25."""
    cell, blocks = pair(1, 0, torch.device("cpu"))
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight[0] = 2
    blocks.take(cell)
    one = torch.ones(1, 1, dtype=torch.float64)
    assert blocks.steps(start(3 * one, one))[:, 0].tolist() == [
        [3, 1, 1, 0.5, 0.5, 0, 0.5, 0.5, 1, 0, 0, 0, 0, 0],
        [3, 1, 1, 0.5, 0.5, 6, 0.5, 0.5, 1, 0.5, 1, 0, 0, 0],
        [3, 1, 1, 0.5, 0.5, 6, 0.5, 0.5, 1, 0.5, 0.5, 0.5, 1, 0],
        [3, 1, 1, 0.5, 0.5, 6, 0.5, 3, 1, 0.5, 0.5, 0.5, 1.5, 1.5],
        [3, 1, 1, 0.5, 0.5, 6, 0.5, 3, 3.5, 0.5, 0.5, 0.5, 1.5, 2],
        [3, 3.5, 1, 0.5, 0.5, 6, 0.5, 3, 3.5, 0.5, 0.5, 1.75, 1.5, 2],
        [3, 3.5, 1, 0.5, 0.5, 6, 1.75, 3, 3.5, 0.5, 0.5, 1.75, 1.5, 3.25],
    ]


def test_it_takes_c_in_entry_1() -> None:
    """Eq. 24 as printed has zeros there: another result."""
    made = errors(*pair(5, 0, torch.device("cpu")), draw(3, 20, 5))
    assert made["blocks"] < 1e-14 and made["model"] < 1e-14 and made["eq24"] > 1e-3


# ------------------------------------------------------------------------------------------------ Tables 3 and 4, the CSC


@pytest.mark.parametrize("n", sru_equivalence.TABLE_3)
def test_counts(n: int) -> None:
    made = count(SRUBlocks(n, generator=generator(0)))
    (nonzero, percent), (of_G, of_H) = sru_equivalence.TABLE_3[n], sru_equivalence.TABLE_4[n]
    assert made["nonzero"] == nonzero == 18 * n**2 + 170 * n
    assert round(100 * made["nonzero"] / made["one_product"], 2) == percent  # as printed
    assert (made["multiplications"], made["share"]) == (1960 * n**2, nonzero / (1960 * n**2))
    assert (made["G_entries"], made["H_entries"]) == (3 * n**2 + 19 * n, 14 * n)
    assert (made["G_csc"], made["H_csc"]) == (of_G + 1, of_H + 1) == (6 * n**2 + 52 * n + 1, 42 * n + 1)
    assert made["G_dense"] == made["H_dense"] == made["one_product"] == 196 * n**2


def test_block_level_csc() -> None:
    val, row_ind, col_ptr = csc(G)
    assert val == "I W_f W W_r V_f V_r I B_f I B_r I -I I I I I I -I I I I I".split()  # noqa: SIM905
    assert row_ind == [0, 3, 5, 9, 3, 9, 2, 3, 4, 9, 10, 4, 6, 7, 8, 8, 1, 10, 11, 12, 13, 13]
    assert col_ptr == [0, 4, 6, 11, 13, 14, 14, 15, 16, 17, 19, 20, 21, 22, 22]
    for symbols in (G, H):
        twin = csc_matrix([[symbol != "." for symbol in row] for row in symbols])
        val, row_ind, col_ptr = csc(symbols)
        assert (row_ind, col_ptr) == (twin.indices.tolist(), twin.indptr.tolist())
        assert len(val) == twin.nnz and len(col_ptr) == 15


# ------------------------------------------------------------------------------------------------------- study and report


def test_a_job_logs_its_errors(lab, runs) -> None:
    assert lab(*SMOKE, "experiment=sru_equivalence", "study.sizes=[2,3]", "study.steps=5", "study.counts=[10]")[0] == 0
    (row,) = runs("sru_equivalence").to_dict("records")
    assert row["state"] == "finished" and row["error/blocks"] < 1e-14 > row["error/model"] and row["error/eq24"] > 1e-4


def made(**change) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Two runs and their tables, as the study makes them; `change`: {table: a function of it}."""
    frame = runs(*(run(model="none", data="none", source="none", seed=seed) for seed in range(2)))
    parts = pair(3, 0, torch.device("cpu"))
    counts = [
        {"n": n, "nonzero": total, "one_product": 196 * n**2, "multiplications": 1960 * n**2, "share": total / (1960 * n**2)}
        | {"G_csc": of_G + 1, "H_csc": of_H + 1, "G_dense": 196 * n**2, "H_dense": 196 * n**2}
        for (n, (total, _)), (of_G, of_H) in zip(sru_equivalence.TABLE_3.items(), sru_equivalence.TABLE_4.values(), strict=True)
    ]
    one = {
        "errors": pd.DataFrame({"n": [3, 5], "steps": 9, "blocks": [1e-16, 5e-16], "model": 1e-16, "eq24": [0.1, 0.2]}),
        "steps": held(*parts, draw(2, 4, 3)),
        "counts": pd.DataFrame(counts),
        "blocks": blocks_table(),
        "csc": csc_table(),
    }
    one = {name: change.get(name, lambda table: table)(table) for name, table in one.items()}
    return frame, {
        name: pd.concat([table.assign(run_id=run_id) for run_id in frame["run_id"].unique()]) for name, table in one.items()
    }


CLAIMED = [AGREES, DIFFERS, DIFFERS, AGREES, AGREES, AGREES, DIFFERS, DIFFERS, DIFFERS, DIFFERS, AGREES]


def as_printed(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(holds=table["holds"].mask(sru_equivalence.beside(table)["differs"], table["name"]))


def listed(_: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"matrix": "G", "array": name, "position": at, "value": value}
            for name, text in sru_equivalence.LISTING.items()
            for at, value in enumerate(text.split())
        ]
    )


@pytest.mark.parametrize(
    "change, claims",
    [
        ({}, {}),
        ({"errors": lambda t: t.assign(blocks=1e-11, eq24=0.0)}, {0: DIFFERS, 1: AGREES}),
        ({"steps": as_printed}, {2: AGREES}),
        ({"blocks": lambda t: t.drop(t[t["symbol"] == "W_f"].index)}, {3: DIFFERS}),
        ({"blocks": lambda t: t.assign(kind="diagonal")}, {3: DIFFERS, 4: DIFFERS}),
        ({"counts": lambda t: t.assign(share=10 * t["share"])}, {6: AGREES, 7: AGREES}),
        ({"counts": lambda t: t.assign(G_csc=t["G_csc"] - 1, H_csc=t["H_csc"] - 1)}, {9: AGREES}),
        ({"counts": lambda t: t.assign(nonzero=t["nonzero"] + 1)}, {5: DIFFERS}),
        ({"counts": lambda t: t.assign(G_csc=2 * t["G_csc"])}, {10: DIFFERS}),
        ({"csc": listed}, {8: AGREES}),
        ({"counts": lambda t: t.head(1)}, {5: TOO_FEW, 6: TOO_FEW, 7: TOO_FEW, 9: TOO_FEW, 10: TOO_FEW}),
    ],
)
def test_claims(change, claims) -> None:
    frame, tables = made(**change)
    verdicts = claims_table(sru_equivalence.CLAIMS, frame, **tables)["verdict"].tolist()
    assert verdicts == [claims.get(place, usual) for place, usual in enumerate(CLAIMED)]


def test_no_verdict_without_tables_or_at_another_scale() -> None:
    frame, tables = made()
    small = claims_table(sru_equivalence.CLAIMS, frame.assign(scale="smoke"), **tables)
    none = claims_table(sru_equivalence.CLAIMS, frame, **{name: table[:0] for name, table in tables.items()})
    assert (set(small["verdict"]), set(none["verdict"])) == ({OTHER_SCALE}, {TOO_FEW})


def test_what_a_claim_says() -> None:
    frame, tables = made()
    said = claims_table(sru_equivalence.CLAIMS, frame, **tables)["measured"].tolist()
    assert "entry 6 (f⊙cₜ₋₁) after step 5" in said[2] and said[2].startswith("all but 3: ")
    assert said[3] == "22: 15 identity, 4 diagonal, 3 weights"
    assert said[7] == "0.92 %" and said[10] == "1.53 %"
    assert said[8].endswith("col_ptr 15 long (printed 14); the print misses I at row 4, column 2")


def test_figures() -> None:
    for frame, tables in (made(), made(counts=lambda table: table.head(1))):
        drawn = sru_equivalence.figures(frame, **tables)
        assert set(drawn) == {f"sru_equivalence_{what}" for what in ("blocks", "steps", "counts")}
    squares = [axes.texts for axes in drawn["sru_equivalence_blocks"].axes]
    assert [len(texts) for texts in squares] == [22, 14] and len(ENTRIES) == 14

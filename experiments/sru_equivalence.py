"""Kale 2024, 2.6–2.8.1: the SRU as an iterated pair of block matrices (Figs. 1 and 3, Tables 2–4), and what K prints of it.

Each table of K's is computed from the matrices themselves; where the print differs, it has a slip.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import Claim, judge
from experiments.verdicts import Finding

AXES = ()
TABLES = {name: f"{name}.csv" for name in ("errors", "steps", "counts", "blocks", "csc")}
EXACT = 1e-12
COLOURS = {"I": "lightsteelblue", "-I": "lightsalmon", "weights": "seagreen", "diagonal": "gold"}

# Table 2, as printed: a row for each entry of the state, at first and after each of the six steps. ✓ is what the entry is named
# after, * whatever it be, × "no longer".
TABLE_2 = """
    ✓       ✓       ✓       ✓  ✓  ✓  ✓
    ✓       ✓       ✓       ✓  ×  c  c
    ✓       ✓       ✓       ✓  ✓  ✓  ✓
    ½cₜ₋₁   ✓       ✓       ✓  ✓  *  *
    ½cₜ₋₁   *       ✓       ✓  ✓  ✓  *
    0       ✓       ✓       ✓  ✓  ✓  ✓
    ½cₜ₋₁   ½cₜ₋₁   *       ✓  ✓  ✓  *
    ½cₜ₋₁   ½cₜ₋₁   *       ✓  ✓  ✓  ✓
    cₜ₋₁    cₜ₋₁    cₜ₋₁    *  ✓  ✓  ✓
    0       ✓       ✓       ✓  ✓  *  *
    0       1       ✓       ✓  ✓  ✓  *
    0       0       *       *  *  ✓  *
    0       0       *       ✓  ✓  ✓  ✓
    0       0       0       *  *  ✓  ✓
"""
TABLE_3 = {10: (3500, 17.86), 50: (53500, 10.92), 100: (197000, 10.05), 576: (6069888, 9.33), 1000: (18170000, 9.27)}
TABLE_4 = {10: (1120, 420), 50: (17600, 2100), 100: (65200, 4200), 576: (2020608, 24192), 1000: (6052000, 42000)}
LISTING = {  # of G, in 2.8.1
    "val": "I W_f W W_r V_f V_r I B_f B_r I -I I I I I I -I I I I I",
    "row_ind": "0 3 5 9 3 9 2 3 9 10 4 6 7 8 8 1 10 11 12 13 13",
    "col_ptr": "0 4 6 10 12 13 13 14 15 16 18 19 20 21",
}


def one(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one run: what the matrices hold is the same in all."""
    return table[table["run_id"] == table["run_id"].min()]


def beside(steps: pd.DataFrame) -> pd.DataFrame:
    """`steps` with what Table 2 prints: the `mark`, and whether it `differs` from what the entry holds."""
    marks = pd.DataFrame(
        [(entry, step, mark) for entry, row in enumerate(rows(TABLE_2)) for step, mark in enumerate(row)],
        columns=["entry", "step", "mark"],
    )
    both = steps.merge(marks, on=["entry", "step"])
    said = both["mark"].where(both["mark"] != "✓", both["name"])
    differs = (said != both["holds"]) & ~both["mark"].isin(["*", "×"]) | (both["mark"] == "×") & (both["holds"] != "*")
    return both.assign(differs=differs)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def array(csc: pd.DataFrame, matrix: str, name: str) -> list[str]:
    """One of a matrix's three arrays."""
    part = one(csc)[lambda table: (table["matrix"] == matrix) & (table["array"] == name)]
    return part.sort_values("position")["value"].astype(str).tolist()


def limit(counts: pd.DataFrame, share: Callable[[pd.DataFrame], pd.Series]) -> float:
    """Where a share a + b / n tends to as n grows, from the two largest n."""
    table = one(counts).sort_values("n").tail(2)
    return float((table["n"] * share(table)).diff().iloc[-1] / table["n"].diff().iloc[-1])


def figures(runs: pd.DataFrame, **tables: pd.DataFrame) -> dict[str, Figure]:
    """The blocks of G and H; what the state holds after each step; and the counts, as printed and as they are."""
    names = one(tables["steps"]).drop_duplicates("entry").set_index("entry")["name"]
    blocks = Figure(figsize=(11, 6), layout="constrained")
    for axes, (matrix, part) in zip(blocks.subplots(1, 2), one(tables["blocks"]).groupby("matrix"), strict=True):
        matrix_of_blocks(axes, part, names)
        axes.set_title(f"{matrix}: {len(part)} of {len(names) ** 2} blocks are not zero")
    state = Figure(figsize=(9, 4.6), layout="constrained")
    states(state.subplots(), one(beside(tables["steps"])), names)
    counts = Figure(figsize=(12, 3.4), layout="constrained")
    numbers(counts.subplots(), one(tables["counts"]))
    return {"sru_equivalence_blocks": blocks, "sru_equivalence_steps": state, "sru_equivalence_counts": counts}


def matrix_of_blocks(axes: Axes, blocks: pd.DataFrame, names: pd.Series) -> None:
    """A square for each block, by kind."""
    many = len(names)
    for block in blocks.itertuples():
        colour = COLOURS.get(block.symbol) or COLOURS[block.kind]
        axes.fill_between([block.column, block.column + 1], block.row, block.row + 1, color=colour, linewidth=0)
        text = f"${block.symbol}$"
        axes.text(block.column + 0.5, block.row + 0.5, text, ha="center", va="center", fontsize=9)
    axes.set(xlim=(0, many), ylim=(many, 0), aspect="equal")
    labels = [f"{entry}  {name}" for entry, name in names.items()]
    axes.set_xticks([n + 0.5 for n in range(many)], labels, rotation=90, fontsize=8)
    axes.set_yticks([n + 0.5 for n in range(many)], labels, fontsize=8)
    axes.set_xticks(range(many + 1), minor=True)
    axes.set_yticks(range(many + 1), minor=True)
    axes.grid(which="minor", color="lightgray", linewidth=0.5)
    axes.tick_params(which="both", length=0)


def states(axes: Axes, steps: pd.DataFrame, names: pd.Series) -> None:
    """Table 2, computed; where the print says something else, what it says stands below in red."""
    cells = steps.pivot(index="entry", columns="step", values=["holds", "mark", "differs"])
    marked = cells["differs"].astype(bool)
    text = cells["holds"].where(~marked, cells["holds"] + "  (printed " + cells["mark"] + ")")
    axes.axis("off")
    table = axes.table(
        text.to_numpy(),
        rowLabels=[f"{entry}  {name}" for entry, name in names.items()],
        colLabels=["at first", *(f"step {step} ({'G' if step < 3 else 'F'})" for step in range(1, text.shape[1]))],
        cellLoc="center",
        loc="center",
    )
    table.scale(1, 1.3)
    for entry, step in zip(*marked.to_numpy().nonzero(), strict=True):
        table[entry + 1, step].set_facecolor("mistyrose")


def numbers(axes: Axes, counts: pd.DataFrame) -> None:
    """Tables 3 and 4, computed and as printed."""
    lines = []
    for row in counts[counts["n"].isin(TABLE_3)].itertuples():
        nonzero, share = TABLE_3[row.n]
        measured = f"{100 * row.share:.2f} %", row.nonzero, row.multiplications, row.G_csc, row.H_csc
        printed = f"{share:.2f} %", nonzero, row.one_product, *TABLE_4[row.n]
        lines.append([f"{row.n:,}", *map(pair, measured, printed), f"{row.G_dense:,}"])
    heads = [
        "n",
        "share",
        "multiplications, not by 0",
        "all multiplications",
        "numbers in G, CSC",
        "in H, CSC",
        "in each, dense",
    ]
    axes.axis("off")
    axes.set_title("counted (printed)", fontsize=9)
    if lines:
        axes.table(lines, colLabels=heads, cellLoc="center", loc="center").scale(1, 2.4)


def pair(measured: int | str, printed: int | str) -> str:
    return "{}\n({})".format(*(value if isinstance(value, str) else f"{value:,}" for value in (measured, printed)))


def computes_the_sru(runs: pd.DataFrame, errors: pd.DataFrame, **_: pd.DataFrame) -> Finding:
    return judge(sizes(errors, "blocks"), None if errors.empty else bool((errors["blocks"] <= EXACT).all()))


def starts_as_printed(runs: pd.DataFrame, errors: pd.DataFrame, **_: pd.DataFrame) -> Finding:
    text = f"{sizes(errors, 'eq24')} with 0 in entry 1; {sizes(errors, 'blocks')} with cₜ₋₁ there"
    return judge(text, None if errors.empty else bool((errors["eq24"] <= EXACT).all()))


def sizes(errors: pd.DataFrame, way: str) -> str:
    if errors.empty:
        return "no runs"
    return f"largest error {errors[way].max():.1e} (n to {errors['n'].max()}, {errors['steps'].max()} steps)"


def has_blocks(matrix: str, **said: int) -> Callable[..., Finding]:
    """Claim: a matrix has so many blocks of each kind, and no others."""

    def measure(runs: pd.DataFrame, blocks: pd.DataFrame, **_: pd.DataFrame) -> Finding:
        kinds = one(blocks)[lambda table: table["matrix"] == matrix]["kind"].value_counts().to_dict()
        text = f"{sum(kinds.values())}: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}" if kinds else "no runs"
        return judge(text, None if blocks.empty else kinds == said)

    return measure


def ticks(runs: pd.DataFrame, steps: pd.DataFrame, **_: pd.DataFrame) -> Finding:
    if steps.empty:
        return judge("no runs", None)
    wrong = beside(steps)[lambda table: table["differs"]].drop_duplicates(["entry", "step"])
    cells = [f"entry {row.entry} ({row.name}) after step {row.step}" for row in wrong.itertuples(index=False)]
    return judge(f"all but {len(cells)}: {', '.join(cells)}" if cells else "all", not cells)


def listing(runs: pd.DataFrame, csc: pd.DataFrame, **_: pd.DataFrame) -> Finding:
    if csc.empty:
        return judge("no runs", None)
    arrays = {name: array(csc, "G", name) for name in LISTING}
    printed = {name: text.split() for name, text in LISTING.items()}
    text = ", ".join(f"{name} {len(values)} long (printed {len(printed[name])})" for name, values in arrays.items())
    missing = sorted(places(**arrays) - places(**printed))
    text += "".join(f"; the print misses {symbol} at row {row}, column {column}" for column, row, symbol in missing)
    return judge(text, arrays == printed)


def places(val: list[str], row_ind: list[str], col_ptr: list[str]) -> set[tuple[int, int, str]]:
    """(column, row, symbol) of each entry."""
    columns = [sum(int(first) <= k for first in col_ptr) - 1 for k in range(len(val))]
    return set(zip(columns, map(int, row_ind), val, strict=True))


def counted(said: dict[int, tuple], measure: Callable[[pd.DataFrame], list[pd.Series]], digits: int = 0):
    """Claim: the counts of a table are as printed; `measure` gives the columns, by n."""

    def judged(runs: pd.DataFrame, counts: pd.DataFrame, **_: pd.DataFrame) -> Finding:
        table = one(counts).set_index("n") if len(counts) else counts
        if counts.empty or not set(said) <= set(table.index):
            return judge("not counted for each n", None)
        columns = measure(table.loc[list(said)])
        got = {n: tuple(round(float(column[n]), digits) for column in columns) for n in said}
        text = ", ".join(f"{'/'.join(f'{v:.{digits}f}' for v in values)} at n={n}" for n, values in got.items())
        return judge(text, got == {n: tuple(map(float, values)) for n, values in said.items()})

    return judged


def tends(said: float, share: Callable[[pd.DataFrame], pd.Series]) -> Callable[..., Finding]:
    """Claim: a share tends to so many per cent."""

    def measure(runs: pd.DataFrame, counts: pd.DataFrame, **_: pd.DataFrame) -> Finding:
        if counts.empty or one(counts)["n"].nunique() < 2:
            return judge("not counted", None)
        percent = 100 * limit(counts, share)
        return judge(f"{percent:.2f} %", round(percent, 1) == said)

    return measure


def kale(where: str, sentence: str, measure: Callable[..., Finding]) -> Claim:
    return Claim(f"K {where}", sentence, measure, images=False)


CLAIMS = [
    kale("2.7.3", "Two steps of G and four of F compute the SRU exactly", computes_the_sru),
    kale("Eq. 24", "The state starts with 0 in entry 1", starts_as_printed),
    kale("2.7.3, Table 2", "After each step the entries hold what is ticked", ticks),
    kale(
        "2.7.3, Fig. 3",
        "G has 22 blocks that are not zero: 15 identities (two of them −I), 3 weights, 4 diagonals",
        has_blocks("G", identity=15, diagonal=4, weights=3),
    ),
    kale("2.7.3, Fig. 3", "H has 14 blocks that are not zero, all identities", has_blocks("H", identity=14)),
    kale(
        "Table 3",
        "18n² + 170n of the six steps' multiplications are not by zero",
        counted({n: (count,) for n, (count, _) in TABLE_3.items()}, lambda table: [table["nonzero"]]),
    ),
    kale(
        "Table 3",
        "That is 17.86 % at n=10 to 9.27 % at n=1000",
        counted({n: (share,) for n, (_, share) in TABLE_3.items()}, lambda table: [100 * table["share"]], digits=2),
    ),
    kale("Eq. 25", "Of large n 9.2 % of the multiplications are not by zero", tends(9.2, lambda table: table["share"])),
    kale("2.8.1", "The CSC arrays of G's blocks are as listed", listing),
    kale("Table 4", "CSC stores 6n² + 52n numbers of G and 42n of H", counted(TABLE_4, lambda t: [t["G_csc"], t["H_csc"]])),
    kale(
        "Eq. 26",
        "Of large n CSC stores 1.5 % of what dense matrices store",
        tends(1.5, lambda t: (t["G_csc"] + t["H_csc"]) / (t["G_dense"] + t["H_dense"])),
    ),
]

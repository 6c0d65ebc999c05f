"""A report's figures, tables and claims as files: for the eye, for a paper, and for reading them again."""

import math
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.transforms import Bbox

from experiments.report import ACC_END, SMALL, STYLE, provenance

DPI = 150  # of a PNG
PANEL = 2.6  # inches: panels that would be narrower stand below each other


def drawn(name: str, folder: Path) -> str | None:
    """The `provenance` of the figures in a folder; None if there are none."""
    with suppress(OSError, ValueError, KeyError, IndexError):
        return pd.read_csv(folder / f"{name}_claims.csv")["measured_on"].iloc[0]
    return None


def lay_out(figure: Figure, runs: pd.DataFrame, width: float | None = None) -> Bbox:
    """Writes under a figure which runs it shows, and the meaning of ACC_end if that is an axis; returns its box for files.

    width: of that box, in inches. Letters keep their size; panels that would be too narrow stand below each other.
    """
    axes = [label for axes in figure.axes for label in (axes.get_xlabel(), axes.get_ylabel())]
    words = [provenance(runs), *([ACC_END] if "ACC_end" in " ".join(axes) else [])]
    if width is not None:
        restack(figure, width)
    lines = [line for text in words for line in textwrap.wrap(text, int(15 * figure.get_figwidth()))]  # letters an inch
    figure.text(0.5, 0.0, "\n".join(lines), ha="center", va="top", fontsize=SMALL, color="dimgray")
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    for _ in range(0 if width is None else 2):  # names beside panels reach beyond the figure, and titles of narrow ones
        beyond = figure.get_tightbbox().padded(0.1).width - width
        figure.set_figwidth(max(width / 2, figure.get_figwidth() - beyond))
        figure.draw_without_rendering()
    figure.set_layout_engine(None)  # it is laid out: once for all files
    return figure.get_tightbbox().padded(0.1)


def restack(figure: Figure, width: float) -> None:
    """Makes a figure as wide as this. A grid of panels gets fewer columns where they would be narrower than `PANEL`; pictures,
    which are narrower already, get smaller."""
    before, height = figure.get_size_inches()
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    grids = {axes.get_subplotspec().get_gridspec() for axes in panels}
    columns = max((grid.ncols for grid in grids), default=1)
    if before / columns < PANEL:
        figure.set_size_inches(width, height * width / before)
        return
    fewer = max(1, min(columns, int(width / PANEL)))
    figure.set_size_inches(width, height)
    if fewer < columns and len(grids) == 1:
        (grid,) = grids
        rows = math.ceil(len(panels) / fewer)
        figure.set_figheight(height * rows / grid.nrows)
        for axes, spec in zip(panels, GridSpec(rows, fewer, figure=figure), strict=False):
            axes.set_subplotspec(spec)
            complete(axes)
        for legend in figure.legends:
            legend.set_loc("outside upper center")
    for axes in panels:
        letters = int(72 * (width / fewer - 0.7) / (0.52 * axes.title.get_fontsize()))  # beside 0.7 inches for an axis
        axes.set_title(textwrap.fill(axes.get_title(), letters))


def complete(axes: Axes) -> None:
    """Gives a panel the label and the numbers of the axis that it shared with one in its row."""
    axes.yaxis.set_tick_params(labelleft=True)
    if not axes.get_ylabel():
        others = axes.get_shared_y_axes().get_siblings(axes)
        axes.set_ylabel(next((other.get_ylabel() for other in others if other.get_ylabel()), ""))


def write(
    name: str,
    figures: Mapping[str, Figure],
    runs: pd.DataFrame,
    folder: Path,
    width: float | None = None,
    **tables: pd.DataFrame,
) -> list[Path]:
    """Writes FOLDER/FIGURE.png and .pdf, NAME.csv (the runs that are drawn), NAME_TABLE.csv for each table, and the claims as
    NAME_claims.tex. Figures of a given width, in inches, are named FIGURE_WIDTHin."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file, figure in figures.items():
        box = lay_out(figure, runs, width)
        for kind in ("png", "pdf"):
            paths.append(folder / f"{file}{'' if width is None else f'_{width:g}in'}.{kind}")
            with matplotlib.rc_context(STYLE):
                figure.savefig(paths[-1], dpi=DPI, bbox_inches=box)
    for file, table in {name: runs, **{f"{name}_{key}": table for key, table in tables.items()}}.items():
        paths.append(folder / f"{file}.csv")
        table.to_csv(paths[-1], index=False)
    if "claims" in tables:
        paths.append(folder / f"{name}_claims.tex")
        paths[-1].write_text(latex(tables["claims"].drop(columns="measured_on")), encoding="utf-8")
    return paths


def latex(claims: pd.DataFrame) -> str:
    """The table of claims for a paper (LaTeX's package booktabs)."""
    return claims.to_latex(index=False, escape=True, column_format=r"lp{0.36\linewidth}p{0.3\linewidth}l")

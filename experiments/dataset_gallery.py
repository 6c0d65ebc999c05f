"""Hershey 2023, 2.3: pictures of the data (Figs. 2.11–2.15)."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report import ORANGE

AXES = ("data", "data.transforms")
TABLES = {"examples": "examples.csv"}
CLAIMS = []  # there is nothing to claim
TRANSFORMS = ("none", "erase", "perspective", "both")


def figures(runs: pd.DataFrame, examples: pd.DataFrame) -> dict[str, Figure]:
    """Still images under each of the classification transforms (the first row is untouched); one image under each transform of
    the sequences; sequences, their anomaly framed."""
    about = runs.sort_values("seed").drop_duplicates(["data", "data.transforms"])[["run_id", "data", "data.transforms"]]
    shown = examples.merge(about, on="run_id")
    singles, series = shown[shown["example"] >= 0], shown[shown["example"] < 0]
    made = {}
    for data, part in singles.groupby("data"):
        still = {name: one for name in TRANSFORMS if len(one := part[part["data.transforms"] == name])}
        rows = list(still.items()) or [("", one) for _, one in part.groupby("example")]
        made[f"dataset_gallery_{data}"] = strips(rows, framed=not still)
    kinds = series.drop_duplicates("kind")
    if len(kinds):
        figure = Figure(figsize=(1.3 * len(kinds), 1.6), layout="constrained")
        for axes, (_, image) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds.iterrows(), strict=True):
            picture(axes, image["pixels"])
            axes.set_title(image["kind"].replace("_", "\n"), fontsize=8)
        made["dataset_gallery_kinds"] = figure
    return made


def strips(rows: list[tuple[str, pd.DataFrame]], framed: bool = False) -> Figure:
    """A row of pictures for each (label, table); with `framed` the step that is the answer gets a frame."""
    columns = max(len(images) for _, images in rows)
    figure = Figure(figsize=(0.75 * columns, 0.8 * len(rows)))
    panels = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06, "bottom": 0.01})
    for (label, images), strip in zip(rows, panels, strict=True):
        for axes, (_, image) in zip(strip, images.iterrows(), strict=False):
            picture(axes, image["pixels"])
            if framed and image["step"] == image["answer"]:
                for spine in axes.spines.values():
                    spine.set(visible=True, color=ORANGE, linewidth=2.5)
        strip[0].set_ylabel(label, fontsize=8)
    return figure


def picture(axes: Axes, pixels: str) -> None:
    """A square image of bytes in hexadecimal: one plane of gray, or three of red, green and blue."""
    image = np.frombuffer(bytes.fromhex(pixels), dtype=np.uint8)
    planes = 1 if math.isqrt(len(image)) ** 2 == len(image) else 3  # three squares are never a square
    side = math.isqrt(len(image) // planes)
    axes.imshow(image.reshape(planes, side, side).transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)

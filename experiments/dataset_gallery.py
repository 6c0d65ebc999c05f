"""Hershey 2023, 2.3: what the data look like (Figs. 2.11–2.15)."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

AXES = ("data", "data.transforms")
TABLES = {"examples": "examples.csv"}
CLAIMS = []  # there is nothing to claim
TRANSFORMS = ("none", "erase", "perspective", "both")


def figures(runs: pd.DataFrame, examples: pd.DataFrame) -> dict[str, Figure]:
    """Digits under each of the classification transforms (the first row is untouched); one digit under each transform of the
    sequences; sequences, their anomaly framed."""
    about = runs.sort_values("seed").drop_duplicates(["data", "data.transforms"])[["run_id", "data", "data.transforms"]]
    shown = examples.merge(about, on="run_id")
    singles, series = shown[shown["example"] >= 0], shown[shown["example"] < 0]
    made = {}
    still = singles[singles["data"] == "mnist_classification"]
    rows = {name: part for name in TRANSFORMS if len(part := still[still["data.transforms"] == name])}
    if rows:
        made["dataset_gallery_classification"] = strips(rows)
    for data, part in singles.drop(still.index).groupby("data"):
        made[f"dataset_gallery_{data}"] = strips({f"{number}": one for number, one in part.groupby("example")}, framed=True)
    kinds = series.drop_duplicates("kind")
    if len(kinds):
        figure = Figure(figsize=(1.3 * len(kinds), 1.6), layout="constrained")
        for axes, (_, image) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds.iterrows(), strict=True):
            picture(axes, image["pixels"])
            axes.set_title(image["kind"].replace("_", "\n"), fontsize=7)
        made["dataset_gallery_kinds"] = figure
    return made


def strips(rows: dict[str, pd.DataFrame], framed: bool = False) -> Figure:
    """A row of pictures for each table; with `framed` the step that is the answer gets a frame."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(0.75 * columns, 0.8 * len(rows)))
    panels = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    for (label, images), strip in zip(rows.items(), panels, strict=True):
        for axes, (_, image) in zip(strip, images.iterrows(), strict=False):
            picture(axes, image["pixels"])
            if framed and image["step"] == image["answer"]:
                for spine in axes.spines.values():
                    spine.set(visible=True, color="tab:orange", linewidth=2.5)
        strip[0].set_ylabel(label, fontsize=8)
    return figure


def picture(axes: Axes, pixels: str) -> None:
    """A square image of bytes in hexadecimal."""
    image = np.frombuffer(bytes.fromhex(pixels), dtype=np.uint8)
    side = math.isqrt(len(image))
    axes.imshow(image.reshape(side, side), cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)

"""The report as a page: one HTML file that needs no server and no network.

Jinja2 fills page.html. The figures are matplotlib's, the same that are written for a paper, as SVG: one code draws both. A
plotting library in the page would draw them a second time, from megabytes of its own. `inline` makes such an SVG a part of the
page: its ids do not clash with others, and a curve says what it is.
"""

import io
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from inspect import getdoc
from pathlib import Path

import matplotlib
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments import report
from experiments.drawing import Study
from experiments.verdicts import AGREES, DIFFERS
from inn_lab import explain
from inn_lab.identity import short
from inn_lab.standing import duration

KINDS = {AGREES: "agrees", DIFFERS: "differs"}  # of verdicts; all others say why there is none
XLINK = "{http://www.w3.org/1999/xlink}"


def page(studies: Sequence[Study], left_out: Sequence[str] = (), links: Mapping[str, str] | None = None) -> str:
    """The page of these studies. left_out: lines on studies that could not be drawn; links: addresses of runs by id, in an
    MLflow that can be reached. What comes from runs is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("page.html").render(
        studies=[told(study) for study in studies], left_out=left_out, links=links or {}, kinds=[*KINDS.values(), "open"]
    )


def told(study: Study) -> dict[str, object]:
    """What the page says of a study."""
    runs, claims = study.runs, study.claims
    question, command = explain.question(study.name)
    listed = [
        {
            "source": claim.source,
            "by": claim.source.split()[0].replace("this", "this lab"),
            "sentence": claim.sentence,
            "measured": claim.measured.split("; "),
            "verdict": claim.verdict,
            "kind": KINDS.get(claim.verdict, "open"),
        }
        for claim in claims.itertuples(index=False)
    ]
    figures = study.figures()
    labels = " ".join(
        label for figure in figures.values() for axes in figure.axes for label in (axes.get_xlabel(), axes.get_ylabel())
    )
    caption = [" ".join((getdoc(study.module.figures) or "").split()), f"{report.ACC_END}." if "ACC_end" in labels else ""]
    return {
        "name": study.name,
        "question": question,
        "command": command,
        "caption": " ".join(filter(None, caption)),
        "figures": [(file, inline(figure, file)) for file, figure in figures.items()],
        "claims": listed,
        "counts": Counter(claim["kind"] for claim in listed),
        "states": Counter(report.each(runs, "state")),
        "data": ", ".join(sorted(set(runs["source"].dropna().astype(str)))),
        "runs": of_runs(study),
        "provenance": report.provenance(runs),
        "note": study.note,
        "drawn_by": " ".join(["python -m experiments", study.name, *(f"{key}={value}" for key, value in study.wanted.items())]),
    }


def of_runs(study: Study) -> dict[str, object]:
    """The table of runs: what varied, how each ended, which code made it. Cells are (text, value, whether it is a number)."""
    runs = study.runs
    varied = [axis for axis in study.module.AXES if axis in runs and report.each(runs, axis).nunique(dropna=False) > 1]
    table = pd.DataFrame({column: report.each(runs, column) for column in dict.fromkeys([*varied, "seed", "state"])})
    if has(runs, report.ACC):
        table["validation ACC_end"] = report.finals(runs)
    if has(runs, report.TEST):
        table["test ACC_end"] = report.each(runs, report.TEST)
    if has(runs, "time/epoch_s"):
        table["training"] = runs.groupby("run_id")["time/epoch_s"].sum()
    table = table.assign(**{column: report.each(runs, column) for column in ("device", "commit") if column in runs})
    numeric = {column: pd.api.types.is_numeric_dtype(values) for column, values in table.items()}
    rows = [
        {"id": run, "cells": [(cell(column, value), value, numeric[column]) for column, value in row.items()]}
        for run, row in table.sort_values([*varied, "seed"]).to_dict("index").items()
    ]
    columns = [{"key": key, "name": key.removesuffix("._target_").rpartition(".")[2], "number": numeric[key]} for key in table]
    return {"columns": columns, "rows": rows}


def has(runs: pd.DataFrame, column: str) -> bool:
    return column in runs and runs[column].notna().any()


def cell(column: str, value: object) -> str:
    """A value of the table of runs in words."""
    if value is None or pd.isna(value):
        return ""
    if column == "training":
        return duration(value)
    if column == "commit":
        return short(str(value))
    if isinstance(value, float):
        return f"{value:.3f}" if column.endswith("ACC_end") else f"{value:g}"
    return str(value).rpartition(".")[2] if column.endswith("_target_") else str(value)


def alt(figure: Figure) -> str:
    """A figure in words: its panels, and the names of what is drawn in them."""
    panels, names = [], dict[str, None]()
    for axes in figure.axes:
        what = " by ".join(filter(None, [axes.get_ylabel(), axes.get_xlabel()]))
        panels.append(": ".join(filter(None, [axes.get_title().replace("\n", ", "), what])))
        names |= dict.fromkeys(axes.get_legend_handles_labels()[1])
    said = [f"{len(panels)} panel{'s' * (len(panels) != 1)}", *filter(None, dict.fromkeys(panels))]
    return "; ".join([*said, *([f"drawn are {', '.join(names)}"] if names else [])])


def inline(figure: Figure, name: str) -> Markup:
    """A figure as an SVG element of a page, with its text as text.

    No id is in two figures: those that something refers to begin with `name`, all others are dropped. The texts of
    `report.named` are titles, which a browser shows at the pointer, and the ids of their runs are in `data-runs`.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", bbox_inches="tight", transparent=True)
    svg = ET.fromstring(file.getvalue())
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):  # addresses; a rule for all of the page
                parent.remove(child)
    used = {found for element in svg.iter() for value in element.attrib.values() for found in _refers(value)}
    for element in svg.iter():
        element.tag = element.tag.rpartition("}")[2]  # HTML knows SVG without a namespace's address
        own = element.attrib.pop("id", "")
        if own in used:
            element.set("id", f"{name}-{own}")
        elif own.startswith("[["):
            _entitle(element, json.loads(own))
        for key, value in list(element.attrib.items()):
            if _refers(value):
                element.set(key, re.sub(r"#(?=[^)]+)", f"#{name}-", value))
            if key.startswith(XLINK):
                element.set("href", element.attrib.pop(key))
    width = svg.attrib.pop("width")
    svg.attrib.pop("height")
    svg.attrib.pop("version")
    svg.attrib |= {"style": f"width: {width}", "role": "img", "aria-label": f"{name}: {alt(figure)}"}
    return Markup(ET.tostring(svg, encoding="unicode"))


def _refers(value: str) -> list[str]:
    """The ids that an attribute refers to."""
    return ["".join(found) for found in re.findall(r"^#(.+)|url\(#([^)]+)\)", value)]


def _entitle(group: ET.Element, words: Sequence[tuple[str, Sequence[str]]]) -> None:
    """One title for the group, or one for each of its points."""
    points = [group] if len(words) == 1 else [element for element in group.iter() if element.tag.endswith("use")]
    if len(points) != len(words):
        return  # a point without a place is not drawn, and it's not known which
    for element, (text, runs) in zip(points, words, strict=True):
        title = ET.Element("title")
        title.text = text
        element.insert(0, title)
        element.set("data-runs", " ".join(runs))

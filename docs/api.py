"""`make docs`: pages on the library and on what a study of one's own builds on, from the docstrings, in outputs/docs."""

import warnings
from pathlib import Path

import pdoc
import pdoc.render

from inn_lab import _torchvision  # noqa: F401  (before Lightning, which a study imports)

# isort: split
import inn_lab

MODULES = (
    "inn_lab",
    "inn_lab.data",
    "inn_lab.linear",
    "inn_lab.models",
    "inn_lab.ranges",
    "inn_lab.sparse",
    "inn_lab.studies",
    "inn_lab.training.foresight",
    "inn_lab.training.objectives",
    "inn_lab.training.rewiring",
    "experiments.claims",
    "experiments.report",
    "experiments.verdicts",
)

if __name__ == "__main__":
    warnings.simplefilter("error")
    for name in inn_lab.__all__:
        getattr(inn_lab, name)  # pdoc reads what is there, and the library's names are imported when they are asked for
    pdoc.render.configure(docformat="google", search=False, show_source=False)
    folder = Path("outputs/docs")
    pdoc.pdoc(*MODULES, output_directory=folder)
    print(folder / "index.html")

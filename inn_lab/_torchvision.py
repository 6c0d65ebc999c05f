"""Makes `import torchvision` work beside a CPU torch. Imported for its effect, before torchvision or pytorch_lightning.

torchvision's wheels on PyPI are built against CUDA. Beside a torch without CUDA their C++ extension cannot load, its operators
stay undefined, and torchvision's own import fails on the first it mentions ("operator torchvision::nms does not exist"). The
lab uses none of these operators, so it is enough to declare the two that the import mentions. Where the extension loads,
nothing is done.
"""

import importlib.util
import os
from pathlib import Path

import torch


def mend() -> torch.library.Library | None:
    """Declares `nms` and `qnms` if torchvision's extension cannot; None where there was nothing to do.

    The declarations live as long as the returned object.
    """
    spec = importlib.util.find_spec("torchvision")
    if os.name == "nt" or spec is None or not spec.submodule_search_locations:  # on Windows both wheels are for the CPU
        return None
    if not hasattr(torch.ops.torchvision, "nms"):
        for path in Path(spec.submodule_search_locations[0]).glob("_C*.so"):
            try:
                torch.ops.load_library(path)  # torchvision will do the same; twice is harmless
            except OSError:
                continue
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


DECLARED = mend()

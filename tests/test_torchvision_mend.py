"""The mend for a torchvision whose C++ extension cannot load, in processes of its own: operators are declared once a
process."""

import subprocess
import sys
import textwrap


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchvision_can_be_imported():
    run(
        """
        from inn_lab import _torchvision
        import torchvision.transforms.v2.functional, torchvision.datasets
        _torchvision.mend()  # once more, after the import
        """
    )


def test_nothing_is_done_where_the_operators_exist():
    """As where the extension has loaded: the operator is there already, with a value that must stay."""
    out = run(
        """
        import torch
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl("nms", lambda dets, scores, iou_threshold: scores, "CPU")
        from inn_lab import _torchvision
        print(_torchvision.DECLARED, torch.ops.torchvision.nms(torch.zeros(1, 4), torch.ones(1), 0.5).item())
        """
    )
    assert out.split() == ["None", "1.0"]


def test_a_missing_torchvision_is_left_to_fail_by_itself():
    out = run(
        """
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "torchvision" else find(name, *rest)
        from inn_lab import _torchvision
        print(_torchvision.DECLARED)
        """
    )
    assert out.strip() == "None"

"""`inn-lab doctor`: what the lab finds on this machine, a line each. Exit code 1 if a sweep would not run."""

import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "mlflow", "numba")
OPTIONAL = ("hydra-submitit-launcher", "hydra-joblib-launcher")


def versions() -> str:
    missing = []

    def of(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            missing.append(name)
            return ""

    found = [of(name) for name in PACKAGES]
    if missing:
        raise RuntimeError(f"not installed: {', '.join(missing)}; pip install {' '.join(missing)}")
    found += filter(None, map(of, OPTIONAL))
    return f"Python {platform.python_version()}, " + ", ".join(found)


def code() -> str:
    from inn_lab import __version__, identity

    return f"inn_lab {__version__}, commit {identity.commit()}, in {Path(__file__).parent.parent}"


def devices() -> str:
    import torch

    from inn_lab import machine

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{machine.cores()} cores; {', '.join(gpus) or 'no CUDA device: trainer=auto takes the CPU'}"


def data() -> str:
    from inn_lab.data.sources import STORED, load

    root = Path(os.environ.get("INN_LAB_DATA", "data")).expanduser()
    found = ["digits (bundled)"]
    for name, stored in STORED.items():
        if there := stored.is_in(root):
            load(name, str(root))  # compares it with what was published
        found.append(f"{name} ({root / stored.folder if there else f'not here; its first run downloads it to {root}'})")
    return ", ".join(found)


def outputs() -> str:
    from inn_lab import config

    folder = Path(config.outputs()).resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())  # a run makes the rest
    with tempfile.TemporaryFile(dir=there):
        return f"{folder}, {_free(there)} GB free"


def _free(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free // 10**9


def runs() -> str:
    from inn_lab import config, records, tracking

    folder = config.outputs()
    there = tracking.reader(folder)
    if there is None:
        return f"no database yet; the first run makes {tracking.place(folder)}"
    with tracking.asking(folder):
        experiments = there.search_experiments()
    waiting = len(records.unfinished(folder))
    rest = f"; {waiting} jobs are running or cut off" if waiting else ""
    return f"{tracking.place(folder)} answers, {len(experiments)} experiments{rest}"


def plugins() -> str:
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    from hydra_plugins.inn_lab_slurm.launcher import missing
    from inn_lab import explain

    Plugins.instance()
    found = {group: [name.removesuffix(".yaml") for name in ConfigStore.instance().list(group)] for group in explain.OURS}
    if "local" not in found["hydra/launcher"] or not {*explain.OURS["hydra/sweeper"]} <= {*found["hydra/sweeper"]}:
        raise RuntimeError(f"the lab's own are not seen, only {found}; install inn_lab again")
    lacks = missing()
    return "hydra/launcher=local" + (f" (slurm: {lacks})" if lacks else ", slurm")


CHECKS: dict[str, Callable[[], str]] = {
    "versions": versions, "code": code, "devices": devices, "data": data, "outputs": outputs, "runs": runs, "plugins": plugins,
}  # fmt: skip


def main() -> int:
    """Prints a line for each check; one that fails doesn't hide the others."""
    ill = 0
    for name, check in CHECKS.items():
        try:
            print(f"ok   {name:9} {check()}", flush=True)
        except Exception as error:  # whatever is wrong with this machine
            ill = 1
            print(f"ILL  {name:9} {str(error).splitlines()[0] or type(error).__name__}", flush=True)
    return ill

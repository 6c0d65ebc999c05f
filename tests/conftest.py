"""What the tests share: the door called in this process, and runs read back from an MLflow of their own."""

import contextlib
import gc
import hashlib
import os
import shutil
import sqlite3
import sys
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ["OMP_NUM_THREADS"] = "1"  # small models on two threads wait for each other; before torch is imported

from inn_lab import _torchvision  # noqa: F401  (before anything imports torchvision)

# isort: split
import numpy as np
import pytest
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

from inn_lab import __main__ as door
from inn_lab import schema, signals, tracking
from inn_lab.data import sources
from inn_lab.tracking import store

SMOKE = ["source=digits", "scale=smoke", "trainer.progress=false"]


def pytest_configure() -> None:
    memory = Path("/dev/shm")  # Linux's: hundreds of databases and journals are written through to a disk
    if memory.is_dir() and shutil.disk_usage(memory).free > 2**32:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # or each collection looks at all that was imported
    gc.set_threshold(10_000)  # of 700


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the lab makes it. That takes MLflow two seconds, and a copy none."""
    folder = tmp_path_factory.mktemp("empty")
    store._client(f"{store.SQLITE}{folder / 'mlflow.db'}")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder / "mlflow.db"


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    """An empty outputs folder of the test's own."""
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    whole = store._client

    def client(where: str):
        database = Path(where.removeprefix(store.SQLITE))
        if where.startswith(store.SQLITE) and not database.exists():
            database.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(empty_database, database)
        return whole(where)

    monkeypatch.setattr(store, "_client", client)
    return tmp_path / "outputs"


@pytest.fixture
def lab(outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`lab("R=0.1", …)` is `python -m inn_lab R=0.1 …` in this process: (exit code, standard output, standard error)."""

    # Hydra composes once more beforehand, to learn of hydra.mode, which no test sets: a fifth of a second for each call.
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)
    schema.register()
    monkeypatch.setattr(schema, "register", lambda: None)  # once a test
    # A report has drawn its figures before it writes them. test_report.py has the files, and a sweep's jobs write theirs.
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: Path(path).write_bytes(b"a picture"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inn_lab", *arguments])
        monkeypatch.setattr(signals, "listen", lambda: None)  # pytest keeps its own Ctrl-C
        GlobalHydra.instance().clear()
        code = 0
        try:
            door.main()
        except SystemExit as exit:
            code = exit.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def runs(outputs: Path):
    """`runs(experiment)`: its jobs as a DataFrame."""
    return lambda experiment: tracking.read(outputs, experiment)


def idx(array: np.ndarray) -> bytes:
    """The bytes of an array in the format of MNIST's files."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def made_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a made MNIST, whose checksums then count as the published ones: 80 training images and 30 for the test.

    Image i's pixels are all i, and it is of class i % 10.
    """
    root = tmp_path / "made"
    raw = root / sources.STORED["mnist"].folder
    raw.mkdir(parents=True)
    contents = [idx(x) for i in (np.arange(80), np.arange(30)) for x in (np.tile(i[:, None, None], (1, 28, 28)), i % 10)]
    for file, content in zip(sources.IDX, contents, strict=True):
        (raw / file).write_bytes(content)
    monkeypatch.setitem(sources.IDX_MD5, "mnist", [hashlib.md5(content).hexdigest() for content in contents])
    return root


@pytest.fixture(scope="module")  # as long as it lives, nothing else can run an event loop
def chromium():
    """A browser without a window; a test that needs it is marked `browser`."""
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -c constraints.txt -e '.[browser]'")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])  # a container's root has none
        except api.Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium, or python -m playwright install chromium ({str(error)[:80]})")
        yield browser
        browser.close()

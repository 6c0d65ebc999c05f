"""Sources of images, and their division into training, validation and test."""

import functools
import os
import shutil
import socket
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from inn_lab.errors import ConfigError, NotHere, near
from inn_lab.seeding import generator

Part = tuple[Tensor, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Images:
    """The images of a source, gray (n, h, w) or in colour (n, 3, h, w), as bytes or as floats in [0, 1], and their labels (n,).
    The test part is None if the source has none."""

    train_pixels: Tensor
    train_labels: Tensor
    test_pixels: Tensor | None
    test_labels: Tensor | None

    @property
    def n_classes(self) -> int:
        return int(self.train_labels.max()) + 1


def load(name: str, root: str | None) -> Images:
    """The images of a source: those in `STORED`, found in the folder `root` or else downloaded there, or digits (bundled).

    Raises ConfigError for an unknown name. Raises NotHere for files that are missing and cannot be downloaded, and for a file
    that differs from the published one in any byte: one source never replaces another.
    """
    if name not in SOURCES:
        raise ConfigError(f"name={name}: no such source{near(name, SOURCES)}")
    return SOURCES[name](root)


def _digits(root: str | None) -> Images:
    """scikit-learn's 1,797 digits of 8 × 8 pixels, each 0 … 16."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Images(torch.from_numpy(digits.images / 16).float(), torch.from_numpy(digits.target).long(), None, None)


def _mnist(root: str | None) -> Images:
    return _idx("mnist", root)


def _fashion_mnist(root: str | None) -> Images:
    return _idx("fashion_mnist", root)


def _cifar10(root: str | None) -> Images:
    """CIFAR-10, in colour."""
    from inn_lab import _torchvision  # noqa: F401
    from torchvision.datasets import CIFAR10  # isort: skip

    folder, meta = _folder("cifar10", root), CIFAR10.meta
    _compare("cifar10", folder, dict([*CIFAR10.train_list, *CIFAR10.test_list, (meta["filename"], meta["md5"])]))
    train, test = _read(lambda path: [CIFAR10(path.parent, train=train) for train in (True, False)], folder)
    pixels = [torch.from_numpy(part.data).movedim(3, 1) for part in (train, test)]  # (n, 3, 32, 32), as they are stored
    return Images(pixels[0], torch.tensor(train.targets), pixels[1], torch.tensor(test.targets))


SOURCES: dict[str, Callable[[str | None], Images]] = {
    "mnist": _mnist,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "digits": _digits,
}

WAYS_OUT = "point INN_LAB_DATA or root at a folder that has them, or use source=digits, which is bundled"


@dataclass(frozen=True)
class Stored:
    """A set as torchvision stores it: the name of its class there, its folder in the root, and its files."""

    dataset: str
    folder: str
    files: tuple[str, ...]

    def is_in(self, root: Path) -> bool:
        return all((root / self.folder / file).is_file() for file in self.files)


IDX = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
STORED = {
    "mnist": Stored("MNIST", "MNIST/raw", IDX),
    "fashion_mnist": Stored("FashionMNIST", "FashionMNIST/raw", IDX),
    "cifar10": Stored("CIFAR10", "cifar-10-batches-py", BATCHES),
}
# Checksums of the published files, unpacked. torchvision has those of CIFAR-10's files, but of the others' archives only.
IDX_MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion_mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}


def _folder(name: str, root: str | None) -> Path:
    """The folder with a set's files, which are downloaded if they are missing."""
    if root is None:
        raise ConfigError(f"root={root}: {name} is read from a folder; {WAYS_OUT}")
    stored = STORED[name]
    try:
        base = Path(root).expanduser()
        there = stored.is_in(base)
    except (OSError, RuntimeError) as error:  # a folder that one may not look into, a home that there is not
        raise NotHere(f"root={root}: it cannot be read ({error}); change its permissions, or {WAYS_OUT}") from error
    if not there:
        _download(name, stored, base)
    return base / stored.folder


def _idx(name: str, root: str | None) -> Images:
    """The four files of an MNIST-like set."""
    from inn_lab import _torchvision  # noqa: F401
    from torchvision.datasets.mnist import read_image_file, read_label_file  # isort: skip

    raw = _folder(name, root)
    _compare(name, raw, dict(zip(IDX, IDX_MD5[name], strict=True)))
    return Images(*map(_read, (read_image_file, read_label_file) * 2, (raw / file for file in IDX)))


def _compare(name: str, folder: Path, published: Mapping[str, str]) -> None:
    """Raises NotHere for a file that is not the published one. published: the MD5 of each file."""
    for file, md5 in published.items():
        path = folder / file
        if (found := _read(_md5, path)) != md5:
            raise NotHere(
                f"{path}: damaged, or another set's (its MD5 is {found}, {name}'s is {md5}); move it away and it is downloaded "
                f"again, or {WAYS_OUT} (a set of your own takes a source of its own, see docs/architecture.md)"
            )


def _md5(path: Path) -> str:
    now = path.stat()
    return _md5_of(path, now.st_size, now.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _md5_of(path: Path, size: int, written: int) -> str:
    """A file's MD5, remembered for this size and time of the last change (ns)."""
    from torchvision.datasets.utils import calculate_md5

    return calculate_md5(path)


def _read(reader: Callable[[Path], T], path: Path) -> T:
    try:
        return reader(path)
    except OSError as error:
        what, why = error.filename or path, error.strerror or error
        raise NotHere(f"{what}: it cannot be read ({why}); change its permissions, or {WAYS_OUT}") from error


def _download(name: str, stored: Stored, root: Path) -> None:
    """Downloads the files through torchvision to another folder first, so that only whole, correct files appear in `root`."""
    from torchvision import datasets

    folder, patience = root / stored.folder, socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; torchvision itself would wait for ever
    try:
        with tempfile.TemporaryDirectory() as aside:
            getattr(datasets, stored.dataset)(aside, download=True)
            folder.mkdir(parents=True, exist_ok=True)
            for file in stored.files:
                partial = folder / f"{file}.{os.getpid()}.part"
                try:
                    shutil.copyfile(Path(aside) / stored.folder / file, partial)
                    partial.replace(folder / file)
                finally:
                    partial.unlink(missing_ok=True)
    except Exception as error:  # no network shows as URLError, RuntimeError, OSError, IncompleteRead …
        why = textwrap.shorten(str(error), 200, placeholder=" …")
        raise NotHere(
            f"source={name}: its files are not in {folder}, and the download failed ({type(error).__name__}: {why}); {WAYS_OUT}"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)


def balanced_order(labels: Tensor, rng: torch.Generator) -> Tensor:
    """All indices (n,) in a random order in which every stretch is balanced over the classes.

    The first image of each class comes first, then the second of each, and so on until a class has no more. The order of the
    classes is random, but the same in each round.
    """
    shuffled = torch.randperm(len(labels), generator=rng)
    counts = labels.bincount()
    turns = torch.randperm(len(counts), generator=rng)
    by_class = labels[shuffled].argsort(stable=True)
    rank = torch.empty_like(shuffled)  # how many of the same class stand before it
    rank[by_class] = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return shuffled[(rank * len(counts) + turns[labels[shuffled]]).argsort()]


def divide(images: Images, n_train: int, n_val: int, n_test: int | None, seed: int) -> tuple[Part, Part, Part]:
    """Training, validation and test images: disjoint, drawn from the seed, with equally many of each class as far as possible.

    Returns three pairs of pixels (n, h, w) or (n, 3, h, w), float in [0, 1], and labels (n,). The test images come from the
    source's own test part if it has one. Validation and test are drawn first; training gets at most n_train of what is left
    (digits: 200, 200 and 1397). With n_test=None they are all of that part; of a source that has none, as many as n_val.

    Raises ConfigError if a part would have fewer images than there are classes.
    """
    if n_test is None:
        n_test = n_val if images.test_labels is None else len(images.test_labels)
    for key, n in (("n_train", n_train), ("n_val", n_val), ("n_test", n_test)):
        if n < images.n_classes:
            raise ConfigError(f"{key}={n}: at least one image of each of the {images.n_classes} classes, e.g. {key}=200")
    pool = balanced_order(images.train_labels, generator(seed, "images", "train"))
    val, pool = pool[:n_val], pool[n_val:]
    if images.test_pixels is None or images.test_labels is None:
        test_pixels, test_labels = images.train_pixels, images.train_labels
        test, pool = pool[:n_test], pool[n_test:]
    else:
        test_pixels, test_labels = images.test_pixels, images.test_labels
        test = balanced_order(test_labels, generator(seed, "images", "test"))[:n_test]
        if len(test) < n_test:
            raise ConfigError(f"n_test={n_test}: the source has {len(test)} test images; ask for no more")
    train = pool[:n_train]
    if len(train) < images.n_classes:
        raise ConfigError(
            f"n_val={n_val}, n_test={n_test}: of the source's {len(images.train_labels)} images that leaves "
            f"{len(train)} for training; ask for fewer"
        )
    return (
        (_floats(images.train_pixels[train]), images.train_labels[train]),
        (_floats(images.train_pixels[val]), images.train_labels[val]),
        (_floats(test_pixels[test]), test_labels[test]),
    )


def _floats(pixels: Tensor) -> Tensor:
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels

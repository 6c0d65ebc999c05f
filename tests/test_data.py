"""Sources, splits and the data groups."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inn_lab import _torchvision  # noqa: F401
from inn_lab.data import Classification, Images, RandomAnomaly, UniformAnomaly, divide, load, sets, sources
from inn_lab.data.transforms import normalise, resize
from inn_lab.errors import ConfigError

import torchvision.datasets.mnist  # isort: skip
import torchvision.datasets.utils  # isort: skip

COMMON = dict(n_train=100, n_val=60, n_test=60, batch_size=16, image_size=12, mean=0.3, std=0.4, seed=0)


@pytest.fixture(scope="module")
def digits() -> Images:
    return load("digits", None)


def numbered(n: int, n_test: int | None = None) -> Images:
    """Images that carry their own number: every pixel of image i is i, and test images follow on. Class i % 10."""

    def part(start: int, n: int):
        index = torch.arange(start, start + n)
        return index.float()[:, None, None].expand(n, 8, 8).clone(), index % 10

    return Images(*part(0, n), *(part(n, n_test) if n_test else (None, None)))


def collect(data, part: str, epoch: int = 0):
    xs, ys = zip(*data.batches(part, epoch), strict=True)
    return torch.cat(xs), torch.cat(ys)


# --- the sources


def test_digits_are_all_there(digits):
    assert digits.train_pixels.shape == (1797, 8, 8)
    assert (digits.train_pixels.min(), digits.train_pixels.max()) == (0, 1)
    assert digits.n_classes == 10
    assert digits.test_pixels is None


def test_real_mnist():
    root = os.environ.get("INN_LAB_DATA")
    if not root or not (Path(root) / "MNIST").is_dir():
        pytest.skip("INN_LAB_DATA names no folder that holds MNIST")
    images = load("mnist", root)
    (train, labels), _, (test, _) = divide(images, 2000, 200, 200, seed=0)
    assert images.train_pixels.shape == (60_000, 28, 28)
    assert images.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # as published
    assert labels.bincount().tolist() == [200] * 10
    floats = images.train_pixels.float() / 255
    assert float(floats.mean()) == pytest.approx(0.1307, abs=1e-4)
    assert float(floats.std()) == pytest.approx(0.3081, abs=1e-4)
    assert float(train.mean()) == pytest.approx(0.1307, abs=3e-3)
    assert test.max() == 1


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(ConfigError, match=r"name=mnits: no such source; did you mean mnist"):
        load("mnits", None)


@pytest.fixture
def offline(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Error downloading:\nTried a mirror, got:\nno network")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fail)


def test_files_in_torchvisions_layout_are_read(made_mnist, offline):
    images = load("mnist", str(made_mnist))
    parts = (images.train_pixels, images.train_labels), (images.test_pixels, images.test_labels)
    for (pixels, labels), n in zip(parts, (80, 30), strict=True):
        index = torch.arange(n)
        assert torch.equal(pixels, index.byte()[:, None, None].expand(n, 28, 28))
        assert torch.equal(labels, index % 10)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_missing_files_say_where_and_what_to_do(name, tmp_path, offline):
    root = tmp_path / "nowhere"
    with pytest.raises(ConfigError) as caught:
        load(name, str(root))
    text = str(caught.value)
    assert f"source={name}" in text
    assert str(root) in text
    assert "INN_LAB_DATA" in text
    assert "source=digits" in text
    assert "\n" not in text
    assert not root.exists()  # nothing half made is left


def test_no_folder_is_an_error():
    with pytest.raises(ConfigError, match=r"root=None"):
        load("mnist", None)


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def half(url, download_root, filename, md5):
        if "labels" in filename:
            raise ConnectionResetError("the line went dead")
        (Path(download_root) / filename.removesuffix(".gz")).write_bytes(b"half")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", half)
    with pytest.raises(ConfigError, match="ConnectionResetError: the line went dead"):
        load("mnist", str(tmp_path))
    assert list(tmp_path.rglob("*")) == []


def test_a_download_arrives(made_mnist, tmp_path, monkeypatch):
    def fetch(url, download_root, filename, md5):
        name = filename.removesuffix(".gz")
        whole = (made_mnist / "MNIST" / "raw" / name).read_bytes()
        (Path(download_root) / filename).write_bytes(gzip.compress(whole, compresslevel=0))
        (Path(download_root) / name).write_bytes(whole)

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fetch)
    assert len(load("mnist", str(tmp_path)).test_labels) == 30
    assert sorted(p.name for p in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(sources.IDX)


@pytest.mark.parametrize("file", sources.IDX)
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[: len(b) // 2],
        lambda b: b"\x1f\x8b" + b[2:],
        lambda b: b + b"\x00",
        lambda b: b[:-1] + bytes([b[-1] ^ 1]),
        lambda b: b[:16] + b[:15:-1],
    ],
    ids=["empty", "half", "magic", "too long", "a bit", "reversed"],
)
def test_a_file_that_is_not_the_published_one_is_named(file, damage, made_mnist, offline):
    """Its shape and its values may be as they should: labels in another order are those of other images."""
    path = made_mnist / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=f"{file}: damaged, or another set's .*; move it away") as caught:
        load("mnist", str(made_mnist))
    assert "\n" not in str(caught.value)


def test_one_set_never_stands_in_for_another(made_mnist, offline):
    (made_mnist / "FashionMNIST").symlink_to(made_mnist / "MNIST")
    with pytest.raises(ConfigError, match=f"{sources.IDX[0]}: damaged, or another set's .*, fashion_mnist's is f4a8712d"):
        load("fashion_mnist", str(made_mnist))


def test_a_file_is_compared_once_and_again_when_it_has_changed(made_mnist, monkeypatch):
    compared, whole = [], torchvision.datasets.utils.calculate_md5
    monkeypatch.setattr(torchvision.datasets.utils, "calculate_md5", lambda path: compared.append(path.name) or whole(path))
    for _ in range(2):
        load("mnist", str(made_mnist))
    assert compared == [*sources.IDX]
    path = made_mnist / "MNIST" / "raw" / sources.IDX[1]
    os.utime(path, ns=(0, 0))
    load("mnist", str(made_mnist))
    assert compared == [*sources.IDX, sources.IDX[1]]


@pytest.mark.parametrize("what", ["is_file", "open"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(what, made_mnist, monkeypatch, offline):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(*((Path, "is_file") if what == "is_file" else ("builtins.open",)), refuse)
    with pytest.raises(ConfigError, match=r"Permission denied.*change its permissions") as caught:
        load("mnist", str(made_mnist))
    assert sources.IDX[0] in str(caught.value) and "damaged" not in str(caught.value) and "\n" not in str(caught.value)


def test_importing_the_room_is_light():
    code = "import sys, inn_lab.data; print([m for m in ('torchvision', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- the split


@pytest.mark.parametrize("n_test", [None, 500])
def test_parts_are_disjoint_and_balanced(n_test):
    parts = divide(numbered(2000, n_test), 1000, 200, 200, seed=3)
    seen = [pixels[:, 0, 0].long() for pixels, _ in parts]
    assert len(torch.cat(seen).unique()) == 1400
    for index, (_, labels) in zip(seen, parts, strict=True):
        assert torch.equal(labels, index % 10)  # each image kept its label
        assert labels.bincount(minlength=10).tolist() == [len(labels) // 10] * 10
    assert (seen[2] >= 2000).all() == (n_test is not None)  # from the source's own test part


@given(st.integers(10, 60), st.integers(10, 60), st.integers(10, 60), st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_any_split_is_balanced_as_far_as_its_size_divides(n_train, n_val, n_test, seed):
    for labels in (labels for _, labels in divide(numbered(400), n_train, n_val, n_test, seed)):
        counts = labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= 1


def test_a_split_follows_its_seed():
    a, b, c = (divide(numbered(500), 100, 50, 50, seed)[0][0] for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_training_makes_do_with_what_is_left(digits):
    parts = divide(digits, 2000, 200, 200, seed=0)
    assert [len(labels) for _, labels in parts] == [1397, 200, 200]
    assert parts[1][1].bincount().tolist() == parts[2][1].bincount().tolist() == [20] * 10


@pytest.mark.parametrize(
    ("n_train", "n_val", "n_test", "text"),
    [
        (5, 20, 20, "n_train=5"),
        (20, 9, 20, "n_val=9"),
        (20, 20, 0, "n_test=0"),
        (20, 60, 35, "n_val=60, n_test=35: of the source's 100 images that leaves 5"),
        (20, 90, 900, "leaves 0 for training"),
    ],
)
def test_a_split_that_cannot_be(n_train, n_val, n_test, text):
    with pytest.raises(ConfigError, match=text):
        divide(numbered(100), n_train, n_val, n_test, seed=0)


@pytest.mark.parametrize(("there", "tested"), [(50, 50), (None, 20)])
def test_all_test_images_that_the_source_has_or_as_many_as_n_val(there, tested):
    images = numbered(100, there)
    assert [len(labels) for _, labels in divide(images, 40, 20, None, seed=0)] == [40, 20, tested]
    data = RandomAnomaly(images, seq_len=2, **COMMON | dict(n_train=40, n_val=20, n_test=None))
    assert data.sizes == {"train": 40, "val": 20, "test": tested}
    once, again = ([y for _, y in data.batches("test")] for _ in range(2))
    assert sum(map(len, once)) == tested and all(map(torch.equal, once, again))


def test_more_test_images_than_there_are():
    with pytest.raises(ConfigError, match=r"n_test=60: the source has 50 test images"):
        divide(numbered(100, 50), 20, 20, 60, seed=0)


# --- the data groups


GROUPS = [
    lambda images, **more: UniformAnomaly(images, seq_len=4, **COMMON | more),
    lambda images, **more: RandomAnomaly(images, seq_len=4, **COMMON | more),
    lambda images, **more: Classification(images, transforms="both", iterations=3, **COMMON | more),
]
groups = pytest.mark.parametrize("build", GROUPS, ids=["uniform", "random", "classification"])


@groups
def test_what_a_group_says_is_what_it_yields(build, digits):
    data = build(digits)
    for part in ("train", "val", "test"):
        batches = data.batches(part)
        sizes = [len(y) for _, y in batches]
        assert len(sizes) == len(batches)
        assert sum(sizes) == data.sizes[part]
        assert set(sizes[:-1]) == {16}
        for x, y in batches:
            assert x.shape == (len(y), data.steps, data.n_inputs)
            assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
            assert x.isfinite().all()
            assert 0 <= y.min() <= y.max() < data.n_outputs


@groups
def test_an_epoch_repeats_and_epochs_differ(build, digits):
    data = build(digits)
    first = collect(data, "train", 0)
    second = collect(data, "train", 1)
    assert not torch.equal(first[0], second[0])
    for again in (collect(data, "train", 0), collect(build(digits), "train", 0)):
        assert torch.equal(again[0], first[0])
        assert torch.equal(again[1], first[1])
    batches = data.batches("train", 1)
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.cat([x for x, _ in batches]))


@groups
def test_without_redraw_every_epoch_is_the_first(build, digits):
    drawn, fixed = build(digits), build(digits, redraw=False)
    for part, epoch in (("train", 0), ("train", 3), ("val", 0), ("test", 0)):
        x, y = collect(fixed, part, epoch)
        first = collect(drawn, part, 0)
        assert torch.equal(x, first[0]) and torch.equal(y, first[1]), (part, epoch)


@pytest.mark.parametrize("name", ["uniform", "random", "both"])
def test_the_probability_comes_to_the_images(digits, name):
    """At 0 nothing is erased or moved: of a still image nothing changes; of sequences only what is blurred, and so on."""
    if name == "both":
        x, _ = collect(Classification(digits, "both", 1, probability=0.0, **COMMON), "val")
        assert torch.equal(x, collect(Classification(digits, "none", 1, **COMMON), "val")[0])
        return
    group, distinct = {"uniform": (UniformAnomaly, 1), "random": (RandomAnomaly, 6)}[name]
    data = [group(digits, seq_len=6, probability=probability, **COMMON) for probability in (1.0, 0.0)]
    assert data[0].distinct == distinct
    images = {tuple(row) for row in normalise(data[0]._pixels["train"], 0.3, 0.4).flatten(1).tolist()}
    shares = []
    for one in data:
        frames = collect(one, "train")[0][:, :6].flatten(0, 1).tolist()
        shares.append(sum(tuple(frame) in images for frame in frames) / len(frames))
    assert abs(shares[0] - 1 / 8) < 0.1 < 0.45 < shares[1]  # one kind of eight leaves an image as it is; without chance, five


@groups
def test_validation_stays_whatever_the_training_draws(build, digits):
    data, other = build(digits), build(digits)
    before = collect(data, "val")
    for epoch in range(3):
        collect(data, "train", epoch)
    torch.rand(7)  # nor does torch's global state matter
    for after in (collect(data, "val", 5), collect(other, "val")):
        assert torch.equal(after[0], before[0])
        assert torch.equal(after[1], before[1])
    assert not torch.equal(before[0], collect(data, "test")[0])


@groups
def test_another_seed_is_other_data(build, digits):
    for part in ("train", "val", "test"):
        assert not torch.equal(collect(build(digits), part)[0], collect(build(digits, seed=1), part)[0])


@groups
def test_the_batch_size_changes_no_example(build, digits):
    expected = collect(build(digits), "train", 2)
    for batch_size in (1, 7, 64, 1000):
        x, y = collect(build(digits, batch_size=batch_size), "train", 2)
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])


@given(st.lists(st.integers(1, 9), max_size=8), st.integers(1, 12))
def test_rebatching_keeps_order_and_cuts_evenly(lengths, size):
    values = torch.arange(sum(lengths))
    batches = list(sets.rebatch([(piece[:, None], piece) for piece in values.split(lengths)] if lengths else [], size))
    assert torch.equal(torch.cat([y for _, y in batches]) if batches else values, values)
    assert all(torch.equal(x[:, 0], y) for x, y in batches)
    assert [len(y) for _, y in batches] == [size] * (len(values) // size) + ([len(values) % size] if len(values) % size else [])


def test_sequences_are_as_many_as_asked_though_the_images_are_fewer(digits):
    common = COMMON | dict(n_train=2000, n_val=200, n_test=200)
    assert RandomAnomaly(digits, seq_len=9, **common).sizes == {"train": 2000, "val": 200, "test": 200}
    assert Classification(digits, "none", 1, **common).sizes == {"train": 1397, "val": 200, "test": 200}


@pytest.mark.parametrize("build", GROUPS[:2], ids=["uniform", "random"])
def test_a_sequence_ends_with_an_exact_blank(build, digits):
    data = build(digits)
    x, y = collect(data, "train")
    assert (data.steps, data.n_outputs) == (5, 5)
    assert (x[:, 4] == 0).all()
    assert (x[:, :4] != 0).flatten(2).any(2).all()
    assert set(y.tolist()) == set(range(4))


def test_uniform_copies_are_identical_but_one(digits):
    x, y = collect(UniformAnomaly(digits, seq_len=5, **COMMON), "train")
    same = (x[:, :5] == x[torch.arange(100), (y + 1) % 5][:, None]).all(dim=2)  # (n, L): as the one after the anomaly
    odd = torch.arange(5) == y[:, None]
    assert same[~odd].all()
    assert same[odd].float().mean() < 0.05  # to erase the background changes nothing


def known(data, part: str, frames: torch.Tensor) -> torch.Tensor:
    """Which of the part's images, untransformed, each frame is: (..., I) -> (...), or an error where it is none."""
    index = {tuple(row): i for i, row in enumerate(normalise(data._pixels[part], data.mean, data.std).flatten(1).tolist())}
    return torch.tensor([index[tuple(row)] for row in frames.flatten(0, -2).tolist()]).view(frames.shape[:-1])


@pytest.fixture
def recorded(monkeypatch):
    """Lets every image through as it is, and keeps the kinds it should have had."""
    kinds = []

    def through(x, kind, generator, which, probability):
        kinds.append(kind)
        return x[which]

    monkeypatch.setattr(sets, "apply_mixed", through)
    return kinds


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_random_sequences_show_different_images_of_one_class(digits, recorded, part):
    data = RandomAnomaly(digits, seq_len=6, **COMMON)
    x, y = collect(data, part)
    index = known(data, part, x[:, :6])  # (n, L)
    assert all(len(set(row)) == 6 for row in index.tolist())
    classes = data._labels[part][index]
    assert (classes == classes[:, :1]).all()
    assert set(classes[:, 0].tolist()) == set(range(10))
    kinds = torch.cat(recorded).view(-1, 6)
    odd = kinds.gather(1, y[:, None])
    assert ((kinds != odd).sum(dim=1) == 5).all()
    assert all(len(set(row)) == 2 for row in kinds.tolist())


def test_a_uniform_sequence_shows_one_image_in_two_kinds(digits, recorded):
    data = UniformAnomaly(digits, seq_len=4, **COMMON)
    index = known(data, "train", collect(data, "train")[0][:, :4])
    assert (index == index[:, :1]).all()
    for kinds in recorded:
        usual, odd = kinds.chunk(2)
        assert (usual != odd).all()


def test_classes_kinds_and_positions_are_equally_likely(recorded):
    data = RandomAnomaly(numbered(600), seq_len=5, **COMMON | dict(n_train=6000, n_val=100, n_test=100))
    x, y = collect(data, "train")
    kinds = torch.cat(recorded).view(-1, 5)
    usual, odd = kinds.gather(1, (y[:, None] + 1) % 5).flatten(), kinds.gather(1, y[:, None]).flatten()
    pairs = usual * 8 + odd
    classes = data._labels["train"][known(data, "train", x[:, :1])].flatten()
    for values, n in ((y, 5), (usual, 8), (odd, 8), (classes, 10)):
        counts = values.bincount(minlength=n)
        assert (counts - 6000 / n).abs().max() < 4.5 * (6000 / n) ** 0.5
    assert len(pairs.unique()) == 56


def test_a_still_image_is_a_view(digits):
    data = Classification(digits, "none", 7, **COMMON)
    x, y = next(iter(data.batches("train")))
    assert (data.steps, data.n_outputs, x.stride(1)) == (7, 10, 0)
    assert torch.equal(data._labels["train"][known(data, "train", x[:, 3])], y)


def test_one_epoch_of_classification_is_each_image_once(digits):
    data = Classification(digits, "none", 1, **COMMON)
    orders = [known(data, "train", collect(data, "train", epoch)[0][:, 0]) for epoch in (0, 1)]
    assert orders[0].sort().values.tolist() == orders[1].sort().values.tolist() == list(range(100))
    assert orders[0].tolist() != orders[1].tolist()
    assert known(data, "val", collect(data, "val")[0][:, 0]).tolist() == list(range(60))


def test_classification_transforms_afresh(digits):
    still, moved = (Classification(digits, name, 1, **COMMON) for name in ("none", "both"))
    assert not torch.equal(collect(still, "val")[0], collect(moved, "val")[0])
    images = normalise(resize(divide(digits, 100, 60, 60, seed=0)[1][0], 12), 0.3, 0.4).flatten(1)
    assert torch.equal(collect(still, "val")[0][:, 0], images)


@pytest.mark.parametrize(("n_val", "n_test", "part"), [(60, 100, "val"), (100, 60, "test")])
def test_more_different_images_than_there_are(digits, n_val, n_test, part):
    common = COMMON | dict(n_val=n_val, n_test=n_test)
    with pytest.raises(
        ConfigError, match=rf"seq_len=8: .* {part} part has 6 of class .; use seq_len=6 or less, or more than n_{part}=60"
    ):
        RandomAnomaly(digits, seq_len=8, **common)
    UniformAnomaly(digits, seq_len=8, **common)  # needs but one


def test_just_enough_different_images(digits):
    data = RandomAnomaly(digits, seq_len=6, **COMMON)  # 60 validation images: 6 of each class
    assert len(collect(data, "val")[1]) == 60


def test_the_smallest_image_is_large_enough(digits):
    x, _ = collect(RandomAnomaly(digits, seq_len=3, **COMMON | dict(image_size=8)), "train")
    assert x.isfinite().all()


def test_what_is_kept_can_meet_a_gradient(digits):
    """Lightning validates in inference mode; the batches that are first drawn there serve elsewhere too."""
    data = RandomAnomaly(digits, seq_len=4, **COMMON)
    with torch.inference_mode():
        collect(data, "val")
    weight = torch.ones(data.n_inputs, requires_grad=True)
    (next(iter(data.batches("val")))[0] @ weight).sum().backward()
    assert weight.grad.isfinite().all()


def test_an_unknown_part_is_an_error(digits):
    with pytest.raises(ValueError, match="part must be one of train, val, test"):
        Classification(digits, "none", 1, **COMMON).batches("training")

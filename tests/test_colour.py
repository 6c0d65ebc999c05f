"""Images in colour: CIFAR-10 on disk, and what becomes of an image's planes."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from experiments.dataset_gallery import picture
from inn_lab import _torchvision  # noqa: F401
from inn_lab.data import Classification, Images, RandomAnomaly, UniformAnomaly, load, sources
from inn_lab.data.transforms import ANOMALY, CLASSIFICATION, apply_mixed, apply_steps, resize
from inn_lab.errors import ConfigError
from inn_lab.studies.probe_settling import distort

import torchvision.datasets.cifar  # isort: skip

SMALL = ["data.n_train=50", "data.n_val=20", "data.n_test=20", "trainer.max_epochs=1", "trainer.progress=false"]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """The root of a made CIFAR-10, whose checksums torchvision then takes for its own: noise, 20 images a batch. No network."""
    root, random, sums = tmp_path / "root", np.random.default_rng(0), {}
    (root / "cifar-10-batches-py").mkdir(parents=True)
    for file in sources.BATCHES:
        pixels = random.integers(0, 256, (20, 3 * 32 * 32), dtype=np.uint8)
        content = pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(20)], "label_names": list("abcdefghij")})
        (root / "cifar-10-batches-py" / file).write_bytes(content)
        sums[file] = hashlib.md5(content).hexdigest()
    of_torchvision = torchvision.datasets.cifar.CIFAR10
    monkeypatch.setattr(of_torchvision, "train_list", [[file, sums[file]] for file in sources.BATCHES[:5]])
    monkeypatch.setattr(of_torchvision, "test_list", [[file, sums[file]] for file in sources.BATCHES[5:6]])
    monkeypatch.setattr(of_torchvision, "meta", of_torchvision.meta | {"md5": sums["batches.meta"]})

    def fail(*_, **__):
        raise RuntimeError("Error downloading:\nno network")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", fail)
    return root


# --- the source


def test_cifar_is_read_as_it_is_stored(cifar):
    images = load("cifar10", str(cifar))
    batches = [
        pickle.loads((cifar / "cifar-10-batches-py" / file).read_bytes())["data"].reshape(20, 3, 32, 32)
        for file in sources.BATCHES[:6]
    ]
    assert np.array_equal(images.train_pixels, np.concatenate(batches[:5]))
    assert np.array_equal(images.test_pixels, batches[5])
    assert images.train_labels.tolist() == [i % 10 for i in range(100)]
    assert images.train_pixels.dtype == torch.uint8 and images.train_pixels.is_contiguous() and images.n_classes == 10


def test_a_download_arrives(cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(
        torchvision.datasets.cifar,
        "download_and_extract_archive",
        lambda url, root, filename, md5: shutil.copytree(cifar, root, dirs_exist_ok=True),
    )
    assert torch.equal(load("cifar10", str(tmp_path / "new")).test_pixels, load("cifar10", str(cifar)).test_pixels)
    assert sorted(path.name for path in (tmp_path / "new" / "cifar-10-batches-py").iterdir()) == sorted(sources.BATCHES)


def test_a_missing_file_says_where_and_what_to_do(cifar):
    (cifar / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(ConfigError) as caught:
        load("cifar10", str(cifar))
    text = str(caught.value)
    assert f"source=cifar10: its files are not in {cifar / 'cifar-10-batches-py'}, and the download failed" in text
    assert "INN_LAB_DATA" in text and "source=digits" in text and "\n" not in text


@pytest.mark.parametrize("file", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_file_with_another_checksum_is_an_error(cifar, file):
    path = cifar / "cifar-10-batches-py" / file
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ConfigError, match=f"cifar-10-batches-py/{file}: damaged") as caught:
        load("cifar10", str(cifar))
    assert "\n" not in str(caught.value)


# --- an image's planes


@pytest.mark.parametrize("steps", [*ANOMALY.values(), *CLASSIFICATION.values()], ids=[*ANOMALY, *CLASSIFICATION])
def test_planes_are_transformed_alike(steps):
    """Each as the gray image that it is would be, under the same seed."""
    x = torch.rand(6, 3, 20, 20, generator=rng())
    y = apply_steps(x, steps, rng())
    for plane in range(3):
        torch.testing.assert_close(y[:, plane], apply_steps(x[:, plane], steps, rng()), atol=1e-6, rtol=0)


def test_planes_are_mixed_distorted_and_resized_alike():
    x, kinds = torch.rand(16, 3, 20, 20, generator=rng()), torch.arange(16) % 8
    for change in (lambda x: apply_mixed(x, kinds, rng()), lambda x: distort(x, 0.5, seed=0), lambda x: resize(x, 12)):
        for plane, changed in enumerate(change(x).unbind(1)):
            torch.testing.assert_close(changed, change(x[:, plane]), atol=1e-6, rtol=0)


# --- the data groups


@pytest.fixture
def images() -> Images:
    pixels = torch.randint(256, (200, 3, 16, 16), generator=rng(), dtype=torch.uint8)
    return Images(pixels[:150], torch.arange(150) % 10, pixels[150:], torch.arange(50) % 10)


COMMON = dict(n_train=100, n_val=50, n_test=50, batch_size=16, mean=0.4, std=0.2, seed=0)


def test_colour_is_normalised_and_flattened_plane_by_plane(images):
    data = Classification(images, "none", 3, image_size=16, **COMMON)
    assert (data.image, data.n_inputs) == ((3, 16, 16), 3 * 16 * 16)
    x = torch.cat([x for x, _ in data.batches("test")])
    expected = {tuple(row) for row in ((images.test_pixels.float() / 255 - 0.4) / 0.2).flatten(1).tolist()}
    assert x.shape == (50, 3, 768)
    assert {tuple(row) for row in x[:, 0].tolist()} == expected


@pytest.mark.parametrize("build", [UniformAnomaly, RandomAnomaly])
def test_sequences_in_colour(images, build):
    data = build(images, seq_len=4, image_size=12, **COMMON)
    x, y = (torch.cat(parts) for parts in zip(*data.batches("train"), strict=True))
    assert x.shape == (100, 5, 3 * 12 * 12) and x.isfinite().all()
    assert (x[:, 4] == 0).all() and (x[:, :4] != 0).flatten(2).any(2).all()
    if build is UniformAnomaly:  # the copies are the same in every plane
        same = (x[:, :4] == x[torch.arange(100), (y + 1) % 4][:, None]).all(dim=2)
        assert same[torch.arange(4) != y[:, None]].all()


# --- through the door


def test_cifar_brings_its_source_and_is_trained_on(lab, runs, cifar):
    words = ["experiment=wormhole_classification", "data=cifar10", "source.image_size=32", "model.width=4"]
    assert lab(*words, f"source.root={cifar}", *SMALL)[0] == 0
    run = runs("wormhole_classification").iloc[-1]
    assert (run["state"], run["data"], run["source"], run["data.transforms"]) == ("finished", "cifar10", "cifar10", "none")
    assert run["model/weights"] > 3 * 9 * 4 and np.isfinite(run["train/loss"])


def test_a_gallery_is_in_colour(lab, outputs, cifar):
    words = ["data=uniform_anomaly", "source=cifar10", f"source.root={cifar}", "study.examples=2"]
    assert lab("experiment=dataset_gallery", *words, *SMALL)[0] == 0
    (path,) = outputs.glob("jobs/dataset_gallery/*/files/examples.csv")
    axes, drawn = Figure().subplots(), []
    for pixels in pd.read_csv(path)["pixels"]:
        picture(axes, pixels)
        drawn.append(np.asarray(axes.images[-1].get_array()))
    assert [image.shape for image in drawn] == [(32, 32, 3)] * (2 * 9 + 8)
    baseline = drawn[2 * 9]  # an image under no transform
    assert any(np.array_equal(baseline, image.permute(1, 2, 0)) for image in load("cifar10", str(cifar)).test_pixels)

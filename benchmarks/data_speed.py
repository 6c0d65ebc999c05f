"""The time to draw a training epoch of random anomaly: batched, and with torchvision image by image.

    python -m benchmarks.data_speed [--source digits|mnist] [--repeats 5] [--device cuda]

2000 sequences of length 9: 18,000 transformed images and 2000 blanks, 50 × 50 pixels, in batches of 32. Three ways draw the
same kinds of transforms for the same images, in the same process, on the same threads: torchvision image by image, the lab by
torch's operations alone, as on a GPU, and the lab as it runs on the CPU; with `--device cuda` also the lab on a GPU. The least
of the repeats is compared, because other processes only add to a time; the median is given too.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import yaml
from torch import Tensor

from benchmarks.common import count, write
from inn_lab import _torchvision  # noqa: F401
from inn_lab.data import ANOMALY, RandomAnomaly, divide, load
from inn_lab.data import transforms as ours
from inn_lab.errors import ConfigError
from inn_lab.studies.clock import wait

import torchvision  # isort: skip
from torchvision import transforms  # isort: skip
from torchvision.transforms import v2  # isort: skip

SEQUENCES, LENGTH, SIZE, BATCH = 2000, 9, 50, 32
CPU = torch.device("cpu")
CONF = Path(__file__).parent.parent / "conf" / "source"


def image_by_image(mean: float, std: float) -> dict[str, transforms.Compose]:
    """The eight kinds as torchvision's own pipelines for one image (1, h, w)."""
    erase = transforms.RandomErasing(p=1, scale=(0.1, 0.2))
    perspective = transforms.RandomPerspective(0.9, p=1)
    between = {
        "baseline": [],
        "perspective_small": [transforms.RandomPerspective(0.5, p=1)],
        "perspective": [perspective],
        "erase": [erase],
        "noise": [v2.GaussianNoise(0, 0.01)],
        "erase_perspective": [erase, perspective],
        "blur": [transforms.GaussianBlur(15)],
        "sharpness": [transforms.RandomAdjustSharpness(4, p=1)],
    }
    before, after = transforms.Resize((SIZE, SIZE)), transforms.Normalize(mean, std)
    return {kind: transforms.Compose([before, *steps, after]) for kind, steps in between.items()}


def plain_epoch(pixels: Tensor, labels: Tensor, pipelines: dict[str, transforms.Compose]) -> None:
    """The obvious way: a loop over the sequences and over the images of each."""
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    batch = []
    for _ in range(SEQUENCES):
        of_class = members[torch.randint(len(members), ())]
        chosen = of_class[torch.randperm(len(of_class))[:LENGTH]]
        usual, odd = torch.randperm(len(ANOMALY))[:2].tolist()
        anomaly = torch.randint(LENGTH, ()).item()
        names = list(ANOMALY)
        images = [pipelines[names[odd if i == anomaly else usual]](pixels[k][None]) for i, k in enumerate(chosen)]
        batch.append(torch.cat([*images, torch.zeros(1, SIZE, SIZE)]).flatten(1))  # (L + 1, I)
        if len(batch) == BATCH:
            torch.stack(batch)  # (B, L + 1, I)
            batch = []


def batched_epoch(data: RandomAnomaly, epoch: int) -> None:
    for _ in data.batches("train", epoch):
        pass


def by_torch(data: RandomAnomaly, epoch: int) -> None:
    """As on a device that has no kernels."""
    with mock.patch.object(ours, "compiled", lambda name, x: None):
        batched_epoch(data, epoch)


def seconds(run: Callable[[int], None], repeats: int, device: torch.device = CPU) -> list[float]:
    run(0)  # the first run pays for what is cached
    times = []
    for repeat in range(repeats):
        wait(device)
        start = time.perf_counter()
        run(repeat + 1)
        wait(device)
        times.append(time.perf_counter() - start)
    return times


def measure(source: str, root: str | None, repeats: int, device: torch.device = CPU) -> list[dict]:
    """One row a way: seconds (the least and the median of the repeats), images/s, and how many times as fast as image by
    image."""
    images, known = load(source, root), yaml.safe_load((CONF / f"{source}.yaml").read_text())
    mean, std = known["mean"], known["std"]
    sizes = {
        "n_train": SEQUENCES,
        "n_val": 200,
        "n_test": 200,
        "batch_size": BATCH,
        "image_size": SIZE,
        "mean": mean,
        "std": std,
    }
    data = RandomAnomaly(images, LENGTH, **sizes, seed=0)
    (pixels, labels), _, _ = divide(images, SEQUENCES, 200, 200, seed=0)
    pipelines = image_by_image(mean, std)
    torch.manual_seed(0)  # torchvision draws from the global state
    times = {
        "torchvision, image by image": seconds(lambda _: plain_epoch(pixels, labels, pipelines), repeats),
        "inn_lab, torch's operations": seconds(lambda epoch: by_torch(data, epoch), repeats),
        "inn_lab": seconds(lambda epoch: batched_epoch(data, epoch), repeats),
    }
    if device != CPU:
        there = RandomAnomaly(images, LENGTH, **sizes, seed=0, device=device)
        times[f"inn_lab, {device}"] = seconds(lambda epoch: batched_epoch(there, epoch), repeats, device)
    slow = min(times["torchvision, image by image"])
    return [
        {
            "way": way,
            "seconds_min": min(values),
            "seconds_median": statistics.median(values),
            "images_per_s": SEQUENCES * (LENGTH + 1) / min(values),
            "times_as_fast": slow / min(values),
            "repeats": repeats,
            "source": source,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        }
        for way, values in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="One training epoch of random anomaly, batched and image by image.")
    parser.add_argument("--source", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here; leave it out")
    try:
        rows = measure(options.source, os.environ.get("INN_LAB_DATA", "data"), options.repeats, torch.device(options.device))
    except ConfigError as error:
        parser.error(str(error))

    print(f"{'':30}{'s (least)':>12}{'s (median)':>12}{'images/s':>12}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['way']:30}{row['seconds_min']:12.3f}{row['seconds_median']:12.3f}"
            f"{row['images_per_s']:12,.0f}{row['times_as_fast']:8.1f}"
        )
    first = rows[0]
    print(f"{first['source']}, {first['threads']} threads, torch {first['torch']}, torchvision {first['torchvision']}")
    print(f"written to {write('data_speed', rows)}")


if __name__ == "__main__":
    main()

"""The data groups of images: what a model reads, and the answer that it should give.

Symbols: B batch, T steps, I inputs (the pixels of an image, plane by plane), L images in a sequence. All yield x (B, T, I),
float32 and normalised, and y (B,), int64. The images, kinds, parameters and positions that are drawn depend on the seed alone,
not on the device, the batch size or earlier draws.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from inn_lab import machine
from inn_lab.data.sources import Images, divide
from inn_lab.data.transforms import ANOMALY, CLASSIFICATION, apply_mixed, apply_steps, normalise, resize
from inn_lab.errors import ConfigError
from inn_lab.ranges import Many, Probability, SequenceLength, Steps, one_of
from inn_lab.seeding import generator

Batch = tuple[Tensor, Tensor]

PARTS = ("train", "val", "test")
Transforms = Annotated[str, one_of(*CLASSIFICATION)]
CHUNK = 64  # examples made at once: their images fit in the processor's cache


class Batches:
    """One pass over a part of the data. Each iteration gives the same tensors."""

    def __init__(self, n: int, batch_size: int, start: Callable[[], Iterable[Batch]]):
        self._n, self._batch_size, self._start = n, batch_size, start

    def __len__(self) -> int:
        return -(-self._n // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._start())


class Kept(ABC):
    """Base class of data that are kept as they are, of which only the order of training examples changes."""

    sizes: dict[str, int]
    batch_size: int
    seed: int

    def batches(self, part: str, epoch: int = 0) -> Batches:
        """The batches of "train", "val" or "test", on the device; the last may be shorter.

        The order of training examples is drawn anew for each epoch; the others are always in the same order.
        """
        check_part(part)
        return Batches(self.sizes[part], self.batch_size, lambda: self._pass(part, epoch))

    def _pass(self, part: str, epoch: int) -> Iterator[Batch]:
        order = torch.arange(self.sizes[part])
        if part == "train":
            order = torch.randperm(len(order), generator=generator(self.seed, part, epoch))
        return (self._batch(part, rows) for rows in order.split(self.batch_size))

    @abstractmethod
    def _batch(self, part: str, rows: Tensor) -> Batch:
        """The examples `rows` of a part."""


def check_part(part: str) -> None:
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part}")


def rebatch(pieces: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Joins and cuts pieces of any length into batches of `size`; the last may be shorter."""
    held: list[Batch] = []
    for piece in pieces:
        held.append(piece)
        if sum(len(y) for _, y in held) >= size:
            x, y = _join(held)
            whole = len(y) - len(y) % size
            yield from zip(x[:whole].split(size), y[:whole].split(size), strict=True)
            held = [(x[whole:], y[whole:])] if whole < len(y) else []
    if held:
        yield _join(held)


def _join(pieces: list[Batch]) -> Batch:
    if len(pieces) == 1:
        return pieces[0]
    xs, ys = zip(*pieces, strict=True)
    return torch.cat(xs), torch.cat(ys)


class ImageSet(ABC):
    """Base class of the image data groups. It resizes the images of each part once, and makes batches.

    images: a source's images, as `load` gives them.
    n_train, n_val, n_test: how many examples each part has. They are made of as many images; if the source has fewer, the
        training part has the rest only. n_test=None: all images that the source has for testing (see `divide`).
    image_size: the images are resized to image_size × image_size and kept so (10 kB an image at 50 × 50 in gray).
    redraw: whether training examples are drawn anew for each epoch; else every epoch has those of epoch 0, in their order, as
        in the code that Hershey published later (github.com/qbhershey/iterativenn), which reads them from a file.
    probability: with which each erasing and each perspective is applied to an image. Hershey 2023, 2.3.1, and his published
        generator (github.com/qbhershey/RandomAnomaly) have 1, which is the default; 2.3.2 does not say, and torchvision's own
        default is 0.5.
    mean, std: of the source's pixels; pixels in [0, 1] leave as (pixel − mean) / std.
    device: where the images are kept and transformed.
    once: once(name, make) returns what `make` returns. Jobs with the same data compute it only once.

    `image` is the shape of an image: (1 or 3 planes, image_size, image_size).

    Raises ConfigError if the source has too few images for a part.
    """

    image: tuple[int, int, int]
    n_outputs: int
    steps: int

    def __init__(
        self,
        images: Images,
        *,
        n_train: Many,
        n_val: Many,
        n_test: Many | None,
        batch_size: Many,
        redraw: bool = True,
        probability: Probability = 1.0,
        mean: float,
        std: float,
        seed: int,
        image_size: int = 50,
        device: str | torch.device = "cpu",
        once: Callable[[str, Callable[[], Any]], Any] = lambda name, make: make(),
    ):
        self.batch_size, self.mean, self.std, self.seed, self.device = batch_size, mean, std, seed, torch.device(device)
        self.redraw, self.probability = redraw, probability
        self.image = (images.train_pixels.shape[1:-2].numel(), image_size, image_size)
        self.n_inputs = math.prod(self.image)
        self.n_classes = images.n_classes
        parts = dict(zip(PARTS, divide(images, n_train, n_val, n_test, seed), strict=True))
        n = sum(len(labels) for _, labels in parts.values())
        held = 2 * n * self.n_inputs  # the images, and a copy while they are written for other jobs
        machine.fits(f"{n} images", held, torch.device("cpu"), {"image_size": image_size})
        self._labels = {part: labels for part, (_, labels) in parts.items()}  # (n,), on the CPU, where the drawing is done
        self.sizes = {"train": n_train, "val": n_val, "test": len(self._labels["test"])}
        self._pixels: dict[str, Tensor] = once(  # (n, size, size) or (n, 3, size, size), on the device
            "images", lambda: {part: resize(parts[part][0], image_size).to(self.device) for part in PARTS if part != "test"}
        )
        self._test_pixels = parts["test"][0]  # as the source has them: a job needs them once, at its end
        self._once = once
        self._validation: list[Batch] | None = None

    def images(self, part: str) -> tuple[Tensor, Tensor]:
        """The images of a part before any transform, and their classes (n,).

        The images are (n, size, size) or (n, 3, size, size), in [0, 1], on the device.
        """
        check_part(part)
        if part not in self._pixels:
            self._pixels[part] = resize(self._test_pixels, self.image[-1]).to(self.device)
        return self._pixels[part], self._labels[part]

    def batches(self, part: str, epoch: int = 0) -> Batches:
        """The batches of "train", "val" or "test": x (B, T, I) and y (B,), on the device; the last may be shorter.

        Training examples are drawn anew for each epoch, and do not depend on earlier draws; without `redraw` every epoch has
        those of epoch 0. `epoch` changes nothing of the others: validation examples, which each epoch needs, are drawn once and
        kept; test examples are drawn anew, and come out the same.
        """
        check_part(part)
        drawn = [epoch if self.redraw else 0] if part == "train" else []
        start = self._keep if part == "val" else (lambda: self._draw(part, *drawn))
        return Batches(self.sizes[part], self.batch_size, start)

    def _keep(self) -> list[Batch]:
        if self._validation is None:
            with torch.inference_mode(False):  # Lightning validates in inference mode, whose tensors autograd cannot use later
                self._validation = self._once("val", lambda: list(self._draw("val")))
        return self._validation

    def _draw(self, part: str, *epoch: int) -> Iterator[Batch]:
        rng, n = generator(self.seed, part, *epoch), self.sizes[part]
        for x, y in rebatch(self._pieces(part, n, rng), self.batch_size):
            yield x.expand(-1, self.steps, -1), y  # (B, T, I)

    @abstractmethod
    def _pieces(self, part: str, n: int, rng: Generator) -> Iterator[Batch]:
        """n examples, CHUNK at a time: x (b, T or 1, I) and y (b,)."""


class Anomaly(ImageSet):
    """L images and then one blank: which of the images was transformed differently from the others? (H 2.3.2)

    T = L + 1 steps; y is the anomaly's position, 0 … L − 1. The outputs are L logits for the position, and with `flag` one
    more, which tells whether the current image is the anomaly. Each sequence draws two different transforms of the eight in
    `ANOMALY`: one for its images, one for the anomaly. The blank is exactly zero after normalising, "no input".

    There are n_train, n_val and n_test *sequences*, even if the source has fewer images (digits: 2000 sequences of 1397
    images). The sequences of a part share its images, which are in no other part. Hershey's published generator draws each
    image independently from all 60,000 of MNIST, also for validation and test; fewer than 1 sequence in 100 then has an image
    twice. Raises ConfigError if a class has fewer images in a part than a sequence needs.
    """

    def __init__(self, images: Images, seq_len: SequenceLength, flag: bool = True, **common):
        super().__init__(images, **common)
        self.seq_len, self.steps, self.n_outputs = seq_len, seq_len + 1, seq_len + flag
        kept = 2 * self.sizes["val"] * self.steps * self.n_inputs  # with a copy while they are written for other jobs
        machine.fits("the validation sequences", kept, torch.device("cpu"), {"n_val": self.sizes["val"], "seq_len": seq_len})
        self._counts = {part: labels.bincount(minlength=self.n_classes) for part, labels in self._labels.items()}
        self._members = {}  # (classes, most): the images of each class, padded
        for part, labels in self._labels.items():
            by_class = labels.argsort(stable=True).split(self._counts[part].tolist())
            self._members[part] = pad_sequence(by_class, batch_first=True)
            fewest, rarest = (int(v) for v in self._counts[part].min(dim=0))
            if fewest < self.distinct:
                raise ConfigError(
                    f"seq_len={seq_len}: a sequence needs {self.distinct} different images of one class, but the {part} part "
                    f"has {fewest} of class {rarest}; use {f'seq_len={fewest} or less, or ' if fewest >= 3 else ''}"
                    f"more than n_{part}={self.sizes[part]}, or another source"
                )

    @property
    @abstractmethod
    def distinct(self) -> int:
        """How many different images of one class a sequence needs."""

    def _choose(self, part: str, n: int, rng: Generator) -> Tensor:
        """n times `distinct` different images of one class, each class equally likely: (n, distinct)."""
        classes = torch.randint(self.n_classes, (n, 1), generator=rng)
        members, counts = self._members[part], self._counts[part]
        lots = torch.rand(n, members.shape[1], generator=rng)
        lots.masked_fill_(torch.arange(members.shape[1]) >= counts[classes], -1.0)  # the padding is never drawn
        return members[classes, lots.topk(self.distinct, dim=1).indices]  # (n, distinct)

    def _pieces(self, part: str, n: int, rng: Generator) -> Iterator[Batch]:
        for start in range(0, n, CHUNK):
            b = min(CHUNK, n - start)
            chosen = self._choose(part, b, rng)
            usual = torch.randint(len(ANOMALY), (b,), generator=rng)
            odd = (usual + torch.randint(1, len(ANOMALY), (b,), generator=rng)) % len(ANOMALY)  # another one
            y = torch.randint(self.seq_len, (b,), generator=rng)
            x = torch.empty(b, self.steps, self.n_inputs, device=self.device)
            self._show(x[:, : self.seq_len], self.images(part)[0], chosen, usual, odd, y, rng)
            x[:, self.seq_len] = 0.0  # the blank
            yield x, y.to(self.device)

    @abstractmethod
    def _show(self, x: Tensor, pixels: Tensor, chosen: Tensor, usual: Tensor, odd: Tensor, y: Tensor, rng: Generator) -> None:
        """Writes the images of b sequences into x (b, L, I).

        pixels[chosen] are the images to show, (b, distinct); usual and odd are their kinds and y the anomaly's positions, (b,).
        """


class UniformAnomaly(Anomaly):
    """One image: L − 1 identical copies of one transformed instance, and one instance with the other transform.

    In 0.3 % of the sequences (MNIST at 50 × 50) both transforms give the same picture, for example if one erases a part of the
    background and the other is the baseline. Then the position can only be guessed. The sources' own task has this too.
    """

    distinct = 1

    def _show(self, x, pixels, chosen, usual, odd, y, rng):
        which = chosen.repeat(2, 1).flatten()
        both = apply_mixed(pixels, torch.cat([usual, odd]), rng, which, self.probability)  # (2b, …, H, W)
        copies, others = normalise(both.flatten(1), self.mean, self.std).chunk(2)  # (b, I) each
        x[:] = copies[:, None]
        x[torch.arange(len(y)), y] = others


class RandomAnomaly(Anomaly):
    """L different images of one class, each transformed with its own parameters."""

    @property
    def distinct(self) -> int:
        return self.seq_len

    def _show(self, x, pixels, chosen, usual, odd, y, rng):
        kinds = usual[:, None].repeat(1, self.seq_len)  # (b, L)
        kinds.scatter_(1, y[:, None], odd[:, None])
        images = apply_mixed(pixels, kinds.flatten(), rng, chosen.flatten(), self.probability)  # (b · L, …, H, W)
        normalise(images.view(x.shape), self.mean, self.std, out=x)


class Classification(ImageSet):
    """The class of a still image, which is iterated: x is the same at each of `iterations` steps (H 2.3.1).

    `transforms` is none, erase, perspective or both. An epoch has each training image once, in a new order and transformed
    anew; y is the class. x is an expanded view (stride 0 over the steps), so iterations cost no memory. If the source has fewer
    images than n_train, the training part has fewer too.
    """

    def __init__(self, images: Images, transforms: Transforms, iterations: Steps, **common):
        super().__init__(images, **common)
        self.steps, self.n_outputs = iterations, self.n_classes
        self.sizes = {part: len(labels) for part, labels in self._labels.items()}
        self._steps = CLASSIFICATION[transforms]

    def _pieces(self, part: str, n: int, rng: Generator) -> Iterator[Batch]:
        order = torch.randperm(n, generator=rng) if part == "train" else torch.arange(n)
        for rows in order.split(CHUNK):
            images = self.images(part)[0].index_select(0, rows.to(self.device))
            x = apply_steps(images, self._steps, rng, self.probability)
            yield normalise(x, self.mean, self.std).view(len(rows), 1, self.n_inputs), self._labels[part][rows].to(self.device)

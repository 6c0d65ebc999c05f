"""A user's own sequences, from a file of arrays or a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from inn_lab import machine
from inn_lab.data import files
from inn_lab.data.sets import PARTS, Batch, Kept
from inn_lab.errors import near, reading
from inn_lab.ranges import Many, Range
from inn_lab.seeding import generator

NAMES = ("x", "y", "lengths")
NOT_ASKED = -100  # in place of a class; torch's `ignore_index`
ENDS = tuple(files.READERS)
File = Annotated[str, Range(lambda v: v.endswith(ENDS), f"a file of your own whose name ends in {', '.join(ENDS)}", "own.npz")]


@dataclass(frozen=True)
class Sequences:
    """x (n, T, I), float32, zero after a sequence's end; y; and lengths (n,), how many steps each sequence has, on the CPU.

    y of classes is int64, (n,) at the end or (n, T) at each step; of real values float32, (n, O) or (n, T, O). Where y is of
    each step, it is NOT_ASKED or not a number after a sequence's end.
    """

    x: Tensor
    y: Tensor
    lengths: Tensor

    @property
    def kind(self) -> str:
        """What parts of one file have in common, in words."""
        what = f"real values ({self.y.shape[-1]})" if self.y.is_floating_point() else "classes"
        return f"{self.x.shape[2]} inputs and {what} at {'the end' if self.at_end else 'each step'}"

    @property
    def at_end(self) -> bool:
        return self.y.dim() == 1 + self.y.is_floating_point()

    def of(self, rows: Tensor) -> "Sequences":
        return Sequences(self.x[rows], self.y[rows], self.lengths[rows])

    def to(self, device: torch.device) -> "Sequences":
        return Sequences(self.x.to(device), self.y.to(device), self.lengths)


class Tensors(Kept):
    """Sequences from a file, and their classes or real values, at the end or at each step. docs/data.md shows the files.

    x (B, T, I), float32; y (B, T), int64, or (B, T, O), float32, as `training.objectives.Targets` takes it: −100 or not a
    number at the steps that ask for nothing, that is all but the last one where y is of the end, and those after a shorter
    sequence's end. There x is zero. T is the longest length of a batch.

    n_outputs is the number of classes, 1 + the greatest one in the file, or O.

    path: the file. If it is divided into parts (x_train, x_val, …), they are taken as they are; else the seed divides it at
        random, test and validation first.
    n_train, n_val, n_test: how many sequences each part has. null: of a divided file all of its part; of another one a tenth
        for validation and for test each, and for training all that is left. Of a divided part the first ones are taken.
    device: where the sequences are kept.
    once: as in `ImageSet`; not used, since the file is there for all.

    Raises ConfigError for a file that is missing, cannot be read, makes no sense, or has too few sequences.
    """

    def __init__(
        self,
        path: File,
        *,
        n_train: Many | None,
        n_val: Many | None,
        n_test: Many | None,
        batch_size: Many,
        seed: int,
        device: str | torch.device = "cpu",
        once: Callable[..., Any] | None = None,
    ) -> None:
        asked = {"train": n_train, "val": n_val, "test": n_test}
        with reading(path, "sequences", "docs/data.md shows what it may hold") as file:
            found = sequences(files.read(file), path)
            self.n_inputs, self.n_outputs = found[0].x.shape[2], outputs(found)
            if len(found) == 1:
                parts = divide(found[0], asked, seed)
            else:
                parts = {part: cut(whole, part, asked[part]) for part, whole in zip(PARTS, found, strict=True)}
        self.batch_size, self.seed, self.device = batch_size, seed, torch.device(device)
        self.sizes = {part: len(parts[part].x) for part in PARTS}
        self.steps = max(int(taken.lengths.max()) for taken in parts.values())
        self._parts = {part: taken.to(self.device) for part, taken in parts.items()}

    def _batch(self, part: str, rows: Tensor) -> Batch:
        kept = self._parts[part]
        lengths, there = kept.lengths[rows], rows.to(self.device)
        longest = int(lengths.max())
        y = kept.y[there]
        if kept.at_end:
            at_each = y.new_full((len(rows), longest, *y.shape[1:]), _nothing(y))
            at_each[torch.arange(len(rows)), lengths - 1] = y
            y = at_each
        return kept.x[there, :longest], y[:, :longest]


def _nothing(y: Tensor) -> float:
    return float("nan") if y.is_floating_point() else NOT_ASKED


def sequences(found: Mapping[str, Tensor], path: str) -> list[Sequences]:
    """The sequences of a file, all together, or training, validation and test. Raises ValueError for what makes no sense."""
    ends = ("", *(f"_{part}" for part in PARTS))
    known = [f"{name}{end}" for name in NAMES for end in ends]
    if unknown := [name for name in found if name not in known]:
        raise ValueError(f"it has {unknown[0]}, which means nothing here{near(unknown[0], known)}")
    together = [name for name in found if name in NAMES]
    divided = [name for name in found if name not in NAMES]
    if together and divided:
        raise ValueError(f"it has {together[0]} and {divided[0]}; give all sequences together or in three parts, not both")
    machine.fits(
        "its sequences",
        2 * sum(found[name].numel() for name in found if name.startswith("x")),  # with a copy while they are divided
        torch.device("cpu"),
        {"path": path},
    )
    parts = [part_of(found, end) for end in (ends[1:] if divided else ends[:1])]
    for part, end in zip(parts, ends[1:], strict=False):
        if part.kind != parts[0].kind:
            raise ValueError(f"the {end[1:]} part has {part.kind}, and the train part {parts[0].kind}; they must be alike")
    return parts


def part_of(found: Mapping[str, Tensor], end: str) -> Sequences:
    """The sequences of x, y and lengths, whose names end so. Raises ValueError for what makes no sense."""
    for name in ("x", "y"):
        if name + end not in found:
            raise ValueError(f"there is no {name}{end}, only {', '.join(found) or 'nothing'}")
    x, y, lengths = found[f"x{end}"], found[f"y{end}"], found.get(f"lengths{end}")
    if x.dim() != 3 or not x.numel():
        raise ValueError(f"x{end} has the shape {(*x.shape,)}; it must be (sequences, steps, inputs), at least one of each")
    for name, array in (("y", y), ("lengths", lengths)):
        if array is not None and array.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"{name}{end} has the shape {(*array.shape,)}; it must begin with {len(x)}, the sequences of x{end}"
            )
    n, steps, _ = x.shape
    lengths = torch.full((n,), steps) if lengths is None else lengths
    if lengths.is_floating_point() or lengths.dim() != 1:
        raise ValueError(f"lengths{end} must be a whole number for each sequence")
    lengths = lengths.long()
    if (wrong := (lengths < 1) | (lengths > steps)).any():
        at = first(wrong)
        raise ValueError(f"lengths{end}{list(at)} is {lengths[at]}; a length is from 1 to {steps}, the steps of x{end}")
    after = torch.arange(steps) >= lengths[:, None]  # (n, T)
    x = x.float()
    if after.any():
        x = x.masked_fill(after[..., None], 0)
    finite(f"x{end}", x)
    real = y.is_floating_point()
    y = (y.float() if y.dim() > 1 else y.float()[:, None]) if real else y.long()
    at_end, at_each = y.dim() == 1 + real, y.dim() == 2 + real and y.shape[1] == steps
    if not (at_end or at_each) or not y.numel():
        allowed = "real values are (n,), (n, O) or (n, T, O)" if real else "classes are (n,) or (n, T)"
        raise ValueError(f"y{end} has the shape {(*y.shape,)}; {allowed}, here with n = {n} and T = {steps}")
    if at_each:
        after = after[..., None] if real else after
        y = y.masked_fill(after, 0)
    if real:
        finite(f"y{end}", y)
    elif (wrong := y < 0).any():
        at = first(wrong)
        raise ValueError(f"y{end}{list(at)} is {y[at]}; classes are counted from 0")
    if at_each:
        y = y.masked_fill(after, _nothing(y))
    return Sequences(x, y, lengths)


def first(wrong: Tensor) -> tuple[int, ...]:
    """The index of the first that is."""
    return tuple(wrong.nonzero()[0].tolist())


def finite(name: str, numbers: Tensor) -> None:
    if not torch.stack(numbers.aminmax()).isfinite().all():  # `isfinite` of all would copy them
        at = first(~numbers.isfinite())
        raise ValueError(f"{name}{list(at)} is {numbers[at]}; numbers must be finite, in 32 bits")


def outputs(parts: list[Sequences]) -> int:
    """How many outputs a model must have for these targets. Raises ValueError for classes that are no task."""
    if parts[0].y.is_floating_point():
        return parts[0].y.shape[-1]
    classes = torch.cat([part.y[part.y >= 0] for part in parts])
    most = int(classes.max())
    if most == classes.min():
        raise ValueError(f"y has only the class {most}; a task has two at least. Real values are floats")
    if most >= len(classes):
        raise ValueError(f"y has the class {most} among {len(classes)} answers; classes are counted 0, 1, 2, … without gaps")
    return most + 1


def divide(whole: Sequences, asked: Mapping[str, int | None], seed: int) -> dict[str, Sequences]:
    """Training, validation and test, disjoint, drawn from the seed. Raises ValueError for too few sequences."""
    n = len(whole.x)
    sizes = {part: asked[part] or max(1, n // 10) for part in ("test", "val")}
    sizes["train"] = asked["train"] or max(1, n - sum(sizes.values()))
    if sum(sizes.values()) > n:
        said = ", ".join(f"n_{part}={sizes[part]}" for part in PARTS)
        raise ValueError(f"it has {n} sequences, and {said} take {sum(sizes.values())}; ask for fewer")
    order = torch.randperm(n, generator=generator(seed, "divide")).split([*sizes.values(), n - sum(sizes.values())])
    return {part: whole.of(rows) for part, rows in zip(sizes, order, strict=False)}


def cut(whole: Sequences, part: str, asked: int | None) -> Sequences:
    """The first sequences of a part. Raises ValueError for too few."""
    if asked is not None and asked > len(whole.x):
        raise ValueError(f"n_{part}={asked}: x_{part} has {len(whole.x)} sequences; ask for fewer, or null for all")
    return whole if asked is None else whole.of(torch.arange(asked))

"""Reber strings, and whether the grammar allows them."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inn_lab.data.grammar import decode, encode, invalid_strings, valid_strings
from inn_lab.data.sets import PARTS, Batch, Kept
from inn_lab.data.sources import balanced_order
from inn_lab.errors import ConfigError, reading
from inn_lab.ranges import Many
from inn_lab.seeding import generator

ASCII = 128
MOST = 200_000  # strings: twice as many different ones take about three times as many walks


class Reber(Kept):
    """Strings of letters, one a step, and whether they are valid (Darji 2022, ch. 4).

    x (B, T, 128), float32, has a step for each letter, with a 1 at its ASCII code; y (B,), int64, is 1 for a valid string.
    Shorter strings are padded at their end, with code 0, to the longest of the batch; code 0 is a symbol like any other.

    Half of the strings are valid, and their length does not tell which; see `inn_lab.data.grammar`. No string occurs twice.
    Half of the validation strings are valid; all others are divided at random into training and test.

    path: null, or a CSV file with the columns `string` and `valid` (1 or 0), whose strings replace the drawn ones.
    device: where the strings are kept.
    once: once(name, make) returns what `make` returns. Jobs with the same data compute it only once.

    Raises ConfigError for too many strings, and for a file that is missing, is not such a table, or has too few strings.
    """

    n_inputs, n_outputs = ASCII, 2

    def __init__(
        self,
        path: str | None,
        *,
        n_train: Many,
        n_val: Many,
        n_test: Many,
        batch_size: Many,
        seed: int,
        device: str | torch.device = "cpu",
        once: Callable[[str, Callable[[], Any]], Any] = lambda name, make: make(),
    ):
        self.sizes = {"train": n_train, "val": n_val, "test": n_test}
        total = sum(self.sizes.values())
        if path is not None:
            strings, labels = read(path)
            if len(strings) < total:
                asked = ", ".join(f"n_{part}={n}" for part, n in self.sizes.items())
                raise ConfigError(f"path={path}: it has {len(strings)} strings and {asked} take {total}; ask for fewer")
            codes, valid = encode(strings), torch.tensor(labels)
        elif total > MOST:
            raise ConfigError(f"n_train={n_train}: {total} strings in all, and at most {MOST} are drawn; ask for fewer")
        else:
            codes, valid = (made.cpu() for made in once("strings", lambda: draw(total, generator(seed, "strings"))))
        self.batch_size, self.seed, self.device = batch_size, seed, torch.device(device)
        balanced = balanced_order(valid, generator(seed, "strings", "val"))
        rest = balanced[n_val:][torch.randperm(len(valid) - n_val, generator=generator(seed, "strings", "train"))]
        rows = {"train": rest[:n_train], "val": balanced[:n_val], "test": rest[n_train : n_train + n_test]}
        self._lengths = {part: (codes[rows[part]] > 0).sum(dim=1) for part in PARTS}  # (n,), on the CPU
        self._codes = {part: codes[rows[part]].to(self.device) for part in PARTS}  # (n, L), uint8
        self._valid = {part: valid[rows[part]].to(self.device) for part in PARTS}  # (n,)
        self._symbols = torch.eye(ASCII, device=self.device)
        self.steps = max(int(lengths.max()) for lengths in self._lengths.values())

    def strings(self, part: str) -> tuple[list[str], list[int]]:
        """The strings of a part, and for each whether it is valid, 1 or 0."""
        return decode(self._codes[part]), self._valid[part].tolist()

    def _batch(self, part: str, rows: Tensor) -> Batch:
        longest = int(self._lengths[part][rows].max())
        there = rows.to(self.device)
        letters = self._codes[part][there, :longest]  # (B, T)
        return self._symbols[letters.long()], self._valid[part][there]  # (B, T, 128), (B,)


def draw(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The codes (n, L) of n strings, and which are valid (n,): half of them, or one more."""
    valid = valid_strings(n - n // 2, rng)
    strings = valid + invalid_strings(n // 2, valid, rng)
    return encode(strings), (torch.arange(n) < len(valid)).long()


def read(path: str) -> tuple[list[str], list[int]]:
    """The strings of a CSV file, and for each whether it is valid. Raises ConfigError for a file that is not valid."""
    import pandas as pd

    where = f"path={path}"
    wanted = "give a CSV file with the columns string and valid, or path=null for strings that are drawn"
    with reading(path, "a table", wanted) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row that is longer than the first line
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False).fillna("")
    for column in ("string", "valid"):
        if column not in table:
            there = ", ".join(map(str, table.columns)) or "a blank first line"
            raise ConfigError(f"{where}: it has no column {column}, only {there}; {wanted}")
    table = table[table.apply(lambda column: column.str.strip()).ne("").any(axis=1)]  # no blank lines
    strings, valid = table["string"].tolist(), table["valid"].tolist()
    first: dict[str, tuple[int, str]] = {}
    for line, string, label in zip(table.index + 2, strings, valid, strict=True):  # the first line is the header
        if not (string and string.isascii() and string.isprintable()):
            raise ConfigError(
                f"{where}: line {line} has the string {string!r}; it must be printable ASCII characters, at least one"
            )
        if label not in ("0", "1"):
            raise ConfigError(f"{where}: line {line} has valid={label!r}; it must be 1 for a valid string and 0 for another")
        before, other = first.setdefault(string, (line, label))
        if before != line:
            how = "with the same label" if other == label else "once valid and once not"
            raise ConfigError(
                f"{where}: {string} stands in line {before} and in line {line}, {how}; each string may be there once"
            )
    return strings, [int(label) for label in valid]

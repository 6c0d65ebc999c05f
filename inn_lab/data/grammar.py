"""Reber's grammar: whether it allows a string, random valid strings, and invalid strings that are like them.

Source: Reber 1976; Darji 2022, ch. 4 and Fig. 4.1.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

GRAMMAR: dict[int, dict[str, int]] = {  # node: where each letter leads; a string starts at 0 and ends at 7
    0: {"B": 1},
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": 7},
    7: {},
}
END = 7
STEPS = [(node, letter) for node in range(1, 6) for letter in GRAMMAR[node]]  # between B and E, where there is a choice
ALPHABET = {letter for turns in GRAMMAR.values() for letter in turns}

# Darji's invalid strings are walks through the same nodes, but their ten steps have other letters: here in the order of STEPS,
# where the grammar has TPSXTVXSPV. Decoded from the strings published with the thesis (github.com/harshildarji/thesis).
EXCHANGED = (
    "PTSXTVXSPV",  # T and P at node 1
    "TPSXTVPVXS",  # the letters of nodes 4 and 5
    "TPTVSXXSPV",  # the letters of nodes 2 and 3
    "TPXSVTXSPV",  # the loop's letter and the other one at nodes 2 and 3
)
REPLACED = ("MNOQWVURZY", "MNOQCAURFD", "QOMNCAURFD", "ACDFJIHGLK")

SHORTEST = 11  # letters, in Darji's data set
WALKS = 2**17  # drawn at once

# A walk's two branches at each node, as a table: the letter's code and the next node, at 2 · node + branch.
_TURNS = [list(GRAMMAR[node].items()) or [("\0", END)] for node in GRAMMAR]
LETTER = torch.tensor([ord(turns[-branch][0]) for turns in _TURNS for branch in (0, 1)], dtype=torch.uint8)
NEXT = torch.tensor([turns[-branch][1] for turns in _TURNS for branch in (0, 1)])


def is_valid(string: str) -> bool:
    """Whether the grammar allows a string. Any string may be given."""
    node = 0
    for letter in string:
        if letter not in GRAMMAR[node]:
            return False
        node = GRAMMAR[node][letter]
    return node == END


def kind(string: str) -> str:
    """The kind of a string: "valid"; or "exchanged" if it is invalid but all its letters are the grammar's; or "replaced"."""
    return "valid" if is_valid(string) else "exchanged" if ALPHABET.issuperset(string) else "replaced"


def encode(strings: Sequence[str]) -> Tensor:
    """ASCII codes, zero-padded at the end to the longest string: (n, L), uint8."""
    array = np.array(strings, dtype=np.bytes_)
    return torch.from_numpy(array.view(np.uint8).reshape(len(array), -1).copy())


def decode(codes: Tensor) -> list[str]:
    """The strings that `encode` made codes of."""
    array = np.ascontiguousarray(codes.cpu().numpy())
    return [string.decode() for string in array.view(f"S{array.shape[1]}").ravel().tolist()]


def walks(n: int, rng: Generator) -> Tensor:
    """The codes of n random walks from B to E that take either branch with probability 1/2: (n, L), uint8, zero-padded."""
    going, node = torch.arange(n), torch.ones(n, dtype=torch.int64)
    columns = [torch.full((n,), ord("B"), dtype=torch.uint8)]
    while len(going):
        turn = 2 * node + torch.randint(2, node.shape, generator=rng)
        columns.append(torch.zeros(n, dtype=torch.uint8).index_copy_(0, going, LETTER[turn]))
        node = NEXT[turn]
        on = node != END
        going, node = going[on], node[on]
    return torch.stack(columns, dim=1)


def valid_strings(n: int, rng: Generator) -> list[str]:
    """n different valid strings of at least 11 letters, in the order in which random walks find them.

    A walk finds a certain valid string of L letters with probability 2^−(L−2), so 12,500 different ones take about two million
    walks. These find nearly all short strings, of which there are few, and hardly any long ones. So lengths are 11 to about 50,
    most often 22 or 23, as in Darji's data set (11 to 53, most often 22).
    """
    found: dict[str, None] = {}
    while len(found) < n:
        codes = walks(WALKS, rng)
        found.update(dict.fromkeys(decode(codes[(codes > 0).sum(dim=1) >= SHORTEST])))
    return list(found)[:n]


def relettered(string: str, letters: str) -> str:
    """A valid string with other letters for its steps. `letters` gives them in the order of `STEPS`."""
    node, made = GRAMMAR[0]["B"], "B"
    for letter in string[1:-1]:
        made += letters[STEPS.index((node, letter))]
        node = GRAMMAR[node][letter]
    return made + "E"


def invalid_strings(n: int, valid: Sequence[str], rng: Generator) -> list[str]:
    """n different invalid strings. Each is made of one of the first n valid ones and has its length.

    A random half has a lettering of `EXCHANGED`, the other half one of `REPLACED`. In all of these, walks of 5 letters or more
    are invalid.
    """
    found: dict[str, None] = {}
    for number in torch.randperm(n, generator=rng).tolist():
        made = len(found)
        letterings = EXCHANGED if made < n // 2 else REPLACED
        while len(found) == made:  # a string that exists already gets other letters
            found[relettered(valid[number], letterings[int(torch.randint(len(letterings), (), generator=rng))])] = None
    return list(found)

"""Reber's grammar: which strings it allows, random ones that it does, and others beside them that it does not.

Source: Reber 1976; Darji 2022, Fig. 4.1 and ch. 4.
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
ALPHABET = {letter for turns in GRAMMAR.values() for letter in turns}
OTHERS = sorted(set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") - ALPHABET)
SHORTEST = 11  # letters, in Darji's data set
WALKS = 2**17  # drawn at once

# A walk's two branches at each node, as a table: the letter's code and the next node, at 2 · node + branch.
_TURNS = [list(GRAMMAR[node].items()) or [("\0", END)] for node in GRAMMAR]
LETTER = torch.tensor([ord(turns[-branch][0]) for turns in _TURNS for branch in (0, 1)], dtype=torch.uint8)
NEXT = torch.tensor([turns[-branch][1] for turns in _TURNS for branch in (0, 1)])


def is_valid(string: str) -> bool:
    """Whether the grammar allows a string, whatever string it is."""
    node = 0
    for letter in string:
        if letter not in GRAMMAR[node]:
            return False
        node = GRAMMAR[node][letter]
    return node == END


def kind(string: str) -> str:
    """What a string is: "valid"; or not, and then "wrong_turn" if all its letters are the grammar's, else "replaced"."""
    return "valid" if is_valid(string) else "wrong_turn" if ALPHABET.issuperset(string) else "replaced"


def path(string: str) -> list[int]:
    """The node before each letter of a valid string but the first."""
    nodes = [GRAMMAR[0][string[0]]]
    for letter in string[1:-1]:
        nodes.append(GRAMMAR[nodes[-1]][letter])
    return nodes


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
    """n different valid strings of at least 11 letters, in the order in which random walks come upon them.

    The 2^−(L−2) that a walk has for each valid string of L letters falls so fast that 12,500 different ones take about two
    million walks. These have seen nearly all the shorter strings, of which there are few, and hardly any of the longer ones:
    so lengths are 11 to about 50, most often 22 or 23, as in Darji's data set (11 to 53, most often 22).
    """
    found: dict[str, None] = {}
    while len(found) < n:
        codes = walks(WALKS, rng)
        found.update(dict.fromkeys(decode(codes[(codes > 0).sum(dim=1) >= SHORTEST])))
    return list(found)[:n]


def wrong_turn(string: str, other: str, rng: Generator) -> str:
    """A valid string that from one random place on goes on from another node than it should, as another valid string ends.

    It stays as long as it was. It is never valid: no letter leads to a node from two others, so the end of a string tells the
    node from which it goes on.
    """
    pairs = zip(reversed(path(string)), reversed(path(other)), strict=False)
    places = [left for left, (here, there) in enumerate(pairs, start=1) if here != there]  # letters left to go
    left = places[int(torch.randint(len(places), (), generator=rng))]
    return string[:-left] + other[-left:]


def replaced(string: str, rng: Generator) -> str:
    """A valid string whose letters between B and E are replaced by some that are not the grammar's.

    A step from one node to the next has the same new letter throughout the string, and no other step has it.
    """
    steps = list(zip(path(string)[:-1], string[1:-1], strict=True))
    chosen = torch.randperm(len(OTHERS), generator=rng).tolist()
    new = {step: OTHERS[number] for step, number in zip(dict.fromkeys(steps), chosen, strict=False)}
    return "B" + "".join(new[step] for step in steps) + "E"


def invalid_strings(n: int, valid: Sequence[str], rng: Generator) -> list[str]:
    """n different invalid strings, each made of one of the first n valid ones and as long; half of them, at random, by
    `wrong_turn` and half by `replaced`. There must be two valid strings for a wrong turn."""
    found: dict[str, None] = {}
    for number in torch.randperm(n, generator=rng).tolist():
        made, turns = len(found), len(found) < n // 2
        while len(found) == made:  # what is there already is drawn again
            other = valid[int(torch.randint(len(valid), (), generator=rng))]
            if turns and other != valid[number]:
                found[wrong_turn(valid[number], other, rng)] = None
            elif not turns:
                found[replaced(valid[number], rng)] = None
    return list(found)

"""Random patterns: which entries of a weight matrix are trainable.

A pattern is an int64 tensor (n,) of sorted flat indices, row · columns + column, on the generator's device. The indices are
drawn directly: a matrix of rows × columns random numbers is never made.
"""

import math

import torch
from torch import Tensor


def draw_exact(rows: int, columns: int, n: int, generator: torch.Generator) -> Tensor:
    """Exactly `n` different entries, each set of n entries equally likely.

    Draws with replacement until there are n different entries, then drops random ones that are too many. Given its size, the
    set that was drawn is uniform, and so is a uniform subset of it.

    Raises ValueError if n is not in [0, rows · columns].
    """
    total = rows * columns
    if not 0 <= n <= total:
        raise ValueError(f"cannot draw {n} different entries of a {rows} × {columns} matrix")
    device = generator.device
    if 2 * n > total:  # drawing nearly all with replacement would take long: draw the entries to leave out
        kept = torch.ones(total, dtype=torch.bool, device=device)
        kept[draw_exact(rows, columns, total - n, generator)] = False
        return kept.nonzero().flatten()
    drawn = torch.empty(0, dtype=torch.int64, device=device)
    draws = math.ceil(-total * math.log1p(-n / total)) + 16 if n else 0  # about as many draws give n different entries
    while len(drawn) < n:
        more = torch.randint(total, (draws,), generator=generator, device=device)
        drawn = torch.cat([drawn, more]).unique()
        draws = 2 * (n - len(drawn)) + 16
    kept = torch.randperm(len(drawn), generator=generator, device=device)[:n].sort().values
    return drawn[kept]


def draw_absent(indices: Tensor, total: int, k: int, generator: torch.Generator) -> Tensor:
    """Exactly k different entries that are not among `indices`, each set of k equally likely.

    indices (n,) and the result (k,): flat positions in a matrix of `total` entries, sorted. Draws ranks among the absent
    entries. The absent entry of rank r stands r places after as many entries of `indices` as have at most r absent ones before.

    Raises ValueError if fewer than k entries are absent.
    """
    ranks = draw_exact(1, total - len(indices), k, generator).to(indices.device)
    before = indices - torch.arange(len(indices), device=indices.device)  # absent entries before each present one
    return ranks + torch.searchsorted(before, ranks, right=True)


def draw_bernoulli(rows: int, columns: int, R: float, generator: torch.Generator) -> Tensor:
    """Each entry independently with probability R, as Hershey 2023's "r < R".

    The number of entries is drawn from a binomial distribution, then a uniform set of that size. The distribution is the same.
    """
    total = torch.tensor(float(rows * columns), dtype=torch.float64, device=generator.device)
    count = torch.binomial(total, torch.full_like(total, R), generator=generator)
    return draw_exact(rows, columns, int(count), generator)


def effective(indices: Tensor, n_inputs: int, width: int, n_outputs: int, steps: int, fixed: Tensor | None = None) -> int:
    """The number of entries on a path from an input to an output within `steps` applications of the matrix.

    Only these can change the loss. An entry (i, j) is on such a path if j is reached from an input in a applications, an output
    from i in b more, and a + 1 + b ≤ steps. A breadth-first search over the entries finds them; no matrix is made. (Hershey
    2023, 3.4.2, blames weights "disconnected from the gradient path" for the collapse at low density; this counts them.)

    indices (n,): flat, row · width + column, of the depth × width space (width = n_inputs + depth), outputs the last rows.
    fixed (m,): entries that are not trainable, given likewise. Paths may use them, but they are not counted.
    """
    n = len(indices)
    indices = indices if fixed is None else torch.cat([indices, fixed])
    rows, columns = indices // width + n_inputs, indices % width  # both as places in [x; h]
    never = 2 * steps + 2
    from_input = torch.full((width,), never, device=indices.device)
    from_input[:n_inputs] = 0
    to_output = torch.full((width,), never, device=indices.device)
    to_output[width - n_outputs :] = 0
    for distance, start, end in ((from_input, columns, rows), (to_output, rows, columns)):
        for level in range(1, steps):
            reached = end[distance[start] == level - 1]
            new = reached[distance[reached] == never]
            if not len(new):
                break
            distance[new] = level
    return int((from_input[columns] + 1 + to_output[rows] <= steps)[:n].sum())

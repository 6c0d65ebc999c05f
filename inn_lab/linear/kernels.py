"""Products with a sparse matrix on the CPU, compiled by numba.

A matrix is given by row: entries starts[i] … stops[i] − 1 of `columns` and `values` are row i's. Dense operands are (rows, C),
contiguous: each entry works on a whole contiguous row of C numbers, eight (or four) entries at a time, so that what
is summed is read and written once for all of them. Rows are dealt out in `chunks` of about equally many entries.

torch.sparse does the same (see csr.py) and is the twin that the tests compare with; at 320 columns it takes two to three times
as long.
"""

import numpy as np
from numba import njit, prange

COMPILE = {"parallel": True, "fastmath": True, "cache": True, "error_model": "numpy"}
unsigned = np.uintp  # a row taken by an unsigned index needs no test for Python's negative ones


@njit(fastmath=True, inline="always")
def add_row(total, values, columns, x):
    """total += Σ values[k] x[columns[k]] over a row's entries."""
    whole = len(values) - len(values) % 8
    for k in range(0, whole, 8):
        v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
        v4, v5, v6, v7 = values[k + 4], values[k + 5], values[k + 6], values[k + 7]
        x0, x1 = x[unsigned(columns[k])], x[unsigned(columns[k + 1])]
        x2, x3 = x[unsigned(columns[k + 2])], x[unsigned(columns[k + 3])]
        x4, x5 = x[unsigned(columns[k + 4])], x[unsigned(columns[k + 5])]
        x6, x7 = x[unsigned(columns[k + 6])], x[unsigned(columns[k + 7])]
        for c in range(len(total)):
            total[c] += ((v0 * x0[c] + v1 * x1[c]) + (v2 * x2[c] + v3 * x3[c])) + (
                (v4 * x4[c] + v5 * x5[c]) + (v6 * x6[c] + v7 * x7[c])
            )
    for k in range(whole, len(values)):
        v, row = values[k], x[unsigned(columns[k])]
        for c in range(len(total)):
            total[c] += v * row[c]


@njit(**COMPILE)
def product(chunks, starts, stops, columns, values, x, out):
    """out = W x: (in, C) -> (out, C)."""
    for chunk in prange(len(chunks) - 1):
        for i in range(chunks[chunk], chunks[chunk + 1]):
            first, last = starts[i], stops[i]
            out[i] = 0
            add_row(out[i], values[first:last], columns[first:last], x)


@njit(**COMPILE)
def forward_step(chunks, starts, stops, columns, values, state, drive, n_relu, t, states, out):
    """out = σ(drive[:, t] + W state), also kept as states[:, t]; σ is ReLU on the first `n_relu` rows.

    (H, B), (H, T or 1, B) -> (H, B), and (H, T, B), which may be `drive` itself. The first step has no state before it; of the
    last only the linear rows are wanted.
    """
    last_step, now = states.shape[1] - 1, min(t, drive.shape[1] - 1)
    for chunk in prange(len(chunks) - 1):
        for i in range(chunks[chunk], chunks[chunk + 1]):
            if t == last_step and i < n_relu:
                continue
            total = out[i]
            total[:] = drive[i, now]
            if t > 0:
                first, last = starts[i], stops[i]
                add_row(total, values[first:last], columns[first:last], state)
            if i < n_relu:
                for c in range(len(total)):
                    total[c] = max(total[c], 0)
            states[i, t] = total


@njit(**COMPILE)
def backward_step(chunks, starts, stops, columns, values, g, grad, n_relu, t, states, all_g, out):
    """out = σ'(a_t) ⊙ (W g + dL/dh_t), also kept as all_g[:, t]; W is the transposed state block.

    (H, B) -> (H, B), and (H, T, B); `grad` (T, O, B) is the outputs'. ReLU's derivative is read off the state, states[:, t].
    The last step's g is zero but in the linear rows, whose entries end each row of the transpose.
    """
    last_step = states.shape[1] - 1
    for chunk in prange(len(chunks) - 1):
        for i in range(chunks[chunk], chunks[chunk + 1]):
            total = out[i]
            total[:] = 0
            if i >= n_relu:
                total[:] = grad[t, i - n_relu]
            if t < last_step:
                first, last = starts[i], stops[i]
                if t + 1 == last_step:
                    first = last
                    while first > starts[i] and columns[first - 1] >= n_relu:
                        first -= 1
                add_row(total, values[first:last], columns[first:last], g)
                if i < n_relu:
                    state = states[i, t]
                    for c in range(len(total)):
                        if state[c] <= 0:
                            total[c] = 0
            all_g[i, t] = total


@njit(**COMPILE)
def sampled(chunks, starts, stops, columns, g, x, lag, out):
    """out[k] = g[row of k, lag:] · x[column of k, :−lag]: the entries of a product at the pattern, and no others."""
    for chunk in prange(len(chunks) - 1):
        for i in range(chunks[chunk], chunks[chunk + 1]):
            row, first, last = g[i, lag:], starts[i], stops[i]
            whole = last - (last - first) % 4
            for k in range(first, whole, 4):
                x0, x1 = x[unsigned(columns[k])], x[unsigned(columns[k + 1])]
                x2, x3 = x[unsigned(columns[k + 2])], x[unsigned(columns[k + 3])]
                s0 = s1 = s2 = s3 = out.dtype.type(0)
                for c in range(len(row)):
                    s0 += row[c] * x0[c]
                    s1 += row[c] * x1[c]
                    s2 += row[c] * x2[c]
                    s3 += row[c] * x3[c]
                out[k], out[k + 1], out[k + 2], out[k + 3] = s0, s1, s2, s3
            for k in range(whole, last):
                x0 = x[unsigned(columns[k])]
                s0 = out.dtype.type(0)
                for c in range(len(row)):
                    s0 += row[c] * x0[c]
                out[k] = s0

"""Products with a sparse matrix on the CPU, compiled by numba.

A matrix is given by row: entries starts[i] … stops[i] − 1 of `indices` (columns) and `values` are row i's. Dense operands are
(rows, C), contiguous: each entry works on a whole contiguous row of C numbers, eight (or four) entries at a time, so that what
is summed is read and written once for all of them. Rows are dealt out in `chunks` of about equally many entries.

torch.sparse does the same (see csr.py) and is the twin that the tests compare with; at 320 columns it takes two to three times
as long.
"""

import numpy as np
from numba import njit, prange

COMPILE = {"parallel": True, "fastmath": True, "cache": True, "error_model": "numpy"}


@njit(**COMPILE)
def product(chunks, starts, stops, indices, values, x, out):
    """out = W x: (in, C) -> (out, C)."""
    columns = x.shape[1]
    for chunk in prange(len(chunks) - 1):
        total = np.empty(columns, x.dtype)
        for i in range(chunks[chunk], chunks[chunk + 1]):
            total[:] = 0
            k, stop = starts[i], stops[i]
            while k + 8 <= stop:
                v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
                v4, v5, v6, v7 = values[k + 4], values[k + 5], values[k + 6], values[k + 7]
                x0, x1, x2, x3 = x[indices[k]], x[indices[k + 1]], x[indices[k + 2]], x[indices[k + 3]]
                x4, x5, x6, x7 = x[indices[k + 4]], x[indices[k + 5]], x[indices[k + 6]], x[indices[k + 7]]
                for c in range(columns):
                    total[c] += ((v0 * x0[c] + v1 * x1[c]) + (v2 * x2[c] + v3 * x3[c])) + (
                        (v4 * x4[c] + v5 * x5[c]) + (v6 * x6[c] + v7 * x7[c])
                    )
                k += 8
            while k < stop:
                v, row = values[k], x[indices[k]]
                for c in range(columns):
                    total[c] += v * row[c]
                k += 1
            out[i] = total


@njit(**COMPILE)
def sampled(chunks, starts, stops, indices, g, x, out):
    """out[k] = g[row of k] · x[column of k]: the entries of g xᵀ at the pattern, and at no other place."""
    columns = x.shape[1]
    for chunk in prange(len(chunks) - 1):
        for i in range(chunks[chunk], chunks[chunk + 1]):
            row = g[i]
            k, stop = starts[i], stops[i]
            while k + 4 <= stop:
                x0, x1, x2, x3 = x[indices[k]], x[indices[k + 1]], x[indices[k + 2]], x[indices[k + 3]]
                s0 = s1 = s2 = s3 = out.dtype.type(0)
                for c in range(columns):
                    s0 += row[c] * x0[c]
                    s1 += row[c] * x1[c]
                    s2 += row[c] * x2[c]
                    s3 += row[c] * x3[c]
                out[k], out[k + 1], out[k + 2], out[k + 3] = s0, s1, s2, s3
                k += 4
            while k < stop:
                x0 = x[indices[k]]
                s0 = out.dtype.type(0)
                for c in range(columns):
                    s0 += row[c] * x0[c]
                out[k] = s0
                k += 1

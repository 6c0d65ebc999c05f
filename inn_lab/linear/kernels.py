"""Products with a sparse matrix on the CPU, and the recurrences of them, compiled by numba.

A matrix is given by row: row i has the entries starts[i] … stops[i] − 1 of `columns` and `values`. Dense operands are S
matrices, (S, rows, C), contiguous. `chunks` divides the rows among the threads.

torch.sparse computes the same (see csr.py); the tests compare with it.

Sums over a row's entries stay in vector registers: LLVM's vector types, which numba gets as intrinsics. numba vectorises plain
loops too, but it loads and stores the sum every few entries and tests each time whether arrays overlap, which takes twice as
long. (The intrinsics are in this file because numba's cache on disk only checks whether the file of the compiled function has
changed.)

The kernels check nothing; csr.py checks before it calls them. Under NUMBA_BOUNDSCHECK=1, as in the tests, every address is
checked: numba checks those of the loops, `_Numbers` those of the intrinsics.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

# Where addresses are checked there is one thread, since another's error may be lost, and the cache is left alone: it does not
# tell kernels that check from those that do not.
CHECKED = bool(config.BOUNDSCHECK)  # type: ignore[attr-defined]  # numba sets it while it is imported
COMPILE: dict[str, Any] = {"parallel": not CHECKED, "cache": not CHECKED, "fastmath": True, "error_model": "numpy"}
# Lanes: WIDE is the sources' batch, NARROW is for the rest of another one. LLVM uses as many registers as it needs.
WIDE, NARROW = 32, 8
# Entries at once: two for a sum, so that one does not wait for the other; four for dot products, which then read g once.
AT_ONCE, DOTS = 2, 4


class _Numbers:
    """An array as the intrinsics see it: contiguous numbers."""

    def __init__(self, context, builder, kind, array):
        struct = context.make_array(kind)(context, builder, array)
        self.context, self.builder, self.data, self.size = context, builder, struct.data, struct.nitems
        self.kind = self.data.type.pointee

    def at(self, place, lanes=1):
        """The address of `lanes` numbers from `place` on."""
        if self.context.enable_boundscheck:
            last = self.builder.add(place, place.type(lanes - 1))
            for index in (place, last):
                cgutils.do_boundscheck(self.context, self.builder, index, self.size)
        return self.builder.gep(self.data, [place])


class _Lanes:
    """The instructions for vectors of `lanes` numbers of one kind."""

    def __init__(self, builder, kind, lanes):
        self.builder, self.kind, self.vector = builder, kind, ir.VectorType(kind, lanes)
        self.zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        self.nothing = ir.Constant(self.vector, [0.0] * lanes)
        name = f"llvm.vector.reduce.fadd.v{lanes}{'f32' if kind == ir.FloatType() else 'f64'}"
        self.reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, self.vector]), name)

    def where(self, numbers, at):
        return self.builder.bitcast(numbers.at(at, self.vector.count), self.vector.as_pointer())

    def load(self, numbers, at):
        return self.builder.load(self.where(numbers, at), align=4)

    def store(self, vector, numbers, at):
        self.builder.store(vector, self.where(numbers, at), align=4)

    def spread(self, number):
        blank = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(blank, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, blank, self.zeros)

    def times(self, a, b):
        return self.builder.fmul(a, b, flags=["fast"])

    def plus(self, a, b):
        return self.builder.fadd(a, b, flags=["fast"])

    def total(self, start, vector):
        return self.builder.call(self.reduce, [start, vector], fastmath=["fast"])


def _arrays(context, builder, signature, args, n):
    """The first n arguments."""
    return [_Numbers(context, builder, signature.args[j], args[j]) for j in range(n)]


def _entries(builder, columns, first, last, stride, at, each, many):
    """each(ks, places) for `many` entries at a time from `first` to `last` − 1, and then for each of the rest.

    An entry's place is where its row's column `at` stands in a dense array.
    """
    number = first.type
    whole = builder.sub(last, builder.srem(builder.sub(last, first), ir.Constant(number, many)))
    for begin, end, n in ((first, whole, many), (whole, last, 1)):
        with cgutils.for_range_slice(builder, begin, end, ir.Constant(number, n), intp=number) as (k, _):
            ks = [builder.add(k, ir.Constant(number, j)) for j in range(n)]
            found = [builder.zext(builder.load(columns.at(k)), number) for k in ks]
            each(ks, [builder.add(builder.mul(column, stride), at) for column in found])


def _add_row(lanes):
    @intrinsic
    def add_row(typing, total, values, columns, x, first, last, stride, at):
        """total[at:at + lanes] += Σ values[k] x[columns[k], at:at + lanes], k from `first` to `last`; x is `stride` wide."""

        def emit(context, builder, signature, args):
            total, values, columns, x = _arrays(context, builder, signature, args, 4)
            first, last, stride, at = args[4:]
            vectors = _Lanes(builder, total.kind, lanes)
            sums = [cgutils.alloca_once(builder, vectors.vector) for _ in range(AT_ONCE)]
            builder.store(vectors.load(total, at), sums[0])
            for summed in sums[1:]:
                builder.store(vectors.nothing, summed)

            def each(ks, places):
                for k, place, summed in zip(ks, places, sums[: len(ks)], strict=True):
                    value = vectors.spread(builder.load(values.at(k)))
                    builder.store(vectors.plus(builder.load(summed), vectors.times(value, vectors.load(x, place))), summed)

            _entries(builder, columns, first, last, stride, at, each, AT_ONCE)
            whole = builder.load(sums[0])
            for summed in sums[1:]:
                whole = vectors.plus(whole, builder.load(summed))
            vectors.store(whole, total, at)
            return context.get_dummy_value()

        return types.void(total, values, columns, x, *[types.intp] * 4), emit

    return add_row


def _dots(lanes):
    @intrinsic
    def dots(typing, g, columns, x, out, first, last, shape, row, start, stop):
        """out[k] += Σ_s g[s, row, start:stop] · x[s, columns[k], start:stop] for k from `first` to `last`.

        shape: how many rows g and x have, S, and how many columns C. `lanes` divides stop − start.
        """

        def emit(context, builder, signature, args):
            g, columns, x, out = _arrays(context, builder, signature, args, 4)
            first, last, shape, row, start, stop = args[4:]
            g_rows, x_rows, matrices, stride = cgutils.unpack_tuple(builder, shape, 4)
            vectors, number = _Lanes(builder, g.kind, lanes), first.type
            zero, step = ir.Constant(number, 0), ir.Constant(number, lanes)
            g_size, x_size = builder.mul(g_rows, stride), builder.mul(x_rows, stride)
            begin = builder.mul(row, stride)
            sums = [cgutils.alloca_once(builder, vectors.vector) for _ in range(DOTS)]

            def each(ks, places):
                mine = sums[: len(ks)]
                for summed in mine:
                    builder.store(vectors.nothing, summed)
                with cgutils.for_range(builder, matrices, intp=number) as loop:
                    ours = builder.add(begin, builder.mul(loop.index, g_size))
                    shift = builder.mul(loop.index, x_size)
                    theirs = [builder.add(place, shift) for place in places]
                    with cgutils.for_range_slice(builder, start, stop, step, intp=number) as (at, _):
                        here = vectors.load(g, builder.add(ours, at))
                        for summed, place in zip(mine, theirs, strict=True):
                            there = vectors.load(x, builder.add(place, at))
                            builder.store(vectors.plus(builder.load(summed), vectors.times(here, there)), summed)
                for k, summed in zip(ks, mine, strict=True):
                    dot = out.at(k)
                    builder.store(vectors.total(builder.load(dot), builder.load(summed)), dot)

            _entries(builder, columns, first, last, stride, zero, each, DOTS)
            return context.get_dummy_value()

        return types.void(g, columns, x, out, types.intp, types.intp, shape, *[types.intp] * 3), emit

    return dots


add_row_wide, add_row_narrow, add_row_one = (_add_row(lanes) for lanes in (WIDE, NARROW, 1))
dots_wide, dots_narrow, dots_one = (_dots(lanes) for lanes in (WIDE, NARROW, 1))


@njit(inline="always")
def add_row(total, values, columns, x, first, last):
    """total += Σ values[k] x[columns[k]] over the entries k from `first` to `last`."""
    add_part(total, values, columns, x, first, last, 0, len(total))


@njit(inline="always")
def add_part(total, values, columns, x, first, last, left, right):
    """`add_row` for the columns from `left` to `right` of x and total."""
    c, wide, narrow = len(total), right - (right - left) % WIDE, right - (right - left) % NARROW
    for at in range(left, wide, WIDE):
        add_row_wide(total, values, columns, x, first, last, c, at)
    for at in range(wide, narrow, NARROW):
        add_row_narrow(total, values, columns, x, first, last, c, at)
    for at in range(narrow, right):
        add_row_one(total, values, columns, x, first, last, c, at)


@njit(**COMPILE)
def product(chunks, starts, stops, columns, values, x, out):
    """out[s] = W x[s]: (S, in, C) -> (S, out, C)."""
    for chunk in prange(len(chunks) - 1):
        for s in range(len(x)):
            for i in range(chunks[chunk], chunks[chunk + 1]):
                out[s, i] = 0
                add_row(out[s, i], values, columns, x[s], starts[i], stops[i])


@njit(**COMPILE)
def forward_step(chunks, starts, stops, columns, values, drive, n_relu, t, states):
    """states[t] = σ(drive[t] + W states[t − 1]); σ is ReLU on the first `n_relu` rows.

    (T or 1, H, B) -> (T, H, B), which may be `drive` itself. The first step has no state before it; of the last only the linear
    rows are wanted.
    """
    last_step, now = len(states) - 1, min(t, len(drive) - 1)
    for chunk in prange(len(chunks) - 1):
        for i in range(chunks[chunk], chunks[chunk + 1]):
            if t == last_step and i < n_relu:
                continue
            total = states[t, i]
            total[:] = drive[now, i]
            if t > 0:
                add_row(total, values, columns, states[t - 1], starts[i], stops[i])
            if i < n_relu:
                for c in range(len(total)):
                    total[c] = max(total[c], 0)


@njit(**COMPILE)
def backward_step(chunks, starts, stops, columns, values, grad, n_relu, t, states, g):
    """g[t] = σ'(a_t) ⊙ (W g[t + 1] + dL/dh_t); W is the transposed state block.

    `grad` (T, O, B) is the outputs', the others (T, H, B). ReLU's derivative is read off the state. The last step's g is zero
    but in the linear rows, whose entries end each row of the transpose.
    """
    last_step = len(states) - 1
    for chunk in prange(len(chunks) - 1):
        for i in range(chunks[chunk], chunks[chunk + 1]):
            total, state = g[t, i], states[t, i]
            total[:] = 0
            if i >= n_relu:
                total[:] = grad[t, i - n_relu]
            if t < last_step:
                first, last = starts[i], stops[i]
                if t + 1 == last_step:
                    first = last
                    while first > starts[i] and columns[first - 1] >= n_relu:
                        first -= 1
                add_row(total, values, columns, g[t + 1], first, last)
                if i < n_relu:
                    for c in range(len(total)):
                        if state[c] <= 0:
                            total[c] = 0


@njit(**COMPILE)
def sampled(chunks, starts, stops, columns, g, x, out, cache):
    """out[k] = Σ_s g[s, row of k] · x[s, column of k]: the entries of a product at the pattern, and no others.

    x is taken some rows at a time, as many as `cache` bytes hold of all matrices.
    """
    shape = g.shape[1], x.shape[1], x.shape[0], x.shape[2]
    c = x.shape[2]
    wide, narrow = c - c % WIDE, c - c % NARROW
    tile = max(1, cache // (x.itemsize * max(1, len(x) * c)))
    for chunk in prange(len(chunks) - 1):
        top, bottom = chunks[chunk], chunks[chunk + 1]
        done = starts[top:bottom].copy()  # how far each row's entries have come
        for end in range(tile, x.shape[1] + tile, tile):
            for i in range(top, bottom):
                first = last = done[i - top]
                while last < stops[i] and columns[last] < end:
                    out[last] = 0
                    last += 1
                done[i - top] = last
                dots_wide(g, columns, x, out, first, last, shape, i, 0, wide)
                if wide < c:
                    dots_narrow(g, columns, x, out, first, last, shape, i, wide, narrow)
                    dots_one(g, columns, x, out, first, last, shape, i, narrow, c)


@njit(**COMPILE)
def gather(values, places, out):
    """out = values[places]. torch's takes three times as long where the values are not in a cache."""
    for chunk in prange(64):
        for k in range(len(places) * chunk // 64, len(places) * (chunk + 1) // 64):
            out[k] = values[np.uintp(places[k])]


# --- the ticks of a wavefront (models/wavefront.py, which has the equations)

TANH, RELU, LSTM, GRU = range(4)
ONE, HALF = np.float32(1), np.float32(0.5)  # of 32 bits, or they would make a float32 a float64
# tanh x ≈ x p(x²) / q(x²) for |x| ≤ MOST, where it is 1 in float32; the error is below 4e-7. The coefficients are those of the
# library Eigen (MathFunctionsImpl.h, generic_fast_tanh_float), from the highest power down.
MOST = np.float32(7.90531110763549805)
P = tuple(
    np.float32(c)
    for c in (
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
        6.37261928875436e-04, 4.89352455891786e-03,
    )
)  # fmt: skip
Q = tuple(np.float32(c) for c in (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03))


@njit(inline="always")
def squash(row):
    """row ← tanh(row). The library's tanh, which float64 takes, is no loop for vector registers."""
    if row.itemsize == 4:
        for c in range(len(row)):
            x = min(max(row[c], -MOST), MOST)
            s = x * x
            p = ((((((P[0] * s + P[1]) * s + P[2]) * s + P[3]) * s + P[4]) * s + P[5]) * s + P[6]) * x
            row[c] = p / (((Q[0] * s + Q[1]) * s + Q[2]) * s + Q[3])
    else:
        for c in range(len(row)):
            row[c] = math.tanh(row[c])


@njit(inline="always")
def gate(row):
    """row ← 1 / (1 + exp(−row)) = (1 + tanh(row / 2)) / 2."""
    for c in range(len(row)):
        row[c] *= HALF
    squash(row)
    for c in range(len(row)):
        row[c] = HALF * row[c] + HALF


@njit(inline="always")
def gates(a, u, n, left, right):
    """The four rows of unit u, of n."""
    return a[u, left:right], a[n + u, left:right], a[2 * n + u, left:right], a[3 * n + u, left:right]


@njit(**COMPILE)
def forward_ticks(pieces, starts, stops, columns, values, cell, h, begun, delays, targets, states, acts, carries):
    """All ticks of a wavefront: the rows' products `acts` (K, rows · H, B), and what they leave in `states` and `carries`.

    `pieces` divides the batch among the threads. begun (depth,): how many units have begun at tick k. delays, targets (H,): of
    each unit how many ticks later its state counts for its node, and where that node's y stands. carries (K + 1, H, B) is the
    LSTM's c. What is zero before is zero in what is given.
    """
    n_units, depth = len(delays), len(begun)
    for piece in prange(len(pieces) - 1):
        left, right = pieces[piece], pieces[piece + 1]
        size = right - left
        for k in range(len(acts)):
            a, before, now = acts[k], states[depth + k], states[depth + k + 1]
            n = begun[k] if k < depth else n_units
            for i in range(len(starts)):
                a[i, left:right] = 0
                if i % n_units < n:
                    add_part(a[i], values, columns, before, starts[i], stops[i], left, right)
            for u in range(n):
                out, first = now[h + u, left:right], a[u, left:right]
                if cell == TANH:
                    for c in range(size):
                        out[c] = first[c]
                    squash(out)
                elif cell == RELU:
                    for c in range(size):
                        out[c] = max(first[c], 0)
                elif cell == LSTM:
                    i, f, g, o = gates(a, u, n_units, left, right)
                    gate(i)
                    gate(f)
                    squash(g)
                    gate(o)
                    kept, carry = carries[k, u, left:right], carries[k + 1, u, left:right]
                    for c in range(size):
                        carry[c] = f[c] * kept[c] + i[c] * g[c]
                    for c in range(size):
                        out[c] = carry[c]
                    squash(out)
                    for c in range(size):
                        out[c] *= o[c]
                else:
                    r, z, new, m = gates(a, u, n_units, left, right)
                    gate(r)
                    gate(z)
                    for c in range(size):
                        new[c] += r[c] * m[c]
                    squash(new)
                    kept = before[h + u, left:right]
                    for c in range(size):
                        out[c] = new[c] + z[c] * (kept[c] - new[c])
            for u in range(n):
                y, heard = now[targets[u], left:right], states[depth + k + 2 - delays[u], h + u, left:right]
                for c in range(size):
                    y[c] += heard[c]


@njit(**COMPILE)
def backward_ticks(
    pieces, starts, stops, columns, values, cell, h, begun, delays, targets, states, acts, carries, first, low, felt, dcarry, da
):
    """The ticks from `first` + n − 1 down to `first`: dL/d(rows' products), written to `da` (n, rows · H, B).

    The matrix is the transposed one. felt is dL/dstates; a tick adds to the rows from `low` on of what it reads. dcarry (H, B)
    is dL/dc of the LSTM, and of the GRU the part of dL/dh that its gate z lets through.
    """
    n_units, depth = len(delays), len(begun)
    for piece in prange(len(pieces) - 1):
        left, right = pieces[piece], pieces[piece + 1]
        size = right - left
        for k in range(first + len(da) - 1, first - 1, -1):
            a, d, before = acts[k], da[k - first], states[depth + k]
            n = begun[k] if k < depth else n_units
            for i in range(len(d)):
                if i % n_units >= n:
                    d[i, left:right] = 0
            for u in range(n):
                dh, heard = felt[depth + k + 1, h + u, left:right], felt[depth + k + delays[u], targets[u], left:right]
                out, through, row = states[depth + k + 1, h + u, left:right], dcarry[u, left:right], d[u, left:right]
                for c in range(size):
                    dh[c] += heard[c]
                if cell == TANH:
                    for c in range(size):
                        row[c] = dh[c] * (ONE - out[c] * out[c])
                elif cell == RELU:
                    for c in range(size):
                        row[c] = dh[c] if out[c] > 0 else 0
                elif cell == LSTM:
                    i, f, g, o = gates(a, u, n_units, left, right)
                    di, df, dg, do = gates(d, u, n_units, left, right)
                    kept, carry = carries[k, u, left:right], carries[k + 1, u, left:right]
                    for c in range(size):
                        do[c] = carry[c]
                    squash(do)
                    for c in range(size):
                        through[c] += dh[c] * o[c] * (ONE - do[c] * do[c])
                    for c in range(size):
                        do[c] *= dh[c] * o[c] * (ONE - o[c])
                    for c in range(size):
                        di[c] = through[c] * g[c] * i[c] * (ONE - i[c])
                    for c in range(size):
                        df[c] = through[c] * kept[c] * f[c] * (ONE - f[c])
                    for c in range(size):
                        dg[c] = through[c] * i[c] * (ONE - g[c] * g[c])
                    for c in range(size):
                        through[c] *= f[c]
                else:
                    r, z, new, m = gates(a, u, n_units, left, right)
                    dr, dz, dnew, dm = gates(d, u, n_units, left, right)
                    kept = before[h + u, left:right]
                    for c in range(size):
                        dh[c] += through[c]
                    for c in range(size):
                        dz[c] = dh[c] * (kept[c] - new[c]) * z[c] * (ONE - z[c])
                    for c in range(size):
                        through[c] = dh[c] * z[c]
                    for c in range(size):
                        dnew[c] = (dh[c] - through[c]) * (ONE - new[c] * new[c])
                    for c in range(size):
                        dr[c] = dnew[c] * m[c] * r[c] * (ONE - r[c])
                    for c in range(size):
                        dm[c] = dnew[c] * r[c]
            for i in range(low, len(starts)):
                add_part(felt[depth + k, i], values, columns, d, starts[i], stops[i], left, right)

"""Products with a sparse matrix on the CPU, compiled by numba.

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
    c, wide, narrow = len(total), len(total) - len(total) % WIDE, len(total) - len(total) % NARROW
    for at in range(0, wide, WIDE):
        add_row_wide(total, values, columns, x, first, last, c, at)
    for at in range(wide, narrow, NARROW):
        add_row_narrow(total, values, columns, x, first, last, c, at)
    for at in range(narrow, c):
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

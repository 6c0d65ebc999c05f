"""Transforms of images on the CPU, compiled by numba: an image at a time, which stays in the cache.

`transforms.py` has the same by torch, for other devices; the tests compare them. float32, contiguous. The kernels check
nothing.
"""

import numpy as np
from numba import njit, prange

from inn_lab.linear.kernels import COMPILE

# Not all of `fastmath`: on the horizon of a perspective there are infinities, and numbers that are none.
EXACT = {**COMPILE, "fastmath": {"contract", "nsz"}}
NOTHING, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)  # of 32 bits, or they would make a float32 a float64


@njit(**EXACT)
def erase(boxes, x):
    """Sets the pixels of each image's box (top, left, height, width) to 0, in x (n, H, W)."""
    for k in prange(len(x)):
        top, left, height, width = boxes[k]
        x[k, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 0


@njit(inline="always")
def within(value, low, high):
    """The value, at least `low` and at most `high`; of no number `low`."""
    value = value if value > low else low
    return value if value < high else high


@njit(**EXACT)
def warp(maps, x, out):
    """out[k] = x[k] at the places that a projective map names, bilinear, 0 outside; see `transforms.perspective`.

    maps (n, 3, 3) take the middle of a pixel (column + 1/2, row + 1/2, 1) to grid_sample's coordinates in [−1, 1]. x and out
    are (n, H, W). Each image is read from a copy with zeros around it: a place outside is moved to these.
    """
    _, height, width = x.shape
    wide, high = np.float32(width), np.float32(height)
    stride = width + 3
    for k in prange(len(x)):
        padded = np.zeros((height + 3) * stride, np.float32)
        for row in range(height):
            padded[(row + 1) * stride + 1 : (row + 1) * stride + 1 + width] = x[k, row]
        m, places = maps[k], np.empty(width, np.int32)
        right, down, visible = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
        for row in range(height):
            y = np.float32(row) + HALF
            for column in range(width):
                c = np.float32(column) + HALF
                depth = m[2, 0] * c + m[2, 2] + m[2, 1] * y
                at_x, at_y = (m[0, 0] * c + m[0, 2] + m[0, 1] * y) / depth, (m[1, 0] * c + m[1, 2] + m[1, 1] * y) / depth
                # The fraction of the pixel that is inside, along each axis.
                visible[column] = within(wide * HALF + HALF - wide * HALF * abs(at_x), NOTHING, ONE)
                visible[column] *= within(high * HALF + HALF - high * HALF * abs(at_y), NOTHING, ONE)
                at_x, at_y = (
                    within(((at_x + ONE) * wide - ONE) * HALF, -ONE, wide),
                    within(((at_y + ONE) * high - ONE) * HALF, -ONE, high),
                )
                left, top = np.floor(at_x), np.floor(at_y)
                right[column], down[column] = at_x - left, at_y - top
                places[column] = np.int32(top + ONE) * np.int32(stride) + np.int32(left + ONE)
            for column in range(width):
                place = np.uintp(places[column])
                below = place + np.uintp(stride)
                a, b = padded[place], padded[below]
                a += right[column] * (padded[place + np.uintp(1)] - a)
                b += right[column] * (padded[below + np.uintp(1)] - b)
                out[k, row, column] = (a + down[column] * (b - a)) * visible[column]

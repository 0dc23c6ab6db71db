"""Sums over samples of fourfold products, as matrix products of face-splitting products.

A block of the Hessian between two dense layers is, with numbers z, y and F per sample,

    B[i, k, j, w] = sum_n z_ni y_nk F_njw.

Row by row, z (x) y is the face-splitting (transposed Khatri-Rao) product of z and y: seen as a matrix with a row for
each sample, B is the one matrix product (z (x) y)' F.  It is formed block of columns by block of columns, and some
hundred samples at a time, so that it stays in cache and the BLAS sees large operands.  The cut depends on sizes alone,
so results do not depend on the number of lanes.

Source: Slyusar (1999), A family of face products of matrices and its properties.
"""

import numpy as np
from numba import prange

from .blas import gemm_tn
from .jit import kernel, subroutine

__all__ = ["add_face_products", "add_face_squares"]

SAMPLES = 256  # of one matrix product: about what the BLAS itself takes into cache along this dimension
COLUMNS = 512  # of the face-splitting product at a time, at least


@subroutine
def count_blocks(a, k):
    """Return how many values of i make a block of about ``COLUMNS`` columns (i, k), and the number of blocks."""
    step = max(1, COLUMNS // k)
    return step, (a + step - 1) // step


@subroutine
def face_products_lane(lane, lanes, n, z, a, y, k, F, d, w, rows, cols, out):
    step, blocks = count_blocks(a, k)
    face = np.empty(min(n, SAMPLES) * step * k, out.dtype)
    sums = np.empty(step * k * d * w, out.dtype)
    for block in range(lane, blocks, lanes):
        begin, end = block * step, min(a, (block + 1) * step)
        columns = (end - begin) * k
        for first in range(0, n, SAMPLES):
            samples = min(n - first, SAMPLES)
            for r in range(samples):
                for i in range(begin, end):
                    t = r * columns + (i - begin) * k
                    value = z[(first + r) * a + i]
                    source = (first + r) * k
                    for p in range(k):
                        face[t + p] = value * y[source + p]
            gemm_tn(columns, d * w, samples, face, 0, F, first * d * w, 0.0 if first == 0 else 1.0, sums, 0)
        for i in range(begin, end):
            for j in range(d):
                row = rows[j, i]
                for q in range(w):
                    t = ((i - begin) * k * d + j) * w + q
                    for p in range(k):
                        out[row, cols[p, q]] += sums[t + p * d * w]


@kernel
def add_face_products(lanes, parallel, n, z, a, y, k, F, d, w, rows, cols, out):
    """Add ``sum_n z[n, i] y[n, p] F[n, j, q]`` to ``out[rows[j, i], cols[p, q]]``.

    Parameters
    ----------
    z, y, F : flat arrays of (n, a), (n, k) and (n, d, w)
    rows : (d, a) int64, different from one another
    cols : (k, w) int64, different from one another
    out : (R, S)
    """
    if parallel:
        for index in prange(lanes):
            lane = np.int64(index)
            face_products_lane(lane, lanes, n, z, a, y, k, F, d, w, rows, cols, out)
    else:
        for lane in range(lanes):
            face_products_lane(lane, lanes, n, z, a, y, k, F, d, w, rows, cols, out)


@subroutine
def triangle_blocks(a):
    """Cut the pairs i <= k into blocks of rows i of about ``COLUMNS`` pairs; return the first i of each, and the end."""
    bounds = np.empty(a + 1, np.int64)
    blocks, columns = 0, COLUMNS
    for i in range(a):
        if columns >= COLUMNS:
            bounds[blocks] = i
            blocks += 1
            columns = 0
        columns += a - i
    bounds[blocks] = a
    return bounds, blocks


@subroutine
def face_squares_lane(lane, lanes, n, z, a, F, first_unit, second_unit, begin_units, rows, cols, out):
    bounds, blocks = triangle_blocks(a)
    pairs = len(first_unit)
    face = np.empty(min(n, SAMPLES) * (COLUMNS + a), out.dtype)
    sums = np.empty((COLUMNS + a) * pairs, out.dtype)
    for block in range(lane, blocks, lanes):
        begin, end = bounds[block], bounds[block + 1]
        columns = 0
        for i in range(begin, end):
            columns += a - i
        for first in range(0, n, SAMPLES):
            samples = min(n - first, SAMPLES)
            for r in range(samples):
                t = r * columns
                source = (first + r) * a
                for i in range(begin, end):
                    value = z[source + i]
                    for k in range(i, a):
                        face[t + k - i] = value * z[source + k]
                    t += a - i
            gemm_tn(columns, pairs, samples, face, 0, F, first * pairs, 0.0 if first == 0 else 1.0, sums, 0)
        t = 0
        for i in range(begin, end):
            for p in range(pairs):
                j, q = first_unit[p], second_unit[p]
                row = rows[j - begin_units, i]
                for k in range(i, a):
                    out[row, cols[q, k]] += sums[(t + k - i) * pairs + p]
                for k in range(i + 1, a):
                    out[rows[j - begin_units, k], cols[q, i]] += sums[(t + k - i) * pairs + p]
                if q != j and q - begin_units < len(rows):
                    row = rows[q - begin_units, i]
                    for k in range(i, a):
                        out[row, cols[j, k]] += sums[(t + k - i) * pairs + p]
                    for k in range(i + 1, a):
                        out[rows[q - begin_units, k], cols[j, i]] += sums[(t + k - i) * pairs + p]
            t += a - i


@kernel
def add_face_squares(lanes, parallel, n, z, a, F, first_unit, second_unit, begin_units, rows, cols, out):
    """Add ``sum_n z[n, i] z[n, k] F[n, p]`` for pairs i <= k to all places in ``out`` where symmetry puts it.

    Pair p stands for the units (j, q) = (first_unit[p], second_unit[p]) with j <= q, and unit j has the rows
    ``rows[j - begin_units]``: (j, i; q, k), (j, k; q, i) and, where unit q is among the rows as well, (q, k; j, i) and
    (q, i; j, k) get the same number.

    Parameters
    ----------
    z, F : flat arrays of (n, a) and (n, pairs)
    first_unit, second_unit : (pairs,) int64
    rows : (units, a) int64; cols : (d, a) int64
    out : (R, S)
    """
    if parallel:
        for index in prange(lanes):
            lane = np.int64(index)
            face_squares_lane(lane, lanes, n, z, a, F, first_unit, second_unit, begin_units, rows, cols, out)
    else:
        for lane in range(lanes):
            face_squares_lane(lane, lanes, n, z, a, F, first_unit, second_unit, begin_units, rows, cols, out)

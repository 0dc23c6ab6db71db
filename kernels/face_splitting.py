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

from .gemm import gemm_tn
from .jit import kernel, subroutine

__all__ = ["add_face_products", "add_face_squares", "add_mixed_products", "mirror_face_squares"]

SAMPLES = 256  # of one matrix product: about what the BLAS itself takes into cache along this dimension
COLUMNS = 512  # of the face-splitting product at a time, at least


@subroutine
def scale(factor, source, target):
    for i in range(len(source)):
        target[i] = factor * source[i]


@subroutine
def combine(first_factor, first, second_factor, second, target):
    for i in range(len(target)):
        target[i] = first_factor * first[i] + second_factor * second[i]


@subroutine
def scatter(source, places, target):
    for i in range(len(source)):
        target[places[i]] += source[i]


@subroutine
def count_blocks(a, k):
    """Return how many values of i make a block of at least ``COLUMNS`` columns (i, k), and the number of blocks."""
    step = (COLUMNS + k - 1) // k
    return step, (a + step - 1) // step


@subroutine
def face_products_lane(lane, lanes, n, z, a, y, k, F, d, w, rows, cols, out):
    step, blocks = count_blocks(a, k)
    face = np.empty(min(n, SAMPLES) * step * k, out.dtype)
    sums = np.empty(d * w * step * k, out.dtype)
    for block in range(lane, blocks, lanes):
        begin, end = block * step, min(a, (block + 1) * step)
        columns = (end - begin) * k
        for first in range(0, n, SAMPLES):
            samples = min(n - first, SAMPLES)
            for r in range(samples):
                other = y[(first + r) * k : (first + r + 1) * k]
                for i in range(begin, end):
                    t = r * columns + (i - begin) * k
                    scale(z[(first + r) * a + i], other, face[t : t + k])
            gemm_tn(d * w, columns, samples, F, first * d * w, face, 0, 0.0 if first == 0 else 1.0, sums, 0)
        for j in range(d):
            for i in range(begin, end):
                for q in range(w):
                    t = (j * w + q) * columns + (i - begin) * k
                    scatter(sums[t : t + k], cols[q], out[rows[j, i]])


@kernel
def add_face_products(lanes, n, z, a, y, k, F, d, w, rows, cols, out):
    """Add ``sum_n z[n, i] y[n, p] F[n, j, q]`` to ``out[rows[j, i], cols[q, p]]``.

    Parameters
    ----------
    z, y, F : flat arrays of (n, a), (n, k) and (n, d, w)
    rows : (d, a) int64, different from one another
    cols : (w, k) int64, different from one another
    out : (R, S)
    """
    for index in prange(lanes):
        lane = np.int64(index)
        face_products_lane(lane, lanes, n, z, a, y, k, F, d, w, rows, cols, out)


@subroutine
def mixed_products_lane(lane, lanes, n, z, a, y, k, F, d, w, g, P, rows, cols, out):
    step, blocks = count_blocks(w, k)
    mixed = np.empty(min(n, SAMPLES) * step * k, out.dtype)
    sums = np.empty(a * step * k, out.dtype)
    for task in range(lane, d * blocks, lanes):
        j, begin = task // blocks, task % blocks * step
        end = min(w, begin + step)
        columns = (end - begin) * k
        for first in range(0, n, SAMPLES):
            samples = min(n - first, SAMPLES)
            for r in range(samples):
                sample = first + r
                other = y[sample * k : (sample + 1) * k]
                moved = P[(sample * d + j) * k : (sample * d + j + 1) * k]
                for q in range(begin, end):
                    t = r * columns + (q - begin) * k
                    combine(F[(sample * d + j) * w + q], other, g[sample * w + q], moved, mixed[t : t + k])
            gemm_tn(a, columns, samples, z, first * a, mixed, 0, 0.0 if first == 0 else 1.0, sums, 0)
        for i in range(a):
            for q in range(begin, end):
                t = i * columns + (q - begin) * k
                scatter(sums[t : t + k], cols[q], out[rows[j, i]])


@kernel
def add_mixed_products(lanes, n, z, a, y, k, F, d, w, g, P, rows, cols, out):
    """Add ``sum_n z[n, i] (y[n, p] F[n, j, q] + g[n, q] P[n, j, p])`` to ``out[rows[j, i], cols[q, p]]``.

    The two terms split into faces differently, so the bracket is formed and multiplied by z: it costs no more
    operations than one of them.

    Parameters
    ----------
    z, y, F : flat arrays of (n, a), (n, k) and (n, d, w)
    g, P : flat arrays of (n, w) and (n, d, k)
    rows, cols, out : see :func:`add_face_products`
    """
    for index in prange(lanes):
        lane = np.int64(index)
        mixed_products_lane(lane, lanes, n, z, a, y, k, F, d, w, g, P, rows, cols, out)


@subroutine
def triangle_blocks(a):
    """Cut the pairs i <= k into blocks of at least ``COLUMNS`` pairs; return the first i of each, and the end."""
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
def face_squares_lane(lane, lanes, n, z, a, F, first_unit, second_unit, rows, cols, out):
    bounds, blocks = triangle_blocks(a)
    width = len(F) // n
    face = np.empty(min(n, SAMPLES) * (COLUMNS + a), out.dtype)
    sums = np.empty(width * (COLUMNS + a), out.dtype)
    for block in range(lane, blocks, lanes):
        begin, end = bounds[block], bounds[block + 1]
        columns = 0
        for i in range(begin, end):
            columns += a - i
        for first in range(0, n, SAMPLES):
            samples = min(n - first, SAMPLES)
            for r in range(samples):
                t = r * columns
                own = z[(first + r) * a : (first + r + 1) * a]
                for i in range(begin, end):
                    scale(own[i], own[i:], face[t : t + a - i])
                    t += a - i
            gemm_tn(width, columns, samples, F, first * width, face, 0, 0.0 if first == 0 else 1.0, sums, 0)
        t = 0
        for p in range(len(first_unit)):
            j, q = first_unit[p], second_unit[p]
            for i in range(begin, end):
                scatter(sums[t : t + a - i], cols[q, i:], out[rows[j, i]])
                t += a - i


@kernel
def add_face_squares(lanes, n, z, a, F, first_unit, second_unit, rows, cols, out):
    """Add ``sum_n z[n, i] z[n, k] F[n, p]`` for i <= k to ``out[rows[first_unit[p], i], cols[second_unit[p], k]]``.

    Parameters
    ----------
    z, F : flat arrays of (n, a) and (n, pairs or more)
    first_unit, second_unit : (pairs,) int64, rows of the two tables
    rows, cols : (units, a) and (d, a) int64
    out : (R, S)
    """
    for index in prange(lanes):
        lane = np.int64(index)
        face_squares_lane(lane, lanes, n, z, a, F, first_unit, second_unit, rows, cols, out)


@subroutine
def mirror_square(a, row_units, row, cols, col, rows, shift, out):
    """Complete the block of units ``row`` and ``col``, whose part i <= k is there, and its transpose."""
    for i in range(a):
        for k in range(i):
            out[rows[row, i], cols[col, k]] = out[rows[row, k], cols[col, i]]
    mirrored = col - shift
    if col > row + shift and mirrored < row_units:
        for i in range(a):
            for k in range(a):
                out[rows[mirrored, i], cols[row + shift, k]] = out[rows[row, i], cols[col, k]]


@kernel
def mirror_face_squares(lanes, shift, rows, cols, out):
    """Put what :func:`add_face_squares` added up to all places where symmetry in (i, k) and in units puts it.

    The rows are those of the units ``shift``, ``shift + 1`` and so on of the columns; columns of earlier units are left
    as they are.
    """
    units, a = rows.shape
    for index in prange(len(cols) - shift):
        col = np.int64(index) + shift
        for row in range(min(units, col - shift + 1)):
            mirror_square(a, units, row, cols, col, rows, shift, out)

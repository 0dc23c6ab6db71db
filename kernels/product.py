"""Products of the Hessian and the Gauss-Newton matrix with a block of k vectors: the R-operator.

With V the parts of the vectors that belong to each weight and bias, and R the derivative in their direction,

    forward    R a_l = sum_m ( V_lm z_m + W_lm R z_m ) + v_l,      R z_l = s1_l * R a_l,      R x = 0
    output     R u_L = Q R z_L
    backward   R u_l = sum_k ( W_kl' R g_k + V_kl' g_k ),          R g_l = s1_l * R u_l + c_l * R a_l
    result     (H v)_lm = sum_n ( R g_l z_m' + g_l R z_m' ),       bias: sum_n R g_l

The Gauss-Newton matrix drops every term with c or g.  Of a dense edge that makes 6 matrix products (4), of one that
starts at the input 2.

Layout: R a, R z and R g are (rows, k, width), so that all k vectors go through a weight in one wide matrix product.
``packed`` holds V by edge as (k, out, in), ``twin`` the edges that do not start at the input as (out, k, in); the
accumulators ``direct`` (for R g z') and ``cross`` (for g R z') are laid out in the same two ways.  For k = 1 both
layouts are that of theta, and ``twin`` and ``cross`` are the very arrays ``packed`` and ``direct``.

Source: Pearlmutter (1994), Fast exact multiplication by the Hessian; Schraudolph (2002) for Gauss-Newton.
"""

import numpy as np
from numba import prange

from .blas import gemm_nn, gemm_nt, gemm_tn
from .jit import kernel, subroutine
from .layout import BIAS, FIRST_EDGE, SOURCE, TWIN, UNITS, WEIGHT, WIDTH, lane_rows, matrix, tensor
from .losses import curvature_times

__all__ = ["curvature_product"]

PACK, MULTIPLY, UNPACK = range(3)


@subroutine
def pack(part, parts, layers, edges, k, V, packed, twin):
    """Lay out rows ``part`` of ``parts`` of each weight of the k vectors ``V`` (k, P)."""
    for l in range(1, layers.shape[0] - 1):
        width = layers[l, WIDTH]
        begin, end = part * width // parts, (part + 1) * width // parts
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            if weight >= 0:
                inputs = layers[m, WIDTH]
                by_vector = tensor(packed, weight * k, k, width, inputs)
                for j in range(k):
                    block = matrix(V[j], weight, width, inputs)
                    for i in range(begin, end):
                        for c in range(inputs):
                            by_vector[j, i, c] = block[i, c]
                if m > 0:
                    by_row = tensor(twin, edges[e, TWIN] * k, width, k, inputs)
                    for i in range(begin, end):
                        for j in range(k):
                            for c in range(inputs):
                                by_row[i, j, c] = by_vector[j, i, c]
        bias = layers[l, BIAS]
        if bias >= 0:
            for j in range(k):
                for i in range(begin, end):
                    packed[bias * k + j * width + i] = V[j, bias + i]


@subroutine
def unpack(part, parts, layers, edges, k, direct, cross, has_cross, total, l2, V, out):
    """Add up the lanes' accumulators, divide by ``total``, add the regulariser, for a part of each weight's rows."""
    lanes = direct.shape[0]
    for l in range(1, layers.shape[0] - 1):
        width = layers[l, WIDTH]
        begin, end = part * width // parts, (part + 1) * width // parts
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            if weight >= 0:
                inputs = layers[m, WIDTH]
                for j in range(k):
                    block = matrix(out[j], weight, width, inputs)
                    for lane in range(lanes):
                        share = tensor(direct[lane], weight * k, k, width, inputs)
                        for i in range(begin, end):
                            for c in range(inputs):
                                block[i, c] = share[j, i, c] if lane == 0 else block[i, c] + share[j, i, c]
                        if m > 0 and has_cross:
                            other = tensor(cross[lane], edges[e, TWIN] * k, width, k, inputs)
                            for i in range(begin, end):
                                for c in range(inputs):
                                    block[i, c] += other[i, j, c]
                    finish(weight + begin * inputs, weight + end * inputs, j, total, l2, V, out)
        bias = layers[l, BIAS]
        if bias >= 0:
            for j in range(k):
                for i in range(begin, end):
                    value = direct[0, bias * k + j * width + i]
                    for lane in range(1, lanes):
                        value += direct[lane, bias * k + j * width + i]
                    out[j, bias + i] = value
                finish(bias + begin, bias + end, j, total, l2, V, out)


@subroutine
def finish(begin, end, j, total, l2, V, out):
    result = out[j, begin:end]
    v = V[j, begin:end]
    for i in range(end - begin):
        result[i] /= total
    if l2.size == 1:
        for i in range(end - begin):
            result[i] += l2[0] * v[i]
    elif l2.size > 1:
        ridge = l2[begin:end]
        for i in range(end - begin):
            result[i] += ridge[i] * v[i]


@subroutine
def product_rows(
    layers, edges, theta, x, first, rows, z, s1, c, g, q, scale, capacity,
    loss, gauss_newton, k, packed, twin, beta, direct, cross, ra, rz, rg, room, started,
):  # fmt: skip
    """Add the share of ``rows`` samples to the accumulators (``beta`` 0: overwrite them).

    ``ra, rz, rg`` hold ``room`` rows per layer; ``started`` marks the layers whose R u has received a first term.
    """
    last = layers.shape[0] - 2
    for l in range(1, last + 1):
        width = layers[l, WIDTH]
        a0 = room * k * layers[l, UNITS]
        fresh = 0.0
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            if weight >= 0:
                inputs = layers[m, WIDTH]
                if m == 0:
                    gemm_nt(rows, k * width, inputs, x, first * inputs, packed, weight * k, fresh, ra, a0)
                else:
                    source = capacity * layers[m, UNITS] + first * inputs
                    gemm_nt(rows, k * width, inputs, z, source, packed, weight * k, fresh, ra, a0)
                    gemm_nt(rows * k, width, inputs, rz, room * k * layers[m, UNITS], theta, weight, 1.0, ra, a0)
                fresh = 1.0
        Ra = tensor(ra, a0, rows, k, width)
        if fresh == 0.0:
            Ra[:] = 0
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m = edges[e, SOURCE]
            if edges[e, WEIGHT] < 0 and m > 0:
                add(rz, room * k * layers[m, UNITS], ra, a0, rows * k * width)
        Rz = tensor(rz, a0, rows, k, width)
        S = matrix(s1, capacity * layers[l, UNITS] + first * width, rows, width)
        if layers[l, BIAS] >= 0:
            bias = matrix(packed, layers[l, BIAS] * k, k, width)
            for r in range(rows):
                for j in range(k):
                    for i in range(width):
                        Ra[r, j, i] += bias[j, i]
                        Rz[r, j, i] = S[r, i] * Ra[r, j, i]
        else:
            for r in range(rows):
                for j in range(k):
                    for i in range(width):
                        Rz[r, j, i] = S[r, i] * Ra[r, j, i]
    started[:] = 0
    outputs = layers[last, WIDTH]
    end = room * k * layers[last, UNITS]
    curvature_times(loss, rows, k, outputs, q, first * outputs, scale, first, rz, end, rg, end)
    for l in range(last, 0, -1):
        width = layers[l, WIDTH]
        a0 = room * k * layers[l, UNITS]
        kept = capacity * layers[l, UNITS] + first * width
        Rg, Ra = tensor(rg, a0, rows, k, width), tensor(ra, a0, rows, k, width)
        S, C = matrix(s1, kept, rows, width), matrix(c, kept, rows, width)
        if gauss_newton:
            for r in range(rows):
                for j in range(k):
                    for i in range(width):
                        Rg[r, j, i] *= S[r, i]
        else:
            for r in range(rows):
                for j in range(k):
                    for i in range(width):
                        Rg[r, j, i] = S[r, i] * Rg[r, j, i] + C[r, i] * Ra[r, j, i]
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            inputs = layers[m, WIDTH]
            m0 = room * k * layers[m, UNITS]
            if weight >= 0:
                if m == 0:
                    gemm_tn(k * width, inputs, rows, rg, a0, x, first * inputs, beta, direct, weight * k)
                    continue
                source = capacity * layers[m, UNITS] + first * inputs
                gemm_tn(k * width, inputs, rows, rg, a0, z, source, beta, direct, weight * k)
                fresh = float(started[m])
                if not gauss_newton:
                    shared = 1.0 if k == 1 else beta  # for k = 1 cross is direct, just written
                    gemm_tn(width, k * inputs, rows, g, kept, rz, m0, shared, cross, edges[e, TWIN] * k)
                    gemm_nn(rows, k * inputs, width, g, kept, twin, edges[e, TWIN] * k, fresh, rg, m0)
                    fresh = 1.0
                gemm_nn(rows * k, inputs, width, rg, a0, theta, weight, fresh, rg, m0)
                started[m] = 1
            elif m > 0:
                if started[m] == 0:
                    tensor(rg, m0, rows, k, width)[:] = 0
                    started[m] = 1
                add(rg, a0, rg, m0, rows * k * width)
        if layers[l, BIAS] >= 0:
            total = matrix(direct, layers[l, BIAS] * k, k, width)
            if beta == 0.0:
                total[:] = 0
            for r in range(rows):
                for j in range(k):
                    for i in range(width):
                        total[j, i] += Rg[r, j, i]


@subroutine
def add(source, s0, target, t0, count):
    increment, block = source[s0 : s0 + count], target[t0 : t0 + count]
    for i in range(count):
        block[i] += increment[i]


@subroutine
def product_lane(
    lane, lanes, tile, layers, edges, theta, x, num_rows, loss, z, s1, c, g, q, scale,
    gauss_newton, k, packed, twin, fresh, direct, cross, ra, rz, rg, started,
):  # fmt: skip
    """Apply the operator to one lane's rows; ``fresh``: overwrite what the accumulators hold."""
    begin, end, tiles = lane_rows(lane, lanes, num_rows, tile)
    for t in range(tiles):
        first = begin + t * (end - begin) // tiles
        rows = begin + (t + 1) * (end - begin) // tiles - first
        product_rows(
            layers, edges, theta, x, first, rows, z, s1, c, g, q, scale, num_rows,
            loss, gauss_newton, k, packed, twin, 0.0 if fresh and t == 0 else 1.0, direct, cross,
            ra, rz, rg, tile, started,
        )  # fmt: skip


@subroutine
def run_lane(
    phase, lane, lanes, tile, layers, edges, theta, x, num_rows, loss, z, s1, c, g, q, scale,
    gauss_newton, k, V, packed, twin, direct, cross, ra, rz, rg, started, fresh, total, l2, out,
):  # fmt: skip
    """One lane's share of a phase: packing the vectors, the product itself, or adding up the lanes."""
    if phase == PACK:
        pack(lane, lanes, layers, edges, k, V, packed, twin)
    elif phase == MULTIPLY:
        product_lane(
            lane, lanes, tile, layers, edges, theta, x, num_rows, loss, z, s1, c, g, q, scale, gauss_newton,
            k, packed, twin, fresh, direct[lane], cross[lane], ra[lane], rz[lane], rg[lane], started[lane],
        )  # fmt: skip
    else:
        has_cross = k > 1 and not gauss_newton
        unpack(lane, lanes, layers, edges, k, direct, cross, has_cross, total, l2, V, out)


@kernel
def curvature_product(
    lanes, parallel, tile, layers, edges, theta, x, num_rows, loss, z, s1, c, g, q, scale,
    gauss_newton, k, V, packed, twin, direct, cross, ra, rz, rg, started, is_first, is_last, total, l2, out,
):  # fmt: skip
    """Add a chunk of samples to the product with k vectors ``V`` (k, P): ``out = (1/total) sum_n ... + l2 * V``.

    Parameters
    ----------
    lanes, ..., scale : as ``linearize`` left them
    gauss_newton : bool
    packed (k*P,), twin (k*T,) : scratch; the flat V itself for k = 1
    direct (lanes, k*P), cross (lanes, k*T) : accumulators; the same array for k = 1 and for Gauss-Newton
    ra, rz, rg : (lanes, tile*k*units) of scratch; started : (lanes, L+1) int8
    is_first, is_last : bool, whether this is the first and the last chunk of samples; ``out`` is written with the last
    total : what the sum over samples is divided by
    l2 : (0,), (1,) or (P,)
    out : (k, P)
    """
    for phase in range(PACK if is_first and k > 1 else MULTIPLY, (UNPACK if is_last else MULTIPLY) + 1):
        if parallel:
            for index in prange(lanes):
                run_lane(
                    phase, np.int64(index), lanes, tile, layers, edges, theta, x, num_rows, loss, z, s1, c, g, q, scale,
                    gauss_newton, k, V, packed, twin, direct, cross, ra, rz, rg, started, is_first, total, l2, out,
                )  # fmt: skip
        else:
            for lane in range(lanes):
                run_lane(
                    phase, lane, lanes, tile, layers, edges, theta, x, num_rows, loss, z, s1, c, g, q, scale,
                    gauss_newton, k, V, packed, twin, direct, cross, ra, rz, rg, started, is_first, total, l2, out,
                )  # fmt: skip

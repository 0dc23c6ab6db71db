"""Products of k vectors with the Hessian, the Gauss-Newton matrix and the Jacobian, and quadratic forms.

One kernel does them all, since they are parts of one computation (see ``directions``): it lays out the vectors, sends
tiles of samples forward, applies the output curvature, goes backward, and adds up what the threads found.

The output curvature Q is that of the loss, or one of two others: none at all, which leaves of the Hessian what the
Gauss-Newton matrix drops, or a sum of outer products ``scale sum_s g_s g_s'`` of gradients with respect to the outputs'
pre-activations, which makes a Fisher matrix of the Gauss-Newton matrix.
"""

import numpy as np
from numba import prange

from .activations import IDENTITY
from .directions import backward_directions, forward_directions, quadratic_forms
from .jit import kernel, subroutine
from .layout import (
    ACTIVATION,
    BIAS,
    FIRST_EDGE,
    MOVED,
    NEEDED,
    REACHED,
    SOURCE,
    TWIN,
    UNITS,
    WANTED,
    WEIGHT,
    WIDTH,
    lane_rows,
    matrix,
    tensor,
)
from .losses import LOSSES, curvature_times

__all__ = ["HESSIAN", "JACOBIAN", "NO_CURVATURE", "OUTER_PRODUCTS", "QUADRATIC", "TRANSPOSED", "product"]

HESSIAN, QUADRATIC, JACOBIAN, TRANSPOSED = range(4)  # tasks
PACK, MULTIPLY, UNPACK = range(3)  # phases
OUTER_PRODUCTS, NO_CURVATURE = len(LOSSES), len(LOSSES) + 1  # output curvatures besides those of the losses


@subroutine
def pack(part, parts, layers, edges, k, V, packed, twin):
    """Lay out rows ``part`` of ``parts`` of each weight of the k vectors ``V`` (k, P)."""
    for l in range(1, layers.shape[0] - 1):
        width = layers[l, WIDTH]
        begin, end = part * width // parts, (part + 1) * width // parts
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            if weight >= 0 and edges[e, MOVED] != 0:
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
            if weight >= 0 and edges[e, WANTED] != 0:
                inputs = layers[m, WIDTH]
                for j in range(k):
                    block = matrix(out[j], weight, width, inputs)
                    for lane in range(lanes):
                        share = tensor(direct[lane], weight * k, k, width, inputs)
                        for i in range(begin, end):
                            for c in range(inputs):
                                block[i, c] = share[j, i, c] if lane == 0 else block[i, c] + share[j, i, c]
                        if m > 0 and has_cross and layers[m, REACHED] != 0:
                            other = tensor(cross[lane], edges[e, TWIN] * k, width, k, inputs)
                            for i in range(begin, end):
                                for c in range(inputs):
                                    block[i, c] += other[i, j, c]
                    finish(weight + begin * inputs, weight + end * inputs, j, total, l2, V, out)
        bias = layers[l, BIAS]
        if bias >= 0 and layers[l, NEEDED] != 0:
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
def output_directions(
    loss, linear, rows, first, k, width, q, scale, s1, c, capacity, kept, gauss_newton, ra, rz, rg, a0
):  # fmt: skip
    """Write ``R g_L = s1 Q R z_L + c R a_L`` to ``rg``, without the second term for Gauss-Newton."""
    if loss == OUTER_PRODUCTS:
        draws = q.size // (capacity * width)
        gradients = tensor(q, first * draws * width, rows, draws, width)
        Ra, Rg = tensor(ra, a0, rows, k, width), tensor(rg, a0, rows, k, width)
        Rg[:] = 0
        for r in range(rows):
            for j in range(k):
                for s in range(draws):
                    slope = 0.0
                    for i in range(width):
                        slope += gradients[r, s, i] * Ra[r, j, i]
                    slope *= scale[first + r]
                    for i in range(width):
                        Rg[r, j, i] += slope * gradients[r, s, i]
        return
    Rg = tensor(rg, a0, rows, k, width)
    if loss == NO_CURVATURE:
        Rg[:] = 0
    else:
        curvature_times(loss, rows, k, width, q, first * width, scale, first, rz, a0, rg, a0)
    if linear:  # s1 = 1 and c = 0
        return
    if loss != NO_CURVATURE:
        S = matrix(s1, kept, rows, width)
        for r in range(rows):
            for j in range(k):
                for i in range(width):
                    Rg[r, j, i] *= S[r, i]
    if not gauss_newton:
        Ra, C = tensor(ra, a0, rows, k, width), matrix(c, kept, rows, width)
        for r in range(rows):
            for j in range(k):
                for i in range(width):
                    Rg[r, j, i] += C[r, i] * Ra[r, j, i]


@subroutine
def read_outputs(first, rows, k, width, s1, kept, u, rg, a0):
    """Write ``R g_L = s1 u`` to ``rg`` for given directions ``u`` (N, k, C) of the outputs."""
    Rg, S = tensor(rg, a0, rows, k, width), matrix(s1, kept, rows, width)
    U = tensor(u, first * k * width, rows, k, width)
    for r in range(rows):
        for j in range(k):
            for i in range(width):
                Rg[r, j, i] = S[r, i] * U[r, j, i]


@subroutine
def product_lane(
    lane, lanes, tile, layers, edges, theta, x, capacity, begin_row, end_row, loss, z, s1, c, g, q, scale,
    task, gauss_newton, k, packed, twin, fresh, direct, cross, ra, rz, rg, started, u, values,
):  # fmt: skip
    """Go through one lane's share of the rows; ``fresh``: overwrite what the accumulators hold."""
    begin, end, tiles = lane_rows(lane, lanes, end_row - begin_row, tile)
    last = layers.shape[0] - 2
    width, linear = layers[last, WIDTH], layers[last, ACTIVATION] == IDENTITY
    a0 = tile * k * layers[last, UNITS]
    if fresh and task == QUADRATIC:
        values[:] = 0
    for t in range(tiles):
        first = begin_row + begin + t * (end - begin) // tiles
        rows = begin_row + begin + (t + 1) * (end - begin) // tiles - first
        kept = capacity * layers[last, UNITS] + first * width
        if task != TRANSPOSED:
            forward_directions(layers, edges, theta, x, first, rows, z, s1, capacity, k, packed, ra, rz, tile)
        if task == JACOBIAN:
            for i in range(rows * k * width):
                u[first * k * width + i] = rz[a0 + i]
            continue
        if task == TRANSPOSED:
            read_outputs(first, rows, k, width, s1, kept, u, rg, a0)
        else:
            output_directions(
                loss, linear, rows, first, k, width, q, scale, s1, c, capacity, kept, gauss_newton, ra, rz, rg, a0
            )  # fmt: skip
        if task == QUADRATIC:
            quadratic_forms(
                layers, edges, first, rows, c, g, capacity, gauss_newton, k, twin, ra, rz, rg, tile, values
            )  # fmt: skip
        else:
            backward_directions(
                layers, edges, theta, x, first, rows, z, s1, c, g, capacity, gauss_newton, k, twin,
                0.0 if fresh and t == 0 else 1.0, direct, cross, ra, rz, rg, tile, started,
            )  # fmt: skip


@kernel
def product(
    lanes, tile, layers, edges, theta, x, capacity, begin_row, end_row, loss, z, s1, c, g, q, scale,
    task, gauss_newton, k, V, packed, twin, direct, cross, ra, rz, rg, started, pack_first, fresh, unpack_last,
    total, l2, out, u, values,
):  # fmt: skip
    """Add the rows [begin_row, end_row) of a chunk of samples to a product with k vectors ``V`` (k, P).

    Parameters
    ----------
    lanes, ..., scale : as ``linearize`` left them; ``loss``, ``q`` and ``scale`` may be those of another output
        curvature, with ``q`` of capacity * draws * C numbers for OUTER_PRODUCTS
    capacity : how many rows the chunk has
    task : HESSIAN, out = (1/total) sum_n ... + l2 * V; QUADRATIC, v' A v into ``values`` (lanes, k), to be divided by
        the total; JACOBIAN, ``J v`` into ``u`` (N, k, C); TRANSPOSED, ``J' u`` into ``out``
    gauss_newton : bool, whether terms with c and g are dropped
    packed (k*P,), twin (k*T,) : scratch; the flat V itself for k = 1
    direct (lanes, k*P), cross (lanes, k*T) : accumulators; the same array for k = 1 and for Gauss-Newton
    ra, rz, rg : (lanes, tile*k*units) of scratch; started : (lanes, L+1) int8
    pack_first, fresh, unpack_last : bool, whether to lay out V (never for k = 1), to overwrite the accumulators, and to
        write ``out``
    total : what the sum over samples is divided by
    l2 : (0,), (1,) or (P,)
    out : (k, P)
    """
    for phase in range(PACK if pack_first else MULTIPLY, (UNPACK if unpack_last else MULTIPLY) + 1):
        for index in prange(lanes):
            lane = np.int64(index)
            if phase == PACK:
                pack(lane, lanes, layers, edges, k, V, packed, twin)
            elif phase == MULTIPLY:
                product_lane(
                    lane, lanes, tile, layers, edges, theta, x, capacity, begin_row, end_row, loss, z, s1, c, g, q,
                    scale, task, gauss_newton, k, packed, twin, fresh, direct[lane], cross[lane],
                    ra[lane], rz[lane], rg[lane], started[lane], u, values[lane],
                )  # fmt: skip
            else:
                unpack(lane, lanes, layers, edges, k, direct, cross, k > 1 and not gauss_newton, total, l2, V, out)

"""The R-operator: how everything in a net moves when theta moves in the directions of k vectors.

With V the parts of the vectors that belong to each weight and bias, and R the derivative in their direction,

    forward    R a_l = sum_m ( V_lm z_m + W_lm R z_m ) + v_l,      R z_l = s1_l * R a_l,      R x = 0
    output     R u_L = Q R z_L
    backward   R u_l = sum_k ( W_kl' R g_k + V_kl' g_k ),          R g_l = s1_l * R u_l + c_l * R a_l
    result     (H v)_lm = sum_n ( R g_l z_m' + g_l R z_m' ),       bias: sum_n R g_l

The Gauss-Newton matrix drops every term with c or g, and so does a product with the transposed Jacobian, where R g_L is
given.  Of a dense edge the Hessian makes 6 matrix products (Gauss-Newton 4), of one that starts at the input 2.

Layout: R a, R z and R g are (rows, k, width), so that all k vectors go through a weight in one wide matrix product.
``packed`` holds V by edge as (k, out, in), ``twin`` the edges that do not start at the input as (out, k, in); the
accumulators ``direct`` (for R g z') and ``cross`` (for g R z') are laid out in the same two ways.  For k = 1 both
layouts are that of theta, and ``twin`` and ``cross`` are the very arrays ``packed`` and ``direct``.

Where only a block of a matrix is wanted, the tables say which edges the vectors MOVE, which layers that has REACHED,
which edges' results are WANTED and of which layers R g is NEEDED for them; all else is left out.

Source: Pearlmutter (1994), Fast exact multiplication by the Hessian; Schraudolph (2002) for Gauss-Newton.
"""

from .gemm import gemm_nn, gemm_nt, gemm_tn
from .jit import subroutine
from .layout import (
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
    matrix,
    tensor,
)

__all__ = ["backward_directions", "forward_directions", "quadratic_forms"]


@subroutine
def forward_directions(layers, edges, theta, x, first, rows, z, s1, capacity, k, packed, ra, rz, room):
    """Fill ``ra`` and ``rz``, which hold ``room`` rows per layer, for ``rows`` samples from number ``first`` on."""
    for l in range(1, layers.shape[0] - 1):
        if layers[l, REACHED] == 0:
            continue
        width = layers[l, WIDTH]
        a0 = room * k * layers[l, UNITS]
        fresh = 0.0
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            if weight >= 0:
                inputs = layers[m, WIDTH]
                if edges[e, MOVED] != 0:
                    if m == 0:
                        gemm_nt(rows, k * width, inputs, x, first * inputs, packed, weight * k, fresh, ra, a0)
                    else:
                        source = capacity * layers[m, UNITS] + first * inputs
                        gemm_nt(rows, k * width, inputs, z, source, packed, weight * k, fresh, ra, a0)
                    fresh = 1.0
                if m > 0 and layers[m, REACHED] != 0:
                    gemm_nt(rows * k, width, inputs, rz, room * k * layers[m, UNITS], theta, weight, fresh, ra, a0)
                    fresh = 1.0
        Ra = tensor(ra, a0, rows, k, width)
        if fresh == 0.0:
            Ra[:] = 0
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m = edges[e, SOURCE]
            if edges[e, WEIGHT] < 0 and m > 0 and layers[m, REACHED] != 0:
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


@subroutine
def backward_directions(
    layers, edges, theta, x, first, rows, z, s1, c, g, capacity,
    gauss_newton, k, twin, beta, direct, cross, ra, rz, rg, room, started,
):  # fmt: skip
    """Add the share of ``rows`` samples to the accumulators (``beta`` 0: overwrite them).

    R g of the outputs is found in ``rg``; ``started`` marks the layers whose R u has received a first term.
    """
    last = layers.shape[0] - 2
    started[:] = 0
    for l in range(last, 0, -1):
        if layers[l, NEEDED] == 0:
            continue
        width = layers[l, WIDTH]
        a0 = room * k * layers[l, UNITS]
        kept = capacity * layers[l, UNITS] + first * width
        Rg = tensor(rg, a0, rows, k, width)
        if l < last:
            Ra, S, C = tensor(ra, a0, rows, k, width), matrix(s1, kept, rows, width), matrix(c, kept, rows, width)
            if gauss_newton or layers[l, REACHED] == 0:
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
                    if edges[e, WANTED] != 0:
                        gemm_tn(k * width, inputs, rows, rg, a0, x, first * inputs, beta, direct, weight * k)
                    continue
                if edges[e, WANTED] != 0:
                    source = capacity * layers[m, UNITS] + first * inputs
                    gemm_tn(k * width, inputs, rows, rg, a0, z, source, beta, direct, weight * k)
                    if not gauss_newton and layers[m, REACHED] != 0:
                        shared = 1.0 if k == 1 else beta  # for k = 1 cross is direct, just written
                        gemm_tn(width, k * inputs, rows, g, kept, rz, m0, shared, cross, edges[e, TWIN] * k)
                if layers[m, NEEDED] != 0:
                    fresh = float(started[m])
                    if not gauss_newton and edges[e, MOVED] != 0:
                        gemm_nn(rows, k * inputs, width, g, kept, twin, edges[e, TWIN] * k, fresh, rg, m0)
                        fresh = 1.0
                    gemm_nn(rows * k, inputs, width, rg, a0, theta, weight, fresh, rg, m0)
                    started[m] = 1
            elif m > 0 and layers[m, NEEDED] != 0:
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
def quadratic_forms(
    layers, edges, first, rows, c, g, capacity, gauss_newton, k, twin, ra, rz, rg, room, values
):  # fmt: skip
    """Add ``v' A v`` of ``rows`` samples to ``values`` (k,), without a backward pass.

        v' A v = (R a_L)' R g_L + sum_{l<L} sum_i c_l (R a_l)^2 + 2 sum_lm g_l' V_lm R z_m.

    R g of the outputs is found in ``rg``; what it holds of other layers is overwritten.  3 matrix products per edge.
    """
    last = layers.shape[0] - 2
    end = room * k * layers[last, UNITS]
    outputs = layers[last, WIDTH]
    add_dots(rows, k, outputs, ra, rg, end, 1.0, values)
    if gauss_newton:
        return
    for l in range(1, last + 1):
        width = layers[l, WIDTH]
        kept = capacity * layers[l, UNITS] + first * width
        if l < last:
            Ra, C = tensor(ra, room * k * layers[l, UNITS], rows, k, width), matrix(c, kept, rows, width)
            for r in range(rows):
                for j in range(k):
                    value = 0.0
                    for i in range(width):
                        value += C[r, i] * Ra[r, j, i] * Ra[r, j, i]
                    values[j] += value
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m = edges[e, SOURCE]
            if edges[e, WEIGHT] >= 0 and m > 0:
                m0 = room * k * layers[m, UNITS]
                gemm_nn(rows, k * layers[m, WIDTH], width, g, kept, twin, edges[e, TWIN] * k, 0.0, rg, m0)
                add_dots(rows, k, layers[m, WIDTH], rz, rg, m0, 2.0, values)


@subroutine
def add_dots(rows, k, width, left, right, start, factor, values):
    A, B = tensor(left, start, rows, k, width), tensor(right, start, rows, k, width)
    for r in range(rows):
        for j in range(k):
            value = 0.0
            for i in range(width):
                value += A[r, j, i] * B[r, j, i]
            values[j] += factor * value


@subroutine
def add(source, s0, target, t0, count):
    increment, block = source[s0 : s0 + count], target[t0 : t0 + count]
    for i in range(count):
        block[i] += increment[i]

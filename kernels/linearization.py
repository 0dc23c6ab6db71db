"""The net at one theta: forward pass, loss, backward pass, and what products need of them.

For one sample, layer l has pre-activation ``a_l``, the sum of ``W_lm z_m`` over dense edges and ``z_m`` over identity
edges plus the bias, and output ``z_l = s_l(a_l)``.  Backwards, ``u_l = dloss/dz_l``, ``g_l = dloss/da_l = s'_l u_l``.
Everything in a product with the Hessian that does not depend on the vector is kept here (the linearisation):

    z_l,   s1_l = s'_l(a_l),   c_l = s''_l(a_l) u_l,   g_l,   and the output curvature (q, scale)

Rows are cut into lanes, one for each thread, and lanes into tiles that pass through all layers while they are in
cache.  A lane adds up its tiles in order and lanes are added in order, so results depend on the number of lanes alone.

Source: Bishop, Pattern Recognition and Machine Learning, 5.3; Pearlmutter (1994).
"""

import numpy as np
from numba import prange

from .activations import activate
from .gemm import gemm_nn, gemm_nt, gemm_tn
from .jit import kernel, subroutine
from .layout import ACTIVATION, BIAS, FIRST_EDGE, SOURCE, UNITS, WEIGHT, WIDTH, lane_rows, matrix
from .losses import evaluate_loss, neumaier

__all__ = ["forward_rows", "linearize", "linearize_rows"]


@subroutine
def forward_rows(layers, edges, theta, x, first, rows, z, s1, s2, capacity, base):
    """Fill layers 1..L of ``z`` and the derivatives for ``rows`` samples of ``x`` from number ``first`` on.

    The arrays hold ``capacity`` rows per layer; this batch goes to rows ``base`` and after.
    """
    for l in range(1, layers.shape[0] - 1):
        width = layers[l, WIDTH]
        start = capacity * layers[l, UNITS] + base * width
        beta = 0.0
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            if weight >= 0:
                if m == 0:
                    gemm_nt(rows, width, layers[0, WIDTH], x, first * layers[0, WIDTH], theta, weight, beta, z, start)
                else:
                    source = capacity * layers[m, UNITS] + base * layers[m, WIDTH]
                    gemm_nt(rows, width, layers[m, WIDTH], z, source, theta, weight, beta, z, start)
                beta = 1.0
        block = matrix(z, start, rows, width)
        if beta == 0.0:
            block[:] = 0.0
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            if edges[e, WEIGHT] < 0:
                add_identity(layers, edges[e, SOURCE], x, first, rows, z, capacity, base, block)
        if layers[l, BIAS] >= 0:
            bias = theta[layers[l, BIAS] : layers[l, BIAS] + width]
            for r in range(rows):
                for i in range(width):
                    block[r, i] += bias[i]
        activate(layers[l, ACTIVATION], z, s1, s2, start, rows * width)


@subroutine
def add_identity(layers, m, x, first, rows, z, capacity, base, block):
    width = layers[m, WIDTH]
    if m == 0:
        source = matrix(x, first * width, rows, width)
    else:
        source = matrix(z, capacity * layers[m, UNITS] + base * width, rows, width)
    for r in range(rows):
        for i in range(width):
            block[r, i] += source[r, i]


@subroutine
def backward_rows(layers, edges, theta, first, rows, s1, c, g, capacity):
    """Turn ``dloss/dz`` of the outputs, found in ``g``, into ``g`` and ``c`` of all layers; ``c`` holds s'' before."""
    last = layers.shape[0] - 2
    for l in range(1, last):
        matrix(g, capacity * layers[l, UNITS] + first * layers[l, WIDTH], rows, layers[l, WIDTH])[:] = 0.0
    for l in range(last, 0, -1):
        width = layers[l, WIDTH]
        start = capacity * layers[l, UNITS] + first * width
        for i in range(start, start + rows * width):
            u = g[i]
            g[i] = s1[i] * u
            c[i] = c[i] * u
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m = edges[e, SOURCE]
            if m > 0:
                target = capacity * layers[m, UNITS] + first * layers[m, WIDTH]
                if edges[e, WEIGHT] >= 0:
                    gemm_nn(rows, layers[m, WIDTH], width, g, start, theta, edges[e, WEIGHT], 1.0, g, target)
                else:
                    for i in range(rows * width):
                        g[target + i] += g[start + i]


@subroutine
def linearize_rows(
    layers, edges, theta, x, first, rows, labels, targets, weights, loss, delta, z, s1, c, g, q, scale, capacity
):
    """Linearise ``rows`` samples; return the sum of their losses."""
    last = layers.shape[0] - 2
    outputs = layers[last, WIDTH]
    forward_rows(layers, edges, theta, x, first, rows, z, s1, c, capacity, first)
    end = capacity * layers[last, UNITS] + first * outputs
    value = evaluate_loss(
        loss, delta, rows, outputs, z, end, labels, targets, weights, first, g, end, q, first * outputs, scale, first
    )
    backward_rows(layers, edges, theta, first, rows, s1, c, g, capacity)
    return value


@subroutine
def add_gradient(layers, edges, x, first, rows, z, g, capacity, gradient):
    """Add the sum over ``rows`` of ``g_l z_m'`` and ``g_l`` to ``gradient``, laid out like theta."""
    for l in range(1, layers.shape[0] - 1):
        width = layers[l, WIDTH]
        start = capacity * layers[l, UNITS] + first * width
        for e in range(layers[l, FIRST_EDGE], layers[l + 1, FIRST_EDGE]):
            m, weight = edges[e, SOURCE], edges[e, WEIGHT]
            if weight >= 0:
                if m == 0:
                    gemm_tn(width, layers[0, WIDTH], rows, g, start, x, first * layers[0, WIDTH], 1.0, gradient, weight)
                else:
                    source = capacity * layers[m, UNITS] + first * layers[m, WIDTH]
                    gemm_tn(width, layers[m, WIDTH], rows, g, start, z, source, 1.0, gradient, weight)
        if layers[l, BIAS] >= 0:
            bias = gradient[layers[l, BIAS] : layers[l, BIAS] + width]
            block = matrix(g, start, rows, width)
            for r in range(rows):
                for i in range(width):
                    bias[i] += block[r, i]


@subroutine
def linearize_lane(
    lane, lanes, tile, layers, edges, theta, x, num_rows, labels, targets, weights, loss, delta,
    z, s1, c, g, q, scale, gradient,
):  # fmt: skip
    """Linearise one lane's rows; add their gradient to ``gradient`` unless that is empty."""
    begin, end, tiles = lane_rows(lane, lanes, num_rows, tile)
    summed, lost = 0.0, 0.0
    for t in range(tiles):
        first = begin + t * (end - begin) // tiles
        rows = begin + (t + 1) * (end - begin) // tiles - first
        value = linearize_rows(
            layers, edges, theta, x, first, rows, labels, targets, weights, loss, delta,
            z, s1, c, g, q, scale, num_rows,
        )  # fmt: skip
        summed, lost = neumaier(summed, lost, value)
        if gradient.size > 0:
            add_gradient(layers, edges, x, first, rows, z, g, num_rows, gradient)
    return summed + lost if np.isfinite(lost) else summed


@kernel
def linearize(
    lanes, tile, layers, edges, theta, x, num_rows, labels, targets, weights, loss, delta,
    z, s1, c, g, q, scale, values, gradient,
):  # fmt: skip
    """Evaluate a net on ``num_rows`` samples in ``lanes`` lanes and keep what products need.

    Parameters
    ----------
    layers, edges : int64 tables, see ``layout``
    theta, x : flat parameters and flat row-major data
    labels (N,) int64 or empty; targets (N*C,) or empty; weights (N,) or empty
    z, s1, c, g : (N*units,); q : (N*C,); scale : (N,)
    values : (lanes,), to which the sum of each lane's losses is added
    gradient : (lanes, P), to which the gradient of each lane's sum is added; (lanes, 0) where it is not wanted
    """
    for index in prange(lanes):
        lane = np.int64(index)
        values[lane] += linearize_lane(
            lane, lanes, tile, layers, edges, theta, x, num_rows, labels, targets, weights, loss, delta,
            z, s1, c, g, q, scale, gradient[lane],
        )  # fmt: skip

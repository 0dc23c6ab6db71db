"""Losses of one batch of rows: value, gradient with respect to the net's outputs, and output curvature.

For sample n with weight w_n the net's outputs are z (C values) and the loss is w_n l(z, target).  The curvature
Q = d2l/dz2 of every loss here is diagonal or, for softmax, ``diag(p) - p p'`` times the target's total.  It is kept as
one row ``q`` of C numbers and one number ``scale``:

    diagonal   Q = diag(q),                     q includes w_n
    softmax    Q = scale (diag(q) - q q'),      q = p, scale = w_n (sum of the target row)
"""

import math

from .jit import exact_subroutine, subroutine

__all__ = ["LOSSES", "curvature_times", "evaluate_loss", "neumaier"]

LOSSES = ("squared_error", "softmax_cross_entropy", "binary_cross_entropy", "poisson", "huber")
SQUARED_ERROR, SOFTMAX, BINARY, POISSON, HUBER = range(len(LOSSES))


@exact_subroutine
def softmax_labels(z, z0, C, label, w, u, u0, q, q0):
    """-log p_label, with 1 - p_label summed from the other classes so that a confident net keeps its digits."""
    top = z[z0]
    for j in range(1, C):
        top = max(top, z[z0 + j])
    total, others = 0.0, 0.0
    for j in range(C):
        e = math.exp(float(z[z0 + j]) - top)
        q[q0 + j] = e
        total += e
        if j != label:
            others += e
    for j in range(C):
        p = q[q0 + j] / total
        q[q0 + j] = p
        u[u0 + j] = w * p
    u[u0 + label] = -w * others / total
    if z[z0 + label] == top:  # total is NaN where an output is infinite
        return w * math.log1p(others) if math.isfinite(total) else math.nan
    return w * (math.log(total) + (top - float(z[z0 + label])))


@exact_subroutine
def softmax_rows(z, z0, C, target, t0, w, u, u0, q, q0):
    """Cross-entropy against a row of probabilities; returns the loss and the row's total."""
    top = z0
    for j in range(z0 + 1, z0 + C):
        if z[j] > z[top]:
            top = j
    highest = float(z[top])
    others, mass = 0.0, 0.0
    for j in range(C):
        e = math.exp(float(z[z0 + j]) - highest)
        mass += target[t0 + j]
        if z0 + j != top:
            others += e
    total = 1.0 + others
    value = mass * math.log1p(others)
    for j in range(C):
        e = math.exp(float(z[z0 + j]) - highest)
        t = float(target[t0 + j])
        complement = others if z0 + j == top else total - e
        u[u0 + j] = w * (e / total * (mass - t) - t * (complement / total))
        q[q0 + j] = e / total
        value += t * (highest - float(z[z0 + j]))
    return w * value, mass


@exact_subroutine
def elementwise(loss, delta, z, t, w):
    """Return value, first and second derivative of a loss that is a sum over outputs."""
    if loss == SQUARED_ERROR:
        r = z - t
        return 0.5 * w * r * r, w * r, w
    if loss == BINARY:
        e = math.exp(-abs(z))
        large = 1.0 / (1.0 + e)
        small = e * large
        p, complement = (large, small) if z >= 0.0 else (small, large)
        value = (z * (1.0 - t) if z >= 0.0 else -t * z) + math.log1p(e)
        return w * value, w * ((1.0 - t) * p - t * complement), w * p * complement
    if loss == POISSON:
        rate = math.exp(z)
        return w * (rate - t * z), w * (rate - t), w * rate
    r = z - t
    if abs(r) <= delta:
        return 0.5 * w * r * r, w * r, w
    return w * delta * (abs(r) - 0.5 * delta), w * math.copysign(delta, r), 0.0


@subroutine
def evaluate_loss(loss, delta, rows, C, z, z0, labels, targets, weights, first, u, u0, q, q0, scale, s0):
    """Fill ``u`` with dloss/dz and ``q``, ``scale`` with the curvature of ``rows`` samples; return the summed loss.

    ``first`` is the number of the first sample in ``labels``, ``targets`` and ``weights`` (empty arrays where unused).
    The sum is compensated (Neumaier), so that it does not lose digits with the number of samples.
    """
    summed, lost = 0.0, 0.0
    for r in range(rows):
        w = float(weights[first + r]) if weights.size > 0 else 1.0
        scale[s0 + r] = w
        value = 0.0
        if loss == SOFTMAX:
            if labels.size > 0:
                value = softmax_labels(z, z0 + r * C, C, labels[first + r], w, u, u0 + r * C, q, q0 + r * C)
            else:
                value, mass = softmax_rows(z, z0 + r * C, C, targets, (first + r) * C, w, u, u0 + r * C, q, q0 + r * C)
                scale[s0 + r] = w * mass
        else:
            for j in range(C):
                term, slope, curvature = elementwise(
                    loss, delta, float(z[z0 + r * C + j]), float(targets[(first + r) * C + j]), w
                )
                value += term
                u[u0 + r * C + j] = slope
                q[q0 + r * C + j] = curvature
        summed, lost = neumaier(summed, lost, value)
    return summed + lost if math.isfinite(lost) else summed


@exact_subroutine
def neumaier(summed, lost, value):
    """Add ``value`` and carry along what rounding lost."""
    total = summed + value
    if abs(summed) >= abs(value):
        lost += (summed - total) + value
    else:
        lost += (value - total) + summed
    return total, lost


@subroutine
def curvature_times(loss, rows, k, C, q, q0, scale, s0, v, v0, out, o0):
    """Write ``Q v`` for ``k`` vectors per sample; ``v`` and ``out`` are (rows, k, C)."""
    for r in range(rows):
        for j in range(k):
            o = (r * k + j) * C
            if loss == SOFTMAX:
                mean = q[q0 + r * C] * v[v0 + o]
                for c in range(1, C):
                    mean += q[q0 + r * C + c] * v[v0 + o + c]
                for c in range(C):
                    out[o0 + o + c] = scale[s0 + r] * q[q0 + r * C + c] * (v[v0 + o + c] - mean)
            else:
                for c in range(C):
                    out[o0 + o + c] = q[q0 + r * C + c] * v[v0 + o + c]

"""Reference derivatives that share no code with the library: plain NumPy, complex arithmetic, textbook formulas.

``complex_step_product`` differentiates a gradient written here, layer by layer and in complex numbers, so it carries no
cancellation: Im grad(theta + i h v) / h is H v to full precision for h = 1e-30.
"""

import numpy as np
from scipy.special import erf

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def _piecewise(a, right, left):
    return np.where(a.real > 0, right, left)


def _gelu_tanh(a):
    w = np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)
    dw = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * a**2)
    t = np.tanh(w)
    return a * (1 + t) / 2, (1 + t) / 2 + a * (1 - t**2) * dw / 2


def _mish(a):
    t = np.tanh(np.log(1 + np.exp(a)))
    return a * t, t + a * (1 - t**2) * sigmoid(a)


def _gelu(a):
    Phi = (1 + erf(a / np.sqrt(2))) / 2
    return a * Phi, Phi + a * np.exp(-(a**2) / 2) / np.sqrt(2 * np.pi)


def _safe_exp(a):
    return np.exp(np.where(a.real > 0, 0, a))


# value and first derivative, analytic in a
ACTIVATIONS = {
    "identity": lambda a: (a, np.ones_like(a)),
    "logistic": lambda a: (sigmoid(a), sigmoid(a) * (1 - sigmoid(a))),
    "tanh": lambda a: (np.tanh(a), 1 - np.tanh(a) ** 2),
    "relu": lambda a: (_piecewise(a, a, 0 * a), _piecewise(a, 1 + 0 * a, 0 * a)),
    "leaky_relu": lambda a: (_piecewise(a, a, 0.01 * a), _piecewise(a, 1 + 0 * a, 0.01 + 0 * a)),
    "elu": lambda a: (_piecewise(a, a, _safe_exp(a) - 1), _piecewise(a, 1 + 0 * a, _safe_exp(a))),
    "selu": lambda a: (
        SELU_SCALE * _piecewise(a, a, SELU_ALPHA * (_safe_exp(a) - 1)),
        SELU_SCALE * _piecewise(a, 1 + 0 * a, SELU_ALPHA * _safe_exp(a)),
    ),
    "softplus": lambda a: (np.log(1 + np.exp(a)), sigmoid(a)),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda a: (a * sigmoid(a), sigmoid(a) + a * sigmoid(a) * (1 - sigmoid(a))),
    "mish": _mish,
    "sin": lambda a: (np.sin(a), np.cos(a)),
    "softsign": lambda a: (
        _piecewise(a, a / (1 + a), a / (1 - a)),
        _piecewise(a, 1 / (1 + a) ** 2, 1 / (1 - a) ** 2),
    ),
    "exp": lambda a: (np.exp(a), np.exp(a)),
}


def softmax(z):
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def one_hot(y, classes):
    return np.eye(classes)[y] if y.ndim == 1 else y


# value per sample, and its derivative with respect to the outputs
LOSSES = {
    "squared_error": lambda z, y: (((z - y) ** 2).sum(1) / 2, z - y),
    "softmax_cross_entropy": lambda z, y: (
        -(one_hot(y, z.shape[1]) * np.log(softmax(z))).sum(1),
        softmax(z) - one_hot(y, z.shape[1]),
    ),
    "binary_cross_entropy": lambda z, y: ((np.log(1 + np.exp(z)) - y * z).sum(1), sigmoid(z) - y),
    "poisson": lambda z, y: ((np.exp(z) - y * z).sum(1), np.exp(z) - y),
    "huber": lambda z, y: (
        np.where(abs((z - y).real) <= 1, (z - y) ** 2 / 2, abs((z - y).real) - 0.5).sum(1),
        np.where(abs((z - y).real) <= 1, z - y, np.sign((z - y).real)),
    ),
}


def split(net, theta):
    """Cut theta into weights {(layer, source): (out, in)} and biases {layer: (out,)}, by the documented order."""
    weights, biases, start = {}, {}, 0
    for l in range(1, len(net.widths)):
        for m, kind in net.sources[l - 1]:
            if kind == "dense":
                size = net.widths[l] * net.widths[m]
                weights[l, m] = theta[start : start + size].reshape(net.widths[l], net.widths[m])
                start += size
        if net.bias[l - 1]:
            biases[l] = theta[start : start + net.widths[l]]
            start += net.widths[l]
    assert start == len(theta)
    return weights, biases


def outputs_and_slopes(net, theta, X, *, added_before=None, added_after=None):
    """Outputs and slopes of all layers; {layer: shift} is added before or after the activation of that layer."""
    before, after = added_before or {}, added_after or {}
    weights, biases = split(net, theta)
    z, slopes = [X + after.get(0, 0.0)], [None]
    for l in range(1, len(net.widths)):
        a = sum(z[m] @ weights[l, m].T if kind == "dense" else z[m] for m, kind in net.sources[l - 1])
        a = a + biases.get(l, 0.0) + before.get(l, 0.0)
        value, slope = ACTIVATIONS[net.activations[l - 1]](a)
        z.append(value + after.get(l, 0.0))
        slopes.append(slope)
    return z, slopes


def value_and_gradient(net, theta, X, y, *, loss, reduction="mean", l2=0.0, sample_weight=None):
    """The objective and its gradient; complex theta gives complex answers."""
    z, slopes = outputs_and_slopes(net, theta, X)
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    total = w.sum() if reduction == "mean" else 1.0
    losses, u_last = LOSSES[loss](z[-1], y)
    u = {l: 0 for l in range(1, len(net.widths))}
    u[len(net.widths) - 1] = w[:, None] * u_last / total
    weights, _ = split(net, theta)
    parts = {}
    for l in range(len(net.widths) - 1, 0, -1):
        g = slopes[l] * u[l]
        parts[l] = [(g.T @ z[m]).ravel() for m, kind in net.sources[l - 1] if kind == "dense"]
        if net.bias[l - 1]:
            parts[l].append(g.sum(0))
        for m, kind in net.sources[l - 1]:
            if m > 0:
                u[m] = u[m] + (g @ weights[l, m] if kind == "dense" else g)
    gradient = np.concatenate([p for l in sorted(parts) for p in parts[l]])
    value = (w * losses).sum() / total + (l2 * theta**2).sum() / 2
    return value, gradient + l2 * theta


def complex_step_product(net, theta, v, X, y, **options):
    step = 1e-30
    return value_and_gradient(net, theta + 1j * step * v, X, y, **options)[1].imag / step


def complex_step_hessian(net, theta, X, y, **options):
    return np.array([complex_step_product(net, theta, e, X, y, **options) for e in np.eye(len(theta))])


def gauss_newton_matrix(net, theta, X, y, *, loss, reduction="mean", l2=0.0, sample_weight=None):
    """sum_n J_n' Q_n J_n, with both factors from complex steps."""
    step = 1e-30
    P, N, C = len(theta), len(X), net.widths[-1]
    J = np.array([outputs_and_slopes(net, theta + 1j * step * e, X)[0][-1].imag / step for e in np.eye(P)])
    z = outputs_and_slopes(net, theta, X)[0][-1]
    Q = np.array([LOSSES[loss](z + 1j * step * e, y)[1].imag / step for e in np.eye(C)])  # (C, N, C)
    w = np.ones(N) if sample_weight is None else sample_weight
    total = w.sum() if reduction == "mean" else 1.0
    return np.einsum("pnc,cnd,qnd,n->pq", J, Q, J, w / total) + np.diag(l2 * np.ones(P))


def kronecker_factors(net, theta, X, y, *, loss, reduction="mean", sample_weight=None):
    """{layer: (A, B)}: weighted mean of inputs' outer products; sum of ``J' Q J``, J = dz_L/da_l, over the total."""
    step = 1e-30
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    total = w.sum() if reduction == "mean" else 1.0
    z = outputs_and_slopes(net, theta, X)[0]
    Q = np.array([LOSSES[loss](z[-1] + 1j * step * e, y)[1].imag / step for e in np.eye(net.widths[-1])])  # (C, N, C)
    factors = {}
    for l in range(1, len(net.widths)):
        shifts = 1j * step * np.eye(net.widths[l])
        J = [outputs_and_slopes(net, theta, X, added_before={l: e})[0][-1].imag / step for e in shifts]  # (d, N, C)
        B = np.einsum("inc,cnd,jnd,n->ij", J, Q, J, w / total)
        inputs = [z[m] for m, kind in net.sources[l - 1] if kind == "dense"]
        if net.bias[l - 1]:
            inputs.append(np.ones((len(X), 1)))
        if inputs:
            inputs = np.hstack(inputs)
            factors[l] = inputs.T @ (w[:, None] * inputs) / w.sum(), B
    return factors


def activation_gradient(net, theta, X, y, layer, shift, *, loss):
    """d(loss of each sample)/dz of a layer, its outputs moved by ``shift`` (N, d), which may be complex."""
    z, slopes = outputs_and_slopes(net, theta, X, added_after={layer: shift})
    weights, _ = split(net, theta)
    u = {l: np.zeros_like(z[l]) for l in range(len(net.widths))}
    u[len(net.widths) - 1] = LOSSES[loss](z[-1], y)[1]
    for l in range(len(net.widths) - 1, layer, -1):
        for m, kind in net.sources[l - 1]:
            g = slopes[l] * u[l]
            u[m] = u[m] + (g @ weights[l, m] if kind == "dense" else g)
    return u[layer]


def activation_hessian(net, theta, X, y, layer, *, loss):
    """(N, d, d), by complex steps of :func:`activation_gradient`."""
    step = 1e-30
    shifts = 1j * step * np.eye(net.widths[layer])
    rows = [activation_gradient(net, theta, X, y, layer, e[None, :], loss=loss).imag / step for e in shifts]
    return np.array(rows).transpose(1, 0, 2)

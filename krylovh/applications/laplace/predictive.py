"""Predictions: the net linearised at the mode, and what a Gaussian over its outputs means for the targets.

The outputs of ``f(theta*) + J (theta - theta*)`` are normal with mean f and covariance ``V = J Sigma J'``.  For logits
the expectation of the logistic function is ``logistic(kappa(v) f)`` with ``kappa(v) = 1 / sqrt(1 + pi v / 8)`` up to
2 % ("probit"); for softmax each logit is shrunk by the kappa of its own variance.  The Laplace bridge matches a
Dirichlet distribution to the Gaussian.  For log rates the mean ``exp(f + v/2)`` is exact in the linearised model.

References
----------
MacKay (1992), The evidence framework applied to classification networks.
Gibbs (1997), Bayesian Gaussian processes for regression and classification (the multi-class form).
Hobbhahn, Kristiadi and Hennig (2022), Fast predictive uncertainty for classification with Bayesian deep networks.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

Array = NDArray[np.float64]
Method = Literal["probit", "bridge", "monte_carlo", "network"]

__all__ = ["Method", "checked_method", "mean_and_variance", "of_samples"]


def checked_method(method: str | None, loss: str) -> str:
    """Return the name of a method that fits the loss, "linearized" where the linearised model needs no further one."""
    if method is None:
        return "probit" if "cross_entropy" in loss else "linearized"
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)} or None, got {method!r}")
    if method == "bridge" and loss != "softmax_cross_entropy":
        raise ValueError(f"method 'bridge' must go with loss 'softmax_cross_entropy', got loss {loss!r}")
    if method == "probit" and "cross_entropy" not in loss:
        raise ValueError(f"method 'probit' must go with a cross entropy, got loss {loss!r}")
    return method


def mean_and_variance(loss: str, method: str, f: Array, V: Array, noise_precision: float) -> tuple[Array, Array]:
    """Return mean and variance of the targets (N, C) from outputs (N, C) with covariances (N, C, C)."""
    v = np.einsum("ncc->nc", V)
    if loss == "squared_error":
        return f.copy(), v + 1 / noise_precision
    if loss == "poisson":  # of a mixture of Poisson distributions with log-normal rates
        rate = np.exp(f + v / 2)
        return rate, rate + np.square(rate) * np.expm1(v)
    kappa = 1 / np.sqrt(1 + np.pi * v / 8)
    if loss == "binary_cross_entropy":
        p = expit(kappa * f)
    elif method == "bridge":
        p = _bridge(f, V)
    else:
        p = softmax(kappa * f, axis=1)
    return p, p * (1 - p)


def of_samples(loss: str, outputs: Array, noise_precision: float) -> tuple[Array, Array]:
    """Return mean and variance of the targets (N, C) from samples of the outputs (S, N, C)."""
    if loss == "squared_error":
        return outputs.mean(axis=0), outputs.var(axis=0, ddof=1) + 1 / noise_precision
    if loss == "poisson":
        rates = np.exp(outputs)
        return rates.mean(axis=0), rates.mean(axis=0) + rates.var(axis=0, ddof=1)
    p = (expit(outputs) if loss == "binary_cross_entropy" else softmax(outputs, axis=2)).mean(axis=0)
    return p, p * (1 - p)


def _bridge(f: Array, V: Array) -> Array:
    """Return the mean of the Dirichlet distribution that has the Gaussian's curvature, in the space of sum 0."""
    C = f.shape[1]
    rows = V.sum(axis=2)
    total = np.where((sum_ := rows.sum(axis=1)) > 0, sum_, 1.0)
    f = f - rows * (f.sum(axis=1) / total)[:, None]  # condition on logits that add up to 0
    v = np.einsum("ncc->nc", V) - np.square(rows) / total[:, None]
    c = np.sqrt(v.mean(axis=1, keepdims=True) / np.sqrt(C / 2))  # corrected for large variances, as by the authors
    c = np.where(c > 0, c, 1.0)
    largest = v.max(axis=1, keepdims=True)
    f, v = f / c, np.maximum(v / np.where(largest > 0, largest, 1.0), np.finfo(float).eps)  # only ratios of v matter
    # softmax of f, less what the variance takes away, all weights positive
    log_sum = np.logaddexp.reduce(-f, axis=1, keepdims=True)
    counts = (1 - 2 / C + np.exp(np.minimum(f + log_sum, 700.0)) / C**2) / v
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))

"""Losses as negative log likelihoods, with their constants.

A weight w_n counts like w_n copies of a sample.  Squared error is a normal distribution of precision beta, cross
entropies are the probabilities of labels, and the Poisson loss lacks ``log y!``.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from krylovh.objective import Objective

Array = NDArray[np.float64]

__all__ = ["checked_noise_precision", "log_likelihood", "loss_sum", "prior_of", "total_weight"]


def total_weight(objective: Objective) -> float:
    """Return how many samples there are, those of weight w counted w times."""
    weights = objective.sample_weight
    return float(objective.num_samples if weights is None else weights.sum(dtype=np.float64))


def prior_of(objective: Objective) -> Array:
    """Return the l2 of the summed loss for each parameter, (P,): that of a mean is multiplied by the total weight."""
    return np.broadcast_to(objective.l2 * objective.total if objective.l2.size else 0.0, objective.num_parameters)


def loss_sum(objective: Objective) -> float:
    """Return the sum of the losses over samples, without the regulariser."""
    theta = objective.net.theta.astype(np.float64)
    ridge = 0.5 * float(np.sum(objective.l2 * theta * theta)) if objective.l2.size else 0.0
    return (objective.value() - ridge) * objective.total


def checked_noise_precision(objective: Objective, noise_precision: float) -> float:
    """Return beta as a float, or say why this objective cannot have it."""
    if objective.loss == "huber":
        raise ValueError("loss 'huber' must be 'squared_error' or another negative log likelihood for a posterior")
    beta = float(noise_precision)
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(f"noise_precision must be positive and finite, got {noise_precision}")
    if beta != 1.0 and objective.loss != "squared_error":
        raise ValueError(f"noise_precision must be 1 for loss {objective.loss!r}, which has no noise, got {beta}")
    return beta


def log_likelihood(objective: Objective, noise_precision: float) -> float:
    """Return ``log p(y | X, theta)``."""
    value = -noise_precision * loss_sum(objective)
    if objective.loss == "squared_error":
        size = total_weight(objective) * objective.net.widths[-1]
        value += size / 2 * math.log(noise_precision / (2 * math.pi))
    elif objective.loss == "poisson":
        weights = np.ones(objective.num_samples) if objective.sample_weight is None else objective.sample_weight
        value -= float(weights @ gammaln(objective.y.astype(np.float64) + 1).sum(axis=1))
    return value

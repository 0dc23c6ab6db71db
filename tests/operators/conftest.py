"""A small trained net whose inputs have unlike scales, as raw features do."""

import numpy as np
import pytest
from scipy.optimize import minimize

from krylovh import Network, Objective


@pytest.fixture(scope="session")
def trained():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 20))
    labels = np.argmax(features @ rng.standard_normal((20, 3)) + rng.standard_normal((400, 3)), axis=1)
    net = Network((20, 10, 3), "tanh")
    X = features * np.logspace(1, -2, 20)
    start = Objective(net.with_theta(net.random_theta(1)), X, labels, loss="softmax_cross_entropy", l2=1e-2)

    def value_and_gradient(theta):
        objective = start.at(theta)
        return objective.value(), objective.gradient()

    found = minimize(value_and_gradient, start.net.theta, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return start.at(found.x)

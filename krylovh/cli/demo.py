"""The demonstration: the Hessian spectrum of a net that scikit-learn trains on its digits."""

import warnings

import numpy as np

from krylovh import Network, Objective

__all__ = ["digits_objective"]


def digits_objective(*, threads: int | None = None) -> Objective:
    """Train a 64-32-32-10 tanh net on scikit-learn's digits and return the objective that was minimised.

    scikit-learn's lbfgs minimises the mean cross-entropy plus alpha/(2N) of the squared weights, biases left out.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        raise ImportError("the demo trains its net with scikit-learn: pip install 'krylovh[demo]'") from None
    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    alpha = 0.1
    model = MLPClassifier((32, 32), activation="tanh", solver="lbfgs", alpha=alpha, max_iter=400, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a spectrum can be taken anywhere
        model.fit(X, y)
    parts = [part for W, b in zip(model.coefs_, model.intercepts_, strict=True) for part in (W.T.ravel(), b)]
    net = Network((64, 32, 32, 10), "tanh", np.concatenate(parts))
    ridge = alpha / len(X) * net.weight_mask()
    return Objective(net, X, y, loss="softmax_cross_entropy", l2=ridge, threads=threads)

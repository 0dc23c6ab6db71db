"""Nets and objectives of scikit-learn's multilayer perceptrons, and of the estimators of this library.

``MLPClassifier`` and ``MLPRegressor`` minimise the mean loss plus ``alpha / (2 b)`` times the squared weights, biases
excepted, where b is the number of samples of a batch (with sample weights: their sum).  For ``solver="lbfgs"`` a batch
is everything, and the ridge is ``alpha / N``.  For "sgd" and "adam" it is the mean of ``alpha / b`` over the batches of
an epoch, which with the default ``batch_size="auto"`` is about ``alpha / 200``.

For several outputs ``MLPRegressor.loss_`` is divided by their number, and the gradient that it follows is not: the
objective here is the one whose gradient was followed, ``1/(2N) sum |z - y|^2``.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import type_of_target

from krylovh.applications.training.estimators import NewtonMLPClassifier, NewtonMLPRegressor
from krylovh.checks import finite_array
from krylovh.interop.parameters import Origin, Piece
from krylovh.interop.self_check import require_equal
from krylovh.network import Network
from krylovh.objective import Objective

Array = NDArray[Any]

__all__ = ["network_of_estimator", "objective_of_estimator"]

_CHECKED_ROWS = 64


def network_of_estimator(estimator: Any) -> Network:
    """Return the net of a fitted estimator; its outputs are logits, values, or log rates.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> fitted = MLPClassifier((5,), "tanh", solver="lbfgs", max_iter=500, random_state=0).fit(X, y)
    >>> network_of_estimator(fitted)
    Network(4-5-3, 43 parameters)
    """
    model = _fitted(estimator)
    coefs, intercepts = model.coefs_, model.intercepts_
    widths = [coefs[0].shape[0], *(coef.shape[1] for coef in coefs)]
    blocks = [block for coef, intercept in zip(coefs, intercepts, strict=True) for block in (coef.T.ravel(), intercept)]
    net = Network(widths, [*_hidden(model.activation, len(coefs) - 1), "identity"], np.concatenate(blocks))
    names = [f"{kind}.{layer}" for kind in ("coefs", "intercepts") for layer in range(len(coefs))]
    shapes = dict(zip(names, (array.shape for array in [*coefs, *intercepts]), strict=True))
    pieces = tuple(
        Piece(f"{'coefs' if b.kind == 'weight' else 'intercepts'}.{b.layer - 1}", b.start, b.shape, b.kind == "weight")
        for b in net.blocks
    )
    link = {"softmax": "softmax", "logistic": "logistic", "identity": None, "exp": "exp"}[model.out_activation_]
    net.origin = Origin("sklearn", shapes, pieces, link=link)
    return net


def objective_of_estimator(
    estimator: Any, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None, l2: ArrayLike | None, **options: Any
) -> Objective:
    """Return what a fitted estimator minimised, on the samples ``X``, ``y``; see :meth:`Objective.from_sklearn`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((50, 3))
    >>> model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=500, random_state=0)
    >>> fitted = model.fit(X, X[:, 0])
    >>> print(objective_of_estimator(fitted, X, X[:, 0], sample_weight=None, l2=None).formula())
    (1/N) sum_n 1/2 |z_n - y_n|^2, N = 50 + sum_i (l2_i/2) theta_i^2, l2 = 0 on 5, 2e-06 on 16 parameters
    """
    model = _fitted(estimator)
    if isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
    net = network_of_estimator(model)
    inputs = finite_array("X", X, net.theta.dtype)
    if inputs.ndim != 2 or inputs.shape[1] != net.widths[0]:
        raise ValueError(f"X must have shape (N, {net.widths[0]}), got {inputs.shape}")
    loss, targets = _loss_and_targets(model, y)
    _check_outputs(model, net, inputs[:_CHECKED_ROWS])
    if l2 is None:
        l2 = _ridge(model, len(inputs), sample_weight) * net.weight_mask()
    return Objective(net, inputs, targets, loss=loss, l2=l2, sample_weight=sample_weight, **options)


def _fitted(estimator: Any) -> Any:
    if isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    kinds = (MLPClassifier, MLPRegressor, NewtonMLPClassifier, NewtonMLPRegressor)
    if not isinstance(estimator, kinds):
        raise TypeError(
            f"estimator must be one of {', '.join(kind.__name__ for kind in kinds)}, or a Pipeline that ends in one, "
            f"got {type(estimator).__name__}"
        )
    if not hasattr(estimator, "coefs_"):
        raise NotFittedError(f"this {type(estimator).__name__} is not fitted yet")
    return estimator


def _hidden(activation: str, number: int) -> list[str]:
    return [activation] * number  # identity, logistic, tanh and relu have these names here, too


def _loss_and_targets(model: Any, y: ArrayLike) -> tuple[str, Array]:
    """Return the loss, and the targets as the solver saw them."""
    if isinstance(model, (MLPRegressor, NewtonMLPRegressor)):
        loss = getattr(model, "loss", "squared_error")
        if loss not in ("squared_error", "poisson"):
            raise ValueError(f"estimator has loss {loss!r}; supported are squared_error and poisson")
        targets = np.asarray(y)
        return loss, targets.reshape(len(targets), -1)
    labels = np.asarray(y)
    if type_of_target(labels) == "multilabel-indicator":
        if labels.shape[1] != model.n_outputs_:
            raise ValueError(f"y must have {model.n_outputs_} columns, one per label, got shape {labels.shape}")
        return "binary_cross_entropy", labels.astype(np.float64)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    positions = np.searchsorted(model.classes_, labels).clip(max=len(model.classes_) - 1)
    if labels.shape != (len(labels),) or not np.array_equal(np.asarray(model.classes_)[positions], labels):
        raise ValueError(f"y must hold labels out of the classes {list(model.classes_)[:20]} that were fitted")
    if model.out_activation_ == "softmax":
        return "softmax_cross_entropy", positions
    return "binary_cross_entropy", positions.astype(np.float64).reshape(-1, 1)


def _ridge(model: Any, num_samples: int, sample_weight: ArrayLike | None) -> float:
    """Return the ridge on the weights: the mean of ``alpha / b`` over the batches of an epoch."""
    total = float(num_samples) if sample_weight is None else float(np.sum(np.asarray(sample_weight, np.float64)))
    if getattr(model, "solver", "lbfgs") == "lbfgs":
        return float(model.alpha / total)
    batch = min(200 if model.batch_size == "auto" else model.batch_size, num_samples)
    full, rest = divmod(num_samples, batch)
    sizes = np.array([batch] * full + [rest] * (rest > 0))
    return float(model.alpha * np.mean(1.0 / sizes) * num_samples / total)


def _check_outputs(model: Any, net: Network, X: Array) -> None:
    """Compare with what the estimator itself predicts."""
    z = net.forward(X)
    if isinstance(model, (MLPRegressor, NewtonMLPRegressor)):
        ours = np.exp(z) if net.origin.link == "exp" else z
        theirs = np.asarray(model.predict(X)).reshape(z.shape)
    else:
        theirs = np.asarray(model.predict_proba(X))
        ours = softmax(z, axis=1) if net.origin.link == "softmax" else expit(z)
        theirs = theirs[:, 1:] if ours.shape[1] == 1 else theirs
    require_equal("predictions", ours, theirs, net.theta.dtype, type(model).__name__)

"""Multilayer perceptrons as scikit-learn estimators, trained by second-order methods.

They take the parameters of ``MLPClassifier`` and ``MLPRegressor`` that have a meaning here, and minimise the same
objective as their ``solver="lbfgs"``: the mean loss (for squared error half of it, summed over outputs) plus
``alpha / (2 N)`` times the sum of squares of the weights, biases excepted; with sample weights N is their sum.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from krylovh.applications.training.minimization import Method, minimize
from krylovh.checks import whole_number
from krylovh.network import Network
from krylovh.objective import Objective
from krylovh.progress import Progress
from krylovh.results import Status

Array = NDArray[Any]

__all__ = ["NewtonMLPClassifier", "NewtonMLPRegressor"]


class _NewtonMLP(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor have in common."""

    objective_: Objective

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        method: Method = "newton-cg",
        alpha: float = 1e-4,
        damping: float | None = None,
        preconditioner: Any = None,
        batch_size: int | None = None,
        product_dtype: Any = None,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: Any = None,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        verbose: Progress = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.method = method
        self.alpha = alpha
        self.damping = damping
        self.preconditioner = preconditioner
        self.batch_size = batch_size
        self.product_dtype = product_dtype
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.verbose = verbose

    def _train(
        self,
        X: Array,
        targets: Array,
        loss: str,
        num_outputs: int,
        sample_weight: Array | None,
        score: Callable[[Array, Array], float],
    ) -> None:
        """Fit the net to checked data."""
        if not 0 <= self.alpha < np.inf:
            raise ValueError(f"alpha must be finite and at least 0, got {self.alpha}")
        patience = whole_number("n_iter_no_change", self.n_iter_no_change, 1)
        random = check_random_state(self.random_state)
        sizes = self.hidden_layer_sizes
        hidden = (int(sizes),) if isinstance(sizes, (int, np.integer)) else tuple(sizes)
        net = Network((X.shape[1], *hidden, num_outputs), [self.activation] * len(hidden) + ["identity"])
        seed = int(random.randint(2**31 - 1))
        known: Network | None = self.objective_.net if self.warm_start and hasattr(self, "objective_") else None
        if known is not None and known.widths != net.widths:
            raise ValueError(f"warm_start needs a net of the widths {known.widths} as before, got {net.widths}")
        net = net.with_theta(net.random_theta(seed) if known is None else known.theta)
        held: tuple[Array, Array] | None = None
        if self.early_stopping:
            stratify = targets if loss == "softmax_cross_entropy" else None
            parts = [X, targets] if sample_weight is None else [X, targets, sample_weight]
            X, held_X, targets, held_y, *weights = train_test_split(
                *parts, test_size=self.validation_fraction, random_state=seed, stratify=stratify
            )
            held, sample_weight = (held_X, held_y), weights[0] if weights else None
        total = len(X) if sample_weight is None else float(sample_weight.sum())
        objective = Objective(
            net, X, targets, loss=loss, l2=self.alpha / total * net.weight_mask(), sample_weight=sample_weight
        )
        watch = None if held is None else _EarlyStopping(net, *held, score, patience)
        result = minimize(
            objective,
            method=self.method,
            tol=self.tol,
            max_iterations=self.max_iter,
            damping=self.damping,
            preconditioner=self.preconditioner,
            batch_size=self.batch_size,
            product_dtype=self.product_dtype,
            rng=seed,
            callback=watch,
            progress=self.verbose,
        )
        theta = result.x if watch is None or watch.best_theta is None else watch.best_theta
        stopped = watch is not None and watch.stopped
        if result.status == Status.INTERRUPTED and not stopped:
            warnings.warn("training was interrupted; the fit is what was reached", stacklevel=3)
        elif result.status in (Status.BUDGET, Status.NONFINITE):
            warnings.warn(f"training has not converged: {result.message}", ConvergenceWarning, stacklevel=3)
        self.objective_ = objective.at(theta)
        self.result_ = result
        net = self.objective_.net
        self.coefs_ = [net.weights(layer).T.copy() for layer in range(1, net.depth + 1)]
        self.intercepts_ = [net.biases(layer).copy() for layer in range(1, net.depth + 1)]
        self.loss_ = self.objective_.value()
        self.loss_curve_ = result.value_history[1:].tolist()
        self.best_loss_ = None if self.early_stopping else result.fun
        self.validation_scores_ = None if watch is None else watch.scores
        self.n_iter_ = result.nit
        self.n_layers_ = net.depth + 1
        self.n_outputs_ = num_outputs

    def _outputs(self, X: Any) -> Array:
        """Return the net's outputs for checked inputs, by the weights in ``coefs_`` and ``intercepts_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self.objective_.net.forward(X)


class _EarlyStopping:
    """Stops when the score on held-out samples has not risen for a number of iterations; remembers the best theta."""

    def __init__(self, net: Network, X: Array, y: Array, score: Callable[[Array, Array], float], patience: int) -> None:
        self.net, self.X, self.y, self.score, self.patience = net, X, y, score, patience
        self.scores: list[float] = []
        self.best_theta: Array | None = None
        self.best = -np.inf
        self.stopped = False
        self._waited = 0

    def __call__(self, intermediate: OptimizeResult) -> None:
        score = self.score(self.y, self.net.with_theta(intermediate.x).forward(self.X))
        self.scores.append(score)
        if score > self.best:
            self.best, self.best_theta, self._waited = score, intermediate.x, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped = True
            raise StopIteration


class NewtonMLPClassifier(ClassifierMixin, _NewtonMLP):  # type: ignore[misc]
    """Multilayer perceptron classifier trained by second-order methods.

    Binary, multiclass and multilabel targets, as in ``sklearn.neural_network.MLPClassifier``.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
    activation : str
        Of the hidden layers; any that :class:`krylovh.Network` knows.
    method : str
        See :func:`krylovh.minimize`; levenberg-marquardt is for regression.
    alpha : float
        Adds ``alpha / (2 N)`` times the squared weights (no biases), as scikit-learn's ``solver="lbfgs"`` does.
    damping, preconditioner, batch_size, product_dtype : optional
        See :func:`krylovh.minimize`.  ``batch_size`` counts the samples of a curvature batch.
    max_iter : int
        Second-order iterations at most; each makes several products.
    tol : float
        Converged when the gradient norm is at most ``tol`` times that at the start.
    random_state : int, RandomState or None
    warm_start : bool
        Go on from the parameters of the fit before.
    early_stopping : bool
        Hold ``validation_fraction`` of the samples out, stop when their score has not risen for ``n_iter_no_change``
        iterations, and keep the best parameters.
    validation_fraction : float
    n_iter_no_change : int
    verbose : bool or callable
        Progress; see ``progress`` of :func:`krylovh.minimize`.

    Attributes
    ----------
    classes_ : ndarray
    coefs_, intercepts_ : lists of ndarrays, shapes (in, out) and (out,)
    objective_ : Objective
        At the solution, training data included: curvature, pruning and influence start here.
    result_ : TrainingResult
    loss_, loss_curve_, n_iter_, n_layers_, n_outputs_, n_features_in_, validation_scores_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> fitted = NewtonMLPClassifier((5,), "tanh", alpha=1.0, random_state=0).fit(X, y)
    >>> bool(fitted.score(X, y) > 0.95), [coef.shape for coef in fitted.coefs_]
    (True, [(4, 5), (5, 3)])
    """

    classes_: Array

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NewtonMLPClassifier":
        """Fit to X (N, d) and labels y (N,), or an indicator matrix (N, C) of several labels per sample."""
        X, y = validate_data(self, X, y, multi_output=True, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        continues = self.warm_start and hasattr(self, "classes_")
        binarizer = LabelBinarizer().fit(y)
        if continues and not np.array_equal(binarizer.classes_, self.classes_):
            raise ValueError(f"warm_start needs the classes {self.classes_} as before, got {binarizer.classes_}")
        self._label_binarizer = binarizer
        self.classes_ = binarizer.classes_
        if type_of_target(y) == "multiclass" and len(self.classes_) > 2:
            targets = np.searchsorted(self.classes_, y)
            loss, num_outputs = "softmax_cross_entropy", len(self.classes_)
        else:
            targets = binarizer.transform(y).astype(np.float64)
            loss, num_outputs = "binary_cross_entropy", targets.shape[1]
        self.out_activation_ = "softmax" if loss == "softmax_cross_entropy" else "logistic"
        self._train(X.astype(np.float64), targets, loss, num_outputs, sample_weight, self._accuracy)
        return self

    def predict(self, X: Any) -> Array:
        """Return labels (N,), or an indicator matrix (N, C)."""
        outputs = self._outputs(X)
        return np.asarray(self._label_binarizer.inverse_transform(self._probabilities(outputs)))

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities (N, number of classes); of several labels, that of each."""
        p = self._probabilities(self._outputs(X))
        return np.hstack([1 - p, p]) if p.shape[1] == 1 else p

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of :meth:`predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    def _probabilities(self, outputs: Array) -> Array:
        return np.asarray(softmax(outputs, axis=1) if self.out_activation_ == "softmax" else expit(outputs))

    def _accuracy(self, y: Array, outputs: Array) -> float:
        if self.out_activation_ == "softmax":
            return float(np.mean(outputs.argmax(axis=1) == y))
        return float(accuracy_score(y, outputs > 0))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class NewtonMLPRegressor(RegressorMixin, _NewtonMLP):  # type: ignore[misc]
    """Multilayer perceptron regressor trained by second-order methods on squared error, for one or several outputs.

    Parameters and attributes are those of :class:`NewtonMLPClassifier`, without ``classes_``.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> fitted = NewtonMLPRegressor((10,), "tanh", method="levenberg-marquardt", random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(fitted.score(X, X[:, 0] ** 2) > 0.999)
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NewtonMLPRegressor":
        """Fit to X (N, d) and y (N,) or (N, C)."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32))
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        targets = y.reshape(len(y), -1).astype(np.float64)
        self.out_activation_ = "identity"
        self._train(X.astype(np.float64), targets, "squared_error", targets.shape[1], sample_weight, self._r2)
        return self

    def predict(self, X: Any) -> Array:
        """Return predictions (N,), or (N, C) for several outputs."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    @staticmethod
    def _r2(y: Array, outputs: Array) -> float:
        return float(r2_score(y, outputs))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True
        return tags

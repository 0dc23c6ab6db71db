"""scikit-learn's perceptrons: the objective here is the one that the solver followed, in value, gradient and Hessian.

The gradient is compared with scikit-learn's own, the Hessian with complex steps of a gradient written here in
scikit-learn's layout (coefs (in, out), all of them before all intercepts).
"""

import warnings

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer, StandardScaler

from krylovh import Network, NewtonMLPClassifier, Objective, hessian_matrix, to_sklearn

RNG = np.random.default_rng(5)
X3, Y3 = make_classification(70, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=0)
YM = make_multilabel_classification(70, 6, n_classes=4, random_state=0)[1]
YR = np.stack([np.sin(X3[:, 0]), X3[:, 1] * X3[:, 2], X3[:, 3]], axis=1)

HIDDEN = {
    "tanh": lambda a: (np.tanh(a), 1 - np.tanh(a) ** 2),
    "logistic": lambda a: (1 / (1 + np.exp(-a)), np.exp(-a) / (1 + np.exp(-a)) ** 2),
    "relu": lambda a: (a * (a.real > 0), (a.real > 0) * 1.0),
    "identity": lambda a: (a, np.ones_like(a)),
}


def sklearn_gradient(packed, model, X, y, total, weight=None):
    """Gradient of ``1/total (sum_n w_n l_n + alpha/2 |coefs|^2)``, packed as scikit-learn packs it."""
    shapes = [c.shape for c in model.coefs_]
    sizes = [a * b for a, b in shapes] + [b for _, b in shapes]
    parts = np.split(packed, np.cumsum(sizes)[:-1])
    W = [p.reshape(s) for p, s in zip(parts, shapes, strict=False)]
    b = parts[len(shapes) :]
    z, slopes = [X.astype(complex)], []
    for l in range(len(W)):
        a = z[-1] @ W[l] + b[l]
        value, slope = HIDDEN[model.activation](a) if l < len(W) - 1 else (a, None)
        z.append(value)
        slopes.append(slope)
    output = {
        "softmax": lambda a: np.exp(a) / np.exp(a).sum(1, keepdims=True),
        "logistic": lambda a: 1 / (1 + np.exp(-a)),
        "identity": lambda a: a,
        "exp": np.exp,
    }[model.out_activation_](z[-1])
    delta = (output - y) * (1.0 if weight is None else weight[:, None])
    coefs, intercepts = [None] * len(W), [None] * len(W)
    for l in range(len(W) - 1, -1, -1):
        coefs[l] = (z[l].T @ delta + model.alpha * W[l]) / total
        intercepts[l] = delta.sum(0) / total
        if l:
            delta = (delta @ W[l].T) * slopes[l - 1]
    return np.concatenate([c.ravel() for c in coefs + intercepts])


def packed(net, vector):
    return np.concatenate([a.reshape(-1, *vector.shape[1:]) for group in to_sklearn(net, vector) for a in group])


def fitted(model, X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, **options)


def encoded(model, y):
    if isinstance(model, MLPRegressor):
        return y.reshape(len(y), -1)
    one_hot = LabelBinarizer().fit(model.classes_).transform(y) if np.ndim(y) == 1 else y
    return one_hot.astype(float)


CASES = {
    "multiclass": (MLPClassifier((7, 4), activation="tanh"), np.array(["a", "c", "b"])[Y3]),
    "binary": (MLPClassifier((5,), activation="logistic"), np.array([7, -1])[(Y3 > 0) * 1]),
    "multilabel": (MLPClassifier((5,), activation="tanh"), YM),
    "regression": (MLPRegressor(hidden_layer_sizes=(7, 4), activation="relu"), YR[:, 0]),
    "several outputs": (MLPRegressor(hidden_layer_sizes=(5,), activation="identity"), YR),
    "poisson": (MLPRegressor(loss="poisson", hidden_layer_sizes=(5,), activation="tanh"), np.floor(np.exp(YR[:, 0]))),
}


@pytest.mark.parametrize("name", CASES)
def test_value_gradient_and_hessian_are_those_of_scikit_learn(name):
    model, y = CASES[name]
    fitted(model.set_params(solver="lbfgs", alpha=0.8, max_iter=15, random_state=0), X3, y)
    objective = Objective.from_sklearn(model, X3, y)
    net, N, targets = objective.net, len(X3), encoded(model, y)

    theirs = np.concatenate([a.ravel() for a in model.coefs_ + model.intercepts_])
    np.testing.assert_array_equal(packed(net, net.theta), theirs)
    gradient = packed(net, objective.gradient())
    np.testing.assert_allclose(gradient, sklearn_gradient(theirs, model, X3, targets, N).real, atol=1e-12)
    own = own_gradient(model, X3, targets)
    np.testing.assert_allclose(gradient, own, atol=1e-12 * max(1, abs(own).max()))
    if name == "several outputs":  # the loss that is reported is the mean over outputs, the gradient is not
        ridge = 0.5 * model.alpha / N * sum((c**2).sum() for c in model.coefs_)
        np.testing.assert_allclose((objective.value() - ridge) / 3 + ridge, model.loss_, rtol=1e-10)
    elif name != "poisson":  # whose deviance has a constant
        np.testing.assert_allclose(objective.value(), model.loss_, rtol=1e-10)

    H = packed(net, packed(net, hessian_matrix(objective)).T)
    steps = (sklearn_gradient(theirs + 1e-30j * e, model, X3, targets, N).imag / 1e-30 for e in np.eye(len(theirs)))
    np.testing.assert_allclose(H, np.array(list(steps)), atol=1e-12 * max(1.0, abs(H).max()))


def own_gradient(model, X, targets):
    """By scikit-learn's own backward pass."""
    layers = [X] + [np.empty((len(X), c.shape[1])) for c in model.coefs_]
    deltas = [np.empty_like(a) for a in layers[1:]]
    coefs = [np.empty_like(c) for c in model.coefs_]
    intercepts = [np.empty_like(b) for b in model.intercepts_]
    layers = model._forward_pass(layers)
    _, coefs, intercepts = model._backprop(X, targets, None, layers, deltas, coefs, intercepts)
    return np.concatenate([a.ravel() for a in coefs + intercepts])


def test_sample_weights_divide_loss_and_ridge():
    weight = RNG.uniform(0.2, 3.0, len(X3))
    model = MLPRegressor(
        hidden_layer_sizes=(5,), activation="tanh", solver="lbfgs", alpha=0.7, max_iter=10, random_state=0
    )
    fitted(model, X3, YR, sample_weight=weight)
    objective = Objective.from_sklearn(model, X3, YR, sample_weight=weight)
    theirs = np.concatenate([a.ravel() for a in model.coefs_ + model.intercepts_])
    expected = sklearn_gradient(theirs, model, X3, YR, weight.sum(), weight).real
    np.testing.assert_allclose(packed(objective.net, objective.gradient()), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "ridge"),
    [
        ({"solver": "lbfgs"}, 0.5 / 70),
        ({"solver": "adam"}, 0.5 / 70),  # one batch, as 70 is less than 200
        ({"solver": "adam", "batch_size": 32}, 0.5 * (1 / 32 + 1 / 32 + 1 / 6) / 3),
        ({"solver": "sgd", "batch_size": 35}, 0.5 / 35),
    ],
)
def test_the_ridge_is_that_of_the_solvers_batches(options, ridge):
    model = fitted(
        MLPRegressor(hidden_layer_sizes=(4,), alpha=0.5, max_iter=2, random_state=0, **options), X3, YR[:, 0]
    )
    objective = Objective.from_sklearn(model, X3, YR[:, 0])
    np.testing.assert_allclose(objective.l2, ridge * objective.net.weight_mask(), rtol=1e-14)
    assert Objective.from_sklearn(model, X3, YR[:, 0], l2=0.25).l2.tolist() == [0.25]


def test_the_ridge_of_batches_is_that_of_the_mean_gradient_of_an_epoch():
    model = fitted(
        MLPRegressor(hidden_layer_sizes=(4,), alpha=3.0, max_iter=2, random_state=0, solver="adam", batch_size=32),
        X3,
        YR,
    )
    batches = [own_gradient(model, X3[s : s + 32], YR[s : s + 32]) for s in range(0, 70, 32)]
    model.alpha = 0.0
    without = [own_gradient(model, X3[s : s + 32], YR[s : s + 32]) for s in range(0, 70, 32)]
    ridge = np.mean(batches, axis=0) - np.mean(without, axis=0)
    model.alpha = 3.0
    objective = Objective.from_sklearn(model, X3, YR)
    np.testing.assert_allclose(packed(objective.net, objective.l2 * objective.net.theta), ridge, atol=1e-13)


def test_a_pipeline_transforms_its_inputs():
    model = fitted(
        make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0)),
        9 * X3 + 4,
        YR,
    )
    objective = Objective.from_sklearn(model, 9 * X3 + 4, YR)
    np.testing.assert_allclose(objective.net.forward(objective.X), model.predict(9 * X3 + 4), atol=1e-12)


def test_estimators_of_this_library_come_back_with_their_objective():
    model = NewtonMLPClassifier((4,), "tanh", alpha=0.3, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X3, Y3)
    objective = Objective.from_sklearn(model, X3, Y3)
    assert objective.digest() == model.objective_.digest()


def test_float32_stays_float32():
    model = MLPClassifier((4,), max_iter=3, random_state=0)
    net = Network.from_sklearn(fitted(model, X3.astype(np.float32), Y3))
    assert net.theta.dtype == np.float32
    p = softmax(net.forward(X3), axis=1)
    np.testing.assert_allclose(p, model.predict_proba(X3.astype(np.float32)), atol=1e-6)


def test_what_does_not_fit_is_refused():
    model = MLPClassifier((4,), max_iter=3, random_state=0)
    with pytest.raises(ValueError, match="MLPClassifier is not fitted"):
        Network.from_sklearn(model)
    fitted(model, X3, Y3)
    with pytest.raises(TypeError, match=r"must be one of MLPClassifier, .* got LogisticRegression"):
        Network.from_sklearn(LogisticRegression())
    with pytest.raises(ValueError, match="labels out of the classes"):
        Objective.from_sklearn(model, X3, Y3 + 1)
    with pytest.raises(ValueError, match=r"X must have shape \(N, 6\), got \(70, 5\)"):
        Objective.from_sklearn(model, X3[:, :5], Y3)
    model.coefs_[0][0, 0] += 1e-3
    net = Network.from_sklearn(model)  # of the changed weights, with which it agrees
    assert net.weights(1)[0, 0] == model.coefs_[0][0, 0]
    model._forward_pass_fast = lambda X, check_input=True: np.zeros((len(X), 3))
    with pytest.raises(ValueError, match="predictions of the imported net differ by"):
        Objective.from_sklearn(model, X3, Y3)

"""The estimators against scikit-learn: its own checks, its MLP's objective and its conventions."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.estimator_checks import check_estimator

from krylovh import NewtonMLPClassifier, NewtonMLPRegressor


def samples(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 4))
    targets = {
        "binary": np.where(X[:, 0] > 0, "yes", "no"),
        "multiclass": np.digitize(X[:, 0], [-0.5, 0.5]) + 3,
        "multilabel": (X[:, :3] > 0).astype(int),
    }
    return X, targets[kind]


@pytest.mark.full
@pytest.mark.parametrize("estimator", [NewtonMLPClassifier(), NewtonMLPRegressor()], ids=["classifier", "regressor"])
def test_scikit_learn_accepts_the_estimators(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)  # the checks run five iterations
        check_estimator(estimator, on_skip=None)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_classifier_reaches_the_minimum_of_scikit_learns_objective(kind):
    X, y = samples(kind)
    ours = NewtonMLPClassifier((4,), "tanh", alpha=4.0, tol=1e-8, random_state=0).fit(X, y)
    theirs = MLPClassifier((4,), "tanh", solver="lbfgs", alpha=4.0, tol=1e-12, max_iter=5000, random_state=0)
    theirs.fit(X, y)
    probabilities = ours.predict_proba(X)
    theirs.coefs_, theirs.intercepts_ = ours.coefs_, ours.intercepts_
    np.testing.assert_allclose(probabilities, theirs.predict_proba(X), rtol=1e-10)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    theirs.set_params(warm_start=True).fit(X, y)  # from our minimum on scikit-learn's solver finds nothing lower
    assert theirs.loss_ == pytest.approx(ours.loss_, rel=1e-9)
    assert ours.score(X, y) > 0.9
    assert ours.loss_curve_[-1] == ours.loss_ == ours.objective_.value()
    assert len(ours.loss_curve_) == ours.n_iter_
    assert ours.n_outputs_ == theirs.n_outputs_
    assert ours.out_activation_ == theirs.out_activation_


@pytest.mark.parametrize("method", ["newton-cg", "hessian-free", "levenberg-marquardt"])
def test_regressor_of_several_outputs(method):
    X = np.random.default_rng(1).standard_normal((80, 4))
    Y = np.sin(X[:, :2])
    ours = NewtonMLPRegressor((6,), "tanh", alpha=0.1, method=method, random_state=0, max_iter=300).fit(X, Y)
    theirs = MLPRegressor(hidden_layer_sizes=(6,), activation="tanh", solver="lbfgs", max_iter=5000).fit(X, Y)
    theirs.coefs_, theirs.intercepts_ = ours.coefs_, ours.intercepts_
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-10, atol=1e-12)
    assert ours.score(X, Y) > 0.95


def test_warm_start_goes_on_and_early_stopping_keeps_the_best():
    X, y = samples("multiclass")
    estimator = NewtonMLPClassifier((4,), "tanh", max_iter=2, warm_start=True, random_state=0)
    with pytest.warns(ConvergenceWarning, match="training has not converged"):
        first = estimator.fit(X, y).loss_
    with pytest.warns(ConvergenceWarning, match="training has not converged"):
        assert estimator.fit(X, y).loss_ < first
    stopping = NewtonMLPClassifier((8,), "tanh", alpha=0.0, early_stopping=True, n_iter_no_change=3, random_state=0)
    stopping.fit(X, y)
    scores = stopping.validation_scores_
    assert len(scores) == stopping.n_iter_
    assert max(scores) == max(scores[:-3]) if len(scores) > 3 else True
    assert stopping.objective_.num_samples == 72


def test_bad_parameters_are_named():
    X, y = samples("binary")
    with pytest.raises(ValueError, match="alpha must be finite and at least 0, got -1"):
        NewtonMLPClassifier(alpha=-1).fit(X, y)
    with pytest.raises(ValueError, match="levenberg-marquardt is for loss 'squared_error'"):
        NewtonMLPClassifier(method="levenberg-marquardt").fit(X, y)

"""Influence and leave-one-out against closed forms of ridge regression and dense oracles."""

from dataclasses import fields

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import pearsonr, spearmanr

from cases import problem
from krylovh import (
    InfluenceWarning,
    LeaveOneOutResult,
    Network,
    Objective,
    ResultStore,
    Status,
    influence,
    leave_one_out,
)
from krylovh.applications.influence.left_out_data import sample_gradients
from oracles import complex_step_hessian, value_and_gradient


def ridge(reduction="sum", lam=0.7, num_samples=30, seed=0):
    """A ridge regression at its minimum: objective, X, residuals, Hessian."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((num_samples, 5)), rng.standard_normal(num_samples)
    share = 1.0 if reduction == "sum" else 1.0 / num_samples
    H = share * X.T @ X + lam * np.eye(5)
    theta = np.linalg.solve(H, share * X.T @ y)
    net = Network((5, 1), "identity", theta, bias=False)
    return Objective(net, X, y, loss="squared_error", reduction=reduction, l2=lam), X, X @ theta - y, H, y


def test_first_order_over_exact_leave_one_out_of_ridge_regression_is_one_minus_leverage():
    objective, X, errors, H, _ = ridge()
    first_order = influence(objective, range(30), rtol=1e-13).values
    leverage = np.einsum("ni,in->n", X, np.linalg.solve(H, X.T))
    # the exact change: theta moves by e_i/(1 - h_ii) inv(H) x_i, with e_i = prediction - target
    exact = (errors / (1 - leverage))[:, None] * np.linalg.solve(H, X.T).T
    np.testing.assert_allclose(first_order, (1 - leverage)[:, None] * exact, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("lam", [0.7, 0.0])
def test_influences_on_a_sum_add_up_to_the_pull_of_the_regulariser(lam):
    objective, _, _, H, _ = ridge(lam=lam)
    total = influence(objective, range(30), rtol=1e-13).values.sum(axis=0)
    np.testing.assert_allclose(total, -np.linalg.solve(H, lam * objective.net.theta), atol=1e-12)


def test_influences_on_a_mean_add_up_to_nothing():
    total = influence(ridge("mean")[0], range(30), rtol=1e-13).values.sum(axis=0)
    np.testing.assert_allclose(total, 0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_influence_is_the_derivative_by_the_weight_of_the_sample(reduction):
    objective, X, _, _, y = ridge(reduction)
    first_order = influence(objective, [3], rtol=1e-13).values[0]

    def minimum(t):
        w = np.ones(30)
        w[3] -= t
        total = 1.0 if reduction == "sum" else w.sum()
        return np.linalg.solve((X.T * w) @ X / total + 0.7 * np.eye(5), (X.T * w) @ y / total)

    t = 1e-3  # five-point difference
    derivative = (8 * (minimum(t) - minimum(-t)) - (minimum(2 * t) - minimum(-2 * t))) / (12 * t)
    np.testing.assert_allclose(first_order, derivative, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_leave_one_out_is_the_minimum_on_the_other_samples(reduction):
    objective, X, _, _, y = ridge(reduction)
    truth = leave_one_out(objective, [0, 7], rtol=1e-12)
    for row, change in zip(truth.rows, truth.actual, strict=True):
        keep = np.delete(np.arange(30), row)
        share = 1.0 if reduction == "sum" else 1 / 29
        H = share * X[keep].T @ X[keep] + 0.7 * np.eye(5)
        exact = np.linalg.solve(H, share * X[keep].T @ y[keep]) - objective.net.theta
        np.testing.assert_allclose(change, exact, atol=1e-12)
    assert truth.status is Status.CONVERGED
    assert truth.num_products > 0
    assert truth.num_gradients >= 4


@pytest.mark.parametrize("topology", ["chain", "skip", "residual", "identity_only"])
def test_gradients_of_samples_are_those_of_the_samples_alone(topology):
    objective, (net, theta, X, y), settings = problem(topology, "tanh", weighted=True, rng=3, num_samples=6)
    gradients = np.concatenate([part for _, part in sample_gradients(objective)])
    for n in range(6):
        options = settings | {"sample_weight": settings["sample_weight"][n : n + 1], "reduction": "sum"}
        expected = value_and_gradient(net, theta, X[n : n + 1], y[n : n + 1], **options)[1]
        np.testing.assert_allclose(gradients[n], expected, rtol=1e-12, atol=1e-14)


def damped_problem():
    """A small weighted net with ridge, its dense Hessian, and a damping that makes it positive definite."""
    objective, (net, theta, X, y), settings = problem("chain", "tanh", weighted=True, ridge=True, num_samples=9)
    H = complex_step_hessian(net, theta, X, y, **settings)
    return objective, net, theta, H, 1.0 - scipy.linalg.eigvalsh(H)[0], settings, X, y


@pytest.mark.filterwarnings("ignore::krylovh.InfluenceWarning")  # theta is not trained
@pytest.mark.parametrize("on", ["loss", "prediction"])
@pytest.mark.parametrize("rows", [[2], range(9)])
def test_loss_and_prediction_follow_the_parameters_by_either_way(on, rows):
    objective, net, theta, H, damping, settings, X, y = damped_problem()
    rng = np.random.default_rng(5)
    X_test, y_test = rng.standard_normal((2, 5)), np.array([1, 3])
    given = {"X_test": X_test} | ({"y_test": y_test} if on == "loss" else {})
    found = influence(objective, rows, on=on, damping=damping, rtol=1e-12, block=4, **given)
    assert found.mode == ("direct" if len(rows) <= found.values.shape[1] else "adjoint")
    w = settings["sample_weight"]
    one = [value_and_gradient(net, theta, X[n : n + 1], y[n : n + 1], loss=settings["loss"])[1] for n in range(9)]
    mean = sum(wn * g for wn, g in zip(w, one, strict=True)) / w.sum()
    moves = np.array([np.linalg.solve(H + damping * np.eye(len(H)), w[i] / w.sum() * (one[i] - mean)) for i in rows])
    if on == "loss":
        Q = [value_and_gradient(net, theta, X_test[t : t + 1], y_test[t : t + 1], loss=settings["loss"])[1]
             for t in range(2)]  # fmt: skip
        expected = moves @ np.array(Q).T
    else:
        h = 1e-5

        def outputs(at):
            return net.with_theta(at).forward(X_test).ravel()

        expected = np.array([(outputs(theta + h * d) - outputs(theta - h * d)) / (2 * h) for d in moves])
    np.testing.assert_allclose(found.values, expected, rtol=1e-6, atol=1e-10)
    assert found.predictions.shape == (len(rows), 2, 4 if on == "prediction" else 1)


def test_a_gradient_that_is_not_zero_is_warned_of_with_its_norm_and_the_tolerance():
    objective = ridge()[0]
    away = objective.at(objective.net.theta + 1.0)
    with pytest.warns(InfluenceWarning, match=r"\|grad\| = .* must be at most 0\.1"):
        result = influence(away, [0])
    assert result.remaining_step > 0.1


def test_the_measure_of_the_gradient_has_no_units():
    X, y = np.random.default_rng(0).standard_normal((2, 20, 3))
    steps = []
    for scale in (1.0, 2.0**20):
        net = Network((3, 1), "identity", [0.1, 0.2, 0.3], bias=False)
        objective = Objective(net, X, y[:, 0], loss="squared_error", sample_weight=np.full(20, scale), reduction="sum")
        with pytest.warns(InfluenceWarning):
            steps.append(influence(objective, range(20)).remaining_step)
    assert steps[0] == steps[1]


def test_negative_curvature_is_warned_of_and_damping_cures_it():
    objective, _, _, H, damping, *_ = damped_problem()
    with (
        pytest.warns(InfluenceWarning, match="not near zero"),
        pytest.warns(InfluenceWarning, match="negative curvature"),
    ):
        result = influence(objective, [0, 1])
    assert scipy.linalg.eigvalsh(H)[0] - 1e-12 <= result.negative_curvature < 0
    with pytest.warns(InfluenceWarning, match="not near zero"):
        assert np.isnan(influence(objective, [0, 1], damping=damping).negative_curvature)


def test_a_budget_is_kept_and_warned_of():
    objective = ridge()[0]
    with pytest.warns(InfluenceWarning, match="ended as budget"):
        result = influence(objective, range(30), block=2, max_products=11, rtol=1e-12)
    assert result.num_products <= 11
    assert result.status is Status.BUDGET
    assert np.isnan(result.values[-1]).all()


def interrupt(done, total):
    if done:
        raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_it_has():
    objective = ridge()[0]
    with pytest.warns(InfluenceWarning, match="ended as interrupted"):
        result = influence(objective, range(30), block=4, progress=interrupt)
    assert result.status is Status.INTERRUPTED
    assert np.isfinite(result.values[:4]).all()
    assert np.isnan(result.values[4:]).all()
    truth = leave_one_out(objective, [0, 1, 2], progress=interrupt)
    assert truth.statuses == (Status.CONVERGED, Status.INTERRUPTED, Status.INTERRUPTED)
    assert np.isfinite(truth.actual[0]).all()
    assert np.isnan(truth.actual[1:]).all()


def test_results_are_stored_and_found_again(tmp_path):
    objective = ridge()[0]
    result = influence(objective, [0, 4])
    store = ResultStore(tmp_path / "results.h5")
    for name, stored in (("influence", result), ("truth", leave_one_out(objective, [0, 4], prediction=result))):
        store.save(name, stored)
        loaded = store.load(name)
        for field in fields(stored):
            np.testing.assert_equal(getattr(loaded, field.name), getattr(stored, field.name))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": []}, "rows must name at least one"),
        ({"rows": [30]}, r"rows must be in \[-30, 30\), got 30"),
        ({"rows": [1, 1]}, "each sample once"),
        ({"rows": [True]}, "mask of shape"),
        ({"rows": [0], "on": "bias"}, "on must be one of"),
        ({"rows": [0], "on": "loss"}, "X_test must be given"),
        ({"rows": [0], "on": "loss", "X_test": np.ones((1, 5))}, "y_test must be given"),
        ({"rows": [0], "on": "loss", "X_test": np.ones((1, 4)), "y_test": [1.0]}, "do not fit the objective"),
        ({"rows": [0], "X_test": np.ones((1, 5))}, "X_test must not be given"),
        ({"rows": [0], "damping": -1.0}, "damping must be finite and at least 0"),
        ({"rows": [0], "block": 0}, "block must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        influence(ridge()[0], **arguments)


def test_correlations_are_those_of_scipy_and_leave_out_what_is_not_known():
    rng = np.random.default_rng(0)
    actual = rng.integers(0, 5, (8, 3)).astype(float)  # with ties
    predicted = actual + rng.standard_normal((8, 3))
    actual[2] = np.nan
    known = np.isfinite(actual[:, 0])
    truth = LeaveOneOutResult(
        np.arange(8), actual, predicted, "loss", np.zeros(8), (Status.CONVERGED,) * 8, 0, 0, Status.CONVERGED
    )
    a, b = actual[known].ravel(), predicted[known].ravel()
    np.testing.assert_allclose(truth.pearson, pearsonr(a, b).statistic, rtol=1e-12)
    np.testing.assert_allclose(truth.spearman, spearmanr(a, b).statistic, rtol=1e-12)
    by_quantity = [pearsonr(actual[known, i], predicted[known, i]).statistic for i in range(3)]
    np.testing.assert_allclose(truth.pearson_by_quantity, by_quantity, rtol=1e-12)

"""Second-order training against closed forms, dense linear algebra and SciPy."""

import numpy as np
import pytest
import scipy.optimize

from krylovh import Network, Objective, ResultStore, hessian_matrix, minimize, scipy_functions

METHODS = ["newton-cg", "hessian-free", "levenberg-marquardt"]


def regression(seed=0, rows=40, inputs=6, outputs=2, l2=0.1):
    """A strictly convex quadratic, and its minimiser in closed form: weights (outputs, inputs), then biases."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((rows, inputs)), rng.standard_normal((rows, outputs))
    net = Network((inputs, outputs), "identity", rng.standard_normal(outputs * (inputs + 1)))
    objective = Objective(net, X, Y, loss="squared_error", l2=l2)
    extended = np.hstack([X, np.ones((rows, 1))])
    solution = np.linalg.solve(extended.T @ extended / rows + l2 * np.eye(inputs + 1), extended.T @ Y / rows)
    return objective, np.concatenate([solution[:-1].T.ravel(), solution[-1]])


def curved(seed=0, loss="squared_error", l2=1e-3, dtype=None, rows=60):
    """A small tanh net on smooth data."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, 3))
    y = np.sin(X @ rng.standard_normal((3, 2))) if loss == "squared_error" else (X[:, 0] * X[:, 1] > 0).astype(int)
    net = Network((3, 5, 2), "tanh")
    return Objective(net.with_theta(net.random_theta(rng)), X, y, loss=loss, l2=l2, dtype=dtype)


def saddle():
    """Return the two-weight net w2 w1 x with target t = 1 near its saddle at zero: H = [[b^2, 2ab - t], [.., a^2]]."""
    net = Network((1, 1, 1), "identity", [2e-3, -1e-3], bias=False)
    return Objective(net, [[1.0]], [1.0], loss="squared_error")


def never_rises(history):
    rounding = 20 * np.finfo(float).eps * np.abs(history.value[:-1])
    return bool((np.diff(history.value) <= rounding).all())


def test_one_newton_step_minimises_a_convex_quadratic():
    objective, solution = regression()
    result = minimize(objective, tol=1e-11)
    assert result.success
    assert result.nit == 1
    np.testing.assert_allclose(result.x, solution, rtol=1e-10, atol=1e-10 * np.abs(solution).max())


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_find_the_closed_form(method):
    objective, solution = regression()
    result = minimize(objective, method=method, tol=1e-9)
    assert result.success, result.message
    assert never_rises(result.history)
    np.testing.assert_allclose(result.x, solution, rtol=1e-7, atol=1e-7 * np.abs(solution).max())


@pytest.mark.parametrize("method", METHODS)
def test_result_tells_the_truth_about_a_curved_minimum(method):
    objective = curved()
    result = minimize(objective, method=method, tol=1e-5, max_iterations=400)
    there = objective.at(result.x)
    assert result.success, result.message
    assert result.fun == there.value()
    np.testing.assert_array_equal(result.jac, there.gradient())
    assert result.gradient_norm == np.linalg.norm(there.gradient()) <= result.target
    assert result.target == 1e-5 * np.linalg.norm(objective.gradient())
    assert never_rises(result.history)
    history = result.history
    assert len(history.inner_status) == result.nit == len(history.value) - 1
    assert history.num_products[-1] == result.num_products == result.nhev
    assert (np.diff(history.num_products) >= 0).all()
    assert (np.diff(history.num_gradients) >= 1).all()


def test_newton_ends_where_scipy_ends_with_a_positive_definite_hessian():
    objective = curved(loss="softmax_cross_entropy", l2=0.05)
    result = minimize(objective, tol=1e-10)
    assert np.linalg.eigvalsh(hessian_matrix(objective.at(result.x)))[0] > 0
    functions = scipy_functions(objective)
    found = scipy.optimize.minimize(
        functions.fun, result.x + 1e-3, jac=functions.jac, hessp=functions.hessp, method="trust-ncg",
        options={"gtol": 1e-10},
    )  # fmt: skip
    np.testing.assert_allclose(found.x, result.x, atol=1e-7)


def test_newton_converges_superlinearly():
    history = minimize(curved(loss="softmax_cross_entropy", l2=0.05), tol=1e-12).history
    last = history.gradient_norm[-3:]
    assert last[2] / last[1] < 0.1 * last[1] / last[0] or last[2] / last[1] < 1e-3


def test_gauss_newton_far_away_ends_in_the_same_minimum_without_negative_curvature():
    objective = curved(loss="softmax_cross_entropy", l2=0.05)
    result = minimize(objective, gauss_newton_until=0.1, tol=1e-9)
    assert result.success, result.message
    far = result.history.gradient_norm[:-1] > 0.1 * result.history.gradient_norm[0]
    assert far[0]
    until = int(np.argmin(far))
    assert "negative_curvature" not in [str(status) for status in result.history.inner_status[:until]]
    assert np.linalg.eigvalsh(hessian_matrix(objective.at(result.x)))[0] > 0
    last = result.history.gradient_norm[-2:]
    assert last[1] < 1e-2 * last[0]  # faster than Gauss-Newton steps are: the exact Hessian has taken over


def test_near_a_saddle_the_first_step_follows_negative_curvature():
    objective = saddle()
    assert np.linalg.eigvalsh(hessian_matrix(objective))[0] < -0.9
    result = minimize(objective, tol=1e-9)
    assert str(result.history.inner_status[0]) == "negative_curvature"
    assert result.success
    assert never_rises(result.history)
    assert result.fun < 1e-12
    assert result.x[0] * result.x[1] == pytest.approx(1.0, abs=1e-6)


def test_levenberg_marquardt_by_conjugate_gradients_and_by_cholesky_agree(monkeypatch):
    objective = curved()
    arguments = {"method": "levenberg-marquardt", "tol": 1e-7, "max_iterations": 300, "damping": 1e-3, "forcing": 1e-10}
    dense = minimize(objective, **arguments)
    monkeypatch.setattr("krylovh.applications.training.levenberg_marquardt.DENSE_LIMIT", 0)
    products = minimize(objective, **arguments)
    assert dense.success
    assert products.success
    assert dense.num_products == 0 < products.num_products
    assert products.fun == pytest.approx(dense.fun, rel=1e-6)


def test_levenberg_marquardt_refuses_other_losses():
    with pytest.raises(
        ValueError, match="levenberg-marquardt is for loss 'squared_error', got 'softmax_cross_entropy'"
    ):
        minimize(curved(loss="softmax_cross_entropy"), method="levenberg-marquardt")


@pytest.mark.parametrize("preconditioner", ["none", "fisher", "kfac", "nystrom", lambda o, d: np.eye(o.num_parameters)])
@pytest.mark.parametrize("method", ["newton-cg", "hessian-free"])
def test_preconditioners_change_the_way_and_not_the_end(method, preconditioner):
    objective = curved(loss="softmax_cross_entropy", l2=0.05)
    result = minimize(objective, method=method, preconditioner=preconditioner, tol=1e-6, rng=0)
    assert result.success, result.message
    assert result.gradient_norm == np.linalg.norm(objective.at(result.x).gradient()) <= result.target


@pytest.mark.parametrize("method", ["newton-cg", "hessian-free"])
def test_batches_of_curvature_still_reach_the_minimum_of_all_samples(method):
    objective = curved(loss="softmax_cross_entropy", l2=0.05)
    results = [minimize(objective, method=method, batch_size=30, tol=1e-3, rng=seed) for seed in (1, 1, 2)]
    assert results[0].success, results[0].message
    np.testing.assert_array_equal(results[0].x, results[1].x)
    assert not np.array_equal(results[0].x, results[2].x)


def test_float32_products_reach_what_float64_gradients_allow():
    objective = curved(loss="softmax_cross_entropy", l2=0.05)
    result = minimize(objective, product_dtype=np.float32, tol=1e-11)
    assert result.success, result.message
    assert np.linalg.norm(objective.at(result.x).gradient()) <= 1e-11 * np.linalg.norm(objective.gradient())


def test_scaling_by_a_power_of_two_changes_no_count():
    small = curved(loss="softmax_cross_entropy", l2=0.0)
    scaled = Objective(
        small.net, small.X, small.y, loss=small.loss, sample_weight=np.full(60, 2.0**-10), reduction="sum"
    )
    plain = Objective(small.net, small.X, small.y, loss=small.loss, reduction="sum")
    one, other = minimize(plain, max_iterations=12), minimize(scaled, max_iterations=12)
    assert one.num_products == other.num_products
    np.testing.assert_array_equal(one.x, other.x)


def test_budgets_are_kept():
    objective = curved()
    assert minimize(objective, max_iterations=0).nit == 0
    for limit in (0, 1, 7, 20):
        result = minimize(objective, max_products=limit, tol=1e-12)
        assert result.num_products <= limit
        assert str(result.status) == "budget"
        assert not result.success
    assert str(minimize(objective, max_seconds=0.0).status) == "budget"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ["callback", "progress", "stop"])
def test_interruption_keeps_what_was_found(method, way):
    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise StopIteration if way == "stop" else KeyboardInterrupt

    calls = []
    result = minimize(curved(), method=method, tol=1e-12, **{"progress" if way == "progress" else "callback": stop})
    assert str(result.status) == "interrupted"
    assert result.nit == 2
    assert result.fun == curved().at(result.x).value() < curved().value()


def test_trial_points_beyond_the_range_of_floats_are_rejected_steps():
    # exp(z) - 1000 z from z = -5: the Newton step is 150,000 long, and exp overflows at 709
    objective = Objective(Network((1, 1), "identity", [-5.0, 0.0]), [[1.0]], [1000.0], loss="poisson")
    result = minimize(objective, tol=1e-10)
    assert result.success
    assert result.num_gradients > result.nit + 3
    assert never_rises(result.history)
    assert result.x.sum() == pytest.approx(np.log(1000.0), rel=1e-10)


def test_a_start_without_a_finite_loss_is_told():
    objective = Objective(Network((1, 1), ["exp"], [1000.0, 0.0]), [[1.0]], [1.0], loss="squared_error")
    result = minimize(objective)
    assert str(result.status) == "nonfinite"
    assert result.nit == 0


@pytest.mark.parametrize("method", METHODS)
def test_results_are_storable(tmp_path, method):
    result = minimize(curved(), method=method, max_iterations=3)
    store = ResultStore(tmp_path / "results.h5")
    store.save("training", result)
    loaded = store.load("training")
    assert isinstance(loaded, scipy.optimize.OptimizeResult)
    assert loaded.status is result.status
    assert loaded.history.inner_status == result.history.inner_status
    for name in result:
        np.testing.assert_array_equal(loaded[name], result[name])
    assert str(loaded) == str(result)
    assert "iteration" in str(loaded.history)


def test_bad_arguments_are_named():
    objective = curved()
    for arguments, message in [
        ({"method": "bfgs"}, "method must be one of newton-cg, .*, got 'bfgs'"),
        ({"tol": -1.0}, "tol must be finite and at least 0, got -1.0"),
        ({"damping": 1.0}, "damping belongs to the Gauss-Newton methods"),
        ({"damping": 0.0, "method": "hessian-free"}, "damping must be positive and finite, got 0.0"),
        ({"gauss_newton_until": 0.0}, r"gauss_newton_until must be in \(0, 1\), got 0.0"),
        ({"gauss_newton_until": 0.1, "method": "hessian-free"}, "gauss_newton_until belongs to newton-cg, got 0.1"),
        ({"forcing": 1.0}, r"forcing must be in \(0, 1\), got 1.0"),
        ({"batch_size": 61}, r"batch_size must be in \[1, 60\], got 61"),
        ({"preconditioner": "ilu"}, "preconditioner must be one of none, .*, got 'ilu'"),
        ({"product_dtype": np.float16}, "product_dtype must be float32 or float64, got float16"),
    ]:
        with pytest.raises(ValueError, match=message):
            minimize(objective, **arguments)


def test_scipy_functions_evaluate_each_point_once():
    objective = curved()
    functions = scipy_functions(objective)
    x = objective.net.theta
    assert functions.fun(x) == objective.value()
    np.testing.assert_array_equal(functions.jac(x), objective.gradient())
    direction = np.random.default_rng(1).standard_normal(x.size)
    np.testing.assert_allclose(
        functions.hessp(x, direction), hessian_matrix(objective) @ direction, rtol=1e-9, atol=1e-12
    )
    gradient = functions.jac(x)
    gradient[:] = 0.0
    np.testing.assert_array_equal(functions.jac(x), objective.gradient())
    found = scipy.optimize.minimize(
        functions.fun, x, jac=functions.jac, hessp=functions.hessp, method="Newton-CG", options={"xtol": 1e-9}
    )
    assert np.linalg.norm(objective.at(found.x).gradient()) < 1e-3 * np.linalg.norm(objective.gradient())

"""Pruning against closed forms and dense NumPy algebra that share no code with the library."""

import numpy as np
import pytest

from krylovh import (
    GaussNewtonOperator,
    HessianOperator,
    Network,
    Objective,
    ResultStore,
    Status,
    gauss_newton_matrix,
    hessian_matrix,
    prune,
)
from krylovh.applications.pruning.retraining import retrained


def linear(rng=0, features=6, noise=0.1, X=None, l2=0.0):
    """Return a least-squares fit at its minimum, with X and y."""
    generator = np.random.default_rng(rng)
    X = generator.standard_normal((40, features)) @ generator.standard_normal((features, features)) if X is None else X
    y = X @ generator.standard_normal(features) + noise * generator.standard_normal(len(X))
    A = X.T @ X / len(X) + l2 * np.eye(features)
    theta = np.linalg.solve(A, X.T @ y / len(X))
    net = Network((features, 1), "identity", theta, bias=False)
    return Objective(net, X, y, loss="squared_error", l2=l2), X, y


def trained(seed=0, widths=(4, 3, 1), l2=1e-2):
    """Return a small tanh net close to a minimum of its regularised loss."""
    generator = np.random.default_rng(seed)
    net = Network(widths, "tanh")
    X = generator.standard_normal((30, widths[0]))
    y = np.sin(X @ generator.standard_normal((widths[0], widths[-1])))
    objective = Objective(net.with_theta(net.random_theta(seed)), X, y, loss="squared_error", l2=l2, threads=1)
    theta, _ = retrained(objective, np.ones(net.num_parameters, bool), 2000, 1e-10)
    return objective.at(theta)


def refit(X, y, remaining, l2=0.0):
    """Return the least-squares fit on some features alone, and its loss."""
    A = X[:, remaining].T @ X[:, remaining] / len(X) + l2 * np.eye(len(remaining))
    w = np.linalg.solve(A, X[:, remaining].T @ y / len(X))
    residual = X[:, remaining] @ w - y
    return w, 0.5 * residual @ residual / len(X) + 0.5 * l2 * w @ w


@pytest.mark.parametrize("inverse", ["exact", "outer_product", "cg"])
@pytest.mark.parametrize("recompute", [1, 3, None])
def test_on_a_quadratic_loss_the_surgeon_refits_the_others_and_predicts_the_change(inverse, recompute):
    objective, X, y = linear(l2=1e-2)
    result = prune(objective, num_remove=4, inverse=inverse, recompute=recompute, rtol=1e-13)
    scale = result.actual.max()
    np.testing.assert_allclose(result.predicted, result.actual, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(result.saliencies, result.actual, rtol=0, atol=1e-10 * scale)
    for step in range(5):  # at each step the loss is that of the fit on what remains
        remaining = np.setdiff1d(np.arange(6), result.removed[:step])
        w, loss = refit(X, y, remaining, 1e-2)
        assert result.losses[step] == pytest.approx(loss, rel=1e-10)
    np.testing.assert_allclose(result.theta[remaining], w, rtol=1e-9)
    assert (result.theta[result.removed] == 0).all()
    assert not result.mask[result.removed].any()
    assert result.num_remaining == 2


def test_the_surgeon_removes_what_costs_least_by_enumeration():
    objective, X, y = linear(rng=3)
    costs = [refit(X, y, np.delete(np.arange(6), q))[1] for q in range(6)]
    assert prune(objective, num_remove=1).removed[0] == np.argmin(costs)


@pytest.mark.parametrize("method", ["obd", "magnitude"])
@pytest.mark.parametrize("diagonal", ["lecun", "exact"])
def test_on_a_quadratic_loss_every_method_predicts_what_comes(method, diagonal):
    objective, _X, _y = linear()
    result = prune(objective, method=method, diagonal=diagonal, num_remove=5)
    np.testing.assert_allclose(result.predicted, result.actual, rtol=0, atol=1e-10 * np.abs(result.actual).max())
    kept = np.flatnonzero(result.mask)
    np.testing.assert_array_equal(result.theta[kept], objective.net.theta[kept])  # no update


def test_with_a_diagonal_hessian_damage_and_surgeon_agree():
    Q = np.linalg.qr(np.random.default_rng(5).standard_normal((40, 6)))[0] * np.array([1, 2, 3, 4, 5, 6.0])
    objective, _, _ = linear(X=Q)
    surgeon, damage = (prune(objective, method=method, num_remove=6) for method in ("obs", "obd"))
    np.testing.assert_array_equal(surgeon.removed, damage.removed)
    np.testing.assert_allclose(surgeon.saliencies, damage.saliencies, rtol=1e-10)


def test_a_batch_is_removed_by_one_joint_update():
    objective, X, y = linear(l2=1e-3)
    result = prune(objective, num_remove=5, batch=2)
    np.testing.assert_array_equal(result.num_removed, [0, 2, 4, 5])
    for step, count in enumerate(result.num_removed):
        remaining = np.setdiff1d(np.arange(6), result.removed[:count])
        assert result.losses[step] == pytest.approx(refit(X, y, remaining, 1e-3)[1], rel=1e-10)


@pytest.mark.parametrize("inverse", ["exact", "cg"])
def test_away_from_the_minimum_the_newton_step_is_part_of_the_update(inverse):
    objective, X, y = linear()
    away = objective.at(objective.net.theta + np.random.default_rng(1).standard_normal(6))
    result = prune(away, num_remove=1, newton_step=True, inverse=inverse, rtol=1e-12)
    assert result.losses[-1] == pytest.approx(refit(X, y, np.flatnonzero(result.mask))[1], rel=1e-9)
    plain = prune(away, num_remove=1)
    assert plain.predicted[0] == pytest.approx(plain.actual[0], rel=1e-9)


@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("inverse", ["exact", "cg"])
def test_saliencies_of_a_net_are_those_of_the_dense_submatrix(curvature, inverse):
    objective = trained()
    dead = np.zeros(objective.num_parameters, bool)
    dead[[1, 7]] = True
    here = objective.at(np.where(dead, 0.0, objective.net.theta))
    operator = HessianOperator if curvature == "hessian" else GaussNewtonOperator
    damping = 0.3
    result = prune(here, num_remove=1, mask=~dead, curvature=curvature, inverse=inverse, damping=damping, rtol=1e-12)
    free = np.flatnonzero(~dead)
    dense = (operator(here) @ np.eye(here.num_parameters))[np.ix_(free, free)] + damping * np.eye(free.size)
    inverted = np.linalg.inv(dense)
    expected = here.net.theta[free] ** 2 / (2 * np.diag(inverted))
    q = np.argmin(expected)
    assert result.removed[0] == free[q]
    assert result.saliencies[0] == pytest.approx(expected[q], rel=1e-9)
    change = -here.net.theta[free[q]] / inverted[q, q] * inverted[:, q]
    np.testing.assert_allclose(result.theta[free] - here.net.theta[free], change, atol=1e-9)


@pytest.mark.parametrize("inverse", ["exact", "outer_product", "cg"])
def test_updates_of_low_rank_equal_the_inverse_of_the_submatrix(inverse):
    objective = trained(l2=0.05)
    options = {"curvature": "gauss_newton", "inverse": inverse, "rtol": 1e-12}
    result = prune(objective, num_remove=3, recompute=None, **options)
    G = gauss_newton_matrix(objective)
    theta, free = objective.net.theta.copy(), np.arange(objective.num_parameters)
    for step in range(3):
        inverted = np.linalg.inv(G[np.ix_(free, free)])
        saliencies = theta[free] ** 2 / (2 * np.diag(inverted))
        q = np.argmin(saliencies)
        assert result.removed[step] == free[q]
        assert result.saliencies[step] == pytest.approx(saliencies[q], rel=1e-8)
        theta[free] -= theta[free[q]] / inverted[q, q] * inverted[:, q]
        free = np.delete(free, q)
    np.testing.assert_allclose(result.theta[free], theta[free], rtol=1e-8)
    assert result.num_curvatures == 1


def test_predictions_are_of_second_order():
    """Halving a weight that is removed divides the error of the prediction by eight."""
    objective = trained()
    errors = []
    for size in (1e-2, 5e-3):
        theta = objective.net.theta.copy()
        theta[4] = size
        only = np.arange(theta.size) == 4
        result = prune(objective.at(theta), method="magnitude", num_remove=1, prunable=only)
        errors.append(abs(result.predicted[0] - result.actual[0]))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.1)


def test_bounds_leave_only_candidates_with_small_saliencies_to_solve_for():
    objective = trained(l2=0.05)
    options = {"num_remove": 2, "curvature": "gauss_newton", "inverse": "cg"}
    everything, few = prune(objective, **options), prune(objective, num_candidates=8, **options)
    np.testing.assert_array_equal(everything.removed, few.removed)
    assert few.num_products < everything.num_products


def test_only_prunable_parameters_go_and_weights_alone_on_request():
    objective = trained()
    weights = objective.net.weight_mask().astype(bool)
    result = prune(objective, method="obd", prunable=weights, max_loss_change=1e9)
    assert result.stop_reason == "exhausted"
    np.testing.assert_array_equal(result.mask, ~weights)


def test_a_step_that_breaks_a_rule_is_undone():
    objective, _, _ = linear()
    everything = prune(objective, num_remove=6)
    limit = everything.losses[3] - everything.losses[0]
    result = prune(objective, max_loss_change=limit * (1 + 1e-9))
    assert (len(result.removed), result.stop_reason, result.status) == (3, "max_loss_change", Status.CONVERGED)
    assert objective.at(result.theta).value() == pytest.approx(everything.losses[3], rel=1e-12)
    assert len(prune(objective, accept=lambda state: state.num_removed < 3).removed) == 2
    assert len(prune(objective, callback=lambda state: state.num_removed == 3).removed) == 3


def test_the_validation_loss_ends_pruning():
    objective, X, y = linear(l2=1e-3)
    plain = Objective(objective.net, X, y, loss="squared_error")
    everything = prune(objective, num_remove=5, validation=(X, y))
    assert everything.validation_losses[-1] == pytest.approx(plain.at(everything.theta).value())
    limit = everything.validation_losses[2] - everything.validation_losses[0]
    for validation in ((X, y), plain):
        result = prune(objective, max_validation_change=limit * (1 + 1e-9), validation=validation)
        assert (len(result.removed), result.stop_reason) == (2, "max_validation_change")


def test_retraining_reaches_the_minimum_of_what_remains():
    objective, X, y = linear()
    result = prune(objective, method="magnitude", num_remove=3, retrain="lbfgs", retrain_tol=1e-12)
    for step in range(1, 4):
        remaining = np.setdiff1d(np.arange(6), result.removed[:step])
        assert result.losses[step] == pytest.approx(refit(X, y, remaining)[1], rel=1e-9)
    assert (result.theta[result.removed] == 0).all()

    def own(here, mask):
        theta = np.zeros(6)
        theta[mask] = refit(X, y, np.flatnonzero(mask))[0]
        return theta

    np.testing.assert_allclose(
        prune(objective, method="magnitude", num_remove=3, retrain=own).losses, result.losses, rtol=1e-9
    )
    with pytest.raises(ValueError, match="retrain must keep removed parameters at 0"):
        prune(objective, num_remove=1, retrain=lambda here, mask: np.ones(6))


def test_an_interruption_keeps_what_was_done():
    objective = trained(l2=0.05)

    def interrupt(done, total):
        assert total == 6
        if done == 4:
            raise KeyboardInterrupt

    result = prune(objective, num_remove=6, curvature="gauss_newton", progress=interrupt)
    assert (result.status, len(result.removed), len(result.losses)) == (Status.INTERRUPTED, 4, 5)
    rest = prune(objective.at(result.theta), num_remove=2, curvature="gauss_newton", mask=result.mask)
    whole = prune(objective, num_remove=6, curvature="gauss_newton")
    np.testing.assert_array_equal(np.concatenate([result.removed, rest.removed]), whole.removed)
    np.testing.assert_array_equal(rest.theta, whole.theta)


def test_results_are_stored(tmp_path):
    objective, X, y = linear()
    for name, validation in (("plain", None), ("validated", (X, y))):
        result = prune(objective, num_remove=2, validation=validation)
        store = ResultStore(tmp_path / "results.h5")
        store.save(name, result)
        loaded = store.load(name)
        assert str(loaded) == str(result)
        np.testing.assert_array_equal(loaded.mask, result.mask)
        np.testing.assert_array_equal(loaded.predicted, result.predicted)
        assert (loaded.validation_losses is None) == (validation is None)


def test_an_indefinite_or_singular_hessian_is_refused():
    net = Network((1, 1, 1), "identity", [0.1, 0.1], bias=False)
    saddle = Objective(net, [[1.0]], [1.0], loss="squared_error")
    assert np.linalg.eigvalsh(hessian_matrix(saddle))[0] < 0
    for inverse in ("exact", "cg"):
        with pytest.raises(ValueError, match=r"cannot start.*damping"):
            prune(saddle, num_remove=1, inverse=inverse)
    assert len(prune(saddle, num_remove=1, damping=2.0).removed) == 1
    twice = Objective(Network((2, 1), "identity", [1, 2], bias=False), [[1.0, 1.0]], [3.0], loss="squared_error")
    with pytest.raises(ValueError, match="not positive definite"):
        prune(twice, num_remove=1)


def test_curvature_that_turns_negative_later_ends_with_what_was_removed():
    objective = trained(l2=1e-3)
    result = prune(objective, num_remove=objective.num_parameters, retrain=lambda here, mask: 0.3 * here.net.theta)
    assert result.status == Status.NEGATIVE_CURVATURE
    assert 0 < len(result.removed) < objective.num_parameters
    assert "eigenvalues" in result.stop_reason


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "one of num_remove"),
        ({"num_remove": 7}, ValueError, "num_remove must be at most 6"),
        ({"num_remove": 1.5}, TypeError, "num_remove"),
        ({"num_remove": 1, "method": "obx"}, ValueError, "method must be"),
        ({"num_remove": 1, "inverse": "lu"}, ValueError, "inverse must be"),
        ({"num_remove": 1, "damping": -1.0}, ValueError, "damping"),
        ({"num_remove": 1, "batch": 0}, ValueError, "batch"),
        ({"num_remove": 1, "recompute": 0}, ValueError, "recompute"),
        ({"num_remove": 1, "num_candidates": 1, "batch": 2}, ValueError, "num_candidates"),
        ({"num_remove": 1, "prunable": [True]}, ValueError, r"prunable must be booleans of shape \(6,\)"),
        ({"num_remove": 1, "mask": np.arange(6) > 0}, ValueError, "theta must be 0 where mask is False"),
        ({"num_remove": 1, "validation": (np.ones((3, 5)), np.ones(3))}, ValueError, r"validation: X must have shape"),
        ({"num_remove": 1, "validation": 3}, TypeError, "validation must be"),
        ({"max_validation_change": 0.1}, ValueError, "needs validation"),
        ({"max_loss_change": np.nan}, ValueError, "max_loss_change must be finite"),
        ({"num_remove": 1, "retrain": "adam"}, ValueError, "retrain must be"),
    ],
)
def test_misuse_is_refused_by_name(options, error, message):
    objective, _, _ = linear()
    with pytest.raises(error, match=message):
        prune(objective, **options)


def test_single_precision_nets_are_pruned_in_their_own_precision():
    objective, X, y = linear(l2=1e-2)
    net = Network((6, 1), "identity", objective.net.theta.astype(np.float32), bias=False)
    single = prune(Objective(net, X, y, loss="squared_error", l2=1e-2), num_remove=3)
    double = prune(objective, num_remove=3)
    np.testing.assert_array_equal(single.removed, double.removed)
    np.testing.assert_allclose(single.losses, double.losses, rtol=1e-4)
    assert (single.theta[single.removed] == 0).all()

"""Loss along eigenvectors, and spectra that are followed through training."""

from dataclasses import fields

import numpy as np
import pytest

from cases import problem
from krylovh import (
    HessianOperator,
    Network,
    Objective,
    ResultStore,
    SpectrumTracker,
    Status,
    eigsh,
    loss_along,
    track_spectrum,
)
from oracles import complex_step_hessian, value_and_gradient


def test_curves_are_values_and_slopes_of_the_objective_with_the_quadratic_beside():
    objective, (net, theta, X, y), settings = problem(ridge=True)
    H = complex_step_hessian(net, theta, X, y, **settings)
    pairs = eigsh(HessianOperator(objective), 3, rng=0)
    t = np.array([-0.5, 0.0, 0.1, 1.0])
    curves = loss_along(objective, pairs, t)
    value, gradient = value_and_gradient(net, theta, X, y, **settings)
    for i, d in enumerate(pairs.eigenvectors.T):
        there = [value_and_gradient(net, theta + s * d, X, y, **settings) for s in t]
        np.testing.assert_allclose(curves.values[i], [v for v, _ in there], rtol=1e-12)
        np.testing.assert_allclose(curves.slopes[i], [g @ d for _, g in there], rtol=1e-10, atol=1e-13)
        quadratic = value + t * (gradient @ d) + t**2 / 2 * (d @ H @ d)
        np.testing.assert_allclose(curves.quadratic[i], quadratic, rtol=1e-12)
    np.testing.assert_allclose(curves.curvatures, pairs.eigenvalues, rtol=1e-7)
    assert curves.num_gradients == 13


def test_the_deviation_from_the_quadratic_is_of_third_order():
    objective, *_ = problem()
    t = 0.01 / 2.0 ** np.arange(5)
    curves = loss_along(objective, eigsh(HessianOperator(objective), 1, rng=0), t)
    slope = np.polyfit(np.log(t), np.log(np.abs(curves.values - curves.quadratic)[0]), 1)[0]
    assert 2.8 < slope < 4.2


def training(num_steps=6):
    """Parameters along a path of gradient descent."""
    rng = np.random.default_rng(0)
    net = Network((12, 12, 4), "tanh")
    objective = Objective(
        net.with_theta(net.random_theta(0)), rng.standard_normal((60, 12)), rng.integers(0, 4, 60),
        loss="softmax_cross_entropy",
    )  # fmt: skip
    thetas = [objective.net.theta]
    for _ in range(num_steps - 1):
        thetas.append(thetas[-1] - 0.05 * objective.at(thetas[-1]).gradient())
    return objective, thetas


def test_a_warm_start_finds_the_same_eigenvalues_with_fewer_products():
    objective, thetas = training()
    warm, cold = (
        track_spectrum(objective, thetas, k=3, tol=1e-6, warm_start=start, verify=False, rng=0)
        for start in (True, False)
    )
    assert warm.status is cold.status is Status.CONVERGED
    for theta, values, others in zip(thetas, warm.eigenvalues, cold.eigenvalues, strict=True):
        H = HessianOperator(objective.at(theta)) @ np.eye(objective.num_parameters)
        expected = np.linalg.eigvalsh(H)[-3:]
        np.testing.assert_allclose(values, expected, atol=1e-6 * expected[-1])
        np.testing.assert_allclose(others, expected, atol=1e-6 * expected[-1])
    assert warm.products[0] == cold.products[0]
    assert warm.products[1:].sum() < cold.products[1:].sum()
    assert warm.overlaps.shape == (5, 3)
    assert (np.diff(warm.overlaps, axis=1) >= 0).all()
    assert warm.overlaps.min() > 0.5


def test_a_tracker_serves_as_a_callback():
    objective, thetas = training(4)
    tracker = SpectrumTracker(objective, 2, every=2, rng=0)
    for theta in thetas:
        tracker(theta)
    np.testing.assert_array_equal(
        tracker.result().eigenvalues, track_spectrum(objective, thetas[::2], k=2, rng=0).eigenvalues
    )


def interrupt(done, total):
    raise KeyboardInterrupt


def test_interruption_and_budget_keep_what_was_found(tmp_path):
    objective, thetas = training(3)
    track = track_spectrum(objective, thetas, k=2, rng=0, progress=interrupt)
    assert track.status is Status.INTERRUPTED
    assert track.eigenvalues.shape == (1, 2)
    curves = loss_along(objective, thetas[0], [0.0, 0.1], progress=interrupt)
    assert curves.status is Status.INTERRUPTED
    np.testing.assert_array_equal(np.isnan(curves.values), [[False, True]])
    store = ResultStore(tmp_path / "results.h5")
    short = track_spectrum(objective, thetas, k=2, rng=0, max_products=60)
    assert short.num_products <= 60
    assert short.status is Status.BUDGET
    for i, result in enumerate((track, curves, short)):
        store.save(f"r{i}", result)
        loaded = store.load(f"r{i}")
        for field in fields(result):
            np.testing.assert_equal(getattr(loaded, field.name), getattr(result, field.name))


def test_what_makes_no_sense_is_refused():
    objective, thetas = training(1)
    with pytest.raises(ValueError, match="directions must have shape"):
        loss_along(objective, np.ones(3), [0.0])
    with pytest.raises(ValueError, match="at least one point"):
        loss_along(objective, thetas[0], [])
    with pytest.raises(ValueError, match="k must be in"):
        track_spectrum(objective, thetas, k=0)

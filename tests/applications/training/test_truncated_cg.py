"""Truncated conjugate gradients against dense linear algebra."""

import numpy as np
import pytest

from krylovh import Network, Objective
from krylovh.applications.training.preconditioning import empirical_fisher_diagonal
from krylovh.applications.training.truncated_cg import truncated_cg


def model(seed=0, n=12, shift=1.0):
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((n, n))
    return M @ M.T / n + shift * np.eye(n), rng.standard_normal(n)


def test_without_limits_it_solves_the_system_and_knows_the_model():
    B, g = model()
    found = truncated_cg(lambda v: B @ v, g, rtol=1e-12, max_iterations=50)
    np.testing.assert_allclose(found.step, -np.linalg.solve(B, g), rtol=1e-9)
    assert found.model == pytest.approx(g @ found.step + found.step @ B @ found.step / 2, rel=1e-12)
    assert found.norm == pytest.approx(np.linalg.norm(found.step), rel=1e-10)
    assert str(found.status) == "converged"


def test_with_a_preconditioner_the_boundary_is_in_its_norm():
    B, g = model()
    d = np.linspace(0.5, 2.0, 12)
    found = truncated_cg(lambda v: B @ v, g, rtol=1e-12, radius=0.3, preconditioner=lambda r: d * r, max_iterations=50)
    assert str(found.status) == "boundary"
    assert np.sqrt(found.step @ (found.step / d)) == pytest.approx(0.3, rel=1e-10)
    assert found.norm == pytest.approx(0.3, rel=1e-10)
    assert found.model == pytest.approx(g @ found.step + found.step @ B @ found.step / 2, rel=1e-10)


def test_negative_curvature_is_followed_to_the_boundary():
    B, g = model(shift=-1.0)
    found = truncated_cg(lambda v: B @ v, g, rtol=1e-12, radius=7.0, max_iterations=50)
    assert str(found.status) == "negative_curvature"
    assert np.linalg.norm(found.step) == pytest.approx(7.0, rel=1e-10)
    assert found.model == pytest.approx(g @ found.step + found.step @ B @ found.step / 2, rel=1e-10)


def test_a_start_is_worth_its_product_and_progress_ends_the_iteration():
    B, g = model(n=200, shift=1e-3)
    solution = -np.linalg.solve(B, g)
    started = truncated_cg(lambda v: B @ v, g, rtol=1e-10, start=0.999 * solution, max_iterations=999)
    assert started.model == pytest.approx(g @ solution / 2, rel=1e-8)
    early = truncated_cg(lambda v: B @ v, g, progress_tol=1e-2, max_iterations=999, keep_path=True)
    assert early.num_iterations < started.num_iterations
    models = [q for _, q in early.path]
    assert models == sorted(models, reverse=True)
    assert early.path[-1][0] is early.step


def test_empirical_fisher_diagonal_is_the_mean_square_of_sample_gradients():
    rng = np.random.default_rng(3)
    X, y, w = rng.standard_normal((9, 3)), rng.integers(0, 4, 9), np.r_[0.0, rng.random(8)]
    net = Network((3, 5, 4), "tanh")
    net = net.with_theta(net.random_theta(0))
    objective = Objective(net, X, y, loss="softmax_cross_entropy", sample_weight=w, l2=0.3)
    squares = sum(
        w[i] * Objective(net, X[i : i + 1], y[i : i + 1], loss="softmax_cross_entropy").gradient() ** 2
        for i in range(9)
    )
    np.testing.assert_allclose(empirical_fisher_diagonal(objective), squares / w.sum() + 0.3, rtol=1e-12)

"""The report on approximations against matrices that are built from oracles, and its two modes against each other."""

import numpy as np
import pytest
from scipy.optimize import minimize

import oracles
from cases import problem
from krylovh import Network, Objective, approximation_report
from krylovh.approximations import APPROXIMATIONS


def errors(report):
    return dict(zip(APPROXIMATIONS, report.frobenius_error, strict=True))


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 4))
    y = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)
    net = Network((4, 6, 3), "tanh")
    objective = Objective(net.with_theta(net.random_theta(1)), X, y, loss="softmax_cross_entropy", l2=1e-2)
    fit = minimize(lambda t: (objective.at(t).value(), objective.at(t).gradient()), objective.net.theta, jac=True)
    return objective.at(fit.x)


def test_every_number_equals_that_of_the_oracles_matrices():
    objective, arguments, settings = problem("skip", "tanh", weighted=True, ridge=True)
    H, G = oracles.complex_step_hessian(*arguments, **settings), oracles.gauss_newton_matrix(*arguments, **settings)
    report = approximation_report(objective, damping=0.3, rank=4, rng=5)
    values, vectors = np.linalg.eigh(H)
    keep = np.argsort(abs(values))[-4:]
    layer = np.array([objective.net.parameter_at(i).layer for i in range(len(H))])
    matrices = {
        "diagonal": np.diag(np.diag(H)),
        "layer blocks": H * (layer[:, None] == layer),
        "gauss-newton": G,
        "low rank": (vectors[:, keep] * values[keep]) @ vectors[:, keep].T,
    }
    b = np.random.default_rng(5).standard_normal(len(H))
    x = np.linalg.solve(H + 0.3 * np.eye(len(H)), b)
    assert report.is_exact
    assert report.hessian_norm == pytest.approx(np.linalg.norm(H, 2), rel=1e-12)
    assert report.hessian_trace == pytest.approx(np.trace(H), rel=1e-12)
    for name, A in matrices.items():
        i = APPROXIMATIONS.index(name)
        assert report.frobenius_error[i] == pytest.approx(np.linalg.norm(A - H) / np.linalg.norm(H), abs=1e-12)
        assert report.spectral_error[i] == pytest.approx(np.linalg.norm(A - H, 2) / np.linalg.norm(H, 2), abs=1e-12)
        assert report.trace[i] == pytest.approx(np.trace(A), rel=1e-12)
        assert report.overlap[i] == pytest.approx(abs(np.linalg.eigh(A)[1][:, -1] @ vectors[:, -1]), abs=1e-8)
        solved = np.linalg.solve(A + 0.3 * np.eye(len(H)), b)
        assert report.solve_error[i] == pytest.approx(np.linalg.norm(solved - x) / np.linalg.norm(x), rel=1e-8)


@pytest.mark.parametrize("max_parameters", [2000, 0])
def test_a_linear_net_is_its_gauss_newton_matrix(max_parameters):
    rng = np.random.default_rng(0)
    net = Network((12, 10), "identity", rng.standard_normal(130))
    objective = Objective(net, rng.standard_normal((40, 12)), rng.standard_normal((40, 10)), loss="squared_error")
    found = errors(approximation_report(objective, rng=0, max_parameters=max_parameters))
    assert max(found[name] for name in ("layer blocks", "kfac", "gauss-newton")) < 1e-12
    assert min(found[name] for name in ("diagonal", "obd diagonal", "empirical fisher", "low rank")) > 0.1


def test_estimates_from_products_agree_with_matrices(trained):
    dense, estimated = (approximation_report(trained, rank=5, rng=3, max_parameters=m) for m in (2000, 0))
    assert (dense.is_exact, estimated.is_exact) == (True, False)
    assert dense.damping == pytest.approx(estimated.damping, rel=1e-6)
    difference = np.abs(dense.frobenius_error - estimated.frobenius_error)
    assert (difference <= 5 * estimated.frobenius_standard_error + 1e-12).all()
    assert (np.abs(dense.trace - estimated.trace) <= 5 * estimated.trace_standard_error + 1e-8).all()
    assert np.allclose(dense.spectral_error, estimated.spectral_error, atol=1e-6)
    assert np.allclose(dense.overlap, estimated.overlap, atol=1e-5)
    assert np.allclose(dense.solve_error, estimated.solve_error, rtol=1e-4)
    assert (estimated.solve_residual < 1e-5).all()
    assert estimated.num_products > 0
    for report in (dense, estimated):
        assert all(name in str(report) for name in APPROXIMATIONS)


def test_damping_makes_the_hessian_positive_definite_and_the_seed_decides_all():
    objective, arguments, settings = problem("chain", "tanh", "squared_error")
    lowest = np.linalg.eigvalsh(oracles.complex_step_hessian(*arguments, **settings))[0]
    first, second = (approximation_report(objective, rng=2) for _ in range(2))
    assert lowest < 0
    assert first.damping > -lowest
    assert str(first) == str(second)
    assert np.array_equal(first.solve_error, second.solve_error)


def test_progress_counts_the_approximations():
    objective, *_ = problem()
    seen = []
    approximation_report(objective, rng=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 7) for i in range(1, 8)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": -1.0}, "damping must be at least 0 and finite, got -1.0"),
        ({"damping": np.nan}, "damping must be at least 0 and finite, got nan"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"max_parameters": -1}, "max_parameters must be at least 0, got -1"),
    ],
)
def test_bad_arguments(options, message):
    objective, *_ = problem()
    with pytest.raises(ValueError, match=message):
        approximation_report(objective, **options)

"""Claims about preconditioners, on operators with known spectra and on a trained net."""

import numpy as np
import pytest
from scipy.optimize import minimize

import zoo
from krylovh import (
    DiagonalPreconditioner,
    GaussNewtonOperator,
    HessianOperator,
    KFACOperator,
    Network,
    NystromPreconditioner,
    Objective,
    RitzDeflation,
    SpectralPreconditioner,
    Status,
    cg,
    eigsh,
    minres,
)
from solves import check, right_hand_side

SHIFT = 0.01


def matrix_of(P):
    return P @ np.eye(P.shape[0])


def low_rank_plus_bulk(n=300):
    values = np.concatenate([np.random.default_rng(0).uniform(0, 0.01, n - 20), np.geomspace(1, 100, 20)])
    return zoo.diagonal(values)


def test_a_diagonal_is_inverted():
    P = DiagonalPreconditioner([1.0, 2.0, 4.0], shift=1.0)
    np.testing.assert_array_equal(matrix_of(P), np.diag([0.5, 1 / 3, 0.2]))
    with pytest.raises(ValueError, match=r"diagonal \+ shift must be positive, got -1.0 at index 1"):
        DiagonalPreconditioner([1.0, -2.0], shift=1.0)
    with pytest.raises(ValueError, match=r"diagonal must have shape \(n,\)"):
        DiagonalPreconditioner(np.eye(2))


def test_a_diagonal_helps_where_rows_differ_in_size():
    scale = np.logspace(0, 3, 100)
    M = 4 * np.eye(100) - np.eye(100, k=1) - np.eye(100, k=-1)
    A, b = M * np.outer(scale, scale), right_hand_side(100)
    plain, result = cg(A, b), cg(A, b, preconditioner=DiagonalPreconditioner(np.diagonal(A)))
    assert result.status == Status.CONVERGED
    assert result.num_products < plain.num_products / 5


@pytest.mark.parametrize("shift", [SHIFT, 3.0])
def test_deflation_is_the_inverse_on_what_it_knows(shift):
    reference = low_rank_plus_bulk()
    pairs = eigsh(reference.operator(), 20, rng=0)
    P = RitzDeflation(pairs, shift)
    X = pairs.eigenvectors
    np.testing.assert_allclose(P @ X, X * (P.level / (pairs.eigenvalues + shift)), atol=1e-12)
    other = right_hand_side(300)
    other -= X @ (X.T @ other)
    np.testing.assert_allclose(P @ other, other, atol=1e-12)
    np.testing.assert_allclose(matrix_of(P), matrix_of(P).T, atol=1e-13)
    assert np.linalg.eigvalsh(matrix_of(P)).min() > 0
    assert P.rank == 20


@pytest.mark.parametrize("make", ["ritz", "nystrom"])
def test_large_eigenvalues_cost_nothing_any_more(make):
    reference, b = low_rank_plus_bulk(), right_hand_side(300)
    A = reference.shifted(SHIFT)
    if make == "ritz":
        P = RitzDeflation(eigsh(reference.operator(), 20, rng=0), SHIFT)
    else:
        P = NystromPreconditioner(reference.operator(), SHIFT, 40, rng=0)
        assert P.num_products == 40
    plain, result = cg(A.operator(), b), cg(A.operator(), b, preconditioner=P)
    check(result, A, b, 1e-6)
    assert result.status == Status.CONVERGED
    assert result.num_products <= plain.num_products / 3
    assert minres(A.operator(), b, preconditioner=P).num_products <= plain.num_products / 2


def test_deflation_of_both_ends_leaves_an_indefinite_operator_to_the_solver():
    values = np.concatenate([np.linspace(-0.05, 0.1, 200), np.geomspace(1, 100, 10)])
    reference, b = zoo.diagonal(values), right_hand_side(210)
    pairs = eigsh(reference.operator(), 20, which="BE", rng=0)
    indefinite = reference.shifted(0.02)
    result = cg(indefinite.operator(), b, preconditioner=RitzDeflation(pairs, 0.02))
    assert result.status == Status.NEGATIVE_CURVATURE
    check(result, indefinite, b, 1e-6)
    definite = reference.shifted(0.06)
    result = cg(definite.operator(), b, preconditioner=RitzDeflation(pairs, 0.06))
    assert result.status == Status.CONVERGED
    assert result.num_products <= cg(definite.operator(), b).num_products / 2


def test_nystrom_is_exact_for_low_rank():
    values = np.zeros(100)
    values[:5] = [1.0, 2.0, 3.0, 4.0, 5.0]
    reference = zoo.diagonal(values)
    P = NystromPreconditioner(reference.operator(), 0.1, 12, rng=3)
    np.testing.assert_allclose(P.eigenvalues[:5], [5, 4, 3, 2, 1], atol=1e-8)
    expected = P.level * np.linalg.inv(reference.matrix() + 0.1 * np.eye(100))
    np.testing.assert_allclose(matrix_of(P), expected, atol=1e-6)


def test_nystrom_underestimates():
    """The approximation is below A in the order of semidefinite matrices (Frangella, Tropp and Udell, lemma 2.1)."""
    reference = zoo.wishart(60)
    P = NystromPreconditioner(reference.operator(), 0.1, 20, rng=0)
    approximation = P.vectors @ np.diag(P.eigenvalues) @ P.vectors.T
    assert np.linalg.eigvalsh(reference.matrix() - approximation).min() > -1e-10


def test_nystrom_of_a_slightly_indefinite_operator_keeps_to_what_is_positive():
    values = np.concatenate([np.linspace(-0.005, 0.005, 200), np.geomspace(1, 100, 10)])
    reference, b = zoo.diagonal(values), right_hand_side(210)
    A = reference.shifted(SHIFT)
    P = NystromPreconditioner(reference.operator(), SHIFT, 40, rng=0)
    result = cg(A.operator(), b, preconditioner=P)
    assert result.status == Status.CONVERGED
    assert result.num_products <= 0.6 * cg(A.operator(), b).num_products
    with pytest.raises(ValueError, match=r"A \+ shift I must be positive definite"):
        NystromPreconditioner(zoo.clement(50).operator(), 0.1, 20, rng=0)


def test_same_seed_same_bits():
    reference = zoo.wishart(60)
    first, second, other = (NystromPreconditioner(reference.operator(), 0.1, 20, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert not np.array_equal(first.vectors, other.vectors)
    assert first.seed == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NystromPreconditioner(np.eye(5), 0.0, 3), ValueError, "shift must be positive and finite, got 0.0"),
        (lambda: NystromPreconditioner(np.eye(5), 1.0, 6), ValueError, r"rank must be in \[1, 5\], got 6"),
        (lambda: NystromPreconditioner(np.full((3, 3), np.nan), 1.0, 2), ValueError, "A must be finite"),
        (lambda: SpectralPreconditioner([1.0], np.eye(3), 0.0, 1.0), ValueError, r"vectors must have shape \(n, 1\)"),
        (lambda: SpectralPreconditioner([1.0], np.eye(3, 1), 0.0, 0.0), ValueError, "level must be positive"),
        (lambda: SpectralPreconditioner([1.0], np.eye(3, 1), np.nan, 1.0), ValueError, "shift must be finite"),
    ],
)
def test_misuse_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -- a trained net --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """A 64-32-32-10 tanh net after 33 steps of l-bfgs: the Hessian has eigenvalues from about -4e-3 to 0.25."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    widths, num_parameters = (64, 32, 32, 10), 3466
    start = 0.2 * np.random.default_rng(0).standard_normal(num_parameters)
    objective = Objective(Network(widths, "tanh", start), X / 16, y, loss="softmax_cross_entropy")

    def value_and_gradient(theta):
        there = objective.at(theta)
        return there.value(), there.gradient()

    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 33})
    return objective.at(found.x)


@pytest.mark.full
@pytest.mark.parametrize(("operator", "damping"), [(GaussNewtonOperator, 1e-3), (HessianOperator, 1e-2)])
def test_a_trained_net_needs_a_third_of_the_products(digits, operator, damping):
    A = operator(digits)
    damped, b = A.damped(damping), right_hand_side(A.shape[0], 1)
    plain = cg(damped, b)
    assert plain.status == Status.CONVERGED
    ritz = RitzDeflation(eigsh(A, 120, tol=1e-2, rng=0, verify=False), damping)
    deflated = cg(damped, b, preconditioner=ritz)
    assert deflated.status == Status.CONVERGED
    assert deflated.relative_residual <= 1e-6
    assert deflated.num_products <= plain.num_products / 3


def test_a_trained_net_needs_a_third_of_the_products_by_nystrom(digits):
    G = GaussNewtonOperator(digits)
    damped, b = G.damped(1e-3), right_hand_side(G.shape[0], 1)
    plain = cg(damped, b)
    nystrom = NystromPreconditioner(G, 1e-3, 120, rng=0)
    result = cg(damped, b, preconditioner=nystrom)
    assert (plain.status, result.status) == (Status.CONVERGED, Status.CONVERGED)
    assert result.num_products <= plain.num_products / 3
    assert result.relative_residual <= 1e-6


def test_a_trained_net_has_negative_curvature_at_small_damping(digits):
    H = HessianOperator(digits)
    b = right_hand_side(H.shape[0], 1)
    result = cg(H.damped(1e-3), b, max_iterations=500)
    assert result.status == Status.NEGATIVE_CURVATURE
    d = result.negative_curvature
    assert d @ (H @ d) + 1e-3 <= 0


def test_the_inverse_of_kfac_fits(digits):
    G = GaussNewtonOperator(digits)
    b = right_hand_side(G.shape[0], 1)
    result = cg(G.damped(0.1), b, preconditioner=KFACOperator(digits).inverse(0.1))
    assert result.status == Status.CONVERGED
    assert result.relative_residual <= 1e-6

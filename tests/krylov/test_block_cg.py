"""Claims about block_cg; the checkers use LAPACK and products in float64, never the solver."""

import itertools

import numpy as np
import pytest

import zoo
from krylovh import Status, block_cg, cg
from solves import EPS, check, operator_of


def columns(n, k, seed=0):
    return np.random.default_rng(seed).standard_normal((n, k))


def check_each(result, reference, B, rtol, dtype=np.float64):
    for i in range(B.shape[1]):
        if B[:, i].any() and np.isfinite(B[:, i]).all():
            check(result[i], reference, B[:, i], rtol, dtype)


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 40])
def test_every_operator_gets_an_answer_that_can_be_believed(n, dtype):
    for reference, k in itertools.product(zoo.zoo(n), (1, 3)):
        B = columns(n, k, n)
        result = block_cg(reference.operator(dtype), B)
        check_each(result, reference, B, 1e-6, dtype)
        low = reference.eigenvalues[0] / (reference.norm or 1)
        if low > 1e4 * EPS[dtype]:
            assert set(result.statuses) <= {Status.CONVERGED, Status.STAGNATED}, reference.name
            assert dtype == np.float32 or result.status == Status.CONVERGED, reference.name
        elif low < -1e3 * EPS[dtype] and k < n:
            assert Status.NEGATIVE_CURVATURE in result.statuses or Status.INCONSISTENT in result.statuses


def test_the_space_is_shared():
    reference = zoo.laplacian(400)
    B = columns(400, 8)
    result = block_cg(reference.operator(), B)
    assert result.status == Status.CONVERGED
    check_each(result, reference, B, 1e-6)
    alone = [cg(reference.operator(), B[:, i]) for i in range(8)]
    assert result.num_iterations < 0.25 * max(one.num_iterations for one in alone)
    assert result.num_products < 0.8 * sum(one.num_products for one in alone)


def test_each_system_has_its_own_status():
    reference = zoo.laplacian(100).shifted(0.01)
    values, vectors = np.linalg.eigh(reference.matrix())
    B = columns(100, 5)
    B[:, 1] = 0.0
    B[3, 2] = np.nan
    B[:, 3] = vectors[:, 5]  # one step away
    result = block_cg(reference.operator(), B)
    assert result.statuses == (Status.CONVERGED, Status.CONVERGED, Status.NONFINITE, Status.CONVERGED, Status.CONVERGED)
    check_each(result, reference, B, 1e-6)
    assert not result.x[:, 1].any()
    assert np.isnan(result.x[:, 2]).all()
    np.testing.assert_allclose(result.x[:, 3], vectors[:, 5] / values[5], atol=1e-4)


@pytest.mark.parametrize("k", [2, 5, 30])
def test_dependent_columns_are_no_harm(k):
    reference = zoo.laplacian(20)
    B = columns(20, 2) @ columns(2, k, 1)
    result = block_cg(reference.operator(), B)
    assert result.status == Status.CONVERGED
    check_each(result, reference, B, 1e-6)
    assert result.num_products <= 2 * result.num_iterations + k


def test_the_whole_space_takes_one_step():
    reference = zoo.wishart(10)
    result = block_cg(reference.operator(), np.eye(10), rtol=1e-10)
    np.testing.assert_allclose(result.x, np.linalg.inv(reference.matrix()), atol=1e-8)
    assert (result.status, result.num_iterations) == (Status.CONVERGED, 1)


def test_a_system_of_negative_curvature_does_not_stop_the_others():
    """Two invariant halves: one positive definite, one not."""
    d = np.concatenate([np.linspace(1, 2, 50), np.linspace(-1, 2, 50)])
    reference = zoo.Reference("halves", lambda x: (d * x.T).T, np.sort(d))
    B = columns(100, 4)
    B[50:, :2] = 0.0
    B[:50, 2:] = 0.0
    result = block_cg(reference.operator(), B)
    assert result.statuses == (Status.CONVERGED,) * 2 + (Status.NEGATIVE_CURVATURE,) * 2
    check_each(result, reference, B, 1e-6)


def test_an_inconsistent_system_does_not_stop_the_others():
    d = np.concatenate([np.linspace(1, 2, 50), np.linspace(0, 1, 50)])
    reference = zoo.Reference("halves", lambda x: (d * x.T).T, np.sort(d))
    B = columns(100, 2)
    B[50:, 0] = 0.0
    B[:50, 1] = 0.0
    result = block_cg(reference.operator(), B)
    assert result.statuses == (Status.CONVERGED, Status.INCONSISTENT)
    check_each(result, reference, B, 1e-6)


def test_columns_of_any_magnitude_are_solved_alike():
    reference = zoo.laplacian(50)
    B = columns(50, 3)
    plain = block_cg(reference.operator(), B)
    powers = np.array([-900, 0, 800])
    scaled = block_cg(reference.scaled(2.0**70).operator(), np.ldexp(B, powers))
    assert scaled.statuses == plain.statuses
    assert scaled.num_products == plain.num_products
    np.testing.assert_array_equal(scaled.x, np.ldexp(plain.x, powers - 70))
    np.testing.assert_array_equal(scaled.residual_norms, np.ldexp(plain.residual_norms, powers))


def test_a_preconditioner_helps():
    reference = zoo.strakos(100)
    values, vectors = np.linalg.eigh(reference.matrix())
    P = vectors @ np.diag(1 / np.maximum(values, 1.0)) @ vectors.T
    B = columns(100, 4)
    plain, result = block_cg(reference.operator(), B), block_cg(reference.operator(), B, preconditioner=P)
    assert result.status == Status.CONVERGED
    check_each(result, reference, B, 1e-6)
    assert result.num_products < 0.6 * plain.num_products
    with pytest.raises(ValueError, match="preconditioner must be positive definite"):
        block_cg(reference.operator(), B, preconditioner=-P)


@pytest.mark.parametrize("budget", [0, 1, 3, 4, 9, 20])
def test_the_budget_is_kept(budget):
    reference, B = zoo.strakos(60), columns(60, 3)
    result = block_cg(reference.operator(), B, max_products=budget)
    assert result.num_products <= budget
    assert result.status == Status.BUDGET
    check_each(result, reference, B, 1e-6)


def test_limits_and_no_columns():
    reference, B = zoo.laplacian(60), columns(60, 3)
    result = block_cg(reference.operator(), B, max_iterations=3)
    assert (result.status, result.num_iterations) == (Status.BUDGET, 3)
    check_each(result, reference, B, 1e-6)
    empty = block_cg(reference.operator(), np.zeros((60, 0)))
    assert (empty.statuses, empty.num_products) == ((), 0)
    assert empty.status == Status.CONVERGED


def test_nan_in_a_product_is_told():
    result = block_cg(operator_of(lambda v: v * np.nan, 10), columns(10, 2))
    assert result.statuses == (Status.NONFINITE,) * 2
    assert result.num_products <= 2


@pytest.mark.parametrize(
    ("B", "error", "message"),
    [
        (np.ones(5), ValueError, r"B must have shape \(5, k\), got \(5,\)"),
        (np.ones((4, 2)), ValueError, r"B must have shape \(5, k\), got \(4, 2\)"),
        (1j * np.ones((5, 2)), TypeError, "B must be a real array"),
    ],
)
def test_misuse_is_named(B, error, message):
    with pytest.raises(error, match=message):
        block_cg(np.eye(5), B)


def test_operators_that_are_not_symmetric_are_refused():
    with pytest.raises(ValueError, match="A must be symmetric"):
        block_cg(np.triu(np.ones((5, 5))), columns(5, 3))


def test_few_iterations_already_help():
    reference, B = zoo.minimum(100), columns(100, 2)
    result = block_cg(reference.operator(), B, max_iterations=2)
    assert result.status == Status.BUDGET
    for i in range(2):
        x = result.x[:, i]
        assert x @ reference.apply(x) / 2 < B[:, i] @ x

"""Claims about minres; the checkers use LAPACK and products in float64, never the solver."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg

import zoo
from krylovh import Status, minres
from solves import EPS, check, graded, operator_of, right_hand_side


def gradient(reference, b, x):
    """|A r| relative to what it may be."""
    r = b - reference.apply(x)
    return np.linalg.norm(reference.apply(r)) / (reference.norm * np.linalg.norm(r) or 1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 20, 64])
def test_every_operator_gets_an_answer_that_can_be_believed(n):
    for reference, dtype, rtol in itertools.product(zoo.zoo(n), EPS, (1e-6, 0.0)):
        b = right_hand_side(n, seed=n)
        result = minres(reference.operator(dtype), b, rtol=rtol)
        check(result, reference, b, rtol, dtype)
        smallest = np.abs(reference.eigenvalues).min() / (reference.norm or 1)
        if smallest > 1e4 * EPS[dtype]:
            assert result.status in (Status.CONVERGED, Status.STAGNATED), reference.name
            assert result.relative_residual <= max(rtol, 100 * EPS[dtype] / smallest), reference.name
        elif smallest <= 4 * 2.0**-52 and "LAPACK" not in reference.name:
            # where eigenvalues of all sizes lie between zero and the others, no product can tell which are zero
            others = (Status.STAGNATED, Status.BUDGET) * graded(reference, dtype)
            assert result.status in (Status.INCONSISTENT, *others), reference.name
        if result.status == Status.INCONSISTENT:
            assert gradient(reference, b, result.x) <= 1.01 * np.sqrt(EPS[dtype]), reference.name
        assert result.relative_residual <= 1 + 10 * EPS[dtype], reference.name


@pytest.mark.full
@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", zoo.CATALOGUE)
def test_no_solve_is_called_converged_that_is_not(name, dtype):
    for n, rtol, seed in itertools.product((1, 2, 3, 5, 10, 20, 100, 400), (1e-2, 1e-6, 1e-10, 0.0), range(2)):
        reference = zoo.CATALOGUE[name](n)
        if reference is None:
            continue
        b = right_hand_side(n, seed)
        if seed == 1:
            b = reference.apply(b)
        if b.any():
            check(minres(reference.operator(dtype), b, rtol=rtol), reference, b, rtol, dtype)


@pytest.mark.parametrize("name", ["clement", "goe", "wilkinson", "laplacian", "householder", "hadamard"])
def test_iterations_and_products_are_those_of_the_method(name):
    reference = zoo.CATALOGUE[name](64)
    b = right_hand_side(64)
    count = []
    scipy.sparse.linalg.minres(reference.operator(), b, rtol=1e-12, callback=count.append)
    result = minres(reference.operator(), b, rtol=1e-10)
    assert result.status == Status.CONVERGED
    assert result.num_iterations <= len(count) + 2
    assert result.num_products == result.num_iterations + 1
    truth = np.linalg.solve(reference.matrix(), b)
    np.testing.assert_allclose(result.x, truth, atol=1e-7 * np.linalg.norm(truth))


@pytest.mark.parametrize("consistent", [True, False])
@pytest.mark.parametrize(
    "name", ["neumann_laplacian", "periodic_laplacian", "rank_5", "jordan_wielandt", "rank_1", "clement"]
)
@pytest.mark.parametrize("n", [21, 100])
def test_singular_systems_have_their_shortest_least_squares_solution(name, n, consistent):
    if n == 100 and name == "clement":
        n = 101  # singular for odd orders
    reference = zoo.CATALOGUE[name](n)
    b = right_hand_side(n)
    if consistent:
        b = reference.apply(b)
    result = minres(reference.operator(), b, rtol=1e-10)
    check(result, reference, b, 1e-10)
    assert result.status == (Status.CONVERGED if consistent else Status.INCONSISTENT)
    shortest = scipy.linalg.pinvh(reference.matrix(), rtol=1e-12) @ b
    np.testing.assert_allclose(result.x, shortest, atol=1e-6 * np.linalg.norm(shortest))
    least = np.linalg.norm(b - reference.apply(shortest))
    assert result.residual_norm == pytest.approx(least, abs=1e-9 * np.linalg.norm(b))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [20, 33])
@pytest.mark.parametrize("name", ["geometric", "hilbert", "lapack_mode_4", "neumann_laplacian", "minimum"])
def test_inconsistent_is_said_only_of_null_vectors(name, n, seed):
    """A residual of 1e-4 ``|A| |x|`` or a shift along a vector that is nearly null once passed for a proof."""
    reference, b = zoo.CATALOGUE[name](n), right_hand_side(n, seed)
    for dtype, eps in EPS.items():
        result = minres(reference.operator(dtype), b)
        check(result, reference, b, 1e-6, dtype)
        assert result.relative_residual <= 1 + 10 * eps
        assert result.status != Status.INCONSISTENT or gradient(reference, b, result.x) <= 1.01 * np.sqrt(eps)
        if name == "neumann_laplacian":
            assert result.status == Status.INCONSISTENT


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["neumann_laplacian", "clement", "wishart", "goe", "minimum", "jordan_wielandt"])
def test_residuals_never_rise(name, dtype):
    reference, b = zoo.CATALOGUE[name](60), right_hand_side(60)
    seen = []
    minres(reference.operator(dtype), b, callback=lambda x: seen.append((np.linalg.norm(x), b - reference.apply(x))))
    residuals = np.array([np.linalg.norm(r) for _, r in seen])
    rounding = EPS[dtype] * reference.norm * np.array([size for size, _ in seen])
    assert len(residuals) >= 5
    assert (np.diff(residuals) <= 10 * EPS[dtype] * residuals[0] + 10 * rounding[1:]).all()


@pytest.mark.parametrize("name", ["minimum", "strakos", "lapack_mode_4", "neumann_laplacian", "clement"])
def test_more_iterations_never_make_it_worse(name):
    reference, b = zoo.CATALOGUE[name](50), right_hand_side(50)
    best = np.inf
    for m in range(1, 200, 5):
        result = minres(reference.operator(), b, rtol=0.0, max_iterations=m)
        assert result.residual_norm <= 2 * best
        best = min(best, result.residual_norm)


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["clement", "strakos", "neumann_laplacian"])
def test_scaling_by_powers_of_two_is_exact(name, dtype):
    reference, b = zoo.CATALOGUE[name](50), right_hand_side(50)
    plain = minres(reference.operator(dtype), b)
    low, high = (-100, 100) if dtype == np.float32 else (-900, 900)
    for e, f in [(low, 0), (high, 0), (0, -900), (0, 900), (low // 2, high // 2)]:
        result = minres(reference.scaled(2.0**e).operator(dtype), np.ldexp(b, f))
        assert (result.status, result.num_products) == (plain.status, plain.num_products)
        np.testing.assert_array_equal(np.ldexp(plain.x, f - e), result.x)
        assert np.ldexp(plain.residual_norm, f) == result.residual_norm


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["laplacian", "goe", "strakos", "clement"])
def test_without_a_tolerance_the_attainable_accuracy_ends_the_iteration(name, dtype):
    reference, b = zoo.CATALOGUE[name](100), right_hand_side(100)
    result = minres(reference.operator(dtype), b, rtol=0.0)
    assert result.status == Status.STAGNATED
    limits = sorted({*range(1, result.num_iterations, 5), result.num_iterations})
    residuals = [minres(reference.operator(dtype), b, rtol=0.0, max_iterations=m).residual_norm for m in limits]
    useful = next(m for m, residual in zip(limits, residuals, strict=True) if residual <= 2 * result.residual_norm)
    assert result.num_iterations <= 2 * useful + 1
    floor = EPS[dtype] * (reference.norm * np.linalg.norm(result.x) + np.linalg.norm(b))
    assert result.residual_norm <= 20 * floor


@pytest.mark.parametrize("name", ["clement", "laplacian", "outliers"])
def test_a_preconditioner_helps_and_the_truth_is_still_told(name):
    reference, b = zoo.CATALOGUE[name](64), right_hand_side(64)
    values, vectors = np.linalg.eigh(reference.matrix())
    P = vectors @ np.diag(1 / np.maximum(np.abs(values), 0.05)) @ vectors.T
    plain = minres(reference.operator(), b, rtol=1e-8)
    result = minres(reference.operator(), b, rtol=1e-8, preconditioner=P)
    check(result, reference, b, 1e-8)
    assert result.status == Status.CONVERGED
    assert result.num_iterations < plain.num_iterations / 2


def test_the_norm_of_the_preconditioner_is_not_mistaken_for_the_residual():
    reference, b = zoo.laplacian(80), right_hand_side(80)
    P = np.diag(np.logspace(-3, 3, 80))
    result = minres(reference.operator(), b, preconditioner=P, max_iterations=5000)
    assert result.status == Status.CONVERGED
    check(result, reference, b, 1e-6)
    assert result.num_products <= result.num_iterations + 20


def test_a_zero_right_hand_side_costs_nothing():
    result = minres(np.eye(5), np.zeros(5), x0=np.ones(5))
    assert (result.status, result.num_products, result.relative_residual) == (Status.CONVERGED, 0, 0.0)


def test_an_exact_start_is_recognised():
    reference, truth = zoo.clement(30), right_hand_side(30)
    result = minres(reference.operator(), reference.apply(truth), x0=truth)
    assert (result.status, result.num_iterations, result.num_products) == (Status.CONVERGED, 0, 1)
    np.testing.assert_array_equal(result.x, truth)


def test_a_start_vector_chooses_among_the_solutions():
    reference, truth = zoo.neumann_laplacian(40), right_hand_side(40)
    result = minres(reference.operator(), reference.apply(truth), x0=truth + 1e-3 * right_hand_side(40, 1), rtol=1e-9)
    assert result.status == Status.CONVERGED
    null = np.linalg.eigh(reference.matrix())[1][:, 0]
    start = truth + 1e-3 * right_hand_side(40, 1)
    assert null @ result.x == pytest.approx(null @ start, abs=1e-9)


@pytest.mark.parametrize("limit", [0, 1, 2, 10**9])
def test_the_callback_comes_once_per_iteration(limit):
    seen = []
    b = right_hand_side(30)
    result = minres(zoo.clement(30).operator(), b, max_iterations=limit, callback=seen.append)
    assert len(seen) == result.num_iterations <= limit
    assert result.status == (Status.BUDGET if limit <= 2 else Status.CONVERGED)


def test_ctrl_c_keeps_what_was_found():
    reference, b, seen = zoo.clement(50), right_hand_side(50), []

    def callback(x):
        seen.append(x)
        if len(seen) == 10:
            raise KeyboardInterrupt

    result = minres(reference.operator(), b, callback=callback)
    assert (result.status, result.num_iterations) == (Status.INTERRUPTED, 10)
    check(result, reference, b, 1e-6)
    np.testing.assert_array_equal(result.x, seen[-1])


@pytest.mark.parametrize("budget", range(12))
def test_the_budget_is_kept(budget):
    reference, b = zoo.clement(60), right_hand_side(60)
    result = minres(reference.operator(), b, max_products=budget)
    assert result.status == Status.BUDGET
    assert result.num_products <= budget
    check(result, reference, b, 1e-6)


def test_nan_in_a_product_is_told_after_one():
    result = minres(operator_of(lambda v: v * np.nan, 10), np.ones(10))
    assert (result.status, result.num_products) == (Status.NONFINITE, 1)


def test_nan_later_keeps_what_was_found():
    reference, b, count = zoo.clement(40), right_hand_side(40), itertools.count()
    result = minres(operator_of(lambda v: reference.apply(v) if next(count) != 6 else v * np.inf, 40), b)
    assert (result.status, result.num_iterations) == (Status.NONFINITE, 6)
    check(result, reference, b, 1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": np.ones(4)}, ValueError, r"b must have shape \(5,\), got \(4,\)"),
        ({"x0": np.full(5, np.inf)}, ValueError, "x0 must be finite"),
        ({"rtol": 1.5}, ValueError, r"rtol must be in \[0, 1\), got 1.5"),
        ({"preconditioner": -np.eye(5)}, ValueError, "preconditioner must be positive definite"),
        ({"preconditioner": np.zeros((5, 5))}, ValueError, "preconditioner must be nonsingular"),
        ({"A": np.triu(np.ones((5, 5)))}, ValueError, "A must be symmetric"),
    ],
)
def test_misuse_is_named(arguments, error, message):
    values = {"A": np.diag([1.0, -2.0, 3.0, 4.0, 5.0]), "b": np.arange(1.0, 6.0)} | arguments
    with pytest.raises(error, match=message):
        minres(values.pop("A"), values.pop("b"), **values)

"""Claims about cg; the checkers use closed forms, LAPACK and products in float64, never the solver."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg

import zoo
from krylovh import Status, cg
from solves import EPS, check, graded, right_hand_side

# -- the zoo --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 20, 64])
def test_every_operator_gets_an_answer_that_can_be_believed(n):
    for reference, dtype, rtol in itertools.product(zoo.zoo(n), EPS, (1e-6, 0.0)):
        b = right_hand_side(n, seed=n)
        result = cg(reference.operator(dtype), b, rtol=rtol)
        check(result, reference, b, rtol, dtype)
        low, tiny = reference.eigenvalues[0] / (reference.norm or 1), 1e3 * EPS[dtype]
        if low > 1e4 * EPS[dtype]:
            assert result.status in (Status.CONVERGED, Status.STAGNATED), reference.name
            assert result.status == Status.CONVERGED or result.relative_residual <= 1e-3, reference.name
        elif -EPS[dtype] < low < EPS[dtype]:
            endless = (Status.BUDGET,) * graded(reference, dtype)
            assert result.status in (Status.INCONSISTENT, Status.STAGNATED, *endless), reference.name
        elif low < -tiny:
            assert result.status in (Status.NEGATIVE_CURVATURE, Status.INCONSISTENT), reference.name


@pytest.mark.full
@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", zoo.CATALOGUE)
def test_no_solve_is_called_converged_that_is_not(name, dtype):
    for n, rtol, seed in itertools.product((1, 2, 3, 5, 10, 20, 100, 400), (1e-2, 1e-6, 1e-10, 0.0), range(2)):
        reference = zoo.CATALOGUE[name](n)
        if reference is None:
            continue
        for shifted in (reference, reference.shifted(-1.01 * reference.eigenvalues[0] + 1e-3)):
            b = right_hand_side(n, seed)
            if seed == 1:
                b = shifted.apply(b)
            if b.any():
                check(cg(shifted.operator(dtype), b, rtol=rtol), shifted, b, rtol, dtype)


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e12])
def test_the_solution_is_the_solution(condition):
    reference = zoo.diagonal(np.logspace(-np.log10(condition), 0, 60))
    truth = right_hand_side(60)
    b = reference.apply(truth)
    result = cg(reference.operator(), b, rtol=1e-8, max_iterations=10_000)
    check(result, reference, b, 1e-8)
    assert result.status == Status.CONVERGED
    assert np.linalg.norm(result.x - truth) <= 1e-8 * condition * np.linalg.norm(b)


@pytest.mark.parametrize("name", ["laplacian", "minimum", "strakos", "wishart", "shifted_ones"])
def test_iterations_are_those_of_scipy(name):
    reference = zoo.CATALOGUE[name](100)
    b = right_hand_side(100)
    count = []
    scipy.sparse.linalg.cg(reference.operator(), b, rtol=1e-6, callback=count.append)
    result = cg(reference.operator(), b)
    assert abs(result.num_iterations - len(count)) <= 2
    assert result.num_products == result.num_iterations + 1


@pytest.mark.parametrize(("values", "steps"), [([1, 1, 1, 1, 1], 1), ([1, 1, 3, 3, 3, 3], 2), ([1, 2, 3, 4] * 9, 4)])
def test_as_many_iterations_as_distinct_eigenvalues(values, steps):
    reference = zoo.diagonal(values)
    result = cg(reference.operator(), right_hand_side(len(values)), rtol=1e-12)
    assert (result.status, result.num_iterations) == (Status.CONVERGED, steps)


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["laplacian", "strakos", "cluster_1e-3", "neumann_laplacian"])
def test_scaling_by_powers_of_two_is_exact(name, dtype):
    reference = zoo.CATALOGUE[name](50)
    b = right_hand_side(50)
    plain = cg(reference.operator(dtype), b, radius=3.0)
    free = cg(reference.operator(dtype), b)
    low, high = (-100, 100) if dtype == np.float32 else (-900, 900)
    for e, f in [(low, 0), (high, 0), (0, -900), (0, 900), (low // 2, high // 2)]:
        scaled = reference.scaled(2.0**e).operator(dtype)
        region = cg(scaled, np.ldexp(b, f), radius=np.ldexp(3.0, f - e))
        result = cg(scaled, np.ldexp(b, f))
        for one, other in [(plain, region), (free, result)]:
            assert (one.status, one.num_products) == (other.status, other.num_products)
            np.testing.assert_array_equal(np.ldexp(one.x, f - e), other.x)
            assert np.ldexp(one.residual_norm, f) == other.residual_norm
            assert one.relative_residual == other.relative_residual


# -- indefinite and singular ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[-1.0, 2.0, 3.0, 5.0], [-1e-6, 1.0, 1.0, 1.0], [-1.0, -2.0, -3.0, 4.0]])
def test_negative_curvature_is_shown(values):
    reference = zoo.diagonal(values)
    b = right_hand_side(4)
    result = cg(reference.operator(), b)
    assert result.status == Status.NEGATIVE_CURVATURE
    check(result, reference, b, 1e-6)


def test_negative_definite_operators_are_told_at_the_first_iteration():
    reference = zoo.laplacian(50).scaled(-1.0)
    b = right_hand_side(50)
    result = cg(reference.operator(), b)
    check(result, reference, b, 1e-6)
    assert (result.status, result.num_iterations) == (Status.NEGATIVE_CURVATURE, 0)
    assert result.num_products <= 2
    assert not result.x.any()


def test_the_swap_of_two_coordinates_is_no_division_by_zero():
    A, b = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 0.0])
    result = cg(A, b)
    assert result.status == Status.NEGATIVE_CURVATURE
    d = result.negative_curvature
    assert d @ A @ d < 0
    assert d @ b > 0


def test_damping_decides_about_curvature():
    reference = zoo.outliers(300)
    matrix, b = reference.matrix(), right_hand_side(300)
    lowest = reference.eigenvalues[0]
    for shift in (-lowest + 1e-3, -lowest + 1.0):
        result = cg(reference.shifted(shift).operator(), b, rtol=1e-10)
        assert result.status == Status.CONVERGED
        truth = np.linalg.solve(matrix + shift * np.eye(300), b)
        np.testing.assert_allclose(result.x, truth, atol=1e-7 * np.linalg.norm(truth))
    shifted = reference.shifted(-lowest - 1e-2)
    result = cg(shifted.operator(), b, rtol=1e-10)
    assert result.status == Status.NEGATIVE_CURVATURE
    check(result, shifted, b, 1e-10)


@pytest.mark.parametrize("name", ["neumann_laplacian", "periodic_laplacian", "rank_5"])
def test_consistent_singular_systems_have_their_shortest_solution(name):
    reference = zoo.CATALOGUE[name](40)
    b = reference.apply(right_hand_side(40))
    result = cg(reference.operator(), b, rtol=1e-10)
    assert result.status == Status.CONVERGED
    check(result, reference, b, 1e-10)
    shortest = scipy.linalg.pinvh(reference.matrix(), rtol=1e-10) @ b
    np.testing.assert_allclose(result.x, shortest, atol=1e-7 * np.linalg.norm(shortest))


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["neumann_laplacian", "periodic_laplacian", "rank_5", "zero"])
def test_inconsistent_systems_are_told(name, dtype):
    reference = zoo.CATALOGUE[name](100)
    b = right_hand_side(100)
    result = cg(reference.operator(dtype), b)
    assert result.status == Status.INCONSISTENT
    check(result, reference, b, 1e-6, dtype)
    assert result.relative_residual <= 1.0


def test_a_right_hand_side_in_the_null_space_is_inconsistent():
    n = 50
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    A[0, 0] = A[-1, -1] = 1.0
    Q = scipy.linalg.qr(np.random.default_rng(1).standard_normal((n, n)))[0]
    result = cg(Q @ A @ Q.T, Q @ np.ones(n))
    assert result.status == Status.INCONSISTENT
    assert result.num_products <= 4
    assert result.relative_residual == pytest.approx(1)


# -- accuracy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["laplacian", "minimum", "strakos", "wishart", "outliers"])
def test_without_a_tolerance_the_attainable_accuracy_ends_the_iteration(name, dtype):
    reference = zoo.CATALOGUE[name](100)
    if name == "outliers":
        reference = reference.shifted(0.1)
    b = right_hand_side(100)
    result = cg(reference.operator(dtype), b, rtol=0.0)
    assert result.status == Status.STAGNATED
    limits = sorted({*range(1, result.num_iterations, 3), result.num_iterations})
    residuals = [cg(reference.operator(dtype), b, rtol=0.0, max_iterations=m).residual_norm for m in limits]
    useful = next(m for m, residual in zip(limits, residuals, strict=True) if residual <= 2 * result.residual_norm)
    assert result.num_iterations <= 2 * useful
    floor = EPS[dtype] * (reference.norm * np.linalg.norm(result.x) + np.linalg.norm(b))
    assert result.residual_norm <= 10 * floor


def test_a_drifted_recurrence_is_not_believed():
    """Single precision products: the recurrence reaches any tolerance, and the truth does not."""
    reference = zoo.diagonal(np.logspace(-5, 0, 100))
    b = right_hand_side(100)
    result = cg(reference.operator(np.float32), b, rtol=1e-6)
    assert result.residual_history.min() <= 1e-6 * np.linalg.norm(b) or result.status == Status.STAGNATED
    assert result.relative_residual > 1e-6
    assert result.status == Status.STAGNATED
    check(result, reference, b, 1e-6, np.float32)


@pytest.mark.parametrize("dtype", EPS, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ["minimum", "strakos", "wishart", "laplacian"])
def test_more_iterations_never_make_it_worse(name, dtype):
    reference, b = zoo.CATALOGUE[name](50), right_hand_side(50)
    truth = np.linalg.solve(reference.matrix(), b)
    energy = lambda e: np.sqrt(e @ reference.apply(e))  # noqa: E731
    condition = reference.norm / reference.eigenvalues[0]
    floor = 10 * EPS[dtype] * np.sqrt(condition) * energy(truth)
    best = energy(truth)
    for m in range(1, 200, 5):
        error = energy(cg(reference.operator(dtype), b, rtol=0.0, max_iterations=m).x - truth)
        assert error <= max(2 * best, floor)
        best = min(best, error)
    assert best <= 10 * floor


def test_few_iterations_already_help():
    """The residual rises at first, and the error does not: nothing found would be wrong."""
    reference, b = zoo.minimum(100), right_hand_side(100)
    result = cg(reference.operator(), b, max_iterations=3)
    assert result.relative_residual > 1
    assert result.x @ reference.apply(result.x) / 2 < b @ result.x


def test_the_error_falls_in_the_norm_of_the_operator():
    reference = zoo.laplacian(100)
    truth = right_hand_side(100)
    errors = []
    cg(reference.operator(), reference.apply(truth), callback=lambda x: errors.append(truth - x))
    energies = [e @ reference.apply(e) for e in errors]
    assert len(energies) > 20
    assert (np.diff(energies) <= 1e-12 * energies[0]).all()


def test_the_inverse_is_symmetric():
    reference, rng = zoo.laplacian(60), np.random.default_rng(0)
    A = reference.operator()
    for _ in range(20):
        u, v = rng.standard_normal((2, 60))
        left, right = u @ cg(A, v, rtol=1e-10).x, v @ cg(A, u, rtol=1e-10).x
        condition = reference.norm / reference.eigenvalues[0]
        assert abs(left - right) <= 10 * 1e-10 * condition * abs(left)


# -- trust region ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("name", ["laplacian", "wishart", "outliers", "clement"])
def test_the_boundary_is_kept_and_the_model_falls(name, preconditioned):
    reference, b = zoo.CATALOGUE[name](40), right_hand_side(40)
    P = np.diag(np.linspace(0.5, 2.0, 40)) if preconditioned else None
    free = cg(reference.operator(), b, preconditioner=P)
    norm = lambda x: np.sqrt(x @ (x if P is None else x / np.diag(P)))  # noqa: E731
    values = [0.0]
    for radius in np.geomspace(1e-3, 10 * max(norm(free.x), 1.0), 12):
        result = cg(reference.operator(), b, radius=radius, preconditioner=P)
        x = result.x
        values.append(x @ reference.apply(x) / 2 - b @ x)
        assert norm(x) <= radius * (1 + 1e-10)
        if result.status in (Status.BOUNDARY, Status.NEGATIVE_CURVATURE):
            assert norm(x) == pytest.approx(radius, rel=1e-8)
        if result.status == Status.NEGATIVE_CURVATURE:
            d = result.negative_curvature
            assert d @ reference.apply(d) <= 0
        assert result.residual_norm == pytest.approx(np.linalg.norm(b - reference.apply(x)), rel=1e-8)
    assert (np.diff(values) <= 0).all()
    if name in ("laplacian", "wishart"):
        assert result.status == Status.CONVERGED
        np.testing.assert_array_equal(x, free.x)


def test_the_cauchy_point_is_on_the_way():
    """A region smaller than the first step: along the gradient to the boundary."""
    reference, b = zoo.laplacian(20), right_hand_side(20)
    result = cg(reference.operator(), b, radius=1e-3)
    np.testing.assert_allclose(result.x, 1e-3 * b / np.linalg.norm(b), rtol=1e-12)
    assert (result.status, result.num_iterations) == (Status.BOUNDARY, 1)

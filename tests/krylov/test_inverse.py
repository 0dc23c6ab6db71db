"""Claims about the inverse as an operator, functions of operators, and the diagonal of the inverse."""

import numpy as np
import pytest
import scipy.linalg

import zoo
from krylovh import (
    InverseOperator,
    SolveFailed,
    SolveFailedWarning,
    Status,
    check_operator,
    eigsh,
    inverse_diagonal,
    matrix_function,
)
from solves import right_hand_side

# -- the inverse ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["cg", "minres"])
def test_products_are_solutions(solver):
    reference = zoo.laplacian(60)
    inverse = InverseOperator(reference.operator(), solver=solver)
    V = np.random.default_rng(0).standard_normal((60, 5))
    truth = np.linalg.inv(reference.matrix())
    np.testing.assert_allclose(inverse @ V, truth @ V, atol=1e-6)
    np.testing.assert_allclose(inverse @ V[:, 0], truth @ V[:, 0], atol=1e-6)
    assert inverse.num_solves == 6
    assert inverse.num_products > 60
    assert inverse.T is inverse
    assert inverse.H is inverse


def test_an_indefinite_operator_has_an_inverse_too():
    reference = zoo.clement(20)
    b = right_hand_side(20)
    np.testing.assert_allclose(
        InverseOperator(reference.operator(), solver="minres") @ b, np.linalg.solve(reference.matrix(), b), atol=1e-7
    )
    with pytest.raises(SolveFailed, match="ended as negative_curvature after") as caught:
        InverseOperator(reference.operator()) @ b
    assert caught.value.result.status == Status.NEGATIVE_CURVATURE


def test_a_solve_that_fails_may_be_a_warning():
    reference = zoo.minimum(100)
    inverse = InverseOperator(reference.operator(), on_failure="warn", max_iterations=3)
    with pytest.warns(SolveFailedWarning, match="ended as budget"):
        x = inverse @ right_hand_side(100)
    assert x.any()
    with pytest.warns(SolveFailedWarning, match="ended as budget"):
        inverse @ np.eye(100, 3)


def test_the_smallest_eigenvalues_come_out_of_the_inverse():
    reference = zoo.laplacian(200)
    result = eigsh(InverseOperator(reference.operator()), 4, which="LA", tol=1e-7, rng=0)
    assert result.status == Status.CONVERGED
    np.testing.assert_allclose(np.sort(1 / result.eigenvalues), reference.eigenvalues[:4], rtol=1e-6)


def test_the_inverse_is_an_operator_like_any_other():
    result = check_operator(InverseOperator(zoo.wishart(40).operator(), rtol=1e-12), rng=0, margin=1e6)
    assert result.ok, str(result)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "lu"}, ValueError, "solver must be one of"),
        ({"on_failure": "ignore"}, ValueError, "on_failure must be one of"),
        ({"rtol": 2.0}, ValueError, "rtol must be in"),
        ({"radius": 1.0}, TypeError, "options must be among"),
    ],
)
def test_misuse_of_the_inverse_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        InverseOperator(np.eye(3), **arguments)


# -- functions ------------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "exp": np.exp,
    "sqrt": np.sqrt,
    "log": np.log,
    "inverse": lambda t: 1 / t,
    "sign": lambda t: np.sign(t - 1),
}


@pytest.mark.parametrize("name", ["exp", "sqrt", "log", "inverse"])
@pytest.mark.parametrize("make", [zoo.wishart, zoo.laplacian, lambda n: zoo.outliers(n).shifted(0.2)])
def test_functions_are_those_of_the_dense_matrix(name, make):
    reference = make(80)
    values, vectors = np.linalg.eigh(reference.matrix())
    b = right_hand_side(80)
    truth = vectors @ (FUNCTIONS[name](values) * (vectors.T @ b))
    for rtol in (1e-3, 1e-9):
        result = matrix_function(reference.operator(), FUNCTIONS[name], b, rtol=rtol)
        error = np.linalg.norm(result.x - truth)
        assert result.status == Status.CONVERGED
        assert error <= 2 * rtol * np.linalg.norm(truth)
        assert error <= 2 * result.error + 1e-11 * np.linalg.norm(truth)
        assert result.num_products == result.num_steps <= 80


def test_polynomials_are_exact_after_degree_plus_one_steps():
    reference, b = zoo.goe(50), right_hand_side(50)
    result = matrix_function(reference.operator(), lambda t: t**3, b, max_steps=4)
    M = reference.matrix()
    np.testing.assert_allclose(result.x, M @ (M @ (M @ b)), atol=1e-11)


def test_an_invariant_space_is_exact():
    reference, b = zoo.two_point(100), right_hand_side(100)
    result = matrix_function(reference.operator(), np.exp, b)
    assert (result.status, result.num_steps, result.error) == (Status.CONVERGED, 2, 0.0)
    np.testing.assert_allclose(result.x, scipy.linalg.expm(reference.matrix()) @ b, atol=1e-11)


def test_limits_of_functions():
    reference, b = zoo.laplacian(100), right_hand_side(100)
    result = matrix_function(reference.operator(), np.sqrt, b, max_steps=7, rtol=1e-12)
    assert (result.status, result.num_steps) == (Status.BUDGET, 7)
    assert 0 < result.relative_error < 1
    result = matrix_function(reference.operator(), np.sqrt, b, max_products=5)
    assert (result.status, result.num_products) == (Status.BUDGET, 5)
    result = matrix_function(reference.operator(), np.sqrt, np.zeros(100))
    assert (result.num_products, result.x.any()) == (0, False)
    with pytest.raises(ValueError, match="f must be finite on the spectrum of A, got nan at the Ritz value -"):
        matrix_function(zoo.clement(20).operator(), np.log, right_hand_side(20))
    with pytest.raises(ValueError, match=r"f must return \d real values"):
        matrix_function(reference.operator(), lambda t: t[:-1], b)


def test_functions_scale():
    reference, b = zoo.wishart(50), right_hand_side(50)
    plain = matrix_function(reference.operator(), lambda t: 1 / t, b)
    for e, f in [(400, 0), (-400, 300), (0, -800)]:
        result = matrix_function(reference.scaled(2.0**e).operator(), lambda t: 1 / t, np.ldexp(b, f))
        assert result.num_products == plain.num_products
        np.testing.assert_array_equal(result.x, np.ldexp(plain.x, f - e))


# -- the diagonal ---------------------------------------------------------------------------------------------------


def test_chosen_entries_are_exact():
    reference = zoo.wishart(60)
    truth = np.diagonal(np.linalg.inv(reference.matrix()))
    result = inverse_diagonal(reference.operator(), index=[5, 0, 59], rtol=1e-10)
    np.testing.assert_allclose(result.values, truth[[5, 0, 59]], rtol=1e-7)
    assert (result.status, result.num_solves, result.standard_errors.any()) == (Status.CONVERGED, 3, False)


def test_estimates_are_within_their_errors():
    reference = zoo.laplacian(60).shifted(0.1)
    truth = np.diagonal(np.linalg.inv(reference.matrix()))
    result = inverse_diagonal(reference.operator(), num_probes=200, rng=0)
    score = (result.values - truth) / result.standard_errors
    assert 0.7 < np.sqrt((score**2).mean()) < 1.3  # four times 1 / sqrt(2 * 60)
    assert result.status == Status.CONVERGED
    again = inverse_diagonal(reference.operator(), num_probes=200, rng=0, block_size=7)
    np.testing.assert_allclose(again.values, result.values, rtol=1e-5)  # that of the solves, times 10


def test_limits_of_the_diagonal():
    reference = zoo.laplacian(60)
    result = inverse_diagonal(reference.operator(), num_probes=8, rng=0, max_products=20)
    assert (result.status, np.isnan(result.values).all()) == (Status.BUDGET, True)
    assert result.num_products <= 20
    result = inverse_diagonal(zoo.clement(20).operator(), index=[0])
    assert result.status == Status.NEGATIVE_CURVATURE
    for index, message in [
        ([60], r"index must be in \[0, 59\]"),
        ([[0]], "index must be integers"),
        ([0.5], "integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            inverse_diagonal(reference.operator(), index=index)
    with pytest.raises(ValueError, match="num_probes must be at least 2"):
        inverse_diagonal(reference.operator(), num_probes=1)

"""How cg begins and ends: start vectors, limits, callbacks, faults of products, preconditioners and arguments."""

import itertools

import numpy as np
import pytest

import zoo
from krylovh import Status, cg
from solves import check, operator_of, right_hand_side

# -- start, limits, callback ----------------------------------------------------------------------------------------


def test_a_zero_right_hand_side_costs_nothing():
    for x0 in (None, np.zeros(5), np.ones(5)):
        result = cg(np.eye(5), np.zeros(5), x0=x0)
        assert (result.status, result.num_products, result.relative_residual) == (Status.CONVERGED, 0, 0.0)
        assert not result.x.any()


def test_an_exact_start_is_recognised():
    reference, truth = zoo.laplacian(30), right_hand_side(30)
    result = cg(reference.operator(), reference.apply(truth), x0=truth)
    assert (result.status, result.num_iterations, result.num_products) == (Status.CONVERGED, 0, 1)
    np.testing.assert_array_equal(result.x, truth)


@pytest.mark.parametrize("exponents", [(0, 0), (300, -300), (-500, 400)])
def test_a_start_vector_is_used(exponents):
    reference, truth = zoo.strakos(30), right_hand_side(30)
    A, scale = reference.scaled(2.0 ** exponents[0]).operator(), 2.0 ** exponents[1]
    b, near = A @ (scale * truth), scale * (truth + 1e-5 * right_hand_side(30, 1))
    cold, warm = cg(A, b), cg(A, b, x0=near)
    assert warm.status == Status.CONVERGED
    assert warm.num_iterations < cold.num_iterations
    np.testing.assert_allclose(warm.x / scale, truth, atol=1e-4)


@pytest.mark.parametrize("limit", [0, 1, 2, 10**9])
def test_the_callback_comes_once_per_iteration(limit):
    seen = []
    result = cg(zoo.laplacian(30).operator(), right_hand_side(30), max_iterations=limit, callback=seen.append)
    assert len(seen) == result.num_iterations
    assert result.num_iterations <= limit
    assert len({id(x) for x in seen}) == len(seen)
    assert result.status == (Status.BUDGET if limit <= 2 else Status.CONVERGED)


def test_a_callback_may_raise():
    def callback(x):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cg(np.diag([1.0, 2.0]), np.ones(2), callback=callback)


def test_ctrl_c_keeps_what_was_found():
    reference, b = zoo.laplacian(50), right_hand_side(50)
    seen = []

    def callback(x):
        seen.append(x)
        if len(seen) == 10:
            raise KeyboardInterrupt

    result = cg(reference.operator(), b, callback=callback)
    assert (result.status, result.num_iterations) == (Status.INTERRUPTED, 10)
    check(result, reference, b, 1e-6)


@pytest.mark.parametrize("budget", range(12))
def test_the_budget_is_kept(budget):
    reference, b = zoo.strakos(60), right_hand_side(60)
    result = cg(reference.operator(), b, max_products=budget)
    assert result.status == Status.BUDGET
    assert result.num_products <= budget
    check(result, reference, b, 1e-6)


def test_time_is_a_budget():
    result = cg(zoo.laplacian(50).operator(), right_hand_side(50), max_seconds=0.0)
    assert (result.status, result.num_products) == (Status.BUDGET, 0)


def test_the_last_product_of_a_budget_may_be_the_proof():
    b = right_hand_side(20)
    assert cg(zoo.identity(20).operator(), b, max_products=2).status == Status.CONVERGED
    assert cg(zoo.identity(20).operator(), b, max_products=1).status == Status.BUDGET


def test_progress_is_reported():
    seen = []
    result = cg(zoo.laplacian(20).operator(), right_hand_side(20), progress=lambda *pair: seen.append(pair))
    assert seen == [(i, 200) for i in range(1, result.num_iterations + 1)]


# -- faults ---------------------------------------------------------------------------------------------------------


def test_nan_in_a_product_is_told_after_one():
    result = cg(operator_of(lambda v: v * np.nan, 10), np.ones(10))
    assert (result.status, result.num_products) == (Status.NONFINITE, 1)
    assert not result.x.any()
    assert result.relative_residual == 1.0


def test_nan_later_keeps_what_was_found():
    reference, b, count = zoo.laplacian(40), right_hand_side(40), itertools.count()
    A = operator_of(lambda v: reference.apply(v) if next(count) != 6 else v * np.inf, 40)
    result = cg(A, b)
    assert (result.status, result.num_iterations) == (Status.NONFINITE, 6)
    check(result, reference, b, 1e-6)


def test_a_solution_beyond_the_range_of_floats_is_told():
    result = cg(np.diag([1e-300, 2e-300]), np.array([1e300, 1e300]))
    assert result.status == Status.NONFINITE


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (np.diag([1.0, -1.0, 1.0]), "preconditioner must be positive definite"),
        (np.diag([1.0, 0.0, 0.0]), "preconditioner must be nonsingular"),
        (np.array([[2.0, 1, 0], [0, 2, 1], [0, 0, 2]]), "preconditioner must be symmetric"),
        (np.full((3, 3), np.nan), "preconditioner must be finite"),
        (np.eye(4), r"preconditioner must have shape \(3, 3\), got \(4, 4\)"),
    ],
)
def test_each_fault_of_a_preconditioner_has_its_own_words(P, message):
    with pytest.raises(ValueError, match=message):
        cg(np.diag([1.0, 2.0, 4.0]), np.array([1.0, 5.0, -3.0]), preconditioner=P)


def test_complex_preconditioners_are_refused():
    with pytest.raises(TypeError, match="preconditioner must be real"):
        cg(np.eye(2), np.ones(2), preconditioner=1j * np.eye(2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": np.ones(4)}, ValueError, r"b must have shape \(5,\), got \(4,\)"),
        ({"b": np.full(5, np.nan)}, ValueError, "b must be finite"),
        ({"b": np.ones(5) * 1j}, TypeError, "b must be a real array"),
        ({"x0": np.full(5, np.inf)}, ValueError, "x0 must be finite"),
        ({"x0": np.ones((5, 1))}, ValueError, "x0 must have shape"),
        ({"rtol": -1.0}, ValueError, r"rtol must be in \[0, 1\), got -1.0"),
        ({"rtol": np.nan}, ValueError, "rtol must be in"),
        ({"radius": 0.0}, ValueError, "radius must be positive and finite, got 0.0"),
        ({"radius": 1.0, "x0": np.ones(5)}, ValueError, "x0 must be None where a radius is given"),
        ({"max_iterations": -1}, ValueError, "max_iterations must be at least 0, got -1"),
        ({"max_iterations": 2.5}, TypeError, "max_iterations must be an integer"),
        ({"max_products": -1}, ValueError, "max_products must be at least 0"),
        ({"A": np.ones((5, 4))}, ValueError, "A must be square"),
        ({"A": 1j * np.eye(5)}, TypeError, "A must be real"),
        ({"A": np.triu(np.ones((5, 5)))}, ValueError, "A must be symmetric"),
    ],
)
def test_misuse_is_named(arguments, error, message):
    values = {"A": np.diag(np.arange(1.0, 6.0)), "b": np.arange(1.0, 6.0)} | arguments
    with pytest.raises(error, match=message):
        cg(values.pop("A"), values.pop("b"), **values)


def test_arrays_of_the_caller_are_safe():
    reference = zoo.laplacian(20)
    buffer = np.empty(20)

    def scribble(v):
        buffer[:] = reference.apply(v)
        v[:] = np.nan
        return buffer

    b, x0 = right_hand_side(20), right_hand_side(20, 1)
    before = b.copy(), x0.copy()
    result = cg(operator_of(scribble, 20), b, x0=x0)
    check(result, reference, b, 1e-6)
    assert result.status == Status.CONVERGED
    np.testing.assert_array_equal(b, before[0])
    np.testing.assert_array_equal(x0, before[1])
    assert not any(np.shares_memory(result.x, array) for array in (b, x0, buffer))


def test_the_same_call_gives_the_same_bits():
    reference, b = zoo.wishart(100), right_hand_side(100)
    first, second = (cg(reference.operator(), b) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)


def test_a_preconditioner_of_any_magnitude_changes_nothing():
    reference, b = zoo.wishart(50), right_hand_side(50)
    D = np.linspace(0.5, 2.0, 50)
    plain = cg(reference.operator(), b, preconditioner=np.diag(D))
    for e in (-600, 3, 601):
        other = cg(reference.operator(), b, preconditioner=np.diag(np.ldexp(D, e)))
        assert plain.num_products == other.num_products
        np.testing.assert_allclose(other.x, plain.x, rtol=1e-9)

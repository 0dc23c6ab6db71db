"""Budgets, noise, and operators that misbehave."""

import numpy as np
import pytest

import zoo
from eigenpairs import ALL_ENDS, check, operator_of
from krylovh import Status, eigsh


@pytest.mark.parametrize("max_products", [0, 1, 5, 9, 20, 47, 100])
def test_a_budget_is_never_exceeded_and_what_was_found_is_true(max_products):
    reference = zoo.chebyshev(500)
    calls = []
    A = operator_of(lambda v: calls.append(1) or reference.apply(v), 500)
    result = eigsh(A, 4, max_products=max_products, rng=0)
    assert len(calls) == result.num_products <= max_products
    assert (result.status, result.set_verified) == (Status.BUDGET, False)
    X = result.eigenvectors
    true_residuals = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, true_residuals, rtol=1e-10)
    assert (result.eigenvalues.size == 4) == (max_products >= 9)


def test_a_budget_that_ends_during_verification_leaves_converged_pairs():
    reference = zoo.outliers(800)
    without = eigsh(reference.operator(), 5, verify=False, rng=0).num_products
    result = eigsh(reference.operator(), 5, max_products=without + 5, rng=0)
    assert (result.status, result.set_verified) == (Status.CONVERGED, False)
    assert result.num_products <= without + 5


def test_a_budget_of_seconds_ends_the_search_with_true_residuals():
    reference = zoo.strakos(1000)
    result = eigsh(reference.operator(), 4, which="SA", max_seconds=0.05, rng=0)
    assert result.status == Status.BUDGET
    assert result.residual_norms.size == 4
    assert np.isfinite(result.residual_norms).all()


@pytest.mark.parametrize("n", [50, 400])
@pytest.mark.parametrize("kind", ["random", "rounded"])
def test_noise_ends_in_stagnation_after_a_bounded_number_of_products(n, kind):
    reference = zoo.outliers(n)
    rng = np.random.default_rng(0)

    def product(v):
        y = reference.apply(v)
        if kind == "random":
            return y * (1 + 1e-3 * rng.standard_normal(n))
        return y.astype(np.float16).astype(np.float64)

    result = eigsh(operator_of(product, n), 4, rng=0)
    assert result.status == Status.STAGNATED
    assert result.num_products <= 300
    assert not result.converged.any()
    assert result.eigenvalues == pytest.approx([7, 8, 9, 10], rel=0, abs=1e-2)  # the noise, times |A|


@pytest.mark.parametrize("which", ALL_ENDS)
@pytest.mark.parametrize("n", [80, 500])
def test_a_tolerance_below_float32_stagnates_at_rounding(n, which):
    reference = zoo.wishart(n)
    result = eigsh(reference.operator(np.float32), 4, which=which, rng=0)
    X = result.eigenvectors
    true_residuals = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    assert result.status == Status.STAGNATED
    assert (true_residuals <= 50 * np.finfo(np.float32).eps * reference.norm).all()
    assert result.num_products < 1000


@pytest.mark.parametrize("tol", [0.0, 1e-16])
def test_a_tolerance_below_float64_stagnates_at_rounding(tol):
    reference = zoo.wishart(300)
    result = eigsh(reference.operator(), 4, tol=tol, rng=0)
    assert result.status == Status.STAGNATED
    assert (result.residual_norms <= 50 * 2.0**-52 * reference.norm).all()
    assert result.num_products < 1000


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda v: None, TypeError, "a product with A must be a real array, got NoneType"),
        (lambda v: [None] * len(v), TypeError, "real array, got list"),
        (lambda v: v[:-1], ValueError, "a product with A must have shape"),
        (lambda v: v * 1j, TypeError, "real array, got ndarray of complex128"),
        (lambda v: "v", TypeError, "real array, got str"),
    ],
)
def test_a_product_of_the_wrong_kind_is_refused_by_name(n, bad, error, message):
    with pytest.raises(error, match=message):
        eigsh(operator_of(bad, n), 2)


@pytest.mark.parametrize("n", [50, 400])
def test_an_operator_that_scribbles_on_its_input_or_reuses_its_output_does_no_harm(n):
    reference = zoo.outliers(n)
    buffer = np.empty(n)

    def product(v):
        buffer[:] = reference.apply(v)
        v[:] = np.nan
        return buffer

    check(eigsh(operator_of(product, n), 4, rng=0), reference, 4, "LA", 1e-8, 2.0**-52)


def test_the_operator_may_call_the_solver():
    reference, inner = zoo.outliers(300), zoo.wishart(150)

    def product(v):
        eigsh(inner.operator(), 2, rng=0)
        return reference.apply(v)

    plain, nested = eigsh(reference.operator(), 3, rng=0), eigsh(operator_of(product, 300), 3, rng=0)
    np.testing.assert_allclose(plain.eigenvalues, nested.eigenvalues, rtol=1e-14)


@pytest.mark.parametrize("n", [50, 400])
@pytest.mark.parametrize("at", [1, 2, 12, 30])
def test_nan_in_a_product_ends_the_search_by_name(n, at):
    reference, calls = zoo.chebyshev(n), []

    def product(v):
        calls.append(1)
        return reference.apply(v) * (np.nan if len(calls) >= at else 1.0)

    result = eigsh(operator_of(product, n), 3, rng=0)
    assert result.status == Status.NONFINITE
    assert not result.converged.any()
    assert np.isnan(result.residual_norms).all()


@pytest.mark.parametrize("at", [1, 12, 30, 75])
def test_an_interruption_keeps_what_was_found(at):
    reference, calls = zoo.outliers(400), []

    def product(v):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return reference.apply(v)

    result = eigsh(operator_of(product, 400), 20, ncv=60, rng=0)
    X = result.eigenvectors
    assert result.status == Status.INTERRUPTED
    assert result.eigenvalues.size == {1: 0, 12: 10, 30: 20, 75: 20}[at]
    true_residuals = np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)
    np.testing.assert_allclose(result.residual_norms, true_residuals, rtol=1e-6, atol=1e-13)


def test_an_error_of_the_operator_is_not_swallowed():
    def product(v):
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="the disk is on fire"):
        eigsh(operator_of(product, 200), 2)

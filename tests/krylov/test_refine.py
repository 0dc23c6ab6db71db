"""Eigenpairs of one operator, refined to the accuracy of another."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import zoo
from krylovh import Status, eigsh, refine_eigenpairs


def counted(reference, dtype, calls):
    """An operator that appends the number of vectors of each product to ``calls``."""

    def product(x):
        calls.append(1 if x.ndim == 1 else x.shape[1])
        return reference.apply(x.astype(np.float64)).astype(dtype)

    return LinearOperator((reference.n, reference.n), matvec=product, matmat=product, dtype=dtype)


def true_residuals(reference, result):
    X = result.eigenvectors
    return np.linalg.norm(reference.apply(X) - X * result.eigenvalues, axis=0)


SEPARATED = {
    "LA": ("outliers", "ladder", "minimum", "shifted_ones", "rank_5", "zero"),
    "SA": ("shifted_ones", "zero"),
    "LM": ("outliers", "minimum", "rank_5", "zero"),
    "BE": ("zero",),
}


@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize(
    "name", ["outliers", "goe", "ladder", "minimum", "shifted_ones", "rank_5", "cluster_1e-3", "zero"]
)
def test_float32_pairs_become_float64_pairs_in_few_accurate_products(name, which):
    reference = zoo.CATALOGUE[name](400)
    if name == "minimum" and which in ("SA", "BE"):
        pytest.skip("eigenvalues crowd together geometrically")
    rough = eigsh(reference.operator(np.float32), 4, which=which, tol=1e-5, rng=0)
    accurate, cheap = [], []
    A, coarse = counted(reference, np.float64, accurate), counted(reference, np.float32, cheap)
    result = refine_eigenpairs(A, rough, coarse=coarse, tol=1e-8, rng=0)
    truth = true_residuals(reference, result)
    assert (np.abs(result.residual_norms - truth) <= np.maximum(truth, 10 * 2.0**-52 * reference.norm)).all()
    assert (result.converged == (truth <= 1e-8 * result.operator_norm)).all()
    assert sum(accurate) <= 2 * 4 + 1
    assert sum(accurate) + sum(cheap) == result.num_products
    assert result.orthogonality <= 1e-13
    assert result.set_verified == rough.set_verified
    distance = np.abs(np.subtract.outer(result.eigenvalues, reference.eigenvalues)).min(axis=1)
    assert (distance <= result.value_bounds + 1e-14 * reference.norm).all()
    if name in SEPARATED[which]:
        assert result.status == Status.CONVERGED


def test_without_a_cheap_operator_the_accurate_one_is_used_within_its_budget():
    reference = zoo.outliers(500)
    rough = eigsh(reference.operator(np.float32), 5, tol=1e-5, rng=0)
    calls = []
    result = refine_eigenpairs(counted(reference, np.float64, calls), rough, tol=1e-12, rng=0)
    assert result.status == Status.CONVERGED
    assert sum(calls) == result.num_products
    few = []
    stopped = refine_eigenpairs(counted(reference, np.float64, few), rough, tol=1e-12, rng=0, max_products=5)
    assert (stopped.status, sum(few)) == (Status.BUDGET, 5)
    np.testing.assert_allclose(stopped.residual_norms, true_residuals(reference, stopped), rtol=1e-6)
    none = refine_eigenpairs(counted(reference, np.float64, []), rough, rng=0, max_products=4)
    assert none.status == Status.BUDGET
    assert np.isnan(none.residual_norms).all()
    assert not none.converged.any()


def test_a_cheap_operator_that_is_far_away_does_not_falsify_residuals():
    reference, other = zoo.outliers(500), zoo.diagonal(np.linspace(0, 10, 500), seed=3)
    rough = eigsh(reference.operator(np.float32), 5, tol=1e-5, rng=0)
    result = refine_eigenpairs(reference.operator(), rough, coarse=other.operator(), tol=1e-12, rng=0)
    truth = true_residuals(reference, result)
    np.testing.assert_allclose(result.residual_norms, truth, rtol=1e-6, atol=1e-14)
    assert (truth <= 2e-5).all()
    assert (result.converged == (truth <= 1e-12 * result.operator_norm)).all()


@pytest.mark.parametrize("exponent", [-800, 3, 800])
def test_powers_of_two_scale_a_refinement_exactly(exponent):
    M = zoo.outliers(300).matrix()
    M = (M + M.T) / 2
    found = []
    for e in (0, exponent):
        rough = eigsh(np.ldexp(M, e), 4, tol=1e-4, rng=0)
        found.append(refine_eigenpairs(np.ldexp(M, e), rough, tol=1e-13, rng=0))
    one, other = found
    assert (np.ldexp(one.eigenvalues, exponent) == other.eigenvalues).all()
    assert (np.ldexp(one.residual_norms, exponent) == other.residual_norms).all()
    assert one.num_products == other.num_products


@pytest.mark.parametrize(("at", "status"), [(2, Status.INTERRUPTED), (3, Status.NONFINITE)])
def test_what_stops_a_refinement_leaves_true_residuals(at, status):
    reference, calls = zoo.outliers(300), []
    rough = eigsh(reference.operator(np.float32), 4, tol=1e-5, rng=0)

    def product(x):
        calls.append(1)
        if len(calls) == at and status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return reference.apply(x) * (np.nan if len(calls) >= at else 1.0)

    A = LinearOperator((300, 300), matvec=product, matmat=product, dtype=np.float64)
    result = refine_eigenpairs(A, rough, tol=1e-14, rng=0)
    assert result.status == status
    np.testing.assert_allclose(result.residual_norms, true_residuals(reference, result), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"coarse": np.eye(3)}, ValueError, r"coarse must have shape \(120, 120\), got \(3, 3\)"),
        ({"tol": -1.0}, ValueError, "tol must be in"),
        ({"max_steps": -1}, ValueError, "max_steps must be at least 0"),
        ({"max_steps": 1.5}, TypeError, "max_steps must be an integer"),
        ({"max_products": -1}, ValueError, "max_products must be"),
    ],
)
def test_misuse_is_refused_by_name(arguments, error, message):
    rough = eigsh(np.diag(np.arange(120.0)), 2, rng=0)
    with pytest.raises(error, match=message):
        refine_eigenpairs(np.diag(np.arange(120.0)), rough, **arguments)


def test_vectors_of_another_length_are_refused():
    rough = eigsh(np.diag(np.arange(120.0)), 2, rng=0)
    with pytest.raises(ValueError, match=r"pairs must have eigenvectors of shape \(50, k\), got \(120, 2\)"):
        refine_eigenpairs(np.eye(50), rough)

"""No wrong set, no wrong residual: operators with known spectra x orders x sizes of sets x ends x precisions."""

import itertools

import numpy as np
import pytest

import zoo
from eigenpairs import ALL_ENDS, TOLERANCE, check
from krylovh import Status, eigsh

#: order, size of the basis, numbers of pairs
SETTINGS = [(12, 9, (1, 3)), (48, 20, (1, 2, 5)), (121, 30, (1, 5)), (256, None, (1, 5, 10)), (500, None, (2, 6))]


def honest(result, reference, k, which, tol, eps):
    """Check a result that may have failed; return whether it claims to be right."""
    if result.status == Status.CONVERGED and result.set_verified:
        check(result, reference, k, which, tol, eps)
        return True
    X, theta = result.eigenvectors, result.eigenvalues
    true = np.linalg.norm(reference.apply(X) - X * theta, axis=0)
    assert (np.abs(result.residual_norms - true) <= np.maximum(2 * true, 10 * eps * reference.norm)).all()
    assert (true[result.converged] <= (tol + 10 * eps) * reference.norm).all()
    assert np.abs(X.T @ X - np.eye(theta.size)).max(initial=0.0) <= 1e-13
    assert result.status in (Status.BUDGET, Status.STAGNATED, Status.CONVERGED)
    return False


def claims(names, settings):
    """Solve all problems; return how many there were, and how many results claim to be right."""
    solves = right = 0
    for name, (n, ncv, ks), dtype in itertools.product(names, settings, TOLERANCE):
        reference = zoo.CATALOGUE[name](n)
        if reference is None:
            continue
        A, eps, tol = reference.operator(dtype), np.finfo(dtype).eps, TOLERANCE[dtype]
        for k, which in itertools.product(ks, ALL_ENDS):
            result = eigsh(A, k, which=which, tol=tol, ncv=ncv, rng=solves, max_restarts=200)
            solves += 1
            right += honest(result, reference, k, which, tol, eps)
    return solves, right


@pytest.mark.parametrize("name", zoo.CATALOGUE)
def test_a_few_solves_are_right_or_say_that_they_are_not(name):
    solves, right = claims([name], [(48, 20, (3,)), (130, 25, (2,))])
    assert right >= 0.6 * solves


@pytest.mark.full
def test_three_thousand_solves_are_right_or_say_that_they_are_not():
    assert len(zoo.CATALOGUE) >= 40
    solves, right = claims(zoo.CATALOGUE, SETTINGS)
    assert solves >= 3000
    assert right >= 0.95 * solves


@pytest.mark.full
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize("block_size", [1, 3])
def test_every_operator_scales_by_powers_of_two_over_the_range_of_its_dtype(dtype, block_size):
    info = np.finfo(dtype)
    for name in zoo.CATALOGUE:
        reference = zoo.CATALOGUE[name](160)
        if reference is None:
            continue
        M = reference.matrix().astype(dtype)
        M = ((M + M.T) / 2).astype(dtype)
        M = np.where(np.abs(M) < np.abs(M).max() * info.eps**2, 0, M).astype(dtype)
        size = int(np.frexp(np.abs(M).max())[1])
        highest, lowest = info.maxexp - size - 12, info.minexp - size + int(-2.2 * np.log2(info.eps)) + 12
        one = eigsh(M, 3, which="BE", tol=TOLERANCE[dtype], ncv=30, rng=0, block_size=block_size, max_restarts=30)
        for exponent in (highest, lowest, 5):
            scaled = np.ldexp(M, exponent)
            assert (np.ldexp(scaled, -exponent) == M).all()
            other = eigsh(
                scaled, 3, which="BE", tol=TOLERANCE[dtype], ncv=30, rng=0, block_size=block_size, max_restarts=30
            )
            assert (np.ldexp(one.eigenvalues, exponent) == other.eigenvalues).all(), name
            assert (one.eigenvectors == other.eigenvectors).all(), name
            assert (one.num_products, one.num_restarts) == (other.num_products, other.num_restarts)

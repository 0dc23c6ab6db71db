"""Scaling, shifts and similarity; the checkers use closed forms, LAPACK and products in float64, never the solver."""

import numpy as np
import pytest

import zoo
from eigenpairs import ALL_ENDS, match_distinct_eigenvalues, operator_of
from krylovh import Status, eigsh


@pytest.mark.parametrize("exponent", [-900, -40, 1, 900])
@pytest.mark.parametrize(("n", "which"), [(50, "LA"), (300, "BE"), (300, "LM")])
def test_powers_of_two_scale_the_answer_exactly(n, which, exponent):
    M = zoo.wishart(n).matrix()
    M = (M + M.T) / 2
    one, other = eigsh(M, 4, which=which, rng=0), eigsh(np.ldexp(M, exponent), 4, which=which, rng=0)
    assert (np.ldexp(one.eigenvalues, exponent) == other.eigenvalues).all()
    assert (one.eigenvectors == other.eigenvectors).all()
    assert (np.ldexp(one.residual_norms, exponent) == other.residual_norms).all()
    assert (one.num_products, one.num_restarts) == (other.num_products, other.num_restarts)


@pytest.mark.parametrize("n", [61, 601])
def test_six_hundred_orders_of_magnitude_do_not_overflow(n):
    d = np.logspace(-300, 300, n)
    result = eigsh(operator_of(lambda v: d * v, n), 4, rng=0)
    np.testing.assert_allclose(result.eigenvalues, d[-4:], rtol=1e-14, atol=np.finfo(float).eps * d[-1])
    assert result.status == Status.CONVERGED
    assert result.set_verified


@pytest.mark.parametrize("which", ALL_ENDS)
def test_shift_mirror_and_similarity_move_the_spectrum_as_they_should(which):
    reference = zoo.diagonal(np.concatenate([np.linspace(-1, 1, 190), [-3.0, -2.5, -2.0, 2.2, 2.7, 3.1, 4.0]]))
    one = eigsh(reference.operator(), 4, which=which, rng=0)
    bound = 1e-7 * reference.norm
    if which != "LM":
        shifted = eigsh(reference.shifted(10.0).operator(), 4, which=which, rng=0)
        assert np.abs(shifted.eigenvalues - 10 - one.eigenvalues).max() <= bound
    mirror = {"LA": "SA", "SA": "LA"}.get(which, which)
    mirrored = eigsh(reference.scaled(-1.0).operator(), 4, which=mirror, rng=0)
    assert np.abs(np.sort(-mirrored.eigenvalues) - one.eigenvalues).max() <= bound
    similar = zoo.embed("similar", reference.apply, reference.eigenvalues, seed=5)
    assert np.abs(eigsh(similar.operator(), 4, which=which, rng=0).eigenvalues - one.eigenvalues).max() <= bound


@pytest.mark.parametrize("which", ALL_ENDS)
def test_one_pair_more_contains_the_set(which):
    reference = zoo.wishart(300)
    sets = [eigsh(reference.operator(), k, which=which, rng=0).eigenvalues for k in (4, 5)]
    assert match_distinct_eigenvalues(sets[0], sets[1], 1e-7)


@pytest.mark.parametrize("ncv", [8, 15, 60, 300])
def test_the_size_of_the_basis_does_not_change_the_values(ncv):
    reference = zoo.outliers(300)
    result = eigsh(reference.operator(), 4, ncv=ncv, tol=1e-10, rng=0)
    assert result.eigenvalues == pytest.approx([7, 8, 9, 10], abs=1e-13 * 10)

"""The right set for operators of all kinds."""

import itertools

import numpy as np
import pytest

import zoo
from eigenpairs import ALL_ENDS, TOLERANCE, check, operator_of, strakos_bottom
from krylovh import Status, eigsh


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 20, 100])
def test_every_small_operator_gets_its_right_set(n):
    for reference in zoo.zoo(n):
        for k, which, dtype in itertools.product(sorted({1, 2, n - 1, n}), (*ALL_ENDS, "SM"), TOLERANCE):
            if not 1 <= k <= n:
                continue
            tol = TOLERANCE[dtype]
            result = eigsh(reference.operator(dtype), k, which=which, tol=tol, rng=n)
            check(result, reference, k, which, tol, np.finfo(dtype).eps)
            assert n + k <= result.num_products <= n + k + 1


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize("name", zoo.CATALOGUE)
@pytest.mark.parametrize(("n", "ncv"), [(9, 8), (16, 12), (64, 25)])
def test_iteration_finds_the_right_set_in_a_small_basis(name, n, ncv, dtype):
    reference = zoo.CATALOGUE[name](n)
    if reference is None:
        pytest.skip(f"{name} does not exist at order {n}")
    tol = TOLERANCE[dtype]
    for k, which in itertools.product((1, 2, 5), ALL_ENDS):
        if n == 64 and strakos_bottom(name, which):
            continue
        if which == "BE" and ncv < 3 * k:
            continue
        result = eigsh(reference.operator(dtype), k, which=which, tol=tol, ncv=ncv, rng=k)
        check(result, reference, k, which, tol, np.finfo(dtype).eps)


@pytest.mark.parametrize("which", ["LA", "BE", *(pytest.param(w, marks=pytest.mark.full) for w in ("SA", "LM"))])
@pytest.mark.parametrize("name", zoo.CATALOGUE)
def test_the_right_set_of_a_thousand_is_found(name, which):
    n = 1024 if name in ("hadamard", "square_laplacian") else 1000
    if strakos_bottom(name, which):
        pytest.skip("eigenvalues crowd together geometrically: see the test of truthful failure")
    reference = zoo.CATALOGUE[name](n)
    result = eigsh(reference.operator(), 5, which=which, rng=1)
    check(result, reference, 5, which, 1e-8, 2.0**-52)


@pytest.mark.parametrize("name", ["minimum", "strakos"])
def test_a_set_that_cannot_be_found_is_not_claimed(name):
    reference = zoo.CATALOGUE[name](1000)
    result = eigsh(reference.operator(), 5, which="SA", rng=1, max_restarts=20)
    true_residuals = np.linalg.norm(
        reference.apply(result.eigenvectors) - result.eigenvectors * result.eigenvalues, axis=0
    )
    assert result.status == Status.BUDGET
    assert not result.set_verified
    np.testing.assert_allclose(result.residual_norms, true_residuals, rtol=1e-6)
    assert (result.converged == (true_residuals <= 1e-8 * result.operator_norm)).all()


@pytest.mark.parametrize("delta", [7e-5, 1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("ncv", [20, 40])
def test_a_cluster_keeps_all_its_members_for_every_seed(delta, ncv):
    reference = zoo.cluster(200, delta)
    for seed in range(13):
        result = eigsh(reference.operator(), 8, tol=1e-6, ncv=ncv, rng=seed)
        check(result, reference, 8, "LA", 1e-6, 2.0**-52)


@pytest.mark.parametrize("n", [21, 201])
def test_wilkinson_pairs_are_both_found_and_orthogonal(n):
    reference = zoo.wilkinson(n)
    result = eigsh(reference.operator(), 4, ncv=20, tol=1e-10, rng=0)
    check(result, reference, 4, "LA", 1e-10, 2.0**-52)
    if n == 21:
        assert result.eigenvalues[2:] == pytest.approx([10.746194182903393] * 2, abs=1e-12)


@pytest.mark.parametrize("verify", [True, False])
def test_only_verification_vouches_for_a_multiple_eigenvalue(verify):
    values = np.concatenate([np.linspace(0, 1, 395), [2.0, 2.0, 2.0, 3.0, 3.0]])
    reference = zoo.diagonal(values)
    result = eigsh(reference.operator(), 4, verify=verify, rng=0)
    assert result.status == Status.CONVERGED
    assert result.set_verified == verify
    if verify:
        assert result.eigenvalues == pytest.approx([2, 2, 3, 3], abs=1e-8)


def test_verification_of_outliers_costs_few_products():
    reference = zoo.outliers(3466)
    cost = {verify: eigsh(reference.operator(), 10, verify=verify, rng=0).num_products for verify in (False, True)}
    assert cost[True] - cost[False] <= 25
    assert cost[True] <= 60


@pytest.mark.parametrize("value", [1.0, -3.0, 0.0])
def test_a_multiple_of_the_identity_is_exact_for_every_seed(value):
    for seed in range(20):
        result = eigsh(operator_of(lambda v: value * v, 300), 6, rng=seed)
        assert result.eigenvalues == pytest.approx([value] * 6, abs=1e-14)
        assert result.set_verified
        assert result.num_products <= 20


def test_a_trapped_start_vector_does_not_hide_the_other_block():
    n = 400
    d = np.concatenate([np.linspace(1, 2, n // 2), np.linspace(3, 4, n // 2)])
    v0 = np.concatenate([np.ones(n // 2), np.zeros(n // 2)])
    result = eigsh(np.diag(d), 3, v0=v0, rng=0)
    check(result, zoo.Reference("blocks", lambda x: (d * x.T).T, d), 3, "LA", 1e-8, 2.0**-52)

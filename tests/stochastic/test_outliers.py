"""Densities with known eigenpairs deflated: exact weights, nodes for the rest alone, and an error for what is inexact.

The checkers know the spectrum; perturbations are compared with dense eigenvalues of both operators.
"""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg

from krylovh import Status, eigsh, spectral_density
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.stochastic.outliers import perturbation_bound
from krylovh.stochastic.probes import probe_block
from zoo import diagonal, outliers

FAR = np.array([-30.0, 10.0, 50.0, 100.0])  # outside of any bulk here


def pairs_of(A, values):
    """Return an EigenResult with exact pairs of a dense matrix, those next to the given values."""
    all_values, vectors = np.linalg.eigh(A)
    chosen = np.unique([int(np.abs(all_values - value).argmin()) for value in values])
    template = eigsh(np.diag([1.0, 2.0]), 1, rng=0)
    return replace(
        template,
        eigenvalues=all_values[chosen],
        eigenvectors=vectors[:, chosen],
        residual_norms=np.zeros(chosen.size),
        converged=np.ones(chosen.size, dtype=bool),
    )


def with_bulk(bulk):
    return diagonal(np.concatenate([bulk, FAR])).matrix()


BULKS = {
    "far from zero": np.linspace(1, 2, 146),
    "with a gap": np.concatenate([np.linspace(1, 1.2, 73), np.linspace(2.8, 3, 73)]),
    "around zero": np.linspace(-1, 1, 146),
}


@pytest.mark.parametrize("mode", ["partial", "full", "none"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bulk", BULKS.values(), ids=BULKS.keys())
def test_nodes_go_to_the_rest_and_masses_add_up_to_one(bulk, dtype, mode):
    A = with_bulk(bulk)
    known = pairs_of(A, FAR)
    result = spectral_density(A.astype(dtype), num_probes=3, num_steps=90, rng=0, outliers=known, reorthogonalize=mode)
    assert result.status is Status.CONVERGED
    eps = np.finfo(dtype).eps
    margin = 2000 * eps * 100
    assert bulk.min() - margin <= np.nanmin(result.nodes) <= np.nanmax(result.nodes) <= bulk.max() + margin
    np.testing.assert_allclose(np.nansum(result.weights, axis=1), 146 / 150, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(result.outliers, known.eigenvalues)
    assert result.outlier_error <= 1000 * eps * 100
    np.testing.assert_allclose(result.cumulative([-31, -29, 9, 11, 51, 101]) * 150, [0, 1, 147, 148, 149, 150])
    assert result.num_products == 4 + np.count_nonzero(np.isfinite(result.nodes))


@pytest.mark.parametrize("mode", ["partial", "none"])
def test_nodes_are_those_of_the_operator_on_the_complement(mode):
    """Moments of ``Z'AZ``, Z a basis of the complement, seen from the probe there."""
    A = with_bulk(BULKS["around zero"])
    known = pairs_of(A, FAR)
    result = spectral_density(A, num_probes=1, num_steps=10, rng=5, outliers=known, reorthogonalize=mode)
    v = probe_block(150, 0, 1, seed=5, purpose="density", distribution="sphere")[:, 0]
    Z = scipy.linalg.null_space(known.eigenvectors.T)
    B, power = Z.T @ A @ Z, Z.T @ v
    power /= np.linalg.norm(power)
    start = power.copy()
    for k in range(20):
        assert result.weights[0] @ result.nodes[0] ** k * 150 / 146 == pytest.approx(start @ power, abs=1e-11)
        power = B @ power


def test_fewer_steps_resolve_more_of_the_bulk():
    reference = outliers(300)
    A = reference.operator()
    known = eigsh(A, 10, rng=0)
    assert known.converged.all()
    bulk = reference.eigenvalues[:-10]
    plain = spectral_density(A, num_probes=4, num_steps=15, rng=0)
    deflated = spectral_density(A, num_probes=4, num_steps=15, rng=0, outliers=known)
    assert deflated.wasserstein_bound() < 0.5 * plain.wasserstein_bound()
    assert np.nanmax(deflated.nodes) < bulk.max() + 1e-6


def covers(result, spectrum):
    grid = np.concatenate([spectrum, np.nextafter(spectrum, -np.inf), result.grid(300)])
    exact = np.searchsorted(spectrum, grid, side="right") / len(spectrum)
    lower, upper = result.band(grid)
    return bool(((lower <= exact + 1e-12) & (exact <= upper + 1e-12)).all())


@pytest.mark.parametrize("error", [0.0, 1e-3, 1e-1])
def test_the_band_covers_with_exact_and_with_inexact_pairs(error):
    A = with_bulk(BULKS["around zero"])
    spectrum, hits = np.linalg.eigvalsh(A), []
    exact_pairs = pairs_of(A, FAR)
    for seed in range(60):
        known = exact_pairs
        noise = np.random.default_rng(seed).standard_normal(known.eigenvectors.shape)
        X = np.linalg.qr(known.eigenvectors + error / np.sqrt(150) * noise)[0]
        values = np.einsum("nk,nk->k", X, A @ X) + error
        inexact = replace(known, eigenvectors=X, eigenvalues=values)
        result = spectral_density(A, num_probes=3, num_steps=60, rng=seed, outliers=inexact)
        hits.append(covers(result, spectrum))
        if error:
            assert result.outlier_error >= error / 2
    assert np.mean(hits) >= 0.95


@pytest.mark.parametrize("error", [1e-8, 1e-3, 0.3])
def test_no_eigenvalue_moves_by_more_than_the_bound(error):
    A = with_bulk(BULKS["with a gap"])
    exact = np.linalg.eigvalsh(A)
    tightness = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        known = pairs_of(A, FAR)
        X = np.linalg.qr(known.eigenvectors + error * rng.standard_normal((150, 4)) / np.sqrt(150))[0]
        values = known.eigenvalues + error * rng.uniform(-1, 1, 4)
        P = np.eye(150) - X @ X.T
        B = X * values @ X.T + P @ A @ P
        bound = perturbation_bound(SymmetricOperator(A), values, X, block_size=3)
        moved = np.abs(np.linalg.eigvalsh((B + B.T) / 2) - exact).max()
        norm = np.linalg.norm(A - B, 2)
        assert moved <= norm * (1 + 1e-6) <= bound * (1 + 2e-6)
        tightness.append(bound / norm)
    assert np.mean(tightness) < 1.3


def test_outliers_of_another_operator_make_the_error_large():
    A = with_bulk(BULKS["around zero"])
    other = pairs_of(diagonal(np.concatenate([BULKS["around zero"], FAR]), seed=9).matrix(), FAR)
    result = spectral_density(A, num_probes=2, num_steps=20, rng=0, outliers=other)
    assert result.outlier_error > 10
    assert covers(result, np.linalg.eigvalsh(A))


@pytest.mark.parametrize("power", [-300, 1, 300])
def test_powers_of_two_scale_exactly(power):
    A = with_bulk(BULKS["around zero"])
    known = pairs_of(A, FAR)
    scaled = replace(known, eigenvalues=np.ldexp(known.eigenvalues, power))
    a = spectral_density(A, num_probes=3, num_steps=20, rng=1, outliers=known)
    b = spectral_density(np.ldexp(A, power), num_probes=3, num_steps=20, rng=1, outliers=scaled)
    np.testing.assert_array_equal(b.nodes, np.ldexp(a.nodes, power))
    np.testing.assert_array_equal(b.weights, a.weights)
    assert b.outlier_error == np.ldexp(a.outlier_error, power)
    assert a.num_products == b.num_products == 64


def test_a_complement_of_few_dimensions_is_seen_exactly():
    """Order 6, four outliers: the rest is a plane, and every rule is exact after two steps."""
    A = diagonal(np.concatenate([[1.0, 2.0], FAR])).matrix()
    result = spectral_density(A, num_probes=3, rng=0, outliers=pairs_of(A, FAR))
    assert result.exact.all()
    np.testing.assert_allclose(result.nodes, [[1.0, 2.0]] * 3, rtol=0, atol=1e-12)
    assert result.num_products == 4 + 6


def test_the_products_of_the_residuals_are_within_the_budget():
    A = with_bulk(BULKS["around zero"])
    known = pairs_of(A, FAR)
    result = spectral_density(A, num_probes=3, num_steps=9, rng=0, outliers=known, max_products=25)
    assert result.num_products == 4 + 3 * 7
    assert result.status is Status.BUDGET
    result = spectral_density(A, num_probes=3, num_steps=9, rng=0, outliers=known, max_products=3)
    assert (result.num_products, result.num_probes, result.status) == (0, 0, Status.BUDGET)
    assert result.outlier_error == np.inf


def test_arguments_are_not_written_and_misuse_is_named():
    A = with_bulk(BULKS["around zero"])
    known = pairs_of(A, FAR)
    before = known.eigenvectors.copy()
    spectral_density(A, num_probes=2, num_steps=5, rng=0, outliers=known)
    np.testing.assert_array_equal(known.eigenvectors, before)
    with pytest.raises(TypeError, match="outliers must be an EigenResult, got ndarray"):
        spectral_density(A, outliers=known.eigenvectors)
    with pytest.raises(ValueError, match=r"eigenvectors of shape \(20, k\) with k < 20, got \(150, 4\)"):
        spectral_density(np.eye(20), outliers=known)
    with pytest.raises(ValueError, match="orthonormal"):
        spectral_density(A, outliers=replace(known, eigenvectors=2 * known.eigenvectors))
    with pytest.raises(ValueError, match=r"num_steps must be in \[1, 146\], got 147"):
        spectral_density(A, outliers=known, num_steps=147)
    everything = pairs_of(np.diag([1.0, 2.0, 3.0]), [1, 2, 3])
    with pytest.raises(ValueError, match="k < 3"):
        spectral_density(np.diag([1.0, 2.0, 3.0]), outliers=everything)


def test_no_outliers_are_no_difference():
    A = with_bulk(BULKS["around zero"])
    none = replace(pairs_of(A, FAR), eigenvalues=np.empty(0), eigenvectors=np.empty((150, 0)))
    a, b = spectral_density(A, num_steps=9, rng=0), spectral_density(A, num_steps=9, rng=0, outliers=none)
    np.testing.assert_array_equal(a.nodes, b.nodes)
    assert b.outliers.size == b.outlier_error == 0

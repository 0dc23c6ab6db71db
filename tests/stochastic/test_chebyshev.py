"""Kernel polynomial method: right moments, verified bounds, densities that are densities.

The checkers know eigenvalues and probes; moments come from the angles ``cos(k arccos x)``, not from a recurrence.
"""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from scipy.stats import semicircular

from krylovh import Status, kernel_polynomial_density, spectral_density
from krylovh.results.chebyshev import jackson_coefficients
from krylovh.stochastic import chebyshev
from krylovh.stochastic.probes import probe_block
from zoo import goe, laplacian, zoo


def probes(n, count, seed):
    return probe_block(n, 0, count, seed=seed, purpose="density", distribution="sphere")


def moments_of(values, weights, bounds, count):
    """Return ``sum_i w_i T_k(x_i)``, k = 0 ... count - 1; weights (..., n)."""
    low, high = bounds
    angles = np.arccos(np.clip((2 * values - high - low) / (high - low), -1, 1))
    return np.asarray(weights) @ np.cos(np.outer(angles, np.arange(count)))


SPECTRA = {
    "uniform": np.linspace(-1, 1, 150),
    "outliers": np.concatenate([np.linspace(0, 0.1, 140), np.linspace(1, 12, 10)]),
    "two values": np.repeat([1.0, 3.0], 75),
    "identity": np.full(150, -2.0),
    "zero": np.zeros(150),
    "one": np.array([7.0]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SPECTRA)
def test_moments_are_those_of_the_measure_of_each_probe(name, dtype):
    spectrum = SPECTRA[name]
    result = kernel_polynomial_density(np.diag(spectrum).astype(dtype), num_probes=4, num_steps=40, rng=3)
    assert result.status is Status.CONVERGED
    assert result.bounds[0] < spectrum.min() <= spectrum.max() < result.bounds[1]
    exact = moments_of(spectrum, probes(len(spectrum), 4, 3).T ** 2, result.bounds, 81)
    condition = max(1, 2 * np.abs(result.bounds).max() / (result.bounds[1] - result.bounds[0]))
    tolerance = 10 * (np.arange(81) + 1) ** 2 * condition * np.finfo(dtype).eps
    assert (np.abs(result.moments - exact) <= tolerance).all()
    assert result.num_products == 4 * 40 + min(len(np.unique(spectrum)), 20)


def test_moments_of_the_laplacian_and_of_the_semicircle_are_those_in_closed_form():
    """Traces of ``T_k``: on the Laplacian -1 (k even) and 0 (k odd); -1/2 for k = 2 on a semicircle, 0 otherwise."""
    n, k = 400, np.arange(61)
    result = kernel_polynomial_density(laplacian(n).operator(), num_probes=40, num_steps=30, bounds=(0, 4), rng=1)
    closed = np.where(k == 0, 1.0, np.where(k % 2 == 0, -1 / n, 0.0))
    error = result.moments.std(axis=0, ddof=1) / np.sqrt(40)
    assert (np.abs(result.moments.mean(axis=0) - closed) <= 4 * error + 1e-12).all()
    reference = goe(n)
    result = kernel_polynomial_density(reference.operator(), num_probes=40, num_steps=30, bounds=(-2.2, 2.2), rng=1)
    grid = np.linspace(-1.8, 1.8, 50)
    np.testing.assert_allclose(result.density(grid), semicircular.pdf(grid, scale=2), atol=0.03)
    np.testing.assert_allclose(result.cumulative(grid), semicircular.cdf(grid, scale=2), atol=0.01)


@pytest.mark.parametrize("reference", list(zoo(64)), ids=lambda reference: reference.name)
def test_a_density_is_nonnegative_and_integrates_to_one(reference):
    result = kernel_polynomial_density(reference.operator(), num_probes=3, num_steps=30, rng=0)
    low, high = result.bounds
    assert low < reference.eigenvalues[0]
    assert reference.eigenvalues[-1] < high
    for num_points in (100, 1000):
        grid = result.grid(num_points)
        density = result.density(grid)
        assert (density >= 0).all()
        weights = np.pi / num_points * np.sqrt((high - grid) * (grid - low))
        assert weights @ density == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(result.cumulative([low - 1, low, high, high + 1]), [0, 0, 1, 1], rtol=0, atol=1e-14)
    np.testing.assert_array_equal(result.density([low - 1, high + 1]), 0)


def test_the_series_without_damping_would_be_negative():
    """So that the test above can fail: it is Jackson's kernel that makes the density nonnegative."""
    angles = np.linspace(0, np.pi, 1000)
    kernel = jackson_coefficients(40)
    kernel[1:] *= 2
    waves = np.cos(np.outer(angles, np.arange(40)))
    assert (waves @ kernel).min() >= -1e-12
    assert waves.sum(axis=1).min() < -0.1
    width = np.sqrt(1 - jackson_coefficients(40)[1] ** 2)  # of the peak at x = 0, in the angle
    assert width == pytest.approx(np.pi / 41, rel=0.01)


def test_the_cumulative_share_is_the_integral_of_the_density():
    result = kernel_polynomial_density(np.diag(SPECTRA["outliers"]), num_probes=3, num_steps=25, rng=0)
    low, high = result.bounds
    angles = np.linspace(np.pi, 0, 200_001)
    grid = (low + high) / 2 + (high - low) / 2 * np.cos(angles)
    integrand = result.density(grid) * (high - low) / 2 * np.sin(angles)
    steps = (integrand[1:] + integrand[:-1]) / 2 * -np.diff(angles)
    expected = np.concatenate([[0], np.cumsum(steps)])[::1000]
    np.testing.assert_allclose(result.cumulative(grid[::1000]), expected, rtol=0, atol=1e-3)
    assert (np.diff(result.cumulative(grid)) >= -1e-14).all()


def test_moments_agree_with_those_of_lanczos_quadrature():
    """Two methods that share nothing but products and probes."""
    A = np.diag(SPECTRA["outliers"])
    polynomials = kernel_polynomial_density(A, num_probes=5, num_steps=20, rng=8)
    lanczos = spectral_density(A, num_probes=5, num_steps=21, rng=8)
    for i in range(5):
        expected = moments_of(lanczos.nodes[i], lanczos.weights[i], polynomials.bounds, 41)
        np.testing.assert_allclose(polynomials.moments[i], expected, rtol=0, atol=1e-11)


def test_errors_over_probes_are_right():
    """Bias within four standard errors, and errors that are those of repeated runs."""
    spectrum, grid = SPECTRA["outliers"], np.array([0.05, 0.5, 6.0])
    results = [
        kernel_polynomial_density(np.diag(spectrum), num_probes=5, num_steps=20, bounds=(-0.5, 13), rng=seed)
        for seed in range(200)
    ]
    exact = moments_of(spectrum, np.full(150, 1 / 150), (-0.5, 13.0), 41)
    for read, error in (("density", "density_error"), ("cumulative", "cumulative_error")):
        values = np.array([getattr(result, read)(grid) for result in results])
        deviation = values.std(axis=0, ddof=1)
        type_of = type(results[0])
        truth = getattr(type_of(exact[None], (-0.5, 13.0), 150, 0, 0, Status.CONVERGED), read)(grid)
        assert (np.abs(values.mean(axis=0) - truth) <= 4 * deviation / np.sqrt(200)).all()
        mean_error = np.sqrt(np.mean([getattr(result, error)(grid) ** 2 for result in results], axis=0))
        np.testing.assert_allclose(mean_error, deviation, rtol=0.2)  # four times 1 / sqrt(2 * 200)


@pytest.mark.parametrize("bounds", [(0.0, 4.0), (-1.0, 11.9), (0.05, 13.0)])
def test_bounds_that_do_not_hold_the_spectrum_are_refuted(bounds):
    with pytest.raises(ValueError, match="bounds must contain the spectrum"):
        kernel_polynomial_density(np.diag(SPECTRA["outliers"]), num_probes=5, num_steps=90, bounds=bounds, rng=0)


def test_estimated_bounds_that_do_not_hold_are_widened(monkeypatch):
    A = np.diag(SPECTRA["outliers"])
    right = chebyshev._lanczos_bounds
    monkeypatch.setattr(chebyshev, "_lanczos_bounds", lambda *args: ((0.01, 0.6), right(*args)[1]))
    result = kernel_polynomial_density(A, num_probes=3, num_steps=30, rng=0)
    assert result.status is Status.CONVERGED
    assert result.bounds[0] < 0
    assert result.bounds[1] > 12
    assert result.num_products > 20 + 90
    expected = moments_of(SPECTRA["outliers"], probes(150, 3, 0).T ** 2, result.bounds, 61)
    np.testing.assert_allclose(result.moments, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("power", [-980, -300, 1, 53, 980])
def test_powers_of_two_scale_bounds_exactly_and_change_no_moment(power):
    A = np.diag(SPECTRA["outliers"])
    for bounds in (None, (-1.0, 13.0)):
        scaled = None if bounds is None else tuple(np.ldexp(bounds, power))
        a = kernel_polynomial_density(A, num_probes=3, num_steps=20, rng=1, bounds=bounds)
        b = kernel_polynomial_density(np.ldexp(A, power), num_probes=3, num_steps=20, rng=1, bounds=scaled)
        np.testing.assert_array_equal(b.bounds, np.ldexp(a.bounds, power))
        np.testing.assert_array_equal(b.moments, a.moments)
        assert a.num_products == b.num_products


def test_the_block_size_does_not_matter():
    A = np.diag(SPECTRA["uniform"])
    whole = kernel_polynomial_density(A, num_probes=5, num_steps=15, rng=5)
    for size in (1, 2, 9):
        part = kernel_polynomial_density(A, num_probes=5, num_steps=15, rng=5, block_size=size)
        np.testing.assert_allclose(part.moments, whole.moments, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("max_products", "shape", "steps"), [(1000, 4, 15), (80, 4, 15), (79, 4, 14), (23, 3, 1), (20, 0, 0), (5, 0, 0)]
)
def test_a_budget_of_products_is_kept(max_products, shape, steps):
    A = np.diag(SPECTRA["uniform"])
    result = kernel_polynomial_density(A, num_probes=4, num_steps=15, rng=0, max_products=max_products)
    assert result.num_products <= max_products
    assert result.status is (Status.CONVERGED if steps == 15 else Status.BUDGET)
    assert result.moments.shape == (shape, 31)
    assert (np.isfinite(result.moments).sum(axis=1) == 2 * steps + 1).all()
    if shape == 0:
        with pytest.raises(ValueError, match=r"no probe .status budget"):
            result.density([0.0])


@pytest.mark.parametrize(("failure", "status"), [(KeyboardInterrupt(), Status.INTERRUPTED), (np.nan, Status.NONFINITE)])
def test_finished_moments_are_kept(failure, status):
    calls, spectrum = [], SPECTRA["uniform"]

    def matmat(V):
        calls.append(V.shape[1])
        if len(calls) == 9:
            if isinstance(failure, BaseException):
                raise failure
            return np.full_like(V, failure)
        return spectrum[:, None] * V

    A = LinearOperator((150, 150), matvec=lambda v: spectrum * v, matmat=matmat, dtype=np.float64)
    result = kernel_polynomial_density(A, num_probes=4, num_steps=6, bounds=(-1.1, 1.1), block_size=2, rng=0)
    assert result.status is status
    np.testing.assert_array_equal(np.isfinite(result.moments).sum(axis=1), [13, 13, 5, 5])
    expected = moments_of(spectrum, probes(150, 4, 0).T ** 2, result.bounds, 13)
    kept = np.isfinite(result.moments)
    np.testing.assert_allclose(result.moments[kept], expected[kept], rtol=0, atol=1e-12)
    assert (result.density(result.grid(50)) >= 0).all()


def test_products_without_a_spectrum_stagnate():
    """Noise as large as the operator: whatever the interval, polynomials grow."""
    rng = np.random.default_rng(0)
    noisy = LinearOperator((50, 50), matvec=lambda v: 1e6 * rng.standard_normal(50), dtype=np.float64)
    with pytest.raises(ValueError, match="symmetric"):
        kernel_polynomial_density(LinearOperator((9, 9), matvec=np.triu(np.ones((9, 9))).dot, dtype=float), rng=0)
    result = kernel_polynomial_density(noisy, num_probes=1, num_steps=2000, rng=0)
    assert result.status is Status.STAGNATED
    assert result.num_probes == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_probes": 0}, ValueError, "num_probes must be at least 1, got 0"),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1, got 0"),
        ({"num_steps": 2.0}, TypeError, "num_steps must be an integer"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1, got 0"),
        ({"bounds": (1.0, 1.0)}, ValueError, r"bounds must be a pair of finite numbers.*got \(1.0, 1.0\)"),
        ({"bounds": (0.0, np.inf)}, ValueError, "bounds must be a pair of finite numbers"),
        ({"bounds": (0.0, 1.0, 2.0)}, ValueError, "bounds must be a pair of finite numbers"),
        ({"max_products": 1.5}, TypeError, "max_products must be an integer"),
        ({"rng": "0"}, ValueError, "rng must be"),
    ],
)
def test_arguments_out_of_range_are_named(options, error, message):
    with pytest.raises(error, match=message):
        kernel_polynomial_density(np.eye(5), **options)
    with pytest.raises(ValueError, match="at least one row"):
        kernel_polynomial_density(np.zeros((0, 0)))


def test_a_single_probe_has_no_error():
    result = kernel_polynomial_density(np.diag([1.0, 2.0, 5.0]), num_probes=1, num_steps=5, rng=0)
    assert np.isnan(result.density_error([2.0])).all()
    assert np.isnan(result.cumulative_error([2.0])).all()
    assert result.resolution == pytest.approx(np.pi * (result.bounds[1] - result.bounds[0]) / 2 / 11)

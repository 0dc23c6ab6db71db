"""Stochastic Lanczos quadrature: right moments, right masses, a band that covers, and honest endings.

The checkers know the eigenvalues and the probe vectors and share nothing else with the library: the measure seen from
a probe is computed from its squared components, moments in extended precision.
"""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from scipy.stats import wasserstein_distance

from krylovh import HessianOperator, Objective, Status, eigsh, hessian_matrix, spectral_density
from krylovh.cli.demo import digits_objective
from krylovh.krylov.lockstep import LockstepLanczos
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.stochastic import density as density_chapter
from krylovh.stochastic.probes import probe_block


def probe(n, i, seed):
    return probe_block(n, i, 1, seed=seed, purpose="density", distribution="sphere")[:, 0]


def measure(spectrum, v, grid):
    """Return the measure of a diagonal operator seen from v, cumulated up to each point."""
    order = np.argsort(spectrum)
    return np.concatenate([[0.0], np.cumsum(v[order] ** 2)])[np.searchsorted(spectrum[order], grid, side="right")]


def strakos(rho, n=24, low=0.1, high=100.0):
    i = np.arange(1, n + 1)
    return low + (i - 1) / (n - 1) * (high - low) * rho ** (n - i)


def reflected(spectrum, dtype=np.float64):
    """Return a dense matrix with this spectrum in which nothing is diagonal: three Householder reflections."""
    A = np.diag(spectrum)
    for seed in range(3):
        u = np.random.default_rng(seed).standard_normal(len(spectrum))
        H = np.eye(len(spectrum)) - 2 * np.outer(u, u) / (u @ u)
        A = H @ A @ H
    return ((A + A.T) / 2).astype(dtype)


def trained_net(n, rng):
    """A spectrum like that of a trained net: a third zeros, a bulk over four decades of both signs, outliers."""
    bulk = rng.standard_normal(n - n // 3 - 10) * 10 ** rng.uniform(-6, -2, n - n // 3 - 10)
    return np.concatenate([np.zeros(n // 3), bulk, np.linspace(1, 12, 10)])


def wishart(n, samples, rng):
    X = rng.standard_normal((samples, n))
    return np.linalg.eigvalsh(X.T @ X / samples)


RNG = np.random.default_rng(11)
SPECTRA = {
    "uniform": np.linspace(-1, 1, 150),
    "wishart": wishart(150, 200, RNG),
    "five values": np.repeat([-1.0, 0.0, 1.0, 3.0, 10.0], 30),
    "trained net": trained_net(150, RNG),
    "strakos": strakos(0.9, n=150),
    "identity": np.full(20, 2.0),
    "outlier": np.concatenate([np.zeros(49), [1.0]]),
}


@pytest.mark.parametrize("m", [1, 2, 5, 10])
def test_a_rule_of_m_nodes_has_the_first_2m_moments_of_its_probe(m):
    rng = np.random.default_rng(0)
    G = rng.standard_normal((60, 60))
    A = (G + G.T) / np.sqrt(60)
    norm = np.linalg.norm(A, 2)
    result = spectral_density(A, num_probes=4, num_steps=m, rng=9)
    exact = A.astype(np.longdouble)
    for i in range(4):
        v = probe(60, i, 9).astype(np.longdouble)
        power = v.copy()
        for k in range(2 * m):
            moment = float(v @ power) / norm**k
            assert np.sum(result.weights[i] * (result.nodes[i] / norm) ** k) == pytest.approx(moment, abs=1e-12)
            power = exact @ power


@pytest.mark.parametrize("f", [np.log, np.exp, lambda x: 1 / (x + 0.1)], ids=["log", "exp", "inverse"])
def test_at_full_depth_a_function_of_the_operator_is_exact_per_probe(f):
    A = reflected(np.linspace(0.5, 3, 40))
    values, vectors = np.linalg.eigh(A)
    result = spectral_density(A, num_probes=3, num_steps=40, rng=1)
    assert result.exact.all()
    for i in range(3):
        expected = f(values) @ (vectors.T @ probe(40, i, 1)) ** 2
        assert result.weights[i] @ f(result.nodes[i]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("spectrum", "distinct"),
    [
        (np.repeat([1.0, 3.0], 25), [1.0, 3.0]),
        (np.full(50, -2.0), [-2.0]),
        (np.zeros(50), [0.0]),
        (np.concatenate([np.zeros(49), [1.0]]), [0.0, 1.0]),
        (np.array([5.0]), [5.0]),
        (np.array([-1.0, 4.0]), [-1.0, 4.0]),
        (np.array([0.0, 0.0, 2.0]), [0.0, 2.0]),
    ],
    ids=["two values", "identity", "zero", "rank one", "order 1", "order 2", "order 3"],
)
def test_an_invariant_space_ends_a_probe_with_the_exact_rule(spectrum, distinct, dtype):
    n, d = len(spectrum), len(distinct)
    result = spectral_density(reflected(spectrum, dtype), num_probes=5, rng=0)
    eps = np.finfo(dtype).eps
    assert result.status is Status.CONVERGED
    assert result.exact.all()
    assert result.nodes.shape == (5, min(n, 90))
    assert result.num_products == 5 * d
    assert np.isnan(result.nodes[:, d:]).all()
    assert np.isnan(result.weights[:, d:]).all()
    np.testing.assert_allclose(result.nodes[:, :d], np.tile(distinct, (5, 1)), rtol=0, atol=50 * eps * 5)
    expected = spectrum[:, None] == np.array(distinct)
    if n <= 3 or d == 1:  # otherwise the probe is not diagonal in the eigenbasis
        np.testing.assert_allclose(np.nansum(result.weights, axis=1), 1.0, rtol=1e-14)
    share = expected.mean(axis=0)
    deviation = np.sqrt(2 * share * (1 - share) / ((n + 2) * 5))
    assert (np.abs(result.weights[:, :d].mean(axis=0) - share) <= 4 * deviation + 1e-12).all()


@pytest.mark.parametrize("mode", ["partial", "none"])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_measure_of_a_probe_lies_between_the_bounds_of_its_rule(name, mode):
    """The band without its part for sampling (an operator of infinite order has none) is a theorem, not a guess."""
    spectrum = SPECTRA[name]
    n, radius = len(spectrum), np.abs(spectrum).max()
    for m in (1, 2, 3, 10, 30, min(90, n)):
        for seed in range(3):
            result = spectral_density(
                np.diag(spectrum), num_probes=1, num_steps=min(m, n), rng=seed, reorthogonalize=mode
            )
            nodes = result.nodes[~np.isnan(result.nodes)]
            grid = np.concatenate([spectrum, np.nextafter(spectrum, -np.inf), nodes, np.linspace(-1, 1, 301) * radius])
            exact = measure(spectrum, probe(n, 0, seed), grid)
            lower, upper = replace(result, dimension=10**40).band(grid)
            assert (lower <= exact + 1e-11).all()
            assert (exact <= upper + 1e-11).all()


def covers(result, spectrum, confidence):
    """Return whether the band holds the whole exact curve: at every jump, just before it, and between."""
    grid = np.concatenate([spectrum, np.nextafter(spectrum, -np.inf), result.grid(300)])
    exact = np.searchsorted(spectrum, grid, side="right") / len(spectrum)
    lower, upper = result.band(grid, confidence=confidence)
    return bool(((lower <= exact + 1e-12) & (exact <= upper + 1e-12)).all())


@pytest.mark.parametrize("name", ["wishart", "five values", "trained net", "outlier"])
@pytest.mark.parametrize("mode", ["partial", "none"])
def test_the_band_covers_the_whole_cumulative_spectrum(name, mode):
    spectrum = np.sort(SPECTRA[name])
    hits = [
        covers(
            spectral_density(np.diag(spectrum), num_probes=4, num_steps=15, rng=seed, reorthogonalize=mode),
            spectrum,
            0.95,
        )
        for seed in range(200)
    ]
    assert np.mean(hits) >= 0.95


def test_the_band_covers_as_announced_when_only_sampling_is_left():
    """At full depth the rules are exact, and the band is that of the Kolmogorov law alone: not too wide either."""
    spectrum = np.linspace(-1, 1, 60)
    results = [spectral_density(np.diag(spectrum), num_probes=2, num_steps=60, rng=seed) for seed in range(300)]
    assert 0.94 <= np.mean([covers(result, spectrum, 0.95) for result in results]) < 1.0
    assert 0.5 <= np.mean([covers(result, spectrum, 0.5) for result in results]) <= 0.75


def test_the_band_of_a_float32_operator_covers_its_float64_spectrum():
    A = reflected(SPECTRA["trained net"], np.float32)
    spectrum = np.linalg.eigvalsh(A.astype(np.float64))
    hits = [covers(spectral_density(A, num_probes=4, num_steps=40, rng=seed), spectrum, 0.95) for seed in range(40)]
    assert np.mean(hits) >= 0.95


def test_float32_products_are_accumulated_in_float64():
    spectrum = SPECTRA["wishart"]
    fine = spectral_density(reflected(spectrum), num_probes=2, num_steps=10, rng=0)
    coarse = spectral_density(reflected(spectrum, np.float32), num_probes=2, num_steps=10, rng=0)
    assert coarse.nodes.dtype == coarse.weights.dtype == np.float64
    assert coarse.accuracy == pytest.approx(60 * np.finfo(np.float32).eps, rel=1e-3)
    np.testing.assert_allclose(coarse.weights.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(coarse.nodes, fine.nodes, rtol=0, atol=1e-5)


def test_copies_without_reorthogonalisation_share_the_weight_of_their_eigenvalue():
    """Each eigenvalue of Strakos' spectrum ten times, 90 steps: plain Lanczos finds the largest several times."""
    distinct = strakos(0.65)
    spectrum = np.repeat(distinct, 10)
    full = spectral_density(np.diag(spectrum), num_probes=2, rng=4)
    plain = spectral_density(np.diag(spectrum), num_probes=2, rng=4, reorthogonalize="none")
    for i in range(2):
        weights = probe(240, i, 4) ** 2
        copies = plain.nodes[i] > 99.9
        assert np.count_nonzero(copies) > 2
        assert plain.weights[i, copies].sum() == pytest.approx(weights[-10:].sum(), abs=1e-10)
        for result in (full, plain):
            kept = ~np.isnan(result.nodes[i])
            distance = wasserstein_distance(result.nodes[i, kept], spectrum, result.weights[i, kept], weights)
            assert distance <= 1e-10 * 100


def test_without_reorthogonalisation_memory_does_not_depend_on_the_steps():
    """Two vectors per probe are kept and one is made; a product's argument and the operator's result come on top."""
    n, b, peaks = 200_000, 4, []
    spectrum = np.linspace(0, 1, n)

    def matmat(V):
        return (spectrum * V.T).T

    A = LinearOperator((n, n), matvec=lambda v: spectrum * v, matmat=matmat, dtype=np.float64)
    for num_steps in (5, 40):
        tracemalloc.start()
        spectral_density(A, num_probes=b, num_steps=num_steps, rng=0, reorthogonalize="none")
        peaks.append(tracemalloc.get_traced_memory()[1] / (8 * n * b))
        tracemalloc.stop()
    assert max(peaks) <= 5.1
    assert abs(peaks[1] - peaks[0]) <= 0.1
    held = LockstepLanczos(
        SymmetricOperator(A), probe_block(n, 0, b, seed=0, purpose="density"), 40, reorthogonalize=False
    )
    assert held._basis.nbytes == 2 * 8 * n * b


@pytest.mark.parametrize("rho", [0.65, 0.8, 0.9])
def test_copies_leave_the_wasserstein_distance_within_its_bound(rho):
    """Strakos' spectra with plain Lanczos, and with semiorthogonal bases: the distance is that of the probes."""
    spectrum = np.repeat(strakos(rho), 8)
    for mode in ("none", "partial"):
        within = []
        for seed in range(30):
            result = spectral_density(np.diag(spectrum), num_probes=3, num_steps=60, rng=seed, reorthogonalize=mode)
            kept = ~np.isnan(result.nodes)
            distance = wasserstein_distance(result.nodes[kept], spectrum, result.weights[kept])
            within.append(distance <= result.wasserstein_bound())
            assert distance <= 0.1 * np.ptp(spectrum)
        assert np.mean(within) >= 0.95


@pytest.mark.parametrize(("name", "slack"), [("wishart", 12), ("uniform", 12), ("trained net", 60)])
@pytest.mark.parametrize("num_steps", [4, 40])
def test_the_wasserstein_distance_is_within_its_bound_and_not_far_below(name, slack, num_steps):
    spectrum = np.sort(SPECTRA[name])
    bounds, distances = [], []
    for seed in range(40):
        result = spectral_density(np.diag(spectrum), num_probes=4, num_steps=num_steps, rng=seed)
        bounds.append(result.wasserstein_bound(bounds=(spectrum[0], spectrum[-1])))
        distances.append(wasserstein_distance(result.nodes.ravel(), spectrum, result.weights.ravel()))
        assert result.wasserstein_bound(bounds=(spectrum[0], spectrum[-1]), sampling="guaranteed") >= bounds[-1]
    assert np.mean(np.array(distances) <= bounds) >= 0.95
    assert np.median(bounds) <= slack * np.median(distances)


def test_the_bound_of_exact_rules_is_that_of_sampling_alone():
    """At full depth the integral of a constant: the margin times the width."""
    spectrum = np.linspace(-1, 1, 60)
    result = spectral_density(np.diag(spectrum), num_probes=2, num_steps=60, rng=0)
    assert result.exact.all()
    margin = np.sqrt(np.log(2 * 60 / 0.1) / (62 * 2))
    lower, upper = result.band([0.01], confidence=0.9, sampling="guaranteed")
    assert upper[0] - lower[0] == pytest.approx(2 * margin, abs=1e-12)
    bound = result.wasserstein_bound(confidence=0.9, sampling="guaranteed")
    assert bound == pytest.approx(2 * margin, rel=1e-9)


def test_the_mass_at_zero_of_an_underdetermined_regression():
    """``X'X/N`` of rank 40 and order 100: mass 0.6 at zero, with the standard deviation of the Beta law.

    Also with more steps than there are distinct eigenvalues, when rounding brings in nodes without weight.
    """
    X = np.random.default_rng(3).standard_normal((40, 100))
    for num_steps in (41, 60):
        result = spectral_density(X.T @ X / 40, num_probes=10, num_steps=num_steps, rng=2)
        zero = result.cumulative(1e-10) - result.cumulative(-1e-10)
        assert abs(zero - 0.6) <= 3 * np.sqrt(2 * 0.6 * 0.4 / (102 * 10))
        lower, upper = result.band([-1e-10, 1e-10])
        assert lower[0] == 0 <= upper[0]
        assert lower[1] <= 0.6 <= upper[1]


def test_steps_and_probes_for_a_given_wasserstein_distance():
    """Chen, Trogdon and Ubaru (2021): depth 12/t + 1/2 and 4 log(2n/eta) / ((n+2) t^2) probes do for distance t."""
    spectrum, t, eta = np.sort(SPECTRA["wishart"]), 0.25, 0.05
    n, width = len(spectrum), np.ptp(spectrum)
    num_steps = int(np.ceil(12 / t + 0.5))
    num_probes = int(np.ceil(4 * np.log(2 * n / eta) / ((n + 2) * t**2)))
    distances = []
    for seed in range(200):
        result = spectral_density(np.diag(spectrum), num_probes=num_probes, num_steps=num_steps, rng=seed)
        distances.append(wasserstein_distance(result.nodes.ravel(), spectrum, result.weights.ravel()))
    assert np.mean(np.array(distances) <= t * width) >= 1 - eta


@pytest.mark.parametrize("mode", ["partial", "none"])
def test_the_block_size_does_not_matter(mode, monkeypatch):
    A = reflected(SPECTRA["uniform"])
    options = {"num_probes": 7, "num_steps": 12, "rng": 5, "reorthogonalize": mode}
    whole = spectral_density(A, **options)
    parts = [spectral_density(A, block_size=size, **options) for size in (1, 3, 100)]
    monkeypatch.setattr(density_chapter, "BASIS_BYTES", 1)
    parts.append(spectral_density(A, **options))
    parts.append(spectral_density(A, **{**options, "num_probes": 9}))  # more probes: the first are the same
    for part in parts:
        np.testing.assert_allclose(part.nodes[:7], whole.nodes, rtol=0, atol=1e-12)
        np.testing.assert_allclose(part.weights[:7], whole.weights, rtol=0, atol=1e-12)
        assert part.num_products == part.num_probes * 12


def test_the_bases_that_are_held_stay_within_the_limit(monkeypatch):
    widths = []

    def matmat(V):
        widths.append(V.shape[1])
        return np.linspace(0, 1, 100)[:, None] * V

    A = LinearOperator((100, 100), matvec=lambda v: v, matmat=matmat, dtype=np.float64)
    monkeypatch.setattr(density_chapter, "BASIS_BYTES", 3 * 100 * 10 * 8)
    spectral_density(A, num_probes=8, num_steps=10, rng=0)
    assert widths == [3] * 20 + [2] * 10
    widths.clear()
    spectral_density(A, num_probes=8, num_steps=10, rng=0, reorthogonalize="none")
    assert widths == [8] * 10


@pytest.mark.parametrize("mode", ["partial", "none"])
@pytest.mark.parametrize("power", [-980, -300, 1, 53, 980])
@pytest.mark.parametrize("name", ["uniform", "five values", "trained net"])
def test_powers_of_two_scale_nodes_exactly_and_change_no_count(name, power, mode):
    A = reflected(SPECTRA[name])
    options = {"num_probes": 3, "num_steps": 20, "rng": 1, "reorthogonalize": mode}
    a, b = spectral_density(A, **options), spectral_density(np.ldexp(A, power), **options)
    np.testing.assert_array_equal(b.nodes, np.ldexp(a.nodes, power))
    np.testing.assert_array_equal(b.weights, a.weights)
    np.testing.assert_array_equal(b.exact, a.exact)
    assert a.num_products == b.num_products
    for lower_or_upper, expected in zip(b.band(b.grid(50)), a.band(a.grid(50)), strict=True):
        np.testing.assert_allclose(lower_or_upper, expected, rtol=0, atol=1e-12)


def test_an_operator_over_600_decades_does_not_overflow():
    result = spectral_density(np.diag(np.logspace(-300, 300, 50)), num_probes=3, rng=0)
    assert np.isfinite(result.support).all()
    assert result.support[1] == pytest.approx(1e300, rel=1e-14)


@pytest.mark.parametrize(
    ("max_products", "probes", "steps"),
    [(1000, 4, 20), (80, 4, 20), (79, 4, 19), (9, 4, 2), (4, 4, 1), (3, 3, 1), (0, 0, 0)],
)
def test_a_budget_of_products_shortens_all_rules_alike(max_products, probes, steps):
    result = spectral_density(
        np.diag(SPECTRA["uniform"]), num_probes=4, num_steps=20, rng=0, max_products=max_products, block_size=3
    )
    assert result.num_products == probes * steps <= max_products
    assert result.nodes.shape == (probes, 20)
    assert (np.isfinite(result.nodes).sum(axis=1) == steps).all()
    assert result.status is (Status.CONVERGED if steps == 20 else Status.BUDGET)
    assert not result.exact.any()


def test_a_budget_that_suffices_for_exact_rules_is_enough():
    result = spectral_density(np.diag(SPECTRA["five values"]), num_probes=2, rng=0, max_products=12)
    assert result.exact.all()
    assert result.status is Status.CONVERGED
    assert result.num_products == 10


def failing(at, failure, spectrum):
    """A diagonal operator whose block product number ``at`` (from 1) raises or returns something else."""
    calls = []

    def matmat(V):
        calls.append(V.shape[1])
        if len(calls) == at:
            if isinstance(failure, BaseException):
                raise failure
            return np.full_like(V, failure)
        return spectrum[:, None] * V

    n = len(spectrum)
    return LinearOperator((n, n), matvec=lambda v: spectrum * v, matmat=matmat, dtype=np.float64)


@pytest.mark.parametrize("mode", ["partial", "none"])
@pytest.mark.parametrize(("failure", "status"), [(KeyboardInterrupt(), Status.INTERRUPTED), (np.nan, Status.NONFINITE)])
def test_finished_steps_are_kept_as_right_rules(failure, status, mode):
    """The second group of two probes is stopped in its fourth step, the third never starts."""
    spectrum = SPECTRA["uniform"]
    options = {"num_probes": 6, "rng": 3, "block_size": 2, "reorthogonalize": mode}
    result = spectral_density(failing(10 + 4, failure, spectrum), num_steps=10, **options)
    assert result.status is status
    np.testing.assert_array_equal(np.isfinite(result.nodes).sum(axis=1), [10, 10, 3, 3])
    assert not result.exact.any()
    short = spectral_density(np.diag(spectrum), num_steps=3, **options)
    np.testing.assert_allclose(result.nodes[2:, :3], short.nodes[2:4], rtol=0, atol=1e-14)
    np.testing.assert_allclose(result.weights[2:, :3], short.weights[2:4], rtol=0, atol=1e-14)
    assert covers(result, spectrum, 0.95)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), np.inf])
def test_nothing_found_is_an_empty_result_that_says_so(failure):
    result = spectral_density(failing(1, failure, SPECTRA["uniform"]), num_steps=10, rng=3)
    assert result.nodes.shape == result.weights.shape == (0, 10)
    assert result.exact.shape == (0,)
    with pytest.raises(ValueError, match=f"no probe .status {result.status}"):
        result.density([0.0])
    assert "0 probes" in str(result)


def test_no_time_means_no_products():
    result = spectral_density(np.eye(3), max_seconds=0, rng=0)
    assert result.status is Status.BUDGET
    assert result.num_products == 0


def test_a_seed_gives_the_same_bits_and_is_reported():
    A = reflected(SPECTRA["wishart"])
    a, b = (spectral_density(A, num_probes=2, num_steps=10, rng=7) for _ in range(2))
    np.testing.assert_array_equal(a.nodes, b.nodes)
    np.testing.assert_array_equal(a.weights, b.weights)
    fresh = spectral_density(A, num_probes=2, num_steps=10)
    again = spectral_density(A, num_probes=2, num_steps=10, rng=fresh.seed)
    np.testing.assert_array_equal(again.nodes, fresh.nodes)
    assert (a.nodes != fresh.nodes).any()


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()  # noqa: NPY002
    spectral_density(np.eye(3))
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_progress_ends_at_the_total():
    seen = []
    A = np.diag(SPECTRA["uniform"])
    spectral_density(A, num_probes=3, num_steps=4, rng=0, block_size=2, progress=lambda *state: seen.append(state))
    assert seen == [(done, 12) for done in (2, 4, 6, 8, 9, 10, 11, 12)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_probes": 0}, ValueError, "num_probes must be at least 1, got 0"),
        ({"num_probes": 2.0}, TypeError, "num_probes must be an integer, at least 1, got 2.0"),
        ({"num_steps": 0}, ValueError, r"num_steps must be in \[1, 5\], got 0"),
        ({"num_steps": 6}, ValueError, r"num_steps must be in \[1, 5\], got 6"),
        ({"num_steps": True}, TypeError, r"num_steps must be an integer, in \[1, 5\], got True"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1, got 0"),
        ({"max_products": -1}, ValueError, "max_products must be at least 0, got -1"),
        ({"max_products": 10.5}, TypeError, "max_products must be an integer, at least 0, got 10.5"),
        ({"max_seconds": -1}, ValueError, "max_seconds must be at least 0, got -1"),
        (
            {"reorthogonalize": True},
            ValueError,
            r"reorthogonalize must be one of \('partial', 'full', 'none'\), got True",
        ),
        ({"rng": "0"}, ValueError, "rng must be"),
    ],
)
def test_arguments_out_of_range_are_named(options, error, message):
    with pytest.raises(error, match=message):
        spectral_density(np.eye(5), **options)


def test_operators_that_are_empty_or_not_square_are_refused():
    with pytest.raises(ValueError, match=r"at least one row, got shape \(0, 0\)"):
        spectral_density(np.zeros((0, 0)))
    with pytest.raises(ValueError, match="square"):
        spectral_density(np.ones((2, 3)))


def test_an_operator_that_is_not_symmetric_is_refused():
    with pytest.raises(ValueError, match="A must be symmetric"):
        spectral_density(np.triu(np.ones((100, 100))), rng=0)


def test_noise_in_the_products_is_no_asymmetry_and_stays_in_the_budget():
    rng = np.random.default_rng(0)
    noisy = LinearOperator(
        (100, 100), matvec=lambda v: np.arange(100.0) * v.ravel() * (1 + 1e-3 * rng.standard_normal(100)), dtype=float
    )
    result = spectral_density(noisy, num_probes=4, num_steps=10, max_products=40, rng=0)
    assert result.num_products <= 40
    exact = spectral_density(np.diag(np.arange(100.0)), num_probes=4, num_steps=10, rng=0)
    assert np.nanmax(result.nodes) == pytest.approx(np.nanmax(exact.nodes), rel=2e-3)  # twice the noise


@pytest.mark.full
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_exact_cumulative_spectrum_of_a_trained_net_is_inside_of_the_band(dtype):
    """A 64-32-32-10 net trained on digits; all 3,466 eigenvalues from LAPACK."""
    objective = digits_objective()
    spectrum = np.linalg.eigvalsh(hessian_matrix(objective))
    if dtype == np.float32:
        data, options = (objective.X, objective.y), {"loss": "softmax_cross_entropy", "l2": objective.l2}
        objective = Objective(objective.net, *data, **options, dtype=np.float32)
    H = HessianOperator(objective)
    known = eigsh(H, 10, rng=0, tol=1e-4)
    for options in ({}, {"reorthogonalize": "none"}, {"outliers": known}):
        result = spectral_density(H, num_probes=10, num_steps=90, rng=0, **options)
        assert covers(result, spectrum, 0.95)
        mass = result.nodes, result.weights
        if "outliers" in options:
            mass = [np.append(a, b) for a, b in zip(mass, (known.eigenvalues, np.full(10, 10 / 3466)), strict=True)]
        distance = wasserstein_distance(mass[0].ravel(), spectrum, mass[1].ravel())
        assert distance <= result.wasserstein_bound()

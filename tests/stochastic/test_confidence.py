"""Intervals for means: their inverse, their limits, their coverage of skewed populations."""

import math

import numpy as np
import pytest
import scipy.stats

from krylovh.stochastic.confidence import (
    mean_interval,
    required_samples,
    scaled_back,
    skewed_interval,
    skewness,
)


@pytest.mark.parametrize("size", [3, 4, 10, 1000])
def test_the_skewness_is_the_corrected_one_of_statistics(size):
    x = np.random.default_rng(size).exponential(size=size)
    assert skewness(x) == pytest.approx(scipy.stats.skew(x, bias=False), rel=1e-12)
    assert skewness(np.ldexp(x, 800)) == skewness(x) == skewness(np.ldexp(x, -800))


@pytest.mark.parametrize("x", [np.zeros(0), np.ones(1), np.array([1.0, 2.0]), np.full(9, 0.1)])
def test_there_is_no_skewness_where_nothing_can_be_said(x):
    assert skewness(x) == 0.0


@pytest.mark.parametrize("a", [-3.0, -0.4, -1e-3, -1e-12, 1e-300, 1e-12, 1e-3, 0.4, 3.0])
def test_the_ends_of_the_interval_are_the_quantiles_of_the_transformed_mean(a):
    """Hall's h(T) at the ends is plus and minus the quantile of Student's t."""
    mean, error, t = 2.0, 0.5, scipy.stats.t.ppf(0.975, 7)
    low, high = skewed_interval(mean, error, 7, a)
    for end, sign in ((low, 1), (high, -1)):
        T = (mean - end) / error
        assert T + a * T**2 / 3 + a**2 * T**3 / 27 + a / 6 == pytest.approx(sign * t, rel=1e-9)
    assert low < high


def test_symmetric_samples_have_the_interval_of_student():
    x = np.array([-3.0, -1.0, 1.0, 3.0]) + 10
    expected = scipy.stats.t.interval(0.95, 3, x.mean(), scipy.stats.sem(x))
    np.testing.assert_allclose(mean_interval(x, np.zeros(4))[2], expected, rtol=1e-12)


def test_a_pilot_gives_the_deviation_and_all_samples_the_mean():
    x = np.array([0.0, 1.0, 2.0, 100.0])
    mean, error, (low, high) = mean_interval(x, np.zeros(4), pilot=3)
    assert mean == 25.75
    assert error == pytest.approx(0.5)
    half = scipy.stats.t.ppf(0.975, 2) * 0.5
    assert (low, high) == pytest.approx((25.75 - half, 25.75 + half))


def test_rounding_widens_the_interval():
    low, high = mean_interval(np.full(5, 7.0), np.full(5, 0.25))[2]
    assert (low, high) == (6.75, 7.25)


def test_the_sample_size_is_the_least_that_is_narrow_enough():
    x = np.random.default_rng(0).standard_normal(20)
    N = required_samples(x, 0.05)
    t = scipy.stats.t.ppf(0.975, 19)
    assert t * x.std(ddof=1) / math.sqrt(N) <= 0.05 < t * x.std(ddof=1) / math.sqrt(N - 1)
    assert required_samples(x, 1e9) == 20
    assert required_samples(x, 0.0) == math.inf
    assert required_samples(np.full(20, 3.0), 0.0) == 20
    assert required_samples(np.ldexp(x, 900), math.ldexp(0.05, 900)) == N


def test_scaling_back_is_exact():
    assert scaled_back((0.1, math.nan, (-math.inf, 0.3)), 3)[::2] == (0.8, (-math.inf, 2.4))


@pytest.mark.parametrize(("num_samples", "low", "high"), [(10, 0.92, 0.975), (20, 0.93, 0.97), (50, 0.93, 0.97)])
@pytest.mark.parametrize("eigenvalues", [[1.0], [1.0, 1.0], [1.0, -1.0], [1.0, -0.5, 0.25], np.ones(50)])
def test_the_interval_covers_sums_of_chi_squares(num_samples, low, high, eigenvalues):
    """The forms of a Gaussian probe.  Student's own interval covers 86 to 92 % of the first two."""
    rng = np.random.default_rng(num_samples)
    samples = rng.standard_normal((4000, num_samples, len(eigenvalues))) ** 2 @ np.asarray(eigenvalues)
    intervals = np.array([mean_interval(x, np.zeros(num_samples))[2] for x in samples])
    covered = np.mean((intervals[:, 0] <= np.sum(eigenvalues)) & (np.sum(eigenvalues) <= intervals[:, 1]))
    assert low <= covered <= high

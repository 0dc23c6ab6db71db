"""Results read back: axes, smoothed densities, cumulative spectra, bands and what they print."""

import math
import tracemalloc
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from krylovh import DiagonalEstimate, Estimate, SpectralDensity, Status, Tridiagonalization
from krylovh.results import signed_log


def rules(num_probes=4, num_steps=6, seed=0, **fields):
    """Return random rules; the second is padded and exact."""
    rng = np.random.default_rng(seed)
    nodes = np.sort(rng.standard_normal((num_probes, num_steps)) * 10 ** rng.uniform(-4, 1, (num_probes, 1)), axis=1)
    weights = rng.dirichlet(np.ones(num_steps), num_probes)
    exact = np.zeros(num_probes, dtype=bool)
    if num_probes > 1:
        nodes[1, 3:] = weights[1, 3:] = np.nan
        weights[1, :3] /= weights[1, :3].sum()
        exact[1] = True
    return SpectralDensity(nodes, weights, 1000, 24, 0, Status.CONVERGED, **{"exact": exact, **fields})


ALL = [rules(), rules(1), rules(10, 90, seed=2)]


def test_signed_log_is_odd_monotone_and_linear_at_zero():
    x = np.concatenate([-np.logspace(300, -300, 50), [0.0], np.logspace(-300, 300, 50)])
    y = signed_log(x, 1e-3)
    np.testing.assert_array_equal(signed_log(-x, 1e-3), -y)
    assert (np.diff(y) >= 0).all()
    assert y[-1] == pytest.approx(303, rel=1e-12)
    assert signed_log(1e-12, 1e-3) == pytest.approx(1e-9 / np.log(10), rel=1e-8)
    np.testing.assert_allclose(signed_log([99.0, -9.0], 1.0), [2.0, -1.0], rtol=1e-15)


@pytest.mark.parametrize("scale", ["linear", "signed_log"])
@pytest.mark.parametrize("result", ALL)
def test_the_grid_covers_the_nodes_evenly_on_its_axis(result, scale):
    grid = result.grid(101, scale=scale)
    low, high = result.support
    assert grid.shape == (101,)
    assert grid[0] < low < high < grid[-1]
    axis = grid if scale == "linear" else signed_log(grid, result.log_threshold)
    np.testing.assert_allclose(np.diff(axis), np.diff(axis).mean(), rtol=1e-6)


@pytest.mark.parametrize("scale", ["linear", "signed_log"])
@pytest.mark.parametrize("result", ALL)
def test_the_density_integrates_to_one_on_its_axis(result, scale):
    grid = result.grid(4001, scale=scale)
    axis = grid if scale == "linear" else signed_log(grid, result.log_threshold)
    density = result.density(grid, scale=scale)
    assert (density >= 0).all()
    assert np.trapezoid(density, axis) == pytest.approx(1.0, abs=1e-6)


def test_the_density_is_the_sum_of_its_gaussians():
    result, width = rules(), 0.3
    grid = result.grid(37)
    per_probe = np.array(
        [
            [
                math.fsum(
                    w * math.exp(-(((x - t) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
                    for t, w in zip(nodes, weights, strict=True)
                    if not math.isnan(t)
                )
                for x in grid
            ]
            for nodes, weights in zip(result.nodes, result.weights, strict=True)
        ]
    )
    np.testing.assert_allclose(result.density(grid, width=width), per_probe.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        result.density_error(grid, width=width), per_probe.std(axis=0, ddof=1) / 2, rtol=1e-9, atol=1e-300
    )


def test_the_error_of_a_single_probe_is_unknown():
    assert np.isnan(rules(1).density_error([0.0, 1.0])).all()


@pytest.mark.parametrize("result", ALL)
def test_the_cumulative_spectrum_counts_nodes_up_to_and_including_each_point(result):
    grid = np.concatenate([result.grid(50), result.nodes[~np.isnan(result.nodes)]])
    expected = [np.mean(np.nansum(np.where(result.nodes <= x, result.weights, 0.0), axis=1)) for x in grid]
    np.testing.assert_allclose(result.cumulative(grid), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("result", ALL)
def test_the_band_is_a_pair_of_distribution_functions_around_the_estimate(result):
    grid = result.grid(500)
    lower, upper = result.band(grid)
    assert (lower <= result.cumulative(grid) + 1e-14).all()
    assert (result.cumulative(grid) <= upper + 1e-14).all()
    for bound in (lower, upper):
        assert (np.diff(bound) >= 0).all()
        assert bound.min() >= 0
        assert bound.max() <= 1
    assert lower[0] == 0
    assert upper[-1] == 1
    narrow = result.band(grid, confidence=0.5)
    assert (lower <= narrow[0]).all()
    assert (narrow[1] <= upper).all()


def test_the_band_leaves_out_one_node_on_either_side_unless_the_rule_is_exact():
    infinite = {"dimension": 10**40, "num_products": 3, "seed": 0, "status": Status.CONVERGED}
    result = SpectralDensity(np.array([[0.0, 1.0, 2.0]]), np.array([[0.2, 0.3, 0.5]]), **infinite)
    grid = [-1.0, 0.5, 1.5, 3.0]
    np.testing.assert_allclose(result.band(grid), [[0.0, 0.0, 0.2, 0.5], [0.2, 0.5, 1.0, 1.0]], atol=1e-15)
    exact = replace(result, exact=np.array([True]))
    np.testing.assert_allclose(exact.band(grid), [[0.0, 0.2, 0.5, 1.0]] * 2, atol=1e-15)
    # a point within rounding of a node counts as on either side of it
    np.testing.assert_allclose(exact.band(1.0 - 1e-15), [0.2, 0.5], atol=1e-15)
    np.testing.assert_allclose(replace(exact, accuracy=1e-6).band(1.0 + 1e-6), [0.2, 0.5], atol=1e-15)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
def test_results_have_the_shape_of_the_grid(shape):
    result, grid = rules(), np.zeros(shape)
    for values in (result.density(grid), result.density_error(grid), result.cumulative(grid), *result.band(grid)):
        assert values.shape == shape


def test_many_nodes_do_not_exhaust_memory():
    rng = np.random.default_rng(0)
    nodes = np.sort(rng.standard_normal((1, 100_000)), axis=1)
    result = SpectralDensity(nodes, np.full(nodes.shape, 1e-5), 10**6, 100_000, 0, Status.CONVERGED)
    grid = np.linspace(-4, 4, 101)
    tracemalloc.start()
    density = result.density(grid, width=0.05)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    sigma = np.hypot(1, 0.05)
    np.testing.assert_allclose(density, np.exp(-0.5 * (grid / sigma) ** 2) / sigma / np.sqrt(2 * np.pi), atol=0.03)


def test_a_zero_operator_has_a_grid_and_a_density():
    zero = SpectralDensity(np.zeros((2, 1)), np.ones((2, 1)), 5, 2, 0, Status.CONVERGED, np.array([True, True]))
    for scale in ("linear", "signed_log"):
        grid = zero.grid(1001, scale=scale)
        assert grid[0] < 0 < grid[-1]
        assert np.isfinite(zero.density(grid, scale=scale)).all()
    np.testing.assert_array_equal(zero.cumulative([-1.0, 0.0]), [0.0, 1.0])


def test_misuse_is_named():
    result = rules()
    with pytest.raises(ValueError, match="scale must be 'linear' or 'signed_log', got 'log'"):
        result.grid(scale="log")
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        result.density([0.0], width=0.0)
    for confidence in (0.0, 1.0, 95, math.nan):
        with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\)"):
            result.band([0.0], confidence=confidence)


def test_a_density_without_probes_says_why():
    empty = SpectralDensity(np.empty((0, 9)), np.empty((0, 9)), 100, 0, 3, Status.NONFINITE)
    assert (
        str(empty)
        == "spectral density of order 100: 0 probes, 0 nodes in an empty range, nonfinite, 0 products, seed 3"
    )
    readings = (empty.grid, lambda: empty.density(0.0), lambda: empty.density_error(0.0))
    for reading in (*readings, lambda: empty.cumulative(0.0), lambda: empty.band(0.0), lambda: empty.support):
        with pytest.raises(ValueError, match=r"no probe \(status nonfinite\)"):
            reading()


def test_results_print_what_a_person_wants_to_know():
    estimate = Estimate(1234.5, 67.8, (1100.0, 1370.0), 100, 7, Status.CONVERGED, "hutchinson")
    assert str(estimate) == "1234.5 +- 67.8 (95 %: 1100 to 1370; hutchinson, 100 products, seed 7)"
    density = SpectralDensity(np.array([[-0.5, 2.0]] * 2), np.full((2, 2), 0.5), 3466, 4, 7, Status.BUDGET)
    assert str(density) == "spectral density of order 3466: 2 probes, 4 nodes in [-0.5, 2], budget, 4 products, seed 7"


def test_results_are_frozen():
    with pytest.raises(FrozenInstanceError):
        rules().seed = 1


def test_the_tridiagonal_matrix_is_symmetric():
    t = Tridiagonalization(np.arange(3.0), np.array([5.0, 6.0]), None, np.zeros(9), 0.0, 3, Status.CONVERGED)
    np.testing.assert_array_equal(t.dense(), [[0, 5, 0], [5, 1, 6], [0, 6, 2]])


def test_an_estimate_prints_its_quadrature_error_where_there_is_one():
    estimate = Estimate(2.0, 0.25, (1.0, 3.0), 100, 7, Status.CONVERGED, "lanczos quadrature", 0.125)
    assert str(estimate) == (
        "2 +- 0.25 (95 %: 1 to 3; quadrature error 0.12; lanczos quadrature, 100 products, seed 7)"
    )
    assert "quadrature" not in str(replace(estimate, method="hutchinson", quadrature_error=0.0))


def test_an_estimate_of_a_diagonal_has_intervals():
    result = DiagonalEstimate(*np.ones((4, 3)), False, 30, 7, Status.CONVERGED, "bekas")
    assert result.interval[0] is result.lower
    assert result.interval[1] is result.upper
    with pytest.raises(FrozenInstanceError):
        result.seed = 3

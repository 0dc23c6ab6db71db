"""Spectral densities: smoothed, and as the share of eigenvalues below each point."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.plotting.style import BLUE, VERMILION, finished, new_axes
from krylovh.results import Scale, SpectralDensity, Status, signed_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_cumulative", "plot_density"]


def plot_density(
    density: SpectralDensity,
    ax: "Axes | None" = None,
    *,
    scale: Scale = "signed_log",
    exact: ArrayLike | None = None,
    outliers: ArrayLike | None = None,
) -> "Axes":
    """Draw the smoothed density with its standard error over probes, on a logarithmic ordinate.

    Eigenvalues that were deflated are not smoothed into the curve but stand apart, each as high as one eigenvalue.

    Parameters
    ----------
    density : SpectralDensity
    ax : matplotlib Axes, optional
        A new figure if not given.
    scale : {"signed_log", "linear"}
        Axis of the eigenvalues.
    exact : array_like, optional
        All eigenvalues, drawn with the same smoothing.
    outliers : array_like, optional
        Eigenvalues to mark on the axis.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import spectral_density
    >>> ax = plot_density(spectral_density(np.diag(np.arange(100.0)), num_steps=20, rng=0))
    >>> ax.get_ylabel()
    'density'
    """
    ax = new_axes(ax)
    grid = density.grid(1200, scale=scale)
    x = _coordinate(grid, scale, density)
    mean = density.density(grid, scale=scale, outliers=False)
    error = density.density_error(grid, scale=scale)
    floor = 0.2 * _peak_of_one_eigenvalue(density, scale)
    ax.fill_between(x, np.maximum(mean - error, floor), np.maximum(mean + error, floor), color=BLUE, alpha=0.3, lw=0)
    ax.plot(x, np.maximum(mean, floor), color=BLUE, lw=1.6, label="stochastic Lanczos ± standard error")
    if exact is not None:
        values = np.sort(np.asarray(exact, dtype=np.float64))
        truth = SpectralDensity(
            values[None, :], np.full((1, len(values)), 1 / len(values)), len(values), 0, 0, Status.CONVERGED
        )
        low, high = (_coordinate(np.array([v]), scale, density)[0] for v in density.support)
        smoothed = _smoothed(truth, grid, scale, density, (high - low) / 100)
        ax.plot(x, np.maximum(smoothed, floor), color="black", lw=1.0, ls="--", label="exact spectrum")
    if density.outliers is not None and density.outliers.size:
        places, peak = _coordinate(density.outliers, scale, density), _peak_of_one_eigenvalue(density, scale)
        ax.vlines(places, floor, peak, color=VERMILION, lw=1.2)
        ax.plot(
            places, np.full(len(places), peak), "o", color=VERMILION, ms=4, label=f"{len(places)} deflated outliers"
        )
    if outliers is not None:
        marks = _coordinate(np.asarray(outliers, dtype=np.float64), scale, density)
        label = f"{len(marks)} eigenpairs (Lanczos)"
        ax.plot(marks, np.full(len(marks), floor * 1.6), "v", color=VERMILION, ms=5, label=label)
    ax.set_yscale("log")
    ax.set_ylim(bottom=floor)
    ax.set_ylabel("density")
    _eigenvalue_axis(ax, scale, density)
    return finished(ax, "upper left")


def plot_cumulative(
    density: SpectralDensity,
    ax: "Axes | None" = None,
    *,
    scale: Scale = "signed_log",
    exact: ArrayLike | None = None,
) -> "Axes":
    """Draw the share of eigenvalues below each point, with the band that holds at all points at once.

    Parameters and result as for :func:`plot_density`.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import spectral_density
    >>> ax = plot_cumulative(spectral_density(np.diag(np.arange(100.0)), num_steps=20, rng=0), scale="linear")
    >>> ax.get_ylabel()
    'share of eigenvalues below'
    """
    ax = new_axes(ax)
    grid = density.grid(1200, scale=scale)
    x = _coordinate(grid, scale, density)
    lower, upper = density.band(grid)
    ax.fill_between(x, lower, upper, color=BLUE, alpha=0.25, lw=0, label="95 % band")
    ax.plot(x, density.cumulative(grid), color=BLUE, lw=1.4, label="stochastic Lanczos")
    if exact is not None:
        values = np.sort(np.asarray(exact, dtype=np.float64))
        share = np.searchsorted(values, grid, side="right") / len(values)
        ax.plot(x, share, color="black", lw=1.0, ls="--", label="exact spectrum")
    ax.set_ylabel("share of eigenvalues below")
    _eigenvalue_axis(ax, scale, density)
    return finished(ax, "upper left")


def _coordinate(x: NDArray[np.float64], scale: Scale, density: SpectralDensity) -> NDArray[np.float64]:
    return x if scale == "linear" else signed_log(x, density.log_threshold)


def _smoothed(
    truth: SpectralDensity, grid: NDArray[np.float64], scale: Scale, density: SpectralDensity, width: float
) -> NDArray[np.float64]:
    """Smooth exact eigenvalues like the estimate, in the coordinate of the estimate's axis."""
    if scale == "linear":
        return truth.density(grid, width=width)
    nodes = signed_log(truth.nodes, density.log_threshold)
    moved = SpectralDensity(nodes, truth.weights, truth.dimension, 0, 0, Status.CONVERGED)
    return moved.density(signed_log(grid, density.log_threshold), width=width)


def _peak_of_one_eigenvalue(density: SpectralDensity, scale: Scale) -> float:
    low, high = (float(_coordinate(np.array([v]), scale, density)[0]) for v in density.support)
    return 1.0 / float(density.dimension * ((high - low) or 1.0) / 100 * np.sqrt(2 * np.pi))


def _eigenvalue_axis(ax: "Axes", scale: Scale, density: SpectralDensity) -> None:
    ax.set_xlabel("eigenvalue")
    if scale == "linear":
        return
    low, high = density.support
    threshold = density.log_threshold
    top = int(np.floor(np.log10(max(abs(low), abs(high)))))
    powers = np.arange(top, int(np.ceil(np.log10(threshold))) - 1, -1)
    powers = powers[:: max(1, len(powers) // 5)]
    ticks = [(0.0, "0")]
    ticks += [(10.0**p, f"$10^{{{p}}}$") for p in powers if 10.0**p <= 1.5 * high]
    ticks += [(-(10.0**p), f"$-10^{{{p}}}$") for p in powers if -(10.0**p) >= 1.5 * low]
    ax.set_xticks([float(signed_log(t, threshold)) for t, _ in ticks], [name for _, name in ticks])

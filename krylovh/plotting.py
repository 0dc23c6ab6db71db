"""Pictures of spectra.  Every function draws into an Axes and returns it; one makes a whole figure.

Colours are those of Okabe and Ito, which remain distinct for colour-blind readers; estimates are lines, exact values
are black, errors are bands and bars.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.results import EigenResult, Scale, SpectralDensity, Status, signed_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION = "#0072B2", "#D55E00"

__all__ = ["plot_cumulative", "plot_density", "plot_eigenvalues", "plot_spectrum"]


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
    ax = _axes(ax)
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
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


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
    ax = _axes(ax)
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
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def plot_eigenvalues(result: EigenResult, ax: "Axes | None" = None, *, exact: ArrayLike | None = None) -> "Axes":
    """Draw eigenvalues in descending order with their residuals as error bars.

    Parameters
    ----------
    result : EigenResult
    ax : matplotlib Axes, optional
    exact : array_like, optional
        All eigenvalues; those nearest to the computed ones are drawn as rings.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import eigsh
    >>> plot_eigenvalues(eigsh(np.diag(np.arange(100.0)), k=3, rng=0)).get_xlabel()
    'rank'
    """
    ax = _axes(ax)
    order = np.argsort(result.eigenvalues)[::-1]
    rank = np.arange(1, len(order) + 1)
    values, errors = result.eigenvalues[order], result.residual_norms[order]
    if exact is not None:
        truth = np.sort(np.asarray(exact, dtype=np.float64))
        nearest = truth[[int(np.abs(truth - value).argmin()) for value in values]]
        ax.plot(rank, nearest, "o", mfc="none", mec="black", ms=9, label="exact")
    ax.errorbar(rank, values, yerr=errors, fmt="o", color=VERMILION, ms=4, capsize=3, label="Lanczos ± residual")
    ax.set_xlabel("rank")
    ax.set_ylabel("eigenvalue")
    ax.set_xticks(rank)
    ax.margins(y=0.12)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_spectrum(
    density: SpectralDensity,
    largest: EigenResult | None = None,
    smallest: EigenResult | None = None,
    *,
    exact: ArrayLike | None = None,
    title: str = "",
) -> "Figure":
    """Return a figure of a spectrum: the density over both lower panels, cumulative share and eigenvalues.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import eigsh, spectral_density
    >>> A = np.diag(np.arange(100.0))
    >>> figure = plot_spectrum(spectral_density(A, num_steps=20, rng=0), eigsh(A, k=3, rng=0))
    >>> len(figure.axes)
    3
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 7.2), layout="constrained")
    panels: Any = figure.subplot_mosaic([["density", "density"], ["cumulative", "eigenvalues"]], height_ratios=[1.2, 1])
    found = [result.eigenvalues for result in (smallest, largest) if result is not None]
    outliers = np.concatenate(found) if found else None
    plot_density(density, panels["density"], exact=exact, outliers=outliers)
    plot_cumulative(density, panels["cumulative"], exact=exact)
    if largest is not None:
        plot_eigenvalues(largest, panels["eigenvalues"], exact=exact)
        panels["eigenvalues"].set_title("largest eigenvalues", fontsize="medium")
    else:
        panels["eigenvalues"].remove()
    panels["density"].set_title(title or "spectral density", fontsize="large")
    panels["cumulative"].set_title("cumulative spectrum", fontsize="medium")
    return figure


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(7.2, 4.2), layout="constrained").subplots()


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
    ax.spines[["top", "right"]].set_visible(False)
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

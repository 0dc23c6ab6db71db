"""Whole figures: a spectrum in three panels, and whatever a file of results holds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from krylovh.plotting.blocks import plot_layer_blocks
from krylovh.plotting.density import plot_cumulative, plot_density
from krylovh.plotting.eigenvalues import plot_eigenvalues, plot_spectrum_track
from krylovh.plotting.histories import plot_convergence
from krylovh.plotting.influence import plot_influence
from krylovh.plotting.landscape import plot_loss_curves
from krylovh.plotting.pruning import plot_pruning
from krylovh.results import (
    BlockSolveResult,
    EigenResult,
    LeaveOneOutResult,
    LossCurves,
    PruningResult,
    RetrainResult,
    Scale,
    SolveResult,
    SpectralDensity,
    SpectrumTrack,
    TrainingResult,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_result", "plot_results", "plot_spectrum"]


def plot_spectrum(
    density: SpectralDensity,
    largest: EigenResult | None = None,
    smallest: EigenResult | None = None,
    *,
    exact: ArrayLike | None = None,
    scale: Scale = "signed_log",
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
    plot_density(density, panels["density"], scale=scale, exact=exact, outliers=outliers)
    plot_cumulative(density, panels["cumulative"], scale=scale, exact=exact)
    if largest is not None:
        plot_eigenvalues(largest, panels["eigenvalues"], exact=exact)
        panels["eigenvalues"].set_title("largest eigenvalues", fontsize="medium")
    else:
        panels["eigenvalues"].remove()
    panels["density"].set_title(title or "spectral density", fontsize="large")
    panels["cumulative"].set_title("cumulative spectrum", fontsize="medium")
    return figure


def plot_result(result: Any, ax: "Axes | None" = None, *, scale: Scale = "signed_log") -> "Axes | None":
    """Draw any result in the way that is its own; None for results without a picture.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import cg
    >>> plot_result(cg(np.diag([1.0, 2.0]), np.ones(2))).get_ylabel()
    'residual norm'
    >>> plot_result(np.zeros(3)) is None
    True
    """
    if isinstance(result, SpectralDensity):
        return plot_density(result, ax, scale=scale) if result.num_probes else None
    if isinstance(result, (SolveResult, BlockSolveResult, TrainingResult, RetrainResult)):
        return plot_convergence(result, ax)
    if isinstance(result, np.ndarray) and result.ndim == 2 and result.shape[0] == result.shape[1] <= 100:
        if not (result.dtype.kind == "f" and np.all(np.isfinite(result) & (result >= 0))):
            return None
        return plot_layer_blocks(result, ax)
    drawn: dict[type, Any] = {
        EigenResult: plot_eigenvalues, SpectrumTrack: plot_spectrum_track, LossCurves: plot_loss_curves,
        PruningResult: plot_pruning, LeaveOneOutResult: plot_influence,
    }  # fmt: skip
    function = drawn.get(type(result))
    return None if function is None else function(result, ax)


def plot_results(results: Mapping[str, Any], *, scale: Scale = "signed_log", title: str = "") -> "Figure | None":
    """Return a figure of results by name, as they are in a file; None if there is nothing to draw.

    A density with eigenvalues is drawn as by :func:`plot_spectrum`, all else in a panel each.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import cg, eigsh
    >>> A = np.diag(np.arange(1.0, 10.0))
    >>> len(plot_results({"largest": eigsh(A, 2, rng=0), "solution": cg(A, np.ones(9))}).axes)
    2
    """
    from matplotlib.figure import Figure

    density = results.get("density")
    if isinstance(density, SpectralDensity) and density.num_probes:
        ends = [results.get(name) for name in ("largest", "smallest")]
        return plot_spectrum(density, *ends, exact=results.get("exact"), scale=scale, title=title)
    drawable = {name: result for name, result in results.items() if _has_picture(result)}
    if not drawable:
        return None
    columns = min(2, len(drawable))
    rows = -(-len(drawable) // columns)
    figure = Figure(figsize=(6.4 * columns, 4.2 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for panel, (name, result) in zip(panels, drawable.items(), strict=False):
        plot_result(result, panel, scale=scale)
        panel.set_title(name.replace("_", " ") if len(drawable) > 1 or not title else title, fontsize="medium")
    for panel in panels[len(drawable) :]:
        panel.remove()
    if title and len(drawable) > 1:
        figure.suptitle(title)
    return figure


def _has_picture(result: Any) -> bool:
    from matplotlib.figure import Figure

    return plot_result(result, Figure().subplots()) is not None

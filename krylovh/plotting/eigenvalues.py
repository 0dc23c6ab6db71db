"""Eigenvalues with their residuals: at one point, and through training."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from krylovh.plotting.style import CYCLE, VERMILION, finished, new_axes
from krylovh.results import EigenResult, SpectrumTrack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_eigenvalues", "plot_spectrum_track"]


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
    ax = new_axes(ax)
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
    return finished(ax)


def plot_spectrum_track(
    track: SpectrumTrack, ax: "Axes | None" = None, *, steps: ArrayLike | None = None, threshold: float | None = None
) -> "Axes":
    """Draw eigenvalues step by step, with their residuals as bars, largest on top.

    Parameters
    ----------
    track : SpectrumTrack
    ax : matplotlib Axes, optional
    steps : array_like, shape (steps,), optional
        Abscissae, such as iterations; 0, 1, ... if not given.
    threshold : float, optional
        A dashed line, such as 2 over the learning rate, where gradient descent becomes unstable.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import Status
    >>> track = SpectrumTrack(
    ...     np.array([[1.0, 2.0], [1.5, 3.0]]), np.zeros((2, 2)), np.array([[0.9, 1.0]]), np.array([40, 20]),
    ...     (Status.CONVERGED, Status.CONVERGED), Status.CONVERGED, "LA", 1e-8, np.eye(3, 2),
    ... )
    >>> len(plot_spectrum_track(track).get_lines())
    2
    """
    ax = new_axes(ax)
    x = np.arange(len(track.eigenvalues)) if steps is None else np.asarray(steps, dtype=np.float64)
    for i in range(track.eigenvalues.shape[1])[::-1]:
        rank = track.eigenvalues.shape[1] - i
        colour = CYCLE[(rank - 1) % len(CYCLE)]
        ax.errorbar(
            x, track.eigenvalues[:, i], yerr=track.residual_norms[:, i], fmt="o-", color=colour, ms=3, lw=1.2,
            label=f"eigenvalue {rank}",
        )  # fmt: skip
    if threshold is not None:
        ax.axhline(threshold, color="black", ls="--", lw=1.0, label=f"{threshold:g}")
    ax.set_xlabel("step of training")
    ax.set_ylabel(f"eigenvalues ({track.which})")
    return finished(ax)

"""First-order influence against what really happens without the sample."""

from typing import TYPE_CHECKING

import numpy as np

from krylovh.plotting.style import BLUE, finished, new_axes
from krylovh.results import LeaveOneOutResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_influence"]


def plot_influence(result: LeaveOneOutResult, ax: "Axes | None" = None) -> "Axes":
    """Draw predicted against actual changes, with the diagonal on which both would be equal.

    Parameters
    ----------
    result : LeaveOneOutResult
        From :func:`krylovh.leave_one_out`.
    ax : matplotlib Axes, optional

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import Status
    >>> truth = LeaveOneOutResult(
    ...     np.arange(3), np.array([[1.0], [2.0], [4.0]]), np.array([[1.1], [2.1], [3.0]]), "loss", np.zeros(3),
    ...     (Status.CONVERGED,) * 3, 30, 9, Status.CONVERGED,
    ... )
    >>> plot_influence(truth).get_xlabel()
    'loss: change after retraining without the sample'
    """
    ax = new_axes(ax)
    actual, predicted = result.actual.ravel(), result.predicted.ravel()
    known = np.isfinite(actual) & np.isfinite(predicted)
    ends = [f(np.concatenate([actual[known], predicted[known], [0.0]])) for f in (np.min, np.max)]
    ax.plot(ends, ends, "--", color="black", lw=1.0, label="equal")
    label = f"{len(result.rows)} samples, Pearson {result.pearson:.3f}, Spearman {result.spearman:.3f}"
    ax.plot(actual[known], predicted[known], "o", color=BLUE, ms=4, alpha=0.7, label=label)
    ax.set_xlabel(f"{result.on}: change after retraining without the sample")
    ax.set_ylabel("change predicted by influence")
    return finished(ax)

"""The loss along directions, beside the quadratic that value, gradient and Hessian predict."""

from typing import TYPE_CHECKING

from krylovh.plotting.style import CYCLE, finished, new_axes
from krylovh.results import LossCurves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_loss_curves"]


def plot_loss_curves(curves: LossCurves, ax: "Axes | None" = None) -> "Axes":
    """Draw the objective along each direction, and dashed in the same colour its quadratic model.

    Parameters
    ----------
    curves : LossCurves
        From :func:`krylovh.loss_along`.
    ax : matplotlib Axes, optional

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import numpy as np
    >>> from krylovh import Status
    >>> line = np.array([[1.0, 2.5]])
    >>> curves = LossCurves(np.array([0.0, 1.0]), line, line, line, np.array([1.0]), 1, 2, Status.CONVERGED)
    >>> [text.get_text() for text in plot_loss_curves(curves).get_legend().get_texts()]
    ['curvature 1', 'quadratic model']
    """
    ax = new_axes(ax)
    for i, curvature in enumerate(curves.curvatures):
        colour = CYCLE[i % len(CYCLE)]
        ax.plot(
            curves.distances, curves.values[i], "o-", color=colour, ms=3, lw=1.4, label=f"curvature {curvature:.3g}"
        )
    for i in range(len(curves.curvatures)):
        label = "quadratic model" if i == 0 else None
        ax.plot(curves.distances, curves.quadratic[i], "--", color=CYCLE[i % len(CYCLE)], lw=1.0, label=label)
    ax.set_xlabel("distance along the direction")
    ax.set_ylabel("objective")
    return finished(ax)

"""The loss while parameters are removed."""

from typing import TYPE_CHECKING

import numpy as np

from krylovh.plotting.style import BLUE, GREEN, VERMILION, finished, new_axes
from krylovh.results import PruningResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_pruning"]


def plot_pruning(result: PruningResult, ax: "Axes | None" = None, *, label: str | None = None) -> "Axes":
    """Draw the loss against the parameters that are left, what each step was predicted to do, and validation.

    Parameters
    ----------
    result : PruningResult
    ax : matplotlib Axes, optional
    label : str, optional
        Instead of the name of the method.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import Network, Objective, prune
    >>> net = Network((2, 1), "identity", [1.0, 0.1], bias=False)
    >>> objective = Objective(net, [[1.0, 0.0], [0.0, 1.0]], [1.0, 0.1], loss="squared_error")
    >>> plot_pruning(prune(objective, num_remove=1)).get_xlabel()
    'parameters left'
    """
    ax = new_axes(ax)
    total = result.num_remaining + len(result.removed)
    left = total - result.num_removed
    ax.plot(left, result.losses, color=BLUE, lw=1.6, label=f"{label or result.method}: objective")
    before = result.losses[: len(result.predicted)]
    ax.plot(
        left[1 : len(before) + 1], before + result.predicted, ".", color=VERMILION, ms=4, label="predicted for the step"
    )
    if result.validation_losses is not None:
        ax.plot(left, result.validation_losses, color=GREEN, lw=1.4, label="validation")
    if np.all(result.losses > 0) and result.losses.max() > 30 * result.losses.min():
        ax.set_yscale("log")
    ax.invert_xaxis()
    ax.set_xlabel("parameters left")
    ax.set_ylabel("loss")
    return finished(ax)

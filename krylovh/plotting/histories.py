"""Convergence histories: residuals of solves, gradients of training."""

from typing import TYPE_CHECKING

import numpy as np

from krylovh.plotting.style import BLUE, CYCLE, VERMILION, finished, new_axes
from krylovh.results import BlockSolveResult, RetrainResult, SolveResult, TrainingResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_convergence"]


def plot_convergence(
    result: SolveResult | BlockSolveResult | TrainingResult | RetrainResult, ax: "Axes | None" = None
) -> "Axes":
    """Draw how a solve or a training came down, on a logarithmic ordinate.

    Of solves the residual norm by the recurrence, and as a diamond the true one that was recomputed in the end; of
    training the gradient norm against products, and the target.

    Parameters
    ----------
    result : SolveResult, BlockSolveResult, TrainingResult or RetrainResult
    ax : matplotlib Axes, optional

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from krylovh import cg
    >>> plot_convergence(cg(np.diag([1.0, 2.0, 4.0]), np.ones(3))).get_xlabel()
    'iteration'
    """
    ax = new_axes(ax)
    ax.set_yscale("log")
    if isinstance(result, TrainingResult):
        ax.plot(
            result.num_products_history, _positive(result.gradient_norm_history), "o-", color=BLUE, ms=3, lw=1.2,
            label=f"{result.method}: {result.status}",
        )  # fmt: skip
        if result.target > 0:
            ax.axhline(result.target, color="black", ls="--", lw=1.0, label="target")
        ax.set_xlabel("products")
        ax.set_ylabel("gradient norm")
    elif isinstance(result, RetrainResult):
        ax.plot(_positive(result.gradient_history), "o-", color=BLUE, ms=3, lw=1.2, label=f"retrain: {result.status}")
        ax.set_xlabel("Newton step")
        ax.set_ylabel("gradient norm")
    else:
        _plot_residuals(result, ax)
        ax.set_xlabel("iteration")
        ax.set_ylabel("residual norm")
    return finished(ax)


def _plot_residuals(result: SolveResult | BlockSolveResult, ax: "Axes") -> None:
    if isinstance(result, SolveResult):
        histories = result.residual_history[:, None]
        finals, statuses = [result.residual_norm], [result.status]
    else:
        histories, finals, statuses = result.residual_history, list(result.residual_norms), list(result.statuses)
    for i, (final, status) in enumerate(zip(finals, statuses, strict=True)):
        colour = CYCLE[i % len(CYCLE)]
        name = result.solver if len(finals) == 1 else f"system {i}"
        history = _positive(histories[:, i])
        ax.plot(history, color=colour, lw=1.4, label=f"{name}: {status}")
        label = "true residual" if i == 0 else None
        mark = VERMILION if len(finals) == 1 else colour
        ax.plot([len(history) - 1], _positive(np.array([final])), "D", color=mark, ms=6, label=label)


def _positive(values: np.ndarray) -> np.ndarray:
    """Return values for a logarithmic axis, which has no place for zero: it is drawn at the bottom."""
    values = np.asarray(values, dtype=np.float64)
    known = values[np.isfinite(values) & (values > 0)]
    floor = known.min() * 1e-2 if known.size else 1e-300
    return np.where(values > 0, values, np.where(np.isnan(values), np.nan, floor))

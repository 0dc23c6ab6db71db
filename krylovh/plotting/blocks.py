"""The matrix layer by layer: how strongly the parameters of two layers are coupled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from krylovh.plotting.style import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_layer_blocks"]


def plot_layer_blocks(norms: ArrayLike, ax: "Axes | None" = None, *, names: Sequence[str] | None = None) -> "Axes":
    """Draw norms of the blocks of a matrix as a heat map, with the numbers in it and a logarithmic scale of colours.

    Parameters
    ----------
    norms : array_like, shape (L, L)
        At least 0, such as those of :func:`krylovh.layer_block_norms`.
    ax : matplotlib Axes, optional
    names : sequence of str, optional
        Of the layers; their numbers from 1 on if not given.

    Raises
    ------
    ValueError
        ``norms`` is not square, or negative.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> ax = plot_layer_blocks([[4.0, 0.1], [0.1, 2.0]])
    >>> [text.get_text() for text in ax.texts]
    ['4', '0.1', '0.1', '2']
    """
    from matplotlib.colors import LogNorm

    values = np.asarray(norms, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0:
        raise ValueError(f"norms must have shape (L, L), got {values.shape}")
    if not np.all(values >= 0):
        raise ValueError(f"norms must be at least 0, got {values.min()}")
    ax = new_axes(ax)
    high = values.max() or 1.0
    low = max(values[values > 0].min(initial=high), 1e-8 * high)
    scale = LogNorm(low / 1.5, high)
    image = ax.imshow(np.maximum(values, low / 1.5), cmap="cividis", norm=scale)
    labels = [str(l + 1) for l in range(len(values))] if names is None else list(names)
    ax.set_xticks(range(len(values)), labels)
    ax.set_yticks(range(len(values)), labels)
    for (i, j), value in np.ndenumerate(values):
        dark = scale(max(value, low / 1.5)) < 0.6
        ax.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize="small", color="white" if dark else "black")
    ax.set_xlabel("layer")
    ax.set_ylabel("layer")
    ax.figure.colorbar(image, ax=ax, label="Frobenius norm of the block")
    return ax

"""One style for all pictures: colours of Okabe and Ito, which colour-blind readers can tell apart; open axes.

Estimates are coloured lines, exact values are black, errors are bands and bars.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)

__all__ = ["BLUE", "CYCLE", "GREEN", "ORANGE", "PURPLE", "SKY", "VERMILION", "finished", "new_axes"]


def new_axes(ax: "Axes | None") -> "Axes":
    """Return the given axes, or those of a new figure that no global state knows of."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(7.2, 4.2), layout="constrained").subplots()


def finished(ax: "Axes", legend: str = "best") -> "Axes":
    """Open the axes at top and right, and add a legend if anything has a label."""
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", loc=legend)
    return ax

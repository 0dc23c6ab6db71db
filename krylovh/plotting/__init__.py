"""Pictures of results.

Every function draws into an Axes of matplotlib, a new one if none is given, and returns it; no global state of pyplot
is touched.  :func:`plot_spectrum` and :func:`plot_results` make whole figures.
"""

from krylovh.plotting.blocks import plot_layer_blocks
from krylovh.plotting.density import plot_cumulative, plot_density
from krylovh.plotting.eigenvalues import plot_eigenvalues, plot_spectrum_track
from krylovh.plotting.figures import plot_result, plot_results, plot_spectrum
from krylovh.plotting.histories import plot_convergence
from krylovh.plotting.influence import plot_influence
from krylovh.plotting.landscape import plot_loss_curves
from krylovh.plotting.pruning import plot_pruning
from krylovh.plotting.style import BLUE, VERMILION

__all__ = [
    "BLUE",
    "VERMILION",
    "plot_convergence",
    "plot_cumulative",
    "plot_density",
    "plot_eigenvalues",
    "plot_influence",
    "plot_layer_blocks",
    "plot_loss_curves",
    "plot_pruning",
    "plot_result",
    "plot_results",
    "plot_spectrum",
    "plot_spectrum_track",
]

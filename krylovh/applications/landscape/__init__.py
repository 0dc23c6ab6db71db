"""Looking along the spectrum: the loss along eigenvectors, and the spectrum through training."""

from krylovh.applications.landscape.curves import loss_along
from krylovh.applications.landscape.track import SpectrumTracker, track_spectrum

__all__ = ["SpectrumTracker", "loss_along", "track_spectrum"]

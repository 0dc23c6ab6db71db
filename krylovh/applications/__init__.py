"""What the Hessian is for."""

from krylovh.applications.influence import InfluenceWarning, influence, leave_one_out, retrain
from krylovh.applications.landscape import SpectrumTracker, loss_along, track_spectrum

__all__ = [
    "InfluenceWarning",
    "SpectrumTracker",
    "influence",
    "leave_one_out",
    "loss_along",
    "retrain",
    "track_spectrum",
]

"""Influence of samples, leave-one-out, and fast retraining on changed data."""

from krylovh.applications.influence.first_order import InfluenceWarning, influence
from krylovh.applications.influence.leaving_one_out import leave_one_out
from krylovh.applications.influence.retraining import retrain

__all__ = ["InfluenceWarning", "influence", "leave_one_out", "retrain"]

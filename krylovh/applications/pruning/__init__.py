"""Pruning: parameters are removed one after the other, those first whose loss is predicted to matter least."""

from krylovh.applications.pruning.compaction import compact
from krylovh.applications.pruning.pruning import prune
from krylovh.applications.pruning.removal import PruningState

__all__ = ["PruningState", "compact", "prune"]

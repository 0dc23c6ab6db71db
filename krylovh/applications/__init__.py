"""What the Hessian of a trained net is for."""

from krylovh.applications.pruning import PruningState, compact, prune

__all__ = ["PruningState", "compact", "prune"]

"""Data and runs that outgrow one machine, on an existing engine: MPI, through mpi4py.

Every rank runs the same program on the same net and some of the samples.  Vectors are whole on every rank, and sums
over samples are added up over the ranks, once per product or block.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "DistributedObjective": "objective",
    "RankGroups": "groups",
    "Ranks": "ranks",
    "is_first": "job",
    "is_launched": "job",
    "leaving": "job",
    "on_first": "objective",
    "petsc_matrix": "petsc",
    "spread_over_ranks": "objective",
    "world": "job",
}

__all__ = [
    "DistributedObjective",
    "RankGroups",
    "Ranks",
    "is_first",
    "is_launched",
    "leaving",
    "on_first",
    "petsc_matrix",
    "spread_over_ranks",
    "world",
]

if TYPE_CHECKING:
    from krylovh.distributed.groups import RankGroups
    from krylovh.distributed.job import is_first, is_launched, leaving, world
    from krylovh.distributed.objective import DistributedObjective, on_first, spread_over_ranks
    from krylovh.distributed.petsc import petsc_matrix
    from krylovh.distributed.ranks import Ranks


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"krylovh.distributed.{_HOME[name]}"), name)
    raise AttributeError(f"module 'krylovh.distributed' has no attribute {name!r}")

"""Data and runs that outgrow one machine, on an existing engine: MPI, through mpi4py.

Every rank runs the same program on the same net and some of the samples.  Vectors are whole on every rank, and sums
over samples are added up over the ranks, once per product or block.
"""

from krylovh.distributed.groups import RankGroups
from krylovh.distributed.objective import DistributedObjective
from krylovh.distributed.petsc import petsc_matrix
from krylovh.distributed.ranks import Ranks
from krylovh.distributed.world import is_launched, leaving, world

__all__ = ["DistributedObjective", "RankGroups", "Ranks", "is_launched", "leaving", "petsc_matrix", "world"]

"""A second level: independent work, such as probes, seeds or dampings, over groups of ranks.

The samples are spread within each group, and the groups share out what is independent.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from krylovh.checks import whole_number
from krylovh.distributed.ranks import Ranks

Array = NDArray[Any]
T = TypeVar("T")
U = TypeVar("U")

__all__ = ["RankGroups"]


class RankGroups:
    """The ranks of a communicator in groups of consecutive ranks, as equal in size as can be.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    num_groups : int
        From 1 to the number of ranks.

    Attributes
    ----------
    comm : communicator
        Of this rank's group: for the :class:`krylovh.DistributedObjective` that the group works on.
    index : int
        Which group this rank is in.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> alone = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 1, Split=lambda color, key: alone)
    >>> groups = RankGroups(alone, 1)
    >>> groups.map(lambda damping: 2 * damping, [0.1, 1.0])
    [0.2, 2.0]
    """

    def __init__(self, comm: Any, num_groups: int) -> None:
        size, rank = comm.Get_size(), comm.Get_rank()
        self.num_groups = whole_number("num_groups", num_groups, 1, size)
        self.index = rank * num_groups // size
        self.comm = comm.Split(self.index, rank)
        self._all = Ranks(comm)

    def map(self, function: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """Return ``[function(item) for item in items]`` on every rank; item i is the work of group i mod their number.

        All ranks of a group call the function together.  What it returns is pickled; a failure of one is raised by all.
        """
        own = range(self.index, len(items), self.num_groups)
        told = self._all.together(lambda: {i: function(items[i]) for i in own})
        found = {i: result for one in told for i, result in one.items()}
        return [found[i] for i in range(len(items))]

    def operator(self, A: LinearOperator) -> "ColumnParallelOperator":
        """Return A, of which all groups have the same, with the columns of a block shared out among the groups.

        Estimates with it, of a trace or a density with blocks of probes, use all ranks: random vectors are numbered, so
        that every rank draws the same ones, and a probe's product is made by one group as that group makes it alone.
        """
        return ColumnParallelOperator(A, self)


class ColumnParallelOperator(LinearOperator):  # type: ignore[misc]
    """A symmetric operator whose products with blocks are shared out by columns; see :meth:`RankGroups.operator`."""

    def __init__(self, A: LinearOperator, groups: RankGroups) -> None:
        super().__init__(A.dtype, A.shape)
        self.A = A
        self.groups = groups
        self._ranks = groups._all
        # one rank of each group adds the group's columns to the sum
        self._speaks = groups.comm.Get_rank() == 0

    @property
    def num_products(self) -> int:
        """Applications to one vector of this rank's group so far."""
        return int(self.A.num_products)

    def agree(self, value: T) -> T:
        """Return the value of the first of all ranks."""
        return self._ranks.agree(value)

    def _columns(self, count: int) -> slice:
        """Return the columns of this rank's group: runs of equal length, the last of them shorter."""
        run = -(-count // self.groups.num_groups)
        return slice(self.groups.index * run, min(count, (self.groups.index + 1) * run))

    def _shared(self, V: Array, out: Array, apply: Callable[[Array], Array]) -> Array:
        """Fill the own columns of ``out``, and add up those of all groups."""
        columns = self._columns(V.shape[1])

        def fill(out: Array) -> None:
            if columns.start < columns.stop:
                found = apply(np.asfortranarray(V[:, columns]))
                if self._speaks:
                    out[..., columns] = found

        self._ranks.sum(out, fill)
        return out

    def _matvec(self, v: Array) -> Array:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V)
        if V.dtype.kind == "c":
            return self._matmat(V.real) + 1j * self._matmat(V.imag)
        return self._shared(V, np.zeros(V.shape, self.dtype), self.A.matmat)

    def quadratic_form(self, V: ArrayLike) -> NDArray[np.float64]:
        """Return ``v' A v`` for each column of ``V`` (n, k), shape (k,)."""
        V = np.asarray(V)
        own: Callable[[Array], Array] | None = getattr(self.A, "quadratic_form", None)
        if own is None:
            return np.asarray(np.einsum("pk,pk->k", V, self.matmat(V), dtype=np.float64))
        return self._shared(V, np.zeros(V.shape[1]), own)

    def _adjoint(self) -> "ColumnParallelOperator":
        return self

    _transpose = _adjoint

    def _rmatvec(self, v: Array) -> Array:
        return self._matvec(v)

    def _rmatmat(self, V: Array) -> Array:
        return self._matmat(V)

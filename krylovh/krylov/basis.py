"""Where a basis lives: in memory, or in a file that the system maps into memory where it does not fit.

The file has no name by the time it is used, so that it disappears with the last array on it, also after a crash.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread

Array = NDArray[np.float64]

__all__ = ["BasisStorage", "rotate"]

#: bytes of the rows that are rotated at a time
_PIECE = 2**24


@dataclass(frozen=True)
class BasisStorage:
    """Allocates bases: in memory up to ``memory_limit`` bytes each, beyond that in a file in ``folder``.

    Parameters
    ----------
    memory_limit : int, optional
        No limit by default; with a folder and no limit everything goes to files.
    folder : path, optional
        The system's folder of temporary files by default.

    Examples
    --------
    >>> basis = BasisStorage(memory_limit=1000).empty(100, 2)  # 1600 bytes: in a file
    >>> basis.shape, basis.flags.f_contiguous
    ((100, 2), True)
    """

    memory_limit: int | None = None
    folder: Path | None = None

    def empty(self, n: int, columns: int) -> Array:
        """Return a Fortran-ordered array of shape (n, columns), of zeros if it is in a file."""
        limit = self.memory_limit
        if limit is None:
            limit = 0 if self.folder is not None else 8 * n * columns
        if 8 * n * columns <= limit:
            return np.empty((n, columns), order="F")
        with tempfile.TemporaryFile(dir=self.folder, prefix="krylovh-basis-") as file:
            return np.asarray(np.memmap(file, dtype=np.float64, mode="w+", shape=(n, columns), order="F"))


def rotate(V: Array, C: Array) -> None:
    """Replace the first p columns of ``V`` by ``V C`` in place, in pieces of rows.

    Parameters
    ----------
    V : ndarray, shape (n, m)
    C : ndarray, shape (m, p), p <= m

    Examples
    --------
    >>> V = np.eye(2)
    >>> rotate(V, np.array([[0.0], [1.0]]))
    >>> V
    array([[0., 0.],
           [1., 1.]])
    """
    n, m = V.shape
    rows = max(1, _PIECE // (8 * max(m, 1)))
    with one_blas_thread(V.nbytes):
        for first in range(0, n, rows):
            piece = V[first : first + rows]
            piece[:, : C.shape[1]] = piece @ C

"""What SciPy asks of a real symmetric operator that is made out of vectors and solves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

Array = NDArray[np.float64]

__all__ = ["SymmetricLinearOperator"]


class SymmetricLinearOperator(LinearOperator):  # type: ignore[misc]
    """A real symmetric LinearOperator in float64; a subclass says in ``_multiply`` what a block of vectors becomes.

    Examples
    --------
    >>> class Twice(SymmetricLinearOperator):
    ...     def _multiply(self, V):
    ...         return 2 * V
    >>> Twice(2) @ np.ones(2)
    array([2., 2.])
    """

    def __init__(self, order: int) -> None:
        super().__init__(np.dtype(np.float64), (order, order))

    def _multiply(self, V: Array) -> Array:
        """Return the products with the columns of ``V`` (n, k), as a new array."""
        raise NotImplementedError(f"{type(self).__name__} must define _multiply")

    def _matvec(self, v: Any) -> Any:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _matmat(self, V: Any) -> Any:
        V = np.asarray(V)
        if V.dtype.kind == "c":
            return self._matmat(V.real) + 1j * self._matmat(V.imag)
        if V.dtype.kind not in "fiub":
            raise TypeError(f"vectors must be real or complex numbers, got dtype {V.dtype}")
        return self._multiply(V.astype(np.float64))

    def _rmatvec(self, v: Any) -> Any:
        return self._matvec(v)

    def _rmatmat(self, V: Any) -> Any:
        return self._matmat(V)

    def _adjoint(self) -> "SymmetricLinearOperator":
        return self

    _transpose = _adjoint

"""What SciPy asks of a real symmetric matrix that is seen through products with blocks of vectors."""

import threading
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.sparse.linalg import LinearOperator

Array = NDArray[Any]
T = TypeVar("T")

__all__ = ["RealSymmetricOperator"]


class RealSymmetricOperator(LinearOperator):  # type: ignore[misc]
    """A real symmetric LinearOperator; a subclass says in ``_multiply`` what a block of real vectors becomes."""

    def __init__(self, dtype: DTypeLike, order: int) -> None:
        super().__init__(np.dtype(dtype), (order, order))
        self._lock = threading.Lock()
        self._num_products = 0

    @property
    def num_products(self) -> int:
        """Applications to one vector so far; a block of k counts k, and so do k quadratic forms."""
        return self._num_products

    def agree(self, value: T) -> T:
        """Return a value that all processes take alike which share the operator; the value itself of one alone."""
        return value

    def _count(self, products: int) -> None:
        with self._lock:
            self._num_products += products

    def quadratic_form(self, V: ArrayLike) -> NDArray[np.float64]:
        """Return ``v' A v`` for each column of ``V`` (n, k), shape (k,)."""
        V = np.asarray(V)
        if V.ndim != 2 or V.shape[0] != self.shape[0]:
            raise ValueError(f"V must have shape ({self.shape[0]}, k), got {V.shape}")
        if V.dtype.kind not in "fiub":
            raise TypeError(f"vectors must be real numbers, got dtype {V.dtype}")
        return np.asarray(np.einsum("pk,pk->k", V, self.matmat(V), dtype=np.float64))

    def _multiply(self, V: Array) -> Array:
        """Return the products with the columns of ``V``, real and (n, k), as a new array."""
        raise NotImplementedError(f"{type(self).__name__} must define _multiply")

    def _matvec(self, v: Array) -> Array:
        return self._matmat(np.asarray(v).reshape(-1, 1))[:, 0]

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V)
        if V.dtype.kind == "c":
            return self._matmat(V.real) + 1j * self._matmat(V.imag)
        if V.dtype.kind not in "fiub":
            raise TypeError(f"vectors must be real or complex numbers, got dtype {V.dtype}")
        product = self._multiply(V)
        self._count(V.shape[1])
        return product

    def _rmatvec(self, v: Array) -> Array:
        return self._matvec(v)

    def _rmatmat(self, V: Array) -> Array:
        return self._matmat(V)

    def _adjoint(self) -> "RealSymmetricOperator":
        return self

    _transpose = _adjoint

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

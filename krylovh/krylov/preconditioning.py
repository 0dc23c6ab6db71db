"""The preconditioner inside a solver: a symmetric positive definite operator that is checked while it is used.

A preconditioner P approximates the inverse of A: the solver asks for ``z = P r``.  Conjugate gradients are correct for
symmetric positive definite P only, and fail without a sound for others; each fault that shows is an error of its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

from krylovh.krylov.scaling import binary_exponent, ldexp
from krylovh.krylov.symmetric import NonFiniteProduct, SymmetricOperator
from krylovh.krylov.symmetry import check_symmetry

Array = NDArray[np.float64]

__all__ = ["CheckedPreconditioner"]


class CheckedPreconditioner:
    """Products with ``2**-exponent P``; the identity where P is None.

    ``exponent`` is even, so that norms with P in them scale by a power of two as well.

    Parameters
    ----------
    P : LinearOperator, ndarray or sparse matrix, shape (n, n), or None
    n : int

    Examples
    --------
    >>> P = CheckedPreconditioner(np.diag([1.0, -1.0]), 2)
    >>> P(np.array([1.0, 2.0]))
    Traceback (most recent call last):
    ValueError: preconditioner must be positive definite, got r'Pr = -6.0e-01 |r| |Pr| for a residual r
    """

    def __init__(self, P: Any, n: int) -> None:
        self._operator: SymmetricOperator | None = None
        self.exponent: int | None = None
        self._pairs: list[tuple[Array, Array]] = []
        if P is None:
            return
        operator = aslinearoperator(P)
        if operator.shape != (n, n):
            raise ValueError(f"preconditioner must have shape ({n}, {n}), got {operator.shape}")
        if np.dtype(operator.dtype or np.float64).kind == "c":
            raise TypeError(f"preconditioner must be real, got dtype {operator.dtype}")
        self._operator = SymmetricOperator(operator)

    @property
    def identity(self) -> bool:
        """Whether there is no preconditioner."""
        return self._operator is None

    def __call__(self, r: Array) -> tuple[Array, float]:
        """Return ``z = P r`` and ``r'z > 0`` for a nonzero residual r.

        Raises
        ------
        ValueError
            Where P turns out to be not finite, symmetric, nonsingular or positive definite.
        """
        if self._operator is None:
            return r, float(r @ r)
        z = self.apply(r)
        self._check_symmetry(r, z)
        rz = float(r @ z)
        scale = float(np.linalg.norm(r) * np.linalg.norm(z))
        if scale == 0.0:
            raise ValueError("preconditioner must be nonsingular, got P r = 0 for a residual r that is not zero")
        if rz <= 4 * self._operator.eps * scale:
            sign = f"{rz / scale:.1e} |r| |Pr|"
            raise ValueError(f"preconditioner must be positive definite, got r'Pr = {sign} for a residual r")
        return z, rz

    def apply(self, R: Array) -> Array:
        """Return ``P R`` for R of shape (n,) or (n, k)."""
        if self._operator is None:
            return R
        k = binary_exponent(R)
        try:
            product = self._operator(ldexp(R, -k))
        except NonFiniteProduct:
            raise ValueError("preconditioner must be finite, got NaN or infinity in P r for a finite r") from None
        if self.exponent is None:
            self.exponent = binary_exponent(product) // 2 * 2
        return ldexp(product, k - self.exponent)

    def _check_symmetry(self, r: Array, z: Array) -> None:
        """Compare the first two products; free unless they look wrong."""
        assert self._operator is not None
        if len(self._pairs) == 2:
            return
        length = np.linalg.norm(r)
        self._pairs.append((r / length, z / length))
        if len(self._pairs) == 2:
            R, Z = (np.column_stack(columns) for columns in zip(*self._pairs, strict=True))
            check_symmetry(self.apply, R, Z, self._operator.eps, name="preconditioner")
            self._pairs = [(np.zeros(0), np.zeros(0))] * 2

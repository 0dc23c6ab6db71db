"""The QLP recurrence of minimum residuals: the shortest minimiser of ``|beta_1 e_1 - T y|``, column by column.

The tridiagonal ``T`` (k+1, k) of the Lanczos process is reduced from the left by reflections, ``Q T = R``, as in
MINRES, and R from the right as well, ``R P = L``, lower triangular.  Where T is singular or nearly so, the small
diagonal entry of L is in the last place, and leaving its unknown out gives the minimiser of smallest norm, while the
plain recurrence divides by it.  Three vectors ``W = V P`` follow from each other; only the last three unknowns in the
new basis change from step to step.

References
----------
Paige and Saunders (1975), Solution of sparse indefinite systems of linear equations.
Choi, Paige and Saunders (2011), MINRES-QLP: a Krylov subspace method for indefinite or singular symmetric systems.
Choi and Saunders (2014), Algorithm 937: MINRES-QLP for symmetric and Hermitian linear equations and least-squares
problems, from which the names of the scalars are.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["MinresQLP"]


def _reflection(a: float, b: float) -> tuple[float, float, float]:
    """Return c, s, r with ``[[c, s], [s, -c]] (a, b) = (r, 0)``."""
    r = math.hypot(a, b)
    return (1.0, 0.0, 0.0) if r == 0.0 else (a / r, b / r, r)


class MinresQLP:
    """Minimum residual iterates ``x = V y``, from the Lanczos vectors v and the columns of T.

    Parameters
    ----------
    n : int
    beta1 : float
        Length of the first residual.
    norm : float
        A lower bound of ``|T|``, where one is known.
    eps : float
        Diagonal entries of L below ``10 eps |T|`` count as zero.

    Examples
    --------
    >>> recurrence = MinresQLP(2, 4.0, 2.0**-52)  # A = diag(2, 0), b = (4, 0)
    >>> recurrence.column(2.0, 0.0)
    8.0
    >>> recurrence.advance(np.array([1.0, 0.0]))
    >>> recurrence.x(), recurrence.residual_norm
    (array([2., 0.]), 0.0)
    """

    def __init__(self, n: int, beta1: float, eps: float, norm: float = 0.0) -> None:
        self.size = 0
        self._phi = beta1
        self.norm = norm  # a lower bound of |T|
        self._eps = eps
        self._cs, self._sn = -1.0, 0.0  # the last reflection from the left
        self._cr1, self._sr1, self._cr2, self._sr2 = -1.0, 0.0, -1.0, 0.0  # and two from the right
        self._gbar = self._dlta = self._dltan = self._eplnn = 0.0
        self._gama = self._gamal = self._gamal2 = 0.0
        self._eta = self._etal = self._etal2 = 0.0
        self._vepln = self._veplnl = self._veplnl2 = 0.0
        self._tau = self._taul = self._taul2 = 0.0
        self._u = self._ul = self._ul2 = self._ul3 = self._ul4 = 0.0
        self._w, self._wl, self._wl2 = np.zeros(n), np.zeros(n), np.zeros(n)
        self._xl2 = np.zeros(n)  # the part of x that does not change any more
        self._betan = 0.0
        self._square = 0.0  # |y|^2 of the part that does not change any more
        self._left_out = 0.0  # part of the residual that the last unknown would remove, where T is singular

    @property
    def solution_norm(self) -> float:
        """Norm of ``y``, which is that of x where v are orthonormal."""
        return math.sqrt(self._square + self._ul**2 + self._u**2)

    @property
    def residual_norm(self) -> float:
        """Norm of the residual of x."""
        return math.hypot(self._phi, self._left_out)

    def column(self, alpha: float, beta_next: float) -> float:
        """Take the next column of T, with ``beta_next`` below its diagonal; return ``|A r|`` of the present residual.

        The column enters x by :meth:`advance`.
        """
        self.norm = max(self.norm, math.sqrt(self._betan**2 + alpha**2 + beta_next**2))
        dbar = self._dltan
        self._dlta = self._cs * dbar + self._sn * alpha
        self._gbar = self._sn * dbar - self._cs * alpha
        self._epln_next = self._sn * beta_next
        self._dltan = -self._cs * beta_next
        self._betan = beta_next
        return self._phi * math.hypot(self._gbar, self._dltan)

    def advance(self, v: Array) -> None:
        """Update x with the Lanczos vector of the column taken last."""
        self.size += 1
        self._reflect_from_the_left()
        self._reflect_from_the_right()
        self._solve()
        self._rotate_basis(v)
        self._xl2 += self._ul2 * self._wl2
        # the reflection from the right that the entry two below the diagonal will need
        self._cr2, self._sr2, self._gamal = _reflection(self._gamal, self._eplnn)

    def x(self) -> Array:
        """Return the iterate, shape (n,), as a new array."""
        return np.asarray(self._xl2 + self._ul * self._wl + self._u * self._w)

    def _reflect_from_the_left(self) -> None:
        self._eplnn = self._epln_next
        self._gamal2, self._gamal = self._gamal, self._gama
        self._cs, self._sn, self._gama = _reflection(self._gbar, self._betan)
        self._taul2, self._taul, self._tau = self._taul, self._tau, self._cs * self._phi
        self._phi *= self._sn

    def _reflect_from_the_right(self) -> None:
        dlta = self._dlta
        if self.size > 2:
            self._veplnl2, self._etal2, self._etal = self._veplnl, self._etal, self._eta
            self._veplnl = self._cr2 * self._vepln + self._sr2 * dlta
            dlta = self._sr2 * self._vepln - self._cr2 * dlta
            self._eta = self._sr2 * self._gama
            self._gama *= -self._cr2
        if self.size > 1:
            self._cr1, self._sr1, self._gamal = _reflection(self._gamal, dlta)
            self._vepln = self._sr1 * self._gama
            self._gama *= -self._cr1

    def _solve(self) -> None:
        """Forward substitution with the last rows of L."""
        self._ul4, self._ul3 = self._ul3, self._ul2
        self._ul2 = self._ul = self._u = 0.0
        if self.size > 2 and self._gamal2 != 0.0:
            self._ul2 = (self._taul2 - self._etal2 * self._ul4 - self._veplnl2 * self._ul3) / self._gamal2
        if self.size > 1 and self._gamal != 0.0:
            self._ul = (self._taul - self._etal * self._ul3 - self._veplnl * self._ul2) / self._gamal
        self._square += self._ul2**2
        rest = self._tau - self._eta * self._ul2 - self._vepln * self._ul
        singular = abs(self._gama) <= 10 * self._eps * self.norm
        self._left_out = rest if singular else 0.0
        if not singular:
            self._u = rest / self._gama

    def _rotate_basis(self, v: Array) -> None:
        if self.size == 1:
            self._w = v.copy()
        elif self.size == 2:
            self._wl, self._w = self._cr1 * self._w + self._sr1 * v, self._sr1 * self._w - self._cr1 * v
        else:
            wl2, wl = self._wl, self._w
            w = self._sr2 * wl2 - self._cr2 * v
            self._wl2 = self._cr2 * wl2 + self._sr2 * v
            self._wl, self._w = self._cr1 * wl + self._sr1 * w, self._sr1 * wl - self._cr1 * w

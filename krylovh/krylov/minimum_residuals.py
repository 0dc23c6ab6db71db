"""The recurrence of minimum residuals in stages, and the search for a least-squares solution.

``A r`` is zero to rounding for two reasons: r is a null vector, or belongs to eigenvalues so small against the rounding
of ``A x`` that it looks like one.  Only iterating on tells them apart, and only a product shows what ``A r`` is.

References
----------
Choi, Paige and Saunders (2011), MINRES-QLP: a Krylov subspace method for indefinite or singular symmetric systems.
Liu, Milzarek and Roosta (2023), Obtaining pseudo-inverse solutions with MINRES: the null vector in x is that in r.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.krylov.conjugate_gradients import Callback
from krylovh.krylov.minres_qlp import MinresQLP
from krylovh.krylov.preconditioning import CheckedPreconditioner
from krylovh.krylov.scaling import ldexp
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.system import LinearSystem
from krylovh.progress import ProgressFunction
from krylovh.results import SolveResult, Status

Array = NDArray[np.float64]

__all__ = ["MinimumResiduals"]


@dataclass(frozen=True)
class _Candidate:
    """What may be a least-squares solution."""

    x: Array  # (n,)
    residual_norm: float  # by the recurrence
    flatness: float  # |A r| / (|A| |r|), by the recurrence
    iteration: int


class MinimumResiduals:
    """The state of the iteration: stages of the recurrence, each a correction to x from its true residual.

    Examples
    --------
    >>> A, b = np.diag([1.0, -2.0]), np.array([1.0, 4.0])
    >>> system, P = LinearSystem(A, b, rtol=1e-6), CheckedPreconditioner(None, 2)
    >>> MinimumResiduals(system, P, None, lambda done, total: None).solve(None).x.round(12)
    array([ 1., -2.])
    """

    def __init__(
        self, system: LinearSystem, P: CheckedPreconditioner, callback: Callback | None, report: ProgressFunction
    ) -> None:
        self.system = system
        self.P = P
        self.callback = callback
        self.report = report
        self.x = np.zeros(system.n)  # the best with a true residual
        self.start = self.x
        self.r = system.b.copy()
        self.norm = system.b_norm  # |r|
        self.history = [system.b_norm]
        self.largest_x = 0.0
        self.recurrence: MinresQLP | None = None  # for the correction to x
        self.projected_norm = 0.0  # of the tridiagonal matrices
        self.flatness: float | None = None  # |A r| / (|A| |r|) of the present r, where it was recomputed
        self.flattest = np.inf  # the smallest of all that were recomputed
        self.candidate: _Candidate | None = None
        self.best = (self.x, system.b_norm)  # iterate of smallest residual, and that by the recurrence
        #: |A r| / (|A| |r|) below which r may be a null vector: what rounding makes of zero in many steps
        self.flat = math.sqrt(system.eps)

    @property
    def iterations(self) -> int:
        """Steps taken so far."""
        return len(self.history) - 1

    def solve(self, x0: ArrayLike | None) -> SolveResult:
        """Return the solution, or what there is of it, from a start vector that costs a product."""
        self.system.operator.reserved = 1  # for the residual of whatever will have been found
        try:
            if x0 is not None:
                self.start, self.r = self.system.scaled_start(x0)
                self.x = self.start
                self.norm = float(np.linalg.norm(self.r))
                self.history = [self.norm]
                self.largest_x = float(np.linalg.norm(self.x))
            status = self._stages()
        except STOPS as stop:
            status = status_of(stop)
        return self._close(status)

    def _stages(self) -> Status:
        system, limit = self.system, self.system.max_iterations
        while True:
            before, flattest = self.norm, self.flattest
            if before <= system.target:
                return Status.CONVERGED
            if before <= system.attainable(self.largest_x):
                return Status.STAGNATED
            verdict = self._stage(limit)
            if verdict is not None:
                return verdict
            improved = self.norm <= 0.5 * before or self.flattest < 0.5 * flattest
            if system.target < self.norm and not improved:
                return Status.INCONSISTENT if self._is_null() else Status.STAGNATED
            limit = min(2 * self.iterations, system.max_iterations)

    def _stage(self, limit: int) -> Status | None:
        """Iterate from the true residual; return None where the recurrence and the truth have parted."""
        system = self.system
        z, rz = self.P(self.r)
        beta, previous, last, current = math.sqrt(rz), 1.0, np.zeros(system.n), self.r
        recurrence = self.recurrence = MinresQLP(system.n, beta, system.eps, self.projected_norm)
        unit = self.norm / beta  # what the residuals of the recurrence are measured in
        self.best = (self.x, recurrence.residual_norm)
        goal = system.target
        self.candidate = None
        while True:
            floor = system.attainable(self.largest_x)
            if self._candidate_stands() and (recurrence.residual_norm * unit <= floor or self._settled()):
                return self._least_squares()
            if self.best[1] * unit <= max(goal, floor) or beta == 0.0:
                parted = self._verify()
                if self.norm <= system.target:
                    return Status.CONVERGED
                if parted or self.best[1] * unit <= floor or beta == 0.0:
                    return None
                goal *= 0.1  # the preconditioner's norm was content, the Euclidean norm is not
            if self.iterations >= limit:
                self._verify()
                return None if limit < system.max_iterations else Status.BUDGET
            v = z / beta
            w = system.product(v)
            system.first_products(v, w)
            w -= (beta / previous) * last
            alpha = float(v @ w)
            w -= (alpha / beta) * current
            z, next_beta = self._next_direction(w, max(recurrence.norm, math.hypot(alpha, beta)))
            tail = recurrence.column(alpha, next_beta)
            self.projected_norm = recurrence.norm
            flatness = tail / (recurrence.norm * recurrence.residual_norm or 1.0)
            if recurrence.residual_norm > self.best[1]:
                flatness = np.inf  # of an iterate that rounding has carried away
            if flatness <= self.flat and not self._candidate_stands(flatness):
                self.candidate = _Candidate(*self.best, flatness, self.iterations)
            if flatness <= 10 * system.eps:
                return self._least_squares()
            recurrence.advance(v)
            previous, beta, last, current = beta, next_beta, current, w
            self._record(recurrence, unit)

    def _candidate_stands(self, flatness: float = np.inf) -> bool:
        """Return whether there is a candidate for the least-squares solution that iterating has not disproved.

        And whether it is as flat as ``flatness``.

        ``A r`` is zero to rounding for two reasons: r is a null vector, or belongs to eigenvalues so small against the
        rounding of ``A x`` that it looks like one.  In the second case the residual falls further.
        """
        return (
            self.candidate is not None
            and self.recurrence is not None
            and self.candidate.flatness <= flatness
            and self.recurrence.residual_norm > 0.1 * self.candidate.residual_norm
        )

    def _settled(self) -> bool:
        """Return whether the candidate has stood for half as many iterations as it took to find it."""
        return self.candidate is not None and self.iterations >= 1.5 * self.candidate.iteration + 10

    def _present(self) -> tuple[Array, float]:
        """Return the iterate and its residual by recurrence: that of the candidate as long as it stands.

        Where the system is inconsistent, what follows the candidate is rounding, blown up.
        """
        if self.candidate is not None and self._candidate_stands():
            return self.candidate.x, self.candidate.residual_norm
        return self.best

    def _next_direction(self, w: Array, norm: float) -> tuple[Array, float]:
        """Return ``P w`` and ``sqrt(w'P w)``; the latter is zero where the Krylov space is invariant, to rounding."""
        if not w.any():
            return w, 0.0
        z, square = self.P(w)
        beta = math.sqrt(square)
        return z, beta if beta > 10 * self.system.eps * norm else 0.0

    def _record(self, recurrence: MinresQLP, unit: float) -> None:
        x = self.x + recurrence.x()
        self.largest_x = max(self.largest_x, float(np.linalg.norm(x)))
        if recurrence.residual_norm <= self.best[1]:
            self.best = (x, recurrence.residual_norm)
        x, residual_norm = self._present()
        self.history.append(residual_norm * unit)
        self.report(self.iterations, self.system.max_iterations)
        if self.callback is not None:
            self.callback(ldexp(x, self.system.b_exponent - self.system.exponent))

    def _verify(self) -> bool:
        """Recompute the residual, keep the iterate if it is better; return whether the recurrence had drifted.

        The recurrence goes on correcting the x that it began with, so that what is kept here ends it, unless drift is
        absent and the iteration will come back.
        """
        x, expected = self._present()
        r = self.system.residual(x)
        norm = float(np.linalg.norm(r))
        drifted = norm > 0.0 and math.sqrt(self.P(r)[1]) > 2 * expected
        if drifted or norm <= self.system.target or expected == 0.0:
            self._keep(x, r, norm)
        return drifted

    def _keep(self, x: Array, r: Array, norm: float) -> None:
        if norm <= self.norm:
            self.x, self.r, self.norm, self.flatness = x, r, norm, None
        self.recurrence = None

    def _is_null(self) -> bool:
        """Return whether the present r is a null vector; one product, where an r before it looked like one."""
        if self.flatness is None and self.flattest <= self.flat:
            self.flatness = self._measured_flatness(self.r)[0]
        return self.flatness is not None and self.flatness <= self.flat

    def _measured_flatness(self, r: Array) -> tuple[float, Array, float, Array]:
        """Return the flatness of r, ``z = P r``, ``r'z`` and ``A z``; one product."""
        z, rz = self.P(r)
        null = self.system.product(z)
        flatness = float(np.linalg.norm(null) / (self.system.norm * np.linalg.norm(z) or 1.0))
        self.flattest = min(self.flattest, flatness)
        return flatness, z, rz, null

    def _least_squares(self) -> Status | None:
        """Recompute r and ``A r``, and tell whether there is anything left that a correction could reach.

        The null vector that r is may be part of x, and is taken out of it: the shortest solution remains.
        """
        x = self._present()[0]
        r = self.system.residual(x)
        norm = float(np.linalg.norm(r))
        self._keep(x, r, norm)
        if norm <= self.system.target:
            return Status.CONVERGED
        if norm <= 10 * self.system.attainable(float(np.linalg.norm(x))):
            return None
        flatness, z, rz, null = self._measured_flatness(self.r)
        self.flatness = flatness
        if flatness <= self.flat:
            self._shorten(z, rz, null, flatness)
        size = 1 + self.system.norm * float(np.linalg.norm(self.x)) / self.norm
        if flatness <= min(self.flat, 100 * self.system.eps * size):
            return Status.INCONSISTENT
        self.largest_x = float(np.linalg.norm(self.x))  # what came after the candidate is forgotten
        return None

    def _shorten(self, z: Array, rz: float, null: Array, flatness: float) -> None:
        """Take z out of x, unless ``A z``, which is not quite zero, would add more to r than a null vector may have.

        Where the bound ``|A A z| <= |A| |A z|`` does not tell, a product does.
        """
        along = float((self.x - self.start) @ self.r) / rz
        r = self.r + along * null
        flatness += abs(along) * self.system.norm * flatness
        if flatness > self.flat:
            flatness = self._measured_flatness(r)[0]
        if flatness <= self.flat:
            self.x, self.r, self.norm = self.x - along * z, r, float(np.linalg.norm(r))
            self.flatness = flatness

    def _close(self, status: Status) -> SolveResult:
        """Return the best x with its true residual."""
        self.system.operator.release()
        if self.recurrence is not None and self.recurrence.size:
            try:
                x = self._present()[0]
                r = self.system.residual(x)
                self._keep(x, r, float(np.linalg.norm(r)))
            except STOPS[:2] as stop:
                status = status_of(stop)
        if status in (Status.BUDGET, Status.STAGNATED) and self.norm <= self.system.target:
            status = Status.CONVERGED
        return self.system.result("minres", self.x, status, self.norm, self.history)

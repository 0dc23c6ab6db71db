"""The recurrence of conjugate gradients in stages, each started from a true residual.

The residual of the recurrence drifts away from ``b - A x``, and goes on falling where the true one has stopped.  So a
stage ends where the recurrence claims the target, the truth is looked at, and the next stage corrects what is left.

References
----------
Greenbaum (1997), Estimating the attainable accuracy of recursively computed residual methods.
van der Vorst and Ye (2000), Residual replacement strategies for Krylov subspace iterative methods.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.krylov.curvature import ROUNDING, FlatDirection, classify_direction
from krylovh.krylov.preconditioning import CheckedPreconditioner
from krylovh.krylov.scaling import ldexp
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.system import LinearSystem
from krylovh.krylov.trust_region import TrustRegion
from krylovh.progress import ProgressFunction
from krylovh.results import SolveResult, Status

Array = NDArray[np.float64]
Callback = Callable[[Array], Any]

__all__ = ["Callback", "ConjugateGradients"]


class ConjugateGradients:
    """The state of the iteration: stages of the recurrence, each started from a true residual.

    Examples
    --------
    >>> A, b = np.diag([1.0, 2.0]), np.array([1.0, 4.0])
    >>> system, P = LinearSystem(A, b, rtol=1e-6), CheckedPreconditioner(None, 2)
    >>> ConjugateGradients(system, P, None, None, lambda done, total: None).solve(None).x.round(12)
    array([1., 2.])
    """

    def __init__(
        self,
        system: LinearSystem,
        P: CheckedPreconditioner,
        radius: float | None,
        callback: Callback | None,
        report: ProgressFunction,
    ) -> None:
        self.system = system
        self.P = P
        self.radius = radius
        self.callback = callback
        self.report = report
        self.x = np.zeros(system.n)
        self.r = system.b.copy()
        self.history = [system.b_norm]
        self.best: tuple[Array, float] | None = None  # where the residual has risen since: where it was smallest
        self.verified = (self.x.copy(), system.b_norm)  # the best x with a true residual
        self.r_verified = self.r.copy()
        self.direction: Array | None = None
        self.largest_x = 0.0
        self.flattest = np.inf  # smallest p'Ap / |p|^2
        self.region: TrustRegion | None = None  # known once the scale of A is

    @property
    def iterations(self) -> int:
        """Steps taken so far."""
        return len(self.history) - 1

    def solve(self, x0: ArrayLike | None) -> SolveResult:
        """Return the solution, or what there is of it, from a start vector that costs a product."""
        self.system.operator.reserved = 1  # for the residual of whatever will have been found
        try:
            if x0 is not None:
                self.x, self.r = self.system.scaled_start(x0)
                self.history = [float(np.linalg.norm(self.r))]
                self.verified, self.r_verified = (self.x.copy(), self.history[0]), self.r.copy()
                self.largest_x = float(np.linalg.norm(self.x))
            status = self._stages()
        except STOPS as stop:
            status = status_of(stop)
        return self._close(status)

    def _stages(self) -> Status:
        """Run the recurrence from true residuals until one of them is small enough, or does not fall any more."""
        system, limit = self.system, self.system.max_iterations
        while True:
            before = self.verified[1]
            if before <= system.target:
                return Status.CONVERGED
            if before <= system.attainable(self.largest_x):
                return Status.STAGNATED
            verdict = self._stage(limit)
            if verdict is not None:
                return verdict
            self._verify()
            if system.target < self.verified[1] and self.verified[1] > 0.5 * before:
                return Status.STAGNATED
            limit = min(2 * self.iterations, system.max_iterations)  # a correction that costs more is not worth it

    def _stage(self, limit: int) -> Status | None:
        """Iterate until the recurrence claims the target, or all that can be attained: then return None."""
        system, region = self.system, self.region
        z, rz = self.P(self.r)
        if region is not None:
            region.turn(self.x, self.r, rz)
        p = z.copy()
        while True:
            norm = float(np.linalg.norm(self.r))
            if norm <= max(system.target, system.attainable(self.largest_x)):
                return None
            if self.iterations >= limit:
                return None if limit < system.max_iterations else Status.BUDGET
            q = system.product(p)
            system.first_products(p, q)
            if region is None and self.radius is not None:
                region = self.region = TrustRegion(self._scaled_radius(), rz)
            flat = classify_direction(system, p, q, doubtful=self.iterations == 0)
            self.flattest = min(self.flattest, float(p @ q) / float(p @ p))
            if flat is None and self.flattest <= ROUNDING * system.eps * system.norm:
                return (
                    Status.INCONSISTENT
                )  # as is seen now that the norm is known better, an earlier p was a null vector
            if flat is not None:
                return self._leave(flat, p, q, norm, region)
            with np.errstate(over="ignore", invalid="ignore"):
                step = rz / float(p @ q)
                outside = region is not None and region.leaves(step)
                if region is not None and outside:
                    step = region.distance()
                self._advance(step, p, q, norm)
            if outside:
                return Status.BOUNDARY
            if not np.isfinite(self.history[-1]):
                return Status.BREAKDOWN
            if self.history[-1] == 0.0:
                return None
            z, before = self.P(self.r)[0], rz
            rz = float(self.r @ z)
            beta = rz / before
            p *= beta
            p += z
            if region is not None:
                region.advance(step, beta, rz)

    def _advance(self, step: float, p: Array, q: Array, norm: float) -> None:
        """Take a step along p, with ``q = A p``; ``norm`` is the length of the residual before."""
        self.r -= step * q
        new = float(np.linalg.norm(self.r))
        smallest = norm if self.best is None else self.best[1]
        if not new <= smallest:
            if self.best is None:
                self.best = (self.x.copy(), norm)
        else:
            self.best = None
        self.x += step * p
        self.largest_x = max(self.largest_x, float(np.linalg.norm(self.x)))
        self.history.append(new)
        self.report(self.iterations, self.system.max_iterations)
        if self.callback is not None:
            self.callback(ldexp(self.x, self.system.b_exponent - self.system.exponent))

    def _leave(self, flat: FlatDirection, p: Array, q: Array, norm: float, region: TrustRegion | None) -> Status | None:
        """End where the quadratic does not curve upwards."""
        if flat.status == Status.INCONSISTENT and norm <= 100 * self.system.attainable(self.largest_x):
            return None  # what is left of the residual is rounding, and so is its component in the null space
        if flat.status == Status.NEGATIVE_CURVATURE:
            self.direction = flat.direction if flat.direction @ self.r >= 0 else -flat.direction
        if region is not None:
            self._advance(region.distance(), p, q, norm)
            return Status.BOUNDARY if flat.status == Status.INCONSISTENT else flat.status
        return flat.status

    def _scaled_radius(self) -> float:
        """Return the radius in the norm of scaled vectors."""
        assert self.radius is not None
        exponent = self.system.exponent - self.system.b_exponent + (self.P.exponent or 0) // 2
        with np.errstate(over="ignore", under="ignore"):
            return float(ldexp(self.radius, exponent))

    def _verify(self) -> None:
        """Replace the residual of the recurrence by the true one, at the better of the last x and the best before."""
        self._recall()
        r = self.system.residual(self.x)
        norm = float(np.linalg.norm(r))
        if norm <= self.verified[1]:
            self.verified = (self.x.copy(), norm)
            self.r, self.r_verified = r, r.copy()

    def _recall(self) -> None:
        """Return to the iterate of smallest residual; a trust region wants the last."""
        if self.best is not None and self.radius is None:
            self.x = self.best[0]
        self.best = None

    def _falls(self, r: Array) -> bool:
        """Return whether the quadratic is smaller at x, where the residual is r, than where it was verified last."""
        x, b = self.x, self.system.b
        value, before = -float(x @ (b + r)) / 2, -float(self.verified[0] @ (b + self.r_verified)) / 2
        return value < before - 10 * self.system.eps * abs(before)

    def _close(self, status: Status) -> SolveResult:
        """Return the best x with its true residual."""
        self.system.operator.release()
        x, norm = self.verified
        if status not in (Status.CONVERGED, Status.STAGNATED):
            if status in (Status.INCONSISTENT, Status.BREAKDOWN):
                self._recall()
            if not np.array_equal(self.x, x):
                try:
                    r = self.system.residual(self.x)
                    candidate = float(np.linalg.norm(r))
                    if candidate <= norm or self._falls(r):
                        x, norm = self.x, candidate
                except STOPS[:2] as stop:
                    status = status_of(stop)
            if status in (Status.BUDGET, Status.BREAKDOWN) and norm <= self.system.target:
                status = Status.CONVERGED
        return self.system.result("cg", x, status, norm, self.history, self.direction)

"""The search for a set of extreme eigenpairs: restarts, recomputed residuals, and the hunt for what is missing.

A process is deflated by the pairs ``base`` (none at first).  Its Ritz pairs and the base together are ranked, and those
of its own that belong to the k best are its *catch*.  The first process must catch k; a verifying process should catch
nothing, and is over as soon as that is clear.
"""

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.ends import Request, inner_interval, outside, preference
from krylovh.krylov.factorization import LanczosFactorization, RitzPairs
from krylovh.krylov.pairs import Pairs, rayleigh_ritz
from krylovh.krylov.scaling import ScaledOperator
from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct
from krylovh.progress import ProgressFunction

Array = NDArray[np.float64]
Index = NDArray[np.intp]

__all__ = ["Search"]

#: a Ritz value is taken to be on its side of a bound when its residual is below this share of the distance
_CLEAR = 0.01
#: relative residual of Ritz pairs that a restart keeps though they are not wanted
_KNOWN = 1e-4


class Search:
    """State of a search; ``found`` is valid at any moment, also when a method was left by an exception.

    Parameters
    ----------
    A : ScaledOperator
    request : Request
    capacity : int
        Most vectors in a basis.
    max_restarts : int
        ``BudgetSpent`` is raised if more are needed.
    rng : numpy.random.Generator
        Source of random directions.
    report : callable
        Progress.
    """

    def __init__(
        self,
        A: ScaledOperator,
        request: Request,
        capacity: int,
        max_restarts: int,
        rng: np.random.Generator,
        report: ProgressFunction,
    ) -> None:
        self.A = A
        self.k, self.which, self.tol = request.k, request.which, request.tol
        self.capacity, self.max_restarts, self.rng, self.report = capacity, max_restarts, rng, report
        self.found = self.base = Pairs.none(A.n)
        self.process: LanczosFactorization | None = None
        self.norm = 0.0  # largest |Ritz value| met
        self.num_restarts = 0
        self.verified = False

    def find(self, start: Array, product: Array) -> None:
        """Stages 1 and 2: converge k pairs from a start vector whose product is known."""
        process = LanczosFactorization(self.A, self.A.n, self.capacity, start, rng=self.rng, eps=self.A.eps)
        self.process = process
        process.extend(product)
        self._converge(process)

    def verify(self) -> None:
        """Stage 3: look for pairs that belong to the set and are missing, until there are none."""
        while True:
            self.base = self.found
            left = self.A.n - self.base.values.size
            if left == 0:
                break
            process = LanczosFactorization(
                self.A, self.A.n, min(self.capacity, left), locked=self.base.vectors, rng=self.rng, eps=self.A.eps
            )
            self.process = process
            if not self._converge(process):
                break
        self.verified = True

    def close(self) -> None:
        """Turn what an unfinished process has caught into pairs with true residuals; at most k reserved products."""
        self.A.operator.release()
        if self.process is None or self.process.size == 0:
            return
        ritz = self.process.ritz()
        self.norm = max(self.norm, float(np.abs(ritz.values).max()))
        catch = self._catch(ritz)
        if catch.size == 0:
            return
        try:
            self._absorb(self.process, ritz, catch)
        except NonFiniteProduct:
            if self.found.values.size == 0:  # pairs without a product: their residuals are not known
                X = np.linalg.qr(self.process.V @ ritz.coordinates[:, catch])[0]
                unknown = np.full(catch.size, np.nan)
                self.found = Pairs(ritz.values[catch], X, np.full_like(X, np.nan), unknown)

    def _converge(self, process: LanczosFactorization) -> bool:
        """Run a process until its catch has true residuals within the tolerance, or as small as they get.

        Returns whether there was a catch.
        """
        tightness, before = 0.5 * self.tol, np.inf  # half: a rotation within a cluster may mix two residuals
        while True:
            ritz, catch = self._iterate(process, tightness)
            if catch.size == 0:
                return False
            self._absorb(process, ritz, catch)
            worst = float(self.found.residual_norms.max())
            attainable = tightness * self.norm > self._floor(process)
            if worst <= self.tol * self.norm or not attainable or worst > 0.5 * before:
                return True
            tightness, before = 0.1 * tightness, worst

    def _iterate(self, process: LanczosFactorization, tightness: float) -> tuple[RitzPairs, Index]:
        """Extend and restart a process until its catch, by estimate, is converged and complete."""
        while True:
            full = process.size == process.capacity
            if process.size and (full or process.invariant or process.size % 4 == 0):
                ritz = process.ritz()
                self.norm = max(self.norm, float(np.abs(ritz.values).max()))
                catch = self._catch(ritz)
                target = max(tightness * self.norm, self._floor(process))
                converged = ritz.residual_norms[catch] <= target
                settled = min(self.base.values.size, self.k - catch.size)
                self.report(settled + int(np.count_nonzero(converged)), self.k)
                enough = self.base.values.size + catch.size >= self.k
                if process.complete or (enough and converged.all() and (catch.size or self._clear(ritz))):
                    return ritz, catch
                if full:
                    self._restart(process, ritz, catch)
            process.extend()

    def _restart(self, process: LanczosFactorization, ritz: RitzPairs, catch: Index) -> None:
        if self.num_restarts == self.max_restarts:
            raise BudgetSpent
        self.num_restarts += 1
        m, wanted = process.capacity, max(catch.size, 1)
        size = min(wanted + 2 * (m - wanted) // 5, m - 1)
        # What was caught, and then what may be caught next: a verifying process for "LM" watches both ends.
        watched = "BE" if self.which == "LM" and self.base.values.size else self.which
        order = preference(ritz.values, watched)
        order = np.concatenate([catch, order[~np.isin(order, catch)]])
        # Eigenvalues of the other end that are known by now would return in every cycle and fill the basis.
        others = order[size:][::-1][: (m - size) // 2]
        others = others[ritz.residual_norms[others] <= _KNOWN * self.norm]
        process.restart(ritz, np.concatenate([order[:size], others]))

    def _absorb(self, process: LanczosFactorization, ritz: RitzPairs, catch: Index) -> None:
        """Set ``found`` to the k best pairs in the span of the base and the catch; one product per pair caught."""
        Y = np.linalg.qr(process.V @ ritz.coordinates[:, catch])[0]
        AY = self.A(Y)
        pairs = rayleigh_ritz(np.hstack([self.base.vectors, Y]), np.hstack([self.base.products, AY]))
        self.found = pairs.select(np.sort(preference(pairs.values, self.which)[: self.k]))

    def _catch(self, ritz: RitzPairs) -> Index:
        return outside(ritz.values, self.base.values, self.k, self.which, self._margin)

    def _clear(self, ritz: RitzPairs) -> bool:
        """Whether the outermost Ritz values at the ends in question are certainly within the bounds of the base."""
        low, high = inner_interval(self.base.values, self.which)
        below_high = np.isinf(high) or ritz.residual_norms[-1] <= max(_CLEAR * (high - ritz.values[-1]), self._margin)
        above_low = np.isinf(low) or ritz.residual_norms[0] <= max(_CLEAR * (ritz.values[0] - low), self._margin)
        return bool(below_high and above_low)

    @property
    def _margin(self) -> float:
        """Half the distance below which eigenvalues are not told apart."""
        return 0.5 * max(self.tol * self.norm, float(self.base.residual_norms.max(initial=0.0)))

    def _floor(self, process: LanczosFactorization) -> float:
        """Residuals below this are not worth an iteration: rounding and noise in the products hide them."""
        return max(self.A.eps * self.norm, process.noise)

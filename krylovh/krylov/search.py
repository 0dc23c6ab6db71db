"""The search for a set of extreme eigenpairs: restarts, true residuals, and the hunt for what is missing.

A process is deflated by the pairs ``base`` (none at first).  Its Ritz pairs and the base together are ranked, and those
of its own that belong to the k best are its *catch*.  The first process must catch k; a verifying process should catch
nothing, and is over as soon as that is clear.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.basis import BasisStorage
from krylovh.krylov.block import BlockLanczosFactorization
from krylovh.krylov.complement import Complement, log_or_minus_infinity
from krylovh.krylov.ends import Request, inner_interval, outside, preference
from krylovh.krylov.exclusion import CONFIDENT, excluded_interval, log_probability_overlooked
from krylovh.krylov.factorization import LanczosFactorization, RitzPairs
from krylovh.krylov.orthogonalize import orthogonalize
from krylovh.krylov.pairs import Pairs, checked_products, rayleigh_ritz
from krylovh.krylov.position import Position
from krylovh.krylov.scaling import ScaledOperator
from krylovh.krylov.symmetric import BudgetSpent, NonFiniteProduct
from krylovh.progress import ProgressFunction

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Factorization = LanczosFactorization | BlockLanczosFactorization

__all__ = ["ROUNDING", "Search"]

#: a Ritz value is taken to be on its side of a bound when its residual is below this share of the distance
_CLEAR = 0.01
#: relative residual of Ritz pairs that a restart keeps though they are not wanted
_KNOWN = 1e-4
#: times eps |A|: what products and the sums of the process may differ by
ROUNDING = 10.0
#: from this many times the target on, residuals are looked at after every step
_NEAR = 300.0


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
    deflated : ndarray, shape (n, l)
        Orthonormal vectors that everything is kept orthogonal to.
    storage : BasisStorage
        Where bases live.
    """

    def __init__(
        self,
        A: ScaledOperator,
        request: Request,
        capacity: int,
        max_restarts: int,
        rng: np.random.Generator,
        report: ProgressFunction,
        *,
        deflated: Array,
        storage: BasisStorage,
    ) -> None:
        self.A = A
        self.k, self.which, self.tol = request.k, request.which, request.tol
        self.capacity, self.max_restarts, self.rng, self.report = capacity, max_restarts, rng, report
        self.deflated, self.storage = deflated, storage
        self.found = self.base = Pairs.none(A.n)
        self.process: Factorization | None = None
        self.first: Factorization | None = None  # of stage 1, while it is compared with
        self.second: LanczosFactorization | None = None  # one in the complement of all of that
        self.stage = "find"  # then "compare", where the whole basis is taken out, and "verify"
        self.position = Position()
        self.save: Callable[[], None] = lambda: None  # is called where the state is consistent
        self.norm = 0.0  # largest |Ritz value| met
        self.num_restarts = 0
        self.verified = False
        self.rest = (-np.inf, np.inf)  # holds all other eigenvalues, as far as it is known
        self.product_error = 0.0  # of products, root mean square, where they were not made anew
        self.last: tuple[RitzPairs, Index] | None = None  # state of the process when its catch was absorbed

    def find(self, start: Array, product: Array | None) -> None:
        """Stages 1 and 2: converge k pairs from a start vector, whose product may be known."""
        process = self._lanczos(self.capacity, self.deflated, start)
        self.process = process
        process.extend(product)
        self._converge(process, self._first_position())

    def go_on(self) -> None:
        """Go on with stages 1 and 2 where a search was that has left its state."""
        if self.stage == "find" and self.process is not None:
            self._converge(self.process, self.position)

    def ask_for_more(self) -> None:
        """Go on with the process of stage 1 for more pairs, or closer ones."""
        process = self.first or self.process
        assert process is not None
        self.start_over()
        self.process = process
        self._converge(process, self._first_position())

    def start_over(self) -> None:
        """Forget the process and the pairs, so that stage 1 may begin from them."""
        self.stage, self.verified, self.last = "find", False, None
        self.process = self.first = self.second = None
        self.found = self.base = Pairs.none(self.A.n)

    def find_by_blocks(self, block: Array, known: Pairs | None) -> None:
        """Stages 1 and 2 from a block of start vectors, or from orthonormal vectors with known products."""
        A = self.A
        process = BlockLanczosFactorization(
            A, A.n, self.capacity, block, locked=self.deflated, rng=self.rng, eps=A.eps, storage=self.storage
        )
        self.process = process
        if known is not None:
            process.adopt(known.vectors, known.products)
        self._converge(process, self._first_position())

    def verify(self, probe: Array, product: Array | None) -> None:
        """Stage 3: look for pairs that belong to the set and are missing, until there are none.

        Parameters
        ----------
        probe, product : ndarray, shape (n,)
            A random unit vector that no process has started from, and its product if that is known.
        """
        if self.stage != "verify":
            # what the first process has caught is the base now
            self.stage, self.base = "compare", self.found
            self.first, self.process = self.first or self.process, None
            self.save()
            if self.first is not None and self._nothing_overlooked(self.first, probe, product):
                self.verified = True
                return
            self.first = self.second = None
        elif self.process is not None and not self._converge(self.process, self.position):
            self.verified = True
            return
        self.stage = "verify"
        while True:
            self.base = self.found
            locked = np.hstack([self.deflated, self.base.vectors])
            left = self.A.n - locked.shape[1]
            if left == 0:
                self.rest = (np.inf, -np.inf)
                break
            process = self._lanczos(min(self.capacity, left), locked)
            self.process = process
            if not self._converge(process, self._first_position()):
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
            self._absorb(self.process, ritz, catch, known=False)
        except NonFiniteProduct:
            if self.found.values.size == 0:  # pairs without a product: their residuals are not known
                X = np.linalg.qr(self.process.V @ ritz.coordinates[:, catch])[0]
                unknown = np.full(catch.size, np.nan)
                self.found = Pairs(ritz.values[catch], X, np.full_like(X, np.nan), unknown)

    def _lanczos(self, capacity: int, locked: Array, start: Array | None = None) -> LanczosFactorization:
        A = self.A
        return LanczosFactorization(
            A, A.n, capacity, start, locked=locked, rng=self.rng, eps=A.eps, storage=self.storage
        )

    def _first_position(self) -> Position:
        # half of the tolerance: a rotation within a cluster may mix two residuals
        return Position(0.5 * self.tol, np.inf, self.num_restarts)

    def _converge(self, process: Factorization, position: Position) -> bool:
        """Run a process until its catch has true residuals within the tolerance, or as small as they get.

        Returns whether there was a catch.
        """
        while True:
            self.position = position
            ritz, catch = self._iterate(process, position)
            if catch.size == 0:
                return False
            self._absorb(process, ritz, catch)
            self.last = ritz, catch
            worst = float(self.found.residual_norms.max())
            attainable = position.tightness * self.norm > self._floor(process)
            if worst <= self.tol * self.norm or not attainable or worst > 0.5 * position.before:
                return True
            position = Position(0.1 * position.tightness, worst, self.num_restarts)

    def _iterate(self, process: Factorization, position: Position) -> tuple[RitzPairs, Index]:
        """Extend and restart a process until its catch, by estimate, is converged and complete."""
        while True:
            if not position.extends and (ended := self._examine(process, position)) is not None:
                return ended
            position.extends = True
            self.save()
            process.extend()
            if isinstance(process, LanczosFactorization):
                position.log_betas += log_or_minus_infinity(process.beta)
            position.extends = False

    def _examine(self, process: Factorization, position: Position) -> tuple[RitzPairs, Index] | None:
        """Return the Ritz pairs and the catch if that is what is wanted; restart the process if it is full."""
        blocks = isinstance(process, BlockLanczosFactorization)
        seldom = not (process.full or process.invariant or position.near or blocks or process.size % 4 == 0)
        if process.size == 0 or seldom:
            return None
        ritz = process.ritz()
        self.norm = max(self.norm, float(np.abs(ritz.values).max()))
        catch = self._catch(ritz)
        target = max(position.tightness * self.norm, self._floor(process))
        converged = ritz.residual_norms[catch] <= target
        position.near = bool((ritz.residual_norms[catch] <= _NEAR * target).all())
        settled = min(self.base.values.size, self.k - catch.size)
        self.report(settled + int(np.count_nonzero(converged)), self.k)
        enough = self.base.values.size + catch.size >= self.k
        if process.complete or (enough and converged.all() and catch.size):
            if catch.size == 0:
                self.rest = float(ritz.values[0]), float(ritz.values[-1])
            return ritz, catch
        restarted = self.num_restarts > position.restarts
        if enough and not catch.size and self._clear(process, ritz, None if restarted else position.log_betas):
            return ritz, catch
        if process.full:
            self._restart(process, ritz, catch)
        return None

    def _restart(self, process: Factorization, ritz: RitzPairs, catch: Index) -> None:
        if self.num_restarts == self.max_restarts:
            raise BudgetSpent
        self.num_restarts += 1
        block = max(process.Q.shape[1], 1) if isinstance(process, BlockLanczosFactorization) else 1
        m, wanted = process.size, max(catch.size, 1)
        size = min(wanted + 2 * (m - wanted) // 5, process.capacity - block)
        # What was caught, and then what may be caught next: a verifying process for "LM" watches both ends.
        watched = "BE" if self.which == "LM" and self.base.values.size else self.which
        order = preference(ritz.values, watched)
        order = np.concatenate([catch, order[~np.isin(order, catch)]])
        # Eigenvalues of the other end that are known by now would return in every cycle and fill the basis.
        others = order[size:][::-1][: max((process.capacity - block - size + 1) // 2, 0)]
        others = others[ritz.residual_norms[others] <= _KNOWN * self.norm]
        process.restart(ritz, np.concatenate([order[:size], others]))

    def _absorb(self, process: Factorization, ritz: RitzPairs, catch: Index, *, known: bool = True) -> None:
        """Set ``found`` to the k best pairs in the span of the base and the catch.

        Products with the catch are those of the process where a new product confirms them, or are made anew.
        """
        coordinates = ritz.coordinates[:, catch]
        Y, error = process.V @ coordinates, 0.0
        if known:
            eps, tol = self.A.eps, 0.1 * self.tol  # rounding of long sums exceeds 10 eps
            AY, error = checked_products(self.A, Y, process.products(coordinates), self.rng)
            known = error <= max(ROUNDING * eps, min(3 * ROUNDING * eps, tol)) * self.norm
        if not known:
            Y, error = np.linalg.qr(Y)[0], 0.0
            AY = self.A(Y)
        self.product_error = max(self.product_error, error)
        vectors, products = np.hstack([self.base.vectors, Y]), np.hstack([self.base.products, AY])
        pairs = rayleigh_ritz(vectors, products, self.product_error)
        self.found = pairs.select(np.sort(preference(pairs.values, self.which)[: self.k]))

    def _catch(self, ritz: RitzPairs) -> Index:
        return outside(ritz.values, self.base.values, self.k, self.which, self._margin)

    def _nothing_overlooked(self, process: Factorization, probe: Array, product: Array | None) -> bool:
        """Whether a process in the complement of the whole basis shows quickly that nothing is missing."""
        if self.last is None:
            return False
        left = self.A.n - self.deflated.shape[1] - process.size
        complement = Complement(*self.last, *self._widened_interval(), left)
        if not complement.is_worth_a_look:
            return False
        if self.second is None:
            self.second = self._process_in_complement(process, left, probe, product)
        while True:
            decided, rest = complement.examine(self.second)
            if decided:
                self.rest = rest or self.rest
                return rest is not None
            self.save()
            self.second.extend()

    def _process_in_complement(
        self, process: Factorization, left: int, probe: Array, product: Array | None
    ) -> LanczosFactorization:
        locked = np.hstack([self.deflated, process.V])
        start, capacity = probe.copy(), min(self.capacity, left)
        coefficients, length = orthogonalize(locked, start)
        if length < 0.1:  # few dimensions are left: any direction, at the price of a product
            second = self._lanczos(capacity, locked)
            second.extend()
            return second
        if self.deflated.shape[1]:  # whose products are not known
            product = None
        elif product is not None:
            product = (product - process.products(coefficients[:, None])[:, 0]) / length
        second = self._lanczos(capacity, locked, start / length)
        second.extend(product)
        return second

    def _clear(self, process: Factorization, ritz: RitzPairs, log_betas: float | None) -> bool:
        """Whether no eigenvalue of a process without a catch is beyond the bounds of the base.

        Before the first restart the answer is that of a random start; after it, the outermost Ritz pairs must be
        close to eigenpairs within the bounds.
        """
        low, high = self._widened_interval()
        if log_betas is not None:
            left = self.A.n - process.num_locked
            if log_probability_overlooked(ritz.values, log_betas, left, low, high) <= np.log(CONFIDENT):
                none = np.zeros(0), np.zeros(0)
                self.rest = excluded_interval(none, ritz.values, log_betas, left, low, high)
                return True
            if not process.invariant:
                return False
        bottom, top = ritz.values[0], ritz.values[-1]
        e_bottom, e_top = ritz.residual_norms[0], ritz.residual_norms[-1]
        below_high = np.isinf(high) or e_top <= max(_CLEAR * (high - top), self._margin)
        above_low = np.isinf(low) or e_bottom <= max(_CLEAR * (bottom - low), self._margin)
        if below_high and above_low:
            self.rest = (
                low if np.isinf(low) else max(low, float(bottom - e_bottom)),
                high if np.isinf(high) else min(high, float(top + e_top)),
            )
        return bool(below_high and above_low)

    def _widened_interval(self) -> tuple[float, float]:
        """Return the interval that all other eigenvalues are in if none is missing that can be told apart."""
        low, high = inner_interval(self.base.values, self.which)
        return low - self._margin, high + self._margin

    @property
    def _margin(self) -> float:
        """Half the distance below which eigenvalues are not told apart."""
        return 0.5 * max(self.tol * self.norm, float(self.base.residual_norms.max(initial=0.0)))

    def _floor(self, process: Factorization) -> float:
        """Residuals below this are not worth an iteration: rounding and noise in the products hide them."""
        return max(self.A.eps * self.norm, process.noise)

"""The diagonal of a symmetric operator from random signs.

For a vector v of independent random signs ``E[v * A v]`` is the diagonal of A, entry by entry; the variance of entry i
is ``sum_{j != i} a_ij^2`` (Bekas, Kokiopoulou and Saad 2007).  XDiag (Epperly, Tropp and Webber 2024) takes the range
of ``A V`` out: with ``Q_i`` an orthonormal basis of all columns but that of probe i, sample i is

    x_i = diag(Q_i Q_i'A) + v_i * (I - Q_i Q_i') A v_i.

As for XTrace the samples depend on each other, and their covariance follows from what they say if another probe is left
out as well.  Its ratio to the variance is measured on all entries together (up to a thousand of them), since it is
much the same for all.
"""

from os import PathLike
from typing import Any, Literal, cast, get_args

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import stdtrit

from krylovh.krylov.scaling import binary_exponent, ldexp
from krylovh.krylov.stops import is_final
from krylovh.krylov.symmetric import SymmetricOperator, resolve_seed
from krylovh.progress import Progress, ProgressFunction, reporting
from krylovh.recording import CheckpointLike, recording
from krylovh.results import DiagonalEstimate
from krylovh.stochastic.hutchinson import PILOT
from krylovh.stochastic.leave_one_out import range_basis
from krylovh.stochastic.probes import probe_block
from krylovh.stochastic.stopping import stopping
from krylovh.stochastic.targets import Target, checked_block_size, checked_budget, confirmed_batches

Array = NDArray[np.float64]
Method = Literal["bekas", "xdiag"]

#: Entries on which the covariance of XDiag's samples is measured.
_MEASURED = 1000
_FIRST_BATCH = 16
_LEAST = {"bekas": 1, "xdiag": 4}

__all__ = ["diagonal"]


def diagonal(
    A: Any,
    *,
    method: Method = "bekas",
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    simultaneous: bool = False,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> DiagonalEstimate:
    """Estimate the diagonal of ``A`` with standard errors and 95 % intervals.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    method : {"bekas", "xdiag"}
        One product per probe and three vectors of memory; or two products per probe and four vectors per probe, for
        operators with a decaying spectrum.
    num_products : int, optional
        Products to spend, at least 1 or 4; 100 by default, or no limit if there is a target.  With n or more, n unit
        vectors give the diagonal exactly.
    rtol, atol : float, optional
        Target for the half width of the widest interval, relative to the largest entry of the diagonal, and absolute.
    simultaneous : bool
        All n intervals hold at once with 95 % (Bonferroni), instead of each of them.  For "bekas" only: the far tails
        of XDiag, whose samples depend on each other, are heavier than Student's.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    block_size : int, optional
        Probes per block product, 16 by default.  The estimate does not depend on it beyond rounding.
    max_seconds : float, optional
        No product is started later than this.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)`` after every block.
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on if this one is stopped, at any moment; ``num_products`` may be larger
        then.

    Returns
    -------
    DiagonalEstimate
        ``value``, ``standard_error``, ``lower`` and ``upper``, each of shape (n,): Student's intervals, widened by the
        rounding of the products.  With fewer than two finished probes errors are NaN and the intervals the whole line.
        ``status`` is as for :func:`krylovh.trace`; "xdiag" stopped early gives what "bekas" makes of its products.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square and real.

    References
    ----------
    Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix.
    Epperly, Tropp and Webber (2024), XTrace: making the most of every sample in stochastic trace estimation.

    Examples
    --------
    >>> A = np.diag(np.arange(1.0, 201.0)) + 0.01
    >>> result = diagonal(A, num_products=50, rng=0)
    >>> result.value[:3].round(2), result.standard_error[:3].round(2)
    (array([1.03, 2.02, 3.  ]), array([0.02, 0.02, 0.02]))
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)}, got {method!r}")
    if simultaneous and method != "bekas":
        raise ValueError(f"simultaneous intervals need independent samples, those of method='bekas', got {method!r}")
    target = Target.of(rtol, atol)
    budget = checked_budget(num_products, target, _LEAST[method])
    block_size = checked_block_size(block_size)
    operator = SymmetricOperator(A, max_products=budget, max_seconds=max_seconds)
    arguments = {"method": method, "simultaneous": simultaneous, "block_size": block_size}
    larger = {"num_products": num_products, "rtol": rtol, "atol": atol}
    seed = None if rng is None else resolve_seed(rng, A)
    with recording(checkpoint, "diagonal", A, arguments, larger=larger, seed=seed) as record:
        if record.result is not None:
            return cast(DiagonalEstimate, record.result)
        operator.record = record
        found = _estimate(operator, method, target, simultaneous, record.seed, block_size, progress)
        if is_final(found.status, max_seconds):
            record.finish(found)
    return found


def _estimate(
    operator: SymmetricOperator,
    method: Method,
    target: Target | None,
    simultaneous: bool,
    seed: int,
    block_size: int,
    progress: Progress,
) -> DiagonalEstimate:
    n = operator.n
    level = 0.975 if not simultaneous else 1 - 0.025 / max(n, 1)
    estimator = (_Bekas if method == "bekas" else _XDiag)(operator, seed, block_size, level)
    with reporting(progress, "diagonal") as report, stopping() as outcome:
        if operator.remaining >= n and (target is None or n <= 2 * PILOT):
            estimator.exact(report)
        elif target is None:
            estimator.spend(int(operator.remaining), report)
        elif not estimator.reach(target, min(operator.remaining, n), report):
            outcome.missed(operator.remaining >= n)
            if operator.remaining >= n:
                estimator.exact(report)
    fields = estimator.value, estimator.error, estimator.lower, estimator.upper
    return DiagonalEstimate(*fields, simultaneous, operator.num_products, seed, outcome.status, method)


class _Diagonal:
    """Value, standard errors and intervals of what was found."""

    def __init__(self, operator: SymmetricOperator, seed: int, block_size: int, level: float) -> None:
        self.operator, self.seed, self.block_size, self.level = operator, seed, block_size, level
        n = operator.n
        self.value, self.error = np.full((2, n), np.nan)
        self.lower, self.upper = np.full(n, -np.inf), np.full(n, np.inf)

    def exact(self, report: ProgressFunction) -> None:
        """Make n products with unit vectors."""
        n = self.operator.n
        value = np.empty(n)
        for first in range(0, n, self.block_size):
            block = min(self.block_size, n - first)
            product = self.operator.recorded(f"exact: {first} to {first + block}", np.eye(n, block, -first))
            value[first : first + block] = np.diagonal(product, -first)
            report(first + block, n)
        self._set(value, np.zeros(n), 0.0, self.operator.eps * np.abs(value))

    def _set(self, value: Array, error: Array, quantile: float, rounding: Array) -> None:
        half = quantile * error + rounding
        self.value, self.error, self.lower, self.upper = value, error, value - half, value + half

    def _reached(self, target: Target) -> bool:
        half = float((self.upper / 2 - self.lower / 2).max())
        return half <= target.half_width(float(np.abs(self.value).max()))


class _Bekas(_Diagonal):
    """Running means and squared deviations of independent samples ``v * A v``."""

    def __init__(self, operator: SymmetricOperator, seed: int, block_size: int, level: float) -> None:
        super().__init__(operator, seed, block_size, level)
        self.count = 0
        self._mean, self._squares, self._magnitude = np.zeros((3, operator.n))
        self._pilot: tuple[int, Array] | None = None  # count, variance
        self._goal = 0  # of the present draw

    def spend(self, num_products: int, report: ProgressFunction) -> bool:
        self._restore()
        self._draw(num_products, report)
        return True

    def reach(self, target: Target, largest: float, report: ProgressFunction) -> bool:
        """Stein's two stages, for the entry that needs most samples."""
        if largest < 2:
            return False
        self._restore()
        if self._pilot is None:
            self._draw(int(min(PILOT, largest)), report)
            self._pilot = self.count, self._squares / (self.count - 1)
        variance = self._pilot[1]
        self._draw(int(min(self._goal, largest)), report)  # to the end of what was decided before a stop
        while not self._reached(target):
            width = target.half_width(float(np.abs(self.value).max()))
            with np.errstate(over="ignore", divide="ignore"):
                needed = np.ceil(variance.max() * (stdtrit(self._pilot[0] - 1, self.level) / width) ** 2)
            wanted = max(needed, self.count + 1.0)
            if not wanted <= largest:
                if self.operator.remaining < self.operator.n:  # else the exact diagonal is to be had
                    self._draw(int(largest), report)
                return self._reached(target)
            self._draw(int(wanted), report)
        return True

    def _state(self) -> dict[str, Any]:
        pilot, variance = self._pilot or (0, np.zeros(0))
        sums = {"mean": self._mean, "squares": self._squares, "magnitude": self._magnitude, "variance": variance}
        counts = {"count": self.count, "pilot": pilot, "goal": self._goal}
        return {**sums, **counts, "num_products": self.operator.num_products}

    def _restore(self) -> None:
        """Go on with the sums of a run before, if there are any."""
        state = self.operator.record.state("sums")
        if state is None:
            return
        self._mean, self._squares, self._magnitude = (state[name].copy() for name in ("mean", "squares", "magnitude"))
        self.count, self._goal, self.operator.num_products = state["count"], state["goal"], state["num_products"]
        self._pilot = (state["pilot"], state["variance"]) if state["pilot"] else None
        self._refresh()

    def _draw(self, count: int, report: ProgressFunction) -> None:
        self._goal = max(self._goal, count)
        while self.count < count:
            block = min(self.block_size, count - self.count)
            V = probe_block(self.operator.n, self.count, block, seed=self.seed, purpose="diagonal")
            V *= self.operator(V)
            self._append(V)
            self.operator.record.offer("sums", self._state)
            report(self.count, count)

    def _append(self, X: Array) -> None:
        """Merge a block of samples (Chan, Golub and LeVeque 1983)."""
        block = X.shape[1]
        self._magnitude += np.abs(X).sum(axis=1)
        mean = X.mean(axis=1)
        X -= mean[:, None]
        step, total = mean - self._mean, self.count + block
        self._squares += np.einsum("ij,ij->i", X, X) + step**2 * (self.count * block / total)
        self._mean += step * (block / total)
        self.count = total
        self._refresh()

    def _refresh(self) -> None:
        """Compute value, errors and intervals from the sums."""
        total = self.count
        count, variance = self._pilot or (total, self._squares / max(total - 1, 1))
        if count < 2:
            self.value = self._mean.copy()
            return
        rounding = self.operator.eps * self._magnitude / total
        quantile = float(stdtrit(count - 1, self.level))
        self._set(self._mean.copy(), np.sqrt(variance / total), quantile, rounding)


class _XDiag(_Diagonal):
    """Batches of probes that test each other; the last batch is the estimate."""

    def spend(self, num_products: int, report: ProgressFunction) -> bool:
        self._batch(0, num_products // 2, report)
        return True

    def reach(self, target: Target, largest: float, report: ProgressFunction) -> bool:
        last = self.operator.num_products + largest

        def reaches(first: int, size: int) -> bool:
            self._batch(first, size, report)
            return self._reached(target)

        return confirmed_batches(
            reaches,
            _FIRST_BATCH,
            2,
            lambda: (last - self.operator.num_products) // 2,
            lambda: self.operator.remaining < self.operator.n,
        )

    def _batch(self, first: int, size: int, report: ProgressFunction) -> None:
        n = self.operator.n
        V, Y = np.empty((n, size), order="F"), np.empty((n, size), order="F")
        done = exponent = 0
        try:
            for columns in self._blocks(size):
                count = columns.stop - done
                V[:, columns] = probe_block(n, first + done, count, seed=self.seed, purpose="xdiag")
                name = f"xdiag: {first + done} to {first + columns.stop}"
                Y[:, columns] = self.operator.recorded(name, V[:, columns])
                done = columns.stop
                report(done, 2 * size)
            exponent = binary_exponent(Y)
            ldexp(Y, -exponent, out=Y)
            Q, R = range_basis(Y, self.operator.eps)
            Z = np.empty_like(Q, order="F")
            for columns in self._blocks(Q.shape[1]):
                name = f"xdiag: range of {first} to {first + size}, from {columns.start}"
                product = self.operator.recorded(name, Q[:, columns])
                Z[:, columns] = ldexp(product, -exponent)
                report(size + columns.stop, 2 * size)
        except BaseException:
            if done > 1 and np.isnan(self.value).all():  # what was finished gives at least what Bekas makes of it
                X = ldexp(V[:, :done] * Y[:, :done], exponent)
                error, quantile = X.std(axis=1, ddof=1) / np.sqrt(done), float(stdtrit(done - 1, self.level))
                self._set(X.mean(axis=1), error, quantile, self.operator.eps * np.abs(X).mean(axis=1))
            raise
        known = np.einsum("ij,ij->i", Q, Z)
        # rounding of products, and what a range of full rank to rounding may have left
        rounding = self.operator.eps * (
            np.linalg.norm(Q, axis=1) * np.linalg.norm(Z) + size * np.linalg.norm(Z, axis=1)
        )
        if R is None:
            value, error = known, np.zeros(n)
        else:
            value, error = _leave_one_out_diagonal(V, Q, Z, R, known)
        quantile = float(stdtrit(size - 1, self.level))
        value, error, rounding = (ldexp(x, exponent) for x in (value, error, rounding))
        self._set(value, error, quantile, rounding)

    def _blocks(self, size: int) -> list[slice]:
        return [slice(i, min(i + self.block_size, size)) for i in range(0, size, self.block_size)]


def _leave_one_out_diagonal(V: Array, Q: Array, Z: Array, R: Array, known: Array) -> tuple[Array, Array]:
    """Return the mean of the samples of XDiag and its standard error, entry by entry."""
    n, p = V.shape
    S = scipy.linalg.solve_triangular(R, np.eye(p), trans="T")
    S /= np.linalg.norm(S, axis=0)
    QS, ZS, SR = Q @ S, Z @ S, S.T @ R
    X = QS * (V * np.diagonal(SR) - ZS)  # samples, but for what all have in common
    mean = X.mean(axis=1)
    X -= mean[:, None]
    variance = np.einsum("ij,ij->i", X, X) / (p - 1)
    rows = np.unique(np.linspace(0, n - 1, min(n, _MEASURED)).astype(np.intp))
    shared = _covariance(QS[rows], ZS[rows], V[rows], SR, S.T @ S).sum()
    own = variance[rows].sum()
    ratio = (p - 1) * float(shared / own) if own > 0 else 0.0
    return known + mean, np.sqrt(variance * (1 + min(max(ratio, 0.0), max(3.0, p / 4))) / p)


def _covariance(QS: Array, ZS: Array, V: Array, SR: Array, G: Array) -> Array:
    """Return, for some entries, the mean of ``(x_i - u_ij) (x_j - u_ji)`` over all pairs of probes.

    ``u_ij`` is sample i with probe j left out of its sketch as well: with ``e = (s_j - g s_i) / sqrt(1 - g^2)`` and
    ``g = s_i's_j``, the difference is ``Qe * (Ze - v_i (e'r_i))``.
    """
    p = len(G)
    total = np.zeros(len(QS))
    for i in range(p - 1):
        j = slice(i + 1, p)
        g = G[i, j]
        q = np.sqrt(np.maximum((1 - g) * (1 + g), np.finfo(float).tiny))
        product = np.ones((len(QS), p - 1 - i))
        own, others = (QS[:, [i]], ZS[:, [i]], V[:, [i]]), (QS[:, j], ZS[:, j], V[:, j])
        for (a, b, v), (c, d, _), coefficient in (
            (own, others, SR[j, i] - g * SR[i, i]),
            (others, own, SR[i, j] - g * np.diagonal(SR)[j]),
        ):
            product *= (c - g * a) * (d - g * b - v * coefficient) / q**2
        total += product.sum(axis=1)
    return total * 2 / (p * (p - 1))

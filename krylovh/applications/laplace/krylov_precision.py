"""The precision seen through products: preconditioned quadrature, conjugate gradients, and roots by Lanczos.

With ``D^2 = diag(alpha)`` and ``K = D^-1 beta G D^-1`` the precision is ``A = D (I + K) D``.  A Nystrom approximation
``K_r`` of rank r, made from r products, takes the large eigenvalues out: with ``P = I + K_r``

    log det A = log det D^2 + log det P + log det N,        N = P^-1/2 (I + K) P^-1/2,
    tr (I + K)^-1 = tr P^-1 + tr ((I + K)^-1 - P^-1).

Both are identities whatever K_r is, and only the last terms are estimated.  N is near I but for the tail of K: its
logarithm has a small norm, so that few probes suffice, and a small range, so that few steps do.  For a semidefinite K
``K_r <= K``, so that the eigenvalues of N are at least 1, which makes the error of quadrature a bound.

References
----------
Frangella, Tropp and Udell (2023), Randomized Nystrom preconditioning.
Wenger, Pleiss, Hennig, Cunningham and Gardner (2022), Preconditioning for scalable Gaussian process hyperparameter
optimization.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from krylovh.applications.laplace.precision import IndefiniteError
from krylovh.checks import whole_number
from krylovh.krylov import NystromPreconditioner, block_cg, eigsh, matrix_function
from krylovh.krylov.preconditioners import SpectralPreconditioner
from krylovh.progress import Progress, reporting
from krylovh.results import Estimate, Status
from krylovh.stochastic import logdet, trace

Array = NDArray[np.float64]

__all__ = ["KrylovPrecision"]

_RANK, _PROBES, _STEPS = 600, 20, 20  # by default: 1,000 products for a determinant
_BYTES = 2**30  # that the default rank may fill
_RTOL = 1e-8


class KrylovPrecision:
    """A through products with ``K``; see above.

    ``options`` has ``rank``, ``num_probes`` and ``num_steps``, None for the default.
    """

    def __init__(
        self,
        operator: LinearOperator,
        scale: float,
        alpha: Array,
        *,
        definite: bool,
        options: dict[str, Any],
        seed: int,
    ) -> None:
        if alpha.min() <= 0:
            raise ValueError(
                f"the prior precision must be positive with structure 'krylov', got {alpha.min():g} "
                f"at parameter {int(alpha.argmin())}: set l2 on every parameter, or use structure 'full'"
            )
        n = alpha.size
        rank, probes, steps = (options[name] for name in ("rank", "num_probes", "num_steps"))
        self._rank = min(n, _RANK, max(1, _BYTES // (8 * n))) if rank is None else whole_number("rank", rank, 0, n)
        self._probes = _PROBES if probes is None else whole_number("num_probes", probes, 1)
        self._steps = min(n, _STEPS) if steps is None else whole_number("num_steps", steps, 1, n)
        self.alpha, self.seed = alpha, seed
        self._operator, self._scale = operator, scale
        self._root = np.sqrt(alpha)
        ridge = operator.objective.l2 if operator.objective.l2.size else 0.0
        self._ridge = np.broadcast_to(ridge, alpha.shape)[:, None]
        self._eps = float(np.finfo(operator.dtype).eps)
        self._smallest = 1.0  # eigenvalue of I + K, at least
        self._definite = definite
        self._known: SpectralPreconditioner | None = None
        self.middle = self._linear(lambda V: V + self._curvature(V))
        if not definite:
            self._smallest = float(eigsh(self.middle, 1, which="SA", tol=1e-3, rng=seed).eigenvalues[0])
            if self._smallest <= 0:
                raise IndefiniteError(self._smallest, "of the Hessian in units of the prior precision")

    def _linear(self, product: Any) -> LinearOperator:
        """Return what maps a matrix to a matrix as an operator."""
        n = self.alpha.size

        def block(V: Array) -> Array:
            return np.asarray(product(np.asarray(V, dtype=np.float64).reshape(n, -1)))

        return LinearOperator(
            (n, n),
            matvec=lambda v: block(v)[:, 0],
            matmat=block,
            rmatvec=lambda v: block(v)[:, 0],
            dtype=self._operator.dtype,
        )

    def _curvature(self, V: Array) -> Array:
        """Return K V."""
        scaled = V / self._root[:, None]
        curved = self._operator.matmat(scaled) - self._ridge * scaled
        return np.asarray(self._scale * curved / self._root[:, None])

    @property
    def num_products(self) -> int:
        """Products with the curvature so far."""
        return int(self._operator.num_products)

    def _preconditioner(self) -> SpectralPreconditioner | None:
        """Return ``P^-1``, made at the first call; None for rank 0."""
        if self._known is None and self._rank:
            K = self._linear(self._curvature)
            # a Hessian may have eigenvalues between -1 and 0, which leave I + K definite
            found = NystromPreconditioner(K, 1.0, self._rank, rng=self.seed)
            self._known = SpectralPreconditioner(found.eigenvalues, found.vectors, 1.0, level=1.0)
        return self._known

    def logdet(self, progress: Progress = False) -> Estimate:
        """Return ``log det A``."""
        before, N = self.num_products, self.middle
        shift, lower = float(np.log(self.alpha).sum()), 1.0
        try:
            known = self._preconditioner()
        except KeyboardInterrupt:
            return self._nothing("lanczos quadrature", before)
        if known is not None:
            U, factors = known.vectors, known.factors + 1.0  # 1 / (1 + theta)
            change = (np.sqrt(factors) - 1.0)[:, None]
            shift -= float(np.log(factors).sum())

            def half(V: Array) -> Array:
                return np.asarray(V + U @ (change * (U.T @ V)))

            N = self._linear(lambda V: half(self.middle.matmat(half(V))))
            # products with rounding make K_r exceed K by as much
            lower -= 10 * np.sqrt(self.alpha.size) * self._eps / float(factors.min())
        found = logdet(
            N, lower_bound=lower if self._definite and lower > 0 else None, num_probes=self._probes,
            num_steps=self._steps, rng=self.seed, progress=progress,
        )  # fmt: skip
        low, high = found.interval
        return Estimate(
            found.value + shift, found.standard_error, (low + shift, high + shift), self.num_products - before,
            found.seed, found.status, found.method, found.quadrature_error,
        )  # fmt: skip

    def gamma(self, progress: Progress = False) -> Estimate:
        """Return the effective number of parameters, ``tr P^-1 K_r - tr ((I + K)^-1 - P^-1)``."""
        before, n = self.num_products, self.alpha.size
        try:
            known = self._preconditioner()
        except KeyboardInterrupt:
            return self._nothing("hutchinson", before)
        shift = 0.0 if known is None else float(-known.factors.sum())

        def difference(V: Array) -> Array:
            return (V if known is None else known.matmat(V)) - self._solve(V)

        found = trace(self._linear(difference), num_products=self._probes, rng=self.seed, progress=progress)
        # |z'(x - M^-1 z)| <= |z| |z - M x| / lambda_min, with |z|^2 = n
        slack = n * _RTOL / self._smallest
        low, high = found.interval
        return Estimate(
            found.value + shift, found.standard_error, (low + shift - slack, high + shift + slack),
            self.num_products - before, found.seed, found.status, found.method, slack,
        )  # fmt: skip

    def _nothing(self, method: str, before: int) -> Estimate:
        """Return what is known of a number before the first probe."""
        spent = self.num_products - before
        return Estimate(np.nan, np.nan, (-np.inf, np.inf), spent, self.seed, Status.INTERRUPTED, method, np.nan)

    def _solve(self, V: Array) -> Array:
        """Return ``(I + K)^-1 V``."""
        found = block_cg(self.middle, V, rtol=_RTOL, preconditioner=self._preconditioner())
        if found.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        if found.status is not Status.CONVERGED:
            raise ArithmeticError(f"the systems with the posterior precision were not solved: {found.status}")
        return np.asarray(found.x)

    def solve(self, V: Array) -> Array:
        """Return ``A^-1 V``."""
        return np.asarray(self._solve(V / self._root[:, None]) / self._root[:, None])

    def root(self, Z: Array, progress: Progress = False) -> Array:
        """Return S Z with ``S S' = A^-1``; interrupted, the columns that were done, if there is one."""
        out, done = np.empty_like(Z), 0
        try:
            with reporting(progress, "samples") as report:
                for z in Z.T:
                    found = matrix_function(self.middle, lambda x: 1 / np.sqrt(x), z, max_steps=1000)
                    if found.status is Status.INTERRUPTED:
                        raise KeyboardInterrupt
                    if found.status is not Status.CONVERGED:
                        raise ArithmeticError(f"the root of the posterior covariance was not applied: {found}")
                    out[:, done] = found.x / self._root
                    done += 1
                    report(done, Z.shape[1])
        except KeyboardInterrupt:
            if not done:
                raise
        return out[:, :done]

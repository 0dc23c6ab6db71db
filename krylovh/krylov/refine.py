"""Refinement of eigenpairs: from the accuracy of one operator to that of another, in a few products.

Pairs that were found with products in float32 have residuals of about 1e-6 ``|A|`` with products in float64, for what
float32 has rounded.  The error is not in the few directions that a Krylov space converges in, but spread over all of
them, most of which have eigenvalues far from the wanted ones: there ``(A - theta)^-1 r`` is about ``-r / theta``, so
that a Rayleigh-Ritz step in the span of the vectors and their residuals takes most of it away (block Davidson, without
a preconditioner).  Directions ``D`` are multiplied by small coefficients, therefore products ``A D`` may be those of
the cheaper operator, and only ``A X`` has to be accurate.

References
----------
Davidson (1975), The iterative calculation of a few of the lowest eigenvalues and corresponding eigenvectors of large
real-symmetric matrices.
Dongarra, Moler and Wilkinson (1983), Improving the accuracy of computed eigenvalues and eigenvectors.
Parlett, The Symmetric Eigenvalue Problem, 11.7.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.checks import whole_number
from krylovh.krylov.orthogonalize import orthonormal_part, project_out
from krylovh.krylov.pairs import Pairs, checked_products, rayleigh_ritz
from krylovh.krylov.scaling import ScaledOperator, binary_exponent, ldexp
from krylovh.krylov.search import ROUNDING
from krylovh.krylov.start import random_stream
from krylovh.krylov.stops import STOPS, status_of
from krylovh.krylov.symmetric import BudgetSpent, SymmetricOperator, resolve_seed
from krylovh.results import EigenResult, Status

Array = NDArray[np.float64]

__all__ = ["refine_eigenpairs"]

#: steps within which the largest residual must fall by this factor at least
_PATIENCE, _PROGRESS = 6, 0.7


def refine_eigenpairs(
    A: Any,
    pairs: EigenResult,
    *,
    coarse: Any = None,
    tol: float = 1e-8,
    max_steps: int = 10,
    rng: int | np.random.Generator | None = None,
    max_products: int | None = None,
    max_seconds: float | None = None,
) -> EigenResult:
    """Take eigenpairs of an operator nearby to the accuracy of ``A``.

    Costs k products with ``A`` for the residuals, one with ``coarse`` per step and pair that is not converged yet, and
    one with ``A`` that confirms the final residuals (or k, where it does not).

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        The accurate operator, real and symmetric.
    pairs : EigenResult
        With vectors of shape (n, k), such as ``eigsh`` returns for ``A`` with products in float32.
    coarse : LinearOperator, ndarray or sparse matrix, shape (n, n), optional
        A cheaper operator close to ``A``, for the corrections; ``A`` itself by default.
    tol : float
        A pair is converged when ``|A x - lambda x| <= tol |A|``.
    max_steps : int
        Corrections; status "budget" if more are needed.
    rng : int or numpy.random.Generator, optional
        Seed of the random combination that confirms the residuals.
    max_products, max_seconds : optional
        Budget of products with ``A``, which is never exceeded, and of time.

    Returns
    -------
    EigenResult
        The same pairs, with true residuals of ``A``.  ``set_verified`` is what it was for the pairs that were given,
        whose gaps are reduced by what the pairs have moved; ``num_products`` counts products with either operator.

    Raises
    ------
    ValueError
        Where an argument makes no sense, or the shapes do not fit.

    References
    ----------
    Davidson (1975); Parlett, The Symmetric Eigenvalue Problem, 11.7.

    Examples
    --------
    >>> from krylovh import eigsh
    >>> d = np.append(np.linspace(0, 1, 400), [2.1, 3.3])
    >>> rough = eigsh(np.diag(d).astype(np.float32), 2, tol=1e-5, rng=0)
    >>> fine = refine_eigenpairs(np.diag(d), rough, coarse=np.diag(d).astype(np.float32), tol=1e-10, rng=0)
    >>> str(fine.status), bool(np.abs(fine.eigenvalues - d[-2:]).max() < 1e-14)
    ('converged', True)
    """
    operator = SymmetricOperator(A, max_products=max_products, max_seconds=max_seconds)
    n = operator.n
    cheap = operator if coarse is None else SymmetricOperator(coarse, max_seconds=max_seconds)
    if cheap.n != n:
        raise ValueError(f"coarse must have shape ({n}, {n}), got ({cheap.n}, {cheap.n})")
    X = np.array(pairs.eigenvectors, dtype=np.float64)
    if X.ndim != 2 or X.shape[0] != n:
        raise ValueError(f"pairs must have eigenvectors of shape ({n}, k), got {X.shape}")
    if not np.isfinite(X).all():
        raise ValueError("pairs must have finite eigenvectors")
    if not 0 <= tol < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol}")
    steps = whole_number("max_steps", max_steps, 0)
    seed = resolve_seed(rng, A)
    refinement = _Refinement(operator, cheap, random_stream(seed, "refinement"))
    stopped = None
    if X.shape[1]:
        try:
            stopped = refinement.run(np.linalg.qr(X)[0], pairs.operator_norm, tol, steps)
        except STOPS as stop:
            stopped = status_of(stop)
    found, exponent, norm = refinement.found, refinement.exponent, refinement.norm
    num_products = operator.num_products + (cheap.num_products if cheap is not operator else 0)
    if found is None:  # not even the residuals are known
        unknown = np.full(X.shape[1], np.nan)
        status = stopped or pairs.status
        return replace(
            pairs, residual_norms=unknown, converged=np.zeros(X.shape[1], dtype=bool), status=status, gaps=None,
            tol=tol, seed=seed, num_products=num_products,
        )  # fmt: skip
    converged = found.residual_norms <= tol * norm
    X = np.asfortranarray(found.vectors)
    values = ldexp(found.values, exponent)
    gaps = pairs.gaps
    if gaps is not None:
        moved = ldexp(refinement.distance, exponent) + float(np.abs(values - pairs.eigenvalues).max())
        gaps = np.maximum(gaps - moved, 0.0)
    return EigenResult(
        eigenvalues=values,
        eigenvectors=X,
        residual_norms=ldexp(found.residual_norms, exponent),
        converged=converged,
        status=Status.CONVERGED if converged.all() else stopped or Status.STAGNATED,
        set_verified=pairs.set_verified,
        orthogonality=float(np.abs(X.T @ X - np.eye(X.shape[1])).max()),
        operator_norm=float(ldexp(norm, exponent)),
        num_products=num_products,
        num_restarts=0,
        which=pairs.which,
        tol=tol,
        seed=seed,
        gaps=gaps,
        rounding=float(ldexp(ROUNDING * operator.eps * norm, exponent)),
    )


class _Refinement:
    """Rayleigh-Ritz steps in a space that grows by residuals; ``found`` has true residuals at any moment."""

    def __init__(self, operator: SymmetricOperator, cheap: SymmetricOperator, rng: np.random.Generator) -> None:
        self.operator, self.cheap, self.rng = operator, cheap, rng
        self.found: Pairs | None = None
        self.exponent, self.norm = 0, 0.0
        self.distance = 0.0  # of the operators, as the first residuals show it

    def run(self, X: Array, norm: float, tol: float, steps: int) -> Status | None:
        """Refine orthonormal vectors, |A| being about ``norm``; return why not all are converged, if they are not."""
        product = self.operator(X)
        self.exponent = binary_exponent(product)
        A, cheap = ScaledOperator(self.operator, self.exponent), ScaledOperator(self.cheap, self.exponent)
        self.found = rayleigh_ritz(X, ldexp(product, -self.exponent))
        self.norm = max(float(np.abs(self.found.values).max()), float(ldexp(norm, -self.exponent)))
        self.distance = float(np.linalg.norm(self.found.residual_norms))
        while self.found.residual_norms.max() > tol * self.norm:
            if steps == 0:
                return Status.BUDGET
            self.operator.reserved = 1  # for the confirmation
            refined, taken, stalled = _corrected(cheap, self.found, 0.5 * tol * self.norm, steps)
            self.operator.reserved = 0
            steps -= taken
            products, error = checked_products(A, refined.vectors, refined.products, self.rng)
            if error > max(ROUNDING * A.eps, 0.1 * tol) * self.norm:  # the cheap operator is too far away
                products, error = A(refined.vectors), 0.0
            refined = rayleigh_ritz(refined.vectors, products, error)
            if refined.residual_norms.max() <= self.found.residual_norms.max():
                self.found = refined
            elif error == 0.0:
                stalled = True
            if stalled:
                return Status.STAGNATED
        return None


def _corrected(A: ScaledOperator, pairs: Pairs, target: float, steps: int) -> tuple[Pairs, int, bool]:
    """Return the Ritz pairs closest to ``pairs`` in their space and that of residuals, after some steps.

    Also how many steps were taken, and whether the last of them was of no use.
    """
    k, taken = pairs.values.size, 0
    history = [float(pairs.residual_norms.max())]
    Z, AZ = pairs.vectors, pairs.products
    while taken < steps:
        active = pairs.residual_norms > target
        if not active.any():
            break
        with one_blas_thread():  # narrow matrices: more threads would only wait for each other
            residuals = pairs.products[:, active] - pairs.vectors[:, active] * pairs.values[active]
            D = residuals / np.linalg.norm(residuals, axis=0)
            project_out(Z, D)
            D = orthonormal_part(D, Z, 1e-6)[0]
        if D.shape[1] == 0:
            return pairs, taken, True
        try:
            AD = A(D)
        except BudgetSpent:
            if taken == 0:
                raise
            break
        Z, AZ, taken = np.hstack([Z, D]), np.hstack([AZ, AD]), taken + 1
        with one_blas_thread():
            form = Z.T @ AZ
            form[:k, k:] = form[k:, :k].T  # D'(A X): that of the accurate products
            coordinates = np.linalg.eigh((form + form.T) / 2)[1]
            share = np.linalg.norm(coordinates[:k], axis=0)
            coordinates = coordinates[:, np.sort(np.argsort(-share, kind="stable")[:k])]
            pairs = rayleigh_ritz(Z @ coordinates, AZ @ coordinates)
        history.append(float(pairs.residual_norms.max()))
        if taken >= _PATIENCE and min(history[-_PATIENCE:]) > _PROGRESS * min(history[:-_PATIENCE]):
            return pairs, taken, True
    return pairs, taken, False

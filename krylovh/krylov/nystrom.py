"""The randomised Nystrom preconditioner: large eigenvalues out of one block product with random vectors.

``(A W) (W'A W)^+ (A W)'`` with a random W of r columns is the best approximation of a positive semidefinite A that the
products ``A W`` allow, and nearly as good as the best of that rank wherever eigenvalues fall off.

References
----------
Frangella, Tropp and Udell (2023), Randomized Nystrom preconditioning, algorithm 2.1.
Tropp, Yurtsever, Udell and Cevher (2017), Fixed-rank approximation of a positive-semidefinite matrix.
"""

import zlib
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.checks import whole_number
from krylovh.krylov.preconditioners import SpectralPreconditioner
from krylovh.krylov.symmetric import NonFiniteProduct, SymmetricOperator, resolve_seed

Array = NDArray[np.float64]

__all__ = ["NystromPreconditioner"]


class NystromPreconditioner(SpectralPreconditioner):
    """Spectral preconditioner for ``A + shift I`` from a randomised Nystrom approximation; ``rank`` products.

    Attributes: ``num_products``, ``seed``, ``eigenvalues`` (k,), and what :class:`SpectralPreconditioner` has.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Positive semidefinite; or with small negative eigenvalues, as long as ``A + shift I`` is positive definite: then
        the preconditioner is made of the large eigenvalues alone.
    shift : float
        What is added to A, more than 0.
    rank : int
        Products to spend, at most n: somewhat more than there are large eigenvalues.
    rng : int, numpy.random.Generator or None
        Seed of the random vectors.
    block_size : int
        Vectors per block product.

    Raises
    ------
    TypeError, ValueError
        Where an argument makes no sense, a product has NaN, or products show that ``A + shift I`` is not positive
        definite.

    References
    ----------
    Frangella, Tropp and Udell (2023), Randomized Nystrom preconditioning.

    Examples
    --------
    >>> from krylovh import cg
    >>> A = np.diag(np.concatenate([np.linspace(0, 0.01, 300), np.arange(1.0, 21.0)]))
    >>> shifted, b = A + 0.01 * np.eye(320), np.ones(320)
    >>> P = NystromPreconditioner(A, 0.01, rank=40, rng=0)
    >>> plain, preconditioned = cg(shifted, b), cg(shifted, b, preconditioner=P)
    >>> str(preconditioned.status), preconditioned.num_products < plain.num_products / 2
    ('converged', True)
    """

    def __init__(
        self,
        A: Any,
        shift: float,
        rank: int,
        *,
        rng: int | np.random.Generator | None = None,
        block_size: int = 64,
    ) -> None:
        operator = SymmetricOperator(A)
        n = operator.n
        if not 0 < shift < np.inf:
            raise ValueError(f"shift must be positive and finite, got {shift}")
        rank = whole_number("rank", rank, 1, n)
        block_size = whole_number("block_size", block_size, 1)
        self.seed = resolve_seed(rng, A)
        key = np.random.SeedSequence(self.seed, spawn_key=(zlib.crc32(b"nystrom"),))
        random = np.random.Generator(np.random.Philox(key)).standard_normal((n, rank))
        W = np.linalg.qr(random)[0]
        try:
            Y = np.hstack([operator(W[:, i : i + block_size]) for i in range(0, rank, block_size)])
        except NonFiniteProduct:
            raise ValueError("A must be finite, got NaN or infinity in a product") from None
        self.num_products = operator.num_products
        values, vectors = _approximation(W, Y, shift, operator.eps)
        self.eigenvalues = values
        super().__init__(values, vectors, shift, level=float(values[-1]) + shift)


def _approximation(W: Array, Y: Array, shift: float, eps: float) -> tuple[Array, Array]:
    """Return eigenvalues, descending, and eigenvectors of the Nystrom approximation from ``Y = A W``.

    For a positive semidefinite A a little is added to make the core positive definite, and taken off the eigenvalues
    again.  Otherwise, only those combinations of W are used on which A is positive beyond doubt: by more than a few
    times what it is negative on others.
    """
    nu = np.sqrt(len(W)) * eps * float(np.linalg.norm(Y, 2))
    Z = Y + nu * W
    core = W.T @ Z
    core = (core + core.T) / 2
    try:
        factor = np.linalg.cholesky(core)
        B = scipy.linalg.solve_triangular(factor, Z.T, lower=True).T
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(core)
        lowest = float(values[0]) - nu
        if lowest + shift <= 0:
            raise ValueError(
                "A + shift I must be positive definite, but w'(A + shift I) w = "
                f"{lowest + shift:.3g} for a vector w of length one"
            ) from None
        clear = values > max(2 * abs(lowest), 1e-3 * shift)
        nu = 0.0
        B = (Y @ vectors[:, clear]) / np.sqrt(values[clear])
        if not clear.any():
            return np.zeros(1), W[:, :1]
    U, sigma, _ = np.linalg.svd(B, full_matrices=False)
    return np.maximum(sigma**2 - nu, 0.0), U

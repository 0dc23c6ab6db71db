"""Where a computation starts: vectors of the caller, made orthonormal, and random ones that test the symmetry of A."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import finite_array
from krylovh.krylov.lanczos import checked_start
from krylovh.krylov.orthogonalize import orthonormal_part, project_out
from krylovh.krylov.pairs import Pairs, rayleigh_ritz
from krylovh.krylov.scaling import ScaledOperator, binary_exponent, ldexp, unit_vector
from krylovh.krylov.symmetric import SymmetricOperator
from krylovh.krylov.symmetry import check_symmetry

Array = NDArray[np.float64]

__all__ = ["FirstProducts", "checked_block", "first_products", "known_vectors", "random_stream"]


def random_stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the random stream of a purpose; streams of different purposes are independent.

    Examples
    --------
    >>> random_stream(7, "probe").standard_normal() == random_stream(7, "probe").standard_normal()
    True
    """
    key = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(f"eigsh {purpose}".encode()),))
    return np.random.Generator(np.random.Philox(key))


def known_vectors(deflate: ArrayLike | None, n: int) -> Array:
    """Return an orthonormal basis of the span of known vectors, shape (n, m); m = 0 where none are given.

    Examples
    --------
    >>> np.abs(known_vectors([[2.0], [0.0]], 2))
    array([[1.],
           [0.]])
    """
    if deflate is None:
        return np.zeros((n, 0))
    W = finite_array("deflate", deflate, np.float64)
    if W.ndim == 1:
        W = W[:, None]
    if W.ndim != 2 or W.shape[0] != n or W.shape[1] >= n:
        raise ValueError(f"deflate must have shape ({n}, m) with m < {n}, got {np.shape(deflate)}")
    if not W.any(axis=0).all():
        raise ValueError(f"deflate must not have zero columns, found column {int(np.argmin(W.any(axis=0)))}")
    basis, triangle = np.linalg.qr(np.column_stack([unit_vector(w) for w in W.T] or [np.zeros((n, 0))]))
    if (np.abs(np.diagonal(triangle)) < 1e-8).any():
        raise ValueError("deflate must have linearly independent columns")
    return np.asfortranarray(basis)


def checked_block(v0: ArrayLike, n: int, deflated: Array) -> Array:
    """Return an orthonormal basis of start vectors (n,) or (n, m), orthogonal to ``deflated``; dependent ones left out.

    Examples
    --------
    >>> np.abs(checked_block([[1.0, 2.0], [0.0, 0.0]], 2, np.zeros((2, 0))))
    array([[1.],
           [0.]])
    """
    v = np.asarray(v0)
    if v.ndim != 2:
        block = checked_start(v, n)[:, None]
    else:
        block = np.array(finite_array("v0", v, np.float64))
        if block.shape[0] != n or block.shape[1] == 0:
            raise ValueError(f"v0 must have shape ({n},) or ({n}, m) with m >= 1, got {v.shape}")
        columns = [unit_vector(column) for column in block.T if column.any()]
        if not columns:
            raise ValueError("v0 must not be zero")
        block = np.column_stack(columns)
    project_out(deflated, block)
    basis = orthonormal_part(block, deflated, 1e-10)[0]
    if basis.shape[1] == 0:
        raise ValueError("v0 must not lie in the span of deflate")
    return basis


@dataclass(frozen=True)
class FirstProducts:
    """Products with start vectors and random probes, in the units of ``A``."""

    A: ScaledOperator
    block: Array  # (n, b): orthonormal start vectors
    products: Array | None  # (n, b): A times them, where that is known
    probe: Array  # (n,): a random vector that is not a start
    probe_product: Array  # (n,)

    def pairs(self) -> Pairs:
        """Return the Ritz pairs of the start vectors."""
        products = self.A(self.block) if self.products is None else self.products
        return rayleigh_ritz(self.block, products)


def first_products(
    operator: SymmetricOperator, start: Array | None, block_size: int, deflated: Array, seed: int
) -> FirstProducts:
    """Scale an operator, check its symmetry, and start.

    The check needs two random vectors at least; a random start vector is one of them.

    Parameters
    ----------
    operator : SymmetricOperator
    start : ndarray, shape (n, b), optional
        Orthonormal; random where not given.
    block_size : int
        Number of start vectors that are random if ``start`` is not given.
    deflated : ndarray, shape (n, l)
        What start vectors are orthogonal to.
    seed : int
    """
    n = operator.n
    probes = random_stream(seed, "probe").standard_normal((1 + max(block_size, 1 if start is None else 2), n))
    random = np.column_stack([unit_vector(probe) for probe in probes])
    if start is not None:
        random = random[:, :2]
    elif block_size > 1:
        random[:, :-1] = np.linalg.qr(random[:, :-1])[0]
    U = random if start is None else np.hstack([start, random])
    product = operator(U)
    A = ScaledOperator(operator, binary_exponent(product))
    product = ldexp(product, -A.exponent)
    check_symmetry(A, U, product, A.eps)
    if start is not None:
        block, products = start, product[:, : start.shape[1]]
    else:
        block, products = U[:, :-1], product[:, :-1]
        if deflated.shape[1]:
            block = block.copy()
            project_out(deflated, block)
            block, products = orthonormal_part(block, deflated, 1e-10)[0], None
    return FirstProducts(A, np.asfortranarray(block), products, U[:, -1].copy(), product[:, -1])

"""The spectrum of the Gauss-Newton matrix through the Gram matrix of its factors.

With Q_n = R_n R_n' the data part is G = V'V for the N C rows V of R_n' J_n (divided by the square root of the total),
and V V', of order N C, has the same nonzero eigenvalues.  Row (n, c) of V is the outer product of B_l (c-th row) and
the inputs of each layer l, so V is never formed:

    (V V')[(n, c), (n', c')] = sum over layers of  (B_l B_l')[(n, c), (n', c')]  *  (inputs of n . inputs of n').

Where N C is larger than P the matrix itself is the smaller one, and is used.

Source: Papyan (2018), The full spectrum of deepnet Hessians at scale; Dangel, Tatzel and Hennig (2022), ViViT.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.checks import whole_number
from krylovh.exact.assembly import assemble
from krylovh.exact.layout import layouts
from krylovh.exact.second_derivatives import Tile, tiles
from krylovh.objective import Objective

Array = NDArray[Any]

TILE_ROWS = 512  # samples whose factors are computed together

__all__ = ["GaussNewtonSpectrum", "gauss_newton_spectrum"]


class GaussNewtonSpectrum(NamedTuple):
    """All eigenvalues of a Gauss-Newton matrix: some listed, the rest equal to the ridge.

    Attributes
    ----------
    eigenvalues : ndarray, shape (r,)
        Those on the range of the data part, ascending, ridge included.
    eigenvectors : ndarray, shape (P, k)
        Of the k largest, in the order of ``eigenvalues[r - k:]``.
    num_remaining : int
        P - r: how many eigenvalues are left, all equal to ``ridge``.
    ridge : float
        The scalar l2 of the objective, 0 without one.
    """

    eigenvalues: Array
    eigenvectors: Array
    num_remaining: int
    ridge: float


def gauss_newton_spectrum(objective: Objective, *, eigenvectors: int = 0) -> GaussNewtonSpectrum:
    """Return all eigenvalues of the Gauss-Newton matrix, and eigenvectors of the largest.

    Parameters
    ----------
    objective : Objective
        With a scalar l2, or none.
    eigenvectors : int
        How many, of the largest eigenvalues: at most the rank of the data part.

    Returns
    -------
    GaussNewtonSpectrum
        In the objective's dtype, computed in float64 from derivatives in that dtype.  Eigenvalues of the data part up
        to max(N C, P) eps times the largest, with the dtype's eps, cannot be told from 0 and count as 0.  Eigenvectors
        come from those of the Gram matrix, V'u / sqrt(lambda): residuals grow like sqrt(lambda_max / lambda).

    Raises
    ------
    ValueError
        If l2 differs between parameters, if more eigenvectors are asked for than the rank, or if what is needed does
        not fit into ``objective.memory_limit``.
    FloatingPointError
        If loss or gradient are not finite at theta.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1, 1), "identity", [2.0, 3.0], bias=False)
    >>> spectrum = gauss_newton_spectrum(Objective(net, [[1.0]], [1.0], loss="squared_error", l2=0.5))
    >>> spectrum.eigenvalues, spectrum.num_remaining, spectrum.ridge
    (array([13.5]), 1, 0.5)
    """
    if objective.l2.size > 1:
        raise ValueError(
            f"l2 must be a scalar, which shifts the spectrum, got one value for each of {objective.l2.size}"
        )
    net, N, P = objective.net, objective.num_samples, objective.num_parameters
    order = N * net.widths[-1]
    wanted = whole_number("eigenvectors", eigenvectors, 0, min(order, P))
    through_gram = order <= P
    needed = (_gram_bytes(objective) if through_gram else 3 * P * P * 8) + 8 * wanted * (2 * P + order)
    if needed > objective.memory_limit:
        raise ValueError(
            f"the spectrum needs {needed} bytes, for matrices of order {min(order, P)}, "
            f"which must be at most memory_limit = {objective.memory_limit}"
        )
    if through_gram:
        factors = _Factors(objective)
        matrix = factors.gram()
    else:
        matrix = _data_part(objective)
    if wanted:
        values, vectors = scipy.linalg.eigh(matrix, overwrite_a=True, check_finite=False)
    else:
        values = scipy.linalg.eigvalsh(matrix, overwrite_a=True, check_finite=False)
    rank = int(np.count_nonzero(values > max(order, P) * np.finfo(objective.dtype).eps * max(values[-1], 0.0)))
    if wanted > rank:
        raise ValueError(f"eigenvectors must be at most the rank of the data part, {rank}, got {wanted}")
    found = np.empty((P, 0))
    if wanted:
        found = vectors[:, -wanted:]
        if through_gram:
            found = factors.mapped_back(found) / np.sqrt(values[-wanted:])
    ridge = float(objective.l2.sum())
    nonzero = (values[len(values) - rank :] + ridge).astype(objective.dtype)
    return GaussNewtonSpectrum(nonzero, found.astype(objective.dtype), P - rank, ridge)


def _gram_bytes(objective: Objective) -> int:
    """Return what the Gram matrix takes, twice while it is summed and decomposed, and what it is made of."""
    widths = objective.net.widths
    order = objective.num_samples * widths[-1]
    return 8 * (3 * order * order + order * sum(widths[1:]) + objective.num_samples * sum(widths))


def _data_part(objective: Objective) -> Array:
    """Return the Gauss-Newton matrix in float64, without the ridge."""
    P, layout = objective.num_parameters, layouts(objective.net, range(1, objective.net.depth + 1))
    matrix = np.empty((P, P), objective.dtype)
    assemble(objective, True, np.empty(0), layout, matrix, lambda done, work: None)
    return matrix.astype(np.float64, copy=False)


class _Factors:
    """B_l, (N, C, d_l), and the outputs of all layers that feed others, for all samples and in float64."""

    def __init__(self, objective: Objective) -> None:
        self.net, self.total = objective.net, objective.total
        with one_blas_thread():
            parts = [_of_tile(tile) for tile in tiles(objective, TILE_ROWS)]
        self.B = [np.concatenate([B[l] for B, _ in parts]) for l in range(self.net.depth + 1)]
        self.z = [np.concatenate([z[l] for _, z in parts]) for l in range(self.net.depth)]

    def gram(self) -> Array:
        """Return V V', (N C, N C)."""
        N, C = self.B[-1].shape[:2]
        gram = np.zeros((N, C, N, C))
        inputs: dict[int, Array] = {}
        for block in self.net.blocks:
            inputs.setdefault(block.layer, np.zeros((N, N)))
            z = np.ones((N, 1)) if block.source is None else self.z[block.source]
            inputs[block.layer] += z @ z.T
        for layer, alike in inputs.items():
            rows = self.B[layer].reshape(N * C, -1)
            products = (rows @ rows.T).reshape(N, C, N, C)
            products *= alike[:, None, :, None]
            gram += products
        gram /= self.total
        return gram.reshape(N * C, N * C)

    def mapped_back(self, U: Array) -> Array:
        """Return V'U, (P, k), for U of shape (N C, k)."""
        N, C = self.B[-1].shape[:2]
        back = np.empty((self.net.num_parameters, U.shape[1]))
        by_sample = U.reshape(N, C, -1) / np.sqrt(self.total)
        for block in self.net.blocks:
            for k in range(U.shape[1]):
                g = np.einsum("ncj,nc->nj", self.B[block.layer], by_sample[:, :, k])
                part = g.sum(axis=0) if block.source is None else (g.T @ self.z[block.source]).ravel()
                back[block.start : block.stop, k] = part
        return back


def _of_tile(tile: Tile) -> tuple[list[Array], list[Array]]:
    return [B.astype(np.float64) for B in tile.output_factors()], [z.astype(np.float64) for z in tile.z[:-1]]

"""What every computation returns: a value, its error, its cost in products and a status.

Results are frozen dataclasses of plain arrays.  Whether an algorithm succeeded is data, not an exception: ``status``
says how it ended, and the partial result is there in any case.  ``num_products`` counts every application of the
operator to one vector, those of verification included.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kolmogi

Array = NDArray[np.float64]
Scale = Literal["linear", "signed_log"]

__all__ = ["EigenResult", "Estimate", "SpectralDensity", "Status", "Tridiagonalization", "signed_log"]


class Status(StrEnum):
    """How a computation ended.

    Examples
    --------
    >>> Status("budget") is Status.BUDGET
    True
    """

    CONVERGED = "converged"  # the target was reached, and checked by recomputation
    BUDGET = "budget"  # products, steps or seconds ran out first
    STAGNATED = "stagnated"  # rounding or noise in the products stops further progress
    NEGATIVE_CURVATURE = "negative_curvature"  # a direction d with d'Ad <= 0 was met
    BREAKDOWN = "breakdown"  # the Krylov space became invariant
    NONSYMMETRIC = "nonsymmetric"  # u'Av differs from v'Au by more than rounding
    NONFINITE = "nonfinite"  # a product returned NaN or infinity
    INCONSISTENT = "inconsistent"  # the system has no solution
    INTERRUPTED = "interrupted"  # stopped from outside; what was found is kept


@dataclass(frozen=True)
class Tridiagonalization:
    """A symmetric operator on a Krylov space: ``A Q = Q T + r e_m'`` with ``Q'Q = I``.

    ``Q`` is None where reorthogonalisation was switched off.

    Examples
    --------
    >>> t = Tridiagonalization(np.array([2.0, 2.0]), np.array([-1.0]), None, np.zeros(2), 0.0, 2, Status.BREAKDOWN)
    >>> t.dense()
    array([[ 2., -1.],
           [-1.,  2.]])
    """

    alphas: Array  # (m,)
    betas: Array  # (m-1,)
    Q: Array | None  # (n, m)
    residual: Array  # (n,): the vector r
    residual_norm: float
    num_products: int
    status: Status  # CONVERGED: all steps taken; BREAKDOWN: the space is invariant, and exact

    def dense(self) -> Array:
        """Return ``T`` as a dense matrix, shape (m, m)."""
        return np.asarray(np.diag(self.alphas) + np.diag(self.betas, 1) + np.diag(self.betas, -1))


@dataclass(frozen=True)
class EigenResult:
    """Eigenpairs of a symmetric operator, with residuals recomputed from products after the iteration.

    For a symmetric operator an eigenvalue lies within ``residual_norms[i]`` of ``eigenvalues[i]``.

    Examples
    --------
    >>> from krylovh import eigsh
    >>> result = eigsh(np.diag(np.arange(1.0, 101.0)), k=2, rng=0)
    >>> print(result)
    2 eigenpairs (LA), converged, set verified, 100 products
      9.9000000000e+01  residual 0.0e+00
      1.0000000000e+02  residual 0.0e+00
    """

    eigenvalues: Array  # (k,), ascending
    eigenvectors: Array  # (n, k), orthonormal columns
    residual_norms: Array  # (k,): |A x - lambda x|, recomputed
    converged: NDArray[np.bool_]  # (k,)
    status: Status
    set_verified: bool  # a deflated run found no eigenvalue that belongs to the set and is missing
    orthogonality: float  # max |X'X - I|
    operator_norm: float  # largest |Ritz value| met: a lower bound of |A|
    num_products: int
    num_restarts: int
    which: str
    tol: float
    seed: int

    def __str__(self) -> str:
        verified = "set verified" if self.set_verified else "set NOT verified"
        head = f"{len(self.eigenvalues)} eigenpairs ({self.which}), {self.status}, {verified}"
        lines = [
            f"  {value:.10e}  residual {norm:.1e}"
            for value, norm in zip(self.eigenvalues, self.residual_norms, strict=True)
        ]
        return "\n".join([f"{head}, {self.num_products} products", *lines])


@dataclass(frozen=True)
class Estimate:
    """A number from random probes, with its standard error and a 95 % interval.

    Examples
    --------
    >>> print(Estimate(10.0, 0.5, (8.9, 11.1), 30, 7, Status.CONVERGED, "hutchinson"))
    10 +- 0.5 (95 %: 8.9 to 11.1; hutchinson, 30 products, seed 7)
    """

    value: float
    standard_error: float
    interval: tuple[float, float]  # 95 %
    num_products: int
    seed: int
    status: Status
    method: str

    def __str__(self) -> str:
        low, high = self.interval
        cost = f"{self.method}, {self.num_products} products, seed {self.seed}"
        return f"{self.value:.6g} +- {self.standard_error:.2g} (95 %: {low:.6g} to {high:.6g}; {cost})"


def signed_log(x: ArrayLike, threshold: float) -> Array:
    """Map x to ``sign(x) log10(1 + |x|/threshold)``: linear near zero, logarithmic far from it.

    Examples
    --------
    >>> signed_log([-9.0, 0.0, 99.0], threshold=1.0)
    array([-1.,  0.,  2.])
    """
    x = np.asarray(x, dtype=np.float64)
    return np.asarray(np.sign(x) * np.log1p(np.abs(x) / threshold) / np.log(10.0))


@dataclass(frozen=True)
class SpectralDensity:
    """Stochastic Lanczos quadrature: one Gauss rule per probe for the spectrum seen from that probe.

    Row ``p`` of ``nodes`` and ``weights`` is the rule of probe ``p``; a probe whose Krylov space became invariant
    early is padded with NaN (its rule is then exact).  The weights of a probe add up to one.  Nodes are kept, so any
    smoothing can be redone.  Densities are per eigenvalue: they integrate to one.

    References
    ----------
    Lin, Saad and Yang (2016), Approximating spectral densities of large matrices.
    Chen, Trogdon and Ubaru (2021), Analysis of stochastic Lanczos quadrature for spectrum approximation.
    Golub and Meurant (2010), Matrices, Moments and Quadrature, chapter 6.

    Examples
    --------
    >>> rule = SpectralDensity(np.array([[0.0, 1.0]]), np.array([[0.9, 0.1]]), 100, 2, 0, Status.CONVERGED)
    >>> rule.cumulative([-1.0, 0.5, 2.0])
    array([0. , 0.9, 1. ])
    """

    nodes: Array  # (num_probes, num_steps), ascending in each row
    weights: Array  # (num_probes, num_steps)
    dimension: int  # n, the order of the operator
    num_products: int
    seed: int
    status: Status

    @property
    def num_probes(self) -> int:
        """Number of random probes."""
        return self.nodes.shape[0]

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest node."""
        return float(np.nanmin(self.nodes)), float(np.nanmax(self.nodes))

    @property
    def log_threshold(self) -> float:
        """Where the signed-log axis turns from linear to logarithmic: 1e-5 of the largest |node|."""
        low, high = self.support
        return 1e-5 * max(abs(low), abs(high)) or 1.0

    def grid(self, num_points: int = 1000, *, scale: Scale = "linear") -> Array:
        """Return points that cover the nodes with a margin, evenly spaced on the given axis, shape (num_points,)."""
        low, high = self._coordinate(np.array(self.support), scale)
        margin = 0.06 * (high - low) or 0.06 * (abs(high) or 1.0)
        points = np.linspace(low - margin, high + margin, num_points)
        if scale == "linear":
            return points
        return np.asarray(np.sign(points) * self.log_threshold * np.expm1(np.abs(points) * np.log(10.0)))

    def density(self, grid: ArrayLike, *, width: float | None = None, scale: Scale = "linear") -> Array:
        """Return the smoothed density at the points of ``grid``, shape of ``grid``.

        Each node becomes a Gaussian of standard deviation ``width`` (default: 1/100 of the range) in the coordinate
        of ``scale``; with ``"signed_log"`` the density is per unit of ``signed_log(x, log_threshold)``.
        """
        return np.asarray(self._densities(grid, width, scale).mean(axis=0))

    def density_error(self, grid: ArrayLike, *, width: float | None = None, scale: Scale = "linear") -> Array:
        """Return the standard error over probes of :meth:`density`; NaN for a single probe."""
        densities = self._densities(grid, width, scale)
        if self.num_probes == 1:
            return np.full(densities.shape[1:], np.nan)
        return np.asarray(densities.std(axis=0, ddof=1) / np.sqrt(self.num_probes))

    def cumulative(self, grid: ArrayLike) -> Array:
        """Return the estimated share of eigenvalues that are at most each point of ``grid``."""
        return np.asarray(self._mass(np.asarray(grid, dtype=np.float64), 0).mean(axis=0))

    def band(self, grid: ArrayLike, *, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return lower and upper bounds of the cumulative spectrum that hold at all points at once.

        Two errors are added.  That of the quadrature is bounded without a probability: for a Gauss rule the measure
        of a probe at ``x`` lies between the weight strictly before the last node under ``x`` and the weight up to the
        first node above ``x`` (Chebyshev, Markov and Stieltjes).  That of sampling: seen from a probe uniform on the
        sphere, a share c of the spectrum has weight Beta(nc/2, n(1-c)/2), so the mean over probes is c plus a
        Brownian bridge of variance 2c(1-c)/((n+2) probes), whose supremum has the Kolmogorov distribution.

        Parameters
        ----------
        grid : array_like
        confidence : float
            Probability, over the probes, that the whole curve lies in the band.
        """
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence must be in (0, 1), got {confidence}")
        grid = np.asarray(grid, dtype=np.float64)
        low, high = self.support
        rounding = 64 * np.finfo(np.float64).eps * max(abs(low), abs(high))
        sampling = kolmogi(1.0 - confidence) * np.sqrt(2.0 / ((self.dimension + 2) * self.num_probes))
        lower = self._mass(grid - rounding, -1).mean(axis=0) - sampling
        upper = self._mass(grid + rounding, +1).mean(axis=0) + sampling
        return np.clip(lower, 0.0, 1.0), np.clip(upper, 0.0, 1.0)

    def _mass(self, grid: Array, shift: int) -> Array:
        """Return the weight of the first ``#(nodes <= x) + shift`` nodes of each probe, (num_probes, *grid.shape)."""
        masses = np.empty((self.num_probes, *grid.shape))
        for row, (nodes, weights) in enumerate(zip(self.nodes, self.weights, strict=True)):
            size = np.count_nonzero(~np.isnan(nodes))
            exact = size < nodes.size or size >= self.dimension
            count = np.searchsorted(nodes[:size], grid, side="right") + (0 if exact else shift)
            total = np.concatenate([[0.0], np.cumsum(weights[:size])])
            masses[row] = total[np.clip(count, 0, size)]
        return masses

    def _coordinate(self, x: Array, scale: Scale) -> Array:
        if scale == "linear":
            return x
        if scale == "signed_log":
            return signed_log(x, self.log_threshold)
        raise ValueError(f"scale must be 'linear' or 'signed_log', got {scale!r}")

    def _densities(self, grid: ArrayLike, width: float | None, scale: Scale) -> Array:
        """Return the smoothed density of every probe, (num_probes, *grid.shape)."""
        points = self._coordinate(np.asarray(grid, dtype=np.float64), scale)
        low, high = self._coordinate(np.array(self.support), scale)
        sigma = width if width is not None else ((high - low) or abs(high) or 1.0) / 100
        if not sigma > 0:
            raise ValueError(f"width must be positive, got {width}")
        densities = np.empty((self.num_probes, *points.shape))
        for row, (nodes, weights) in enumerate(zip(self.nodes, self.weights, strict=True)):
            kept = ~np.isnan(nodes)
            offset = (points[..., None] - self._coordinate(nodes[kept], scale)) / sigma
            densities[row] = np.exp(-0.5 * offset**2) @ weights[kept] / (sigma * np.sqrt(2 * np.pi))
        return densities

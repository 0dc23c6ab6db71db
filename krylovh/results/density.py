"""Spectral densities by stochastic Lanczos quadrature."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kolmogi

from krylovh.results.display import Displayed
from krylovh.results.status import Status

Array = NDArray[np.float64]
Scale = Literal["linear", "signed_log"]
Sampling = Literal["kolmogorov", "guaranteed"]

__all__ = ["Scale", "SpectralDensity", "signed_log"]


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
class SpectralDensity(Displayed):
    """Stochastic Lanczos quadrature: one Gauss rule per probe for the spectrum seen from that probe.

    Row ``p`` of ``nodes`` and ``weights`` is the rule of probe ``p``, padded with NaN where the probe took fewer
    steps.  The weights of a probe add up to one, and a rule of m nodes has the moments ``v' A^k v``, k = 0 ... 2m-1, of
    its probe.  Where the Krylov space of a probe became invariant the rule is ``exact``: it is the spectrum seen from
    the probe.  Nodes are kept, so any smoothing can be redone.  Densities are per eigenvalue: they integrate to one.

    Where k eigenpairs were known beforehand, the rules are those of the rest of the spectrum, and the weights of a
    probe add up to ``1 - k/n``; each of the ``outliers`` has weight ``1/n``, without an error of sampling.

    A run that ended before its first product has no probe, and its methods raise ``ValueError``.

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
    >>> print(rule)
    spectral density of order 100: 1 probe, 2 nodes in [0, 1], converged, 2 products, seed 0
    """

    nodes: Array  # (num_probes, num_steps), ascending in each row
    weights: Array  # (num_probes, num_steps)
    dimension: int  # n, the order of the operator
    num_products: int
    seed: int
    status: Status
    exact: NDArray[np.bool_] | None = None  # (num_probes,): the Krylov space became invariant; None: in no probe
    accuracy: float = 2.0**-46  # of the nodes, relative to the largest: rounding of products and recurrences
    outliers: Array | None = None  # (k,), ascending: eigenvalues that the probes were kept clear of
    outlier_error: float = 0.0  # no eigenvalue is moved by more because the eigenpairs are not exact

    def __str__(self) -> str:
        size = np.count_nonzero(~np.isnan(self.nodes))
        span = f"[{np.nanmin(self.nodes):.4g}, {np.nanmax(self.nodes):.4g}]" if size else "an empty range"
        probes = f"{self.num_probes} probe{'' if self.num_probes == 1 else 's'}, {size} nodes in {span}"
        if self._known.size:
            probes = f"{self._known.size} outlier{'' if self._known.size == 1 else 's'}, {probes}"
        cost = f"{self.num_products} products, seed {self.seed}"
        return f"spectral density of order {self.dimension}: {probes}, {self.status}, {cost}"

    def table(self) -> dict[str, Any]:
        """Return the share of eigenvalues below some points, with the band that holds at all of them."""
        if self.num_probes == 0:
            return {}
        points = self._radius * np.array([-1e-1, -1e-3, 1e-3, 1e-1, 0.5])
        lower, upper = self.band(points)
        return {
            "eigenvalues at most": points,
            "share": self.cumulative(points),
            "95 % band": [f"{low:.4f} to {high:.4f}" for low, high in zip(lower, upper, strict=True)],
        }

    @property
    def num_probes(self) -> int:
        """Number of random probes."""
        return len(self.nodes)

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest node, outliers included."""
        if self.num_probes == 0:
            raise ValueError(self._empty)
        every = np.concatenate([self.nodes.ravel(), self._known])
        return float(np.nanmin(every)), float(np.nanmax(every))

    @property
    def log_threshold(self) -> float:
        """Where the signed-log axis turns from linear to logarithmic: 1e-4 of the largest absolute node."""
        return 1e-4 * self._radius or 1.0

    def grid(self, num_points: int = 1000, *, scale: Scale = "linear") -> Array:
        """Return points that cover the nodes with a margin, evenly spaced on the given axis, shape (num_points,)."""
        low, high = self._coordinate(np.array(self.support), scale)
        margin = 0.06 * ((high - low) or abs(high) or 1.0)
        points = np.linspace(low - margin, high + margin, num_points)
        if scale == "linear":
            return points
        return np.asarray(np.sign(points) * self.log_threshold * np.expm1(np.abs(points) * np.log(10.0)))

    def density(
        self, grid: ArrayLike, *, width: float | None = None, scale: Scale = "linear", outliers: bool = True
    ) -> Array:
        """Return the smoothed density at the points of ``grid``, shape of ``grid``.

        Each node becomes a Gaussian of standard deviation ``width`` (default: 1/100 of the range) in the coordinate
        of ``scale``; with ``"signed_log"`` the density is per unit of ``signed_log(x, log_threshold)``.  Without
        ``outliers`` it is that of the other eigenvalues, and integrates to their share.
        """
        return np.asarray(self._densities(grid, width, scale, outliers).mean(axis=0))

    def density_error(self, grid: ArrayLike, *, width: float | None = None, scale: Scale = "linear") -> Array:
        """Return the standard error over probes of :meth:`density`; NaN for a single probe."""
        densities = self._densities(grid, width, scale, outliers=False)  # outliers have no error of sampling
        if self.num_probes == 1:
            return np.full(densities.shape[1:], np.nan)
        return np.asarray(densities.std(axis=0, ddof=1) / np.sqrt(self.num_probes))

    def cumulative(self, grid: ArrayLike) -> Array:
        """Return the estimated share of eigenvalues that are at most each point of ``grid``."""
        grid = np.asarray(grid, dtype=np.float64)
        return np.asarray(self._mean_mass(grid, 0) + self._known_share(grid))

    def band(
        self, grid: ArrayLike, *, confidence: float = 0.95, sampling: Sampling = "kolmogorov"
    ) -> tuple[Array, Array]:
        """Return lower and upper bounds of the cumulative spectrum that hold at all points at once.

        Two errors are added.  That of the quadrature is bounded without a probability: for a Gauss rule the measure
        of a probe at ``x`` lies between the weight strictly before the last node under ``x`` and the weight up to the
        first node above ``x`` (Chebyshev, Markov and Stieltjes); an exact rule is that measure.  That of sampling:
        seen from a probe uniform on the sphere, a share c of the spectrum has weight Beta(nc/2, n(1-c)/2), so the mean
        over probes is c plus a Brownian bridge of variance 2c(1-c)/((n+2) probes), whose supremum has the Kolmogorov
        distribution.  Points closer than ``accuracy`` to a node count as being on either side of it, and so do those
        within ``outlier_error``; with k outliers, ``n - k`` stands for n and only their share of the mass is uncertain.

        Where many eigenvalues sit closer together than the rule resolves, as around zero in the Hessian of a trained
        net, the first error dominates, and it is as large as the weight of two neighbouring nodes.

        Parameters
        ----------
        grid : array_like
        confidence : float
            Probability, over the probes, that the whole curve lies in the band.
        sampling : {"kolmogorov", "guaranteed"}
            The limit law for large n, which for small n is rather too wide; or a bound that is proved for every n,
            ``sqrt(log(2n / (1 - confidence)) / ((n+2) probes))``, and is about twice as wide (Chen, Trogdon and Ubaru
            2021, theorem 1: Beta distributions have sub-Gaussian tails, and n of them are united).
        """
        grid, error = np.asarray(grid, dtype=np.float64), self.outlier_error
        lower, upper = self._mass_bounds(grid, error, self._sampling_margin(confidence, sampling))
        return lower + self._known_share(grid - error), np.minimum(upper + self._known_share(grid + error), 1.0)

    def wasserstein_bound(
        self,
        *,
        confidence: float = 0.95,
        bounds: tuple[float, float] | None = None,
        sampling: Sampling = "kolmogorov",
    ) -> float:
        """Return a bound of the Wasserstein distance between the estimated and the exact spectrum.

        The distance is the integral of the absolute difference of the two cumulative spectra (in the units of the
        eigenvalues), and so at most the integral of the distance from :meth:`cumulative` to the farther edge of
        :meth:`band`.  Like the band it can be told after the run, and holds with the given probability.  Outliers add
        their ``outlier_error``, and nothing for sampling.

        Parameters
        ----------
        confidence : float
        bounds : (float, float), optional
            An interval that holds all eigenvalues but the outliers.  By default that of the nodes: the extreme ones are
            taken to have converged, as after some dozens of steps they usually have.
        sampling : {"kolmogorov", "guaranteed"}
            See :meth:`band`.

        Examples
        --------
        >>> from krylovh import spectral_density
        >>> eigenvalues = np.linspace(0, 1, 1000)
        >>> result = spectral_density(np.diag(eigenvalues), num_steps=50, rng=0)
        >>> round(result.wasserstein_bound(), 3)
        0.044
        >>> from scipy.stats import wasserstein_distance
        >>> print(round(wasserstein_distance(result.nodes.ravel(), eigenvalues, result.weights.ravel()), 3))
        0.007
        """
        margin = self._sampling_margin(confidence, sampling)
        nodes = np.sort(self.nodes[~np.isnan(self.nodes)])
        low, high = (nodes[0], nodes[-1]) if bounds is None else bounds
        if not low <= high:
            raise ValueError(f"bounds must be a pair of numbers, the lower one first, got {bounds}")
        rounding = self.accuracy * self._radius
        jumps = np.concatenate([nodes - rounding, nodes, nodes + rounding])  # all curves are constant between them
        edges = np.unique(np.clip(np.concatenate([[low - rounding, high + rounding], jumps]), low, high))
        middles = edges[:-1] + np.diff(edges) / 2
        lower, upper = self._mass_bounds(middles, 0.0, margin)
        estimate = self._mean_mass(middles, 0)
        return float(np.maximum(upper - estimate, estimate - lower) @ np.diff(edges)) + rounding + self.outlier_error

    @property
    def _empty(self) -> str:
        return f"the spectral density has no probe (status {self.status}): nothing can be read from it"

    @property
    def _radius(self) -> float:
        """Largest absolute node."""
        low, high = self.support
        return max(abs(low), abs(high))

    @property
    def _known(self) -> Array:
        return np.empty(0) if self.outliers is None else self.outliers

    def _known_share(self, grid: Array) -> Array:
        """Return the outliers that are at most each point, as a share of all eigenvalues."""
        return np.asarray(np.searchsorted(self._known, grid, side="right") / self.dimension)

    @property
    def _bulk_share(self) -> float:
        """Share of the eigenvalues that the probes see."""
        return 1.0 - self._known.size / self.dimension

    def _mass_bounds(self, grid: Array, error: float, margin: float) -> tuple[Array, Array]:
        """Return bounds of the cumulative share of the eigenvalues other than outliers, which move by ``error``."""
        shift = self.accuracy * self._radius + error
        lower = self._mean_mass(grid - shift, -1) - margin
        upper = self._mean_mass(grid + shift, +1) + margin
        return np.clip(lower, 0.0, self._bulk_share), np.clip(upper, 0.0, self._bulk_share)

    def _sampling_margin(self, confidence: float, sampling: Sampling) -> float:
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence must be in (0, 1), got {confidence}")
        if sampling not in get_args(Sampling):
            raise ValueError(f"sampling must be one of {get_args(Sampling)}, got {sampling!r}")
        if self.num_probes == 0:
            raise ValueError(self._empty)
        bulk = self.dimension - self._known.size
        if sampling == "kolmogorov":
            margin = kolmogi(1.0 - confidence) * np.sqrt(2.0 / ((bulk + 2) * self.num_probes))
        else:
            margin = np.sqrt(np.log(2.0 * bulk / (1.0 - confidence)) / ((bulk + 2) * self.num_probes))
        return float(margin * bulk / self.dimension)

    def _rules(self) -> Iterator[tuple[Array, Array, bool]]:
        """Yield nodes, weights and exactness of each probe, without the padding."""
        exact = np.zeros(self.num_probes, dtype=bool) if self.exact is None else self.exact
        for nodes, weights, is_exact in zip(self.nodes, self.weights, exact, strict=True):
            size = np.count_nonzero(~np.isnan(nodes))
            yield nodes[:size], weights[:size], bool(is_exact)

    def _mean_mass(self, grid: Array, shift: int) -> Array:
        """Return the weight of the first ``#(nodes <= x) + shift`` nodes, averaged over probes.

        Exact rules are not shifted.
        """
        if self.num_probes == 0:
            raise ValueError(self._empty)
        total = np.zeros(grid.shape)
        for nodes, weights, exact in self._rules():
            count = np.searchsorted(nodes, grid, side="right") + (0 if exact else shift)
            total += np.concatenate([[0.0], np.cumsum(weights)])[np.clip(count, 0, nodes.size)]
        return np.asarray(np.minimum(total / self.num_probes, self._bulk_share))

    def _coordinate(self, x: Array, scale: Scale) -> Array:
        if scale == "linear":
            return x
        if scale == "signed_log":
            return signed_log(x, self.log_threshold)
        raise ValueError(f"scale must be 'linear' or 'signed_log', got {scale!r}")

    def _densities(self, grid: ArrayLike, width: float | None, scale: Scale, outliers: bool) -> Array:
        """Return the smoothed density of every probe, (num_probes, *grid.shape)."""
        points = self._coordinate(np.asarray(grid, dtype=np.float64), scale)
        low, high = self._coordinate(np.array(self.support), scale)
        sigma = width if width is not None else ((high - low) or abs(high) or 1.0) / 100
        if not sigma > 0:
            raise ValueError(f"width must be positive, got {width}")
        densities = np.zeros((self.num_probes, *points.shape))
        for probe, (nodes, weights, _) in enumerate(self._rules()):
            centres = self._coordinate(nodes, scale)
            for part in _slices(nodes.size, 2**20 // max(points.size, 1)):  # temporaries stay near 8 MB
                offset = (points[..., None] - centres[part]) / sigma
                densities[probe] += np.exp(-0.5 * offset**2) @ weights[part]
        if outliers:
            for centre in self._coordinate(self._known, scale):
                densities += np.exp(-0.5 * ((points - centre) / sigma) ** 2) / self.dimension
        return np.asarray(densities / (sigma * np.sqrt(2 * np.pi)))


def _slices(size: int, step: int) -> Iterator[slice]:
    """Cut ``range(size)`` into consecutive pieces of ``step``, at least one long."""
    step = max(step, 1)
    return (slice(first, first + step) for first in range(0, size, step))

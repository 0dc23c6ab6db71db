"""Reference operators: symmetric, matrix-free, with spectra in closed form.

Each is embedded by Householder reflections, ``Q M Q'`` with a random ``Q``, so that nothing is diagonal or sparse; the
products are computed in float64 from formulas, and rounded once to the dtype of the operator.  Where a spectrum has no
closed form (Wilkinson, Wishart, GOE) it comes from LAPACK.  Nothing here uses the library.

``zoo(n)`` yields every operator that exists at order n; ``CATALOGUE`` maps names to constructors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator


@dataclass(frozen=True)
class Reference:
    """An operator and what is known of it."""

    name: str
    apply: Callable[[np.ndarray], np.ndarray]  # x (n,) or (n, k) -> A x, in float64
    eigenvalues: np.ndarray  # (n,), ascending

    @property
    def n(self) -> int:
        return self.eigenvalues.size

    @property
    def norm(self) -> float:
        return float(np.abs(self.eigenvalues).max())

    def operator(self, dtype=np.float64) -> LinearOperator:
        def product(x):
            return self.apply(x.astype(np.float64)).astype(dtype)

        return LinearOperator((self.n, self.n), matvec=product, matmat=product, dtype=dtype)

    def matrix(self) -> np.ndarray:
        return self.apply(np.eye(self.n))

    def scaled(self, factor: float) -> "Reference":
        values = np.sort(factor * self.eigenvalues)
        return Reference(f"{factor:g} {self.name}", lambda x: factor * self.apply(x), values)

    def shifted(self, shift: float) -> "Reference":
        return Reference(f"{self.name} + {shift:g}", lambda x: self.apply(x) + shift * x, self.eigenvalues + shift)


def embed(name: str, apply, eigenvalues, seed: int = 0, num_reflections: int = 3) -> Reference:
    """Return ``Q M Q'`` with ``Q`` a product of random Householder reflections."""
    eigenvalues = np.sort(np.asarray(eigenvalues, dtype=np.float64))
    u = np.random.default_rng(seed).standard_normal((num_reflections, eigenvalues.size))
    u /= np.linalg.norm(u, axis=1, keepdims=True)

    def reflect(x, vectors):
        for w in vectors:
            x = x - 2 * np.multiply.outer(w, w @ x) if x.ndim == 2 else x - 2 * w * (w @ x)
        return x

    return Reference(name, lambda x: reflect(apply(reflect(x, u)), u[::-1]), eigenvalues)


def diagonal(values, name: str = "diagonal", seed: int = 0) -> Reference:
    """Return an operator with the given eigenvalues."""
    values = np.asarray(values, dtype=np.float64)
    return embed(name, lambda x: (values * x.T).T, values, seed)


def tridiagonal(diagonal, off, eigenvalues=None, name: str = "tridiagonal") -> Reference:
    """Return an operator from a tridiagonal matrix."""
    d, e = np.asarray(diagonal, dtype=np.float64), np.asarray(off, dtype=np.float64)
    if eigenvalues is None:
        eigenvalues = scipy.linalg.eigh_tridiagonal(d, e, eigvals_only=True) if d.size > 1 else d

    def apply(x):
        y = (d * x.T).T
        y[1:] += (e * x[:-1].T).T
        y[:-1] += (e * x[1:].T).T
        return y

    return embed(name, apply, eigenvalues)


def matrix(M, name: str) -> Reference:
    """Return an operator from a matrix, with the spectrum of LAPACK."""
    return Reference(name, lambda x: M @ x, np.linalg.eigvalsh(M))


# -- the operators --------------------------------------------------------------------------------------------------


def laplacian(n: int) -> Reference:
    k = np.arange(1, n + 1)
    return tridiagonal(np.full(n, 2.0), np.full(n - 1, -1.0), 4 * np.sin(k * np.pi / (2 * n + 2)) ** 2, "1-D Laplacian")


def neumann_laplacian(n: int) -> Reference:
    d = np.full(n, 2.0)
    d[0] -= 1
    d[-1] -= 1
    values = 4 * np.sin(np.arange(n) * np.pi / (2 * n)) ** 2
    return tridiagonal(d, np.full(n - 1, -1.0), values, "Neumann Laplacian")


def periodic_laplacian(n: int) -> Reference:
    values = 4 * np.sin(np.arange(n) * np.pi / n) ** 2
    return embed("periodic Laplacian", lambda x: 2 * x - np.roll(x, 1, 0) - np.roll(x, -1, 0), values)


def square_laplacian(n: int) -> Reference | None:
    m = round(n**0.5)
    if m * m != n:
        return None
    one = 4 * np.sin(np.arange(1, m + 1) * np.pi / (2 * m + 2)) ** 2

    def apply(x):
        grid = x.reshape(m, m, -1)
        y = 4 * grid
        y[1:] -= grid[:-1]
        y[:-1] -= grid[1:]
        y[:, 1:] -= grid[:, :-1]
        y[:, :-1] -= grid[:, 1:]
        return y.reshape(x.shape)

    return embed("2-D Laplacian", apply, np.add.outer(one, one).ravel())


def clement(n: int) -> Reference:
    k = np.arange(1, n)
    return tridiagonal(np.zeros(n), np.sqrt(k * (n - k)), np.arange(1 - n, n, 2), "Clement")


def wilkinson(n: int) -> Reference:
    return tridiagonal(np.abs(np.arange(n) - (n - 1) / 2), np.ones(n - 1), name="Wilkinson")


def _chebyshev_points(n: int) -> np.ndarray:
    """cos(k pi / (n + 1)), with an exact zero in the middle."""
    return np.sin(np.arange(1 - n, n, 2) * np.pi / (2 * n + 2))


def chebyshev(n: int) -> Reference:
    return tridiagonal(np.zeros(n), np.full(n - 1, 0.5), _chebyshev_points(n), "Chebyshev")


def minimum(n: int) -> Reference:
    """A_ij = min(i, j): a sum of suffix sums."""
    values = 1 / (4 * np.sin((2 * np.arange(1, n + 1) - 1) * np.pi / (4 * n + 2)) ** 2)
    return embed("min(i, j)", lambda x: np.cumsum(np.cumsum(x[::-1], axis=0)[::-1], axis=0), values)


def strakos(n: int, rho: float = 0.8) -> Reference:
    i = np.arange(1, n + 1)
    return diagonal(0.1 + (i - 1) / max(n - 1, 1) * 99.9 * rho ** (n - i), "Strakos")


def shifted_ones(n: int) -> Reference:
    """2 I + 11'."""
    values = np.full(n, 2.0)
    values[-1] += n
    return embed("2 I + 11'", lambda x: 2 * x + x.sum(axis=0), values)


def two_point(n: int) -> Reference:
    return diagonal(np.where(np.arange(n) < (n + 1) // 2, 1.0, 3.0), "two-point")


def hadamard(n: int) -> Reference | None:
    if n & (n - 1):
        return None
    values = np.full(n, n**0.5)
    values[: n // 2] *= -1
    return embed("Hadamard", scipy.linalg.hadamard(n).astype(np.float64).__matmul__, values)


def householder(n: int) -> Reference:
    return diagonal(np.concatenate([[-1.0], np.ones(n - 1)]), "Householder")


def jordan_wielandt(n: int) -> Reference:
    """[[0, X], [X', 0]] with X of shape (m, n - m) and singular values 1 ... min(m, n - m)."""
    m = n // 3
    X = np.zeros((m, n - m))
    sigma = np.arange(1.0, m + 1)
    X[np.arange(m), np.arange(m)] = sigma
    values = np.concatenate([sigma, -sigma, np.zeros(n - 2 * m)])
    return embed("Jordan-Wielandt", lambda x: np.concatenate([X @ x[m:], X.T @ x[:m]]), values)


def lapack_mode(n: int, mode: int) -> Reference:
    """Eigenvalues even, geometric or clustered in [ulp, 1] with random signs."""
    ulp = 2.0**-52
    t = np.linspace(0.0, 1.0, n)
    size = {3: ulp + (1 - ulp) * t, 4: ulp ** (1 - t), 5: np.where(t < 1, ulp, 1.0)}[mode]
    return diagonal(size * np.random.default_rng(mode).choice([-1.0, 1.0], n), f"LAPACK mode {mode}")


def cluster(n: int, delta: float) -> Reference:
    top = np.array([1.0, 1 - delta, 1 - 2 * delta])[:n]
    return diagonal(np.concatenate([top, np.linspace(-0.5, 0.9, n - top.size)]), f"cluster {delta:g}")


def ladder(n: int) -> Reference:
    """Top eigenvalue twice, the next three times, the next five times."""
    top = np.repeat([1.0, 0.95, 0.9], [2, 3, 5])[:n]
    return diagonal(np.concatenate([top, np.linspace(-0.7, 0.6, n - top.size)]), "multiplicity ladder")


def outliers(n: int) -> Reference:
    """A bulk and ten outliers, like the Hessian of a trained classifier."""
    top = np.linspace(1.0, 10.0, 10)[:n]
    bulk = np.random.default_rng(0).uniform(-0.05, 0.3, n - top.size)
    return diagonal(np.concatenate([top, bulk]), "outliers and a bulk")


def zero(n: int) -> Reference:
    return diagonal(np.zeros(n), "zero")


def identity(n: int) -> Reference:
    return diagonal(np.full(n, 3.0), "3 I")


def low_rank(n: int, rank: int) -> Reference:
    values = np.zeros(n)
    values[:rank] = np.arange(1, rank + 1)[:n]
    return diagonal(values, f"rank {rank}")


def wishart(n: int) -> Reference:
    X = np.random.default_rng(1).standard_normal((2 * n, n))
    return matrix(X.T @ X / (2 * n), "Wishart")


def goe(n: int) -> Reference:
    """Gaussian orthogonal ensemble with its semicircle on [-2, 2]."""
    G = np.random.default_rng(2).standard_normal((n, n))
    return matrix((G + G.T) / np.sqrt(2 * n), "GOE")


def block_diagonal(n: int) -> Reference:
    """Two copies of a Chebyshev matrix: every eigenvalue twice, and one more for odd n."""
    m = n // 2
    off = np.full(n - 1, 0.5)
    off[m - 1 :: m] = 0.0
    one = _chebyshev_points(m)
    return tridiagonal(np.zeros(n), off, np.concatenate([one, one, np.zeros(n - 2 * m)]), "block-diagonal")


def lapack_mode_one(n: int, mode: int) -> Reference:
    """One eigenvalue 1 and all others 1/ulp times less, or the other way round, with random signs."""
    ulp = 2.0**-52
    size = np.full(n, ulp if mode == 1 else 1.0)
    size[-1] = 1.0 if mode == 1 else ulp
    return diagonal(size * np.random.default_rng(mode).choice([-1.0, 1.0], n), f"LAPACK mode {mode}")


def kac_murdock_szego(n: int, rho: float = 0.5) -> Reference:
    return matrix(rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n))), "Kac-Murdock-Szego")


def hilbert(n: int) -> Reference:
    return matrix(scipy.linalg.hilbert(n), "Hilbert")


def star_graph(n: int) -> Reference:
    """Adjacency matrix: plus and minus sqrt(n - 1), and zeros."""
    values = np.zeros(n)
    values[0], values[-1] = -((n - 1) ** 0.5), (n - 1) ** 0.5

    def apply(x):
        y = np.empty_like(x)
        y[0] = x[1:].sum(axis=0)
        y[1:] = x[0]
        return y

    return embed("star graph", apply, values)


def complete_bipartite_laplacian(n: int) -> Reference:
    """Laplacian of K(a, b): 0, a (b - 1 times), b (a - 1 times), a + b."""
    a, b = n // 3, n - n // 3
    values = np.concatenate([[0.0], np.full(b - 1, a), np.full(a - 1, b), [n]]) if a else np.zeros(n)

    def apply(x):
        if a == 0:
            return np.zeros_like(x)
        return np.concatenate([b * x[:a] - x[a:].sum(axis=0), a * x[a:] - x[:a].sum(axis=0)])

    return embed("Laplacian of a complete bipartite graph", apply, values)


def circulant(n: int) -> Reference:
    """The identity plus two neighbours on either side, with weights 1/2 and 1/4, on a ring."""
    angle = 2 * np.pi * np.arange(n) / n
    values = 1 + np.cos(angle) + 0.5 * np.cos(2 * angle)

    def apply(x):
        near, far = (np.roll(x, s, 0) + np.roll(x, -s, 0) for s in (1, 2))
        return x + 0.5 * near + 0.25 * far

    return embed("circulant", apply, values)


def power_law(n: int) -> Reference:
    return diagonal(1.0 / np.arange(1, n + 1), "power law")


def geometric(n: int) -> Reference:
    return diagonal(2.0 ** -np.arange(n), "geometric")


def negative_outliers(n: int) -> Reference:
    bottom = -np.linspace(2.0, 3.0, 3)[:n]
    bulk = np.random.default_rng(3).uniform(0.0, 1.0, n - bottom.size)
    return diagonal(np.concatenate([bottom, bulk]), "negative outliers")


def signed_pairs(n: int) -> Reference:
    """Plus and minus the same magnitudes."""
    size = np.arange(1.0, n // 2 + 1)
    return diagonal(np.concatenate([size, -size, np.zeros(n % 2)]), "signed pairs")


def spiked(n: int) -> Reference:
    """A Wigner matrix and a rank-one spike outside of its semicircle."""
    rng = np.random.default_rng(4)
    G, u = rng.standard_normal((n, n)), rng.standard_normal(n)
    return matrix((G + G.T) / np.sqrt(2 * n) + 4 * np.outer(u, u) / (u @ u), "spiked Wigner")


CATALOGUE: dict[str, Callable[[int], Reference | None]] = {
    "laplacian": laplacian,
    "neumann_laplacian": neumann_laplacian,
    "periodic_laplacian": periodic_laplacian,
    "square_laplacian": square_laplacian,
    "clement": clement,
    "wilkinson": wilkinson,
    "chebyshev": chebyshev,
    "minimum": minimum,
    "strakos": strakos,
    "shifted_ones": shifted_ones,
    "two_point": two_point,
    "hadamard": hadamard,
    "householder": householder,
    "jordan_wielandt": jordan_wielandt,
    "lapack_mode_3": lambda n: lapack_mode(n, 3),
    "lapack_mode_4": lambda n: lapack_mode(n, 4),
    "lapack_mode_5": lambda n: lapack_mode(n, 5),
    "cluster_1e-3": lambda n: cluster(n, 1e-3),
    "cluster_1e-6": lambda n: cluster(n, 1e-6),
    "cluster_1e-9": lambda n: cluster(n, 1e-9),
    "cluster_1e-12": lambda n: cluster(n, 1e-12),
    "ladder": ladder,
    "outliers": outliers,
    "zero": zero,
    "identity": identity,
    "rank_1": lambda n: low_rank(n, 1),
    "rank_5": lambda n: low_rank(n, 5),
    "wishart": wishart,
    "goe": goe,
    "lapack_mode_1": lambda n: lapack_mode_one(n, 1),
    "lapack_mode_2": lambda n: lapack_mode_one(n, 2),
    "kac_murdock_szego": kac_murdock_szego,
    "hilbert": hilbert,
    "star_graph": star_graph,
    "complete_bipartite_laplacian": complete_bipartite_laplacian,
    "circulant": circulant,
    "power_law": power_law,
    "geometric": geometric,
    "negative_outliers": negative_outliers,
    "signed_pairs": signed_pairs,
    "spiked": spiked,
    "block_diagonal": lambda n: block_diagonal(n) if n > 1 else None,
}


def zoo(n: int) -> Iterator[Reference]:
    """Yield every operator of the catalogue that exists at order n."""
    for construct in CATALOGUE.values():
        reference = construct(n)
        if reference is not None:
            yield reference

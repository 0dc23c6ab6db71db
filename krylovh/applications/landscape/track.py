"""Eigenvalues through training: each step starts from the eigenvectors of the one before."""

from collections.abc import Iterable, Sized
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.checks import whole_number
from krylovh.krylov import eigsh
from krylovh.objective import Objective
from krylovh.operators import HessianOperator
from krylovh.progress import Progress, reporting
from krylovh.results import EigenResult, SpectrumTrack, Status

Array = NDArray[np.float64]

__all__ = ["SpectrumTracker", "track_spectrum"]


class SpectrumTracker:
    """Follows eigenvalues of the Hessian; called with theta, it can be the callback of a trainer.

    Parameters
    ----------
    objective : Objective
        Its theta does not matter.
    k, which, tol, rng, verify
        As of :func:`eigsh`.
    every : int
        Only every so manyth call computes eigenvalues, the first one included.
    warm_start : bool
        Start from the eigenvectors of the step before.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", bias=False)
    >>> tracker = SpectrumTracker(Objective(net, [[2.0]], [1.0], loss="squared_error"), 1)
    >>> tracker(np.array([0.0]))
    >>> tracker(np.array([0.5]))
    >>> tracker.result().eigenvalues
    array([[4.],
           [4.]])
    """

    def __init__(
        self,
        objective: Objective,
        k: int = 6,
        *,
        which: Any = "LA",
        tol: float = 1e-6,
        every: int = 1,
        warm_start: bool = True,
        verify: bool = True,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        self.objective = objective
        self.k = whole_number("k", k, 1, objective.num_parameters)
        self.which = which
        self.tol = tol
        self.every = whole_number("every", every, 1)
        self.warm_start = warm_start
        self.verify = verify
        self.rng = rng
        self.num_calls = 0
        self.vectors: list[Array] = []  # of the last step
        self._found: list[EigenResult] = []
        self._overlaps: list[Array] = []
        self._interrupted = False

    def __call__(self, theta: Any) -> None:
        """Take a step: parameters (P,), or a result with them as its ``x``, as SciPy's trainers pass."""
        self.num_calls += 1
        if (self.num_calls - 1) % self.every == 0:
            self.step(self.objective.at(getattr(theta, "x", theta)))

    def step(self, objective: Objective, *, max_products: int | None = None) -> EigenResult:
        """Compute the eigenpairs at an objective's theta."""
        before = self.vectors[0] if self.vectors else None
        found = eigsh(
            HessianOperator(objective),
            self.k,
            which=self.which,
            tol=self.tol,
            # one vector with a part of each: a block of all of them would need as many products per step
            v0=before.sum(axis=1) if self.warm_start and before is not None and before.size else None,
            verify=self.verify,
            max_products=max_products,
            rng=self.rng,
        )
        if self._found:
            cosines = np.full(self.k, np.nan)
            if before is not None and before.size and found.eigenvectors.size:
                values = np.linalg.svd(before.T @ found.eigenvectors, compute_uv=False)[::-1]
                cosines[: values.size] = np.minimum(values, 1.0)
            self._overlaps.append(cosines)
        self._found.append(_narrowed(found))
        self.vectors = [found.eigenvectors]
        return found

    def result(self, status: Status | None = None) -> SpectrumTrack:
        """Return what was found so far."""
        steps, P = len(self._found), self.objective.num_parameters
        eigenvalues, residual_norms = np.full((2, steps, self.k), np.nan)
        for i, found in enumerate(self._found):
            eigenvalues[i, : found.eigenvalues.size] = found.eigenvalues
            residual_norms[i, : found.eigenvalues.size] = found.residual_norms
        statuses = tuple(found.status for found in self._found)
        first_failed = next((s for s in statuses if s != Status.CONVERGED), Status.CONVERGED)
        return SpectrumTrack(
            eigenvalues=eigenvalues,
            residual_norms=residual_norms,
            overlaps=np.array(self._overlaps).reshape(max(steps - 1, 0), self.k),
            products=np.array([found.num_products for found in self._found], dtype=np.int64),
            statuses=statuses,
            status=first_failed if status is None else status,
            which=str(self.which),
            tol=self.tol,
            eigenvectors=self.vectors[0] if self.vectors else np.empty((P, 0)),
        )


def track_spectrum(
    objective: Objective,
    thetas: Iterable[ArrayLike],
    *,
    k: int = 6,
    which: Any = "LA",
    tol: float = 1e-6,
    warm_start: bool = True,
    verify: bool = True,
    max_products: int | None = None,
    rng: int | np.random.Generator | None = None,
    progress: Progress = False,
) -> SpectrumTrack:
    """Return eigenvalues of the Hessian at several parameters, such as those of a training run.

    Parameters
    ----------
    objective : Objective
    thetas : iterable of array_like, shape (P,)
    k, which, tol, verify, rng
        As of :func:`eigsh`.
    warm_start : bool
        Start from the eigenvectors of the step before.
    max_products : int, optional
        Budget of products in all.
    progress : bool or callable
        True for a bar on standard error, or a function of (steps, steps in all; -1 if that is not known).

    Returns
    -------
    SpectrumTrack
        After Ctrl-C or at the end of the budget, the steps that were made.

    Raises
    ------
    ValueError, TypeError
        Where an argument makes no sense.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", bias=False)
    >>> objective = Objective(net, [[2.0]], [1.0], loss="squared_error")
    >>> print(track_spectrum(objective, [[0.0], [0.5]], k=1))
    1 eigenvalues (LA) at 2 steps, converged, 4 products
      0: [4], converged, 2 products
      1: [4], converged, 2 products, smallest cosine 1.0000
    """
    tracker = SpectrumTracker(objective, k, which=which, tol=tol, warm_start=warm_start, verify=verify, rng=rng)
    total = len(thetas) if isinstance(thetas, Sized) else -1
    spent = 0
    with reporting(progress, "spectrum") as report:
        try:
            for i, theta in enumerate(thetas):
                left = None if max_products is None else max_products - spent
                found = tracker.step(objective.at(theta), max_products=left)
                spent += found.num_products
                if found.status in (Status.INTERRUPTED, Status.BUDGET):
                    return tracker.result(found.status)
                report(i + 1, total)
        except KeyboardInterrupt:
            return tracker.result(Status.INTERRUPTED)
    return tracker.result()


def _narrowed(found: EigenResult) -> EigenResult:
    """Return a result without its vectors, which many steps would fill the memory with."""
    return replace(found, eigenvectors=np.empty((found.eigenvectors.shape[0], 0)))

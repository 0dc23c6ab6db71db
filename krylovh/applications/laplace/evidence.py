"""The evidence of a Gaussian posterior around a mode, and how many parameters the data determine.

log p(D) = log p(D | theta*) + log p(theta*) + (W/2) log 2 pi - 1/2 log det A,    gamma = W - tr(A^-1 diag(alpha)).
"""

import math

import numpy as np
from numpy.typing import NDArray

from krylovh.applications.laplace.likelihood import log_likelihood
from krylovh.applications.laplace.precision import Precision
from krylovh.objective import Objective
from krylovh.progress import Progress
from krylovh.results import Estimate, LaplaceResult, Status

Array = NDArray[np.float64]

__all__ = ["Evidence"]


class Evidence:
    """What follows from a mode and its precision in numbers; :class:`krylovh.Laplace` has these methods."""

    objective: Objective
    positions: NDArray[np.intp]
    mode: Array
    prior_precision: Array
    noise_precision: float
    curvature: str
    structure: str
    gradient_norm: float
    seed: int
    _precision: Precision
    _logdet: Estimate | None = None
    _gamma: Estimate | None = None

    @property
    def num_parameters(self) -> int:
        """How many parameters k the posterior is over."""
        return int(self.positions.size)

    @property
    def num_products(self) -> int:
        """Products with the curvature so far; 0 for structures that need none."""
        return self._precision.num_products

    def log_likelihood(self) -> float:
        """Return ``log p(D | theta*)``."""
        return log_likelihood(self.objective, self.noise_precision)

    def log_prior(self) -> float:
        """Return ``log p(theta*)``; ValueError where the prior is improper."""
        alpha = self.prior_precision
        if alpha.min() <= 0:
            raise ValueError(
                f"l2, or prior_precision, must be positive on every parameter for the evidence, got 0 on "
                f"{np.count_nonzero(alpha <= 0)} of {alpha.size}: an improper prior has no evidence"
            )
        return float(0.5 * np.sum(np.log(alpha / (2 * np.pi))) - 0.5 * alpha @ np.square(self.mode))

    def log_determinant(self, *, progress: Progress = False) -> Estimate:
        """Return ``log det A``, with an error bar where it comes from quadrature."""
        if self._logdet is None or self._logdet.status is not Status.CONVERGED:
            self._logdet = self._precision.logdet(progress)
        return self._logdet

    def log_evidence(self, *, progress: Progress = False) -> Estimate:
        """Return ``log p(D)``, natural logarithm; standard error 0 unless the determinant is estimated.

        Raises
        ------
        ValueError
            Where a parameter has no prior.
        """
        fixed = self.log_likelihood() + self.log_prior() + self.num_parameters / 2 * math.log(2 * math.pi)
        found = self.log_determinant(progress=progress)
        low, high = found.interval
        return Estimate(
            fixed - found.value / 2, found.standard_error / 2, (fixed - high / 2, fixed - low / 2), found.num_products,
            found.seed, found.status, found.method, found.quadrature_error / 2,
        )  # fmt: skip

    def effective_parameters(self, *, progress: Progress = False) -> Estimate:
        """Return gamma, how many parameters the data determine: ``k - tr(A^-1 diag(alpha))``."""
        if self._gamma is None or self._gamma.status is not Status.CONVERGED:
            self._gamma = self._precision.gamma(progress)
        return self._gamma

    def summary(self, *, progress: Progress = False) -> LaplaceResult:
        """Return the posterior in numbers, to be shown and stored."""
        evidence = self.log_evidence(progress=progress)
        gamma = self.effective_parameters(progress=progress)
        return LaplaceResult(
            curvature=self.curvature,
            structure=self.structure,
            mode=self.mode.copy(),
            prior_precision=self.prior_precision.copy(),
            noise_precision=self.noise_precision,
            log_likelihood=self.log_likelihood(),
            log_prior=self.log_prior(),
            log_determinant=self.log_determinant().value,
            log_evidence=evidence.value,
            standard_error=evidence.standard_error,
            interval=evidence.interval,
            effective_parameters=gamma.value,
            effective_parameters_error=gamma.standard_error,
            gradient_norm=self.gradient_norm,
            num_products=self.num_products,
            seed=self.seed,
            status=gamma.status if evidence.status is Status.CONVERGED else evidence.status,
        )

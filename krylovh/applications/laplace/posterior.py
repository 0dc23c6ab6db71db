"""The Laplace approximation: the posterior over parameters as a Gaussian around a mode.

With ``M(theta) = beta sum_n l_n + 1/2 theta' diag(alpha) theta``, the negative log posterior up to a constant, the
posterior is ``N(theta*, A^-1)`` at a minimum theta*, with A the Hessian of M or its Gauss-Newton part.
"""

import math
import warnings
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.laplace.evidence import Evidence
from krylovh.applications.laplace.likelihood import checked_noise_precision, prior_of
from krylovh.applications.laplace.precision import IndefiniteError
from krylovh.applications.laplace.prediction import predictive
from krylovh.applications.laplace.predictive import Method
from krylovh.applications.laplace.structures import build_precision, checked_prior, chosen_positions, stationarity
from krylovh.checks import finite_array, whole_number
from krylovh.krylov.symmetric import resolve_seed
from krylovh.objective import Objective
from krylovh.progress import Progress
from krylovh.results import HyperparameterHistory, Prediction

Array = NDArray[np.float64]
Curvature = Literal["gauss_newton", "hessian"]
Structure = Literal["full", "krylov", "kfac", "diagonal", "last_layer"]

__all__ = ["Curvature", "Laplace", "Structure"]


class Laplace(Evidence):
    """A Gaussian posterior over the parameters of a net, around its present parameters.

    Parameters
    ----------
    objective : Objective
        At a minimum.  Its loss is the negative log likelihood: squared error that of noise of precision
        ``noise_precision``, cross entropies and "poisson" as they are; "huber" is refused.
    curvature : "gauss_newton" or "hessian"
    structure : "full", "krylov", "kfac", "diagonal" or "last_layer"
        A by Cholesky factors (8 W^2 bytes); through products alone, for large W; Kronecker factors for each layer; the
        exact diagonal; or all of A for the last layer's parameters, the others fixed.
    noise_precision : float
        beta, for squared error.
    prior_precision : float or array_like, shape (num_parameters,), optional
        alpha; by default the objective's l2, times the total weight for ``reduction="mean"``.  With
        ``beta * total * l2`` a minimum of the objective is one of M for any beta.
    fallback : None or "gauss_newton"
        What to take, with a warning, where the Hessian makes A indefinite; refused if None.
    separate_bias : bool
        With "kfac", whether weights and biases of a layer have a block each, ``B (x) E[z z']`` and ``B``, or one of
        inputs with a 1 appended.
    stationarity_tol : float
        A warning tells where ``|grad M|`` exceeds this times ``|beta grad E_D| + |alpha theta|``, which at a minimum
        are equal and opposite.
    rank, num_probes, num_steps : int, optional
        For "krylov": rank of the Nystrom approximation that takes large eigenvalues out, at one product each and 8 W
        bytes (by default 600, at most W and 1 GiB; 0 for none), probes, 20, and Lanczos steps per probe, 20.
    rng : int, numpy.random.Generator or None
    progress : bool or callable
        For building the curvature.

    Attributes
    ----------
    positions : ndarray, shape (k,)
        The parameters that the posterior is over.
    mode, prior_precision : ndarray, shape (k,)
    gradient_norm : float
        ``|grad M|`` on these parameters.
    curvature : str
        What was used: "gauss_newton" after a fallback.
    history : HyperparameterHistory or None
        Of :meth:`optimize_hyperparameters`.

    Raises
    ------
    ValueError
        For arguments out of range, a loss that is no likelihood, and a precision that is not positive definite; the
        message has the smallest eigenvalue.
    FloatingPointError
        If loss or gradient are not finite at theta.

    Warns
    -----
    RuntimeWarning
        Away from a stationary point, and where the fallback was taken.

    References
    ----------
    MacKay (1992), A practical Bayesian framework for backpropagation networks.
    Bishop (2006), Pattern Recognition and Machine Learning, 5.7.

    Examples
    --------
    The slope of a line through the origin, x = 1, y = 2, sigma = 1 and prior N(0, 1): mean 1, variance 1/2.

    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [1.0], bias=False)
    >>> posterior = Laplace(Objective(net, [[1.0]], [2.0], loss="squared_error", l2=1.0))
    >>> posterior.covariance().round(12)
    array([[0.5]])
    >>> posterior.log_evidence().value, posterior.effective_parameters().value  # doctest: +ELLIPSIS
    (-2.26551..., 0.5...)
    >>> prediction = posterior.predict([[2.0]])
    >>> prediction.mean.round(12), prediction.variance.round(12)
    (array([[2.]]), array([[3.]]))
    """

    def __init__(
        self,
        objective: Objective,
        *,
        curvature: Curvature = "gauss_newton",
        structure: Structure = "full",
        noise_precision: float = 1.0,
        prior_precision: ArrayLike | None = None,
        fallback: Literal["gauss_newton"] | None = None,
        separate_bias: bool = True,
        stationarity_tol: float = 1e-3,
        rank: int | None = None,
        num_probes: int | None = None,
        num_steps: int | None = None,
        rng: int | np.random.Generator | None = None,
        progress: Progress = False,
    ) -> None:
        if curvature not in get_args(Curvature):
            raise ValueError(f"curvature must be one of {get_args(Curvature)}, got {curvature!r}")
        if structure not in get_args(Structure):
            raise ValueError(f"structure must be one of {get_args(Structure)}, got {structure!r}")
        if fallback not in (None, "gauss_newton"):
            raise ValueError(f"fallback must be None or 'gauss_newton', got {fallback!r}")
        if structure == "kfac" and curvature != "gauss_newton":
            raise ValueError("structure 'kfac' must go with curvature 'gauss_newton', which it approximates")
        if not (math.isfinite(stationarity_tol) and stationarity_tol > 0):
            raise ValueError(f"stationarity_tol must be positive and finite, got {stationarity_tol}")
        self.objective = objective
        self.noise_precision = checked_noise_precision(objective, noise_precision)
        self.curvature: str = curvature
        self.structure: str = structure
        self.seed = resolve_seed(rng)
        self.history: HyperparameterHistory | None = None
        self.positions = chosen_positions(objective, self.structure)
        alpha = prior_of(objective) if prior_precision is None else checked_prior(prior_precision, objective)
        self.prior_precision = np.array(alpha, dtype=np.float64)[self.positions]
        self.mode = objective.net.theta.astype(np.float64)[self.positions]
        self._options: dict[str, Any] = {
            "fallback": fallback, "separate_bias": separate_bias, "stationarity_tol": stationarity_tol,
            "rank": rank, "num_probes": num_probes, "num_steps": num_steps,
        }  # fmt: skip
        self.gradient_norm = stationarity(self, stationarity_tol)
        try:
            self._precision = build_precision(self, curvature, progress)
        except IndefiniteError as error:
            if curvature == "gauss_newton":
                raise ValueError(
                    "the posterior is improper: the smallest eigenvalue of its precision must be positive, got "
                    f"{error.smallest:.6g}; set l2, or prior_precision, on the parameters that data do not determine"
                ) from None
            if fallback is None:
                raise
            warnings.warn(
                f"the Hessian has the eigenvalue {error.smallest:.6g}: the Gauss-Newton matrix is used instead",
                RuntimeWarning,
                stacklevel=2,
            )
            self.curvature = "gauss_newton"
            self._precision = build_precision(self, "gauss_newton", progress)

    def covariance(self) -> Array:
        """Return the posterior covariance, (k, k): 8 k^2 bytes, and for "krylov" as many systems as parameters."""
        inverse = self._precision.solve(np.eye(self.num_parameters))
        return np.asarray((inverse + inverse.T) / 2)

    def apply_covariance(self, V: ArrayLike) -> Array:
        """Return ``A^-1 V`` for V of shape (k, m), without the covariance itself.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1), "identity", [1.0], bias=False)
        >>> Laplace(Objective(net, [[1.0]], [2.0], loss="squared_error", l2=1.0)).apply_covariance([[2.0]]).round(12)
        array([[1.]])
        """
        V = finite_array("V", V, np.float64)
        if V.ndim != 2 or V.shape[0] != self.num_parameters:
            raise ValueError(f"V must have shape ({self.num_parameters}, m), got {V.shape}")
        return self._precision.solve(V)

    def sample(self, num: int, rng: int | np.random.Generator | None = None, *, progress: Progress = False) -> Array:
        """Draw parameter vectors from the posterior, shape (num, num_parameters of the net).

        Parameters outside of the last layer stay at the mode with "last_layer".  With "krylov" a sample costs one run
        of Lanczos, for ``A^-1/2 z``; interrupted, the samples that were drawn are returned with a RuntimeWarning.

        Examples
        --------
        >>> from krylovh import Network
        >>> net = Network((1, 1), "identity", [1.0], bias=False)
        >>> posterior = Laplace(Objective(net, [[1.0]], [2.0], loss="squared_error", l2=1.0))
        >>> posterior.sample(2000, rng=0).var().round(1)
        np.float64(0.5)
        """
        num = whole_number("num", num, 1)
        generator = np.random.default_rng(self.seed if rng is None else rng)
        Z = generator.standard_normal((num, self.num_parameters)).T
        deviations = self._precision.root(Z, progress).T
        if len(deviations) < num:
            warnings.warn(f"interrupted: {len(deviations)} of {num} samples", RuntimeWarning, stacklevel=2)
        thetas = np.tile(self.objective.net.theta.astype(np.float64), (len(deviations), 1))
        thetas[:, self.positions] += deviations
        return thetas

    def predict(
        self,
        X: ArrayLike,
        *,
        method: Method | None = None,
        num_samples: int = 100,
        rng: int | np.random.Generator | None = None,
        progress: Progress = False,
    ) -> Prediction:
        """Return predictive mean and variance of the targets.

        Parameters
        ----------
        X : array_like, shape (N, d_0)
        method : "probit", "bridge", "monte_carlo", "network" or None
            For classifications "probit", the default, or the Laplace bridge (softmax only), from outputs linearised in
            the parameters; samples of the linearised outputs; or of the net itself.  None for regression and rates:
            what is exact in the linearised model.
        num_samples : int
            Parameter vectors for the last two methods, at least 2.
        rng : int, numpy.random.Generator or None
            For these samples.
        progress : bool or callable
            Counts rows, or samples.

        Returns
        -------
        Prediction
            Interrupted, it holds the rows (or is of the samples) that were done.

        References
        ----------
        Immer, Korzepa and Bauer (2021), Improving predictions of Bayesian neural nets via local linearization.
        """
        return predictive(self, X, method, num_samples, rng, progress)

    def optimize_hyperparameters(
        self,
        *,
        groups: ArrayLike | None = None,
        max_iterations: int = 100,
        tol: float = 1e-4,
        progress: Progress = False,
    ) -> "Laplace":
        """Re-estimate alpha, and beta for squared error, by MacKay's fixed point; return the posterior at the new mode.

        In turn ``alpha_g = gamma_g / |theta_g|^2`` and ``beta = (N C - gamma) / (2 E_D)`` are taken from the present
        posterior, and theta is fitted again.  Each step is one Newton-CG minimisation and one new curvature.

        Parameters
        ----------
        groups : array_like of int, shape (k,), optional
            Number of the alpha that each parameter has, from 0 on; one for all if not given.
        max_iterations : int
        tol : float
            Converged when no precision changes by more than this, relative to itself.
        progress : bool or callable
            Counts re-estimations.

        Returns
        -------
        Laplace
            With ``history``; the present one is left as it is.  Interrupted, that of the last complete step.

        Raises
        ------
        ValueError
            For improper priors, groups that are not 0, 1, ..., and several groups with structure "krylov".

        References
        ----------
        MacKay (1992), Bayesian interpolation.
        """
        from krylovh.applications.laplace.hyperparameters import reestimate

        return reestimate(self, groups, max_iterations, tol, progress)

    def variances(self) -> Array:
        """Return the diagonal of the posterior covariance, (k,)."""
        k, out = self.num_parameters, np.empty(self.num_parameters)
        for start in range(0, k, 256):
            units = np.eye(k, min(256, k - start), -start)
            out[start : start + 256] = np.einsum("km,km->m", units, self._precision.solve(units))
        return out

    def __repr__(self) -> str:
        return f"<Laplace ({self.curvature}, {self.structure}) of {self.objective!r}>"

"""Training by second-order methods: one call, one result."""

from os import PathLike
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import DTypeLike

from krylovh.applications.training.curvature import Curvature
from krylovh.applications.training.descent import Callback, Descent, Limits, OutOfBudget
from krylovh.applications.training.hessian_free import hessian_free
from krylovh.applications.training.levenberg_marquardt import levenberg_marquardt
from krylovh.applications.training.preconditioning import Preconditioner, Preconditioning
from krylovh.applications.training.trust_region_newton import trust_region_newton
from krylovh.checks import whole_number
from krylovh.krylov.stops import is_final
from krylovh.krylov.symmetric import resolve_seed
from krylovh.objective import Objective
from krylovh.progress import Progress, reporting
from krylovh.recording import CheckpointLike, recording
from krylovh.results import Status, TrainingResult

Method = Literal["newton-cg", "gauss-newton", "hessian-free", "levenberg-marquardt"]

PRECONDITIONERS: dict[str, Preconditioner] = {
    "newton-cg": "none",
    "gauss-newton": "kfac",
    "hessian-free": "kfac",
    "levenberg-marquardt": "none",
}

__all__ = ["Method", "minimize"]


def minimize(
    objective: Objective,
    *,
    method: Method = "newton-cg",
    tol: float = 1e-6,
    gtol: float = 0.0,
    max_iterations: int = 200,
    max_products: int | None = None,
    max_seconds: float | None = None,
    preconditioner: Preconditioner | None = None,
    damping: float | None = None,
    forcing: float | None = None,
    gauss_newton_until: float | None = None,
    batch_size: int | None = None,
    product_dtype: DTypeLike | None = None,
    rng: int | np.random.Generator | None = None,
    callback: Callback | None = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> TrainingResult:
    """Minimise an objective from its theta on, by products with its curvature.

    Parameters
    ----------
    objective : Objective
        Nothing about it is changed; the start is its theta.
    method : str
        ``"newton-cg"``: exact Hessian, trust region, steps along negative curvature.  ``"gauss-newton"`` or
        ``"hessian-free"``, which are the same: damped Gauss-Newton steps after Martens.  ``"levenberg-marquardt"``: the
        same system solved accurately, for squared error; through the matrix itself up to 3,000 parameters.
    tol : float
        Converged when the gradient norm is at most ``tol`` times that at the start.
    gtol : float
        Converged as well when the gradient norm is at most ``gtol``, in the units of the objective.
    max_iterations, max_products, max_seconds : optional
        Budget.  Products are those of all samples or of a batch alike; a step that the budget cuts short is not taken.
    preconditioner : {"none", "fisher", "kfac", "nystrom"} or callable, optional
        Of the inner solves; ``"none"`` for newton-cg and levenberg-marquardt, ``"kfac"`` for the others if not given.
        A callable gets (objective, damping) and returns an approximate inverse.
    damping : float, optional
        First damping of the Gauss-Newton methods, more than 0; chosen from the curvature if not given.
    forcing : float, optional
        Relative residual of inner solves, in (0, 1); each method has its own rule if not given.
    gauss_newton_until : float, optional
        For newton-cg: the Gauss-Newton matrix instead of the Hessian until the gradient norm is first at most this
        share of that at the start, in (0, 1); 0.1 is a good choice for nets with many weights.  Negative curvature is
        not seen before.  The exact Hessian from the start if not given.
    batch_size : int, optional
        Samples of a curvature batch, drawn anew in each iteration; all samples if not given.  Value and gradient are
        always those of all samples.
    product_dtype : float32 or float64, optional
        What curvature products are computed in; as the objective if not given.  Value and gradient keep the
        objective's dtype, so products in float32 cost half and do not limit what is reached.
    rng : int, numpy.random.Generator or None
        For batches and random vectors.
    callback : callable, optional
        Called with an ``OptimizeResult`` (x, fun, jac, nit) after each iteration; StopIteration ends the method.
    progress : bool or callable
        Counts iterations.
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on, from the beginning of an iteration, if this one is stopped at any moment.
        ``tol``, ``gtol``, ``max_iterations`` and ``max_products`` may ask for more then.

    Returns
    -------
    TrainingResult
        A ``scipy.optimize.OptimizeResult``.  The value never rises from iteration to iteration, except by rounding near
        the end.  ``status`` is "converged", "budget", "stagnated" (rounding forbids progress), "nonfinite" (at the
        start, or in a product) or "interrupted" (Ctrl-C, or StopIteration of the callback), with what was reached.

    Raises
    ------
    ValueError, TypeError
        Where an argument makes no sense, or levenberg-marquardt is asked for another loss than squared error.

    References
    ----------
    Steihaug (1983); Martens (2010), Deep learning via Hessian-free optimization; Marquardt (1963).

    Examples
    --------
    >>> from krylovh import Network
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> net = Network((1, 4, 1), "tanh")
    >>> net = net.with_theta(net.random_theta(0))
    >>> objective = Objective(net, X, np.sin(3 * X), loss="squared_error", l2=1e-3)
    >>> result = minimize(objective, tol=1e-8)
    >>> str(result.status), bool(result.fun < 0.1 * objective.value())
    ('converged', True)
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if method == "levenberg-marquardt" and objective.loss != "squared_error":
        raise ValueError(f"levenberg-marquardt is for loss 'squared_error', got {objective.loss!r}; use 'gauss-newton'")
    if method == "newton-cg" and damping is not None:
        raise ValueError(f"damping belongs to the Gauss-Newton methods; newton-cg has a trust region, got {damping}")
    if method != "newton-cg" and gauss_newton_until is not None:
        raise ValueError(f"gauss_newton_until belongs to newton-cg, got {gauss_newton_until} for {method}")
    _check_bounds(damping, {"forcing": forcing, "gauss_newton_until": gauss_newton_until})
    limits = Limits(
        _nonnegative("tol", tol),
        _nonnegative("gtol", gtol),
        whole_number("max_iterations", max_iterations, 0),
        None if max_products is None else whole_number("max_products", max_products, 0),
        None if max_seconds is None else _nonnegative("max_seconds", max_seconds),
    )
    choice = PRECONDITIONERS[method] if preconditioner is None else preconditioner
    arguments = {
        "method": method,
        "preconditioner": choice,
        "damping": damping,
        "forcing": forcing,
        "gauss_newton_until": gauss_newton_until,
        "batch_size": batch_size,
        "product_dtype": None if product_dtype is None else str(np.dtype(product_dtype)),
    }
    larger = {"tol": tol, "gtol": gtol, "max_iterations": max_iterations, "max_products": max_products}
    seed = None if rng is None or checkpoint is None else resolve_seed(rng)
    with recording(checkpoint, "minimize", objective, arguments, larger=larger, seed=seed) as record:
        if record.result is not None:
            return cast(TrainingResult, record.result)
        generator = np.random.default_rng(record.seed if record.remembers else rng)
        preconditioning = Preconditioning(choice, generator)
        curvature = Curvature(
            objective,
            gauss_newton=method != "newton-cg",
            batch_size=batch_size,
            dtype=product_dtype,
            rng=generator,
        )
        with reporting(progress, method) as report:
            descent = Descent(objective, limits, callback, report, preconditioning)
            descent.record = record
            if (state := record.state("iteration")) is not None:
                descent.restore(state, curvature)
            status = _descend(descent, curvature, preconditioning, method, damping, forcing, gauss_newton_until)
        result = descent.result(method, status, _message(status, descent))
        if is_final(status, max_seconds):
            record.finish(result, "iteration", lambda: descent.snapshot)
        elif descent.snapshot:
            record.offer("iteration", lambda: descent.snapshot, force=True)
        return result


def _descend(
    descent: Descent,
    curvature: Curvature,
    preconditioning: Preconditioning,
    method: Method,
    damping: float | None,
    forcing: float | None,
    gauss_newton_until: float | None,
) -> Status:
    """Run a method; return how it ended."""
    try:
        if method == "newton-cg":
            return trust_region_newton(descent, curvature, preconditioning, forcing, gauss_newton_until)
        if method == "levenberg-marquardt":
            return levenberg_marquardt(descent, curvature, preconditioning, damping, forcing)
        return hessian_free(descent, curvature, preconditioning, damping, forcing)
    except OutOfBudget:
        return Status.BUDGET
    except (KeyboardInterrupt, StopIteration):
        return Status.INTERRUPTED
    except FloatingPointError:  # derivatives of a batch, or in float32, that are not finite
        return Status.NONFINITE


def _check_bounds(damping: Any, shares: dict[str, float | None]) -> None:
    if damping is not None and not 0 < damping < np.inf:
        raise ValueError(f"damping must be positive and finite, got {damping}")
    for name, share in shares.items():
        if share is not None and not 0 < share < 1:
            raise ValueError(f"{name} must be in (0, 1), got {share}")


def _nonnegative(name: str, value: float) -> float:
    if not 0 <= value < np.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return float(value)


def _message(status: Status, descent: Descent) -> str:
    if status == Status.CONVERGED:
        return f"the gradient norm {descent.gradient_norm:.3e} is at most {descent.target:.3e}"
    reasons = {
        Status.BUDGET: "iterations, products or seconds ran out",
        Status.STAGNATED: "rounding lets the objective fall no further",
        Status.NONFINITE: "the loss or its derivatives are not finite",
        Status.INTERRUPTED: "stopped from outside",
    }
    return f"{reasons[status]}; the gradient norm is {descent.gradient_norm:.3e}, and not yet {descent.target:.3e}"

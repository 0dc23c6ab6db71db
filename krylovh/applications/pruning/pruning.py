"""Pruning of a trained net until a rule ends it."""

from collections.abc import Callable
from os import PathLike
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.applications.pruning.removal import PruningState, Removal, Retrain
from krylovh.applications.pruning.saliency import Criterion, Diagonal, DiagonalCriterion
from krylovh.applications.pruning.surgeon import Curvature, Inverse, SurgeonCriterion
from krylovh.checks import whole_number
from krylovh.krylov.stops import is_final
from krylovh.objective import Objective
from krylovh.progress import Progress, reporting
from krylovh.recording import CheckpointLike, recording
from krylovh.results.pruning import PruningResult

Mask = NDArray[np.bool_]
Method = Literal["obs", "obd", "magnitude"]

__all__ = ["prune"]


def prune(
    objective: Objective,
    *,
    method: Method = "obs",
    num_remove: int | None = None,
    max_loss_change: float | None = None,
    max_validation_change: float | None = None,
    accept: Callable[[PruningState], bool] | None = None,
    recompute: int | None = 1,
    batch: int = 1,
    inverse: Inverse = "exact",
    curvature: Curvature = "hessian",
    damping: float = 0.0,
    newton_step: bool = False,
    diagonal: Diagonal = "lecun",
    rtol: float = 1e-8,
    num_candidates: int | None = None,
    prunable: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    retrain: Literal["lbfgs"] | Retrain | None = None,
    retrain_iterations: int = 200,
    retrain_tol: float = 1e-8,
    validation: Objective | tuple[ArrayLike, ArrayLike] | None = None,
    progress: Progress = False,
    callback: Callable[[PruningState], Any] | None = None,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> PruningResult:
    """Remove parameters from a trained net, those first whose removal is predicted to raise the loss least.

    It goes on until one of ``num_remove``, ``max_loss_change``, ``max_validation_change`` and ``accept`` ends it, or
    nothing prunable is left.  A step that breaks one of the last three is undone.

    Parameters
    ----------
    objective : Objective
        At the trained parameters.  The saliencies of "obs" and "obd" assume a minimum.
    method : {"obs", "obd", "magnitude"}
        Optimal brain surgeon, ``w_q^2 / (2 [A^-1]_qq)`` with an update of all other parameters; optimal brain damage,
        ``h_qq w_q^2 / 2``; or ``w_q^2 / 2``, both without any update.
    num_remove : int, optional
        Parameters to remove.
    max_loss_change : float, optional
        By how much the objective may rise above its value at the start, retraining included.
    max_validation_change : float, optional
        The same for the loss on ``validation``.
    accept : callable, optional
        Given a :class:`PruningState` after each step; False ends.
    recompute : int or None
        Removals between computations of the curvature; None for a single one at the start.  In between the inverse
        follows by changes of low rank.
    batch : int
        Parameters removed in one step; their update is a joint one.
    inverse : {"exact", "outer_product", "cg"}
        Of "obs": by factorisation of the matrix, 8 P^2 bytes; by :func:`outer_product_inverse`; or column by column by
        conjugate gradients, a solve for each candidate at each computation of the curvature.
    curvature : {"hessian", "gauss_newton"}
        The matrix A of "exact" and "cg"; "outer_product" is always the Gauss-Newton matrix.
    damping : float
        At least 0: added to the diagonal of A, with the regulariser of the objective already in it.
    newton_step : bool
        The update also minimises the gradient's part of the model: a Newton step on what remains, in the same solve.
    diagonal : {"lecun", "exact"}
        Of "obd": the recursion of Le Cun et al., or the exact diagonal of the Hessian.
    rtol : float
        Of the solves of "cg".
    num_candidates : int, optional
        "cg" solves only for so many candidates, those with the smallest upper bound ``A_qq w_q^2 / 2`` of their
        saliency; all if not given.  At least ``batch``.
    prunable : array_like of bool, shape (P,), optional
        Parameters that may be removed; all, biases included, if not given.
    mask : array_like of bool, shape (P,), optional
        False where a parameter was removed before, and is 0: where an earlier result goes on.
    retrain : "lbfgs" or callable, optional
        After each step: L-BFGS on what remains, or a function of (objective, mask) that returns theta, 0 outside of the
        mask.
    retrain_iterations, retrain_tol : int, float
        Iterations of "lbfgs" after each step, and the largest entry of the gradient at which it ends.
    validation : Objective or (X, y), optional
        For (X, y) the loss of the objective without its regulariser.
    progress : bool or callable
        True for a bar on standard error, or a function of (removed, to be removed).
    callback : callable, optional
        Given a :class:`PruningState` after each step that is kept; a true answer ends, and keeps the step.
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on after the last step that was kept, if this one is stopped at any moment.
        ``num_remove``, ``max_loss_change`` and ``max_validation_change`` may be larger then.

    Returns
    -------
    PruningResult
        ``status`` is "converged" where one of the rules ended it, and ``stop_reason`` names the rule; "interrupted";
        "nonfinite" where a step leads to a loss that is not finite; "negative_curvature", or the status of a solve,
        where A is not positive definite any more.  Steps before are kept, one that was not finished is not.

    Raises
    ------
    ValueError, TypeError
        Where an argument makes no sense, or "obs" finds no positive definite curvature before the first step.
    FloatingPointError
        If loss or gradient are not finite at the start.

    References
    ----------
    Le Cun, Denker and Solla (1990), Optimal brain damage.
    Hassibi and Stork (1993), Second order derivatives for network pruning: optimal brain surgeon.

    Examples
    --------
    Two inputs that are nearly equal: the weight of one takes over from that of the other.

    >>> from krylovh import Network
    >>> net = Network((2, 1), "identity", [1.0, 1.2], bias=False)
    >>> X = np.array([[1.0, 1.0], [2.0, 2.1], [3.0, 2.9]])
    >>> objective = Objective(net, X, net.forward(X), loss="squared_error")
    >>> surgeon, damage = (prune(objective, method=m, num_remove=1) for m in ("obs", "obd"))
    >>> surgeon.theta.round(3), surgeon.losses.round(3)
    (array([0.   , 2.206]), array([0.   , 0.003]))
    >>> damage.theta.round(3), damage.losses.round(3)
    (array([0. , 1.2]), array([0.   , 2.333]))
    """
    P = objective.num_parameters
    start = _checked_mask("mask", mask, P)
    theta = objective.net.theta.astype(np.float64)
    if theta[~start].any():
        raise ValueError(f"theta must be 0 where mask is False, got {theta[~start][np.flatnonzero(theta[~start])[0]]}")
    allowed = _checked_mask("prunable", prunable, P) & start
    target = int(np.count_nonzero(allowed))
    if num_remove is not None:
        num_remove = whole_number("num_remove", num_remove, 0)
        if num_remove > target:
            raise ValueError(
                f"num_remove must be at most {target}, the prunable parameters that remain, got {num_remove}"
            )
        target = num_remove
    elif max_loss_change is None and max_validation_change is None and accept is None and callback is None:
        raise ValueError("one of num_remove, max_loss_change, max_validation_change, accept and callback must be given")
    for name, limit in (("max_loss_change", max_loss_change), ("max_validation_change", max_validation_change)):
        if limit is not None and not np.isfinite(limit):
            raise ValueError(f"{name} must be finite, got {limit}")
    if max_validation_change is not None and validation is None:
        raise ValueError("max_validation_change needs validation, got None")
    if not (retrain is None or retrain == "lbfgs" or callable(retrain)):
        raise ValueError(f"retrain must be 'lbfgs', a function or None, got {retrain!r}")
    batch = whole_number("batch", batch, 1)
    if num_candidates is not None:
        num_candidates = whole_number("num_candidates", num_candidates, batch)
    criterion = _criterion(method, inverse, curvature, damping, newton_step, diagonal, rtol, num_candidates)
    run = Removal(objective, start, allowed, criterion, _checked_validation(validation, objective))
    run.recompute = P if recompute is None else whole_number("recompute", recompute, 1)
    run.batch, run.target = batch, target
    run.max_loss_change, run.max_validation_change = max_loss_change, max_validation_change
    run.accept, run.callback, run.retrain = accept, callback, retrain
    run.retrain_limits = whole_number("retrain_iterations", retrain_iterations, 1), float(retrain_tol)
    arguments = {
        "method": method, "recompute": recompute, "batch": batch, "inverse": inverse, "curvature": curvature,
        "damping": damping, "newton_step": newton_step, "diagonal": diagonal, "rtol": rtol,
        "num_candidates": num_candidates, "prunable": prunable, "mask": mask, "retrain": retrain,
        "retrain_iterations": retrain_iterations, "retrain_tol": retrain_tol, "validation": validation,
        "accept": accept,
    }  # fmt: skip
    larger = {
        "num_remove": num_remove,
        "max_loss_change": max_loss_change,
        "max_validation_change": max_validation_change,
    }
    with (
        recording(checkpoint, "prune", objective, arguments, larger=larger, seed=0) as record,
        reporting(progress, "prune") as report,
    ):
        if record.result is not None:
            return cast(PruningResult, record.result)
        run.record = record
        if (state := record.state("removals")) is not None:
            run.restore(state)
        status, reason = run.until_stopped(report, "num_remove" if num_remove is not None else "exhausted")
        result = run.result(status, reason, method)
        if is_final(status, None):
            record.finish(result, "removals", lambda: run.snapshot)
        else:
            record.offer("removals", lambda: run.snapshot, force=True)
        return result


def _criterion(
    method: str,
    inverse: Inverse,
    curvature: Curvature,
    damping: float,
    newton_step: bool,
    diagonal: Diagonal,
    rtol: float,
    num_candidates: int | None,
) -> Criterion:
    for name, value, options in (
        ("method", method, get_args(Method)),
        ("inverse", inverse, get_args(Inverse)),
        ("curvature", curvature, get_args(Curvature)),
        ("diagonal", diagonal, get_args(Diagonal)),
    ):
        if value not in options:
            raise ValueError(f"{name} must be one of {options}, got {value!r}")
    if not 0 <= damping < np.inf:
        raise ValueError(f"damping must be finite and at least 0, got {damping}")
    if method == "obs":
        return SurgeonCriterion(
            inverse, curvature, float(damping), newton_step=newton_step, rtol=rtol, num_candidates=num_candidates
        )
    return DiagonalCriterion(None if method == "magnitude" else diagonal)


def _checked_mask(name: str, mask: ArrayLike | None, P: int) -> Mask:
    if mask is None:
        return np.ones(P, bool)
    given = np.asarray(mask)
    if given.dtype != bool or given.shape != (P,):
        raise ValueError(f"{name} must be booleans of shape ({P},), got {given.dtype} of shape {given.shape}")
    return given.copy()


def _checked_validation(validation: Any, objective: Objective) -> Objective | None:
    if validation is None:
        return None
    if isinstance(validation, Objective):
        if validation.net.widths != objective.net.widths or validation.num_parameters != objective.num_parameters:
            raise ValueError(f"validation must be an objective of {objective.net!r}, got one of {validation.net!r}")
        return validation.at(objective.net.theta)
    if not isinstance(validation, tuple) or len(validation) != 2:
        raise TypeError(f"validation must be an Objective or (X, y), got {type(validation).__name__}")
    try:
        return Objective(
            objective.net,
            *validation,
            loss=objective.loss,
            reduction=objective.reduction,
            loss_options={"delta": objective.targets.delta} if objective.loss == "huber" else None,
            dtype=objective.dtype,
            threads=objective.threads,
        )
    except (ValueError, TypeError) as error:
        raise type(error)(f"validation: {error}") from None

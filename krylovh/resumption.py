"""Going on with a run that was stopped, from its checkpoint alone."""

from importlib import import_module
from os import PathLike
from typing import Any

from krylovh.agreement import agreement_of, by_the_first
from krylovh.storage.checkpoint import Checkpoint

#: the functions that take a checkpoint; a file that names another one is refused
RESUMABLE = (
    "diagonal",
    "eigsh",
    "gauss_newton_matrix",
    "hessian_matrix",
    "logdet",
    "minimize",
    "prune",
    "spectral_density",
    "trace",
    "trace_function",
)

WITHOUT_RANDOMNESS = ("gauss_newton_matrix", "hessian_matrix", "prune")

__all__ = ["RESUMABLE", "resume"]


def resume(checkpoint: str | PathLike[str] | Checkpoint, subject: Any, **changes: Any) -> Any:
    """Go on with the run that a checkpoint file belongs to, with the arguments that it was started with.

    The same as calling the function again with the same arguments and ``checkpoint``.  The answer is that of a run that
    was never stopped; to the last bit where the number of threads, the versions and the machine are the same.

    Parameters
    ----------
    checkpoint : path or Checkpoint
        A file that a call with ``checkpoint=`` has written.
    subject : LinearOperator, ndarray, sparse matrix or Objective
        The first argument of the call: the same operator, or an objective with the same weights, data and loss.
    **changes
        Arguments that ask for more of the same: ``k``, ``tol`` and ``max_products`` of ``eigsh``, ``num_probes``,
        ``num_products``, ``rtol`` or ``atol`` of an estimator, ``max_iterations`` of ``minimize``, ``num_remove`` of
        ``prune``.  ``progress`` and ``max_seconds``.  And functions and objects that no file can hold, such as
        ``callback``, ``retrain`` or ``validation``, which have to be given again.

    Returns
    -------
    EigenResult, SpectralDensity, Estimate, DiagonalEstimate, TrainingResult, PruningResult or ndarray
        What the function returns.  Of a run that had ended it is read from the file, without a product, and compared
        with its digest.

    Raises
    ------
    CheckpointMismatchError
        The operator or objective, or an argument, is not that of the run; the message names the field.  Other versions,
        threads or processors are no error, and give a :class:`krylovh.CheckpointWarning`.
    FileLockedError
        Another process is at it.
    CorruptFileError, UntrustedFileError, UnsupportedFormatError, OSError
        The file cannot be read; see :class:`krylovh.ResultStore`.

    See Also
    --------
    krylovh.Checkpoint : How often a run is saved, and what is in the file.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from krylovh import trace
    >>> A = np.diag(np.arange(1.0, 201.0)) + 0.01
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = trace(A, num_products=20, rng=0, checkpoint=f"{folder}/trace.h5")
    ...     more = resume(f"{folder}/trace.h5", A, num_products=40)
    >>> first.num_products, more.num_products, more.seed
    (20, 40, 0)
    """
    given = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    run = by_the_first(agreement_of(subject), given.describe)
    if run.task not in RESUMABLE:
        raise ValueError(f"checkpoint must be one of {', '.join(RESUMABLE)}, got one of {run.task!r}")
    arguments = {**run.arguments, **changes, "checkpoint": given}
    if run.task in WITHOUT_RANDOMNESS:
        del arguments["rng"]
    return getattr(import_module("krylovh"), run.task)(subject, **arguments)

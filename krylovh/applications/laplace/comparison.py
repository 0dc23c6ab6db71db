"""Models compared by their evidence: widths, regularisers, activations, on the same data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from krylovh.applications.laplace.posterior import Laplace
from krylovh.objective import Objective
from krylovh.progress import Progress, reporting
from krylovh.results import ModelComparison, Status

__all__ = ["compare_models"]


def compare_models(
    models: Mapping[str, Laplace | Objective], *, progress: Progress = False, **options: Any
) -> ModelComparison:
    """Return log evidences and effective parameters of several models of the same targets.

    Parameters
    ----------
    models : mapping of str to Laplace or Objective
        Names without line breaks; an objective is taken at its mode with ``Laplace(objective, **options)``.
    progress : bool or callable
        Counts models.
    **options
        Passed to :class:`Laplace`.

    Returns
    -------
    ModelComparison
        In the given order; interrupted, of the models that were done.

    Raises
    ------
    ValueError
        Without models, for names that cannot be told apart in text, for targets that differ, and improper priors.

    References
    ----------
    MacKay (1992), A practical Bayesian framework for backpropagation networks.

    Examples
    --------
    >>> from krylovh import Network
    >>> net = Network((1, 1), "identity", [1.0], bias=False)
    >>> one = Objective(net, [[1.0]], [2.0], loss="squared_error", l2=1.0)
    >>> print(compare_models({"line": one}))
    model  log evidence  error  probability  gamma  parameters  |gradient|
    line       -2.26551      0            1    0.5           1           0
    """
    if not models:
        raise ValueError("models must hold at least one model, got none")
    wrong = [name for name in models if not name or "\n" in name]
    if wrong:
        raise ValueError(f"names of models must be non-empty and of one line, got {wrong[0]!r}")
    targets = {name: (m.objective if isinstance(m, Laplace) else m).y for name, m in models.items()}
    first = next(iter(targets))
    for name, y in targets.items():
        if not np.array_equal(y, targets[first]):
            raise ValueError(f"models must have the same targets: those of {name!r} and {first!r} differ")
    rows: list[tuple[float, float, float, int, float]] = []
    status = Status.CONVERGED
    with reporting(progress, "models") as report:
        try:
            for model in models.values():
                posterior = model if isinstance(model, Laplace) else Laplace(model, **options)
                evidence, gamma = posterior.log_evidence(), posterior.effective_parameters()
                if Status.INTERRUPTED in (evidence.status, gamma.status):
                    raise KeyboardInterrupt
                size, gradient = posterior.num_parameters, posterior.gradient_norm
                rows.append((evidence.value, evidence.standard_error, gamma.value, size, gradient))
                report(len(rows), len(models))
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    values = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    labels = "\n".join(list(models)[: len(rows)])
    return ModelComparison(
        labels,
        values[0].copy(),
        values[1].copy(),
        values[2].copy(),
        values[3].astype(np.int64),
        values[4].copy(),
        status,
    )

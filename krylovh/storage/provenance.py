"""What a number came from and was computed with, so that somebody else can get it again.

Versions, processor and threads; seeds; the objective as a formula; and SHA-256 digests of the net and of the data.
Nothing here says who computed it, on which host, in which folder or when: a result is the same whoever has it.
"""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from krylovh import __version__
from krylovh.storage.digest import content_digest

Facts = dict[str, str | int | float | tuple[int | float, ...]]

__all__ = ["Facts", "data_digest", "environment", "network_digest", "provenance_of"]


def environment() -> Facts:
    """Return versions, processor and threads of this process.

    Returns
    -------
    dict
        ``python, krylovh, numpy, scipy, numba, h5py`` (versions), ``blas`` (each BLAS that is loaded, with its
        version, kernel and threads), ``platform``, ``cpu``, ``cores`` (those that this process may use).

    Examples
    --------
    >>> environment()["krylovh"] == __version__
    True
    """
    facts: Facts = {"python": platform.python_version(), "krylovh": __version__}
    for package in ("numpy", "scipy", "numba", "h5py"):
        facts[package] = _version(package)
    facts["blas"] = _blas()
    facts["platform"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    facts["cpu"] = _cpu_model()
    facts["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return facts


def provenance_of(objective: Any) -> Facts:
    """Return what an objective is: its formula, and digests of its net and data.

    Parameters
    ----------
    objective : Objective

    Returns
    -------
    dict
        ``objective`` (the formula), ``loss``, ``reduction``, ``dtype``, ``threads``, ``widths``, ``activations``,
        ``num_samples``, ``network_digest``, ``data_digest``.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> net = SimpleNamespace(widths=(2, 1), activations=("identity",), theta=np.zeros(3))
    >>> objective = SimpleNamespace(
    ...     net=net, X=np.ones((4, 2)), y=np.ones(4), sample_weight=None, loss="squared_error", reduction="mean",
    ...     dtype=np.dtype("f8"), threads=2, formula=lambda: "1/4 sum_n 1/2 |f(x_n) - y_n|^2")
    >>> facts = provenance_of(objective)
    >>> facts["objective"], facts["widths"], len(facts["network_digest"])
    ('1/4 sum_n 1/2 |f(x_n) - y_n|^2', (2, 1), 64)
    """
    facts: Facts = {
        "objective": str(objective.formula()),
        "loss": str(objective.loss),
        "reduction": str(objective.reduction),
        "dtype": str(objective.dtype),
        "widths": tuple(int(width) for width in objective.net.widths),
        "activations": ", ".join(objective.net.activations),
        "network_digest": network_digest(objective.net),
        **_samples_of(objective),
    }
    if objective.threads is not None:
        facts["threads"] = int(objective.threads)
    return facts


def _samples_of(objective: Any) -> Facts:
    known = getattr(objective, "facts_of_samples", None)  # of an objective whose samples are not in one place
    if known is not None:
        return dict(known())
    digest = data_digest(objective.X, objective.y, objective.sample_weight)
    return {"num_samples": int(objective.X.shape[0]), "data_digest": digest}


def network_digest(net: Any) -> str:
    """Return the SHA-256 of a net: widths, activations, edges, biases and parameters.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> net = SimpleNamespace(widths=(2, 1), activations=("identity",), theta=np.zeros(3))
    >>> other = SimpleNamespace(widths=(2, 1), activations=("identity",), theta=np.array([0.0, 0.0, 1e-300]))
    >>> network_digest(net) == network_digest(other)
    False
    """
    topology = {key: repr(getattr(net, key, None)) for key in ("widths", "activations", "sources", "bias")}
    return content_digest({**topology, "theta": net.theta})


def data_digest(X: Any, y: Any, sample_weight: Any = None) -> str:
    """Return the SHA-256 of data: inputs, targets and weights of the samples.

    Examples
    --------
    >>> import numpy as np
    >>> data_digest(np.zeros((2, 1)), np.zeros(2)) == data_digest(np.zeros((2, 1)), np.zeros(2), np.ones(2))
    False
    """
    return content_digest({"X": X, "y": y, "sample_weight": sample_weight})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _blas() -> str:
    libraries = {
        "{internal_api} {version} ({architecture}, {num_threads} threads)".format_map(
            {"architecture": "unknown", **info}
        )
        for info in threadpool_info()
        if info["user_api"] == "blas"
    }
    return "; ".join(sorted(libraries)) or "none loaded"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()

"""What a run depends on, field by field, so that a run that does not fit can be told by name.

Weights, architecture, data, loss, regulariser, dtype and the like decide what is computed: where one of them differs, a
run is not the same run.  Versions, threads and the processor decide about the last bits alone.

An operator that is nothing but products cannot be looked into.  It is asked for one product with a vector that is
always the same, and that is compared, within what rounding and other summation may do to it.
"""

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from krylovh.objective import Objective
from krylovh.storage.digest import array_digest, content_digest, rows_digest
from krylovh.storage.errors import CheckpointMismatchError
from krylovh.storage.provenance import environment

__all__ = ["Fingerprint", "compare", "fingerprint_of", "machine"]

Fingerprint = tuple[dict[str, Any], NDArray[np.float64]]  # fields, and a product where there is no other way

#: operators that are given by their class and their objective
_KNOWN = {"HessianOperator", "GaussNewtonOperator", "ResidualOperator", "EmpiricalFisherOperator"}
_NONE = np.zeros(0)


def fingerprint_of(subject: Any) -> Fingerprint:
    """Return the fields that tell one operator or objective from another, and a product, mostly empty.

    Costs one product if the operator is neither an array nor the curvature of an objective.

    Examples
    --------
    >>> fields, product = fingerprint_of(np.eye(2))
    >>> sorted(fields), product
    (['dtype', 'matrix', 'operator', 'shape'], array([], dtype=float64))
    """
    if isinstance(subject, Objective):
        return _objective_fields(subject), _NONE
    fields = {
        "operator": type(subject).__name__,
        "shape": [int(length) for length in subject.shape] if hasattr(subject, "shape") else list(np.shape(subject)),
        "dtype": str(getattr(subject, "dtype", "")),
    }
    if isinstance(subject, (np.ndarray, list, tuple)):
        return {**fields, "matrix": array_digest(np.asarray(subject))}, _NONE
    if scipy.sparse.issparse(subject):
        entries = scipy.sparse.csr_array(subject, copy=True)
        entries.sum_duplicates()
        parts = {"data": entries.data, "indices": entries.indices.astype(np.int64), "rows": entries.indptr}
        return {**fields, "matrix": content_digest({**parts, "rows": entries.indptr.astype(np.int64)})}, _NONE
    if isinstance(objective := getattr(subject, "objective", None), Objective) and fields["operator"] in _KNOWN:
        return {**_objective_fields(objective), **fields}, _NONE
    return fields, _product_with_a_known_vector(subject)


def machine() -> dict[str, Any]:
    """Return what the last bits depend on: versions, threads, processor.

    Examples
    --------
    >>> "numpy" in machine()
    True
    """
    return {key: value for key, value in environment().items() if key != "platform"}


def compare(path: Any, saved: Fingerprint, now: Fingerprint) -> None:
    """Raise if two fingerprints differ, and name the field.

    Raises
    ------
    CheckpointMismatchError

    Examples
    --------
    >>> compare("run.h5", fingerprint_of(np.eye(2)), fingerprint_of(np.eye(3)))
    Traceback (most recent call last):
        ...
    krylovh.storage.errors.CheckpointMismatchError: run.h5 belongs to another run: its shape is [2, 2], here [3, 3]
    """
    for field in sorted({*saved[0], *now[0]}, key=lambda name: (name not in _DESCRIPTIVE, name)):
        before, here = saved[0].get(field), now[0].get(field)
        if before != here:
            raise CheckpointMismatchError(
                f"{path} belongs to another run: its {field} is {_short(before)}, here {_short(here)}"
            )
    if saved[1].shape != now[1].shape:
        raise CheckpointMismatchError(f"{path} belongs to another run: its operator has another shape")
    if saved[1].size:
        scale = max(np.abs(saved[1]).max(), np.abs(now[1]).max())
        eps = np.finfo(np.float32 if now[0].get("dtype") == "float32" else np.float64).eps
        if not np.abs(saved[1] - now[1]).max() <= 1e4 * eps * scale:
            raise CheckpointMismatchError(f"{path} belongs to another run: products with the operator differ")


#: fields that say more than a digest, and are therefore named first
_DESCRIPTIVE = {"operator", "shape", "dtype", "loss", "reduction", "architecture", "samples"}


def _objective_fields(objective: Objective) -> dict[str, Any]:
    net = objective.net
    return {
        "architecture": repr((net.widths, net.activations, net.sources, net.bias)),
        "weights": array_digest(net.theta),
        "samples": int(objective.num_samples),
        "data": _data_digest(objective),
        "loss": f"{objective.loss}, delta {objective.targets.delta:g}" if objective.loss == "huber" else objective.loss,
        "reduction": objective.reduction,
        "regulariser": array_digest(objective.l2),
        "dtype": str(objective.dtype),
    }


def _data_digest(objective: Objective) -> str:
    """Return a digest of all samples in their order, the same however they are spread over processes."""
    parts = dict(zip(("X", "y", "sample_weight"), objective.own_samples, strict=True))
    arrays = {name: part for name, part in parts.items() if part is not None}
    own = rows_digest(objective.first_own_sample, arrays)
    return f"{sum(objective.gather(own)) % (1 << 256):064x}"


def _product_with_a_known_vector(operator: Any) -> NDArray[np.float64]:
    # a vector without a pattern that an operator could have, and the same for every version of NumPy
    n = int(operator.shape[1])
    vector = np.sin(1.0 + np.arange(n) * 2.399963229728653).astype(operator.dtype or np.float64)
    return np.asarray(operator @ vector, dtype=np.float64).ravel()


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text

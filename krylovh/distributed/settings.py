"""What must be the same on all ranks, told in one exchange: net, data and settings, by digests."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from krylovh.sources import is_source
from krylovh.stream import RowStream

NUM_ROWS = 16  # of a file, spread over it, that its digest covers

__all__ = ["refuse_differences", "sample_digest"]


def sample_digest(values: Any) -> str:
    """Return shape, dtype and SHA-256 of an array, or of some rows of a file; text without a file for None.

    Examples
    --------
    >>> sample_digest(np.zeros(3))[:20]
    '(3,) float64 9d908ec'
    """
    if values is None:
        return "none"
    if is_source(values) or isinstance(values, RowStream):
        shape, dtype = tuple(values.shape), values.dtype
        chosen = np.unique(np.linspace(0, shape[0] - 1, min(NUM_ROWS, shape[0])).astype(int))
        content = b"".join(np.asarray(values[int(row) : int(row) + 1]).tobytes() for row in chosen)
    else:
        array = np.asarray(values)
        shape, dtype, content = array.shape, array.dtype, np.ascontiguousarray(array).tobytes()
    return f"{shape} {dtype} {hashlib.sha256(content).hexdigest()}"


def refuse_differences(settings: Sequence[Mapping[str, str]]) -> None:
    """Raise ValueError that names the first setting in which ranks differ, and which of them.

    Examples
    --------
    >>> refuse_differences([{"loss": "huber"}, {"loss": "poisson"}, {"loss": "huber"}])
    Traceback (most recent call last):
    ValueError: ranks differ in loss: huber on ranks 0, 2; poisson on rank 1
    """
    for name in settings[0]:
        found: dict[str, list[int]] = {}
        for rank, one in enumerate(settings):
            found.setdefault(one.get(name, "none"), []).append(rank)
        if len(found) > 1:
            told = "; ".join(
                f"{value[:60]} on rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
                for value, ranks in found.items()
            )
            raise ValueError(f"ranks differ in {name}: {told}")

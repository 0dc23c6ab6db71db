"""Rows of data, split by rank: any number of rows over any number of ranks."""

from typing import Any

import numpy as np

from krylovh.sources import is_source
from krylovh.stream import RowStream

__all__ = ["rows_of_rank", "shard_of", "split_rows"]


def split_rows(num_rows: int, num_ranks: int) -> list[int]:
    """Return how many rows each rank gets: they differ by one at most, and the first ranks have more.

    Examples
    --------
    >>> split_rows(10, 4), split_rows(2, 3)
    ([3, 3, 2, 2], [1, 1, 0])
    """
    share, rest = divmod(num_rows, num_ranks)
    return [share + (rank < rest) for rank in range(num_ranks)]


def rows_of_rank(num_rows: int, num_ranks: int, rank: int) -> slice:
    """Return the rows of one rank.

    Examples
    --------
    >>> rows_of_rank(10, 4, 1)
    slice(3, 6, None)
    """
    counts = split_rows(num_rows, num_ranks)
    first = sum(counts[:rank])
    return slice(first, first + counts[rank])


def shard_of(name: str, values: Any, rows: slice, dtype: Any) -> Any:
    """Return some rows of an array, or of a file: of inputs in a file nothing is read yet, of other data these rows.

    Examples
    --------
    >>> shard_of("y", [1, 2, 3], slice(1, 3), np.float64).tolist()
    [2, 3]
    """
    if is_source(values) and len(values.shape) == 2:
        return RowStream(name, values, dtype).subset(rows)
    return np.asarray(values[rows] if is_source(values) else np.asarray(values)[rows])

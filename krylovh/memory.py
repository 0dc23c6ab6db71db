"""Memory: how many samples pass at a time, what is kept between passes, and what all of it takes.

A pass over the data works on one chunk of samples after the other.  Room is given first to the buffers of one chunk,
then to the linearisations of as many chunks as fit, and what is left to their rows if these are read from a file: to
linearise a chunk anew takes 2 of 8 matrix products and every activation, to read it again a copy at the speed of
memory, which a thread of its own does ahead of use.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

BUFFER_BYTES = 2**26  # what buffers may take however small the limit is
ACCUMULATOR_BYTES = 2**28  # what the accumulators of a product's lanes may take however small the limit is
BLOCK = 16  # vectors that go through the net together at most: wider brings nothing, and costs memory
NARROW_BLOCK = 4  # below this, fewer lanes with wider blocks are faster than more lanes
WIDE_TILE = 2048  # rows that pass together where the BLAS does the threading
WHOLE_ROWS = 2**17  # rows of one chunk where all is kept: chunks are added up in float64, lanes of a chunk are not

__all__ = ["BufferPool", "MemoryPlan", "Partition", "Spread", "partition", "spread", "widest_block"]


@dataclass(frozen=True)
class Partition:
    """The cut of ``num_samples`` samples into chunks of ``rows`` rows, the last of them perhaps shorter.

    The linearisation of the first ``num_kept`` chunks is kept, and of the first ``num_read_once`` what was read.

    Examples
    --------
    >>> Partition(num_samples=10, rows=4, num_kept=1, num_read_once=0).spans
    [(0, 4), (4, 8), (8, 10)]
    """

    num_samples: int
    rows: int
    num_kept: int
    num_read_once: int

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.num_samples // self.rows)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First row of each chunk, and the one behind its last."""
        return [(start, min(start + self.rows, self.num_samples)) for start in range(0, self.num_samples, self.rows)]

    def rows_of(self, num_chunks: int) -> int:
        """Return how many samples the first chunks have."""
        return min(self.num_samples, num_chunks * self.rows)


def partition(
    num_samples: int,
    lanes: int,
    rows: int,
    limit: int,
    *,
    kept_bytes: int,
    row_bytes: int = 0,
    unconverted_bytes: int = 0,
    stored_rows: int = 1,
) -> Partition:
    """Cut samples into chunks and choose what is kept, within ``limit`` bytes where that can be.

    Parameters
    ----------
    num_samples, lanes : int
    rows : int
        Rows per chunk that are best for speed.
    limit : int
        Bytes; buffers may take ``BUFFER_BYTES`` whatever it is.
    kept_bytes : int
        What the linearisation of one sample takes.
    row_bytes, unconverted_bytes : int
        What a row takes that is read from a file, in the dtype of products and as it is stored; 0 in memory.
    stored_rows : int
        Rows that a file stores in one piece: chunks are cut between such pieces, so that none is unpacked twice.

    Examples
    --------
    >>> partition(1000, 2, 100, limit=10**6, kept_bytes=1000)
    Partition(num_samples=1000, rows=1000, num_kept=1, num_read_once=0)
    >>> partition(1000, 2, 100, limit=700_000, kept_bytes=1000)
    Partition(num_samples=1000, rows=100, num_kept=6, num_read_once=0)
    """
    if num_samples == 0:  # a process that has no samples of its own
        return Partition(0, 1, 0, 0)
    if not row_bytes and num_samples * kept_bytes <= limit:
        whole = Partition(num_samples, -(-num_samples // -(-num_samples // WHOLE_ROWS)), 0, 0)
        return replace(whole, num_kept=whole.num_chunks)
    read_bytes = 2 * row_bytes + unconverted_bytes
    room = max(BUFFER_BYTES, limit // 4)
    rows = min(num_samples, max(lanes, min(rows, room // (kept_bytes + read_bytes))))
    if rows < num_samples and rows - rows % stored_rows >= lanes:
        rows -= rows % stored_rows
    num_chunks = -(-num_samples // rows)
    if num_samples * (kept_bytes + row_bytes) + rows * unconverted_bytes <= limit:
        return Partition(num_samples, rows, num_chunks, num_chunks if row_bytes else 0)
    left = limit - num_samples * kept_bytes - rows * read_bytes
    if left >= 0:
        return Partition(num_samples, rows, num_chunks, left // (rows * row_bytes) if row_bytes else 0)
    left = limit - rows * (kept_bytes + read_bytes)
    return Partition(num_samples, rows, max(0, min(num_chunks - 1, left // (rows * kept_bytes))), 0)


class Spread(NamedTuple):
    """How the samples of a product are spread: over lanes, each with its accumulators, or over the BLAS's threads."""

    lanes: int
    tile: int  # rows that pass through all layers together
    threaded_blas: bool


def widest_block(lanes: int, vector_bytes: int, limit: int) -> int:
    """Return how many vectors go through the net together, if a lane adds up ``vector_bytes`` for each of them.

    Examples
    --------
    >>> widest_block(64, 10**6, 2**32), widest_block(64, 10**5, 2**32)
    (8, 16)
    """
    k = BLOCK
    while k > NARROW_BLOCK and lanes * k * vector_bytes > max(ACCUMULATOR_BYTES, limit // 8):
        k //= 2
    return k


def spread(k: int, lanes: int, threads: int, rows: int, tile: int, vector_bytes: int, limit: int) -> Spread:
    """Return how a product with ``k`` vectors is spread.

    Where the accumulators of all lanes would take more than an eighth of the limit, there are fewer lanes; where that
    leaves most of the threads idle, whole tiles go to a BLAS of many threads.

    Examples
    --------
    >>> spread(4, lanes=64, threads=64, rows=10**5, tile=256, vector_bytes=10**6, limit=2**32)
    Spread(lanes=64, tile=256, threaded_blas=False)
    >>> spread(4, lanes=64, threads=64, rows=10**5, tile=256, vector_bytes=10**7, limit=2**32)
    Spread(lanes=1, tile=2048, threaded_blas=True)
    """
    lanes = min(lanes, max(1, max(ACCUMULATOR_BYTES, limit // 8) // (k * vector_bytes)))
    if 2 * lanes >= min(threads, rows):
        return Spread(lanes, tile, False)
    return Spread(1, min(WIDE_TILE, rows), True)


@dataclass(frozen=True)
class MemoryPlan:
    """What an objective and a product with ``block_size`` vectors take, in bytes, before anything is allocated.

    Sizes are those of arrays; compiled kernels, the interpreter and the system's file cache come on top.  ``limit``
    bounds ``limited``, what can be kept or made anew, unless the buffers of the smallest chunk are larger.

    Examples
    --------
    >>> plan = MemoryPlan(Partition(60_000, 5000, 4, 0), block_size=1, data=480_000, parameters=3_800_000,
    ...                   kept=127_000_000, kept_rows=0, chunk=31_750_000, read_ahead=35_280_000, gradient=7_500_000,
    ...                   product=14_400_000, limit=200_000_000)
    >>> print(plan)
    data in memory                            0.5 MB
    parameters and gradient                   3.8 MB
    linearisation of 20000 samples, kept    127.0 MB
    rows of 0 samples, kept                   0.0 MB
    linearisation of one chunk               31.8 MB
    read-ahead                               35.3 MB
    gradient                                  7.5 MB
    product with 1 vector                    14.4 MB
    at most at a time                       212.7 MB
    within the limit of 200.0 MB            194.0 MB
    5000 rows per chunk, 12 chunks, 4 of them kept
    """

    partition: Partition
    block_size: int
    data: int  # X, y and sample_weight, as far as they are in memory
    parameters: int  # theta and the gradient, in the dtype of products
    kept: int  # linearisation that is kept between passes
    kept_rows: int  # rows from a file that are kept between passes
    chunk: int  # linearisation of a chunk that is made anew in each pass
    read_ahead: int
    gradient: int  # accumulators, while value and gradient are computed
    product: int  # accumulators and scratch, once there is an operator
    limit: int

    @property
    def limited(self) -> int:
        """What ``limit`` is about: all that is kept of a pass, and the buffers of one chunk."""
        return self.kept + self.kept_rows + self.chunk + self.read_ahead

    @property
    def peak(self) -> int:
        """What is taken at most at a time: gradient and product are not computed together."""
        return self.data + self.parameters + self.limited + max(self.gradient, self.product)

    def __str__(self) -> str:
        cut, vectors = self.partition, "1 vector" if self.block_size == 1 else f"{self.block_size} vectors"
        rows = {
            "data in memory": self.data,
            "parameters and gradient": self.parameters,
            f"linearisation of {cut.rows_of(cut.num_kept)} samples, kept": self.kept,
            f"rows of {cut.rows_of(cut.num_read_once)} samples, kept": self.kept_rows,
            "linearisation of one chunk": self.chunk,
            "read-ahead": self.read_ahead,
            "gradient": self.gradient,
            f"product with {vectors}": self.product,
            "at most at a time": self.peak,
            f"within the limit of {self.limit / 1e6:.1f} MB": self.limited,
        }
        wide = max(map(len, rows))
        lines = [f"{what:<{wide}} {size / 1e6:>8.1f} MB" for what, size in rows.items()]
        chunks = "1 chunk" if cut.num_chunks == 1 else f"{cut.num_chunks} chunks"
        return "\n".join([*lines, f"{cut.rows} rows per chunk, {chunks}, {cut.num_kept} of them kept"])


class BufferPool:
    """Buffers of the last pass, for the next one; passes at the same time never share them.

    Examples
    --------
    >>> pool = BufferPool()
    >>> first = pool.take(lambda: [0.0])
    >>> pool.give_back(first)
    >>> pool.take(list) is first, pool.take(list) is first
    (True, False)
    """

    def __init__(self) -> None:
        self._idle: deque[Any] = deque(maxlen=1)

    def take(self, make: Callable[[], T]) -> T:
        """Return what was given back last, or make anew."""
        try:
            buffers: T = self._idle.pop()
        except IndexError:
            return make()
        return buffers

    def give_back(self, buffers: Any) -> None:
        """Keep buffers for the next pass; of several passes at a time those of the last one."""
        self._idle.append(buffers)

    def __reduce__(self) -> tuple[type["BufferPool"], tuple[()]]:
        return BufferPool, ()  # copies and pickles start empty

"""Rows of samples that stay where they are, in a file or behind any object that can be sliced, read ahead of use.

An array of samples in memory needs nothing of this.  A memory map, an HDF5 dataset or another source is read run by
run: a thread of its own reads and converts the next run of rows while the kernels work on the present one, into two
buffers that take turns.  Rows are checked while they are read for the first time.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.memory import BufferPool
from krylovh.sources import Reference, RowSource, reference_to, refuse_closed, release_pages

Array = NDArray[Any]
Span = tuple[int, int]  # first row, and the one behind the last

__all__ = ["RowStream"]


class RowStream:
    """A source of rows, seen as an array (N, d) of another dtype that is read by runs of rows.

    Parameters
    ----------
    name : str
        What errors call the data.
    source : RowSource
        Two-dimensional; integers, booleans or real numbers.  Must not change while it is in use.
    dtype : float32 or float64
        What rows are converted to.

    Raises
    ------
    ValueError, TypeError
        For a source that is not two-dimensional or not of real numbers, or an HDF5 dataset whose file is closed; and,
        while rows are read, for NaN or infinity, by the index of the first, and for rows of another shape than said.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     stored = np.memmap(file, np.uint8, "w+", shape=(5, 2))
    ...     stored[:] = np.arange(10).reshape(5, 2)
    ...     rows = RowStream("X", stored, np.float32)
    ...     [block.tolist() for block in rows.blocks([(0, 2), (2, 3)])], rows[3:].dtype
    ([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0]], dtype('float32'))
    """

    ndim = 2

    def __init__(self, name: str, source: RowSource, dtype: Any) -> None:
        refuse_closed(name, source)
        self.name = name
        self.source = source
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        if len(source.shape) != 2:
            raise ValueError(f"{name} must have shape (N, d), got {tuple(source.shape)}")
        if source.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be a real array, got dtype {source.dtype}")
        self._first = 0
        self.shape = (int(source.shape[0]), int(source.shape[1]))
        self._is_checked = source.dtype.kind in "iub"  # integers are finite
        self._pool = BufferPool()
        self._kept: dict[Span, Array] = {}

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def rows_stored_together(self) -> int:
        """Rows that the file stores, and a compressed one unpacks, in one piece; 1 if there is no such bound."""
        stored = getattr(self.source, "chunks", None)
        return stored[0] if isinstance(stored, tuple) and isinstance(stored[0], int) else 1

    @property
    def unconverted_row_bytes(self) -> int:
        """Bytes per row that are held beside the converted ones while rows are read: none of a memory map."""
        if isinstance(self.source, np.memmap) or self._needs_no_conversion:
            return 0
        return self.shape[1] * self.source.dtype.itemsize

    @property
    def _needs_no_conversion(self) -> bool:
        """Whether a dataset is read to where its rows are used."""
        return hasattr(self.source, "read_direct") and self.source.dtype == self.dtype

    def __getitem__(self, rows: slice) -> Array:
        """Return rows ``start:stop`` as an array of their own."""
        if not isinstance(rows, slice):
            raise TypeError(f"{self.name} is read by slices of rows, got {rows!r}")
        start, stop, step = rows.indices(len(self))
        flat = np.empty(max(0, stop - start) * self.shape[1], self.dtype)
        self._read((start, max(start, stop)), flat)
        return flat.reshape(-1, self.shape[1])[::step]

    def subset(self, rows: Any) -> "RowStream | Array":
        """Return some rows: those of a slice without steps stay where they are, others are read into memory."""
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(len(self))
            part = RowStream(self.name, self.source, self.dtype)
            part._first, part._is_checked = self._first + start, self._is_checked
            part.shape = (max(0, stop - start), self.shape[1])
            return part
        positions = np.arange(len(self))[rows]
        chosen = np.empty((*positions.shape, self.shape[1]), self.dtype)
        run = max(1, 2**24 // (self.shape[1] * self.dtype.itemsize))
        for start in range(0, len(self), run):
            here = (positions >= start) & (positions < start + run)
            if here.any():
                chosen[here] = self[start : start + run][positions[here] - start]
        return chosen

    def blocks(self, spans: Sequence[Span], num_kept: int = 0) -> Iterator[Array]:
        """Yield the rows of each span, flat and read-only, valid until the next is asked for.

        The first ``num_kept`` are kept in memory when they have been read once.  The next run is read while the
        caller works on this one; whoever stops early waits for that read, so that no thread is left behind.
        """
        if all(span in self._kept for span in spans):
            yield from (self._kept[span] for span in spans)
            return
        longest = max(stop - start for start, stop in spans)
        is_checked = self._is_checked
        num_turns = min(2, max(0, len(spans) - num_kept))
        buffers = self._pool.take(lambda: _Buffers(self, longest, num_turns))
        if buffers.num_rows < longest or len(buffers.turns) < num_turns:
            buffers = _Buffers(self, longest, num_turns)

        def read(i: int) -> Array:
            span = spans[i]
            if span in self._kept:
                return self._kept[span]
            count = (span[1] - span[0]) * self.shape[1]
            rows = np.empty(count, self.dtype) if i < num_kept else buffers.turns[i % num_turns][:count]
            self._read(span, rows, buffers.unconverted)
            if not is_checked:
                self._check(span, rows)
            rows = rows.view()
            rows.flags.writeable = False
            if i < num_kept:
                self._kept[span] = rows
            return rows

        with ThreadPoolExecutor(1, thread_name_prefix="krylovh-read-ahead") as reader:
            following = reader.submit(read, 0)
            for i in range(len(spans)):
                rows = following.result()
                if i + 1 < len(spans):
                    following = reader.submit(read, i + 1)
                yield rows
        self._is_checked = self._is_checked or (spans[0][0] == 0 and spans[-1][1] == len(self))
        self._pool.give_back(buffers)  # not if the pass was broken off: an interrupted wait may leave a read behind

    def _read(self, span: Span, rows: Array, unconverted: Array | None = None) -> None:
        """Read a span of rows into a flat array; datasets by way of ``unconverted``, if that is given."""
        source = self.source
        refuse_closed(self.name, source)
        start, stop = self._first + span[0], self._first + span[1]
        shape = (span[1] - span[0], self.shape[1])
        if unconverted is not None and hasattr(source, "read_direct"):
            found = rows.reshape(shape) if self._needs_no_conversion else unconverted[: shape[0]]
            source.read_direct(found, np.s_[start:stop])
            if self._needs_no_conversion:
                return
        else:
            found = np.asarray(source[start:stop])
        if found.shape != shape:
            raise ValueError(f"{self.name}[{start}:{stop}] must have shape {shape}, got {found.shape}")
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused by its index
            np.copyto(rows.reshape(shape), found, casting="unsafe")
        release_pages(source, found)

    def _check(self, span: Span, rows: Array) -> None:
        """Refuse NaN and infinity by the index of the first."""
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(rows.sum()):  # a sum needs no memory; one that overflows proves nothing
                return
        wrong = np.flatnonzero(~np.isfinite(rows))
        if wrong.size:
            i, j = divmod(int(wrong[0]), self.shape[1])
            text = f"found {rows[wrong[0]]} at index {(span[0] + i, j)}"
            raise ValueError(f"{self.name} must be finite in {self.dtype}, {text}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"source": reference_to(self.name, self.source), "_kept": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        source = state["source"]
        self.source = source.open(self.name) if isinstance(source, Reference) else source

    def __repr__(self) -> str:
        return f"RowStream({self.name}, {self.shape}, {self.dtype}, from {type(self.source).__name__})"


class _Buffers:
    """What one pass reads into: converted rows in two buffers that take turns, and rows as they are stored."""

    def __init__(self, stream: RowStream, num_rows: int, num_turns: int) -> None:
        width, source = stream.shape[1], stream.source
        self.num_rows = num_rows
        self.turns = [np.empty(num_rows * width, stream.dtype) for _ in range(num_turns)]
        stored = num_rows if hasattr(source, "read_direct") and stream.unconverted_row_bytes else 0
        self.unconverted = np.empty((stored, width), source.dtype)

"""Where samples lie that are not in memory: memory maps, HDF5 datasets, and other objects that are sliced by rows.

A source stays where it is and is read when its rows are needed.  A pickle names the file of a source instead of holding
its rows, and opens it again.
"""

import mmap
import sys
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

__all__ = ["Reference", "RowSource", "in_memory", "is_source", "reference_to", "refuse_closed", "release_pages"]


class RowSource(Protocol):
    """What can be read by runs of rows: memory maps, HDF5 datasets and objects that behave like them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, d)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows as they are stored."""

    def __getitem__(self, rows: slice, /) -> ArrayLike:
        """Return rows ``start:stop``."""


def is_source(value: Any) -> bool:
    """Return whether ``value`` stays where it is: a memory map, or a sliceable object that is no array or sequence.

    Examples
    --------
    >>> is_source(np.zeros((3, 2))), is_source([[0.0]])
    (False, False)
    """
    if _is_dataset(value) or getattr(value, "_mmap", None) is not None:
        return True
    if isinstance(value, (np.ndarray, np.generic, list, tuple)):
        return False
    dtype = getattr(value, "dtype", None)  # tensors of other libraries have other kinds of dtype
    return isinstance(dtype, np.dtype) and hasattr(value, "shape") and hasattr(value, "__getitem__")


def in_memory(name: str, value: Any) -> Any:
    """Return ``value``, or, if it is a source of rows, all its rows as an array.

    Examples
    --------
    >>> in_memory("y", [1, 2])
    [1, 2]
    """
    refuse_closed(name, value)
    if is_source(value) and len(value.shape) > 0:
        return np.array(value[0 : value.shape[0]])
    return value


class Reference(NamedTuple):
    """Where rows are stored, in a pickle instead of them: a dataset of an HDF5 file, or a stretch of a mapped file."""

    path: str
    dataset: str | None
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def open(self, name: str) -> RowSource:
        """Open the file again, read-only."""
        try:
            if self.dataset is None:
                return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
            import h5py

            source: RowSource = h5py.File(self.path, "r")[self.dataset]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{name} cannot be opened again: {self.dataset or 'the map'} of {self.path}: {error}"
            ) from error
        if (source.shape, source.dtype) != (self.shape, self.dtype):
            found, needed = f"{source.shape} {source.dtype}", f"{self.shape} {self.dtype}"
            raise ValueError(f"{name} has changed: {self.dataset} of {self.path} is now {found}, it was {needed}")
        return source


def reference_to(name: str, source: Any) -> Any:
    """Return what a pickle holds of a source: where it is stored, or the source itself."""
    refuse_closed(name, source)
    if _is_dataset(source):
        return Reference(source.file.filename, source.name, 0, source.shape, source.dtype)
    pages = getattr(source, "_mmap", None)
    if pages is None or not source.filename or source.mode == "c" or not source.flags.c_contiguous:
        return source
    begin = source.offset - source.offset % mmap.ALLOCATIONGRANULARITY  # of the pages in the file
    return Reference(str(source.filename), None, begin + _position_in(pages, source), source.shape, source.dtype)


def _position_in(pages: mmap.mmap, array: Array) -> int:
    """Return at which byte of a map an array begins."""
    return int(array.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data)


def release_pages(source: Any, found: Array) -> None:
    """Give the pages of rows that have been read back to the system, which may keep them in its file cache.

    A map that is shared with its file loses nothing by this; a private copy (mode "c") would lose what was written.
    """
    pages = getattr(source, "_mmap", None)
    if pages is None or source.mode == "c" or not hasattr(mmap, "MADV_DONTNEED") or not found.flags.c_contiguous:
        return
    begin = _position_in(pages, found)
    first = begin - begin % mmap.PAGESIZE
    pages.madvise(mmap.MADV_DONTNEED, first, begin + found.nbytes - first)


def _is_dataset(value: Any) -> bool:
    h5py = sys.modules.get("h5py")  # without it there are no datasets
    return h5py is not None and isinstance(value, h5py.Dataset)


def refuse_closed(name: str, value: Any) -> None:
    """Raise ValueError for a dataset whose file has been closed."""
    if _is_dataset(value) and not value:
        raise ValueError(f"{name} is a dataset of an HDF5 file that is closed: it must stay open while it is in use")

"""Fingerprints of arrays and of named values: SHA-256 over what they mean, not over how they lie in memory.

An array is its dtype, its shape and its elements in C order, little-endian; so the digest of an array is the same on
every machine, for every memory layout, and for a memory map or HDF5 dataset with the same content.  Named values are
the sorted list of their names, each with the digest of its value.  HDF5's own checksum, fletcher32, is made for
accidents in single words and misses 4 to 6 % of longer bursts.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["array_digest", "content_digest", "rows_digest"]

_PIECE = 1 << 24  # bytes that are converted at a time


def array_digest(array: Any) -> str:
    """Return the SHA-256 of an array: dtype, shape and elements.

    Parameters
    ----------
    array : array_like
        Booleans, integers, floats, complex numbers or strings of fixed length.  Memory maps and HDF5 datasets are
        read in pieces of 16 MB.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    TypeError
        The elements are Python objects or structures.

    Examples
    --------
    >>> array_digest(np.arange(3.0)) == array_digest(np.arange(3.0, dtype=">f8"))
    True
    >>> array_digest(np.arange(3.0)) == array_digest(np.arange(3))
    False
    >>> array_digest(np.array([0.0])) == array_digest(np.array([-0.0]))
    False
    """
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        array = np.asarray(array)
    if array.dtype.kind not in "biufcSU":
        raise TypeError(f"a digest needs an array of numbers or fixed strings, got dtype {array.dtype}")
    dtype = array.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{dtype.str}{tuple(map(int, array.shape))}".encode())
    for piece in _pieces(array):
        digest.update(np.asarray(piece, dtype=dtype, order="C").reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of named values: arrays, numbers, strings, None, and mappings of these.

    Examples
    --------
    >>> content_digest({"a": 1.0, "b": None}) == content_digest({"b": None, "a": 1.0})
    True
    >>> content_digest({"a": "1"}) == content_digest({"a": 1})
    False
    """
    digest = hashlib.sha256(b"names")
    for name in sorted(content):
        encoded = name.encode()
        digest.update(f"{len(encoded)} ".encode() + encoded + _value_digest(content[name]).encode())
    return digest.hexdigest()


def rows_digest(first: int, arrays: Mapping[str, Any]) -> int:
    """Return a number for rows at their places, such that those of parts of the data add up to that of the whole.

    So it does not depend on how data are spread over processes.  It tells data apart, and is no seal: sums of digests
    can be forged.

    Parameters
    ----------
    first : int
        Place of the first row in the whole data.
    arrays : mapping of str to array
        With the same number of rows.

    Returns
    -------
    int
        In [0, 2^256); sums are to be taken modulo 2^256.

    Examples
    --------
    >>> x = np.arange(6.0).reshape(3, 2)
    >>> parts = rows_digest(0, {"x": x[:1]}) + rows_digest(1, {"x": x[1:]})
    >>> parts % 2**256 == rows_digest(0, {"x": x}) != rows_digest(0, {"x": x[::-1]})
    True
    """
    total = 0
    for name in sorted(arrays):
        array, place = arrays[name], first
        dtype = array.dtype.newbyteorder("<")
        start = hashlib.sha256(f"{name} {dtype.str}{tuple(map(int, array.shape[1:]))}".encode())
        for piece in _pieces(array) if array.shape[0] else ():
            rows = np.asarray(piece, dtype=dtype, order="C").reshape(len(piece), -1).view(np.uint8)
            for row in rows:
                digest = start.copy()
                digest.update(place.to_bytes(8, "little"))
                digest.update(row.data)
                total += int.from_bytes(digest.digest(), "little")
                place += 1
    return total % (1 << 256)


def _value_digest(value: Any) -> str:
    if value is None:
        return hashlib.sha256(b"none").hexdigest()
    if isinstance(value, str):
        return hashlib.sha256(b"text " + value.encode()).hexdigest()
    if isinstance(value, Mapping):
        return content_digest(value)
    return array_digest(value)


def _pieces(array: Any) -> Iterator[Any]:
    """Yield the array by blocks of rows, in order."""
    if not array.shape or not math.prod(array.shape):
        yield array[()]
        return
    rows = max(1, _PIECE // max(1, math.prod(array.shape[1:]) * array.dtype.itemsize))
    for start in range(0, array.shape[0], rows):
        yield array[start : start + rows]

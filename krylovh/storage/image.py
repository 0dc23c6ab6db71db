"""The bytes of a result file: an HDF5 image, and a seal.

::

    /                          format = "krylovh results", format_version = 1
    /<result>                  kind = "EigenResult", digest = 64 hexadecimal digits, numbers and text of the result;
                               absent = names of its fields that are None
    /<result>/<array>          dimensions = names of its axes; booleans are int8 with dtype = "bool", as in xarray
    /<result>/<dimension>      a dimension scale without values, as netCDF writes it: only a length
    /<result>/provenance       what the result was computed from and with

Everything is stored in sorted order, contiguously, without compression and without the time of day, so the bytes are
a function of the content.  Text is UTF-8 of fixed length.

Two digests protect it.  The *seal*, the last 80 bytes, is the SHA-256 of all bytes before it, and is checked before
the HDF5 library sees a single one of them: a damaged file is never parsed.  Other readers do not notice it, since HDF5
ignores what follows its end.  A program that edits the file removes it, and that is no damage: each result has a
*digest* of its names, dtypes, shapes, attributes and values, and is compared with it whenever it is read.

Anyone can compute a seal, so a good one says that a file is undamaged, not that it is harmless.  A file that this
process has not written itself is therefore first read by a child process, each content once.
"""

import errno
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from krylovh.storage.atomic import open_regular
from krylovh.storage.errors import CorruptFileError, UnsupportedFormatError, UntrustedFileError
from krylovh.storage.layout import Attribute, Record, plain_value
from krylovh.storage.structure import attributes_of, child_of, survey
from krylovh.storage.trial import read_in_child

__all__ = ["FORMAT_VERSION", "check_bytes", "hdf5_image", "open_hdf5", "open_image", "read_record", "sealed_image"]

FORMAT = "krylovh results"
FORMAT_VERSION = 1
_SEAL = b"krylovh sha-256 "  # 16 bytes, followed by 64 hexadecimal digits
_SEAL_SIZE = len(_SEAL) + 64
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PIECE = 1 << 20
_KNOWN_LIMIT = 10_000

_known: dict[bytes, None] = {}  # digests of what this process has written or has read on trial, the oldest first


def sealed_image(records: Mapping[str, Record]) -> bytes:
    """Return the bytes of a file that holds the records.

    Examples
    --------
    >>> from krylovh.storage.layout import to_record
    >>> image = sealed_image({"ones": to_record(np.ones(3))})
    >>> image == sealed_image({"ones": to_record(np.ones(3))})
    True
    >>> image[-80:-64]
    b'krylovh sha-256 '
    """
    with _memory_file() as file:
        _put(file, {"format": FORMAT, "format_version": np.array(FORMAT_VERSION)})
        for name in sorted(records):
            _put_record(file.create_group(name), records[name])
        return _sealed(_image_of(file))


def hdf5_image(arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Attribute]) -> bytes:
    """Return the bytes of an HDF5 file of plain arrays, with attributes at the root and a seal at the end.

    Examples
    --------
    >>> hdf5_image({"x": np.zeros(2)}, {"unit": "s"})[1:4]
    b'HDF'
    """
    with _memory_file() as file:
        _put(file, attributes)
        for name in sorted(arrays):
            file.create_dataset(name, data=arrays[name], track_times=False)
        return _sealed(_image_of(file))


@contextmanager
def open_image(path: Path) -> Iterator[tuple[Any, int]]:
    """Open a result file for reading, once its seal and its version have been checked.

    Yields
    ------
    h5py.File, int
        The file, opened by descriptor, and its size in bytes.

    Raises
    ------
    CorruptFileError
        Truncated, damaged, empty or not a result file.
    UnsupportedFormatError
        Written by a newer release.
    OSError
        Missing, a directory, or unreadable.

    Examples
    --------
    >>> with open_image(Path(__file__)) as (file, size):  # doctest: +ELLIPSIS
    ...     pass
    Traceback (most recent call last):
        ...
    krylovh.storage.errors.CorruptFileError: ...: not an HDF5 file, but ... other bytes
    """
    with open_regular(path) as raw:
        check_bytes(raw, path)
        with open_hdf5(raw, path) as (file, size):
            header = attributes_of(file)
            if header.get("format") != FORMAT or "format_version" not in header:
                raise CorruptFileError("is not a file of krylovh results")
            version = plain_value(header["format_version"])
            if not isinstance(version, int) or version < 1:
                raise CorruptFileError(f"has format version {version!r}, which never existed")
            if version > FORMAT_VERSION:
                raise UnsupportedFormatError(
                    f"has format version {version}; this release reads versions up to {FORMAT_VERSION}"
                )
            yield file, size


def check_bytes(raw: BinaryIO, path: Path) -> None:
    """Compare a file with its seal, if it has one, and read what this process has not written on trial in a child.

    Parameters
    ----------
    raw : binary file
        With a descriptor.  Its position is moved.
    path : Path
        For messages.

    Raises
    ------
    CorruptFileError
        The bytes are not those that were sealed, or bring the HDF5 library down.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as raw:
    ...     _ = raw.write(hdf5_image({"x": np.zeros(2)}, {}))
    ...     check_bytes(raw, Path("example.h5"))
    """
    size = raw.seek(0, 2)
    seal = _seal_of(raw, size, path) or _sha256(raw, size)
    if seal not in _known:
        read_in_child(raw, path)
        _remember(seal)


@contextmanager
def open_hdf5(raw: BinaryIO, path: Path) -> Iterator[tuple[Any, int]]:
    """Open the HDF5 file behind a descriptor; whatever goes wrong while it is open names the file and is one error.

    Only reading belongs into the ``with`` block: any error inside counts as damage to the file.

    Yields
    ------
    h5py.File, int
        The file and its size in bytes.

    Raises
    ------
    CorruptFileError, UntrustedFileError, UnsupportedFormatError
        With the path put before the message.

    Examples
    --------
    >>> import io
    >>> with open_hdf5(io.BytesIO(hdf5_image({"x": np.zeros(2)}, {})), Path("example.h5")) as (file, size):
    ...     file["x"][()]
    array([0., 0.])
    """
    size = raw.seek(0, 2)
    raw.seek(0)
    if raw.read(len(_SIGNATURE)) != _SIGNATURE:
        raise CorruptFileError(f"{path}: not an HDF5 file, but {size} other bytes" if size else f"{path}: empty file")
    try:
        with h5py.File(raw, "r") as file:
            yield file, size
    except (CorruptFileError, UntrustedFileError, UnsupportedFormatError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        # h5py reports damage by any of these; an errno means that the disk itself failed, unless it is the one for
        # places that no file has, to which a damaged address leads
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise CorruptFileError(f"{path}: damaged or truncated HDF5 file ({error})") from error


def read_record(file: Any, name: str, file_size: int) -> Record:
    """Read one result, after its structure has been checked, and compare it with its digest.

    Raises
    ------
    CorruptFileError, UntrustedFileError
        Naming the result.

    Examples
    --------
    >>> import io
    >>> from krylovh.storage.layout import to_record
    >>> image = sealed_image({"ones": to_record(np.ones(2))})
    >>> with open_hdf5(io.BytesIO(image), Path("example.h5")) as (file, size):
    ...     read_record(file, "ones", size).arrays["values"]
    array([1., 1.])
    """
    try:
        return _read_record(child_of(file, name), file_size)
    except (CorruptFileError, UntrustedFileError) as error:
        raise type(error)(f"result {name!r}: {error}") from None


def _read_record(group: Any, file_size: int) -> Record:
    if not isinstance(group, h5py.Group):
        raise CorruptFileError("is not a group")
    datasets = survey(group, file_size)
    attributes = attributes_of(group)
    kind, digest, absent = (attributes.pop(key, "") for key in ("kind", "digest", "absent"))
    arrays, dimensions = {}, {}
    for name, dataset in datasets.items():
        marks = attributes_of(dataset)
        dimensions[name] = tuple(str(marks.get("dimensions", "")).split())
        array = np.empty(dataset.shape, dataset.dtype)
        if array.size:
            dataset.read_direct(array)
        arrays[name] = array.astype(np.bool_) if marks.get("dtype") == "bool" else array
    provenance = attributes_of(child_of(group, "provenance")) if "provenance" in group else {}
    record = Record(str(kind), attributes, arrays, dimensions, tuple(str(absent).split()), provenance)
    if record.digest() != digest:
        raise CorruptFileError("the content does not match its SHA-256 digest")
    return record


def _put_record(group: Any, record: Record) -> None:
    header: dict[str, Attribute] = {"kind": record.kind, "digest": record.digest()}
    if record.absent:
        header["absent"] = " ".join(record.absent)
    _put(group, {**header, **record.attributes})
    _put(group.create_group("provenance"), record.provenance)
    lengths = {
        axis: length
        for name, array in record.arrays.items()
        for axis, length in zip(record.dimensions[name], array.shape, strict=True)
    }
    scales = {axis: _put_scale(group, axis, length) for axis, length in sorted(lengths.items())}
    for name, array in sorted(record.arrays.items()):
        is_bool = array.dtype.kind == "b"
        dataset = group.create_dataset(name, data=array.view(np.int8) if is_bool else array, track_times=False)
        _put(dataset, {"dimensions": " ".join(record.dimensions[name]), **({"dtype": "bool"} if is_bool else {})})
        for position, axis in enumerate(record.dimensions[name]):
            dataset.dims[position].attach_scale(scales[axis])


def _put_scale(group: Any, axis: str, length: int) -> Any:
    scale = group.create_dataset(axis, shape=(length,), dtype=">f4", track_times=False)
    scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{length:10d}")
    return scale


def _put(item: Any, attributes: Mapping[str, Attribute]) -> None:
    for name, value in sorted(attributes.items()):
        if isinstance(value, str):
            text = value.encode()
            item.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(1, len(text))))
        else:
            item.attrs.create(name, value)


def _memory_file() -> Any:
    return h5py.File("image", "w", driver="core", backing_store=False, track_order=False)


def _image_of(file: Any) -> bytes:
    file.flush()
    return bytes(file.id.get_file_image())


def _sealed(image: bytes) -> bytes:
    seal = hashlib.sha256(image).hexdigest().encode()
    _remember(seal)
    return image + _SEAL + seal


def _seal_of(raw: BinaryIO, size: int, path: Path) -> bytes | None:
    """Compare the file with its seal; return it, or None if there is none."""
    raw.seek(max(0, size - _SEAL_SIZE))
    found = raw.read(_SEAL_SIZE)
    if not found.startswith(_SEAL):
        return None
    seal = found[len(_SEAL) :]
    if _sha256(raw, size - _SEAL_SIZE) != seal:
        raise CorruptFileError(f"{path}: damaged, the bytes do not match the SHA-256 seal at the end of the file")
    return seal


def _sha256(raw: BinaryIO, size: int) -> bytes:
    """Return the digest of the first ``size`` bytes, in hexadecimal digits."""
    raw.seek(0)
    digest, rest = hashlib.sha256(), size
    while rest > 0 and (piece := raw.read(min(_PIECE, rest))):
        digest.update(piece)
        rest -= len(piece)
    return digest.hexdigest().encode()


def _remember(seal: bytes) -> None:
    _known[seal] = None
    while len(_known) > _KNOWN_LIMIT:
        _known.pop(next(iter(_known)), None)

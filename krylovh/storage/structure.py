"""What an HDF5 file may contain before any value of it is read.

HDF5 can do much that a file of arrays does not need and a stranger can abuse: links and external storage that make
the reader open other files, virtual datasets that do the same, filters that load plug-ins, references and nested
types, and shapes that declare petabytes in a file of a kilobyte.  :func:`survey` walks the structure, reads no value,
and refuses all of these.  What it lets pass:

* groups and datasets reached by one hard link each, so that there are no cycles and nothing is counted twice;
* integers, floats, booleans, complex numbers and strings;
* compact, contiguous and chunked storage; the filters deflate, shuffle and fletcher32;
* datasets whose bytes are in the file: all of them, or with deflate at least one in ``RATIO_LIMIT``.

The last rule has one exception.  A dimension scale without values, as netCDF writes for a dimension that has only a
length, declares a shape and stores nothing; it passes and is never read.
"""

import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from krylovh.storage.errors import UntrustedFileError

__all__ = ["INFLATED_LIMIT", "RATIO_LIMIT", "SMALL", "attributes_of", "child_of", "survey"]

SMALL = 1 << 20  # bytes: arrays up to this size may be compressed without limit
RATIO_LIMIT = 200  # declared bytes per stored byte
INFLATED_LIMIT = 1 << 32  # bytes that a file may inflate to in all
_ATTRIBUTE_LIMIT = 1 << 16  # bytes of one attribute
_DEPTH_LIMIT = 8

# The attributes by which HDF5 and netCDF tie dimension scales to datasets.  They hold references, and are never read.
_DIMENSION_ATTRIBUTES = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_Netcdf4Dimid"}


def survey(group: Any, file_size: int) -> dict[str, Any]:
    """Return the datasets under a group by path, after a check of everything that is there.

    Parameters
    ----------
    group : h5py.Group
    file_size : int
        In bytes.

    Returns
    -------
    dict of str to h5py.Dataset
        Paths relative to ``group``.  Dimension scales without values are left out.

    Raises
    ------
    UntrustedFileError
        Naming the object and what is wrong with it.

    Examples
    --------
    >>> with h5py.File("image", "w", driver="core", backing_store=False) as file:
    ...     file["a/b"] = [1.0, 2.0]
    ...     list(survey(file, 4096))
    ['a/b']
    >>> with h5py.File("image", "w", driver="core", backing_store=False) as file:
    ...     file["secret"] = h5py.ExternalLink("other.h5", "/x")
    ...     survey(file, 4096)
    Traceback (most recent call last):
        ...
    krylovh.storage.errors.UntrustedFileError: '/secret' is a soft or external link
    """
    datasets = {}
    stored = inflated = 0
    for path, dataset in _walk(group, "", {_address(group)}, 0):
        storage = _check_storage(dataset)
        size = _declared_bytes(dataset)
        if not storage and h5py.h5ds.is_scale(dataset.id):
            continue
        deflated = _check_size(dataset, size, storage)
        stored += storage
        inflated += size if deflated else 0
        datasets[path] = dataset
    if stored > file_size:
        raise UntrustedFileError(f"its datasets claim {stored} bytes of a file of {file_size}")
    if inflated > INFLATED_LIMIT:
        raise UntrustedFileError(f"its compressed datasets hold {inflated} bytes; the limit is {INFLATED_LIMIT}")
    return datasets


def child_of(group: Any, name: str) -> Any:
    """Return a member of a group, provided that it lies in the same file.

    Examples
    --------
    >>> with h5py.File("image", "w", driver="core", backing_store=False) as file:
    ...     file["a"] = 1.0
    ...     file["b"] = h5py.SoftLink("/a")
    ...     child_of(file, "a").shape
    ...     child_of(file, "b")
    Traceback (most recent call last):
        ...
    krylovh.storage.errors.UntrustedFileError: '/b' is a soft or external link
    """
    if group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type != h5py.h5l.TYPE_HARD:
        raise UntrustedFileError(f"{_join(group.name, name)!r} is a soft or external link")
    return group[name]


def attributes_of(item: Any) -> dict[str, str | NDArray[Any]]:
    """Return the attributes of a group or dataset: text as ``str``, numbers as arrays.

    Raises
    ------
    UntrustedFileError
        An attribute is a reference, a structure, empty, or larger than 64 KiB.

    Examples
    --------
    >>> with h5py.File("image", "w", driver="core", backing_store=False) as file:
    ...     file.attrs["loss"] = "huber"
    ...     file.attrs["delta"] = 1.0
    ...     attributes_of(file)
    {'delta': array(1.), 'loss': 'huber'}
    """
    values: dict[str, str | NDArray[Any]] = {}
    for name in _names(item.attrs, item):
        if name in _DIMENSION_ATTRIBUTES:
            continue
        attribute = item.attrs.get_id(name)
        place = f"attribute {name!r} of {item.name!r}"
        _check_type(attribute.get_type(), place)
        if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            raise UntrustedFileError(f"{place} is empty")
        if math.prod(attribute.shape) * attribute.get_type().get_size() > _ATTRIBUTE_LIMIT:
            raise UntrustedFileError(f"{place} is larger than {_ATTRIBUTE_LIMIT} bytes")
        value = item.attrs[name]
        if isinstance(value, bytes):
            value = value.decode()
        values[name] = value if isinstance(value, str) else np.asarray(value)
    return values


def _walk(group: Any, prefix: str, seen: set[int], depth: int) -> Iterator[tuple[str, Any]]:
    """Yield every dataset below a group with its path."""
    if depth > _DEPTH_LIMIT:
        raise UntrustedFileError(f"{group.name!r} is nested more than {_DEPTH_LIMIT} groups deep")
    for name in _names(group, group):
        item = child_of(group, name)
        address = _address(item)
        if address in seen:
            raise UntrustedFileError(f"{_join(group.name, name)!r} is a second link to the same object")
        seen.add(address)
        if isinstance(item, h5py.Group):
            yield from _walk(item, f"{prefix}{name}/", seen, depth + 1)
        elif isinstance(item, h5py.Dataset):
            yield f"{prefix}{name}", item
        else:
            raise UntrustedFileError(f"{item.name!r} is neither a group nor a dataset")


def _names(members: Any, item: Any) -> list[str]:
    """Return names in order; h5py gives those that are not UTF-8 as bytes, and cannot be asked for them."""
    for name in members:
        if not isinstance(name, str):
            raise UntrustedFileError(f"{item.name!r} has a name that is not text: {name!r}")
    return sorted(members)


def _check_storage(dataset: Any) -> int:
    """Refuse storage outside the file, filters beyond the plain ones and strange types; return the bytes stored."""
    plan = dataset.id.get_create_plist()
    if plan.get_external_count():
        raise UntrustedFileError(f"{dataset.name!r} keeps its values in another file")
    if plan.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise UntrustedFileError(f"{dataset.name!r} is a virtual dataset")
    for code in _filters(plan):
        if code not in (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32):
            raise UntrustedFileError(f"{dataset.name!r} uses filter {code}; allowed are deflate, shuffle, fletcher32")
    if dataset.shape is None:
        raise UntrustedFileError(f"{dataset.name!r} is empty: it has neither shape nor values")
    _check_type(dataset.id.get_type(), repr(dataset.name))
    return int(dataset.id.get_storage_size())


def _check_size(dataset: Any, size: int, storage: int) -> bool:
    """Refuse a dataset whose values are not in the file; return whether it is compressed."""
    plan = dataset.id.get_create_plist()
    deflated = h5py.h5z.FILTER_DEFLATE in _filters(plan)
    chunk = math.prod(plan.get_chunk()) * dataset.id.get_type().get_size() if dataset.chunks else 0
    limit = max(SMALL, RATIO_LIMIT * storage) if deflated and storage else storage
    if size > limit or (storage and chunk > max(SMALL, limit)):
        raise UntrustedFileError(f"{dataset.name!r} declares {max(size, chunk)} bytes and stores {storage}")
    return deflated


def _check_type(kind: Any, place: str) -> None:
    """Refuse types other than numbers, booleans, complex numbers and strings."""
    allowed = kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING)
    if kind.get_class() == h5py.h5t.ENUM:
        allowed = kind.dtype.kind == "b"
    elif kind.get_class() == h5py.h5t.COMPOUND:
        allowed = kind.get_nmembers() == 2 and kind.dtype.kind == "c"
    if not allowed:
        raise UntrustedFileError(f"{place} holds neither numbers nor text")


def _declared_bytes(dataset: Any) -> int:
    return int(math.prod(dataset.shape) * dataset.id.get_type().get_size())


def _filters(plan: Any) -> list[int]:
    return [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]


def _address(item: Any) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _join(group: str, name: str) -> str:
    return f"{group.rstrip('/')}/{name}"

"""Arrays from safetensors files of strangers.

The format is eight bytes for the length of a header, the header in JSON, and the bytes of all arrays without gaps.  It
is read here because the checks are the work: the format's own library lets pass names that occur twice, names that are
paths, and shapes that no file holds.  All that is checked, a value is a piece of the file.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from krylovh.storage.errors import CorruptFileError, UntrustedFileError

__all__ = ["tensors_of"]

HEADER_LIMIT = 1 << 24  # bytes
TENSOR_LIMIT = 10_000
NAME_LIMIT = 200  # characters
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_KEYS = {"dtype", "shape", "data_offsets"}


def tensors_of(raw: BinaryIO, path: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays, float64, float32 or float16 as stored, bfloat16 as float32.

    Raises
    ------
    CorruptFileError
        The header is damaged, or offsets, shapes and the size of the file do not agree.
    UntrustedFileError
        A limit is exceeded, a name occurs twice or is a path, or an array holds no real floating point numbers.

    Examples
    --------
    >>> import io, struct
    >>> header = b'{"a.bias": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}'
    >>> tensors_of(io.BytesIO(struct.pack("<Q", len(header)) + header + np.ones(1).tobytes()), Path("example"))
    {'a.bias': array([1.])}
    """
    try:
        return _read(raw)
    except (CorruptFileError, UntrustedFileError) as error:
        raise type(error)(f"{path}: {error}") from None


def _read(raw: BinaryIO) -> dict[str, NDArray[Any]]:
    size = raw.seek(0, 2)
    raw.seek(0)
    start = raw.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise CorruptFileError(f"damaged or truncated safetensors file: a header of {length} bytes in {size}")
    if length > HEADER_LIMIT:
        raise UntrustedFileError(f"its header has {length} bytes; the limit is {HEADER_LIMIT}")
    header = _header(raw.read(length))
    header.pop("__metadata__", None)
    if len(header) > TENSOR_LIMIT:
        raise UntrustedFileError(f"holds {len(header)} arrays; the limit is {TENSOR_LIMIT}")
    spans = {name: _span(name, entry) for name, entry in header.items()}
    end = 0
    for name, (begin, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != end:
            raise CorruptFileError(
                f"the bytes of {name!r} begin at {begin} instead of {end}: arrays overlap or leave gaps"
            )
        end = stop
    if end != size - 8 - length:
        raise CorruptFileError(f"its arrays take {end} bytes, and {size - 8 - length} follow the header")
    arrays = {}
    for name, (begin, stop) in spans.items():
        raw.seek(8 + length + begin)
        content = raw.read(stop - begin)
        if len(content) != stop - begin:
            raise CorruptFileError("was truncated while it was read")
        entry = header[name]
        array = np.frombuffer(content, _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    return arrays


def _header(content: bytes) -> dict[str, Any]:
    try:
        header = json.loads(content.decode("utf-8"), object_pairs_hook=_without_repetition, parse_constant=_refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CorruptFileError(f"the header is not JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise CorruptFileError("the header is not a JSON object")
    return header


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise UntrustedFileError(f"the header has {twice[:NAME_LIMIT]!r} twice")
    return entries


def _refuse(constant: str) -> Any:
    raise CorruptFileError(f"the header has the number {constant}, which JSON does not have")


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Return where the bytes of an array begin and end, after a check of all that its entry says."""
    if len(name) > NAME_LIMIT or not name.isprintable():
        raise UntrustedFileError(f"the name {name[:NAME_LIMIT]!r} is too long or not printable")
    if "/" in name or "\\" in name or ".." in name:
        raise UntrustedFileError(f"the name {name!r} is a path")
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise CorruptFileError(f"the entry of {name!r} must have {sorted(_KEYS)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise UntrustedFileError(f"{name!r} has dtype {str(dtype)[:20]!r}; supported are {', '.join(_DTYPES)}")
    if not _are_sizes(shape) or len(shape) > 8 or any(side > 1 << 40 for side in shape):
        raise CorruptFileError(f"{name!r} has the shape {str(shape)[:60]}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CorruptFileError(f"{name!r} has the offsets {str(offsets)[:60]}")
    declared = math.prod(shape) * _DTYPES[dtype].itemsize
    if declared != offsets[1] - offsets[0]:
        raise CorruptFileError(
            f"{name!r} declares {declared} bytes for shape {shape} and has {offsets[1] - offsets[0]}"
        )
    return offsets[0], offsets[1]


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)

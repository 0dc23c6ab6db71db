"""Arrays from ``.npz`` files of strangers.

A ``.npz`` is a zip of ``.npy`` members, and each layer can lie: the zip about sizes, with members that inflate a
thousandfold, twice the same name, or overlapping data; the ``.npy`` header about its shape; and an array of Python
objects is a pickle, which runs code.  So sizes are compared before anything is inflated, shapes before anything is
allocated, and objects are refused.
"""

import errno
import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from krylovh.storage.errors import CorruptFileError, UntrustedFileError
from krylovh.storage.structure import INFLATED_LIMIT, RATIO_LIMIT, SMALL

__all__ = ["npz_bytes", "read_npz"]

_MEMBER_LIMIT = 10_000
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # of which RecursionError is one
    SyntaxError,  # a header of .npy is a Python literal, and is read as one
    tokenize.TokenError,
)
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(raw: BinaryIO, path: Path, wanted: Callable[[str], bool]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the names of all arrays, and those arrays that are wanted.

    Parameters
    ----------
    raw : binary file
    path : Path
        For messages.
    wanted : function of a name

    Raises
    ------
    CorruptFileError
        Not a ``.npz``, truncated, or a checksum does not match.
    UntrustedFileError
        Python objects, sizes beyond the limits, or two members of one name.

    Examples
    --------
    >>> raw = io.BytesIO(npz_bytes({"X": np.zeros(2), "notes": np.array("long")}))
    >>> read_npz(raw, Path("data.npz"), lambda name: name == "X")
    (['X', 'notes'], {'X': array([0., 0.])})
    """
    with damage_named(path, ".npz"), zipfile.ZipFile(raw) as archive:
        try:
            members = _checked_members(archive, raw.seek(0, 2))
            return list(members), {name: _read(archive, members[name]) for name in members if wanted(name)}
        except (CorruptFileError, UntrustedFileError) as error:
            raise type(error)(f"{path}: {error}") from None


@contextmanager
def damage_named(path: Path, kind: str) -> Iterator[None]:
    """Say of whatever goes wrong in a zip archive, be it in its directory or in a member, which file is damaged.

    The errors of this library pass, and those of a failing disk.

    Raises
    ------
    CorruptFileError, OSError

    Examples
    --------
    >>> with damage_named(Path("net.keras"), ".keras"):
    ...     zipfile.ZipFile(io.BytesIO(b"no zip"))
    Traceback (most recent call last):
        ...
    krylovh.storage.errors.CorruptFileError: net.keras: damaged or truncated .keras file (File is not a zip file)
    """
    try:
        yield
    except (CorruptFileError, UntrustedFileError):
        raise
    except OSError as error:  # of the disk, unless it is the one for places that no file has
        if error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise CorruptFileError(f"{path}: damaged or truncated {kind} file ({error})") from error
    except _DAMAGE as error:
        raise CorruptFileError(f"{path}: damaged or truncated {kind} file ({error})") from error


def npz_bytes(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a ``.npz`` file: the same arrays, the same bytes.

    Examples
    --------
    >>> npz_bytes({"X": np.zeros(2)})[:2]
    b'PK'
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:  # dated 1980
                npy.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _checked_members(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members by the name of their array; no more is inflated than these sizes allow."""
    infos = archive.infolist()
    if len(infos) > _MEMBER_LIMIT:
        raise UntrustedFileError(f"has {len(infos)} members; the limit is {_MEMBER_LIMIT}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            raise UntrustedFileError(f"member {info.filename!r} is not an array (.npy)")
        if name in members:
            raise UntrustedFileError(f"has two members named {info.filename!r}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise UntrustedFileError(f"member {info.filename!r} is encrypted or compressed by other means than deflate")
        if info.file_size > max(SMALL, RATIO_LIMIT * info.compress_size):
            raise UntrustedFileError(
                f"member {info.filename!r} inflates from {info.compress_size} to {info.file_size} bytes; "
                f"the limit is {RATIO_LIMIT} to 1"
            )
        members[name] = info
    if sum(info.compress_size for info in infos) > file_size:
        raise UntrustedFileError("its members overlap")
    inflated = sum(info.file_size for info in infos if info.compress_type == zipfile.ZIP_DEFLATED)
    if inflated > INFLATED_LIMIT:
        raise UntrustedFileError(f"its compressed members hold {inflated} bytes; the limit is {INFLATED_LIMIT}")
    return members


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    content = archive.read(info)
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in _READERS:
        raise CorruptFileError(f"member {info.filename!r} has .npy version {version}; needed is 1.0 or 2.0")
    shape, fortran, dtype = _READERS[version](stream)
    if dtype.hasobject or dtype.kind not in "biufcSU":
        raise UntrustedFileError(f"member {info.filename!r} has dtype {dtype}; needed are numbers or text")
    size = math.prod(shape) * dtype.itemsize
    if size != len(content) - stream.tell():
        found = len(content) - stream.tell()
        raise CorruptFileError(f"member {info.filename!r} declares {size} bytes for shape {shape} and holds {found}")
    flat = np.frombuffer(content, dtype, count=math.prod(shape), offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()

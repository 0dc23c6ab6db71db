"""A trial reading in a process of its own: bytes that bring the HDF5 library down end that process alone.

The HDF5 library aborts on some damaged files, or writes where it must not.  What this process has not written itself
is first read from end to end by a child, which has nothing to lose and little to spend: processor time and memory are
limited.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from krylovh.storage.errors import CorruptFileError

__all__ = ["read_in_child"]

_SECONDS = 60
_CPU_SECONDS = 5  # and one more for each 16 MB
_MEMORY = 1 << 32  # bytes of addresses, beside those that the file itself may fill

# Errors are not its business: they are raised and named when the file is read in earnest.
_READER = """
import contextlib, os, resource, sys
import h5py

seconds, memory = map(int, sys.argv[1:])
for limit, value in (resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory):
    with contextlib.suppress(ValueError):  # a stricter limit is in force already
        resource.setrlimit(limit, (value, value))

def walk(group, depth):
    for name in group:
        with contextlib.suppress(Exception):
            if group.get(name, getlink=True).__class__ is not h5py.HardLink:
                continue
            item = group[name]
            for key in item.attrs:
                with contextlib.suppress(Exception):
                    item.attrs[key]
            if isinstance(item, h5py.Group) and depth < 9:
                walk(item, depth + 1)
            elif isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external:
                item.id.get_storage_size()
                if item.nbytes <= 2**28:
                    item[()]

with contextlib.suppress(Exception), h5py.File(os.fdopen(0, "rb"), "r") as file:
    dict(file.attrs)
    walk(file, 0)
"""


def read_in_child(raw: BinaryIO, path: Path) -> None:
    """Read a file on trial, from its beginning to its end; the position of ``raw`` is moved.

    Raises
    ------
    CorruptFileError
        The HDF5 library crashed on it, or did not come to an end.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as raw:
    ...     read_in_child(raw, Path("empty.h5"))  # no HDF5 file, but no crash either
    """
    size = raw.seek(0, 2)
    raw.seek(0)
    limits = str(_CPU_SECONDS + size // 2**24), str(_MEMORY + 2 * size)
    command = [sys.executable, "-I", "-c", _READER, *limits]
    without_plugins = os.environ | {"HDF5_PLUGIN_PRELOAD": "::"}
    try:
        finished = subprocess.run(
            command, stdin=raw, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=without_plugins,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CorruptFileError(f"{path}: damaged, the HDF5 library reads it without end") from None
    if finished.returncode < 0:
        name = signal.Signals(-finished.returncode).name
        raise CorruptFileError(f"{path}: damaged or truncated HDF5 file (the HDF5 library ends by {name})")

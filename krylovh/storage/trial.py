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

# The child does what the reader will do: the survey of the structure first, then every attribute and value.  Errors are
# not its business: they are raised and named when the file is read in earnest.  The packages are entered without their
# __init__, which would import Numba.
_READER = """
import contextlib, os, resource, sys, types
import h5py

package, seconds, memory = sys.argv[1], *map(int, sys.argv[2:])
for limit, value in (resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory):
    with contextlib.suppress(ValueError):  # a stricter limit is in force already
        resource.setrlimit(limit, (value, value))
for name, folder in ("krylovh", package), ("krylovh.storage", os.path.join(package, "storage")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from krylovh.storage.structure import attributes_of, child_of, survey

def groups_of(group):
    yield group
    for item in group.values():
        if isinstance(item, h5py.Group):
            yield from groups_of(item)

def read(group, size):
    if not isinstance(group, h5py.Group):
        return
    datasets = survey(group, size).values()  # from here on there are no cycles, and no other files
    for item in (*groups_of(group), *datasets):
        with contextlib.suppress(Exception):
            attributes_of(item)
    for dataset in datasets:
        with contextlib.suppress(Exception):
            dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()]

with contextlib.suppress(Exception), h5py.File(os.fdopen(0, "rb"), "r") as file:
    size = os.fstat(0).st_size
    with contextlib.suppress(Exception):
        attributes_of(file)
    for name in ("/", *file):  # a result can be sound beside another that is not
        with contextlib.suppress(Exception):
            read(file if name == "/" else child_of(file, name), size)
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
    package = str(Path(__file__).resolve().parents[1])
    limits = str(_CPU_SECONDS + size // 2**24), str(_MEMORY + 2 * size)
    command = [sys.executable, "-I", "-c", _READER, package, *limits]
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

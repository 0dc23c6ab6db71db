"""Whole files: opened once, replaced at once.

A file is replaced in five steps: write a temporary file in the same folder, bring it to the disk (``fsync``), give it
the name of the old one (``rename``, which is atomic), bring the folder to the disk.  Killed at any moment, the name
leads to the old bytes or to the new ones, and never to a part of either.  Only when all steps are done does
:func:`replace_file` return.

A file is read through one descriptor: what was checked is what is read, even if the name is meanwhile given to
another file.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_regular", "replace_file"]

_PIECE = 1 << 26  # bytes per system call; some systems refuse more than 2 GiB


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open an ordinary file for reading; anything else that a name can lead to is refused.

    Raises
    ------
    OSError
        Missing (``FileNotFoundError``), a directory (``IsADirectoryError``), not readable (``PermissionError``), or
        a pipe or device.

    Examples
    --------
    >>> with open_regular(Path(__file__)) as file:
    ...     file.read(3)
    b'\"\"\"'
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without writer must not block
    try:
        _require_regular(os.fstat(descriptor), path)
    except OSError as error:
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, str(path)) from None
    with os.fdopen(descriptor, "rb") as file:
        yield file


def replace_file(target: Path, content: bytes) -> None:
    """Give a file new content, so that at every moment it holds the old or the new one entirely.

    The caller holds the lock of :func:`krylovh.storage.lock.locked`, which also resolves symbolic links.  The
    permissions of a replaced file are kept; a new one gets those of the process's umask.

    Parameters
    ----------
    target : Path
    content : bytes

    Raises
    ------
    OSError
        With the path of the target, which is then unchanged; the temporary file is gone.  (If only the last step
        failed, bringing the folder to the disk, the new content is in place and may not survive a power cut.)

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(Path(folder, "a"), b"new")
    ...     Path(folder, "a").read_bytes(), os.listdir(folder)
    (b'new', ['a'])
    """
    # One writer holds the lock, so one temporary name is enough, and what bears it was left by a dead writer.
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        mode = _mode_of(target)
        temporary.unlink(missing_ok=True)
        try:
            _write(temporary, content, mode)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error


def _mode_of(target: Path) -> int | None:
    """Return the permission bits of an existing ordinary file, None if there is no file."""
    try:
        status = os.stat(target, follow_symlinks=False)
    except FileNotFoundError:
        return None
    _require_regular(status, target)
    return stat.S_IMODE(status.st_mode) & 0o777


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not an ordinary file", str(path))


def _write(temporary: Path, content: bytes, mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest[:_PIECE]) :]
        if mode is not None:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

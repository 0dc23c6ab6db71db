"""One writer at a time: a lock that dies with its holder.

The lock on ``run.h5`` is the kernel's ``flock`` on a small file ``.run.h5.lock`` beside it, which holds the process
id of the writer.  It is the kernel that keeps the lock, not the existence of the file, so a writer that was killed
holds nothing.  The file is removed on release; whoever waited for it then finds that the name no longer leads to the
file it has locked, and starts again.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from krylovh.storage.errors import FileLockedError

__all__ = ["locked"]

_PAUSE = 0.01  # seconds between two attempts


@contextmanager
def locked(path: Path, *, timeout: float = 10.0) -> Iterator[Path]:
    """Hold the lock on a file, whether it exists or not, against other processes and threads.

    Parameters
    ----------
    path : Path
        A symbolic link is followed: two names of one file share its lock.
    timeout : float
        Seconds to wait for another writer.

    Yields
    ------
    Path
        The file itself, with links resolved.

    Raises
    ------
    FileLockedError
        The lock was not free within ``timeout`` seconds.
    OSError
        With the path of the target: the folder is missing or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder, "run.h5")) as target:
    ...     sorted(os.listdir(folder))
    ['.run.h5.lock']
    """
    target = Path(os.path.realpath(path))
    guard = target.with_name(f".{target.name}.lock")
    try:
        descriptor = _acquire(guard, target, timeout)
    except FileLockedError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    try:
        yield target
    finally:
        with suppress(OSError):  # a folder that cannot be written any more; a file that is left locks nothing
            guard.unlink(missing_ok=True)  # while the lock is held, so that no newer guard is removed
        os.close(descriptor)


def _acquire(guard: Path, target: Path, timeout: float) -> int:
    deadline = time.monotonic() + timeout
    while True:
        descriptor = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if _try_lock(descriptor) and _leads_to(guard, descriptor):
                _sign(descriptor, guard)
                return descriptor
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
                raise FileLockedError(f"{target} is being written by process {holder}; gave up after {timeout:g} s")
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_PAUSE)


def _sign(descriptor: int, guard: Path) -> None:
    """Write the process id into the guard, whose lock is held; if that fails, it is gone again."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except BaseException:
        guard.unlink(missing_ok=True)
        raise


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leads_to(guard: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(guard, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False

"""A disk that fails when told to: every system call of a save is counted, recorded, and may be made to go wrong.

What is replaced are the functions through which files are changed (``os.open``, ``os.write``, ``os.fsync``, ...), for
as long as the ``with`` block lasts.  :func:`calls_of` counts the calls of an action; :func:`failing` makes the N-th of
them fail, and, for an error that stays (a full disk, a read-only one), all later ones of its kind as well.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# What each call may be told to do instead; unlinking and closing always succeed, as on a full disk
WRITERS = ("open", "write", "fsync", "fchmod", "ftruncate", "replace")
READERS = ("stat", "fstat", "pread")
LOCK = "flock"
COUNTED = (*WRITERS, *READERS, LOCK)

# The errors that the manual pages name for each call
ERRORS = {
    "EIO": (errno.EIO, (*WRITERS, *READERS)),
    "ENOSPC": (errno.ENOSPC, ("open", "write", "fsync", "replace")),
    "EROFS": (errno.EROFS, ("open", "fchmod", "ftruncate", "replace")),
    "EACCES": (errno.EACCES, ("open", "replace", "stat")),
    "ENOLCK": (errno.ENOLCK, (LOCK,)),
    "EINTR": (errno.EINTR, ("open", "write", "fsync", LOCK)),
}

Replacement = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def replaced(do: Replacement) -> Iterator[None]:
    """Send every counted call through ``do(name, the real function, its arguments, its keywords)``."""
    homes = {name: fcntl if name == LOCK else os for name in COUNTED}
    real = {name: getattr(home, name) for name, home in homes.items()}

    def standing_for(name: str) -> Callable[..., Any]:
        return lambda *arguments, **keywords: do(name, real[name], arguments, keywords)

    for name, home in homes.items():
        setattr(home, name, standing_for(name))
    try:
        yield
    finally:
        for name, home in homes.items():
            setattr(home, name, real[name])


def calls_of(action: Callable[[], Any]) -> list[str]:
    """Return the names of the counted calls that an action makes, in order."""
    calls: list[str] = []

    def note(name: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        calls.append(name)
        return real(*arguments, **keywords)

    with replaced(note):
        action()
    return calls


@contextmanager
def failing(position: int, error: str | type[BaseException], *, stays: bool = False) -> Iterator[None]:
    """Make call number ``position`` (from 0) fail: with an error of :data:`ERRORS`, an exception, or a short write."""
    seen = -1
    broken = False

    def do(name: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        nonlocal seen, broken
        seen += 1
        now = seen == position
        broken = broken or now
        if not (now or (broken and stays)):
            return real(*arguments, **keywords)
        if error == "short":
            if name != "write":
                return real(*arguments, **keywords)
            descriptor, data = arguments
            return real(descriptor, data[: max(1, len(data) // 3)])
        if isinstance(error, type):
            raise error
        code, names = ERRORS[error]
        if name not in names:
            return real(*arguments, **keywords)
        if arguments and isinstance(arguments[0], str | os.PathLike):
            raise OSError(code, os.strerror(code), os.fspath(arguments[0]))
        raise OSError(code, os.strerror(code))

    with replaced(do):
        yield


@contextmanager
def full_after(num_bytes: int) -> Iterator[None]:
    """A disk with so much room left: the write that needs more is cut short, and the next finds none at all."""
    room = num_bytes

    def do(name: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        nonlocal room
        if name != "write":
            return real(*arguments, **keywords)
        descriptor, data = arguments
        if data and room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[: min(room, len(data))])
        room -= written
        return written

    with replaced(do):
        yield

"""Exit codes, and errors in one line.

0    done, all results converged
1    a fault of the program itself
2    wrong usage
3    done, but something did not converge within its budget; the results are stored
4    bad input: a file, a net or data that cannot be used
5    the result cannot be stored
130  interrupted
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OK, FAULT, USAGE, NOT_CONVERGED, BAD_INPUT, STORAGE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

__all__ = ["BAD_INPUT", "FAULT", "INTERRUPTED", "NOT_CONVERGED", "OK", "STORAGE", "USAGE", "Failure", "failing_as"]


class Failure(Exception):
    """A failure with an exit code and a message of one line."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = " ".join(message.split())


@contextmanager
def failing_as(code: int, *, debug: bool) -> Iterator[None]:
    """Turn what goes wrong with files, values and sizes into a :class:`Failure`; with ``debug`` let it pass."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError, MemoryError) as error:
        if debug:
            raise
        from krylovh.storage.errors import FileLockedError  # here, so that --help loads no HDF5

        if isinstance(error, FileLockedError):
            code = STORAGE
        raise Failure(code, _text(error)) from error


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


def complain(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"krylovh: {message}\n")

"""Exit codes, and errors in one line.

0    done, all results converged
1    a fault of the program itself
2    wrong usage: an option or a key of a run file, by name
3    done, but something did not converge within its budget; the results are stored
4    bad input: a file, a net or data that cannot be used
5    the result cannot be stored
6    more memory is needed than there is
7    compare --check: the results differ by more than their errors
130  interrupted (SIGINT); what was found is stored
143  terminated (SIGTERM); what was found is stored
"""

import signal
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

OK, FAULT, USAGE, NOT_CONVERGED, BAD_INPUT, STORAGE, MEMORY, DIFFERENT = range(8)
INTERRUPTED, TERMINATED = 130, 143

__all__ = [
    "BAD_INPUT",
    "DIFFERENT",
    "FAULT",
    "INTERRUPTED",
    "MEMORY",
    "NOT_CONVERGED",
    "OK",
    "STORAGE",
    "TERMINATED",
    "USAGE",
    "Failure",
    "complain",
    "failing_as",
    "option_name",
    "say",
    "termination",
    "usage_message",
    "warnings_in_one_line",
]


class Failure(Exception):
    """A failure with an exit code and a message of one line."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = " ".join(message.split())


def option_name(parameter: str) -> str:
    """Return how a parameter of Python is called on the command line.

    Examples
    --------
    >>> option_name("num_probes")
    '--num-probes'
    """
    return "--" + parameter.replace("_", "-")


def usage_message(error: BaseException) -> str | None:
    """Return what typer finds wrong with the words of a command line, None for other errors."""
    message = getattr(error, "format_message", None)
    return None if message is None else str(message()).replace("Value error, ", "")


@contextmanager
def failing_as(code: int, options: Collection[str] = ()) -> Iterator[None]:
    """Turn what goes wrong with files, values and sizes into a :class:`Failure` with this exit code.

    Messages of the library begin with the argument that is wrong.  Where that is one of the ``options``, which bear
    the same names, the failure is one of usage.
    """
    try:
        yield
    except MemoryError as error:
        raise Failure(MEMORY, f"not enough memory: {_text(error)}") from error
    except ImportError as error:  # the library that reads a format is not installed
        raise Failure(FAULT, str(error)) from error
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError) as error:
        from krylovh.storage.errors import FileLockedError  # here, so that --help loads no HDF5

        text = _text(error)
        argument = text.partition(" ")[0].partition("[")[0]
        if isinstance(error, FileLockedError):
            code = STORAGE
        elif isinstance(error, (ValueError, TypeError)) and argument in options:
            code, text = USAGE, option_name(argument) + text.removeprefix(argument)
        raise Failure(code, text) from error


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


def complain(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(_printable(f"krylovh: {' '.join(message.split())}\n"))


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(_printable(text + "\n"))


def _printable(text: str) -> str:
    """Return text in which what is no Unicode, as names of files may be, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show warnings of the library as a line each, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: complain(f"warning: {message}")
        yield


@contextmanager
def termination() -> Iterator[list[int]]:
    """Let SIGTERM end the work as Ctrl-C does; yield the list of signals that came."""
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # only the main thread can have handlers
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)

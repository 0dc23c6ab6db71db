"""What can be wrong with a file, one type per cause.

A file that is missing, unreadable or a directory raises the operating system's own ``OSError`` with the path in it;
the types here are for the causes that only this library knows.
"""

__all__ = [
    "CheckpointMismatchError",
    "CheckpointWarning",
    "CorruptFileError",
    "FileLockedError",
    "UnsupportedFormatError",
    "UntrustedFileError",
]


class CorruptFileError(ValueError):
    """The bytes are not those that were written: truncated, damaged, or never a file of this kind.

    Examples
    --------
    >>> issubclass(CorruptFileError, ValueError)
    True
    """


class UntrustedFileError(ValueError):
    """The file is well formed and asks for something that is refused, such as reading another file.

    Examples
    --------
    >>> issubclass(UntrustedFileError, ValueError)
    True
    """


class UnsupportedFormatError(ValueError):
    """The file has a newer format version than this release of the library can read.

    Examples
    --------
    >>> issubclass(UnsupportedFormatError, ValueError)
    True
    """


class FileLockedError(OSError):
    """Another process is writing the file, and did not finish within the time allowed.

    Examples
    --------
    >>> issubclass(FileLockedError, OSError)
    True
    """


class CheckpointMismatchError(ValueError):
    """A checkpoint belongs to another run: other weights, data, arguments; the message names the field.

    Examples
    --------
    >>> issubclass(CheckpointMismatchError, ValueError)
    True
    """


class CheckpointWarning(UserWarning):
    """A run goes on, but not quite as it should: it cannot be saved, or bits may differ from an uninterrupted run.

    Examples
    --------
    >>> issubclass(CheckpointWarning, UserWarning)
    True
    """

"""What ranks do together: add up, agree, and fail alike.

Ranks that share work must take every decision alike, or one of them waits for ever.  So whatever may go differently on
one of them goes through here: a failure in one rank's share is raised on all of them, with the rank's name, and an
interrupt that reached one of them ends the same product on all.

Of a communicator only ``Get_rank``, ``Get_size``, ``Split`` and the non-blocking ``Iallreduce`` are used.  Waiting for
it is where the death of others is noticed.
"""

import pickle
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from krylovh.distributed import job

Array = NDArray[Any]
T = TypeVar("T")

MAX_COUNT = 2**31 - 1  # numbers in one message: MPI counts in int
HEADER = 2  # numbers in front of a sum: how many ranks have failed, and how many were interrupted
IDLE = 5e-5  # seconds between two looks at a message that takes longer

__all__ = ["Ranks"]


class Ranks:
    """The ranks of a communicator, seen from one of them.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Used through a duplicate, so that messages of others cannot be mistaken.  Made by all of its ranks.

    Examples
    --------
    A communicator of one rank adds up nothing.

    >>> from types import SimpleNamespace
    >>> alone = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 1)
    >>> Ranks(alone).gather("yes")
    ['yes']
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self._watch = job.guarded(comm)
        self.rank = int(comm.Get_rank())
        self.size = int(comm.Get_size())
        #: what errors call this rank
        self.name = f"rank {self.rank}"

    def sum(self, array: Array, fill: Callable[[Array], None]) -> None:
        """Let ``fill`` write into ``array`` on every rank, and make that the sum over ranks: one reduction.

        Raises
        ------
        Exception
            On all ranks what was raised on one of them, in words that name it.
        KeyboardInterrupt
            On all ranks, after the sum, if one of them was interrupted.
        """
        failure: Exception | None = None
        sent = np.zeros(HEADER + array.size, array.dtype)
        try:
            fill(array)
            sent[HEADER:] = array.ravel()
        except Exception as error:
            failure = error
        sent[:HEADER] = failure is not None, job.interrupts.pending
        total = self._added(sent)
        if total[0]:
            self._raise(failure)
        array[...] = total[HEADER:].reshape(array.shape)
        if total[1]:
            job.interrupts.pending = False
            raise KeyboardInterrupt

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, on every rank; values are pickled."""
        if self.size == 1:
            return [value]
        content = pickle.dumps(value)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(content)
        ends = np.cumsum(self._added(lengths))
        pieces = np.zeros(ends[-1], np.uint8)
        pieces[ends[self.rank] - len(content) : ends[self.rank]] = np.frombuffer(content, np.uint8)
        pieces = self._added(pieces)
        return [pickle.loads(piece.tobytes()) for piece in np.split(pieces, ends[:-1])]

    def agree(self, value: T) -> T:
        """Return the value of rank 0, on every rank."""
        first: list[Any] = self.gather(value if self.rank == 0 else None)
        return first[0]  # type: ignore[no-any-return]

    def together(self, compute: Callable[[], T]) -> list[T]:
        """Call a function on every rank and return all results on all of them; a failure of one is raised on all."""
        result, failure = None, None
        try:
            result = compute()
        except Exception as error:
            failure = error
        outcomes = self.gather((result, self._told(failure)))
        self._raise_told([told for _, told in outcomes])
        return [found for found, _ in outcomes]  # type: ignore[misc]  # none is missing where none has failed

    def on_first(self, compute: Callable[[], T]) -> T:
        """Call a function on rank 0 alone, such as one that writes, and return its result, or its error, everywhere."""
        return self.together(lambda: compute() if self.rank == 0 else None)[0]  # type: ignore[return-value]

    def _added(self, sent: Array) -> Array:
        """Return the sum over ranks, in pieces that MPI can count."""
        if self.size == 1:
            return sent
        total = np.empty_like(sent)
        for start in range(0, sent.size, MAX_COUNT):
            part = slice(start, start + MAX_COUNT)
            request = self.comm.Iallreduce(sent[part], total[part])
            looks = 0
            while not request.Test():
                self._watch()
                looks += 1
                time.sleep(0 if looks < 2000 else IDLE)  # a rank that waits leaves the processor to one that works
        return total

    def _raise(self, failure: Exception | None) -> None:
        self._raise_told(self.gather(self._told(failure)))

    def _told(self, failure: Exception | None) -> bytes | None:
        """Return what other ranks are told of a failure: the same error, in words that name this rank."""
        if failure is None:
            return None
        error = named(failure, self.name)
        error.add_note(f"on {self.name} of {self.size}:\n" + "".join(traceback.format_exception(failure)).rstrip())
        try:
            content = pickle.dumps(error)
            pickle.loads(content)
        except Exception:  # what cannot be pickled is told in words
            content = pickle.dumps(RuntimeError(f"{self.name}: {type(failure).__name__}: {failure}"))
        return content

    def _raise_told(self, told: list[bytes | None]) -> None:
        """Raise the failure of the first rank that has one, on all ranks."""
        failures = [failure for failure in told if failure is not None]
        if failures:
            error: Exception = pickle.loads(failures[0])
            raise error

    def __reduce__(self) -> Any:
        raise TypeError("ranks of a communicator cannot be pickled: other processes are not among them")

    def __deepcopy__(self, memo: Any) -> "Ranks":
        return self


def named(error: Exception, name: str) -> Exception:
    """Return the same error in words that name a rank.

    Examples
    --------
    >>> named(ValueError("X must be finite"), "rank 2")
    ValueError('rank 2: X must be finite')
    >>> named(OSError(28, "No space left on device", "run.h5"), "rank 0")
    OSError(28, 'No space left on device (on rank 0)')
    """
    if str(error).startswith("rank "):  # told by others already
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return type(error)(error.errno, f"{error.strerror} (on {name})", error.filename)
    if len(error.args) == 1 and isinstance(error.args[0], str):
        return type(error)(f"{name}: {error}")
    return RuntimeError(f"{name}: {type(error).__name__}: {error}")

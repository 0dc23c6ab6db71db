"""The job that this process was started in: how it begins, and how it ends when one of its ranks does.

An exception, an exit or an interrupt on one rank would leave the others waiting for it.  So a rank that fails writes
its traceback and ends the job; one that leaves says so to the others, and whoever waits for it then ends the job; and
an interrupt is kept until the ranks' next sum, after which all of them raise it.  A rank that is killed is noticed by
``mpiexec``, which ends the others.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

LAUNCHERS = ("PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")  # set by MPICH, PMIx, Open MPI
TAG = 27493  # of the message of a rank that leaves
GRACE = 0.5  # seconds that words take on their way, and that other ranks leave rank 0 to tell what all of them met

__all__ = ["guarded", "interrupts", "is_first", "is_launched", "leaving", "world"]


class _Interrupts:
    """Whether Ctrl-C was pressed since the ranks last met."""

    def __init__(self) -> None:
        self.pending = False
        self._installed = False

    def install(self) -> None:
        """Keep an interrupt until the next sum; a second one ends at once."""
        if not self._installed and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._keep)
            self._installed = True

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            raise KeyboardInterrupt
        self.pending = True


interrupts = _Interrupts()


class _Job:
    """What this process owes to the others when it ends."""

    def __init__(self) -> None:
        self.comms: list[Any] = []
        self.farewell = (0, "")  # exit code, and why
        self._keyval: int | None = None
        self._hook: Callable[..., Any] = sys.__excepthook__

    def duplicate_of(self, comm: Any) -> Any:
        """Return the one duplicate of a communicator; those who made it are told when this process ends."""
        from mpi4py import MPI

        if self._keyval is None:
            self._keyval = MPI.Comm.Create_keyval()
            self._hook, sys.excepthook = sys.excepthook, self._on_exception
            atexit.register(self._leave)  # which runs before the end of MPI, that mpi4py registered earlier
        duplicate = comm.Get_attr(self._keyval)
        if duplicate is None:
            duplicate = comm.Dup()
            comm.Set_attr(self._keyval, duplicate)
            self.comms.append(duplicate)
        return duplicate

    def watch(self, comm: Any) -> None:
        """End the job if a rank of the communicator has left, for whom this one waits."""
        from mpi4py import MPI

        status = MPI.Status()
        if not comm.Iprobe(MPI.ANY_SOURCE, TAG, status):
            return
        source = status.Get_source()
        code, text = comm.recv(source=source, tag=TAG)
        reason = text or f"has left with exit code {code}, and others wait for it"
        self._end(code or 1, f"krylovh: rank {source} of {comm.Get_size()}: {reason}\n")

    def _on_exception(self, kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        from mpi4py import MPI

        def tell() -> None:
            sys.stderr.write(f"rank {MPI.COMM_WORLD.Get_rank()} of {MPI.COMM_WORLD.Get_size()}:\n")
            self._hook(kind, value, trace)

        self._end(130 if issubclass(kind, KeyboardInterrupt) else 1, tell)

    def _end(self, code: int, tell: str | Callable[[], None]) -> None:
        """Say why, and end all ranks of the job; rank 0 speaks first."""
        from mpi4py import MPI

        if MPI.COMM_WORLD.Get_rank():
            time.sleep(2 * GRACE)
        if callable(tell):
            tell()
        else:
            sys.stderr.write(tell)
        sys.stderr.flush()
        sys.stdout.flush()
        time.sleep(GRACE)  # what was written is on its way through the launcher, which drops it with the job
        MPI.COMM_WORLD.Abort(code)

    def _leave(self) -> None:
        """Tell all others that this rank ends, and wait until they do: those who wait for it end the job."""
        from mpi4py import MPI

        if MPI.Is_finalized():
            return
        sys.stdout.flush()
        told = [
            comm.isend(self.farewell, other, tag=TAG)
            for comm in self.comms
            for other in range(comm.Get_size())
            if other != comm.Get_rank()
        ]
        heard = set()
        for comm in self.comms:
            for other in range(comm.Get_size()):
                if other != comm.Get_rank():
                    while not comm.Iprobe(other, TAG):
                        time.sleep(1e-3)
                    heard.add((other, *comm.recv(source=other, tag=TAG)))
        MPI.Request.waitall(told)
        if MPI.COMM_WORLD.Get_rank() == 0:
            for other, _, text in sorted(heard):
                if text not in ("", self.farewell[1]):
                    sys.stderr.write(f"krylovh: rank {other}: {text}\n")


_job = _Job()


def is_launched() -> bool:
    """Return whether a launcher of MPI, such as ``mpiexec``, has started this process.

    Examples
    --------
    >>> is_launched()
    False
    """
    return any(name in os.environ for name in LAUNCHERS)


def world() -> Any:
    """Return the communicator of all ranks of this job; None where no launcher of MPI has started the process.

    From then on an exception that nobody catches ends the job, and Ctrl-C ends the running product on all ranks.

    Raises
    ------
    ImportError
        If ``mpiexec`` started the process and mpi4py is not installed.

    Examples
    --------
    >>> print(world())
    None
    """
    if not is_launched():
        return None
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(f"started by mpiexec, but mpi4py is missing; pip install 'krylovh[mpi]' ({error})") from error
    interrupts.install()
    _job.duplicate_of(MPI.COMM_WORLD)
    return MPI.COMM_WORLD


def is_first() -> bool:
    """Return whether this is the process that writes and prints: rank 0 of the job, or one that is alone.

    Examples
    --------
    >>> is_first()
    True
    """
    comm = world()
    return comm is None or bool(comm.Get_rank() == 0)


def guarded(comm: Any) -> tuple[Any, Callable[[], None]]:
    """Return what to use instead of a communicator, and what to call while waiting for others.

    A communicator of MPI is duplicated once, by all of its ranks; others are used as they are.
    """
    if type(comm).__module__.split(".")[0] != "mpi4py":
        return comm, lambda: None
    duplicate = _job.duplicate_of(comm)
    return duplicate, lambda: _job.watch(duplicate)


def leaving(code: int, text: str) -> bool:
    """Note why this process is about to end; return whether it is the one that says so.

    Of several ranks rank 0 does, also for the others where they met something else.

    Examples
    --------
    >>> leaving(0, "")
    True
    """
    if not _job.comms:
        return True
    from mpi4py import MPI

    _job.farewell = (code, text)
    return bool(MPI.COMM_WORLD.Get_rank() == 0)

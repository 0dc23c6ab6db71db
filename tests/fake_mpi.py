"""A communicator within one process: ranks are threads, and a reduction meets at a barrier.

It adds up in the order of the ranks, so that the same number of ranks gives the same bits.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

PATIENCE = 20  # seconds until ranks that wait for one that never comes give up


class _Meeting:
    """What the ranks of one communicator share."""

    def __init__(self, size):
        self.barrier = threading.Barrier(size, timeout=PATIENCE)
        self.values = [None] * size
        self.num_reductions = 0
        self.largest = 0

    def exchange(self, rank, value):
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


class FakeComm:
    """One rank's view."""

    def __init__(self, meeting, rank, size):
        self._meeting, self._rank, self._size = meeting, rank, size

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return self._size

    def Iallreduce(self, sent, received):
        self._meeting.num_reductions += self._rank == 0
        self._meeting.largest = max(self._meeting.largest, sent.size)
        arrays = self._meeting.exchange(self._rank, sent.copy())
        assert len({(array.shape, array.dtype) for array in arrays}) == 1, "ranks are out of step"
        np.copyto(received, np.add.reduce(arrays, axis=0))
        return self

    def Test(self):
        return True

    def Split(self, color, key):
        told = self._meeting.exchange(self._rank, (color, key, self._rank))
        members = [rank for c, _, rank in sorted(told) if c == color]
        shared = self._meeting.exchange(self._rank, _Meeting(len(members)) if members[0] == self._rank else None)
        return FakeComm(shared[members[0]], members.index(self._rank), len(members))

    @property
    def num_reductions(self):
        return self._meeting.num_reductions

    @property
    def largest_message(self):
        return self._meeting.largest


def run(size, program):
    """Run ``program(comm)`` on every rank; return all results, or raise what the first rank that failed raised.

    A rank that fails alone breaks the barrier, as the end of a job would.
    """
    meeting = _Meeting(size)

    def one(rank):
        try:
            return program(FakeComm(meeting, rank, size)), None
        except BaseException as error:
            return None, error

    with ThreadPoolExecutor(size) as pool:
        outcomes = list(pool.map(one, range(size)))
    errors = [error for _, error in outcomes if error is not None]
    if errors:
        assert len({type(error) for error in errors}) == 1, errors
        assert len(errors) == size, "not all ranks failed"
        assert len({str(error) for error in errors}) == 1, errors
        raise errors[0]
    return [result for result, _ in outcomes]

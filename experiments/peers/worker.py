"""A tool in a process of its own, driven over a pipe: one at a time works, all others sleep.

Two OpenMP runtimes, two BLAS libraries and XLA's threads in one process would disturb one another; here each tool has
the environment that it would have alone.
"""

import subprocess
import sys
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import numpy as np


class ToolError(Exception):
    """What went wrong inside a tool, as text."""


class Worker:
    """The parent's end: ``worker.call(name, *arguments)`` runs a method of ``_Served`` in the tool's process."""

    def __init__(self, module):
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", "peers.worker", module, str(theirs.fileno())]
        folder = Path(__file__).parent.parent
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=folder)
        theirs.close()

    def call(self, name, *arguments):
        """Run a method there and return its result; ToolError with the text of what it raised."""
        self._pipe.send((name, arguments))
        succeeded, result = self._pipe.recv()
        if not succeeded:
            raise ToolError(result)
        return result

    def close(self):
        """Let the process end."""
        self._pipe.close()
        self._process.wait()


class _Served:
    """The child's end: holds the candidates of one table row at a time."""

    def __init__(self, module):
        self.module = import_module(f"peers.{module}")
        self.candidates = {}

    def facts(self):
        return self.module.facts()

    def prepare(self, kind, *arguments):
        """Build the candidates of a kind (products, hessians, ...); return their names."""
        self.candidates = {}  # what they kept is freed before the next ones are built
        self.candidates = getattr(self.module, kind)(*arguments)
        return list(self.candidates)

    def result(self, name):
        """Run once; return the result and the seconds that it took."""
        candidate = self.candidates[name]
        start = perf_counter()
        result = candidate.run()
        seconds = perf_counter() - start
        return np.atleast_2d(candidate.rows(result)), seconds

    def seconds(self, name, repetitions):
        """Time per run, over a burst of runs; the first of several wakes the threads and is not counted."""
        run = self.candidates[name].run
        if repetitions > 1:
            run()
        start = perf_counter()
        for _ in range(repetitions):
            run()
        return (perf_counter() - start) / repetitions


def serve(module, pipe):
    served = _Served(module)
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:  # the parent has closed its end
            return
        try:
            answer = (True, getattr(served, name)(*arguments))
        except Exception as error:
            answer = (False, f"{type(error).__name__}: {error}")
        pipe.send(answer)


if __name__ == "__main__":
    serve(sys.argv[1], Connection(int(sys.argv[2])))

"""Interleaved timing: all candidates run in turn, round after round, and the medians are compared."""

import time
from dataclasses import dataclass, field
from math import ceil, inf, nan

import numpy as np

from .worker import ToolError, Worker

PAUSE = 0.15  # seconds after which the threads of a BLAS or of OpenMP have stopped to spin in wait for work
BURST = 0.05  # seconds that a burst of runs takes at least
HOPELESS = 2.0  # times the fastest peer: not run after the first round


@dataclass
class Contestant:
    """One way of one tool, ready in its process."""

    tool: str
    way: str
    worker: Worker
    first: float  # seconds of the first run: with compiling, where that is not done while candidates are built
    repetitions: int = 1
    times: list[float] = field(default_factory=list)

    def run(self):
        """Time one burst."""
        time.sleep(PAUSE)
        self.times.append(self.worker.call("seconds", self.way, self.repetitions))

    @property
    def seconds(self):
        """Median time of one run."""
        return float(np.median(self.times))


class Race:
    """The tools' processes, the first of which is held against all others."""

    def __init__(self, tools, console, quick):
        self.console = console
        self.quick = quick
        self.ours = next(iter(tools))
        self.workers = {tool: Worker(module) for tool, module in tools.items()}

    def facts(self):
        """Return each tool's version and threads as text."""
        return list(dict.fromkeys(worker.call("facts") for worker in self.workers.values()))

    def close(self):
        """End the tools' processes."""
        for worker in self.workers.values():
            worker.close()

    def enter(self, tools, kind, *arguments, accept=lambda way, result: True):
        """Build all ways of the tools and run each once; return those whose result is accepted."""
        contestants = []
        for tool in tools:
            worker = self.workers[tool]
            try:
                ways = worker.call("prepare", kind, *arguments)
            except ToolError as error:
                self.console.print(f"  {tool} failed: {error}")
                continue
            for way in ways:
                try:
                    time.sleep(PAUSE)
                    result, first = worker.call("result", way)
                    if accept(way, result):
                        contestants.append(Contestant(tool, way, worker, first))
                    else:
                        self.console.print(f"  {tool}, {way}: another result, not timed")
                except ToolError as error:
                    self.console.print(f"  {tool}, {way} failed: {error}")
        return contestants

    def choose_repetitions(self, contestants):
        """Make bursts long enough for the clock, from one run each."""
        for contestant in contestants:
            contestant.run()
            contestant.repetitions = ceil(BURST / contestant.times.pop())

    def run(self, contestants, rounds):
        """Time all in turn and print what each took; peers without a chance leave after the first round."""
        alive = list(contestants)
        for _ in range(1 if self.quick else rounds):
            for contestant in alive:
                contestant.run()
            fastest = min((c.seconds for c in alive if c.tool != self.ours), default=inf)
            alive = [c for c in alive if c.tool == self.ours or c.seconds <= HOPELESS * fastest]
        self.tell(contestants)

    def tell(self, contestants):
        """Print what each took."""
        for c in contestants:
            self.console.print(f"  {c.tool}, {c.way}: {1e3 * c.seconds:.3f} ms, rounds: {len(c.times)}")


def fastest_of(contestants, tool):
    """Return the seconds of a tool's fastest way, NaN if it has none."""
    return min((c.seconds for c in contestants if c.tool == tool), default=nan)


def best_peer(contestants, ours):
    """Return the fastest peer's way and how many times longer than ours it takes."""
    peers = [c for c in contestants if c.tool != ours]
    if not peers:
        return "-", nan
    best = min(peers, key=lambda c: c.seconds)
    return f"{best.tool}, {best.way}", best.seconds / fastest_of(contestants, ours)

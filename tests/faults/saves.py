"""What writes files: each kind of save with the way to check what it left behind.

A scenario is run again and again in a child that is killed.  It saves numbers, counting on from ``first``, and says
which of them it acknowledges.  Those must be there afterwards; the one after the last of each child was attempted, and
may be there.  A new kind of save is one more line in :data:`SCENARIOS`.
"""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from krylovh import Network, ResultStore, load_network, resume, trace
from krylovh.storage import checkpoint as checkpoint_module
from krylovh.storage.layout import Record
from krylovh.storage.run_file import newest
from resumed import differing, often

Acknowledge = Callable[[int], None]


class NewRecords:
    """Record after record is added to one file of results."""

    name = "run.h5"
    leaves = ("run.h5",)

    def run(self, folder: Path, first: int, acknowledge: Acknowledge) -> None:
        store = ResultStore(folder / self.name, timeout=20)
        for i in range(first, first + 1000):
            store.save(f"{i}", np.full(2000, i))
            acknowledge(i)

    def check(self, folder: Path, acknowledged: set[int], attempted: set[int], rng: random.Random) -> None:
        store = ResultStore(folder / self.name, "r")
        found = {int(name) for name in store}
        assert acknowledged <= found, f"lost {sorted(acknowledged - found)}"
        assert found <= acknowledged | attempted, f"from nowhere: {sorted(found - acknowledged - attempted)}"
        for i in found if len(found) < 6 else rng.sample(sorted(found), 6):
            assert store.load(f"{i}").tolist() == [i] * 2000

    def finish(self, folder: Path) -> None:
        """Save once more: the lock of a dead writer is free, and what it left is cleaned up."""
        ResultStore(folder / self.name).save("-1", np.full(2000, -1), overwrite=True)


class Overwritten(NewRecords):
    """One record of a file of two is replaced again and again; the other must survive it all."""

    def run(self, folder: Path, first: int, acknowledge: Acknowledge) -> None:
        store = ResultStore(folder / self.name, timeout=20)
        if not (folder / self.name).exists():
            store.save("kept", np.arange(3000.0))
        for i in range(first, first + 1000):
            store.save("counter", np.full(3000, i), overwrite=True)
            acknowledge(i)

    def check(self, folder: Path, acknowledged: set[int], attempted: set[int], rng: random.Random) -> None:
        store = ResultStore(folder / self.name, "r")
        values = store.load("counter")
        last = max(acknowledged)
        assert values[0] == last or values[0] in attempted - set(range(last)), f"acknowledged {last}, found {values[0]}"
        assert (values == values[0]).all()
        assert store.load("kept").tolist() == list(range(3000))

    def finish(self, folder: Path) -> None:
        ResultStore(folder / self.name).save("kept", np.arange(3000.0), overwrite=True)


class ManyAtOnce(NewRecords):
    """Three records are saved in one step, and three older ones deleted one by one."""

    def run(self, folder: Path, first: int, acknowledge: Acknowledge) -> None:
        store = ResultStore(folder / self.name, timeout=20)
        for i in range(first, first + 1000):
            store.save_all({f"{i}.{part}": np.full(2000, i) for part in "abc"})
            acknowledge(i)
            for part in "abc" if i % 4 == 3 and f"{i - 2}.a" in store else "":
                store.delete(f"{i - 2}.{part}")

    def check(self, folder: Path, acknowledged: set[int], attempted: set[int], rng: random.Random) -> None:
        store = ResultStore(folder / self.name, "r")
        names = set(store)
        for i in acknowledged:
            if i % 4 != 1:  # the others may have been deleted
                assert {f"{i}.{part}" for part in "abc"} <= names, f"lost a part of {i}"
        for name in rng.sample(sorted(names), min(6, len(names))):
            assert store.load(name).tolist() == [int(name.split(".")[0])] * 2000

    def finish(self, folder: Path) -> None:
        ResultStore(folder / self.name).save("-1.a", np.full(2000, -1), overwrite=True)


class Net:
    """A net is saved under one name again and again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.leaves = (name,)

    def run(self, folder: Path, first: int, acknowledge: Acknowledge) -> None:
        net = Network((30, 40, 10), "tanh")
        for i in range(first, first + 1000):
            net.with_theta(np.full(net.num_parameters, float(i))).save(folder / self.name)
            acknowledge(i)

    def check(self, folder: Path, acknowledged: set[int], attempted: set[int], rng: random.Random) -> None:
        theta = load_network(folder / self.name).theta
        last = max(acknowledged)
        assert theta[0] == last or theta[0] in attempted - set(range(last)), f"acknowledged {last}, found {theta[0]}"
        assert (theta == theta[0]).all()

    def finish(self, folder: Path) -> None:
        Network((1, 1), "identity", np.zeros(2)).save(folder / self.name)


class CheckpointedRun:
    """A trace is estimated with a checkpoint, and resumed after each kill: what was acknowledged are generations."""

    name = "run.h5"
    leaves = ("run.h5", "run.h5.previous")
    _matrix = np.diag(np.linspace(1.0, 2.0, 60)) + 0.1
    _arguments: ClassVar = {"num_products": 3000, "method": "hutchinson", "block_size": 1, "rng": 7}

    def run(self, folder: Path, first: int, acknowledge: Acknowledge) -> None:
        real = checkpoint_module.save_generation

        def save(target: Path, records: Mapping[str, Record]) -> None:
            real(target, records)
            acknowledge(newest(target).header.generation)

        checkpoint_module.save_generation = save  # in a child that has not long to live
        trace(self._matrix, **self._arguments, checkpoint=often(folder / self.name))

    def check(self, folder: Path, acknowledged: set[int], attempted: set[int], rng: random.Random) -> None:
        saved = newest(folder / self.name)
        assert saved.header.generation >= max(acknowledged), f"acknowledged {max(acknowledged)}, found {saved.header}"
        assert len(saved.units()) >= max(acknowledged) - 1  # the first generation holds none

    def finish(self, folder: Path) -> None:
        """The answer is that of a run that nobody disturbed."""
        found = resume(folder / self.name, self._matrix)
        assert differing(found, trace(self._matrix, **self._arguments)) == []


SCENARIOS = {
    "new records": NewRecords(),
    "one record overwritten": Overwritten(),
    "many records at once": ManyAtOnce(),
    "a net as npz": Net("net.npz"),
    "a net as HDF5": Net("net.h5"),
    "a checkpointed run": CheckpointedRun(),
}

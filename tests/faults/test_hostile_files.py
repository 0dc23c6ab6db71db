"""Files made by hand to do harm: all are refused, in little time and memory, and no code of theirs runs."""

import os
import pickle
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from faults.hostile import HOSTILE
from krylovh import ResultStore, load_data, load_network

pytestmark = pytest.mark.faults

GROWTH = 64 << 20  # bytes
SECONDS = 20.0


def read_results(path):
    store = ResultStore(path, "r")
    return [store.load(name) for name in store]


READERS = {"data": load_data, "net": load_network, "results": read_results}


def test_there_are_at_least_eighty_of_them():
    assert len({entry.name for entry in HOSTILE}) == len(HOSTILE) >= 80


class Peak:
    """The largest resident memory of this process since it was last asked."""

    def __init__(self):
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._kilobytes("VmRSS")

    def growth(self):
        return (self._kilobytes("VmHWM") - self.before) * 1024

    @staticmethod
    def _kilobytes(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def test_memory_that_was_given_back_is_noticed():
    peak = Peak()
    np.ones(GROWTH // 4)
    assert peak.growth() > GROWTH


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the files that a hostile file would like to read; nothing may be unpickled."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        file["X"] = np.full((2, 2), 42.0)
    Path("secret.bin").write_bytes(np.full(4, 42.0).tobytes())
    return tmp_path


@pytest.mark.parametrize("entry", HOSTILE, ids=lambda entry: entry.name)
def test_a_hostile_file_is_refused(folder, monkeypatch, entry):
    path = folder / f"hostile.{entry.ending}"
    entry.write(path)

    def unpickle(*arguments, **keywords):
        pytest.fail("something was unpickled")

    for name in ("load", "loads"):
        monkeypatch.setattr(pickle, name, unpickle)
    peak, begin = Peak(), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 60)  # ends a hang, and with it the tests
    with pytest.raises((ValueError, OSError), match=r"hostile\.(h5|npz)"):
        READERS[entry.reader](path)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert time.monotonic() - begin < SECONDS
    assert peak.growth() < GROWTH
    left = {"secret.h5", "secret.bin", path.name}
    assert set(os.listdir(folder)) == left, "it has written a file"

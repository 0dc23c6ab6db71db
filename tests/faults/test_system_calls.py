"""Each system call of a save fails once, in each way: an error or success, and the invariants hold."""

import os

import numpy as np
import pytest

from faults.failing_disk import COUNTED, ERRORS, calls_of, failing
from krylovh import Network, ResultStore, load_network
from krylovh.storage import lock, store

pytestmark = pytest.mark.faults

OLD, NEW = np.arange(500.0), np.arange(700.0)


class Store:
    """A file of results: one is added, or replaced, or deleted, or read."""

    path = "run.h5"

    def prepare(self):
        store = ResultStore(self.path)
        store.save("old", OLD)
        store.save("other", OLD)

    def state(self):
        store = ResultStore(self.path, "r")
        return {name: store.load(name).tolist() for name in store}


class Added(Store):
    new = {"old": OLD.tolist(), "other": OLD.tolist(), "new": NEW.tolist()}  # noqa: RUF012

    def act(self):
        ResultStore(self.path, timeout=0.05).save("new", NEW)


class Replaced(Store):
    new = {"old": NEW.tolist(), "other": OLD.tolist()}  # noqa: RUF012

    def act(self):
        ResultStore(self.path, timeout=0.05).save("old", NEW, overwrite=True)


class Deleted(Store):
    new = {"other": OLD.tolist()}  # noqa: RUF012

    def act(self):
        ResultStore(self.path, timeout=0.05).delete("old")


class Begun(Store):
    """The first save of a file that is not there yet."""

    new = {"new": NEW.tolist()}  # noqa: RUF012

    def prepare(self):
        pass

    def state(self):
        return super().state() if os.path.exists(self.path) else {}

    def act(self):
        ResultStore(self.path, timeout=0.05).save("new", NEW)


class Net:
    def __init__(self, path):
        self.path = path
        self.new = list(range(13))

    def prepare(self):
        Network((2, 3, 1), "tanh", np.zeros(13)).save(self.path)

    def state(self):
        return load_network(self.path).theta.tolist()

    def act(self):
        Network((2, 3, 1), "tanh", np.arange(13.0)).save(self.path)


ACTIONS = {
    "added": Added(), "replaced": Replaced(), "deleted": Deleted(), "begun": Begun(),
    "npz": Net("net.npz"), "HDF5": Net("net.h5"),
}  # fmt: skip


def cases(calls):
    """Yield the ways in which a sequence of calls can fail: position, error, whether it stays."""
    for position, name in enumerate(calls):
        for error, (_, names) in ERRORS.items():
            if name in names:
                yield position, error, False
                if error in ("ENOSPC", "EROFS", "EIO"):
                    yield position, error, True
        if name == "write":
            yield position, "short", False
            yield position, "short", True
        yield position, KeyboardInterrupt, False
        yield position, MemoryError, False


@pytest.mark.parametrize("kind", list(ACTIONS))
def test_a_save_survives_the_failure_of_each_of_its_calls(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "_PAUSE", 0.001)
    monkeypatch.setattr(store, "environment", dict)  # it looks at many files, and changes none
    action = ACTIONS[kind]
    action.prepare()
    old = action.state()
    image = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def reset():
        for name in os.listdir(tmp_path):
            (tmp_path / name).unlink()
        for name, content in image.items():
            (tmp_path / name).write_bytes(content)

    calls = calls_of(action.act)
    assert action.state() == action.new
    assert {"open", "write", "fsync", "replace", "flock"} <= set(calls) <= set(COUNTED)
    outcomes = {"error": 0, "success": 0}
    for position, error, stays in cases(calls):
        reset()
        where = f"call {position} ({calls[position]}): {error}{', and from then on' if stays else ''}"
        try:
            with failing(position, error, stays=stays):
                action.act()
        except (OSError, KeyboardInterrupt, MemoryError) as caught:
            outcomes["error"] += 1
            named = not isinstance(caught, OSError) or action.path in str(caught)
            assert named, f"{where}: the message names no file"
            assert action.state() in (old, action.new), where
        else:
            outcomes["success"] += 1
            assert action.state() == action.new, where  # what was acknowledged is there
        if action.state() == action.new:
            continue
        action.act()  # once the disk works again, so does the save
        assert action.state() == action.new, where
        assert os.listdir(tmp_path) == [action.path], where
    assert outcomes["error"] > 40
    assert outcomes["success"] >= 4


def test_reading_survives_failures_of_each_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ResultStore("run.h5").save("old", OLD)
    read = lambda: ResultStore("run.h5", "r").load("old")  # noqa: E731
    calls = calls_of(read)
    assert calls
    for position, error, stays in cases(calls):
        if error == "short":
            continue
        try:
            with failing(position, error, stays=stays):
                found = read()
        except (OSError, KeyboardInterrupt, MemoryError) as caught:
            named = not isinstance(caught, OSError) or "run.h5" in str(caught)
            assert named, (position, error)
        else:
            assert np.array_equal(found, OLD), (position, error)
    assert np.array_equal(read(), OLD)

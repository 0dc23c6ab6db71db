"""Power cuts, by a model: what was not synced when the current failed may be lost, in part or as a whole.

The calls of a save are recorded.  For each of their prefixes the model makes every folder that a disk may hold after
a power cut at that point: the content of a file that was not synced is any beginning of it, or zeros of its length;
of the changes of names since the folder was synced any beginning took place.  (A journaling file system orders the
changes of names; one that does not keep to that order is more than POSIX programs can defend against.)  In each of
these folders the file must be the old or the new one, and once the save has returned, the new one.
"""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from faults.failing_disk import replaced
from krylovh import Network, ResultStore, load_network
from krylovh.storage.errors import CorruptFileError

pytestmark = pytest.mark.faults


class Recording:
    """The changes that an action makes below a folder: ("create", name, file), ("write", file, bytes), ..."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.events = []
        self._files = {}  # descriptor -> number of the file
        self._count = 0
        self._numbers = {}  # name -> number of the file

    def __call__(self, name, real, arguments, keywords):
        existed = name == "open" and os.path.lexists(arguments[0])
        result = real(*arguments, **keywords)
        if name == "open":
            file = Path(arguments[0])
            if file == self.folder:
                self._files[result] = None
            elif arguments[1] & os.O_CREAT:
                if not existed:
                    self._count += 1
                    self._numbers[file.name] = self._count
                    self.events.append(("create", file.name, self._count))
                self._files[result] = self._numbers.get(file.name)
        elif name == "write" and arguments[0] in self._files:
            self.events.append(("write", self._files[arguments[0]], bytes(arguments[1])[:result]))
        elif name == "ftruncate" and arguments[0] in self._files:
            self.events.append(("truncate", self._files[arguments[0]]))
        elif name == "fsync":
            is_folder = stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            self.events.append(("sync folder",) if is_folder else ("sync", self._files[arguments[0]]))
        elif name == "replace":
            self.events.append(("rename", Path(arguments[0]).name, Path(arguments[1]).name))
        return result


def recorded(folder, action):
    recording = Recording(folder)
    real = os.unlink

    def unlink(path, **options):
        real(path, **options)
        recording.events.append(("unlink", Path(path).name))

    os.unlink = unlink
    try:
        with replaced(recording):
            action()
    finally:
        os.unlink = real
    return recording.events


def after_a_cut(events, before):
    """Yield every folder, as a mapping from names to bytes, that may be found after a cut behind these events."""
    contents, synced = {}, {}
    durable, pending = 0, []
    names = []
    for event in events:
        if event[0] in ("create", "rename", "unlink"):
            names.append(event)
            pending.append(len(names))
            if event[0] == "create":
                contents[event[2]] = b""
        elif event[0] == "write":
            contents[event[1]] += event[2]
        elif event[0] == "truncate":
            contents[event[1]] = b""
        elif event[0] == "sync":
            synced[event[1]] = contents[event[1]]
        else:
            durable, pending = len(names), []
    for happened in (durable, *pending):
        folder = {name: ("old", content) for name, content in before.items()}
        for event in names[:happened]:
            if event[0] == "create":
                folder[event[1]] = ("file", event[2])
            elif event[0] == "unlink":
                folder.pop(event[1], None)
            else:
                folder[event[2]] = folder.pop(event[1])
        for damage in ("none", "nothing", "half", "zeros"):
            yield {
                name: value if kind == "old" else _survived(contents[value], synced.get(value), damage)
                for name, (kind, value) in folder.items()
            }


def _survived(content, synced, damage):
    if content == synced or damage == "none":
        return content
    return {"nothing": b"", "half": content[: len(content) // 2], "zeros": bytes(len(content))}[damage]


class Results:
    name = "run.h5"

    def save(self, folder, value):
        ResultStore(folder / self.name).save("value", np.full(400, value), overwrite=True)

    def load(self, folder):
        values = ResultStore(folder / self.name, "r").load("value")
        assert (values == values[0]).all()
        return values[0]


class Nets:
    def __init__(self, name):
        self.name = name

    def save(self, folder, value):
        Network((2, 3, 1), "tanh", np.full(13, float(value))).save(folder / self.name)

    def load(self, folder):
        return load_network(folder / self.name).theta[0]


KINDS = {"results": Results(), "npz": Nets("net.npz"), "HDF5": Nets("net.h5")}


def cuts(kind, tmp_path):
    """Save 1, then 2; cut the current everywhere in the second save.  Yield what is found, and whether it was done."""
    work, replay = tmp_path / "work", tmp_path / "replay"
    work.mkdir()
    replay.mkdir()
    kind.save(work, 1)
    before = {name: (work / name).read_bytes() for name in os.listdir(work)}
    events = recorded(work, lambda: kind.save(work, 2))
    assert {event[0] for event in events} >= {"create", "write", "rename"}
    for length in range(len(events) + 1):
        for folder in after_a_cut(events[:length], before):
            for name in os.listdir(replay):
                (replay / name).unlink()
            for name, content in folder.items():
                (replay / name).write_bytes(content)
            yield replay, events[:length], length == len(events)


@pytest.mark.parametrize("kind", list(KINDS))
def test_after_every_power_cut_the_old_or_the_new_file_is_there(tmp_path, kind):
    count = 0
    for folder, events, done in cuts(KINDS[kind], tmp_path):
        found = KINDS[kind].load(folder)
        assert found in ((2,) if done else (1, 2)), events
        if count % 10 == 0:  # and the next save works on what is left
            KINDS[kind].save(folder, 3)
            assert KINDS[kind].load(folder) == 3
            assert os.listdir(folder) == [KINDS[kind].name]
        count += 1
    assert count > 40


def without_syncs_of_files(recording, name, real, arguments, keywords, call=Recording.__call__):
    result = call(recording, name, real, arguments, keywords)
    if recording.events and recording.events[-1][0] == "sync":
        recording.events.pop()
    return result


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_the_model_notices_a_sync_that_is_forgotten(tmp_path, forgotten, monkeypatch):
    """The test is tested: without one of the two syncs there is a cut after which something is lost."""
    lost = False
    with monkeypatch.context() as patch:
        from krylovh.storage import atomic

        if forgotten == "folder":
            patch.setattr(atomic, "_sync_folder", lambda folder: None)
        else:
            patch.setattr(Recording, "__call__", without_syncs_of_files)
        for folder, _, done in cuts(KINDS["results"], tmp_path):
            try:
                found = KINDS["results"].load(folder)
            except CorruptFileError:
                lost = True
            else:
                lost = lost or (done and found != 2)
    assert lost

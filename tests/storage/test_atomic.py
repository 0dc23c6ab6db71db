"""Whatever happens during a save, the old file or the new one is there, and what was acknowledged is in it."""

import errno
import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from krylovh import ResultStore
from krylovh.storage import atomic
from krylovh.storage.errors import FileLockedError
from krylovh.storage.lock import locked

# The children write files and end; they use no threads, which is what the warning of newer Pythons is about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

# Saves records and reports each on its standard output once save() has returned.
WRITER = """
import sys
import numpy as np
from krylovh import ResultStore
store = ResultStore(sys.argv[1], timeout=60)
first, count = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for i in range(first, first + count):
    store.save(f"{i}", np.full(2000, i))
    print(i, flush=True)
"""


def start_writer(path, first, count):
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def store(tmp_path):
    store = ResultStore(tmp_path / "run.h5")
    store.save("old", np.arange(1000.0))
    return store


def contents(folder):
    return sorted(entry.name for entry in folder.iterdir())


# Kills and other processes


def test_no_acknowledged_record_is_lost_to_kill_9(tmp_path):
    # One writer is forked per kill: starting Python anew thirty times would take most of the time.
    rng = random.Random(0)
    path = tmp_path / "run.h5"
    store = ResultStore(path, timeout=5)
    acknowledged = set()
    next_name = 0
    for _ in range(30):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for i in range(next_name, next_name + 1000):
                    store.save(f"{i}", np.full(2000, i))
                    os.write(write_end, f"{i}\n".encode())
            finally:
                os._exit(1)
        os.close(write_end)
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        with os.fdopen(read_end) as pipe:
            reported = [int(line) for line in pipe.read().split()]
        acknowledged |= set(reported)
        next_name += len(reported) + 1
        if not acknowledged:
            continue
        found = {int(name) for name in ResultStore(path, "r")}
        assert acknowledged <= found <= acknowledged | set(range(next_name))
        for i in acknowledged if len(acknowledged) < 20 else rng.sample(sorted(acknowledged), 20):
            assert store.load(f"{i}").tolist() == [i] * 2000
        if len(acknowledged) > 40:
            path.unlink()
            acknowledged.clear()
    store.save("last", np.ones(1))  # the lock of a dead writer is free, and what it left is cleaned up
    assert contents(tmp_path) == ["run.h5"]


def test_a_writer_started_as_a_program_survives_a_kill_too(store):
    process = start_writer(store.path, 0, 1000)
    acknowledged = {process.stdout.readline().strip() for _ in range(3)}
    process.kill()
    acknowledged |= set(process.stdout.read().split())
    process.wait()
    process.stdout.close()
    assert acknowledged | {"old"} <= set(ResultStore(store.path, "r"))


def test_concurrent_writers_lose_nothing(store):
    writers = [start_writer(store.path, first, 8) for first in (100, 200)]
    for writer in writers:
        assert len(writer.communicate(timeout=60)[0].split()) == 8
        assert writer.returncode == 0
    assert len(store) == 1 + 16


def test_a_reader_needs_no_lock_and_sees_whole_files(store):
    writer = start_writer(store.path, 0, 12)
    seen = 0
    while writer.poll() is None:
        names = store.list()
        assert len(names) >= seen
        seen = len(names)
        assert store.load("old").size == 1000
    writer.stdout.close()
    assert len(store) == 13


@pytest.mark.parametrize("instant", ["open", "half", "write", "fsync", "rename", "folder"])
def test_killed_at_each_step_the_old_or_the_new_file_is_there(store, monkeypatch, instant):
    """The child dies right after each system call of a save."""
    before = store.path.read_bytes()
    child = os.fork()
    if child == 0:
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace")}

        def after(name, condition=lambda *args: True):
            def call(*args, **options):
                result = real[name](*args, **options)
                if condition(*args):
                    die()
                return result

            return call

        is_temporary = lambda path, *rest: str(path).endswith(".tmp")  # noqa: E731
        is_folder = lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode)  # noqa: E731
        if instant == "open":
            os.open = after("open", is_temporary)
        elif instant == "half":
            os.write = lambda fd, data: (real["write"](fd, data[: len(data) // 2]), die()) if len(data) > 99 else 9
        elif instant == "write":
            os.write = after("write", lambda fd, data: len(data) > 99)
        elif instant == "fsync":
            os.fsync = after("fsync", lambda fd: not is_folder(fd))
        elif instant == "rename":
            os.replace = after("replace")
        else:
            os.fsync = after("fsync", is_folder)
        try:
            store.save("new", np.ones(1))
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    if instant in ("rename", "folder"):
        assert store.list() == ["new", "old"]
    else:
        assert store.path.read_bytes() == before
    store.save("newer", np.ones(1))
    assert contents(store.path.parent) == ["run.h5"]


def test_file_then_name_then_folder_reach_the_disk_in_this_order(store, monkeypatch):
    calls = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd):
        calls.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        real_fsync(fd)

    def replace(a, b):
        calls.append("rename")
        real_replace(a, b)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    store.save("new", np.ones(1))
    assert calls == ["file", "rename", "folder"]


# Failing system calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "fchmod"])
def test_a_failing_disk_leaves_the_old_file_and_no_other(store, monkeypatch, call, code):
    before = store.path.read_bytes()
    real = getattr(os, call)

    def fail(*args):
        if call == "write" and len(args[1]) < 99:  # the process id in the lock file
            return real(*args)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=r"run\.h5") as caught:
        store.save("new", np.ones(1))
    assert caught.value.errno == code
    monkeypatch.undo()
    assert store.path.read_bytes() == before
    assert contents(store.path.parent) == ["run.h5"]


def test_a_disk_that_fills_up_half_way(store, monkeypatch):
    before = store.path.read_bytes()
    real, written = os.write, 0

    def write(fd, data):
        nonlocal written
        if written > 5000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += real(fd, data[:1000])
        return len(data[:1000])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        store.save("new", np.ones(1))
    assert store.path.read_bytes() == before
    assert contents(store.path.parent) == ["run.h5"]


def test_short_writes_are_continued(store, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:777]))
    store.save("new", np.arange(3))
    assert store.load("new").tolist() == [0, 1, 2]


def test_an_interrupt_during_a_save_leaves_the_old_file(store, monkeypatch):
    def interrupt(fd):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.save("new", np.ones(1))
    assert contents(store.path.parent) == ["run.h5"]
    assert store.list() == ["old"]


def test_a_failed_sync_of_the_folder_is_not_acknowledged(store, monkeypatch):
    real = os.fsync

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"run\.h5"):
        store.save("new", np.ones(1))
    assert store.list() == ["new", "old"]


# The lock


def test_a_second_writer_is_told_who_is_writing(store):
    with (
        locked(store.path),
        pytest.raises(FileLockedError, match=rf"run\.h5 .* process {os.getpid()}; gave up after 0.1"),
    ):
        ResultStore(store.path, timeout=0.1).save("new", np.ones(1))
    store.save("new", np.ones(1))


def test_hdf5s_own_switch_does_not_open_the_lock(store, monkeypatch):
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    with locked(store.path), pytest.raises(FileLockedError):
        ResultStore(store.path, timeout=0).save("new", np.ones(1))


def test_a_lock_file_without_holder_is_no_lock(store):
    Path(store.path.parent, ".run.h5.lock").write_text("1")
    ResultStore(store.path, timeout=0.5).save("new", np.ones(1))
    assert contents(store.path.parent) == ["run.h5"]


def test_a_waiting_writer_does_not_take_a_lock_file_that_was_removed(store):
    guard = Path(store.path.parent, ".run.h5.lock")
    guard.touch()
    with guard.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            with locked(store.path, timeout=10):
                os._exit(0 if guard.exists() else 1)
        time.sleep(0.1)
        guard.unlink()
    assert os.waitpid(child, 0)[1] == 0


def test_a_missing_folder_is_an_error_with_its_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ResultStore(tmp_path / "nowhere" / "run.h5").save("a", np.ones(1))


# Links, permissions and other things that a name can lead to


def test_a_link_stays_and_its_target_is_replaced(store, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = folder / "link.h5"
    link.symlink_to(os.path.relpath(store.path, folder))
    ResultStore(link).save("new", np.ones(1))
    assert link.is_symlink()
    assert store.list() == ["new", "old"]
    assert contents(folder) == ["link.h5"]


def test_a_link_to_nothing_creates_its_target(tmp_path):
    (tmp_path / "link.h5").symlink_to("new.h5")
    store = ResultStore(tmp_path / "link.h5")
    assert store.list() == []
    store.save("a", np.ones(1))
    assert contents(tmp_path) == ["link.h5", "new.h5"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_permissions_of_a_replaced_file_are_kept(store, mode):
    store.path.chmod(mode)
    store.save("new", np.ones(1))
    assert stat.S_IMODE(store.path.stat().st_mode) == mode


def test_a_new_file_obeys_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        ResultStore(tmp_path / "run.h5").save("a", np.ones(1))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "run.h5").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_directory_is_neither_read_nor_replaced(tmp_path, mode):
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        ResultStore(tmp_path, mode).save("a", np.ones(1))


@pytest.mark.parametrize("mode", ["a", "w"])
def test_pipes_and_devices_are_neither_read_nor_replaced(tmp_path, mode):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"Not an ordinary file.*pipe"):
        ResultStore(pipe, mode).save("a", np.ones(1))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(OSError, match="/dev/null"):
        atomic.replace_file(Path("/dev/null"), b"x")


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OSError, match="xxx"):
        ResultStore(tmp_path / ("x" * 256)).save("a", np.ones(1))


def test_an_unreadable_file_is_not_taken_for_a_missing_one(store, monkeypatch):
    def deny(path, *args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "stat", deny)
    with pytest.raises(PermissionError, match=r"run\.h5"):
        store.list()

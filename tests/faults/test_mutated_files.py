"""4,000 flipped bits and bursts, and 2,000 mutated files of each format: nothing wrong gets in, nothing breaks."""

import contextlib
import os
import random
import signal
import subprocess
import time
import traceback

import numpy as np
import pytest

from faults.forked import Server
from faults.formats import FORMATS
from faults.mutations import burst, flip, mutate
from krylovh.storage import image

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]

MUTATED, PARTS = 2000, 4  # files of each format; parts, so that two processes share the work
DAMAGED = 4000  # of the formats whose values are checked, together
SECONDS = 60.0  # for one file, on a machine that has other things to do

CHECKED = [format_ for format_ in FORMATS if format_.checked]
by_name = {"ids": lambda value: value.name if hasattr(value, "name") else None}


def in_a_child(work, where):
    """Run in a child that may crash, and is killed when it hangs; fail with what it said last."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writing, 2)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            work(lambda text: os.write(writing, f"{text}\n".encode()))
            os._exit(0)
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"{where}: ended with status {status} after {said[-1500:]}"


def read_one(format_, path, content, good, checked):
    """Read a changed file; return whether it was refused.  What is accepted must be right."""
    path.write_bytes(content)
    try:
        found = format_.read(path)
    except (ValueError, KeyError):  # all of our own types for bad files are ValueErrors
        return True
    assert len(found) == len(good)
    if checked:
        for array, expected in zip(found, good, strict=True):
            assert array.shape == expected.shape, "a silent difference"
            assert np.array_equal(array, expected), "a silent difference"
    else:
        assert all(array.dtype.kind in "biufU" for array in found)
    return False


def read_many(format_, folder, change, count, seed, checked, *modules):
    """Read that many changed files in a child, and their parsers with these modules in children of a server's."""
    folder.mkdir(exist_ok=True)
    format_.write(folder / format_.name)
    content, good = (folder / format_.name).read_bytes(), format_.read(folder / format_.name)

    def work(say):
        subprocess.run = Server("h5py", *modules).run  # in this child alone, with which the server ends
        refused = 0
        for number in range(count):
            say(f"file {number}")
            changed = change(content, random.Random(f"{seed} {number}"))
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            refused += read_one(format_, folder / format_.name, changed, good, checked or changed == content)
        assert refused >= count // 20, f"only {refused} of {count} were refused"

    in_a_child(work, f"{format_.name}, seed {seed!r}")


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("format_", FORMATS, **by_name)
def test_mutated_files_are_refused_or_read_rightly(tmp_path, format_, part):
    read_many(format_, tmp_path, mutate, -(-MUTATED // PARTS), f"mutate {part}", format_.checked, "onnx")


@pytest.mark.parametrize("format_", FORMATS, **by_name)
def test_forks_decide_as_the_processes_that_they_stand_for(tmp_path, format_):
    """Which is what makes the thousands of files above speak of the library."""
    path = tmp_path / format_.name
    format_.write(path)
    content, good = path.read_bytes(), format_.read(path)
    server = Server("h5py", "onnx")
    with contextlib.closing(server), pytest.MonkeyPatch.context() as patch:
        for number in range(12):
            changed = mutate(content, random.Random(f"alike {number}"))
            verdict = read_one(format_, path, changed, good, False)
            patch.setattr(image, "_known", {})
            patch.setattr(subprocess, "run", server.run)
            assert read_one(format_, path, changed, good, False) == verdict, f"file {number}"
            patch.undo()


@pytest.mark.parametrize("change", [flip, burst])
@pytest.mark.parametrize("format_", CHECKED, **by_name)
def test_flipped_bits_and_bursts_change_no_value(tmp_path, format_, change):
    read_many(format_, tmp_path, change, -(-DAMAGED // (2 * len(CHECKED))), change.__name__, True)


def test_the_harness_notices_a_crash_a_hang_and_a_difference(tmp_path, monkeypatch):
    """The test is tested, with readers that do what must not happen."""
    results = FORMATS[0]
    monkeypatch.setitem(globals(), "SECONDS", 0.5)

    def changing(action):
        calls = iter([None, None])  # the good file is read twice: when it is written, and by the parent

        def read(path):
            return results.read(path) if next(calls, 1) is None else action(path)

        return results._replace(read=read)

    cases = {
        "status 11": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
        "status 14": lambda path: time.sleep(60),
        "a silent difference": lambda path: [np.zeros(3), np.zeros(40), np.zeros(2), np.zeros(3)],
    }
    for expected, action in cases.items():
        reader = changing(action)
        reader.read(results_file(tmp_path, results))
        with pytest.raises(AssertionError, match=expected):
            read_many(reader, tmp_path / expected.replace(" ", "-"), flip, 3, 0, True)


def results_file(folder, format_):
    path = folder / format_.name
    if not path.exists():
        format_.write(path)
    return path

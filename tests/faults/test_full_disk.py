"""Disks of any fullness: the process lives, the old file is whole, and with room again the save succeeds."""

import os
import random
import resource
import signal
import subprocess

import numpy as np
import pytest

from faults.failing_disk import full_after
from krylovh import Network, ResultStore
from krylovh.cli import main

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]

TRIALS = 50
RECORD = 8000  # bytes of the values of a record, in a file of about 15 kB


def one_save_on_a_full_disk(folder, seed):
    """Fill the store until it does not fit; the error is one, with its path, and nothing is lost."""
    store = ResultStore(folder / "run.h5")
    count = len(store)
    before = store.path.read_bytes()
    error = None
    while error is None:
        try:
            store.save(f"{count}", np.full(RECORD // 8, count))
        except OSError as caught:
            error = caught
        else:
            before = store.path.read_bytes()
            count += 1
    assert error.filename == str(store.path)
    assert store.path.read_bytes() == before, f"seed {seed}"
    assert len(store) == count
    assert os.listdir(folder) == ["run.h5"]
    return error


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 400 kB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "krylovh-test", folder]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_real_disk_that_is_full(small_disk):
    rng = random.Random(0)
    for seed in range(TRIALS):
        filled = {f"{i}": np.full(RECORD // 8, i) for i in range(rng.randint(8, 14))}
        ResultStore(small_disk / "run.h5").save_all(filled)
        error = one_save_on_a_full_disk(small_disk, seed)
        assert error.strerror == "No space left on device"
        store = ResultStore(small_disk / "run.h5")
        for name in rng.sample(store.list(), 2):
            assert store.load(name).tolist() == [int(name)] * (RECORD // 8)
        # Not even a lock file fits any more; later there is room
        rest = small_disk / "rest"
        subprocess.run(["dd", "if=/dev/zero", f"of={rest}", "bs=1k"], capture_output=True, check=False)
        with pytest.raises(OSError, match=r"run\.h5"):
            store.save("more", np.zeros(1))
        assert sorted(os.listdir(small_disk)) == ["rest", "run.h5"]
        rest.unlink()
        store.path.unlink()


def in_a_child(work):
    """Run in a forked child, whose limits are its own; return how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("seed", range(TRIALS))
def test_a_limit_on_the_size_of_files(tmp_path, seed):
    """Beyond RLIMIT_FSIZE the system writes a part and refuses the rest, as on a full disk."""
    limit = random.Random(seed).randint(17_000, 60_000)
    ResultStore(tmp_path / "run.h5").save("0", np.zeros(RECORD // 8))

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        error = one_save_on_a_full_disk(tmp_path, seed)
        assert error.strerror == "File too large"

    assert in_a_child(work) == 0
    store = ResultStore(tmp_path / "run.h5")
    store.save("after", np.ones(3))
    for name in set(store) - {"after"}:
        assert store.load(name).tolist() == [int(name)] * (RECORD // 8)


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_a_net_on_a_disk_with_any_room(tmp_path, ending):
    path = tmp_path / f"net.{ending}"
    net = Network((2, 3, 1), "tanh", np.arange(13.0))
    net.save(path)
    before = path.read_bytes()
    other = net.with_theta(np.zeros(13))
    for room in [0, 1, 10, *range(100, len(before), 100), len(before) - 1]:
        with full_after(room), pytest.raises(OSError, match="No space left"):
            other.save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]


def test_the_program_says_that_the_disk_is_full(tmp_path, capsys):
    rng = np.random.default_rng(0)
    net = Network((3, 4, 2), "tanh")
    net.with_theta(net.random_theta(0)).save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", X=rng.standard_normal((20, 3)), y=rng.standard_normal((20, 2)))
    arguments = ["spectrum", tmp_path / "net.npz", tmp_path / "data.npz", "--loss", "squared_error"]
    with full_after(500), pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "-o", str(tmp_path / "run.h5"), "--num-probes", "1"])
    assert ended.value.code == 5
    assert "run.h5: No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "run.h5").exists()


def test_devices_that_are_full_or_swallow_everything_are_refused():
    for device in ("/dev/full", "/dev/null"):
        before = os.stat(device)
        for mode in ("a", "w"):
            with pytest.raises(OSError, match=device):
                ResultStore(device, mode).save("a", np.ones(1))
        assert os.stat(device).st_rdev == before.st_rdev

"""Two ranks under mpiexec: the answers of one rank, and an end in time for every way to fail.  ``make test-mpi``."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from krylovh import ResultStore

HERE = Path(__file__).parent
IN_TIME = 30  # seconds
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
EPS = 2.0**-52
COMMAND = "from krylovh.cli import main; main()"


def launch(size, *arguments, program=(str(HERE / "program.py"),), **options):
    """Run a program on some ranks; return how it ended and the seconds that it took."""
    start = time.monotonic()
    finished = subprocess.run(
        [MPIEXEC, "-n", str(size), sys.executable, *program, *map(str, arguments)],
        capture_output=True, text=True, timeout=4 * IN_TIME, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)}, **options,
    )  # fmt: skip
    return finished, time.monotonic() - start


@pytest.fixture(scope="module", autouse=True)
def _start_up():
    """Have kernels compiled before anything is timed."""
    finished, _ = launch(1, "warm up")
    assert finished.returncode == 0, finished.stderr


def test_two_ranks_give_the_answers_of_one(tmp_path):
    found = []
    for size in (1, 2):
        finished, _ = launch(size, "answers", tmp_path / f"{size}.h5")
        assert finished.returncode == 0, finished.stderr
        found.append(ResultStore(tmp_path / f"{size}.h5", "r").load("answers"))
    one, two = found
    assert set(one) == set(two)
    for name, values in one.items():
        assert np.abs(two[name] - values).max() <= 100 * EPS * np.abs(values).max(), name


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("raises", ["rank 1 of 2:", "Traceback", "RuntimeError: a rank has a reason of its own"]),
        (
            "raises in product",
            ["Traceback", "TypeError: rank 1: 'NoneType' object is not callable", "in over_own"],
        ),
        ("exits", ["rank 1 of 2: has left with exit code 0, and others wait for it"]),
        ("killed", []),
        ("interrupted", ["KeyboardInterrupt"]),
        ("other weights", ["ValueError: ranks differ in theta", "on rank 0; ", "on rank 1"]),
        ("other data", ["ValueError: ranks differ in X"]),
        ("other settings", ["ValueError: ranks differ in l2: 0.1 on rank 0; 1.1 on rank 1"]),
        ("nan", ["ValueError: rank 1 (rows 5:9): X must be finite"]),
        ("disk full", ["rank 0 sees error 28", "rank 1 sees error 28", "No space left on device (on rank 0)"]),
    ],
)
def test_the_job_ends_in_time_and_says_why(case, words, tmp_path):
    finished, seconds = launch(2, case, tmp_path / "run.h5")
    assert finished.returncode != 0
    assert seconds <= IN_TIME
    for word in words:
        assert word in finished.stderr


def test_ranks_that_end_at_different_times_end_well():
    finished, _ = launch(2, "nothing goes wrong")
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    from cases import problem

    folder = tmp_path_factory.mktemp("spectrum")
    objective, _, _ = problem(num_samples=23, threads=1)
    net = objective.net
    np.savez(folder / "net.npz", theta=net.theta, widths=net.widths, activations=np.array(net.activations))
    np.savez(folder / "data.npz", X=objective.X, y=objective.y)
    return folder


SPECTRUM = ("net.npz", "data.npz", "--loss", "softmax_cross_entropy", "--num-largest", 3, "--num-steps", 8)


def test_the_command_line_is_the_same_on_two_ranks(files):
    for size, output in ((1, "one.h5"), (2, "two.h5")):
        finished, _ = launch(size, "spectrum", *SPECTRUM, "-o", output, program=("-c", COMMAND), cwd=files)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.count(f"wrote {output}") == 1
        assert finished.stderr == ""
    one, two = (ResultStore(files / name, "r") for name in ("one.h5", "two.h5"))
    for name in one.list():
        a, b = one.load(name), two.load(name)
        if name in ("largest", "smallest"):
            assert np.abs(a.eigenvalues - b.eigenvalues).max() <= 1e-13 * np.abs(a.eigenvalues).max()
        if name == "trace":
            assert a.value == pytest.approx(b.value, rel=1e-13)
    assert two.provenance("trace")["ranks"] == 2
    assert two.provenance("trace")["num_samples"] == 23


def test_a_failure_of_the_command_line_is_told_once_and_has_its_exit_code(files):
    np.savez(files / "other.npz", X=np.ones((9, 7)), y=np.zeros((9, 3)))
    finished, seconds = launch(
        2, "spectrum", "net.npz", "other.npz", "--loss", "squared_error", program=("-c", COMMAND), cwd=files
    )
    assert seconds <= IN_TIME
    assert finished.returncode == 4
    assert finished.stderr.count("X must have shape") == 1

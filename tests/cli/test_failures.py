"""Each class of failure: its exit code, and one line on standard error that says what and where."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import krylovh as kh
from krylovh import ResultStore
from krylovh.cli import memory
from krylovh.cli.failures import Failure, failing_as
from krylovh.cli.options import invocation
from krylovh.storage.errors import FileLockedError
from krylovh.storage.lock import locked

TRACE = ("trace", "net.npz", "data.npz", "--num-products", "2")


def one_line(err):
    assert err.startswith("krylovh: ")
    assert err.count("\n") == 1
    return err[len("krylovh: ") : -1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("eigs", "net.npz", "data.npz", "-k", "0"), "--k"),
        (("eigs", "net.npz", "data.npz", "-k", "nan"), "--k"),
        (("eigs", "net.npz", "data.npz", "-k", "14"), "--k must be at most the number of parameters 13, got 14"),
        (("eigs", "net.npz", "data.npz", "--ncv", "3"), "--ncv must be in [7, 13], got 3"),
        (("eigs", "net.npz", "data.npz", "--which", "2,1"), "--which must be an interval (a, b) with a < b"),
        (
            ("eigs", "net.npz", "data.npz", "--max-seconds", "inf"),
            "--max-seconds': must be positive and finite, got inf",
        ),
        (("trace", "net.npz", "data.npz", "--method", "hutch++", "--num-products", "1"), "--num-products must be"),
        (("solve", "net.npz", "data.npz", "--rtol", "-1"), "--rtol': must be positive and finite, got -1.0"),
        (("solve", "net.npz", "data.npz", "--preconditioner", "kfac"), "--damping must be positive with"),
        (("train", "data.npz"), "needed is one of --net and --widths"),
        (("train", "data.npz", "--widths", "2,x,1"), "--widths must be whole numbers such as 64,32,10, got '2,x,1'"),
        (("train", "data.npz", "--widths", "2,0,1"), "--widths[1] must be at least 1, got 0"),
        (("retrain", "net.npz", "data.npz"), "needed is --remove or --add"),
        (("retrain", "net.npz", "data.npz", "--remove", "30"), "--remove must lie in [0, 30), got '30'"),
        (
            ("influence", "net.npz", "data.npz", "--rows", "1;2"),
            "--rows must be positions such as 0,5,10:20, got '1;2'",
        ),
        (("influence", "net.npz", "data.npz", "--rows", "1", "--on", "loss"), "--test must be given with --on loss"),
        (("laplace", "net.npz", "data.npz", "--save-net", "x.npz"), "--save-net must go with --optimize"),
        (
            ("laplace", "net.npz", "data.npz", "--structure", "kfac", "--curvature", "hessian"),
            "--structure 'kfac' must",
        ),
        (("prune", "net.npz", "data.npz", "--num-remove", "-1"), "--num-remove"),
        (("density", "net.npz", "data.npz", "--exact", "--damping", "1"), "--exact must go with"),
        (("spectrum", "net.npz"), "DATA"),
        (("spectra",), "spectra"),
    ],
)
def test_wrong_usage_names_the_option(krylovh, words, message):
    code, out, err = krylovh(*words)
    assert message in one_line(err)
    assert code == 2
    assert out == ""
    assert not Path("run.h5").exists()


@pytest.mark.parametrize("command", ["show", "plot", "report", "compare"])
@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "garbage", "not UTF-8"])
def test_files_that_are_no_results_are_bad_input(krylovh, command, kind):
    path = Path("bad.h5" if kind != "not UTF-8" else os.fsdecode(b"bad\xff.h5"))
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"\x89HDF\r\n\x1a\n" + b"x" * 99)
    code, _, err = krylovh(command, path, *([path] if command == "compare" else []))
    assert code == 4
    assert "bad" in one_line(err)


def test_a_file_that_may_not_be_read_is_bad_input(krylovh, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "net.npz")

    monkeypatch.setattr("krylovh.storage.inputs.open_regular", refused)  # root may read everything
    code, _, err = krylovh(*TRACE)
    assert (code, one_line(err)) == (4, "net.npz: Permission denied")


def test_what_cannot_be_stored_is_a_failure_of_storage(krylovh, monkeypatch):
    os.mkdir("folder")
    assert krylovh(*TRACE, "-o", "folder")[0] == 5
    assert "the folder does not exist" in krylovh(*TRACE, "-o", "no/run.h5")[2]
    assert krylovh("train", "data.npz", "--widths", "2,1", "--save-net", "net.pt")[0] == 5
    Path("run.h5").write_text("precious")
    assert krylovh(*TRACE)[0] == 5
    os.remove("run.h5")

    def full(*_):
        raise OSError(28, "No space left on device", "run.h5")

    monkeypatch.setattr("krylovh.storage.store.replace_file", full)
    code, _, err = krylovh(*TRACE)
    assert (code, one_line(err)) == (5, "run.h5: No space left on device")


def test_a_picture_that_cannot_be_written_leaves_nothing(krylovh):
    krylovh("solve", "net.npz", "data.npz")
    code, _, err = krylovh("plot", "run.h5", "-o", "picture.xyz")
    assert code == 5
    assert "xyz" in one_line(err)
    assert sorted(name for name in os.listdir(".") if "picture" in name) == []


def test_a_file_that_somebody_else_writes_is_a_failure_of_storage(krylovh, monkeypatch):
    monkeypatch.setattr("krylovh.storage.store.ResultStore.__init__.__kwdefaults__", {"timeout": 0.1})
    with locked(Path("run.h5")):
        code, _, err = krylovh(*TRACE)
    assert code == 5
    assert "run.h5" in one_line(err)
    with pytest.raises(Failure) as failed, failing_as(4):
        raise FileLockedError("busy")
    assert failed.value.code == 5


def test_memory_is_asked_for_before_it_is_taken(krylovh, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10)
    code, _, err = krylovh(*TRACE)
    assert code == 6
    assert "needs 0.0 GB of memory; 0.0 GB are available" in one_line(err)
    assert not Path("run.h5").exists()
    with pytest.raises(Failure) as failed, failing_as(4):
        raise MemoryError("Unable to allocate 3 TiB")
    assert (failed.value.code, failed.value.message) == (6, "not enough memory: Unable to allocate 3 TiB")


def test_the_limit_of_the_address_space_counts():
    code = (
        "import resource\nfrom krylovh.cli.memory import available_memory\nfree = available_memory()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nprint(free > 2**30, 0 < available_memory() < 2**30)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "True True\n"


def test_an_address_space_that_holds_no_libraries_is_refused(krylovh, monkeypatch):
    monkeypatch.setattr(memory, "_address_space", lambda: 10**8)
    code, _, err = krylovh(*TRACE)
    assert (code, one_line(err)) == (6, "the libraries need 0.8 GB of address space; 0.1 GB are left")


def test_a_fault_of_the_program_is_one_line_and_a_traceback_with_debug(krylovh, monkeypatch):
    monkeypatch.setattr("krylovh.stochastic.trace", lambda *_, **__: [][0])
    code, _, err = krylovh(*TRACE)
    assert code == 1
    assert one_line(err) == "IndexError: list index out of range (a fault of the program; --debug shows where)"
    code, _, err = krylovh(*TRACE, "--debug")
    assert code == 1
    assert "Traceback (most recent call last)" in err


def test_a_missing_library_is_told_by_its_name(krylovh, monkeypatch):
    def needs(*_, **__):
        raise ImportError("to read ONNX, pip install 'krylovh[onnx]'")

    monkeypatch.setattr(f"krylovh.{kh._HOME['load_network']}.load_network", needs)
    assert krylovh(*TRACE) == (1, "", "krylovh: to read ONNX, pip install 'krylovh[onnx]'\n")


def test_an_interrupt_outside_of_the_algorithms_keeps_what_was_there(krylovh, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("krylovh.stochastic.spectral_density", interrupted)
    code, out, err = krylovh("spectrum", "net.npz", "data.npz", "--json")
    assert (code, one_line(err)) == (130, "interrupted; what was found is stored")
    assert list(json.loads(out)) == ["largest", "smallest", "trace"]
    assert ResultStore("run.h5", "r").list() == ["largest", "smallest", "trace"]
    monkeypatch.setattr(f"krylovh.{kh._HOME['load_network']}.load_network", interrupted)
    assert krylovh(*TRACE, "-o", "b.h5") == (130, "", "krylovh: interrupted\n")


def test_a_termination_has_its_own_exit_code(krylovh, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("krylovh.stochastic.trace", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    code, _, err = krylovh("spectrum", "net.npz", "data.npz")
    assert (code, one_line(err)) == (143, "terminated; what was found is stored")
    assert ResultStore("run.h5", "r").list() == ["largest", "smallest"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_warnings_are_lines_and_json_stays_json(krylovh):
    X = np.load("data.npz")["X"]
    np.savez("data.npz", X=X, y=np.ones(30))  # the net is far from a minimum of this
    code, out, err = krylovh("laplace", "net.npz", "data.npz", "--json")
    assert code == 0
    assert one_line(err).startswith("warning: ")
    json.loads(out)


def test_an_unknown_error_of_one_probe_is_null(krylovh):
    code, out, _ = krylovh("trace", "net.npz", "data.npz", "--num-products", "1", "--json")
    assert code == 0
    trace = json.loads(out, parse_constant=lambda name: pytest.fail(name))["trace"]
    assert trace["standard_error"] is None
    assert trace["interval"] == [None, None]


def test_it_runs_in_poor_surroundings(krylovh):
    krylovh(*TRACE)
    kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "LANG", "LC_ALL")}
    poor = {"LC_ALL": "C", "TERM": "dumb", "COLUMNS": "1", "TMPDIR": "/nowhere"}
    shown = subprocess.run(
        [sys.executable, "-c", "from krylovh.cli import main; main()", "show", "run.h5"],
        capture_output=True, text=True, timeout=60, env=kept | poor,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "objective:" in shown.stdout


def test_there_is_no_invocation_outside_of_a_command():
    with pytest.raises(LookupError):
        invocation()

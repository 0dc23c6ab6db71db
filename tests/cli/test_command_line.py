"""The program as people meet it: answers, files, exit codes, one line for each failure."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from krylovh import HessianOperator, Network, Objective, ResultStore, Status
from krylovh.cli import main, memory
from krylovh.cli.failures import Failure
from krylovh.cli.spectra import _require_full_matrix


@pytest.fixture
def files(tmp_path):
    """A small net and its data on disk."""
    rng = np.random.default_rng(0)
    net = Network((4, 5, 3), "tanh")
    net = net.with_theta(net.random_theta(1))
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    net.save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", X=X, y=y)
    return tmp_path, net, X, y


def run(*arguments):
    """Run the program; return its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    return exit_.value.code or 0


def spectrum(folder, *options, net="net.npz", data="data.npz", output="run.h5", loss="softmax_cross_entropy"):
    return run("spectrum", folder / net, folder / data, "--loss", loss, "-o", folder / output, *options)


def test_spectrum_show_and_plot(files, capsys):
    folder, net, X, y = files
    assert spectrum(folder, "--exact", "--l2", "0.1", "--l2-on", "weights") == 0
    assert "10 of 10 within their residual" in capsys.readouterr().out
    store = ResultStore(folder / "run.h5", "r")
    H = HessianOperator(Objective(net, X, y, loss="softmax_cross_entropy", l2=0.1 * net.weight_mask()))
    truth = np.linalg.eigvalsh(H @ np.eye(net.num_parameters))
    assert np.allclose(store.load("exact"), truth, rtol=0, atol=1e-13)
    assert np.allclose(store.load("largest").eigenvalues, truth[-10:], rtol=0, atol=1e-9)
    assert np.allclose(store.load("smallest").eigenvalues, truth[:5], rtol=0, atol=1e-9)
    assert run("show", folder / "run.h5") == 0
    assert "objective: (1/N) sum_n -log softmax" in capsys.readouterr().out
    assert run("plot", folder / "run.h5", "-o", folder / "spectrum.png") == 0
    assert (folder / "spectrum.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in folder.iterdir() if p.suffix == ".png") == ["spectrum.png"]


def test_the_same_command_writes_the_same_bytes(files):
    folder, *_ = files
    assert spectrum(folder, output="a.h5") == spectrum(folder, output="b.h5") == 0
    assert (folder / "a.h5").read_bytes() == (folder / "b.h5").read_bytes()


def test_float32_converges_at_its_own_default_tolerance(files):
    folder, *_ = files
    assert spectrum(folder, "--dtype", "float32") == 0
    assert ResultStore(folder / "run.h5", "r").load("largest").status == Status.CONVERGED


def test_json_is_valid_and_complete(files, capsys):
    folder, *_ = files
    assert spectrum(folder, "--json", "--num-probes", "1", "--num-trace-products", "1") == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["largest"]["eigenvalues"]) == 10
    assert answer["trace"]["standard_error"] is None  # unknown from one probe
    assert run("show", folder / "run.h5", "--json") == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_an_existing_output_is_kept_without_force(files, capsys):
    folder, *_ = files
    (folder / "run.h5").write_text("precious")
    assert spectrum(folder) == 5
    assert "run.h5: exists already; --force replaces it" in capsys.readouterr().err
    assert (folder / "run.h5").read_text() == "precious"
    assert spectrum(folder, "--force") == 0
    assert "largest" in ResultStore(folder / "run.h5", "r")


def test_what_did_not_converge_is_stored_and_said(files, capsys):
    folder, *_ = files
    assert spectrum(folder, "--tol", "1e-300") == 3
    assert "not converged (largest: stagnated" in capsys.readouterr().err
    assert "trace" in ResultStore(folder / "run.h5", "r")


def arrays(**content):
    return lambda path: np.savez(path, **content)


labels = np.zeros(40, int)
BAD_DATA = {
    "missing": (lambda path: None, "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "bad.npz"),
    "folder": (lambda path: path.mkdir(), "bad.npz"),
    "garbage": (lambda path: path.write_bytes(b"\x80\x04garbage" * 99), "bad.npz"),
    "no X": (arrays(y=labels), "X"),
    "NaN": (arrays(X=np.full((40, 4), np.nan), y=labels), "X must be finite"),
    "shape": (arrays(X=np.zeros((40, 3)), y=labels), "shape (N, 4)"),
    "no samples": (arrays(X=np.zeros((0, 4)), y=labels[:0]), "empty data set"),
    "label": (arrays(X=np.zeros((40, 4)), y=labels + 3), "must be in [0, 3), got 3"),
    "objects": (arrays(X=np.array([{}], object), y=labels[:1]), "X"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_get_one_line_and_exit_code_4(files, capsys, case):
    folder, *_ = files
    make, message = BAD_DATA[case]
    make(folder / "bad.npz")
    assert spectrum(folder, data="bad.npz") == 4
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("krylovh: ")
    assert not (folder / "run.h5").exists()


def test_bad_nets_get_one_line_and_exit_code_4(files, capsys):
    folder, net, *_ = files
    np.savez(folder / "bad.npz", theta=np.full(net.num_parameters, np.inf), widths=net.widths, activations="tanh")
    assert spectrum(folder, net="bad.npz") == 4
    assert "theta must be finite" in capsys.readouterr().err
    np.savez(folder / "bad.npz", theta=net.theta, widths=net.widths, activations="tanhh")
    assert spectrum(folder, net="bad.npz") == 4
    assert "unknown activation 'tanhh'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--num-largest", "-1"], 2, "--num-largest"),
        (["--num-largest", "1000000000"], 2, "--num-largest must be at most the number of parameters 43"),
        (["--num-largest", "nan"], 2, "--num-largest"),
        (["--tol", "0"], 2, "--tol"),
        (["--tol", "inf"], 2, "--tol"),
        (["--rng", "-3"], 2, "--rng"),
        (["--dtype", "float16"], 2, "--dtype': 'float16' is not one of 'float64', 'float32'"),
        (["--loss", "hinge"], 2, "--loss': 'hinge' is not one of 'squared_error'"),
        (["--l2", "-1"], 2, "--l2': must be at least 0 and finite, got -1.0"),
        (["--l2", "nan"], 2, "--l2': must be at least 0 and finite, got nan"),
        (["--num-probes", "0"], 2, "--num-probes"),
        (["--tol", "1e-400"], 2, "--tol': must be between 0 and 1, got 0.0"),
        (["--delta", "1"], 2, "--delta must go with --loss huber"),
        (["--reduction", "median"], 2, "--reduction': 'median' is not one of 'mean', 'sum'"),
        (["--no-such-option"], 2, "--no-such-option"),
    ],
)
def test_wrong_arguments_are_named(files, capsys, options, code, message):
    folder, *_ = files
    assert spectrum(folder, *options) == code
    assert message in capsys.readouterr().err
    assert not (folder / "run.h5").exists()


def test_an_output_in_a_missing_folder_is_refused_before_anything_is_computed(files, capsys):
    folder, *_ = files
    assert spectrum(folder, output="nowhere/run.h5") == 5
    assert "the folder does not exist" in capsys.readouterr().err


def test_a_damaged_result_file_is_refused(files, capsys):
    folder, *_ = files
    assert spectrum(folder) == 0
    content = bytearray((folder / "run.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "run.h5").write_bytes(content)
    assert run("show", folder / "run.h5") == 4
    assert "run.h5" in capsys.readouterr().err
    assert run("plot", folder / "run.h5", "-o", folder / "p.png") == 4
    assert not (folder / "p.png").exists()


def test_a_full_matrix_that_does_not_fit_is_refused_before_it_is_allocated(files, capsys, monkeypatch):
    folder, *_ = files
    monkeypatch.setattr(memory, "available_memory", lambda: 40_000)
    assert spectrum(folder) == 6
    assert "a net of 43 parameters on these data needs 0.0 GB of memory" in capsys.readouterr().err
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    assert spectrum(folder) == 0
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * 8 * 43**2 - 1)
    with pytest.raises(Failure, match="--exact with 43 parameters needs") as refused:
        _require_full_matrix(43, "--exact")
    assert refused.value.code == 6


def test_debug_shows_the_traceback(files, capsys):
    folder, *_ = files
    assert spectrum(folder, "--debug", net="no.npz") == 4
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("no.npz: No such file or directory\n")


@pytest.mark.parametrize("arguments", [["--help"], ["spectrum", "--help"], ["--version"]])
def test_help_loads_neither_numba_nor_scipy(arguments):
    code = (
        "import sys, contextlib\nfrom krylovh.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({arguments})\n"
        "heavy = {'numba', 'scipy', 'matplotlib', 'h5py'} & set(sys.modules)\nsys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "krylovh" in result.stdout


def test_an_interrupt_keeps_what_was_found_and_exits_with_130(tmp_path):
    rng = np.random.default_rng(0)
    net = Network((50, 60, 10), "tanh")
    net.with_theta(net.random_theta(1)).save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", X=rng.standard_normal((2000, 50)), y=rng.integers(0, 10, 2000))
    announced = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)  # else ignored in the background\n"
        "import krylovh.stochastic as stochastic\nfrom krylovh.cli import main\ntrace = stochastic.trace\n"
        "stochastic.trace = lambda *args, **options: "
        "(print('the trace begins', flush=True), trace(*args, **options))[1]\n"
        "main()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", announced, "spectrum", "net.npz", "data.npz", "--loss", "softmax_cross_entropy",
         "--num-trace-products", "100000000", "--num-largest", "2", "--num-smallest", "0"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    assert child.stdout.readline() == "the trace begins\n"
    time.sleep(1)  # by then it is in the middle of it
    asked = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=30)
    assert child.returncode == 130
    assert error == "krylovh: interrupted; what was found is stored\n"
    assert time.monotonic() - asked < 10
    store = ResultStore(tmp_path / "run.h5", "r")
    assert store.load("largest").status == Status.CONVERGED
    assert store.load("trace").status == Status.INTERRUPTED

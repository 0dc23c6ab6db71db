"""SIGINT and SIGTERM end the program and programs that use the library soon, with what was found."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from krylovh import Network, ResultStore, Status

pytestmark = pytest.mark.faults

SECONDS = 2.0  # after the current product
MARGIN = 8.0  # for writing the results, and for a machine that has other things to do

# The program, which says when the trace begins; each of its products takes a few milliseconds
PROGRAM = """
import sys
import krylovh.stochastic as stochastic
real = stochastic.trace
def announced(*arguments, **options):
    print("the trace begins", file=sys.stderr, flush=True)
    return real(*arguments, **options)
stochastic.trace = announced
from krylovh.cli import main
main()
"""

# A program of a user, in which one product takes half a second; it says how each computation ended
LIBRARY = """
import json, sys, time
import numpy as np
from scipy.sparse.linalg import LinearOperator
import krylovh
A = np.diag(np.linspace(1.0, 1e6, 3000))
count = 0
def product(V):
    global count
    count += 1
    if count == 4:
        print("begun", flush=True)
    if count >= 4:
        time.sleep(0.5)
    return A @ V
operator = LinearOperator(A.shape, matvec=product, matmat=product, rmatvec=product, dtype=float)
b = np.ones(len(A))
run = {
    "eigsh": lambda: krylovh.eigsh(operator, 5, tol=1e-13, rng=0),
    "cg": lambda: krylovh.cg(operator, b, rtol=1e-14),
    "minres": lambda: krylovh.minres(operator, b, rtol=1e-14),
    "trace": lambda: krylovh.trace(operator, num_products=2000, block_size=1, rng=0),
    "density": lambda: krylovh.spectral_density(operator, num_probes=50, num_steps=90, block_size=1, rng=0),
    "lanczos": lambda: krylovh.lanczos(operator, b, 2000),
}[sys.argv[1]]
result = run()
print(json.dumps({"status": result.status, "products": result.num_products}), flush=True)
"""


def ended(child, timeout=60):
    out, error = child.communicate(timeout=timeout)
    return child.returncode, out, error


def with_signals():
    """Take signals as a program in the foreground does, even if these tests run in the background or under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def started(code, *arguments, first, stream="stdout", **options):
    """Start a program; return when it has said that it is in the middle of its work."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=with_signals, **options,
    )  # fmt: skip
    line = getattr(child, stream).readline()
    assert line == first, line + child.communicate()[1]
    return child


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    net = Network((50, 60, 10), "tanh")
    net.with_theta(net.random_theta(1)).save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", X=rng.standard_normal((2000, 50)), y=rng.integers(0, 10, 2000))
    return tmp_path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_program_keeps_what_was_found_and_says_by_its_code_what_ended_it(folder, number, code):
    child = started(
        PROGRAM, "spectrum", "net.npz", "data.npz", "--loss", "softmax_cross_entropy", "--num-trace-products", 10**8,
        "--num-largest", 2, "--num-smallest", 0, "-o", "run.h5",
        first="the trace begins\n", stream="stderr", cwd=folder, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    time.sleep(0.5)
    begin = time.monotonic()
    child.send_signal(number)
    status, _, error = ended(child)
    assert time.monotonic() - begin < SECONDS + MARGIN
    assert status == code, error
    assert "Traceback" not in error
    store = ResultStore(folder / "run.h5", "r")
    assert store.load("largest").status == Status.CONVERGED
    assert store.load("trace").status == Status.INTERRUPTED


@pytest.mark.parametrize("name", ["eigsh", "cg", "minres", "trace", "density", "lanczos"])
def test_every_computation_ends_with_the_current_product_and_keeps_what_it_has(name):
    child = started(LIBRARY, name, first="begun\n")
    time.sleep(0.2)
    begin = time.monotonic()
    child.send_signal(signal.SIGINT)
    status, out, error = ended(child)
    assert status == 0, error
    assert time.monotonic() - begin < SECONDS + MARGIN  # a closing product or two among them
    assert json.loads(out)["status"] == Status.INTERRUPTED
    assert json.loads(out)["products"] <= 20


SAVER = """
import sys
import numpy as np
from krylovh import ResultStore
store = ResultStore("run.h5")
for i in range(100000):
    store.save("counter", np.full(20000, i), overwrite=True)
    if i == 3:
        print("begun", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("trial", range(5))
def test_a_signal_during_a_save_finishes_it_or_takes_it_back(tmp_path, number, trial):
    child = started(SAVER, first="begun\n", cwd=tmp_path)
    time.sleep(0.013 * trial)
    child.send_signal(number)
    status, _, _ = ended(child)
    assert status in (-number, 128 + number, 1)
    values = ResultStore(tmp_path / "run.h5", "r").load("counter")
    assert values[0] >= 3
    assert (values == values[0]).all()
    if number == signal.SIGINT:  # which is an exception, and cleans up
        assert [path.name for path in Path(tmp_path).iterdir()] == ["run.h5"]

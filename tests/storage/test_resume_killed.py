"""Runs that are killed by SIGKILL, in processes of their own, and started again until they end."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from krylovh import ResultStore, hessian_matrix
from tests.resumed import differing, some
from tests.storage.test_resume_models import make_objective

# Each life of a run: products, or iterations, take some time, so that there is something to kill.
CHILD = """
import sys, time
import numpy as np
from krylovh import diagonal, eigsh, hessian_matrix, minimize, prune, spectral_density, trace
from tests.resumed import Counted, often
from tests.storage.test_resume_models import make_objective

class Slow(Counted):
    def _matmat(self, V):
        time.sleep(0.003 * V.shape[1])
        return super()._matmat(V)

def slowly(done, total):
    time.sleep(0.03)

A = Slow(np.sort(np.concatenate([np.random.default_rng(1).standard_normal(194), [3.0, 3.0, 3.1, 3.2, 3.25, 3.26]])))
task, path = sys.argv[1:]
file = None if path == "-" else often(path)
print("ready", flush=True)
if task == "eigsh":
    result = eigsh(A, 4, ncv=12, rng=0, checkpoint=file)
elif task == "trace":
    result = trace(A, num_products=100, rng=0, block_size=4, checkpoint=file)
elif task == "diagonal":
    result = diagonal(A, num_products=100, rng=0, block_size=4, checkpoint=file)
elif task == "spectral_density":
    result = spectral_density(A, num_probes=4, num_steps=20, rng=0, block_size=2, checkpoint=file)
elif task == "minimize":
    result = minimize(make_objective(), max_iterations=10, progress=slowly, checkpoint=file)
elif task == "prune":
    result = prune(make_objective(), num_remove=8, method="obd", progress=slowly, checkpoint=file)
else:
    result = hessian_matrix(make_objective(), method="products", progress=slowly, checkpoint=file)
"""


def killed_until_it_ends(task, path, kills, seed):
    """Start a run, kill it after a random time, and start it again; return how many were killed."""
    delays, killed = np.random.default_rng(seed).uniform(0.02, 0.3, kills), 0
    for delay in [*delays, None]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, task, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        if delay is None:
            assert child.wait(timeout=120) == 0, child.stderr.read()
        else:
            time.sleep(delay)
            if child.poll() is None:
                os.kill(child.pid, signal.SIGKILL)
                killed += 1
        child.communicate(timeout=60)
    return killed


def check(task, kills, seed, tmp_path):
    assert killed_until_it_ends(task, tmp_path / "killed.h5", kills, seed) > 0
    if task == "hessian_matrix":
        again = hessian_matrix(make_objective(), method="products", checkpoint=tmp_path / "killed.h5")
        assert np.array_equal(again, hessian_matrix(make_objective(), method="products"))
        return
    killed_until_it_ends(task, tmp_path / "whole.h5", 0, seed)
    found, whole = (ResultStore(tmp_path / f"{name}.h5", "r").load("result") for name in ("killed", "whole"))
    assert differing(whole, found, but=("seconds", "seconds_history")) == []


@pytest.mark.full
def test_a_killed_search_goes_on(tmp_path):
    check("eigsh", 2, 0, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(
    "task",
    some(
        ["eigsh", "minimize", "hessian_matrix", "trace", "diagonal", "spectral_density", "prune"],
        ["trace", "diagonal", "spectral_density", "prune"],
    ),
)
def test_runs_that_are_killed_again_and_again_end_as_one_that_is_not(task, tmp_path):
    check(task, 6, 1, tmp_path)

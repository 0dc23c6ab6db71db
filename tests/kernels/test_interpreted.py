"""The same kernels interpreted, and compiled with bounds checks: no index goes astray, and the answers are the same."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cases import problem
from krylovh import GaussNewtonOperator, HessianOperator, hessian_matrix

PROBLEMS = [
    {"topology": topology, "activation": activation, "loss": loss, "memory_limit": limit, "threads": threads,
     "num_samples": N}
    for topology, activation, loss, limit, threads, N in [
        ("chain", "tanh", "softmax_cross_entropy", None, 2, 20),
        ("chain", "tanh", "squared_error", None, 2, 20),
        ("skip", "gelu", "softmax_cross_entropy", 0, 1, 100),
        ("identity_only", "softplus", "squared_error", None, 3, 20),
    ]
]  # fmt: skip

SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import numpy as np, test_interpreted
np.savez(sys.argv[1], **test_interpreted.answers())
"""


def answers():
    """Values, gradients, outputs, products and matrices of all problems; where nothing is kept, in small chunks."""
    import krylovh.objective

    kept_bytes, krylovh.objective.CHUNK_BYTES = krylovh.objective.CHUNK_BYTES, 1024
    found = {}
    for number, options in enumerate(PROBLEMS):
        objective, (net, _, X, _), _ = problem(weighted=True, ridge=True, **options)
        found[f"{number} value"] = np.array([objective.value()])
        found[f"{number} gradient"] = objective.gradient()
        found[f"{number} forward"] = net.forward(X)
        found[f"{number} matrix"] = hessian_matrix(objective)
        for operator in (HessianOperator(objective), GaussNewtonOperator(objective)):
            for k in (1, 3):
                V = np.random.default_rng(k).standard_normal((objective.num_parameters, k))
                found[f"{number} {type(operator).__name__} {k}"] = operator @ V
    krylovh.objective.CHUNK_BYTES = kept_bytes
    return found


# Checks of bounds mean that all kernels are compiled anew
VARIABLES = ["NUMBA_DISABLE_JIT", pytest.param("NUMBA_BOUNDSCHECK", marks=pytest.mark.full)]


@pytest.mark.parametrize("variable", VARIABLES)
def test_answers_equal_those_of_the_compiled_kernels(variable, tmp_path):
    environment = os.environ | {variable: "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "error"}
    file = tmp_path / "answers.npz"
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, file], env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    expected = answers()
    with np.load(file) as found:
        assert sorted(found) == sorted(expected)
        for name, array in expected.items():
            scale = 10 * np.finfo(float).eps * np.linalg.norm(array, axis=0).max()
            assert np.abs(found[name] - array).max() <= scale, name

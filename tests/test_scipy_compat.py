"""The drop-in for SciPy: same signatures, same return values, and SciPy's own tests."""

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg as spla

import zoo
from krylovh import scipy_compat
from krylovh.scipy_compat import TruthWarning
from solves import right_hand_side

SUITES = ["_isolve.tests.test_iterative", "_isolve.tests.test_minres", "_eigen.arpack.tests.test_arpack"]
#: why a test of SciPy's may be skipped: what is not served, and SciPy's own reasons
REASONS = re.compile(
    r"not served: (A must be real|M must be None|sigma must be None|mode must be 'normal')|"
    r"Solver breakdown case|TODO: Add atol|has no `atol` argument|Solver does not support x0='Mb'"
)


@pytest.mark.parametrize("name", ["cg", "minres", "eigsh"])
def test_signatures_are_those_of_scipy(name):
    ours, theirs = (inspect.signature(getattr(module, name)) for module in (scipy_compat, spla))
    for name, parameter in theirs.parameters.items():
        if name in ours.parameters or name != "rng":  # which older versions lack
            assert ours.parameters[name].default == parameter.default
            assert ours.parameters[name].kind == parameter.kind


@pytest.mark.full
@pytest.mark.parametrize("suite", SUITES)
def test_the_suite_of_scipy_passes(suite, tmp_path):
    if importlib.util.find_spec(f"scipy.sparse.linalg.{suite}") is None:
        pytest.skip("this SciPy was installed without its tests")
    plugin = Path(__file__).parent / "scipy_suite"
    environment = os.environ | {"PYTHONPATH": str(plugin), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "krylovh_in_scipy", "-p", "no:cacheprovider"]
    command += ["-q", "-rs", "--tb=short", "--pyargs", f"scipy.sparse.linalg.{suite}"]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-5000:]
    passed = int(re.search(r"(\d+) passed", run.stdout)[1])
    assert passed >= {"test_iterative": 60, "test_minres": 7, "test_arpack": 40}[suite.rpartition(".")[2]]
    skips = [line for line in run.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all(REASONS.search(line) for line in skips), skips


def test_solutions_are_those_of_scipy():
    reference, b = zoo.laplacian(50), right_hand_side(50)
    matrix = reference.matrix()
    for ours, theirs in [(scipy_compat.cg, spla.cg), (scipy_compat.minres, spla.minres)]:
        x, info = ours(matrix, b, rtol=1e-10)
        assert info == 0
        np.testing.assert_allclose(x, theirs(matrix, b, rtol=1e-12)[0], atol=1e-7)
        assert ours(matrix, b, maxiter=3)[1] == 3


def test_what_has_no_place_in_a_number_is_a_warning():
    b = right_hand_side(4)
    with pytest.warns(TruthWarning, match="negative_curvature"):
        assert scipy_compat.cg(np.diag([1.0, -1.0, 2.0, 3.0]), b)[1] == -1
    with pytest.warns(TruthWarning, match="inconsistent"):
        x, info = scipy_compat.minres(np.diag([1.0, -1.0, 2.0, 0.0]), b)
    assert info > 0
    np.testing.assert_allclose(x, [b[0], -b[1], b[2] / 2, 0.0], atol=1e-10)
    with pytest.warns(TruthWarning, match="stagnated"):
        assert scipy_compat.cg(zoo.strakos(50).operator(np.float32), right_hand_side(50), rtol=1e-8)[1] > 0


def test_an_absolute_tolerance_counts():
    reference, b = zoo.wishart(50), right_hand_side(50)
    x, info = scipy_compat.cg(reference.operator(), b, rtol=0.0, atol=1e-3)
    assert info == 0
    assert 1e-9 < np.linalg.norm(b - reference.apply(x)) <= 1e-3
    x, info = scipy_compat.cg(reference.operator(), b, atol=1e9)
    assert (x.any(), info) == (False, 0)


def test_a_shift_is_taken_off():
    reference, b = zoo.clement(20), right_hand_side(20)
    x, info = scipy_compat.minres(reference.operator(), b, shift=0.5, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(reference.apply(x) - 0.5 * x, b, atol=1e-8)


@pytest.mark.parametrize("which", ["LM", "SM", "LA", "SA", "BE"])
def test_eigenvalues_are_those_of_scipy(which):
    reference = zoo.goe(150)
    ours = scipy_compat.eigsh(reference.operator(), 5, which=which, rng=0, return_eigenvectors=False)
    theirs = spla.eigsh(reference.matrix(), 5, which=which, return_eigenvectors=False, v0=np.ones(150))
    np.testing.assert_allclose(np.sort(ours), np.sort(theirs), atol=1e-10)


def test_eigsh_says_what_it_does_not_serve():
    A = np.eye(10)
    for arguments in ({"sigma": 1.0}, {"M": A}, {"Minv": A}, {"OPinv": A}, {"mode": "cayley"}):
        with pytest.raises(NotImplementedError, match=next(iter(arguments))):
            scipy_compat.eigsh(A, **arguments)
    with pytest.raises(NotImplementedError, match="A must be real"):
        scipy_compat.eigsh(1j * A)
    with pytest.raises(NotImplementedError, match="A must be real"):
        scipy_compat.cg(1j * A, np.ones(10))
    with pytest.raises(spla.ArpackNoConvergence, match="budget"):
        scipy_compat.eigsh(zoo.minimum(300).operator(), 5, which="SA", maxiter=1, rng=0)
    with pytest.warns(RuntimeWarning, match="k must be less than n"):
        assert scipy_compat.eigsh(A, 10, return_eigenvectors=False).size == 10

"""Matrix products inside flat arrays, in registers and by the BLAS, against NumPy."""

import itertools
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from krylovh.kernels import gemm
from krylovh.kernels.jit import JIT_DISABLED, Routine
from krylovh.kernels.microkernels import VECTOR_BYTES

SIZES = [1, 2, 3, 5, 6, 7, 10, 16, 17, 33, 64, 65, 130]
FORMS = ["nn", "nt", "tn"]


def compiled(function):
    Routine.link_all()
    return function if JIT_DISABLED else numba.njit(lambda *arguments: function(*arguments))


@pytest.fixture(scope="module")
def products():
    return {form: compiled(getattr(gemm, f"gemm_{form}")) for form in FORMS}


def operands(form, m, n, k, dtype, rng):
    A = rng.standard_normal((k, m) if form == "tn" else (m, k)).astype(dtype)
    B = rng.standard_normal((n, k) if form == "nt" else (k, n)).astype(dtype)
    exact = (A.T if form == "tn" else A).astype(np.float64) @ (B.T if form == "nt" else B).astype(np.float64)
    return A, B, exact


def embedded(block, before, value):
    """Put a block into a flat array, after ``before`` numbers and before as many others."""
    return np.concatenate([np.full(before, value, block.dtype), block.ravel(), np.full(before, value, block.dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
def test_products_equal_those_of_numpy(products, form, dtype):
    rng = np.random.default_rng(0)
    shapes = [rng.choice(SIZES, 3) for _ in range(150)] + list(itertools.product([6, 64, 65], repeat=3))
    for m, n, k in shapes:
        A, B, exact = operands(form, m, n, k, dtype, rng)
        C = rng.standard_normal((m, n)).astype(dtype)
        bound = 4 * k * np.finfo(dtype).eps * (np.abs(exact).max() + np.abs(A).max() * np.abs(B).max() * np.sqrt(k))
        for beta in (0.0, 1.0):
            target = embedded(np.full_like(C, np.nan) if beta == 0 else C, 5, dtype(7))
            products[form](m, n, k, embedded(A, 3, np.nan), 3, embedded(B, 2, np.nan), 2, beta, target, 5)
            error = np.abs(target[5:-5].reshape(m, n) - (exact + beta * C)).max()
            assert error <= bound, (m, n, k, beta)
            assert (target[[*range(5), *range(-5, 0)]] == 7).all(), (m, n, k, beta)  # nothing written outside


@pytest.mark.parametrize("form", FORMS)
def test_not_a_number_reaches_its_row_or_column_alone(products, form):
    rng = np.random.default_rng(1)
    A, B, _ = operands(form, 9, 20, 30, np.float64, rng)
    A[(4, 2) if form == "tn" else (2, 4)] = np.nan  # row 2 of C
    C = np.zeros(9 * 20)
    products[form](9, 20, 30, A.ravel(), 0, B.ravel(), 0, 0.0, C, 0)
    found = np.isnan(C.reshape(9, 20))
    assert found[2].all()
    assert found.sum() == 20


@pytest.mark.skipif(JIT_DISABLED, reason="without compiled code there are no routines")
def test_narrow_products_are_not_left_to_the_blas():
    rng = np.random.default_rng(2)
    A, B, C = rng.standard_normal(40 * 32), rng.standard_normal(32 * 32), np.zeros(40 * 32)
    exact = A.reshape(40, 32) @ B.reshape(32, 32)
    function = numba.njit(lambda *arguments: gemm.gemm_nn(*arguments))
    function(40, 32, 32, A, 0, B, 0, 0.0, C, 0)
    np.testing.assert_allclose(C.reshape(40, 32), exact, atol=1e-12)
    (code,) = function.inspect_llvm().values()
    assert "krylovh_narrow_product_float64" in code


@pytest.mark.full
@pytest.mark.skipif(JIT_DISABLED, reason="without compiled code there are no vectors")
@pytest.mark.parametrize("num_bytes", sorted({16, 32, 64} - {VECTOR_BYTES}))
def test_products_with_the_vectors_of_other_processors(tmp_path, num_bytes):
    code = f"""
import sys
import krylovh.kernels.microkernels
krylovh.kernels.microkernels.VECTOR_BYTES = {num_bytes}
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-m", "not full", {__file__!r}]))
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stdout

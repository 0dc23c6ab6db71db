"""Operators with one fault each: the check that is meant for it fails, and no other."""

import itertools

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import zoo
from krylovh import check_operator

N = 40
M = zoo.goe(N).matrix()


def operator_of(matvec, matmat=None, dtype=np.float64):
    matmat = matmat or (lambda V: np.column_stack([np.ravel(matvec(v.copy())) for v in V.T]))
    return LinearOperator((N, N), matvec=matvec, matmat=matmat, dtype=dtype)


def failed(result):
    return {name for name, passed in zip(result.names, result.passed, strict=True) if not passed}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", zoo.CATALOGUE)
def test_a_good_operator_passes(name, dtype):
    reference = zoo.CATALOGUE[name](64)
    result = check_operator(reference.operator(dtype), rng=1)
    assert result.ok, str(result)
    assert len(result.names) == 8
    assert result.num_products <= 3 * 3 + 3


def test_every_fault_is_found():
    noise, count = np.random.default_rng(0), itertools.count()
    skew = M.copy()
    skew[0, 1] += 1e-6

    def scribble(v):
        product = M @ v
        v *= 2
        return product

    faults = {
        "symmetric": operator_of(lambda v: skew @ v),
        "linear": operator_of(lambda v: M @ v + 1e-9 * np.linalg.norm(v) * v),
        "input": operator_of(scribble, lambda V: M @ V),
        "finite": operator_of(lambda v: np.where(np.arange(N) == 3, np.nan, np.ravel(M @ v))),
        "shape and dtype": operator_of(lambda v: (M @ v)[:-1], lambda V: M @ V),
        "block": operator_of(lambda v: M @ v, lambda V: M @ V[:, ::-1]),
        "deterministic": operator_of(lambda v: M @ v * (1 + 2.0**-50 * (next(count) % 2)), lambda V: M @ V),
        "zero": operator_of(lambda v: M @ v + 1e-18),
    }
    for name, operator in faults.items():
        assert name in failed(check_operator(operator, rng=0)), name
    for name in ("symmetric", "block", "deterministic", "input", "zero"):
        assert failed(check_operator(faults[name], rng=0)) == {name}, name
    noisy = check_operator(operator_of(lambda v: M @ v + 1e-3 * noise.standard_normal(v.shape)), rng=0)
    assert {"deterministic", "linear", "symmetric"} <= failed(noisy)
    assert not noisy.ok


def test_an_operator_that_promises_less_than_it_gives():
    result = check_operator(operator_of(lambda v: (M @ v).astype(np.float64), dtype=np.float32), rng=0)
    assert result.ok
    result = check_operator(operator_of(lambda v: M @ v + 0j), rng=0)
    assert failed(result) == {"shape and dtype"}


def test_the_numbers_are_there_to_read():
    result = check_operator(np.triu(np.ones((3, 3))), rng=5)
    assert result.error("symmetric") > 0.01
    assert "symmetric        FAILED" in str(result)
    assert f"{result.num_products} products, seed 5" in str(result)
    assert check_operator(np.triu(np.ones((3, 3))), rng=5) == result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"A": np.ones((2, 3))}, r"A must be square, got shape \(2, 3\)"),
        ({"num_vectors": 1}, "num_vectors must be at least 2, got 1"),
        ({"margin": 0.0}, "margin must be positive, got 0.0"),
    ],
)
def test_misuse_is_named(arguments, message):
    values = {"A": np.eye(3)} | arguments
    with pytest.raises(ValueError, match=message):
        check_operator(values.pop("A"), **values)

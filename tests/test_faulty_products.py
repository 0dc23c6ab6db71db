"""One product of a computation goes wrong: every algorithm says so, and keeps what it had; none calls it converged."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import krylovh
from krylovh import Status

N = 40
_rng = np.random.default_rng(0)
Q = np.linalg.qr(_rng.standard_normal((N, N)))[0]
SPECTRUM = np.linspace(1.0, 30.0, N)
MATRIX = (Q * SPECTRUM) @ Q.T
MATRIX = (MATRIX + MATRIX.T) / 2
B = _rng.standard_normal((N, 3))


class Faulty(LinearOperator):
    """The matrix, until product number ``position`` (from 0) goes wrong, once or for good."""

    def __init__(self, position=None, fault=None, *, stays=False):
        super().__init__(np.float64, (N, N))
        self.position, self.fault, self.stays = position, fault, stays
        self.count = 0

    def _matmat(self, V):
        product = MATRIX @ V
        for column in range(V.shape[1]):
            now = self.position is not None and (
                self.count == self.position or (self.stays and self.count > self.position)
            )
            self.count += 1
            if now and isinstance(self.fault, type):
                raise self.fault("injected")
            if now:
                product[_rng.integers(N), column] = self.fault
        return product

    def _matvec(self, v):
        return self._matmat(v.reshape(N, 1)).ravel()

    _rmatvec = _matvec


ALGORITHMS = {
    "lanczos": lambda A: krylovh.lanczos(A, B[:, 0], 12),
    "eigsh": lambda A: krylovh.eigsh(A, 3, rng=0),
    "eigsh, both ends": lambda A: krylovh.eigsh(A, 4, which="BE", rng=0),
    "eigsh, blocks": lambda A: krylovh.eigsh(A, 3, block_size=3, rng=0),
    "cg": lambda A: krylovh.cg(A, B[:, 0]),
    "cg from a start": lambda A: krylovh.cg(A, B[:, 0], x0=B[:, 1]),
    "minres": lambda A: krylovh.minres(A, B[:, 0]),
    "block_cg": lambda A: krylovh.block_cg(A, B),
    "shifted_cg": lambda A: krylovh.shifted_cg(A, B[:, 0], [0.0, 1.0, 10.0]),
    "matrix_function": lambda A: krylovh.matrix_function(A, np.sqrt, B[:, 0]),
    "spectral_density": lambda A: krylovh.spectral_density(A, num_probes=3, num_steps=10, rng=0),
    "kernel_polynomial_density": lambda A: krylovh.kernel_polynomial_density(A, num_probes=3, num_steps=10, rng=0),
    "trace, hutchinson": lambda A: krylovh.trace(A, num_products=20, rng=0),
    "trace, hutch++": lambda A: krylovh.trace(A, method="hutch++", num_products=21, rng=0),
    "trace, xtrace": lambda A: krylovh.trace(A, method="xtrace", num_products=20, rng=0),
    "trace, xnystrace": lambda A: krylovh.trace(A, method="xnystrace", num_products=20, rng=0),
    "diagonal": lambda A: krylovh.diagonal(A, num_products=20, rng=0),
    "diagonal, xdiag": lambda A: krylovh.diagonal(A, method="xdiag", num_products=20, rng=0),
    "logdet": lambda A: krylovh.logdet(A, num_probes=3, num_steps=10, rng=0),
    "frobenius_norm": lambda A: krylovh.frobenius_norm(A, num_products=20, rng=0),
    "participation_ratio": lambda A: krylovh.participation_ratio(A, num_products=20, rng=0),
    "inverse_diagonal": lambda A: krylovh.inverse_diagonal(A, num_probes=4, rng=0),
    "eigenvalue_count": lambda A: krylovh.eigenvalue_count(A, 10.0, 20.0, num_probes=3, num_steps=10, rng=0),
    "condition_number": lambda A: krylovh.condition_number(A, rng=0),
}  # fmt: skip

some_or_all = pytest.mark.parametrize(
    "number", [4, pytest.param(None, marks=pytest.mark.faults)], ids=["some", "all"]
)  # fmt: skip


def positions(run, number):
    """Return the positions of products to spoil: all, or the first, the last and some between."""
    A = Faulty()
    run(A)
    count = A.count
    assert count > 1
    return range(count) if number is None else sorted({*np.linspace(0, count - 1, number).astype(int).tolist()})


def numbers_of(result):
    """Return all real arrays and numbers of a result."""
    if not dataclasses.is_dataclass(result):
        return [np.asarray(result, float)]
    values = (getattr(result, field.name) for field in dataclasses.fields(result))
    return [np.asarray(v) for v in values if isinstance(v, float | np.ndarray) and np.asarray(v).dtype.kind == "f"]


def statuses(result):
    return set(getattr(result, "statuses", ())) | ({result.status} if hasattr(result, "status") else set())


def is_told(result, status, truth):
    """The status is there; or a product was simply repeated, and the answer is the one without the fault."""
    if status in statuses(result):
        return True
    found, expected = numbers_of(result), numbers_of(truth)
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, expected, strict=True)
    )


@some_or_all
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_a_product_that_is_not_finite_is_said(name, fault, number):
    run = ALGORITHMS[name]
    truth = run(Faulty())
    for position in positions(run, number):
        for stays in (False, True):
            A = Faulty(position, fault, stays=stays)
            result = run(A)
            assert A.count > position, position
            assert A.count <= position + N + 5, f"{A.count - position} products after one that was not finite"
            assert is_told(result, Status.NONFINITE, truth), (position, result)
            assert not stays or Status.NONFINITE in statuses(result), (position, result)


@some_or_all
@pytest.mark.parametrize("fault", [RuntimeError, OSError, MemoryError])
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_an_exception_in_a_product_comes_out_as_it_is(name, fault, number):
    run = ALGORITHMS[name]
    for position in positions(run, number):
        with pytest.raises(fault, match="injected"):
            run(Faulty(position, fault))


@some_or_all
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_an_interrupt_in_a_product_keeps_what_was_found(name, number):
    run = ALGORITHMS[name]
    truth = run(Faulty())
    for position in positions(run, number):
        result = run(Faulty(position, KeyboardInterrupt))
        assert is_told(result, Status.INTERRUPTED, truth), (position, result)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_after_a_fault_the_next_run_is_as_ever(name):
    """Nothing of a spoilt run is left behind."""
    run = ALGORITHMS[name]
    before = run(Faulty())
    with pytest.raises(RuntimeError):
        run(Faulty(1, RuntimeError))
    for a, b in zip(numbers_of(before), numbers_of(run(Faulty())), strict=True):
        assert np.array_equal(a, b, equal_nan=True)

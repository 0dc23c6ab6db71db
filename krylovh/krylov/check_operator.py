"""Is an operator what it says?  The promises that every method relies on, tested by products.

References
----------
Claerbout (2004), Earth soundings analysis, 3: the dot-product test, which PyLops calls ``dottest``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

from krylovh.krylov.symmetric import resolve_seed
from krylovh.results import OperatorCheck

Array = NDArray[Any]

__all__ = ["check_operator"]


def check_operator(
    A: Any, *, rng: int | np.random.Generator | None = None, margin: float = 100.0, num_vectors: int = 3
) -> OperatorCheck:
    """Test an operator for what the methods of this package assume.

    Costs ``3 num_vectors + 3`` products.  Errors are relative to the length of the products; what a correct operator
    may show is ``margin`` machine epsilons of its dtype.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
    rng : int, numpy.random.Generator or None
        Seed of the random vectors.
    margin : float
        How many machine epsilons rounding may add up to.
    num_vectors : int
        Random vectors, at least 2.

    Returns
    -------
    OperatorCheck
        A number and a verdict for each of

        * "shape and dtype": products have the shape of the vector and a dtype that ``A.dtype`` holds;
        * "finite": products of finite vectors are finite;
        * "input": the operator does not write to the vector that it gets;
        * "deterministic": the same vector gives the same bits;
        * "linear": ``A (u + 2 v)`` is ``A u + 2 A v``;
        * "zero": ``A 0`` is zero;
        * "symmetric": ``u'A v`` is ``v'A u``;
        * "block": ``A V`` has the products with the columns of V as columns.

    Raises
    ------
    ValueError
        If A is not square, or an argument makes no sense.

    References
    ----------
    Claerbout (2004), Earth soundings analysis, 3.

    Examples
    --------
    >>> print(check_operator(np.array([[1.0, 2.0], [0.0, 1.0]]), rng=0))
    operator of order 2, float64: 7 of 8 checks passed, 12 products, seed 0
      shape and dtype  passed  0.0e+00
      finite           passed  0.0e+00
      input            passed  0.0e+00
      deterministic    passed  0.0e+00
      linear           passed  6.2e-17
      zero             passed  0.0e+00
      symmetric        FAILED  6.1e-01
      block            passed  0.0e+00
    """
    operator = aslinearoperator(A)
    if len(operator.shape) != 2 or operator.shape[0] != operator.shape[1]:
        raise ValueError(f"A must be square, got shape {operator.shape}")
    if num_vectors < 2:
        raise ValueError(f"num_vectors must be at least 2, got {num_vectors}")
    if not margin > 0:
        raise ValueError(f"margin must be positive, got {margin}")
    n, seed = int(operator.shape[0]), resolve_seed(rng, A)
    dtype = np.dtype(operator.dtype if operator.dtype is not None else np.float64)
    single = dtype in (np.dtype(np.float16), np.dtype(np.float32))
    working = np.dtype(np.float32) if single else np.dtype(np.float64)
    random = np.random.default_rng(seed).standard_normal((n, num_vectors))
    V = (random / np.linalg.norm(random, axis=0)).astype(working)
    checks = _Checks(operator, margin * float(np.finfo(working).eps))
    AV = checks.columns(V, dtype)
    if AV is not None:
        checks.determinism(V, AV)
        checks.linearity(V, AV)
        checks.symmetry(V, AV)
        checks.blocks(V, AV)
    return OperatorCheck(
        n, str(dtype), tuple(checks.names), tuple(checks.errors), tuple(checks.passed), checks.num_products, seed
    )


class _Checks:
    """Numbers and verdicts, one after the other."""

    def __init__(self, operator: Any, tolerance: float) -> None:
        self.operator = operator
        self.tolerance = tolerance
        self.names: list[str] = []
        self.errors: list[float] = []
        self.passed: list[bool] = []
        self.num_products = 0

    def note(self, name: str, error: float, tolerance: float = 0.0) -> None:
        self.names.append(name)
        self.errors.append(float(error))
        self.passed.append(bool(error <= tolerance))  # NaN fails

    def product(self, v: Array) -> Array:
        self.num_products += 1
        return np.array(self.operator._matvec(v), dtype=np.float64).reshape(-1)

    def columns(self, V: Array, dtype: np.dtype[Any]) -> Array | None:
        """Multiply each column; None where products are not even vectors of numbers."""
        products, misfits, written = [], 0, 0.0
        for v in V.T:
            given = v.copy()
            result = np.array(self.operator._matvec(given))
            self.num_products += 1
            fits = result.shape in (v.shape, (v.size, 1)) and result.dtype.kind in "fiub"
            misfits += not (fits and np.can_cast(result.dtype, dtype, "same_kind"))
            written = max(written, float(np.abs(given - v).max()) if np.isfinite(given).all() else np.inf)
            products.append(result)
        self.note("shape and dtype", misfits)
        if misfits and any(p.size != len(V) or p.dtype.kind not in "fiub" for p in products):
            return None
        AV = np.column_stack([p.reshape(-1) for p in products]).astype(np.float64)
        self.note("finite", float(np.count_nonzero(~np.isfinite(AV))))
        self.note("input", written)
        return AV

    def determinism(self, V: Array, AV: Array) -> None:
        again = np.column_stack([self.product(v.copy()) for v in V.T])
        same = np.array_equal(again, AV, equal_nan=True)
        self.note("deterministic", 0.0 if same else self._relative(again - AV, AV))

    def linearity(self, V: Array, AV: Array) -> None:
        u, v = V[:, 0], V[:, 1]
        combined = self.product(u + 2 * v)
        expected = AV[:, 0] + 2 * AV[:, 1]
        # the sum of u and v is rounded as well, and A may enlarge that up to its norm
        scale = max(float(np.linalg.norm(AV, axis=0).max()), self._enlarged(AV[:, 0]))
        self.note("linear", float(np.linalg.norm(combined - expected)) / (3 * scale or 1.0), self.tolerance)
        self.note("zero", float(np.abs(self.product(np.zeros_like(u))).max(initial=0.0)))

    def symmetry(self, V: Array, AV: Array) -> None:
        form = V.T.astype(np.float64) @ AV
        lengths = np.linalg.norm(AV, axis=0)
        scale = np.maximum.outer(lengths, lengths)
        error = np.abs(form - form.T) / np.where(scale > 0, scale, 1.0)
        self.note("symmetric", float(error.max()), self.tolerance)

    def blocks(self, V: Array, AV: Array) -> None:
        self.num_products += V.shape[1]
        product = np.array(self.operator._matmat(np.asfortranarray(V)), dtype=np.float64)
        fits = product.shape == AV.shape
        self.note("block", self._relative(product - AV, AV) if fits else np.inf, self.tolerance)

    def _enlarged(self, w: Array) -> float:
        """Return ``|A w| / |w|``: a better idea of the norm of A."""
        length = float(np.linalg.norm(w))
        if not 0 < length < np.inf:
            return 0.0
        return float(np.linalg.norm(self.product((w / length).astype(self.operator.dtype or np.float64))))

    @staticmethod
    def _relative(difference: Array, reference: Array) -> float:
        lengths = np.linalg.norm(reference, axis=0)
        return float(np.max(np.linalg.norm(difference, axis=0) / np.where(lengths > 0, lengths, 1.0)))

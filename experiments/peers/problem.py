"""The nets and data that every tool gets, and what a tool hands over to be measured.  NumPy only."""

import itertools
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np


class Problem(NamedTuple):
    """A tanh net with biases and a mean softmax cross-entropy, on random data: times do not depend on the numbers."""

    name: str
    widths: tuple[int, ...]
    num_samples: int
    dtype: str

    @property
    def num_parameters(self):
        """Length of theta."""
        return sum(b * (a + 1) for a, b in itertools.pairwise(self.widths))

    @property
    def shapes(self):
        """Shapes of the parameters: weight (out, in) and bias of one layer after the other, as in theta."""
        return [shape for a, b in itertools.pairwise(self.widths) for shape in ((b, a), (b,))]

    def data(self):
        """Return X (N, d_0), labels (N,) and theta; float32 and float64 see the same numbers up to rounding."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.num_samples, self.widths[0]))
        labels = rng.integers(0, self.widths[-1], self.num_samples)
        bounds = [np.sqrt(6.0 / (a + b)) for a, b in itertools.pairwise(self.widths) for _ in range(2)]
        sizes = map(np.prod, self.shapes)
        theta = [rng.uniform(-bound, bound, size) for bound, size in zip(bounds, sizes, strict=True)]
        return X.astype(self.dtype), labels, np.concatenate(theta).astype(self.dtype)

    def vectors(self, k):
        """Return k random vectors, one per row: (k, num_parameters)."""
        return np.random.default_rng(1).standard_normal((k, self.num_parameters)).astype(self.dtype)

    def split(self, rows):
        """Cut rows (k, num_parameters) into the parameters' blocks (k, *shape)."""
        ends = np.cumsum([np.prod(shape) for shape in self.shapes])[:-1]
        blocks = np.split(rows, ends, axis=-1)
        return [
            np.ascontiguousarray(block).reshape(*rows.shape[:-1], *shape)
            for block, shape in zip(blocks, self.shapes, strict=True)
        ]


class Candidate(NamedTuple):
    """One way of computing: ``run`` works in the tool's own arrays and is timed, ``rows`` turns its result to NumPy."""

    run: Callable[[], Any]
    rows: Callable[[Any], np.ndarray] = np.asarray


def moments(rules):
    """Return the first four moments of quadrature rules, nodes and weights (k, m) each, averaged over the k rules."""
    nodes, weights = (np.asarray(array, np.float64) for array in rules)
    return np.array([(weights * nodes**power).sum(axis=1).mean() for power in range(4)])


def matrix_by_chunks(num_parameters, dtype, ways, sizes=(32, 128)):
    """Write a matrix in chunks of rows, in the way and with the size of chunk that were fastest on one chunk.

    ``ways`` maps names to functions that take unit vectors (c, P) and return their products (c, P).
    """
    units = {size: np.zeros((size, num_parameters), dtype) for size in sizes}

    def chunk(way, start, size):
        unit = units[size]
        unit[np.arange(size), np.arange(start, start + size)] = 1.0
        rows = ways[way](unit)
        unit[:] = 0.0
        return rows

    def seconds_per_row(way, size):
        chunk(way, 0, size)  # compiles
        start = perf_counter()
        chunk(way, 0, size)
        return (perf_counter() - start) / size

    way, size = min(itertools.product(ways, sizes), key=lambda choice: seconds_per_row(*choice))

    def run():
        matrix = np.empty((num_parameters, num_parameters), dtype)
        for start in range(0, num_parameters, size):
            first = min(start, num_parameters - size)  # the last chunk overlaps, so that all have the same shape
            matrix[first : first + size] = chunk(way, first, size)
        return matrix

    return {f"{way}, chunks of {size}": Candidate(run)}

"""How fast block products are, as a share of what the machine's matrix product allows.

    python experiments/bench_products.py [-o bench.h5] [--readme experiments/README.md]

For each net the cost of a product with the exact Hessian is counted as 6 matrix products per dense edge (2 for an edge
out of the input) and divided by the time; 100 % is the rate of one large matrix product of the same BLAS, dtype and
threads in the same run.  Every figure is the median of interleaved repetitions, with a pause after each matrix product
in which the BLAS's own threads stop to spin.
"""

import argparse
import itertools
import time
from math import nan

import numpy as np
import scipy.linalg
from rich.console import Console
from tables import WIDTH, ResultTable

from krylovh import HessianOperator, Network, Objective
from krylovh.storage.provenance import environment
from krylovh.threads import available_threads, thread_info

PAUSE = 0.15  # seconds after which the threads of a BLAS have stopped to spin in wait for the next product

NETS = [
    ("64-32-32-10", (64, 32, 32, 10), 1797, 0.50),
    ("784-256-128-10", (784, 256, 128, 10), 1000, 0.80),
    ("100-[128]x8-10", (100, *[128] * 8, 10), 2000, 0.70),
    ("784-1024-1024-10", (784, 1024, 1024, 10), 2000, 0.85),
]


def objective_of(widths, num_samples, dtype):
    """A random tanh net on random data: the time of a product does not depend on the numbers."""
    rng = np.random.default_rng(0)
    net = Network(widths, "tanh")
    net = net.with_theta(net.random_theta(rng))
    X = rng.standard_normal((num_samples, widths[0]))
    return Objective(net, X, rng.integers(0, widths[-1], num_samples), loss="softmax_cross_entropy", dtype=dtype)


def flops_of(widths, num_samples):
    """Flops of one product at the floor of 6 matrix products per dense edge, 2 for the first."""
    edges = [2 * num_samples * a * b for a, b in itertools.pairwise(widths)]
    return 2 * edges[0] + 6 * sum(edges[1:])


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def gemm_of(dtype, order=2000):
    """One large matrix product in the BLAS that the kernels use."""
    rng = np.random.default_rng(0)
    A, B = (np.asfortranarray(rng.random((order, order)), dtype) for _ in range(2))
    routine = scipy.linalg.get_blas_funcs("gemm", (A, B))
    return lambda: routine(1.0, A, B), 2 * order**3


def measure(widths, num_samples, dtype, block, repetitions):
    """Return the rate of products and the rate of the large matrix product, in flops per second."""
    operator = HessianOperator(objective_of(widths, num_samples, dtype))
    V = np.asfortranarray(np.random.default_rng(1).standard_normal((operator.shape[0], block)), dtype)
    gemm, gemm_flops = gemm_of(dtype)
    operator.matmat(V), gemm()
    once = seconds(lambda: operator.matmat(V))
    inner = max(1, round(0.05 / once))
    products, gemms = [], []
    for _ in range(repetitions):
        gemms.append(seconds(gemm))
        time.sleep(PAUSE)
        products.append(seconds(lambda: [operator.matmat(V) for _ in range(inner)]) / inner)
    return block * flops_of(widths, num_samples) / np.median(products), gemm_flops / np.median(gemms)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="bench.h5")
    parser.add_argument("--readme", help="a page whose table is replaced")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()
    console = Console(width=WIDTH)
    info = thread_info()
    for blas in info["blas"]:
        console.print(f"{blas['prefix']} {blas['version']} {blas['architecture']}, {blas['num_threads']} threads")
    columns = {"net": "<", "dtype": "<", "block": ">", "ms per vector": ".3f", "GF/s": ".0f", "GEMM GF/s": ".0f"}
    facts = [f"{info['threads']} threads; {environment()['blas']}"]
    table = ResultTable("products", columns | {"share": ".0%", "bar": ".0%"}, facts)
    for name, widths, num_samples, bar in NETS:
        for dtype in (np.float32, np.float64):
            for block in arguments.blocks:
                rate, gemm = measure(widths, num_samples, dtype, block, arguments.repetitions)
                per_vector = 1e3 * flops_of(widths, num_samples) / rate
                figures = (per_vector, rate / 1e9, gemm / 1e9, rate / gemm)
                table.rows.append((name, np.dtype(dtype).name, block, *figures, bar if block > 1 else nan))
    console.print(f"{available_threads()} threads, Numba layer {thread_info()['layer']}")
    table.show(console)
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()

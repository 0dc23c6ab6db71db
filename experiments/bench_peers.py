"""krylovh and the other tools for Hessians on a CPU, side by side in one run.

    python experiments/bench_peers.py [-o bench.h5] [--readme experiments/README.md] [--tables NAME ...] [--quick]

Each tool works in a process of its own; the parent lets them work in turn, with a pause before each burst of runs in
which the threads of the one before fall asleep.  Every product is compared with krylovh's before it is timed, and of
the ways that a tool has, the fastest counts.  Times are medians over interleaved rounds; a peer's way that takes more
than twice as long as the fastest peer in the first round is not run again.
"""

import argparse
import os
from math import nan

import numpy as np
from peers.problem import Problem
from peers.race import Race, best_peer, fastest_of
from rich.console import Console
from tables import WIDTH, ResultTable

TOOLS = {
    "krylovh": "krylovh_operator",
    "torch": "torch_autograd",
    "torch.func": "torch_func",
    "JAX": "jax_transforms",
    "curvlinops": "curvlinops_operator",
    "PyHessian": "pyhessian_products",
}
MATRIX_TOOLS = ["krylovh", "torch", "torch.func", "JAX"]

# name, widths, samples, and how many times faster than the best peer: single products, blocks of 16
NETS = [
    ("64-32-32-10", (64, 32, 32, 10), 1797, 2.5, 3.0),
    ("784-256-128-10", (784, 256, 128, 10), 1000, 0.95, 1.2),
    ("100-[128]x8-10", (100, *[128] * 8, 10), 2000, 0.95, 1.2),
    ("784-1024-1024-10", (784, 1024, 1024, 10), 2000, 0.95, 1.0),
]
SAME_PRODUCT = {"float32": 1e-4, "float64": 1e-10}

# name, widths, samples, and how many times faster than the best peer: full Hessians
MATRIX_NETS = [
    ("64-32-32-10", (64, 32, 32, 10), 1797, 15.0),
    ("64-64-10", (64, 64, 10), 1797, 15.0),
    ("784-10-10", (784, 10, 10), 1000, 5.0),
]
SAME_MATRIX = 1e-13
TABLES = ["products", "full_hessians", "structure"]
SHARE_OF_GEMM = 0.7

# what the structure gives, its unit of cost, and how many units at most
STRUCTURE = [
    ("hessian_diagonal", "product", 25.0),
    ("hessian_trace", "product", 25.0),
    ("obd_diagonal", "gradient", 3.0),
]


def products(race, nets):
    """Single products and blocks, in milliseconds per vector."""
    columns = {"net": "<", "dtype": "<", "block": ">", **dict.fromkeys(TOOLS, ".3f")}
    columns |= {"best peer": "<", "ratio": ".2f", "bar": ".2f", "met": "<"}
    table = ResultTable("peers", columns)
    for name, widths, num_samples, *bars in nets:
        for dtype, tolerance in SAME_PRODUCT.items():
            for k, bar in zip((1, 16), bars, strict=True):
                race.console.print(f"{name}, {dtype}, block of {k}")
                reference = []

                def same(way, result, reference=reference, tolerance=tolerance):
                    reference[1:] = [result]
                    return np.linalg.norm(result - reference[0]) <= tolerance * np.linalg.norm(reference[0])

                contestants = race.enter(TOOLS, "products", Problem(name, widths, num_samples, dtype), k, accept=same)
                race.choose_repetitions(contestants)
                race.run(contestants, rounds=3)
                times = [1e3 * fastest_of(contestants, tool) / k for tool in TOOLS]
                peer, ratio = best_peer(contestants, "krylovh")
                table.rows.append((name, dtype, k, *times, peer, ratio, bar, verdict(ratio >= bar)))
    return table


def full_hessians(race, nets):
    """Full float64 Hessians in seconds, their rate in N W^2 flops, and how far the peers' matrices are."""
    columns = {"net": "<", "parameters": ">", **dict.fromkeys(MATRIX_TOOLS, ".3f")}
    columns |= {"best peer": "<", "ratio": ".1f", "bar": ".0f", "difference": ".0e"}
    columns |= {"GF/s": ".1f", "GEMM GF/s": ".1f", "share": ".0%", "met": "<"}
    table = ResultTable("full_hessians", columns)
    for name, widths, num_samples, bar in nets:
        race.console.print(f"full Hessian of {name}, float64")
        problem = Problem(name, widths, num_samples, "float64")
        reference, differences = [], [0.0]

        def compare(way, result, reference=reference, differences=differences):
            if way != "gemm":
                reference[1:] = [result]
                differences.append(np.abs(result - reference[0]).max() / np.abs(reference[0]).max())
            return True

        contestants = race.enter(MATRIX_TOOLS, "hessians", problem, accept=compare)
        peers = [c for c in contestants if c.tool != "krylovh"]
        for c in peers:
            c.times = [c.first]  # long, and compiled when the size of chunks was chosen: once is enough
        race.tell(peers)
        race.run([c for c in contestants if c.tool == "krylovh"], rounds=3)
        gemm = [c for c in contestants if c.way == "gemm"]
        others = [c for c in contestants if c.way != "gemm"]
        times = [fastest_of(others, tool) for tool in MATRIX_TOOLS]
        peer, ratio = best_peer(others, "krylovh")
        rate, gemm_rate = num_samples * problem.num_parameters**2 / times[0] / 1e9, 2 * 2000**3 / gemm[0].seconds / 1e9
        passed = ratio >= bar and max(differences) <= SAME_MATRIX and rate >= SHARE_OF_GEMM * gemm_rate
        last = (peer, ratio, bar, max(differences), rate, gemm_rate, rate / gemm_rate, verdict(passed))
        table.rows.append((name, problem.num_parameters, *times, *last))
    return table


def structure(race, net):
    """What costs a known number of products or gradients."""
    columns = {"quantity": "<", "net": "<", "dtype": "<", "ms": ".3f", "unit": "<", "ms per unit": ".3f"}
    table = ResultTable("structure", columns | {"units": ".2f", "bar": ".0f", "met": "<"})
    name, widths, num_samples, *_ = net
    for dtype in SAME_PRODUCT:
        race.console.print(f"diagonals and trace of {name}, {dtype}")
        contestants = race.enter(["krylovh"], "structure", Problem(name, widths, num_samples, dtype))
        race.choose_repetitions(contestants)
        race.run(contestants, rounds=3)
        seconds = {c.way: c.seconds for c in contestants}
        for quantity, unit, bar in STRUCTURE:
            cost, base = seconds.get(quantity, nan), seconds[unit]
            table.rows.append(
                (quantity, name, dtype, 1e3 * cost, unit, 1e3 * base, cost / base, bar, verdict(cost / base <= bar))
            )
    return table


def verdict(passed):
    return "yes" if passed else "no"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="bench.h5")
    parser.add_argument("--readme", help="a page whose tables are replaced")
    parser.add_argument("--threads", type=int, default=2, help="CPUs that every tool is given (default: 2)")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--quick", action="store_true", help="one round on the smallest nets: does the script work?")
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    if not 1 <= arguments.threads <= len(cpus):
        parser.error(f"--threads must be in 1 ... {len(cpus)}, the CPUs of this process, got {arguments.threads}")
    os.sched_setaffinity(0, cpus[: arguments.threads])  # handed on to the tools' processes
    console = Console(width=WIDTH, highlight=False)
    race = Race(TOOLS, console, arguments.quick)
    some = slice(1) if arguments.quick else slice(None)
    make = {
        "products": lambda: products(race, NETS[some]),
        "full_hessians": lambda: full_hessians(race, MATRIX_NETS[some]),
        "structure": lambda: structure(race, NETS[1]),
    }
    verdicts = []
    for name in arguments.tables:
        table = make[name]()
        facts = race.facts()  # asked for afterwards: libraries start their threads with the first work
        table.facts = facts if name != "structure" else facts[:1]
        for fact in table.facts:
            console.print(fact)
        table.show(console)
        table.write(arguments.output)  # table by table: an interrupt leaves what is there
        if arguments.readme:
            table.replace_in(arguments.readme)
        verdicts += [row[-1] for row in table.rows]
    race.close()
    console.print(f"{verdicts.count('yes')} of {len(verdicts)} bars met")


if __name__ == "__main__":
    main()

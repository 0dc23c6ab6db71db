"""Spectral densities by stochastic Lanczos quadrature, 10 probes x 90 steps: krylovh, matfree and curvlinops.

    python experiments/bench_density.py [-o bench.h5] [--readme experiments/README.md] [--peers NAME ...] [--quick]

Each tool works in a process of its own, one at a time; the times are medians over interleaved rounds, of calls after
the first, which compiles.  Of the ways that a tool has, the fastest counts; those without reorthogonalisation compete
too.  "of products" is the share of krylovh's time that its 90 block products take when they are run alone.
"""

import argparse
import os

import numpy as np
from peers.problem import Problem
from peers.race import Race, fastest_of
from rich.console import Console
from tables import WIDTH, ResultTable

TOOLS = {"krylovh": "krylovh_operator", "matfree": "matfree_lanczos", "curvlinops": "curvlinops_operator"}
NUM_PROBES, NUM_STEPS = 10, 90

# name, widths, samples, and how many times faster than matfree and curvlinops
NETS = [
    ("64-32-32-10", (64, 32, 32, 10), 1797, 3.0, 15.0),
    ("784-256-128-10", (784, 256, 128, 10), 1000, 2.0, 2.0),
]
SAME_MOMENTS = 0.2  # relative: the tools draw probes of their own


def compare(race, rounds, nets, dtypes):
    columns = {"net": "<", "dtype": "<", **dict.fromkeys(TOOLS, ".3f"), "best mode": "<", "of products": ".0%"}
    columns |= {"matfree ratio": ".2f", "bar": ".0f", "curvlinops ratio": ".1f", "bar ": ".0f", "met": "<"}
    table = ResultTable("densities", columns)
    for name, widths, num_samples, *bars in nets:
        for dtype in dtypes:
            race.console.print(f"density of {name}, {dtype}")
            reference = []

            def same(way, result, reference=reference):
                if way == "products":
                    return True
                reference[1:] = [result]
                return np.linalg.norm(result - reference[0]) <= SAME_MOMENTS * np.linalg.norm(reference[0])

            problem = Problem(name, widths, num_samples, dtype)
            contestants = race.enter(race.workers, "densities", problem, NUM_PROBES, NUM_STEPS, accept=same)
            race.run(contestants, rounds)
            ours = [c for c in contestants if c.tool == "krylovh" and c.way != "products"]
            products = next(c for c in contestants if c.way == "products")
            best = min(ours, key=lambda c: c.seconds)
            peers = [fastest_of(contestants, tool) for tool in ("matfree", "curvlinops")]
            ratios = [seconds / best.seconds for seconds in peers]
            met = "no" if any(ratio < bar for ratio, bar in zip(ratios, bars, strict=True)) else "yes"
            share = products.seconds / best.seconds
            figures = (ratios[0], bars[0], ratios[1], bars[1], met)
            table.rows.append((name, dtype, best.seconds, *peers, best.way, share, *figures))
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="bench.h5")
    parser.add_argument("--readme", help="a page whose table is replaced")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="CPUs that every tool is given (default: 2)")
    parser.add_argument("--peers", nargs="+", choices=list(TOOLS)[1:], default=list(TOOLS)[1:])
    parser.add_argument("--nets", nargs="+", choices=[net[0] for net in NETS], default=[net[0] for net in NETS])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "float64"], default=["float32", "float64"])
    parser.add_argument("--quick", action="store_true", help="one round on the smallest net")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    console = Console(width=WIDTH, highlight=False)
    tools = {tool: module for tool, module in TOOLS.items() if tool in ("krylovh", *arguments.peers)}
    race = Race(tools, console, arguments.quick)
    nets = [net for net in NETS if net[0] in arguments.nets]
    table = compare(race, arguments.rounds, nets[: 1 if arguments.quick else None], arguments.dtypes)
    table.facts = race.facts()
    race.close()
    table.show(console)
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()

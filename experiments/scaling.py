"""What a product costs, in time and memory, as a function of samples, parameters, vectors and ranks.

    .venv-mpi/bin/python experiments/scaling.py --readme experiments/README.md

The model.  A net with W weights (and as many parameters, nearly) on N samples, k vectors, R ranks of t threads:

    time    = (c1 W + c2 U) N k / (R t)  +  c3 k W  +  (c4 + c5 k W) ceil(log2 R)
    memory  = N d_0 s / R  +  m N U s / R  +  (2 + t (k + 1) + 4 k) W s      on each rank, s bytes per number

U is the number of units.  c1 is the time of the matrix products of one sample and weight, c2 of what is done with one
sample and unit, c3 what each rank does with whole vectors, c4 and c5 the start and the volume of a reduction.  Of the
units m = 4 arrays are kept, unless the limit of memory says that they are made anew in each product.  The constants are
fitted to runs on one and two ranks by least squares of relative errors, and the table says how far the model is from
each run.  What follows for W = 1e9 parameters and N = 1e9 samples is the model's word, on paper: nobody ran it here.

Also measured: two ranks of one thread against one rank with two, the time of which should be within 10 %.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.optimize import nnls
from tables import WIDTH, ResultTable

import krylovh
from krylovh import HessianOperator, Network
from krylovh.distributed import spread_over_ranks

# widths of the hidden layers, samples
NETS = (((64, 32, 32, 10), 20_000), ((784, 256, 128, 10), 4_000), ((784, 256, 128, 10), 16_000), ((512,) * 5, 2_000))
BLOCKS = (1, 8)
LAYOUTS = ((1, 1), (1, 2), (2, 1))  # ranks, threads of each
CORES_OF_A_NODE, MEMORY_OF_A_NODE = 64, 256e9


def measure(threads, seconds):
    """Time products on this rank; rank 0 prints seconds per product, one JSON object per line."""
    for widths, num_samples in NETS:
        rng = np.random.default_rng(0)
        net = Network(widths, "tanh")
        net = net.with_theta(net.random_theta(0).astype(np.float32))
        X = rng.standard_normal((num_samples, widths[0])).astype(np.float32)
        y = rng.integers(0, widths[-1], num_samples)
        objective = spread_over_ranks(net, X, y, loss="softmax_cross_entropy", threads=threads)
        H = HessianOperator(objective)
        for k in BLOCKS:
            V = rng.standard_normal((net.num_parameters, k)).astype(np.float32)
            H @ V  # compiles, and makes the linearisation
            times = []
            start = time.perf_counter()
            while objective.agree(time.perf_counter() - start < seconds):
                before = time.perf_counter()
                H @ V
                times.append(time.perf_counter() - before)
            median = objective.agree(float(np.median(times)))
            if objective.first_own_sample == 0:
                figures = {"W": net.num_parameters, "U": net.num_units, "N": num_samples, "k": k, "seconds": median}
                sys.stdout.write(json.dumps({"widths": "-".join(map(str, widths)), **figures}) + "\n")
                sys.stdout.flush()


def run(ranks, threads, seconds):
    """Return the figures of one layout, from processes of their own."""
    here = str(Path(__file__).resolve())
    command = [sys.executable, here, "--measure", str(threads), "--seconds", str(seconds)]
    if ranks > 1:
        mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
        command = [mpiexec, "-n", str(ranks), *command]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if finished.returncode:
        raise RuntimeError(finished.stderr)
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    return [{**line, "ranks": ranks, "threads": threads} for line in lines]


def terms(W, U, N, k, ranks, threads):
    """Return what the constants c1 to c5 of the time are multiplied by."""
    rounds, share = np.ceil(np.log2(ranks)), N * k / (ranks * threads)
    return np.array([share * W, share * U, k * W, rounds, rounds * k * W])


def fitted(figures):
    """Return the constants, least squares of relative errors, none of them negative."""
    rows = np.array([terms(f["W"], f["U"], f["N"], f["k"], f["ranks"], f["threads"]) / f["seconds"] for f in figures])
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    return nnls(rows / scale, np.ones(len(rows)))[0] / scale


def memory(W, N, k, ranks, threads, *, inputs, units, keeps=True, size=4):
    """Return bytes on each rank: samples, what is kept of the pass, and vectors."""
    samples = N * inputs * size / ranks
    kept = 4 * N * units * size / ranks if keeps else 0.0
    return samples + kept + (2 + threads * (k + 1) + 4 * k) * W * size


def text(seconds):
    """Return a time in words."""
    for bound, unit, name in ((1e-3, 1e-6, "us"), (1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if seconds < bound:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 3600:.3g} h"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=1.5, help="of products for one figure")
    parser.add_argument("--readme", help="page whose tables are renewed")
    parser.add_argument("-o", "--output", default="scaling.h5")
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.seconds)
        return
    console = Console(width=WIDTH)
    figures = [figure for layout in LAYOUTS for figure in run(*layout, arguments.seconds)]
    constants = fitted(figures)
    measured = ResultTable(
        "scaling",
        {
            "net": "<", "samples": ",d", "vectors": "d", "ranks x threads": "<", "ms": ".3f", "model ms": ".3f",
            "over one rank of 2": ".2f",
        },
        [
            "time = ({:.2e} W + {:.2e} U) N k / (R t) + {:.2e} k W + ({:.2e} + {:.2e} k W) ceil(log2 R) seconds".format(
                *constants
            ),
            f"krylovh {krylovh.__version__}",
        ],
    )  # fmt: skip
    two_threads = {(f["widths"], f["N"], f["k"]): f["seconds"] for f in figures if (f["ranks"], f["threads"]) == (1, 2)}
    for f in figures:
        model = float(terms(f["W"], f["U"], f["N"], f["k"], f["ranks"], f["threads"]) @ constants)
        ratio = f["seconds"] / two_threads[f["widths"], f["N"], f["k"]] if f["ranks"] == 2 else float("nan")
        layout = f"{f['ranks']} x {f['threads']}"
        measured.rows.append((f["widths"], f["N"], f["k"], layout, 1e3 * f["seconds"], 1e3 * model, ratio))
    paper = ResultTable(
        "extrapolation",
        {"parameters": ".0e", "samples": ".0e", "vectors": "d", "nodes": ",d", "product": ">", "GB per node": ",.0f",
         "fits": "<"},
        [f"Nodes of {CORES_OF_A_NODE} cores like those measured and {MEMORY_OF_A_NODE / 1e9:.0f} GB, one rank on each; "
         "eight equal layers, inputs of 1,000 numbers; linearisations made anew in each product (4/3 of the time)"],
    )  # fmt: skip
    for W, N in ((1e6, 1e6), (1e6, 1e9), (1e9, 1e6), (1e9, 1e9)):
        for nodes in (1, 64, 4096):
            seconds = float(terms(W, np.sqrt(8 * W), N, 1, nodes, CORES_OF_A_NODE) @ constants) * 4 / 3
            # lanes are as many as fit their sums into an eighth of the memory limit; then the BLAS does the threading
            lanes = int(max(1, min(CORES_OF_A_NODE, MEMORY_OF_A_NODE / 8 / (4 * W))))
            taken = memory(W, N, 1, nodes, lanes, inputs=1000, units=0, keeps=False)
            fits = "yes" if taken <= MEMORY_OF_A_NODE else "from files"
            paper.rows.append((W, N, 1, nodes, text(seconds), taken / 1e9, fits))
    for table in (measured, paper):
        table.show(console)
        table.write(arguments.output)
        if arguments.readme:
            table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()

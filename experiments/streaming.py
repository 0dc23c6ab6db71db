"""How fast products are whose samples are read from a file, and how much memory they take.

    python experiments/streaming.py [-o streaming.h5] [--samples 6000 19000 60000] [--limit 500]
        [--fashion-mnist FOLDER] [--npz nn-xxxlarge.npz]

Products with the exact Hessian, one vector at a time, of two nets: 784-256-128-10 on images of 8-bit pixels, from an
HDF5 dataset as they are and compressed, and one of 1,428,166 parameters on 25 numbers per sample.  *Rate* is relative
to the same products with everything in memory.  Every case runs in a process of its own; *memory* is what its peak
grew by from before the objective was built (kernels compiled) to the end.  *Slope* is that of the time of a product
against the number of samples, both in logarithms.

Images are random; ``--fashion-mnist`` takes them from the folder of Debian's package dataset-fashion-mnist.
``--npz`` takes the parameters of the larger net from a file of the neuralfoil wheel.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from krylovh import HessianOperator, Network, Objective

IMAGES, WIDE = "784-256-128-10", "25-[512]x6-198"
WIDTHS = {IMAGES: (784, 256, 128, 10), WIDE: (25, *[512] * 6, 198)}
CASES = {IMAGES: ("memory", "hdf5", "gzip", "memmap"), WIDE: ("memory", "hdf5")}


def write_data(folder, num_samples, fashion_mnist):
    """Write samples of both nets, in every form that is measured."""
    rng = np.random.default_rng(0)
    if fashion_mnist:
        images = idx_array(fashion_mnist / "train-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:num_samples]
        labels = idx_array(fashion_mnist / "train-labels-idx1-ubyte.gz", 8)[:num_samples]
    else:
        images = (rng.integers(0, 256, (num_samples, 784)) * (rng.random((num_samples, 784)) < 0.5)).astype(np.uint8)
        labels = rng.integers(0, 10, num_samples)
    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset(f"{IMAGES}/hdf5", data=images)
        file.create_dataset(f"{IMAGES}/gzip", data=images, chunks=(256, 784), compression="gzip")
        file[f"{IMAGES}/y"] = labels
        file[f"{WIDE}/hdf5"] = rng.standard_normal((num_samples, 25))
        file[f"{WIDE}/y"] = rng.standard_normal((num_samples, 198))
    np.save(folder / "images.npy", images)


def idx_array(path, header):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def net_of(name, npz):
    """A random net, or the one whose weights and biases are in a file by the names net.0.weight, net.0.bias, ..."""
    net = Network(WIDTHS[name], "tanh" if name == IMAGES else "silu")
    theta = net.random_theta(0)
    if name == IMAGES:
        for block in net.blocks:  # pixels are up to 255
            if block.layer == 1:
                theta[block.start : block.stop] /= 255
    elif npz:
        with np.load(npz) as file:
            layers = sorted({int(key.split(".")[1]) for key in file.files if key.endswith(".weight")})
            theta = np.concatenate([file[f"net.{i}.{part}"].ravel() for i in layers for part in ("weight", "bias")])
    return net.with_theta(theta)


def resident(what):
    """Bytes of this process in memory: "VmRSS" now, "VmHWM" at the peak (getrusage inherits that of the parent)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(what)))


def run(folder, net_name, form, num_samples, dtype, limit, npz, repetitions):
    """Measure one case; this process has done nothing else."""
    loss = "softmax_cross_entropy" if net_name == IMAGES else "squared_error"
    net = net_of(net_name, npz)
    tiny = Network((2, 2), "tanh")
    y = [0, 1] if net_name == IMAGES else np.eye(2)
    HessianOperator(Objective(tiny, np.eye(2), y, loss=loss, dtype=dtype)) @ np.ones(tiny.num_parameters)
    with h5py.File(folder / "data.h5", "r") as file:
        y = file[net_name]["y"][:num_samples]
        if form == "memmap":
            X = np.load(folder / "images.npy", mmap_mode="r")[:num_samples]
        else:
            X = file[net_name]["hdf5" if form == "memory" else form]
        v = np.random.default_rng(1).standard_normal(net.num_parameters).astype(dtype)
        before = resident("VmRSS")
        if form == "memory":
            X = X[:num_samples]
        objective = Objective(net, X, y, loss=loss, dtype=dtype, memory_limit=2**40 if form == "memory" else limit)
        H = HessianOperator(objective)
        H @ v, H @ v
        times = []
        for _ in range(repetitions):
            start = time.perf_counter()
            H @ v
            times.append(time.perf_counter() - start)
        plan = objective.plan()
        return {
            "seconds": float(np.median(times)), "memory": resident("VmHWM") - before, "plan": plan.peak,
            "kept": plan.partition.rows_of(plan.partition.num_kept) / num_samples,
        }  # fmt: skip


def in_a_process(*case):
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="streaming.h5")
    parser.add_argument("--samples", type=int, nargs="+", default=[6000, 19000, 60000])
    parser.add_argument("--limit", type=float, default=500, help="memory limit of what is read from files, in MB")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--nets", nargs="+", choices=WIDTHS, default=list(WIDTHS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--fashion-mnist", type=Path)
    parser.add_argument("--npz")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        folder, *case = json.loads(arguments.case)
        print(json.dumps(run(Path(folder), *case)))
        return
    table = Table("net", "dtype", "data", "samples", "ms per product", "rate", "kept", "memory MB", "plan MB", "slope")
    rows = []
    for name in arguments.nets:
        for dtype in arguments.dtypes:
            seconds = {}
            for num_samples in arguments.samples:
                with tempfile.TemporaryDirectory() as folder:
                    write_data(Path(folder), num_samples, arguments.fashion_mnist)
                    for form in CASES[name]:
                        limit = int(arguments.limit * 1e6)
                        found = in_a_process(
                            folder, name, form, num_samples, dtype, limit, arguments.npz, arguments.repetitions
                        )
                        times = seconds.setdefault(form, [])
                        times.append(found["seconds"])
                        rate = seconds["memory"][-1] / times[-1]
                        logs = np.log(arguments.samples[: len(times)]), np.log(times)
                        slope = np.polyfit(*logs, 1)[0] if len(times) > 1 else np.nan
                        memory, plan = found["memory"] / 1e6, found["plan"] / 1e6
                        rows.append(
                            (name, dtype, form, num_samples, 1e3 * times[-1], rate, found["kept"], memory, plan, slope)
                        )
                        table.add_row(
                            name, dtype, form, str(num_samples), f"{1e3 * times[-1]:.1f}", f"{rate:.0%}",
                            f"{found['kept']:.0%}", f"{memory:.0f}", f"{plan:.0f}", f"{slope:.3f}",
                        )  # fmt: skip
    Console(width=120).print(table)
    names = ["net", "dtype", "data", "samples", "ms_per_product", "rate", "kept", "memory_mb", "plan_mb", "slope"]
    with h5py.File(arguments.output, "a") as file:
        group = file.create_group(f"run_{len(file)}")
        for name, column in zip(names, zip(*rows, strict=True), strict=True):
            group[name] = np.array(column, dtype=h5py.string_dtype() if isinstance(column[0], str) else None)


if __name__ == "__main__":
    main()

"""What a checkpoint costs: the share of a run's time that its saves take, and how many there are.

    python experiments/bench_checkpoint.py [--seconds 20]

Each run is an ordinary one with ``checkpoint=`` at its default, long enough to tell the share.  The time of saves is
measured where they are made, so that other load on the machine does not count as overhead.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from krylovh import HessianOperator, Network, Objective, eigsh, hessian_matrix, minimize, spectral_density, trace
from krylovh.storage import checkpoint as storage

BOUND = 0.05


def measured(run, path):
    """Return the seconds of a run, those of its saves, and how many there were."""
    spent, real = [], storage.RunRecorder._save

    def timed(self, *args, **keywords):
        begin, before = time.perf_counter(), self._generation
        real(self, *args, **keywords)
        if self._generation > before:
            spent.append(time.perf_counter() - begin)

    storage.RunRecorder._save = timed
    try:
        begin = time.perf_counter()
        run(path)
        return time.perf_counter() - begin, sum(spent), len(spent)
    finally:
        storage.RunRecorder._save = real


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long each run takes")
    seconds = parser.parse_args().seconds
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5000, 64)), rng.integers(0, 10, 5000)
    net = Network((64, 128, 64, 10), "tanh")
    objective = Objective(net.with_theta(net.random_theta(0)), X, y, loss="softmax_cross_entropy", l2=1e-4)
    H = HessianOperator(objective)
    H @ np.ones(H.shape[0])  # compiles
    begin = time.perf_counter()
    for _ in range(5):
        H @ np.ones(H.shape[0])
    products = max(50, int(seconds * 5 / (time.perf_counter() - begin)))
    runs = {
        "eigsh": lambda path: eigsh(H, 10, tol=1e-12, rng=0, max_products=products, checkpoint=path),
        "trace": lambda path: trace(H, num_products=2 * products, rng=0, checkpoint=path),
        "spectral_density": lambda path: spectral_density(
            H, num_probes=max(2, products // 90), num_steps=90, rng=0, block_size=8, checkpoint=path
        ),
        "minimize": lambda path: minimize(objective, max_products=products, checkpoint=path),
        "hessian_matrix": lambda path: hessian_matrix(objective.subset(np.arange(1000)), checkpoint=path),
    }
    table = Table("run", "seconds", "saves", "seconds of saves", "share", f"at most {BOUND:.0%}")
    for name, run in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            total, spent, count = measured(run, Path(folder, "run.h5"))
        share = spent / total
        table.add_row(
            name, f"{total:.1f}", str(count), f"{spent:.2f}", f"{share:.1%}", "yes" if share <= BOUND else "no"
        )
    Console().print(table)


if __name__ == "__main__":
    main()

"""What the ranks run in the tests under mpiexec: ``mpiexec -n 2 python program.py CASE``."""

import errno
import os
import signal
import sys
import time

import numpy as np

from cases import problem
from krylovh import DistributedObjective, HessianOperator, ResultStore, eigsh, trace
from krylovh.distributed import RankGroups, world
from krylovh.storage import atomic


def spread(comm, objective, **changes):
    arguments = {"net": objective.net, "X": objective.X, "y": objective.y, "loss": objective.loss, "l2": 0.1}
    return DistributedObjective(**(arguments | changes), comm=comm, threads=1)


def answers(comm, path):
    """Value, gradient, eigenvalues and trace; in groups as well; rank 0 alone writes."""
    found = {}
    for num_samples in (1, 2, 23):
        objective, _, _ = problem(num_samples=num_samples, threads=1)
        there = spread(comm, objective)
        H = HessianOperator(there)
        pairs = eigsh(H, 4, tol=1e-12, rng=0)
        found[f"{num_samples}"] = np.array([there.value(), trace(H, num_products=9, rng=0).value, *pairs.eigenvalues])
        assert len({trace(H, num_products=6).seed for _ in there.ranks.gather(None)}) == comm.Get_size()
        told = there.ranks.gather(pairs.eigenvectors)
        assert all((vectors == told[0]).all() for vectors in told)
    groups = RankGroups(comm, comm.Get_size())
    own = spread(groups.comm, objective)
    found["groups"] = np.array(groups.map(lambda seed: eigsh(HessianOperator(own), 2, rng=seed).eigenvalues, [1, 2, 3]))
    there.ranks.on_first(lambda: ResultStore(path, "w").save("answers", found))


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def main(case, path):
    comm = world()
    rank = comm.Get_rank()
    if case == "answers":
        return answers(comm, path)
    objective, _, _ = problem(num_samples=9, threads=1)
    if case == "other weights":
        objective = objective.at(objective.net.theta + rank)
    elif case == "other data":
        objective = objective.like(objective.X + rank, objective.y)
    elif case == "nan":
        X = objective.X.copy()
        X[-1, 0] = np.nan
        spread(comm, objective, X=X)
    there = spread(comm, objective, **({"l2": 0.1 + rank} if case == "other settings" else {}))
    H = HessianOperator(there)
    for i in range(40):
        if rank == 1 and i == 20:
            if case == "raises":
                raise RuntimeError("a rank has a reason of its own")
            if case == "raises in product":
                H._passes.multiply = None
            if case == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if case == "exits":
                sys.exit(0)
            if case == "interrupted":
                os.kill(os.getpid(), signal.SIGINT)
        H @ np.ones(H.shape[0])
    if case == "disk full":
        atomic._write = no_space  # where a file is written
        try:
            there.ranks.on_first(lambda: ResultStore(path).save("a", np.ones(1)))
        except OSError as error:
            sys.stderr.write(f"rank {rank} sees error {error.errno}\n")
            sys.stderr.flush()
            there.ranks.gather(None)  # both have said so
            raise
    time.sleep(0.1 * rank)
    return None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)

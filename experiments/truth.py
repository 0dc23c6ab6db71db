"""A benchmark of truth: how often a solver reports success with a wrong answer.

    .venv-peers/bin/python experiments/truth.py --readme experiments/README.md

Every solver gets the same symmetric operators, whose spectra are known (``tests/zoo.py``), at several scales, dtypes
and seeds, is asked for the same tolerance, and is judged by the same measure, which is a hundred times looser:

eigenvalues   six largest; wrong if one of them is off by more than 100 tol |A|, or its vector's residual is more
solves        |b - A x| / |b| at most rtol; wrong if it is more than 100 rtol

Success is what the solver says of itself: its status, the absence of an exception, or of a warning.  A solver that says
nothing has said that all is well.  Peers that are not installed are left out, by name.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.linalg
from rich.console import Console
from rich.progress import track
from tables import WIDTH, ResultTable

import krylovh
from krylovh import Status

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

TOL = 1e-6
SLACK = 100.0  # what is wrong is wrong by this factor at least
K = 6
SCALES = (1.0, 1e-9, 1e6)


class NotConverged(Exception):
    """The solver says that it has not arrived."""


@dataclass(frozen=True)
class Solver:
    """A peer's function, and how it tells of success."""

    name: str
    says: str
    run: Callable[..., Any]


# -- eigenvalues: (operator, seed) -> values (k,), vectors (n, k) or None --------------------------------------------


def ours(A, seed):
    result = krylovh.eigsh(A, K, tol=TOL, rng=seed)
    if result.status != Status.CONVERGED or not result.set_verified:
        raise NotConverged
    return result.eigenvalues, result.eigenvectors


def arpack(A, seed):
    v0 = np.random.default_rng(seed).standard_normal(A.shape[0]).astype(A.dtype)
    return scipy.sparse.linalg.eigsh(A, K, which="LA", tol=TOL, v0=v0)


def lobpcg(A, seed):
    X = np.random.default_rng(seed).standard_normal((A.shape[0], K)).astype(A.dtype)
    return scipy.sparse.linalg.lobpcg(A, X, tol=TOL, maxiter=500)


@cache
def _compiled_lanczos(steps):
    import jax
    from matfree import decomp, eig

    jax.config.update("jax_enable_x64", True)
    lanczos = eig.eigh_partial(decomp.tridiag_sym(steps, reortho="full", custom_vjp=False))
    return jax.jit(lambda matrix, v0: lanczos(lambda v, M: M @ v, v0, matrix))


def matfree_lanczos(A, seed):
    n = A.shape[0]
    v0 = np.random.default_rng(seed).standard_normal(n).astype(A.dtype)
    values, vectors = _compiled_lanczos(min(n, 10 * K))(A.matmat(np.eye(n, dtype=A.dtype)), v0)
    top = np.argsort(np.asarray(values))[-K:]
    return np.asarray(values)[top], np.asarray(vectors)[top].T


def pyhessian_power(A, seed):
    import torch
    from pyhessian import hessian

    n, dtype = A.shape[0], torch.float64 if A.dtype == np.float64 else torch.float32
    matrix = torch.as_tensor(A.matmat(np.eye(n, dtype=A.dtype)))

    class Quadratic(torch.nn.Module):  # whose Hessian is A
        def __init__(self):
            super().__init__()
            self.theta = torch.nn.Parameter(torch.zeros(n, dtype=dtype))

        def forward(self, _):
            return 0.5 * self.theta @ (matrix @ self.theta)

    torch.manual_seed(seed)
    torch.set_default_dtype(dtype)
    found = hessian(Quadratic(), lambda output, _: output, data=(torch.zeros(1), torch.zeros(1)), cuda=False)
    values, vectors = found.eigenvalues(maxIter=100, tol=TOL, top_n=K)
    torch.set_default_dtype(torch.float32)
    order = np.argsort(values)
    return np.array(values)[order], np.column_stack([vectors[i][0].detach().numpy() for i in order])


EIGEN = (
    Solver("krylovh eigsh", "status and set_verified", ours),
    Solver("scipy eigsh", "exception", arpack),
    Solver("scipy lobpcg", "warning", lobpcg),
    Solver("matfree eigh_partial", "nothing", matfree_lanczos),
    Solver("PyHessian eigenvalues", "nothing", pyhessian_power),
)

# -- solves: (operator, b) -> x --------------------------------------------------------------------------------------


def our(name):
    def solve(A, b):
        result = getattr(krylovh, name)(A, b, rtol=TOL)
        if result.status != Status.CONVERGED:
            raise NotConverged
        return result.x

    return solve


def scipys(name):
    def solve(A, b):
        # 10 n iterations for cg, as is its default, and as many for minres
        x, info = getattr(scipy.sparse.linalg, name)(A, b.astype(A.dtype), rtol=TOL, maxiter=10 * len(b))
        if info:
            raise NotConverged
        return x

    return solve


def curvlinops_cg(A, b):
    import torch
    from curvlinops import CGInverseLinearOperator
    from curvlinops._torch_base import PyTorchLinearOperator

    n, matrix = len(b), torch.as_tensor(A.matmat(np.eye(len(b), dtype=A.dtype)))

    class Dense(PyTorchLinearOperator):
        SELF_ADJOINT = True
        device, dtype = matrix.device, matrix.dtype

        def _matmat(self, X):
            return [matrix @ X[0]]

    inverse = CGInverseLinearOperator(Dense([(n,)], [(n,)]), tolerance=TOL, max_iter=4 * n, eps=0.0)
    return (inverse @ torch.as_tensor(b.astype(A.dtype))).numpy()


@cache
def _compiled_cg():
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax.jit(lambda matrix, b: jax.scipy.sparse.linalg.cg(lambda v: matrix @ v, b, tol=TOL)[0])


def jax_cg(A, b):
    return np.asarray(_compiled_cg()(A.matmat(np.eye(len(b), dtype=A.dtype)), b.astype(A.dtype)))


SOLVES = (
    Solver("krylovh cg", "status", our("cg")),
    Solver("krylovh minres", "status", our("minres")),
    Solver("scipy cg", "info", scipys("cg")),
    Solver("scipy minres", "info", scipys("minres")),
    Solver("curvlinops CGInverse", "warning", curvlinops_cg),
    Solver("jax cg", "nothing", jax_cg),
)

# -- judgement -------------------------------------------------------------------------------------------------------


def eigenpairs_are_right(reference, found):
    """Compare with the known spectrum, and with products in float64."""
    values, vectors = (np.asarray(array, np.float64) for array in found)
    order = np.argsort(values)
    values, vectors = values[order], vectors[:, order]
    bound = SLACK * TOL * reference.norm
    if not np.abs(values - reference.eigenvalues[-K:]).max() <= bound:
        return False
    residuals = np.linalg.norm(reference.apply(vectors) - vectors * values, axis=0)
    lengths = np.linalg.norm(vectors, axis=0)
    return bool((residuals <= bound * lengths).all() and (np.abs(lengths - 1) <= 1e-2).all())


def solution_is_right(reference, b, x):
    with np.errstate(over="ignore", invalid="ignore"):
        residual = np.linalg.norm(b - reference.apply(np.asarray(x, np.float64)))
    return bool(residual <= SLACK * TOL * np.linalg.norm(b))


def answer_of(solver, *arguments):
    """Return what the solver found, or None where it says that it has not arrived; an ImportError passes."""
    quiet = StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(quiet), redirect_stderr(quiet), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if solver.says == "warning":
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", DeprecationWarning)
            return solver.run(*arguments)
    except ImportError:
        raise
    except Exception:  # whatever kind it is: the solver has said that something is wrong
        return None


class Tally:
    """How one solver did."""

    def __init__(self, solver):
        self.solver = solver
        self.tried = self.success = self.wrong = 0
        self.worst = {}

    def count(self, reference, found, is_right):
        """Take note of an answer, or of none."""
        self.tried += 1
        if found is None:
            return
        self.success += 1
        if not is_right(found):
            self.wrong += 1
            self.worst[reference.name] = self.worst.get(reference.name, 0) + 1

    def row(self, task):
        """Return the solver's row of the table."""
        often = sorted(self.worst, key=lambda name: -self.worst[name])[:3]
        share = 100 * self.wrong / max(self.success, 1)
        return (
            task, self.solver.name, self.solver.says, self.tried, self.success, self.wrong, share,
            ", ".join(f"{name} ({self.worst[name]})" for name in often) or "none",
        )  # fmt: skip


def cases(n, seeds):
    """Yield every operator of the zoo at every scale, dtype and seed."""
    for reference in zoo.zoo(n):
        for scale in SCALES:
            for dtype in (np.float64, np.float32):
                for seed in seeds:
                    yield reference.scaled(scale) if scale != 1.0 else reference, dtype, seed


def tallies(solvers, n, seeds, console, task):
    found = []
    for solver in solvers:
        tally = Tally(solver)
        try:
            for reference, dtype, seed in track(
                list(cases(n, seeds)), f"{task}, {solver.name}", console=console, transient=True
            ):
                A = reference.operator(dtype)
                if task == "eigenvalues":
                    answer = answer_of(solver, A, seed)
                    tally.count(reference, answer, lambda pairs, known=reference: eigenpairs_are_right(known, pairs))
                else:
                    b = np.random.default_rng(seed).standard_normal(n).astype(dtype).astype(np.float64)
                    answer = answer_of(solver, A, b)
                    tally.count(reference, answer, lambda x, known=reference, b=b: solution_is_right(known, b, x))
        except ImportError as error:
            console.print(f"{solver.name} is left out: {error}")
            continue
        found.append(tally)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=150, help="order of the operators")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", help="solvers whose name contains this")
    parser.add_argument("--readme", help="page whose table is renewed")
    parser.add_argument("-o", "--output", default="truth.h5")
    arguments = parser.parse_args()
    console = Console(width=WIDTH)
    columns = {
        "task": "<", "solver": "<", "tells by": "<", "tried": "d", "says success": "d", "wrong": "d", "wrong %": ".1f",
        "most often on": "<",
    }  # fmt: skip
    facts = [
        f"Operators of order {arguments.n}, each at scales {', '.join(f'{s:g}' for s in SCALES)}, in float64 and "
        f"float32, with {arguments.seeds} seeds; tolerance {TOL:g}, wrong beyond {SLACK:g} times that"
    ]
    table = ResultTable("truth", columns, facts)
    for task, solvers in (("eigenvalues", EIGEN), ("solve", SOLVES)):
        chosen = [solver for solver in solvers if not arguments.only or arguments.only in solver.name]
        for tally in tallies(chosen, arguments.n, range(arguments.seeds), console, task):
            table.rows.append(tally.row(task))
    table.show(console)
    table.write(arguments.output)
    if arguments.readme:
        table.replace_in(arguments.readme)


if __name__ == "__main__":
    main()

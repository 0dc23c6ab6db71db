"""krylovh itself, and the large matrix product that its rates are compared with."""

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

import krylovh
from krylovh import HessianOperator, Network, Objective
from krylovh.threads import thread_info

from .problem import Candidate, moments
from .trained import eigenpairs_of


def facts():
    info = thread_info()
    blas = "; ".join("{prefix} {version} {architecture}, {num_threads} threads".format_map(b) for b in info["blas"])
    return f"krylovh {krylovh.__version__}: {info['threads']} threads, Numba layer {info['layer']}; {blas}"


def objective_of(problem):
    X, labels, theta = problem.data()
    net = Network(problem.widths, "tanh", theta)
    return Objective(net, X, labels, loss="softmax_cross_entropy", dtype=problem.dtype)


def products(problem, k):
    operator = HessianOperator(objective_of(problem))
    V = problem.vectors(k).T
    if k == 1:
        v = V[:, 0].copy()
        return {"matvec": Candidate(lambda: operator.matvec(v))}
    return {"matmat": Candidate(lambda: operator.matmat(V), np.transpose)}


def hessians(problem):
    """The full matrix, and one matrix product of order 2000 in the BLAS that the kernels use, on all threads."""
    objective = objective_of(problem)
    objective.gradient()
    A, B = (np.asfortranarray(np.random.default_rng(0).random((2000, 2000)), problem.dtype) for _ in range(2))
    gemm = scipy.linalg.get_blas_funcs("gemm", (A, B))
    return {
        "hessian_matrix": Candidate(lambda: krylovh.hessian_matrix(objective)),
        "gemm": Candidate(lambda: gemm(1.0, A, B)),
    }


def densities(problem, num_probes, num_steps):
    """Spectral densities, and the products that they need."""
    operator = HessianOperator(objective_of(problem))
    V = problem.vectors(num_probes).T
    options = {"num_probes": num_probes, "num_steps": num_steps, "rng": 0}

    def density(mode):
        return lambda: krylovh.spectral_density(operator, reorthogonalize=mode, **options)

    def rules(density):
        return moments((density.nodes, density.weights))

    def products():
        for _ in range(num_steps):
            product = operator.matmat(V)
        return product

    return {mode: Candidate(density(mode), rules) for mode in ("partial", "full", "none")} | {
        "products": Candidate(products, np.transpose)
    }


def structure(problem):
    """What the structure of a dense net gives, and its units of cost: one product, and one gradient made afresh."""
    objective = objective_of(problem)
    theta = objective.net.theta
    operator, v = HessianOperator(objective), problem.vectors(1)[0]
    return {
        "product": Candidate(lambda: operator.matvec(v)),
        "hessian_diagonal": Candidate(lambda: krylovh.hessian_diagonal(objective)),
        "hessian_trace": Candidate(lambda: krylovh.hessian_trace(objective)),
        "gradient": Candidate(lambda: objective.at(theta).gradient()),
        "obd_diagonal": Candidate(lambda: krylovh.obd_diagonal(objective.at(theta))),
    }


def eigenpairs(problem, k):
    """The k largest eigenpairs: by eigsh, by eigsh in float32 and a refinement in float64, and by SciPy's eigsh."""

    def timed(dtype):
        operator = HessianOperator(objective_of(problem._replace(dtype=dtype)))
        return operator, lambda V: operator.matvec(V) if V.ndim == 1 else operator.matmat(V)

    own = [timed(problem.dtype)]

    def lanczos(A, tol):
        result = krylovh.eigsh(A, k, tol=tol, rng=0)
        return result.eigenvalues, result.eigenvectors

    def arpack(A, tol):
        return scipy.sparse.linalg.eigsh(
            A, k, which="LA", tol=tol, v0=np.random.default_rng(0).standard_normal(A.shape[0])
        )

    def refined(coarse, A):
        rough = krylovh.eigsh(coarse, k, tol=1e-6, rng=0)
        result = krylovh.refine_eigenpairs(A, rough, coarse=coarse, tol=1e-8, rng=0)
        return result.eigenvalues, result.eigenvectors

    if problem.dtype == "float32":
        return {"eigsh, tol 1e-6": eigenpairs_of(lambda A: lanczos(A, 1e-6), own)}
    return {
        "eigsh, tol 1e-9": eigenpairs_of(lambda A: lanczos(A, 1e-9), own),
        "eigsh in float32, refined": eigenpairs_of(refined, [timed("float32"), *own]),
        "SciPy's eigsh, tol 1e-6": eigenpairs_of(lambda A: arpack(A, 1e-6), own),
    }


def residuals(problem, rows):
    """Residual norms of rows (k, 3 + n) of eigenpairs, in float64."""
    operator = HessianOperator(objective_of(problem._replace(dtype="float64")))
    X = np.asfortranarray(rows[:, 3:].T)
    R = operator.matmat(X) - X * rows[:, 0]
    return {"residuals": Candidate(lambda: np.linalg.norm(R, axis=0))}

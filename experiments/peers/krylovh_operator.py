"""krylovh itself, and the large matrix product that its rates are compared with."""

import numpy as np
import scipy.linalg

import krylovh
from krylovh import HessianOperator, Network, Objective
from krylovh.threads import thread_info

from .problem import Candidate, moments


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

"""curvlinops: its Hessian as a linear operator, applied to a vector or to a matrix."""

from importlib.metadata import version

import numpy as np
import scipy.sparse.linalg
import torch
from curvlinops import HessianLinearOperator
from curvlinops.papyan2020traces.spectrum import fast_lanczos

from .problem import Candidate, moments
from .torch_model import describe, module_of, tensors
from .trained import eigenpairs_of


def facts():
    return f"curvlinops {version('curvlinops-for-pytorch')} on {describe()}"


def operator_of(problem, num_data):
    module, X, labels = module_of(problem)
    return HessianLinearOperator(
        module,
        torch.nn.CrossEntropyLoss(),
        list(module.parameters()),
        [(X, labels)],
        check_deterministic=False,
        num_data=num_data,
    )


def products(problem, k):
    operator = operator_of(problem, problem.num_samples)
    (V,) = tensors([problem.vectors(k).T])
    if k == 1:
        v = V[:, 0].contiguous()
        return {"operator @ vector": Candidate(lambda: operator @ v, lambda result: result.detach().numpy())}
    return {"operator @ matrix": Candidate(lambda: operator @ V, lambda result: result.detach().numpy().T)}


def densities(problem, num_probes, num_steps):
    """What its approximate spectra are made of, without the search for their ends: Lanczos from one probe at a time."""
    operator = operator_of(problem, problem.num_samples)

    def rules(runs):
        return moments(
            ([nodes.numpy() for nodes, _ in runs], [vectors[0].detach().numpy() ** 2 for _, vectors in runs])
        )

    return {"fast_lanczos": Candidate(lambda: [fast_lanczos(operator, num_steps) for _ in range(num_probes)], rules)}


def eigenpairs(problem, k):
    """The k largest eigenpairs by SciPy's eigsh, as curvlinops recommends."""
    operator = operator_of(problem, len(problem.data()[0])).to_scipy()
    start = np.random.default_rng(0).standard_normal(operator.shape[0])

    def solve(A):
        return scipy.sparse.linalg.eigsh(A, k, which="LA", tol=1e-6, v0=start)

    return {"SciPy's eigsh, tol 1e-6": eigenpairs_of(solve, [(operator, lambda V: operator @ V)])}

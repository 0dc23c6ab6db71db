"""curvlinops: its Hessian as a linear operator, applied to a vector or to a matrix."""

from importlib.metadata import version

import torch
from curvlinops import HessianLinearOperator
from curvlinops.papyan2020traces.spectrum import fast_lanczos

from .problem import Candidate, moments
from .torch_model import describe, module_of, tensors


def facts():
    return f"curvlinops {version('curvlinops-for-pytorch')} on {describe()}"


def operator_of(problem):
    module, X, labels = module_of(problem)
    return HessianLinearOperator(
        module,
        torch.nn.CrossEntropyLoss(),
        list(module.parameters()),
        [(X, labels)],
        check_deterministic=False,
        num_data=problem.num_samples,
    )


def products(problem, k):
    operator = operator_of(problem)
    (V,) = tensors([problem.vectors(k).T])
    if k == 1:
        v = V[:, 0].contiguous()
        return {"operator @ vector": Candidate(lambda: operator @ v, lambda result: result.detach().numpy())}
    return {"operator @ matrix": Candidate(lambda: operator @ V, lambda result: result.detach().numpy().T)}


def densities(problem, num_probes, num_steps):
    """What its approximate spectra are made of, without the search for their ends: Lanczos from one probe at a time."""
    operator = operator_of(problem)

    def rules(runs):
        return moments(
            ([nodes.numpy() for nodes, _ in runs], [vectors[0].detach().numpy() ** 2 for _, vectors in runs])
        )

    return {"fast_lanczos": Candidate(lambda: [fast_lanczos(operator, num_steps) for _ in range(num_probes)], rules)}

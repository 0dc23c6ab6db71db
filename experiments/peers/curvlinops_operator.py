"""curvlinops: its Hessian as a linear operator, applied to a vector or to a matrix."""

from importlib.metadata import version

import torch
from curvlinops import HessianLinearOperator

from .problem import Candidate
from .torch_model import describe, module_of, tensors


def facts():
    return f"curvlinops {version('curvlinops-for-pytorch')} on {describe()}"


def products(problem, k):
    module, X, labels = module_of(problem)
    operator = HessianLinearOperator(
        module,
        torch.nn.CrossEntropyLoss(),
        list(module.parameters()),
        [(X, labels)],
        check_deterministic=False,
        num_data=problem.num_samples,
    )
    (V,) = tensors([problem.vectors(k).T])
    if k == 1:
        v = V[:, 0].contiguous()
        return {"operator @ vector": Candidate(lambda: operator @ v, lambda result: result.detach().numpy())}
    return {"operator @ matrix": Candidate(lambda: operator @ V, lambda result: result.detach().numpy().T)}

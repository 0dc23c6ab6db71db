"""PyHessian: its product with the kept gradient of one batch; it has no blocks, so vectors go one by one."""

import warnings
from importlib.metadata import version

import torch
from pyhessian import hessian
from pyhessian.utils import hessian_vector_product

from .problem import Candidate
from .torch_model import describe, module_of, row_of, tensors


def facts():
    return f"PyHessian {version('pyhessian')} on {describe()}"


def products(problem, k):
    module, X, labels = module_of(problem)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using backward")  # it keeps the graph with backward(create_graph=True)
        kept = hessian(module, torch.nn.CrossEntropyLoss(), data=(X, labels), cuda=False)
    blocks = tensors(problem.split(problem.vectors(k)))
    single = [[block[i] for block in blocks] for i in range(k)]

    def product(v):
        return hessian_vector_product(kept.gradsH, kept.params, v)

    return {
        "hessian_vector_product": Candidate(
            lambda: [product(v) for v in single], lambda results: [row_of(result) for result in results]
        )
    }

"""torch's tape: the gradient is differentiated again, with the graph of the gradient kept between products."""

import torch

from .problem import Candidate, matrix_by_chunks
from .torch_model import describe as facts  # noqa: F401
from .torch_model import loss_of, row_of, rows_of, tensors


def kept_gradient(problem):
    loss, parameters = loss_of(problem)
    for parameter in parameters:
        parameter.requires_grad_()
    return torch.autograd.grad(loss(*parameters), parameters, create_graph=True), parameters


def products(problem, k):
    gradient, parameters = kept_gradient(problem)
    blocks = tensors(problem.split(problem.vectors(k)))
    single = [[block[i] for block in blocks] for i in range(k)]

    def product(v, **batched):
        return torch.autograd.grad(gradient, parameters, v, retain_graph=True, **batched)

    if k == 1:
        return {"double backward": Candidate(lambda: product(single[0]), row_of)}
    return {
        "double backward, one by one": Candidate(
            lambda: [product(v) for v in single], lambda results: [row_of(result) for result in results]
        ),
        "double backward, batched": Candidate(lambda: product(blocks, is_grads_batched=True), rows_of),
    }


def hessians(problem):
    gradient, parameters = kept_gradient(problem)

    def rows(units):
        blocks = tensors(problem.split(units))
        return rows_of(torch.autograd.grad(gradient, parameters, blocks, retain_graph=True, is_grads_batched=True))

    return matrix_by_chunks(problem.num_parameters, problem.dtype, {"double backward, batched": rows})

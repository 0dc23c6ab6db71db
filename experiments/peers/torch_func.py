"""torch.func: forward over reverse, the same linearised once and compiled, and the kept reverse over reverse."""

import warnings
from functools import partial

import torch
from torch.func import grad, jvp, linearize, vjp, vmap

from .problem import Candidate, matrix_by_chunks
from .torch_model import describe as facts  # noqa: F401
from .torch_model import loss_of, row_of, rows_of, tensors


def ways(problem):
    loss, parameters = loss_of(problem)
    gradient = grad(loss, argnums=tuple(range(len(parameters))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attempted to insert a get_attr Node")  # torch's own remark on its tracing
        _, linear = linearize(gradient, *parameters)
    _, transposed = vjp(gradient, *parameters)
    return {
        "jvp of grad": lambda *v: jvp(gradient, parameters, v)[1],
        "linearize of grad": linear,
        "vjp of grad": lambda *v: transposed(tuple(v)),
    }


def products(problem, k):
    torch.compiler.reset()  # what was compiled for other nets counts against a limit
    blocks, rows = tensors(problem.split(problem.vectors(k))), rows_of
    functions = ways(problem)
    if k == 1:
        blocks, rows = [block[0] for block in blocks], row_of
    else:
        functions = {f"{name}, vmap": vmap(way) for name, way in functions.items()}
    linear = next(name for name in functions if name.startswith("linearize"))
    functions[f"{linear}, compiled"] = torch.compile(functions[linear])
    return {name: Candidate(partial(function, *blocks), rows) for name, function in functions.items()}


def hessians(problem):
    def rows(way):
        batched = vmap(way)
        return lambda units: rows_of(batched(*tensors(problem.split(units))))

    chunked = {f"{name}, vmap": rows(way) for name, way in ways(problem).items()}
    return matrix_by_chunks(problem.num_parameters, problem.dtype, chunked)

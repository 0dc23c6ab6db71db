"""torch.func: forward over reverse, the same linearised once, and reverse over reverse with its graph kept."""

from torch.func import grad, jvp, linearize, vjp, vmap

from .problem import Candidate, matrix_by_chunks
from .torch_model import describe as facts  # noqa: F401
from .torch_model import loss_of, row_of, rows_of, tensors


def ways(problem):
    loss, parameters = loss_of(problem)
    gradient = grad(loss, argnums=tuple(range(len(parameters))))
    _, linear = linearize(gradient, *parameters)
    _, transposed = vjp(gradient, *parameters)
    return {
        "jvp of grad": lambda *v: jvp(gradient, parameters, v)[1],
        "linearize of grad": linear,
        "vjp of grad": lambda *v: transposed(tuple(v)),
    }


def candidate(way, blocks, rows):
    return Candidate(lambda: way(*blocks), rows)


def products(problem, k):
    blocks = tensors(problem.split(problem.vectors(k)))
    if k == 1:
        v = [block[0] for block in blocks]
        return {name: candidate(way, v, row_of) for name, way in ways(problem).items()}
    return {f"{name}, vmap": candidate(vmap(way), blocks, rows_of) for name, way in ways(problem).items()}


def hessians(problem):
    def rows(way):
        batched = vmap(way)
        return lambda units: rows_of(batched(*tensors(problem.split(units))))

    chunked = {f"{name}, vmap": rows(way) for name, way in ways(problem).items()}
    return matrix_by_chunks(problem.num_parameters, problem.dtype, chunked)

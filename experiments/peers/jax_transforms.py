"""JAX, compiled: forward over reverse, the same linearised once, and reverse over reverse with its residuals kept."""

import jax
import jax.numpy as jnp
import numpy as np

from .problem import Candidate, matrix_by_chunks

jax.config.update("jax_enable_x64", True)


def facts():
    return f"jax {jax.__version__}, devices {jax.devices()}, as many XLA threads as CPUs given"


def loss(parameters, X, labels):
    z = X
    *hidden, (weight, bias) = zip(parameters[::2], parameters[1::2], strict=True)
    for w, b in hidden:
        z = jnp.tanh(z @ w.T + b)
    log_probabilities = jax.nn.log_softmax(z @ weight.T + bias)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()


def ways(problem):
    """Return each way as a function to be mapped and compiled, and the arrays that it keeps.

    They are arguments, since constants of that size slow the compiler down.
    """
    X, labels, theta = problem.data()
    X, labels = jnp.asarray(X), jnp.asarray(labels)
    parameters = [jnp.asarray(block) for block in problem.split(theta)]

    def gradient(parameters):
        return jax.grad(loss)(parameters, X, labels)

    def jvp_of_grad(point, v):
        parameters, X, labels = point
        return jax.jvp(lambda p: jax.grad(loss)(p, X, labels), (parameters,), (v,))[1]

    _, linear = jax.linearize(gradient, parameters)
    _, transposed = jax.vjp(gradient, parameters)
    return {
        "jvp of grad": (jvp_of_grad, (parameters, X, labels)),
        "linearize of grad": (lambda linear, v: linear(v), linear),
        "vjp of grad": (lambda transposed, v: transposed(v)[0], transposed),
    }


def rows_of(blocks):
    return np.concatenate([np.asarray(block).reshape(len(block), -1) for block in blocks], axis=1)


def row_of(blocks):
    return np.concatenate([np.ravel(block) for block in blocks])


def candidate(function, kept, v, rows):
    return Candidate(lambda: jax.block_until_ready(function(kept, v)), rows)


def products(problem, k):
    blocks = [jnp.asarray(block) for block in problem.split(problem.vectors(k))]
    if k == 1:
        v = [block[0] for block in blocks]
        return {name: candidate(jax.jit(way), kept, v, row_of) for name, (way, kept) in ways(problem).items()}
    return {
        f"{name}, vmap": candidate(jax.jit(jax.vmap(way, (None, 0))), kept, blocks, rows_of)
        for name, (way, kept) in ways(problem).items()
    }


def hessians(problem):
    def rows(way, kept):
        batched = jax.jit(jax.vmap(way, (None, 0)))
        return lambda units: rows_of(batched(kept, problem.split(units)))

    chunked = {f"{name}, vmap": rows(way, kept) for name, (way, kept) in ways(problem).items()}
    return matrix_by_chunks(problem.num_parameters, problem.dtype, chunked)

"""matfree: its tridiagonalisation of JAX's products, mapped over the probes and compiled."""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matfree import decomp

from . import jax_transforms
from .problem import Candidate, moments


def facts():
    return f"matfree {version('matfree')} on {jax_transforms.facts()}"


def densities(problem, num_probes, num_steps):
    probes = problem.vectors(num_probes)
    probes = jnp.asarray(probes / np.linalg.norm(probes, axis=1, keepdims=True))
    _, unravel = ravel_pytree([jnp.asarray(block) for block in problem.split(np.zeros_like(probes[0]))])

    def candidate(way, kept, reortho):
        tridiagonalize = decomp.tridiag_sym(num_steps, reortho=reortho, custom_vjp=False)

        def rule(kept, v):
            def product(x, kept):
                return ravel_pytree(way(kept, unravel(x)))[0]

            nodes, vectors = jnp.linalg.eigh(tridiagonalize(product, v, kept).J_small)
            return nodes, vectors[0] ** 2

        function = jax.jit(jax.vmap(rule, (None, 0)))
        return Candidate(lambda: jax.block_until_ready(function(kept, probes)), moments)

    return {
        f"{name}, reortho={reortho}": candidate(way, kept, reortho)
        for name, (way, kept) in jax_transforms.ways(problem).items()
        for reortho in ("full", "none")
    }

"""The state of a search as arrays and numbers, from which another process goes on.

What comes back from a file is looked at before it is used: the basis must be orthonormal, and one product, with a
combination ``V s`` of its vectors, must be what the relation ``A V = V T + X K + r b'`` says.  A single wrong entry
would spoil both.  That product is not counted: it belongs to reading.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.blas import one_blas_thread
from krylovh.krylov.block import BlockLanczosFactorization
from krylovh.krylov.factorization import LanczosFactorization, RitzPairs
from krylovh.krylov.pairs import Pairs
from krylovh.krylov.position import Position
from krylovh.krylov.search import Factorization, Search
from krylovh.recording import generator_state, restored

Array = NDArray[np.float64]

__all__ = ["check_pairs", "pairs_state", "restore_pairs", "restore_search", "search_state"]

#: largest inner product of basis vectors, and relative error of the relation, in units of rounding
_SLACK = 1e4


def search_state(search: Search) -> dict[str, Any]:
    """Return everything that the rest of a search depends on.  Arrays are views, to be copied before it goes on."""
    position = search.position
    state: dict[str, Any] = {
        "stage": search.stage,
        "rng": generator_state(search.rng),
        "num_products": search.A.operator.num_products,
        "exponent": search.A.exponent,
        "norm": search.norm,
        "num_restarts": search.num_restarts,
        "product_error": search.product_error,
        **{f"position_{name}": getattr(position, name) for name in Position.__dataclass_fields__},
        **pairs_state("found", search.found),
        **pairs_state("base", search.base),
    }
    if search.last is not None and search.stage == "compare":
        ritz, catch = search.last
        state |= {"last_values": ritz.values, "last_coordinates": ritz.coordinates, "last_catch": catch}
        state["last_residual_norms"] = ritz.residual_norms
    for name, process in _processes(search).items():
        state |= {f"{name}_{part}": value for part, value in _process_state(process).items()}
    return state


def _processes(search: Search) -> dict[str, Factorization]:
    processes = {"process": search.process, "first": search.first, "second": search.second}
    return {name: process for name, process in processes.items() if process is not None}


def restore_search(search: Search, state: dict[str, Any]) -> None:
    """Put a search, newly made, where another one was.

    Raises
    ------
    ValueError
        The state contradicts the operator, or itself.
    """
    search.stage = state["stage"]
    restored(search.rng, state["rng"])
    search.norm, search.num_restarts = state["norm"], state["num_restarts"]
    search.product_error = state["product_error"]
    search.position = Position(**{name: state[f"position_{name}"] for name in Position.__dataclass_fields__})
    search.found, search.base = restore_pairs("found", state), restore_pairs("base", state)
    if "last_values" in state:
        ritz = RitzPairs(state["last_values"], state["last_coordinates"], state["last_residual_norms"])
        search.last = ritz, state["last_catch"].astype(np.intp)
    for name in ("process", "first", "second"):
        parts = {key.removeprefix(f"{name}_"): value for key, value in state.items() if key.startswith(f"{name}_")}
        if parts:
            process = _restored_process(search, parts)
            _check(search, process)
            setattr(search, name, process)
    check_pairs(search.found, search.A.eps)


def pairs_state(name: str, pairs: Pairs) -> dict[str, Any]:
    """Return pairs as arrays.

    Examples
    --------
    >>> sorted(pairs_state("found", Pairs.none(3)))
    ['found_products', 'found_residual_norms', 'found_values', 'found_vectors']
    """
    return {
        f"{name}_values": pairs.values,
        f"{name}_vectors": pairs.vectors,
        f"{name}_products": pairs.products,
        f"{name}_residual_norms": pairs.residual_norms,
    }


def restore_pairs(name: str, state: dict[str, Any]) -> Pairs:
    """Return pairs from arrays.

    Examples
    --------
    >>> restore_pairs("found", pairs_state("found", Pairs.none(3))).vectors.shape
    (3, 0)
    """
    values, vectors, products, norms = (
        state[f"{name}_{part}"] for part in ("values", "vectors", "products", "residual_norms")
    )
    return Pairs(values, vectors, products, norms)


def check_pairs(pairs: Pairs, eps: float) -> None:
    """Refuse vectors that are not orthonormal.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> X = np.eye(3)[:, :2] * [1.0, 1.1]
    >>> check_pairs(Pairs(np.ones(2), X, X, np.zeros(2)), 2.0**-52)
    Traceback (most recent call last):
        ...
    ValueError: checkpoint holds eigenvectors that are not orthonormal: the Gram matrix is off by 2.1e-01
    """
    error = _gram_error(pairs.vectors)
    if not error <= _SLACK * eps:
        raise ValueError(
            f"checkpoint holds eigenvectors that are not orthonormal: the Gram matrix is off by {error:.1e}"
        )


def _gram_error(V: Array) -> float:
    with one_blas_thread(V.nbytes):
        return float(np.abs(V.T @ V - np.eye(V.shape[1])).max(initial=0.0))


def _process_state(process: Factorization) -> dict[str, Any]:
    m, last = process.size, process.num_locked + process.size
    state: dict[str, Any] = {
        "basis": process._basis[:, process.num_locked : last],
        "T": process.T,
        "K": process._K[:, :m],
        "locked": process.num_locked,
        "norm": process.norm,
        "noise": process.noise,
        "capacity": process.capacity,
    }
    if isinstance(process, BlockLanczosFactorization):
        return {**state, "Q": process.Q, "S": process.S, "block_size": process.block_size}
    return {
        **state,
        "residual": process.residual,
        "beta": process.beta,
        "invariant": process.invariant,
        "tail": process._tail,
    }


def _restored_process(search: Search, state: dict[str, Any]) -> Factorization:
    A, basis = search.A, state["basis"]
    m = basis.shape[1]
    if search.stage == "verify":
        locked = np.hstack([search.deflated, search.base.vectors])
    elif search.first is not None:
        locked = np.hstack([search.deflated, search.first.V])
    else:
        locked = search.deflated
    if locked.shape[1] != state["locked"]:
        raise ValueError("checkpoint holds a process that is deflated by other vectors")
    options: dict[str, Any] = {"locked": locked, "rng": search.rng, "eps": A.eps, "storage": search.storage}
    # a larger request may come with a larger basis; a process that verifies has the room that is left
    capacity = max(int(state["capacity"]), min(search.capacity, A.n - locked.shape[1]))
    process: Factorization
    if "Q" in state:
        process = BlockLanczosFactorization(A, A.n, capacity, np.ones((A.n, 1)), **options)
        process.Q, process.S = state["Q"], state["S"]
        process.block_size = state["block_size"]
    else:
        process = LanczosFactorization(A, A.n, capacity, np.array(state["residual"]), **options)
        process.beta, process.invariant = state["beta"], state["invariant"]
        process._tail = state["tail"]
    process._basis[:, process.num_locked : process.num_locked + m] = basis
    process._T[:m, :m] = state["T"]
    process._K[:, :m] = state["K"]
    process.norm, process.noise, process.size = state["norm"], state["noise"], m
    return process


def _check(search: Search, process: Factorization) -> None:
    A, m = search.A, process.size
    if m == 0:
        return
    everything = process._basis[:, : process.num_locked + m]
    error = _gram_error(everything)
    if not error <= _SLACK * np.finfo(np.float64).eps * np.sqrt(m):
        raise ValueError(f"checkpoint holds a basis that is not orthonormal: its Gram matrix is off by {error:.1e}")
    # signs that no file can foresee would not be reproducible; cosines of whole numbers have no pattern either
    s = np.cos(np.arange(1.0, m + 1.0))
    s /= np.linalg.norm(s)
    operator = A.operator
    count, budget = operator.num_products, operator.max_products
    operator.max_products = None
    try:
        product = A(process.V @ s)
    finally:
        operator.num_products, operator.max_products = count, budget
    expected = process.products(s[:, None])[:, 0]
    error = float(np.linalg.norm(product - expected))
    allowed = _SLACK * A.eps * max(process.norm, search.norm) + np.sqrt(m) * process.noise
    if not error <= allowed:
        raise ValueError(
            f"checkpoint holds a basis that is not one of this operator: A V = V T + r b' is off by {error:.1e}"
        )

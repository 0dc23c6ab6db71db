"""The stages of eigsh on one operator, each of which may be stopped and leaves what was found."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.basis import BasisStorage
from krylovh.krylov.dense import complete_eigenpairs
from krylovh.krylov.ends import Request, preference
from krylovh.krylov.gaps import gaps_to_interval
from krylovh.krylov.interval import IntervalSearch
from krylovh.krylov.pairs import Pairs
from krylovh.krylov.scaling import ScaledOperator, ldexp
from krylovh.krylov.search import ROUNDING, Search
from krylovh.krylov.search_state import restore_search, search_state
from krylovh.krylov.start import FirstProducts, first_products, random_stream
from krylovh.krylov.stops import STOPS, is_final, status_of
from krylovh.krylov.symmetric import NonFiniteProduct, SymmetricOperator
from krylovh.progress import ProgressFunction
from krylovh.results import EigenResult, Status

Array = NDArray[np.float64]

__all__ = ["complete_spectrum", "filtered_stages", "krylov_stages"]


def complete_spectrum(
    operator: SymmetricOperator,
    request: Request,
    seed: int,
    report: ProgressFunction,
    deflated: Array,
    interval: tuple[float, float] | None = None,
) -> EigenResult:
    """Stages 1 to 3 in one: the whole spectrum, and of it the wanted pairs, or at most k in an interval."""
    too_many = False

    def choose(values: Array, A: ScaledOperator) -> NDArray[np.intp]:
        nonlocal too_many
        if interval is None:
            return preference(values, request.which)[: request.k]
        a, b = (float(ldexp(end, -A.exponent)) for end in interval)
        rounding = 10 * A.eps * float(np.abs(values).max())
        inside = np.flatnonzero((values >= a - rounding) & (values <= b + rounding))
        too_many = inside.size > request.k
        return inside[: request.k]

    try:
        rng = random_stream(seed, "probe")
        A, norm, pairs, gaps = complete_eigenpairs(operator, choose, rng, report, deflated)
    except STOPS as stop:
        return _nothing(operator, request, seed, stop)
    if interval is not None:
        request = Request(pairs.values.size + too_many, request.which, request.tol)
    stopped = Status.BUDGET if too_many else None
    return eigen_result(A, request, seed, pairs, norm, gaps, stopped, set_verified=not too_many)


def krylov_stages(
    operator: SymmetricOperator,
    request: Request,
    seed: int,
    report: ProgressFunction,
    start: Array | None,
    block: int,
    capacity: int,
    max_restarts: int,
    verify: bool,
    *,
    deflated: Array,
    storage: BasisStorage,
    max_seconds: float | None = None,
) -> EigenResult:
    """Stages 1 to 3 by Krylov processes, each of which may end in an exception that leaves a partial result."""
    operator.reserved = request.k  # for the residuals of whatever will have been found
    try:
        first = _recorded_first_products(operator, start, block, deflated, seed)
    except STOPS as stop:
        return _nothing(operator, request, seed, stop)
    record, state = operator.record, operator.record.state("search")
    A, directions = first.A, random_stream(seed, "direction")
    search = Search(A, request, capacity, max_restarts, directions, report, deflated=deflated, storage=storage)
    search.save = lambda: record.offer("search", current)
    stopped = rest = None

    def current() -> dict[str, Any]:
        return {**search_state(search), "k": request.k, "tol": request.tol}

    try:
        if state is not None:
            operator.num_products = state["num_products"]
            _go_on(search, state, request)
        elif block == 1:
            search.find(first.block[:, 0], None if first.products is None else first.products[:, 0])
        else:
            search.find_by_blocks(first.block, first.pairs())
        if verify:
            search.verify(first.probe, first.probe_product)
    except STOPS as stop:
        stopped = status_of(stop)
        if stopped is not Status.INTERRUPTED:  # which comes anywhere, also where the state is not consistent
            rest = current()
        search.close()
    pairs = search.found
    gaps = np.zeros(pairs.values.size)
    if search.verified:
        gaps = gaps_to_interval(pairs.values, pairs.residual_norms, *search.rest)
    result = eigen_result(
        A,
        request,
        seed,
        pairs,
        search.norm,
        gaps,
        stopped,
        search.verified,
        search.num_restarts,
        search.product_error,
    )
    if rest is None and stopped is None:
        search.stage, search.process, search.first, search.second = "done", None, None, None
        rest = current()
    if is_final(result.status, max_seconds):
        record.finish(result, "search", lambda: rest or {})
    elif rest is not None:
        record.offer("search", lambda: rest, force=True)
    return result


def _go_on(search: Search, state: dict[str, Any], request: Request) -> None:
    """Go on from a recorded state, perhaps with a larger request."""
    restore_search(search, state)
    if (state["k"], state["tol"]) == (request.k, request.tol):
        search.go_on()
        return
    if search.first is not None or (search.process is not None and search.stage != "verify"):
        search.ask_for_more()
    else:  # the pairs are the start of a process: their residuals lead on
        known = search.found
        search.start_over()
        search.find_by_blocks(known.vectors[:, :1], known)


def _recorded_first_products(
    operator: SymmetricOperator, start: Array | None, block: int, deflated: Array, seed: int
) -> FirstProducts:
    def compute() -> tuple[Array, ...]:
        first = first_products(operator, start, block, deflated, seed)
        products = np.zeros((operator.n, 0)) if first.products is None else first.products
        return first.block, products, first.probe, first.probe_product, np.array([float(first.A.exponent)])

    vectors, products, probe, probe_product, exponent = operator.record.unit("first products", operator, compute)
    A = ScaledOperator(operator, int(exponent[0]))
    return FirstProducts(A, vectors, products if products.shape[1] else None, probe, probe_product)


def filtered_stages(
    operator: SymmetricOperator,
    request: Request,
    seed: int,
    report: ProgressFunction,
    interval: tuple[float, float],
    max_restarts: int,
    verify: bool,
    deflated: Array,
    storage: BasisStorage,
) -> EigenResult:
    """Return all eigenpairs in an interval, by a polynomial filter."""
    operator.reserved = 2 * request.k
    try:
        first = _recorded_first_products(operator, None, 1, deflated, seed)
    except STOPS as stop:
        return _nothing(operator, request, seed, stop)
    a, b = (float(ldexp(end, -first.A.exponent)) for end in interval)
    search = IntervalSearch(first, a, b, request, max_restarts, seed, report, deflated, storage)
    stopped = None
    try:
        search.find(verify)
    except STOPS as stop:
        stopped = status_of(stop)
    try:
        search.close()
    except NonFiniteProduct:
        stopped = Status.NONFINITE
    pairs = search.found
    # as many as there are, or more than there can be where some are missing
    counted = Request(pairs.values.size if stopped is None else request.k + 1, request.which, request.tol)
    return eigen_result(
        first.A, counted, seed, pairs, search.norm, search.gaps(), stopped, search.verified, search.num_restarts
    )


def _nothing(operator: SymmetricOperator, request: Request, seed: int, stop: BaseException) -> EigenResult:
    """Return the result of a computation that was stopped before it had any."""
    A = ScaledOperator(operator, 0)
    return eigen_result(A, request, seed, Pairs.none(operator.n), 0.0, np.zeros(0), status_of(stop))


def eigen_result(
    A: ScaledOperator,
    request: Request,
    seed: int,
    pairs: Pairs,
    norm: float,
    gaps: Array,
    stopped: Status | None = None,
    set_verified: bool = False,
    num_restarts: int = 0,
    product_error: float = 0.0,
) -> EigenResult:
    """Return the result in the units of ``A``, with the status that the residuals deserve."""
    converged = pairs.residual_norms <= request.tol * norm
    status = stopped or Status.STAGNATED
    if status in (Status.BUDGET, Status.STAGNATED) and converged.size == request.k and converged.all():
        status = Status.CONVERGED
    X = np.asfortranarray(pairs.vectors)
    gram = X.T @ X
    return EigenResult(
        eigenvalues=A.unscale(pairs.values),
        eigenvectors=X,
        residual_norms=A.unscale(pairs.residual_norms),
        converged=converged,
        status=status,
        set_verified=set_verified,
        orthogonality=float(np.abs(gram - np.eye(len(gram))).max(initial=0.0)),
        operator_norm=float(ldexp(norm, A.exponent)),
        num_products=A.operator.num_products,
        num_restarts=num_restarts,
        which=request.which,
        tol=request.tol,
        seed=seed,
        gaps=A.unscale(gaps),
        rounding=float(ldexp(ROUNDING * A.eps * norm + np.sqrt(request.k) * product_error, A.exponent)),
    )

"""The trace of a symmetric operator from random probes: four methods, and which one to take.

=============  =====================  ===============================  =============================================
method         products per probe     error for m products             for
=============  =====================  ===============================  =============================================
"hutchinson"   1                      ``|A|_F / sqrt(m)``              anything; no memory; quadratic forms suffice
"hutch++"      1, and 2 per sketched  ``|A - A_k|_F / sqrt(m)``,       decaying spectra; a simple interval, since its
               vector                 k = m/3                          samples are independent
"xtrace"       2                      the same with k = m/2            decaying spectra: the best for indefinite A
"xnystrace"    1                      the same with k = m, squared     positive semidefinite A: the best there is
                                      decay
=============  =====================  ===============================  =============================================

``A_k`` is the best approximation of rank k.
"""

from os import PathLike
from typing import Any, Literal, cast, get_args

import numpy as np

from krylovh.krylov.stops import is_final
from krylovh.krylov.symmetric import resolve_seed
from krylovh.progress import Progress, reporting
from krylovh.recording import CheckpointLike, recording
from krylovh.results import Estimate
from krylovh.stochastic.forms import QuadraticForms
from krylovh.stochastic.hutchinson import PILOT, Hutchinson, HutchPlusPlus, exact_trace
from krylovh.stochastic.stopping import stopping
from krylovh.stochastic.targets import Target, checked_block_size, checked_budget
from krylovh.stochastic.xtrace import XTrace

Method = Literal["hutchinson", "hutch++", "xtrace", "xnystrace"]
TraceDistribution = Literal["rademacher", "gaussian"]

#: Fewest products of each method.
LEAST = {"hutchinson": 1, "hutch++": 3, "xtrace": 4, "xnystrace": 2}

__all__ = ["trace"]


def trace(
    A: Any,
    *,
    method: Method = "hutchinson",
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    rng: int | np.random.Generator | None = None,
    distribution: TraceDistribution = "rademacher",
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> Estimate:
    """Estimate ``tr A`` with a standard error and a 95 % interval, from a budget of products or for a target error.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.  An operator that has a method ``quadratic_form(V)``, which returns ``v' A v`` for the columns v of
        ``V`` as an array of shape (k,), is asked for that instead of a product where no product is needed.
    method : {"hutchinson", "hutch++", "xtrace", "xnystrace"}
        See above.  "xnystrace" needs a positive semidefinite ``A``.  All but "hutchinson" compute the trace exactly,
        from n unit vectors, where the budget is n or more, and hold up to ``24 n m`` bytes for m products.
    num_products : int, optional
        Products to spend, at least 1, 3, 4 or 2 in the order of the methods; 100 by default, or no limit if there is a
        target.  "xtrace" leaves an odd one unused.
    rtol, atol : float, optional
        Target for half of the length of the interval, relative to the value, and absolute; one of them suffices.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    distribution : {"rademacher", "gaussian"}
        Entries +-1 with equal odds (smaller variance, none at all for a diagonal ``A``), or standard normal; for the
        samples of the first two methods.  The other two need, and take, normal probes.
    block_size : int, optional
        Probes per block product, 16 by default.  The estimate does not depend on it beyond rounding.
    max_seconds : float, optional
        No product is started later than this.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)`` after every block.
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on if this one is stopped, at any moment; ``num_products`` may be larger
        then.

    Returns
    -------
    Estimate
        ``interval`` covers the trace in 95 % of all cases: by Student's t, corrected for skewness, from independent
        samples ("hutchinson", "hutch++"), or with the covariance of the samples ("xtrace", "xnystrace"), in each case
        widened by the rounding of the products.  Seen to hold within 1.5 % from 20 samples on: 20, 60, 40 and 20
        products.  Below, skewed and quickly decaying spectra cost up to 4 %.  From a single sample the standard error
        is NaN and the interval the whole line; without any finished product the value is NaN as well.

        ``status`` is CONVERGED when all products were spent, or the target was reached; else BUDGET, INTERRUPTED
        (Ctrl-C), NONFINITE (a product had NaN or infinity) or NEGATIVE_CURVATURE ("xnystrace" met an indefinite
        operator), and the estimate is the one of the blocks before.  For the last two methods that is Hutchinson's.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range and operators that are not square and real.

    Notes
    -----
    Looking at an interval again and again until it is short enough spoils it: it is then short because its deviation
    happens to be small.  So where a target is to be reached, the error is measured on a pilot whose size is fixed
    (Stein 1945), or on a batch that is not used for the estimate.  Where more than n products would be needed, n unit
    vectors give the exact trace.

    References
    ----------
    Hutchinson (1990), A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines.
    Meyer, Musco, Musco and Woodruff (2021), Hutch++: optimal stochastic trace estimation.
    Epperly, Tropp and Webber (2024), XTrace: making the most of every sample in stochastic trace estimation.
    Avron and Toledo (2011), Randomized algorithms for estimating the trace of an implicit symmetric matrix.

    Examples
    --------
    The trace of ``min(i, j)``, i, j = 1 ... 100, is 5050.

    >>> index = np.arange(1.0, 101.0)
    >>> A = np.minimum.outer(index, index)
    >>> print(trace(A, num_products=60, rng=0))
    5447.87 +- 720 (95 %: 4006.95 to 7165.37; hutchinson, 60 products, seed 0)
    >>> print(trace(A, num_products=60, rng=0, method="xtrace"))
    5049.62 +- 1.29 (95 %: 5047.23 to 5052.59; xtrace, 60 products, seed 0)
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)}, got {method!r}")
    if distribution not in get_args(TraceDistribution):
        raise ValueError(f"distribution must be one of {get_args(TraceDistribution)}, got {distribution!r}")
    target = Target.of(rtol, atol)
    budget = checked_budget(num_products, target, LEAST[method])
    block_size = checked_block_size(block_size)
    forms = QuadraticForms(A, max_products=budget, max_seconds=max_seconds)
    arguments = {"method": method, "distribution": distribution, "block_size": block_size}
    larger = {"num_products": num_products, "rtol": rtol, "atol": atol}
    seed = None if rng is None else resolve_seed(rng, A)
    with recording(checkpoint, "trace", A, arguments, larger=larger, seed=seed) as record:
        if record.result is not None:
            return cast(Estimate, record.result)
        forms.record = record
        found = _estimate(forms, method, target, record.seed, distribution, block_size, progress)
        if is_final(found.status, max_seconds):
            record.finish(found)
    return found


def _estimate(
    forms: QuadraticForms,
    method: Method,
    target: Target | None,
    seed: int,
    distribution: TraceDistribution,
    block_size: int,
    progress: Progress,
) -> Estimate:
    estimator: Hutchinson | HutchPlusPlus | XTrace
    if method == "hutchinson":
        estimator = Hutchinson(forms, seed, distribution, block_size)
    elif method == "hutch++":
        estimator = HutchPlusPlus(forms, seed, distribution, block_size)
    else:
        estimator = XTrace(forms, seed, block_size, nystrom=method == "xnystrace")
    found = None
    with reporting(progress, "trace") as report, stopping() as outcome:
        if target is None:
            exact = method != "hutchinson" and forms.remaining >= forms.n
            reached = exact or estimator.spend(int(forms.remaining), report)
        else:
            few = forms.n <= 2 * PILOT and forms.remaining >= forms.n
            reached = not few and estimator.reach(target, min(forms.remaining, forms.n), report)
            exact = not reached and forms.remaining >= forms.n
        outcome.missed(reached or exact)
        if exact:
            found = exact_trace(forms, block_size, report)
    value, error, interval = found or estimator.estimate()
    return Estimate(value, error, interval, forms.num_products, seed, outcome.status, method)

"""Traces of functions by stochastic Lanczos quadrature, with the errors of chance and of quadrature.

For v uniform on the unit sphere ``n v'f(A)v`` has mean ``tr f(A)``, and m Lanczos steps give ``v'f(A)v`` up to the
error of a Gauss rule.  The samples are independent; the deviation of their mean is the statistical error.  The
quadrature error is the mean of the half widths of the brackets of all probes, and the interval is widened by it.
Cost: ``num_probes * num_steps`` products.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from krylovh.checks import whole_number
from krylovh.krylov.lockstep import LockstepLanczos
from krylovh.krylov.recorded_lockstep import Tridiagonals, finished_processes
from krylovh.krylov.stops import is_final
from krylovh.krylov.symmetric import SymmetricOperator, resolve_seed
from krylovh.progress import Progress, ProgressFunction, reporting
from krylovh.recording import CheckpointLike, recording
from krylovh.results import Estimate
from krylovh.stochastic.confidence import Interval, mean_interval, required_samples
from krylovh.stochastic.density import BASIS_BYTES
from krylovh.stochastic.hutchinson import PILOT
from krylovh.stochastic.probes import probe_block
from krylovh.stochastic.spectral_function import SpectralFunction, bracket
from krylovh.stochastic.stopping import stopping
from krylovh.stochastic.targets import Target, checked_block_size

Array = NDArray[np.float64]
#: From (alphas, betas, exponent, invariant, tolerance) of a probe: middle and half width of a bracket, and rounding.
Rule = Callable[[Array, Array, int, bool, float], tuple[float, float, float]]

_PROBES, _STEPS = 20, 50  # by default
_SCOUTS = 4  # probes that decide on the number of steps

__all__ = ["estimate_by_quadrature", "logdet", "trace_function"]


def logdet(
    A: Any,
    *,
    num_probes: int | None = None,
    num_steps: int | None = None,
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    lower_bound: float | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> Estimate:
    """Estimate ``log det A = tr log A`` of a positive definite operator.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric and positive definite.
    num_probes, num_steps, num_products, rtol, atol, lower_bound, rng, block_size, max_seconds, progress, checkpoint
        As for :func:`trace_function`.  With the damping of ``A = B + damping I``, B positive semidefinite, as
        ``lower_bound`` the quadrature error is a bound that is proved.

    Returns
    -------
    Estimate
        With ``quadrature_error``; the interval holds both errors.

    Raises
    ------
    NonPositiveSpectrumError
        A Ritz value is zero to rounding, or negative: so is an eigenvalue.
    TypeError, ValueError
        For arguments out of range and operators that are not square, real and symmetric.

    References
    ----------
    Ubaru, Chen and Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature.

    Examples
    --------
    >>> A = np.diag(np.linspace(1.0, 10.0, 500))
    >>> float(np.log(np.diag(A)).sum().round(3))
    778.805
    >>> print(logdet(A, num_probes=20, num_steps=15, lower_bound=1.0, rng=0))
    775.276 +- 5.2 (95 %: 763.918 to 786.158; quadrature error 4.1e-08; lanczos quadrature, 300 products, seed 0)
    """
    options: dict[str, Any] = {"num_probes": num_probes, "num_steps": num_steps, "num_products": num_products}
    keywords: dict[str, Any] = {"rng": rng, "block_size": block_size, "max_seconds": max_seconds, "progress": progress}
    keywords["checkpoint"] = checkpoint
    return trace_function(A, "log", rtol=rtol, atol=atol, lower_bound=lower_bound, **options, **keywords)


def trace_function(
    A: Any,
    f: str | Callable[[Array], Any] | SpectralFunction,
    *,
    num_probes: int | None = None,
    num_steps: int | None = None,
    num_products: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    lower_bound: float | None = None,
    rng: int | np.random.Generator | None = None,
    block_size: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = False,
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
) -> Estimate:
    """Estimate ``tr f(A) = sum_i f(lambda_i)``.

    Parameters
    ----------
    A : LinearOperator, ndarray or sparse matrix, shape (n, n)
        Symmetric.
    f : {"log", "inverse", "sqrt", "exp"} or callable
        A function takes an array of eigenvalues, shape (k,), and returns as many values.
    num_probes : int, optional
        Random vectors; 20 by default.
    num_steps : int, optional
        Lanczos steps per probe, in [1, n]; by default 50, or n if that is less.
    num_products : int, optional
        Products to spend at most, instead of ``num_probes``; at least 1.
    rtol, atol : float, optional
        Target for half of the length of the interval, relative to the value, and absolute.  The number of probes, and
        that of steps unless it is given, follow from it.
    lower_bound : float, optional
        A number that is at most every eigenvalue, above 0 for "log", "inverse" and "sqrt".  It makes the quadrature
        error a bound; without it, it is three times the difference of the rules of m and 3m/4 nodes.
    rng : int, numpy.random.Generator or None
        Seed of the probes.
    block_size : int, optional
        Probes that run together, 16 by default, or as many as have bases of at most 1 GiB.  The estimate does not
        depend on it beyond rounding.
    max_seconds : float, optional
        No product is started later than this.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)`` after every step.
    checkpoint : path or Checkpoint, optional
        File from which the same call goes on if this one is stopped, at any moment; ``num_probes`` and ``num_products``
        may be larger then.

    Returns
    -------
    Estimate
        ``standard_error`` is that of the probes, ``quadrature_error`` that of the rules.  ``interval`` is the 95 %
        interval of the mean over the probes, widened by the quadrature error and by rounding: where the rules are
        exact, or bounds, it covers at least 95 % within 1.5 %, from 20 probes on.  ``status`` is CONVERGED when all
        probes were spent, or the target was reached; STAGNATED if the quadrature error alone exceeds the target; else
        BUDGET, INTERRUPTED or NONFINITE, with the estimate of the probes that were finished.

    Raises
    ------
    NonPositiveSpectrumError
        A Ritz value is zero to rounding, or negative, for a function that needs positive eigenvalues.
    TypeError, ValueError
        For arguments out of range, a function that is not finite on the spectrum, and operators that are not square,
        real and symmetric.

    References
    ----------
    Ubaru, Chen and Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature.
    Golub and Meurant (1994), Matrices, moments and quadrature.

    Examples
    --------
    >>> A = np.diag(np.linspace(1.0, 10.0, 500))
    >>> float((1 / np.diag(A)).sum().round(3))
    128.217
    >>> print(trace_function(A, "inverse", num_probes=20, num_steps=15, lower_bound=1.0, rng=0))
    129.209 +- 1.57 (95 %: 125.923 to 132.661; quadrature error 3.8e-07; lanczos quadrature, 300 products, seed 0)
    """
    function = SpectralFunction.of(f)
    if lower_bound is not None and not np.isfinite(lower_bound):
        raise ValueError(f"lower_bound must be finite, got {lower_bound!r}")
    if lower_bound is not None and function.pole is not None and not lower_bound > function.pole:
        raise ValueError(f"lower_bound must be above {function.pole:g} for {function.name}, got {lower_bound!r}")

    def rule(
        alphas: Array, betas: Array, exponent: int, invariant: bool, tolerance: float
    ) -> tuple[float, float, float]:
        return bracket(function, alphas, betas, exponent, invariant, lower_bound, tolerance)

    return estimate_by_quadrature(
        A,
        rule,
        num_probes=num_probes,
        num_steps=num_steps,
        num_products=num_products,
        target=Target.of(rtol, atol),
        rng=rng,
        block_size=block_size,
        max_seconds=max_seconds,
        progress=progress,
        checkpoint=checkpoint,
        task="trace_function",
        arguments={"f": f, "lower_bound": lower_bound},
    )


def estimate_by_quadrature(
    A: Any,
    rule: Rule,
    *,
    num_probes: int | None,
    num_steps: int | None,
    num_products: int | None,
    target: Target | None,
    rng: int | np.random.Generator | None,
    block_size: int | None,
    max_seconds: float | None,
    progress: Progress,
    range_: Interval = (-np.inf, np.inf),
    checkpoint: str | PathLike[str] | CheckpointLike | None = None,
    task: str = "",
    arguments: Mapping[str, Any] | None = None,
) -> Estimate:
    """Estimate n times the mean of what the rule brackets; the interval is cut to ``range_``."""
    if num_products is not None:
        num_products = whole_number("num_products", num_products, 1)
        if num_probes is not None:
            raise ValueError(f"num_probes and num_products must not both be given, got {num_probes} and {num_products}")
    operator = SymmetricOperator(A, max_products=num_products, max_seconds=max_seconds)
    n = operator.n
    if n == 0:
        raise ValueError("A must have at least one row, got shape (0, 0)")
    fixed_steps = num_steps is not None
    steps = min(n, _STEPS) if num_steps is None else whole_number("num_steps", num_steps, 1, n)
    if num_products is not None and not fixed_steps:
        steps = min(steps, max(num_products // _PROBES, 1))
    probes = _PROBES if num_probes is None else whole_number("num_probes", num_probes, 1)
    if num_products is not None:
        steps = min(steps, num_products)
        probes = num_products // steps
    size = checked_block_size(block_size)
    fixed = {**(arguments or {}), "num_steps": num_steps, "block_size": block_size}
    larger: dict[str, Any] = {"num_probes": num_probes, "num_products": num_products}
    larger |= {"rtol": target.rtol or None, "atol": target.atol or None} if target else {"rtol": None, "atol": None}
    seed = None if rng is None else resolve_seed(rng)
    with (
        recording(checkpoint, task, A, fixed, larger=larger, seed=seed) as record,
        reporting(progress, "quadrature") as report,
    ):
        if record.result is not None:
            return cast(Estimate, record.result)
        operator.record = record
        samples = _Samples(operator, rule, steps, record.seed, size)
        with stopping() as outcome:
            if target is None:
                samples.draw(probes, report)
            else:
                most = np.inf if num_probes is None else probes
                outcome.missed(_reach(samples, target, most, fixed_steps, report))
                if samples.out_of_reach(target):
                    outcome.stagnated()
        value, error, (low, high) = samples.estimate()
        found = Estimate(
            value,
            error,
            (max(low, range_[0]), min(high, range_[1])),
            operator.num_products,
            record.seed,
            outcome.status,
            "lanczos quadrature",
            samples.quadrature_error if samples.middles.size else np.nan,
        )
        if is_final(found.status, max_seconds):
            record.finish(found)
        return found


def _reach(samples: "_Samples", target: Target, most: float, fixed: bool, report: ProgressFunction) -> bool:
    """Choose steps with a few probes, then the number of probes by Stein's rule; return whether the target was met."""
    n, operator = samples.operator.n, samples.operator
    if not fixed:
        samples.draw(int(min(_SCOUTS, most)), report)
        while samples.steps < n and samples.quadrature_error > target.half_width(samples.estimate()[0]) / 4:
            deeper = min(2 * samples.steps, n)
            if operator.remaining < deeper * (_SCOUTS + 2):
                break
            samples.restart(deeper)
            samples.draw(int(min(_SCOUTS, most)), report)
    most = min(most, samples.middles.size + operator.remaining // samples.steps)
    if most < 2:
        samples.draw(int(most), report)
        return False
    samples.pilot = int(min(PILOT, most))
    samples.draw(samples.pilot, report)
    while True:
        value, _, interval = samples.estimate()
        if target.reached(value, interval):
            return True
        left = target.half_width(value) - samples.quadrature_error
        wanted = max(required_samples(samples.middles[: samples.pilot], left), samples.middles.size + 1.0)
        if not wanted <= most:
            if samples.quadrature_error < target.half_width(value):  # else more probes cannot help
                samples.draw(int(min(most, n)), report)
            value, _, interval = samples.estimate()
            return target.reached(value, interval)
        samples.draw(int(wanted), report)


class _Samples:
    """Brackets of independent probes, drawn in groups; an interrupted group counts only where there is no other."""

    def __init__(self, operator: SymmetricOperator, rule: Rule, steps: int, seed: int, block_size: int) -> None:
        self.operator, self.rule, self.seed, self.block_size = operator, rule, seed, block_size
        self.pilot: int | None = None
        self.restart(steps)

    def restart(self, steps: int) -> None:
        """Forget the samples, and take this many steps from now on."""
        self.steps = steps
        self.middles, self.halves, self.rounding = np.zeros((3, 0))

    @property
    def quadrature_error(self) -> float:
        return float(self.halves.mean()) if self.halves.size else np.inf

    def out_of_reach(self, target: Target) -> bool:
        """Return whether more probes cannot help."""
        return bool(self.halves.size and self.quadrature_error > target.half_width(self.estimate()[0]))

    def estimate(self) -> tuple[float, float, Interval]:
        value, error, (low, high) = mean_interval(self.middles, self.rounding, self.pilot)
        wider = self.quadrature_error if self.halves.size else 0.0
        return value, error, (low - wider, high + wider)

    def draw(self, count: int, report: ProgressFunction) -> None:
        """Take samples until there are ``count``."""
        n = self.operator.n
        group = min(self.block_size, max(1, BASIS_BYTES // (8 * n * self.steps)))
        while (drawn := self.middles.size) < count:
            block = min(group, count - drawn)

            def start(drawn: int = drawn, block: int = block) -> LockstepLanczos:
                V = probe_block(n, drawn, block, seed=self.seed, purpose="quadrature", distribution="sphere")
                return LockstepLanczos(self.operator, V, self.steps)

            def stepped(processes: LockstepLanczos, drawn: int = drawn, block: int = block) -> None:
                report(drawn * self.steps + block * int(processes.steps.max()), count * self.steps)

            def stopped(found: Tridiagonals, drawn: int = drawn) -> None:
                if not drawn:
                    self._read(found)

            name = f"{self.steps} steps: {drawn} to {drawn + block}"
            self._read(finished_processes(self.operator, name, start, stepped, stopped))

    def _read(self, processes: Tridiagonals) -> None:
        found = [
            self.rule(
                processes.alphas[i, :m],
                processes.betas[i, :m],
                processes.exponent,
                bool(processes.invariant[i]),
                6 * processes.tolerance,  # a residual within the tolerance moves a node by less
            )
            for i, m in enumerate(processes.steps)
            if m > 0
        ]
        if found:
            middles, halves, rounding = self.operator.n * np.array(found).T
            self.middles = np.append(self.middles, middles)
            self.halves = np.append(self.halves, halves)
            self.rounding = np.append(self.rounding, rounding)

"""Traces as means of independent quadratic forms: Hutchinson, and Hutch++.

Hutchinson (1990): for a random vector with ``E[v v'] = I`` the form ``v'Av`` has mean ``tr A``.  Its variance is
``2 (|A|_F^2 - sum_i a_ii^2)`` for entries +-1 and ``2 |A|_F^2`` for normal entries.

Hutch++ (Meyer, Musco, Musco and Woodruff 2021) takes out what a sketch of the range holds, with ``Q`` an orthonormal
basis of ``A S``, and samples the rest:

    tr A = tr Q'AQ + E[w'Aw],        w = (I - QQ')v.

``Q`` does not depend on the probes v, so that given ``Q`` the forms are independent samples, and their mean has an
interval as in Hutchinson's method.  Where A has rank r, a sketch of r vectors is exact.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from krylovh.krylov.scaling import binary_exponent, ldexp
from krylovh.progress import ProgressFunction
from krylovh.stochastic.confidence import LINE, Interval, mean_interval, required_samples
from krylovh.stochastic.forms import QuadraticForms
from krylovh.stochastic.orthonormal import thin_qr
from krylovh.stochastic.probes import Distribution, probe_block
from krylovh.stochastic.targets import Target

Array = NDArray[np.float64]

#: Samples that decide how many more are needed: Student's factor is then 2.04 instead of 1.96.
PILOT = 32
#: Samples that decide whether a sketch should grow, and are forgotten.
_SCOUTS = 16
#: Size of the first sketch.
_FIRST_SKETCH = 8

__all__ = ["PILOT", "HutchPlusPlus", "Hutchinson", "exact_trace"]


class Hutchinson:
    """Samples ``w'Aw`` with ``w = (I - QQ')v``, drawn in blocks, and their mean; an interrupt leaves whole blocks.

    Parameters
    ----------
    forms : QuadraticForms
    seed : int
    distribution : {"rademacher", "gaussian"}
        Of the probes v.
    block_size : int
    purpose : str
        Of the probes.
    first : int
        Index of the first probe.
    Q : ndarray, shape (n, k), optional
        Orthonormal columns; none by default.

    Examples
    --------
    >>> samples = Hutchinson(QuadraticForms(np.diag([1.0, 2.0, 3.0])), 0, "rademacher", 16)
    >>> samples.draw(4, lambda done, total: None)
    >>> samples.values
    array([6., 6., 6., 6.])
    """

    def __init__(
        self,
        forms: QuadraticForms,
        seed: int,
        distribution: Distribution,
        block_size: int,
        *,
        purpose: str = "trace",
        first: int = 0,
        Q: Array | None = None,
    ) -> None:
        self.forms, self.seed, self.distribution, self.block_size = forms, seed, distribution, block_size
        self.purpose, self.first, self.Q = purpose, first, Q
        self.values, self.rounding = np.zeros(0), np.zeros(0)
        self.pilot: int | None = None

    def draw(self, count: int, report: ProgressFunction) -> None:
        """Take samples until there are ``count``."""
        while (drawn := self.values.size) < count:
            block = min(self.block_size, count - drawn)
            first, sketched = self.first + drawn, 0 if self.Q is None else self.Q.shape[1]
            values, rounding = self.forms.recorded_forms(
                f"{self.purpose} beside {sketched}: {first} to {first + block}", partial(self._probes, first, block)
            )
            self.values, self.rounding = np.append(self.values, values), np.append(self.rounding, rounding)
            report(drawn + block, count)

    def _probes(self, first: int, count: int) -> Array:
        options = {"seed": self.seed, "purpose": self.purpose}
        V = probe_block(self.forms.n, first, count, distribution=self.distribution, **options)  # type: ignore[arg-type]
        if self.Q is not None:
            V -= self.Q @ (self.Q.T @ V)
        return V

    def estimate(self) -> tuple[float, float, Interval]:
        """Return mean, standard error and 95 % interval."""
        return mean_interval(self.values, self.rounding, self.pilot)

    def spend(self, num_products: int, report: ProgressFunction) -> bool:
        """Take this many samples; True."""
        self.draw(num_products, report)
        return True

    def reach(self, target: Target, largest: float, report: ProgressFunction, offset: float = 0.0) -> bool:
        """Take the samples that the target needs; return False if ``largest`` are not enough.

        Stein's two stages: a pilot tells how many samples are needed, and alone gives the deviation and the skewness
        for the interval.  The number of samples then depends on the deviation of the pilot, which for normal samples is
        independent of the mean, so that the interval covers as if the number had been fixed beforehand.  ``offset`` is
        added to the mean to make the value that the target refers to.
        """
        if largest < 2:
            self.draw(int(largest), report)
            return False
        self.pilot = int(min(PILOT, largest))
        wanted = float(self.pilot)
        while True:
            self.draw(int(wanted), report)
            mean, _, interval = self.estimate()
            if target.reached(mean + offset, interval):
                return True
            width = target.half_width(mean + offset)
            # one more at least: the mean may have moved
            wanted = max(required_samples(self.values[: self.pilot], width), self.values.size + 1.0)
            if wanted > largest:
                if self.forms.remaining < self.forms.n:  # else the exact trace is to be had
                    self.draw(int(largest), report)
                    mean, _, interval = self.estimate()
                return target.reached(mean + offset, interval)


class HutchPlusPlus:
    """A sketch ``Q``, the trace of ``Q'AQ``, and samples of the rest.

    Examples
    --------
    A sketch of three vectors holds an operator of rank two.

    >>> method = HutchPlusPlus(QuadraticForms(np.diag([3.0, 2.0] + 18 * [0.0])), 0, "rademacher", 16)
    >>> method.spend(9, lambda done, total: None)
    True
    >>> round(method.estimate()[0], 12)
    5.0
    """

    def __init__(self, forms: QuadraticForms, seed: int, distribution: Distribution, block_size: int) -> None:
        self.forms, self.seed, self.distribution, self.block_size = forms, seed, distribution, block_size
        self.Q = np.zeros((forms.n, 0), order="F")
        self.known, self.known_rounding = 0.0, 0.0  # tr Q'AQ
        self._samples = self._fresh(0)
        self._sketched, self._sketched_rounding = np.zeros(0), np.zeros(0)  # forms of the probes of the sketch

    def _fresh(self, first: int) -> Hutchinson:
        """Return samples of what the sketch leaves, from the probes ``first`` onwards."""
        options = (self.forms, self.seed, self.distribution, self.block_size)
        return Hutchinson(*options, purpose="hutch++", first=first, Q=self.Q)

    def estimate(self) -> tuple[float, float, Interval]:
        """Return value, standard error and 95 % interval; before the first sample, Hutchinson's from the sketch."""
        if not self._samples.values.size:
            return mean_interval(self._sketched, self._sketched_rounding)
        mean, error, (low, high) = self._samples.estimate()
        slack = self.known_rounding
        return self.known + mean, error, (self.known + low - slack, self.known + high + slack)

    def grow(self, size: int, report: ProgressFunction) -> None:
        """Extend the sketch to ``size`` vectors, at two products each; samples are forgotten."""
        n, first = self.forms.n, self.Q.shape[1]
        if first >= size:
            return
        Y = np.empty((n, size - first), order="F")
        for done in range(first, size, self.block_size):
            block = min(self.block_size, size - done)
            S = probe_block(n, done, block, seed=self.seed, purpose="hutch++ sketch")
            name = f"sketch: {done} to {done + block}"
            product = self.forms.recorded(name, S)
            Y[:, done - first : done - first + block] = product
            S *= product
            self._sketched = np.append(self._sketched, S.sum(axis=0))
            self._sketched_rounding = np.append(self._sketched_rounding, self.forms.eps * np.abs(S).sum(axis=0))
            report(done + block, 2 * size)
        ldexp(Y, -binary_exponent(Y), out=Y)
        if first:
            for _ in range(2):  # twice is enough
                Y -= self.Q @ (self.Q.T @ Y)
                Y = thin_qr(Y)[0]
        else:
            Y = thin_qr(Y)[0]
        for done in range(0, Y.shape[1], self.block_size):
            name, part = f"sketch of {size}: basis from {first + done}", Y[:, done : done + self.block_size]
            values, rounding = self.forms.recorded_forms(name, partial(np.asarray, part))
            self.known += float(values.sum())
            self.known_rounding += float(rounding.sum())
            report(size + first + done + values.size, 2 * size)
        self.Q = np.asfortranarray(np.hstack([self.Q, Y])) if first else Y
        self._samples = self._fresh(0)

    def spend(self, num_products: int, report: ProgressFunction) -> bool:
        """A third of the products each for the sketch, for its trace, and for samples; True."""
        size = num_products // 3
        self.grow(size, report)
        self._samples.draw(num_products - 2 * size, report)
        return True

    def reach(self, target: Target, largest: float, report: ProgressFunction) -> bool:
        """Grow the sketch until it pays no more, then sample as Hutchinson does; at most ``largest`` products.

        A few scouts tell how many samples the rest would need.  The sketch is doubled as long as it has cost less than
        that, and the last doubling saved more than it cost.  The scouts take no part in the estimate, so that this
        choice leaves its samples independent.
        """
        size, first, before, start = _FIRST_SKETCH, 0, np.inf, self.forms.num_products
        while True:
            if 2 * size + _SCOUTS + PILOT > largest:  # too little for a choice
                size = max(int(largest) // 3, 1)
                self.grow(size, report)
                break
            cost = 2 * (size - self.Q.shape[1])
            self.grow(size, report)
            self._samples = self._fresh(first)
            self._samples.draw(_SCOUTS, report)
            first += _SCOUTS
            needed = required_samples(self._samples.values, target.half_width(self.estimate()[0]))
            spent = self.forms.num_products - start
            if needed <= 2 * size or before - needed < cost or spent + 2 * size + _SCOUTS + PILOT > largest:
                break
            size, before = 2 * size, needed
        self._samples = self._fresh(first)
        left = largest - (self.forms.num_products - start)
        return self._samples.reach(target, left, report, offset=self.known)


def exact_trace(forms: QuadraticForms, block_size: int, report: ProgressFunction) -> tuple[float, float, Interval]:
    """Return the sum of ``e_i'A e_i``: n products, no standard error, and an interval that is only rounding.

    Examples
    --------
    >>> value, error, interval = exact_trace(QuadraticForms(np.eye(3)), 2, lambda done, total: None)
    >>> value, error
    (3.0, 0.0)
    """
    n = forms.n
    if n == 0:
        return 0.0, 0.0, (0.0, 0.0)
    values, rounding = np.zeros(n), np.zeros(n)
    for first in range(0, n, block_size):
        block = min(block_size, n - first)
        rows = slice(first, first + block)
        found = forms.recorded_forms(f"exact: {first} to {first + block}", partial(np.eye, n, block, -first))
        values[rows], rounding[rows] = found
        report(first + block, n)
    exponent = binary_exponent(values) + int(n).bit_length()  # the sum must not overflow
    values, rounding = ldexp(values, -exponent), ldexp(rounding, -exponent)
    value = float(ldexp(values.sum(), exponent))
    slack = float(ldexp(rounding.sum(), exponent))
    return (value, 0.0, (value - slack, value + slack)) if np.isfinite(value) else (value, np.nan, LINE)

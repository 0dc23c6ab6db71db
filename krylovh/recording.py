"""Runs that can be resumed: what an algorithm says about where it stands, and what it is given back.

An algorithm that can be stopped at any moment and go on where it was does two things, and knows nothing of files.

* Finished pieces of work, such as the quadratic forms of a block of probes, are *units*: it asks the recorder for each,
  with a name and a function that computes it.  What a file holds already is handed out instead, in the order in which
  it was computed, so that the same decisions are taken from the same numbers, and the answer is the same to the bit.
* Where a piece is long, as a Krylov process is, it *offers* its state whenever that is consistent, as a function that
  returns arrays and numbers.  The recorder takes it as often as the time that it may cost allows.

Without a checkpoint all of this costs a function call.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from krylovh.agreement import agreement_of

Array = NDArray[Any]
State = Mapping[str, Any]  # arrays, numbers, text, booleans and None

__all__ = ["CheckpointLike", "Counter", "Recorder", "State", "Unrecorded", "generator_state", "recording", "restored"]


class CheckpointLike(Protocol):
    """What ``checkpoint`` may be besides a path: :class:`krylovh.Checkpoint`."""

    @property
    def path(self) -> Any:
        """The file."""


class Counter(Protocol):
    """Something that counts products."""

    num_products: int


class Recorder(Protocol):
    """The memory of a run."""

    result: Any  # of a run that has ended with the same arguments; else None
    seed: int
    remembers: bool  # whether anything is kept at all

    def unit(self, name: str, counter: Counter | None, compute: Callable[[], tuple[Array, ...]]) -> tuple[Array, ...]:
        """Return a finished piece of work: the recorded one of that name, or a new one."""

    def state(self, name: str) -> dict[str, Any] | None:
        """Return the state that was last taken after the units so far, if it has this name."""

    def offer(self, name: str, state: Callable[[], State], *, force: bool = False) -> None:
        """Give the opportunity to save a state, which must be consistent now; ``force`` insists."""

    def finish(self, result: Any, name: str = "", state: Callable[[], State] | None = None) -> None:
        """Record the end, with a state that a larger request may start from."""


class Unrecorded:
    """The recorder of a run without a checkpoint: it remembers nothing.

    Examples
    --------
    >>> Unrecorded(7).unit("one", None, lambda: (np.ones(1),))
    (array([1.]),)
    """

    result: Any = None
    remembers = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def unit(self, name: str, counter: Counter | None, compute: Callable[[], tuple[Array, ...]]) -> tuple[Array, ...]:
        """Return what is computed, in the order of memory that recorded arrays have: it decides about the last bits."""
        return tuple(np.asfortranarray(array) for array in compute())

    def state(self, name: str) -> dict[str, Any] | None:
        """Return None."""
        return None

    def offer(self, name: str, state: Callable[[], State], *, force: bool = False) -> None:
        """Do nothing."""

    def finish(self, result: Any, name: str = "", state: Callable[[], State] | None = None) -> None:
        """Do nothing."""


@contextmanager
def recording(
    checkpoint: "str | PathLike[str] | CheckpointLike | None",
    task: str,
    subject: Any,
    arguments: Mapping[str, Any],
    *,
    larger: Mapping[str, Any] | None = None,
    seed: int | None,
) -> Iterator[Recorder]:
    """Open the memory of a run: that of a checkpoint, or none.

    Parameters
    ----------
    checkpoint : path, Checkpoint or None
    task : str
        Name of the public function.
    subject : operator, matrix or Objective
        What the answer depends on, which a resumed run must be given again.
    arguments : mapping
        Arguments that must be the same in a resumed run.
    larger : mapping, optional
        Arguments that may be others: those that ask for more of the same.
    seed : int or None
        What was asked for; None for a seed of no importance, for which a resumed run takes the recorded one.

    Yields
    ------
    Recorder
        ``seed`` is the one to use.

    Examples
    --------
    >>> with recording(None, "trace", np.eye(2), {}, seed=7) as record:
    ...     record.seed
    7
    """
    if checkpoint is None:
        yield Unrecorded(agreement_of(subject)(_fresh_seed()) if seed is None else seed)
        return
    # the only way from an algorithm to a file, and only if there is to be one
    storage = import_module("krylovh.storage.checkpoint")
    with storage.opened_run(checkpoint, task, subject, arguments, larger or {}, seed, _fresh_seed) as recorder:
        yield recorder


def generator_state(rng: np.random.Generator) -> str:
    """Return the state of a random generator as text.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> text, number = generator_state(rng), rng.standard_normal()
    >>> restored(rng, text).standard_normal() == number
    True
    """
    return json.dumps(rng.bit_generator.state, default=lambda array: array.tolist())


def restored(rng: np.random.Generator, text: str) -> np.random.Generator:
    """Set a generator to a state that :func:`generator_state` returned for one of its kind, and return it."""

    def as_arrays(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_arrays(part) for key, part in value.items()}
        return np.array(value, dtype=np.uint64) if isinstance(value, list) else value

    rng.bit_generator.state = as_arrays(json.loads(text))
    return rng


def _fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))

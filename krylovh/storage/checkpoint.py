"""Checkpoints: what a run that was stopped goes on from, and how often it is saved.

A save is made when it costs at most a given share of the time since the one before, as measured; the first one early,
and in a run that was resumed at the first opportunity, so that a run makes progress however often it is killed.  The
result is saved as well, unless it is so large that this would cost more than it may.  What is in the file is
said in :mod:`krylovh.storage.run_file`.
"""

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.agreement import agreement_of, by_the_first, is_first
from krylovh.objective import Objective
from krylovh.storage.digest import array_digest
from krylovh.storage.errors import CheckpointMismatchError, CheckpointWarning
from krylovh.storage.fingerprint import Fingerprint, compare, fingerprint_of, machine
from krylovh.storage.layout import Record, from_record, to_record
from krylovh.storage.lock import locked
from krylovh.storage.run_file import FORMAT, RunHeader, SavedRun, Unit, newest, pack, packed_units, save_generation

Array = NDArray[Any]

__all__ = ["Checkpoint", "RunDescription", "opened_run"]

_FIXED_SECONDS, _SECONDS_PER_BYTE = 0.004, 5e-9  # of a save, before one was measured
_ALWAYS = 1.0  # seconds that the save of a result may take, however short the run was


@dataclass(frozen=True)
class RunDescription:
    """What a checkpoint file says about its run."""

    task: str  # the public function
    arguments: dict[str, Any]  # those that the file holds, the seed as ``rng``
    missing: tuple[str, ...]  # names of arguments that no file can hold, and that must be given again
    num_products: int  # made by the pieces of work that are finished
    generation: int  # how often it was saved
    finished: bool
    notes: dict[str, str]


class Checkpoint:
    """A file from which a run can be resumed, and how often it is written.

    Passed as ``checkpoint`` to a function; a path stands for ``Checkpoint(path)``.

    Parameters
    ----------
    path : str or path-like
        Written by this run alone: while it lasts, a second one gets a ``FileLockedError``.  The generation before has
        ``.previous`` at the end of its name.
    overhead : float
        Largest share of the time that saves may take, in (0, 1).
    notes : mapping of str to str, optional
        Whatever the program that starts the run will want to know when it is resumed, such as file names.
    timeout : float
        Seconds to wait for another process that has the file.

    Notes
    -----
    A save that fails, on a full disk or because the folder is gone, does not end the run: it gives a
    :class:`krylovh.CheckpointWarning`, and is tried again when the next one is due.

    Examples
    --------
    >>> import tempfile
    >>> from krylovh import eigsh
    >>> A = np.diag(np.arange(200.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(f"{folder}/run.h5", notes={"model": "diagonal"})
    ...     result = eigsh(A, 2, rng=0, checkpoint=checkpoint)
    ...     again = eigsh(A, 2, rng=0, checkpoint=checkpoint)  # no product
    ...     run = checkpoint.describe()
    >>> bool((result.eigenvectors == again.eigenvectors).all()), run.task, run.finished, run.notes
    (True, 'eigsh', True, {'model': 'diagonal'})
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overhead: float = 0.05,
        notes: Mapping[str, str] | None = None,
        timeout: float = 1.0,
    ) -> None:
        if not 0 < overhead < 1:
            raise ValueError(f"overhead must be in (0, 1), got {overhead}")
        self.path = Path(path)
        self.overhead = overhead
        self.notes = dict(notes or {})
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r})"

    def describe(self) -> RunDescription:
        """Return what the file says about its run.

        Raises
        ------
        FileNotFoundError
            There is none.
        CorruptFileError, UntrustedFileError, UnsupportedFormatError
            Nor the generation before can be read.
        """
        saved = newest(Path(os.path.realpath(self.path)))
        if saved is None:
            raise FileNotFoundError(2, os.strerror(2), str(self.path))
        header = saved.header
        given = {**json.loads(header.arguments), **json.loads(header.larger)}
        missing = tuple(sorted(name for name, value in given.items() if isinstance(value, dict) and "given" in value))
        arguments: dict[str, Any] = {}
        for name, value in given.items():
            if isinstance(value, dict) and "digest" in value:
                arguments[name] = from_record(saved.records[f"argument {name}"])
            elif name not in missing:
                arguments[name] = tuple(value) if isinstance(value, list) else value
        arguments["rng"] = int(header.seed)
        units, numbers = saved.units(), json.loads(header.numbers)
        products = max(units[-1][1] if units else 0, int(numbers.get("num_products", 0)))
        notes = json.loads(header.notes)
        return RunDescription(header.task, arguments, missing, products, header.generation, header.finished, notes)


@contextlib.contextmanager
def opened_run(
    checkpoint: Any,
    task: str,
    subject: Any,
    arguments: Mapping[str, Any],
    larger: Mapping[str, Any],
    seed: int | None,
    fresh_seed: Callable[[], int],
) -> Iterator["RunRecorder"]:
    """Lock a checkpoint file, compare it with the run that is asked for, and yield the memory of that run.

    Raises
    ------
    CheckpointMismatchError
        Naming the field.
    FileLockedError, CorruptFileError, UntrustedFileError, UnsupportedFormatError, OSError
    """
    chosen = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    agree = agreement_of(subject)
    fixed, optional = _encoded(arguments), _encoded(larger)
    mark, here = fingerprint_of(subject), _text(machine())
    with contextlib.ExitStack() as stack:

        def open_file() -> tuple[Path, SavedRun | None]:
            target = stack.enter_context(locked(chosen.path, timeout=chosen.timeout))
            saved = newest(target)
            if saved is not None:
                header = saved.header
                if header.task != task:
                    message = f"{chosen.path} belongs to a run of {header.task}, here is one of {task}"
                    raise CheckpointMismatchError(message)
                compare(chosen.path, (json.loads(header.fingerprint), header.product), mark)
                _compare_arguments(chosen.path, json.loads(header.arguments), fixed)
                recorded = int(header.seed)
                if seed not in (None, recorded):
                    message = f"{chosen.path} belongs to another run: its seed is {recorded}, here {seed}"
                    raise CheckpointMismatchError(message)
                _compare_machines(chosen.path, json.loads(header.machine), json.loads(here))
            return target, saved

        # of processes that share an operator the first has the file, and all know what is in it
        target, saved = by_the_first(agree, open_file)
        if saved is not None:
            seed = int(saved.header.seed)
        elif seed is None:
            seed = agree(fresh_seed())
        encoded, values = {**fixed, **optional}, {**arguments, **larger}
        kept = [name for name, value in encoded.items() if isinstance(value, dict) and "digest" in value]
        records = {f"argument {name}": to_record(values[name]) for name in kept}
        identity = _Identity(task, seed, fixed, optional, records, mark, here)
        recorder = RunRecorder(chosen, target if is_first(agree) else None, identity, saved)
        if saved is None:
            recorder._save("", dict)  # so that a run that is killed at once can be resumed, and knows that it is
        yield recorder


@dataclass(frozen=True)
class _Identity:
    task: str
    seed: int
    fixed: dict[str, Any]
    larger: dict[str, Any]
    records: dict[str, Record]
    fingerprint: Fingerprint
    machine: str


class RunRecorder:
    """The memory of a run; see :class:`krylovh.recording.Recorder`.

    In a file, or, with no ``target``, in a process that shares the work with another, which has the file.
    """

    remembers = True

    def __init__(
        self, checkpoint: Checkpoint, target: Path | None, identity: _Identity, saved: SavedRun | None
    ) -> None:
        self.checkpoint, self._target, self._identity = checkpoint, target, identity
        self.seed = identity.seed
        self.result: Any = None
        self._units: list[Unit] = []
        self._position = 0  # how many units were handed out or computed
        self._state: tuple[str, dict[str, Any]] = "", {}
        self._generation = 0
        self._notes = checkpoint.notes
        self._warned = False
        self._begin = self._last = time.monotonic()  # intervals, not dates
        self._slowness = 1.0  # of the last save, relative to what was expected
        self._size = 0  # bytes of the last save
        self._just_restored = False  # the next state that is offered is the one that was handed out
        self._eager = saved is not None  # whoever was stopped may be stopped again soon
        if saved is not None:
            header = saved.header
            self._generation = header.generation
            self._units = saved.units()
            self._state = header.state, saved.state()
            self._notes = {**json.loads(header.notes), **checkpoint.notes}
            if header.finished and "result" in saved.records and json.loads(header.larger) == identity.larger:
                self.result = from_record(saved.records["result"])

    def unit(self, name: str, counter: Any, compute: Callable[[], tuple[Array, ...]]) -> tuple[Array, ...]:
        """Return the recorded unit if it is the next one; otherwise those that follow are of no use any more."""
        if self._position < len(self._units):
            known, products, arrays = self._units[self._position]
            if known == name:
                self._position += 1
                if counter is not None:
                    counter.num_products = max(counter.num_products, products)
                return tuple(array.copy(order="F") for array in arrays)
            del self._units[self._position :]
            self._state = "", {}
        arrays = tuple(np.array(array, dtype=np.float64, order="F") for array in compute())
        self._state = "", {}
        self._units.append((name, 0 if counter is None else int(counter.num_products), arrays))
        self._position += 1
        self.offer("", dict)
        return tuple(array.copy(order="F") for array in arrays)

    def state(self, name: str) -> dict[str, Any] | None:
        """Return the last state, if all units that were finished before it were asked for."""
        fits = self._state[0] == name and self._position == len(self._units)
        del self._units[self._position :]  # of no use where a piece of work is begun that they do not belong to
        self._just_restored = fits
        return dict(self._state[1]) if fits else None

    def offer(self, name: str, state: Callable[[], Mapping[str, Any]], *, force: bool = False) -> None:
        """Save if that is due."""
        if self._target is None:
            return
        if self._just_restored and not force:
            self._just_restored = False
            return
        if force or (self._position == len(self._units) and self._is_due(self._size)):
            self._save(name, state, force=force)

    def finish(self, result: Any, name: str = "", state: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Save the end of a run, unless that is much more work than the run was: then its last state stays."""
        self.result = result
        if self._target is None:
            return
        size = sum(array.nbytes for unit in self._units for array in unit[2])
        if result is not None:  # that of a matrix is its units
            size += sum(array.nbytes for array in to_record(result).arrays.values())
        spent = time.monotonic() - self._begin
        if self._slowness * _expected_seconds(size) > max(_ALWAYS, self.checkpoint.overhead * spent):
            return
        keep = dict(self._state[1])
        self._save(*((self._state[0], lambda: keep) if state is None else (name, state)), force=True, finished=True)

    def _is_due(self, size: int) -> bool:
        if self._eager:
            return True
        cost = self._slowness * _expected_seconds(size)
        return time.monotonic() - self._last >= cost * (1 / self.checkpoint.overhead - 1)

    def _save(
        self, name: str, state: Callable[[], Mapping[str, Any]], *, force: bool = True, finished: bool = False
    ) -> None:
        if self._target is None:
            return
        content = dict(state())
        arrays = {key: value for key, value in content.items() if isinstance(value, np.ndarray)}
        size = sum(array.nbytes for array in arrays.values()) + sum(a.nbytes for u in self._units for a in u[2])
        if not force and not self._is_due(size):
            return
        begin = time.monotonic()
        numbers = {key: _plain(value) for key, value in content.items() if key not in arrays}
        records = {"run": to_record(self._header(name, numbers, arrays, finished)), **self._identity.records}
        if finished and self.result is not None:
            records["result"] = to_record(self.result)
        try:
            save_generation(self._target, records)
            self._generation += 1
            self._eager = False
        except OSError as error:
            if not self._warned:
                message = f"the run goes on, but cannot be saved: {error}"
                warnings.warn(message, CheckpointWarning, stacklevel=4)
            self._warned = True
        self._last = time.monotonic()
        self._slowness, self._size = (self._last - begin) / _expected_seconds(size), size

    def _header(self, name: str, numbers: dict[str, Any], arrays: dict[str, Array], finished: bool) -> RunHeader:
        identity = self._identity
        unit_table, unit_values = packed_units(self._units)
        table, values = pack(arrays.values())
        return RunHeader(
            task=identity.task,
            format=FORMAT,
            generation=self._generation + 1,
            finished=finished,
            seed=str(identity.seed),
            arguments=_text(identity.fixed),
            larger=_text(identity.larger),
            fingerprint=_text(identity.fingerprint[0]),
            machine=identity.machine,
            notes=_text(self._notes),
            state=name,
            numbers=_text(numbers),
            arrays=json.dumps([[key, *entry] for key, entry in zip(arrays, table, strict=True)]),
            state_values=values,
            unit_table=unit_table,
            unit_values=unit_values,
            product=identity.fingerprint[1],
        )


def _expected_seconds(size: int) -> float:
    return _FIXED_SECONDS + _SECONDS_PER_BYTE * size


def _compare_arguments(path: Path, saved: dict[str, Any], here: dict[str, Any]) -> None:
    for name in sorted({*saved, *here}):
        if saved.get(name) != here.get(name):
            before, now = (_shown(value) for value in (saved.get(name), here.get(name)))
            raise CheckpointMismatchError(f"{path} belongs to another run: its {name} is {before}, here {now}")


def _compare_machines(path: Path, saved: dict[str, Any], here: dict[str, Any]) -> None:
    changed = [name for name in sorted({*saved, *here}) if saved.get(name) != here.get(name)]
    if changed:
        message = f"{path} was written with other {', '.join(changed)}: the last bits may differ from those of one run"
        warnings.warn(message, CheckpointWarning, stacklevel=8)


def _encoded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as JSON has them; arrays and results by their digest, and by their type what cannot be kept."""
    return json.loads(_text({name: _encoded_value(value) for name, value in arguments.items()}))  # type: ignore[no-any-return]


def _encoded_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"digest": array_digest(value)}
    try:
        return _plain(value)
    except TypeError:
        pass
    try:
        return {"digest": to_record(value).digest()}
    except (TypeError, ValueError):
        return {"given": type(value).__name__, **_content_of(value)}


def _content_of(value: Any) -> dict[str, Any]:
    """Return what tells one object from another of its type, if that can be seen."""
    if isinstance(value, Objective):
        return {"content": _text(fingerprint_of(value)[0])}
    if isinstance(value, tuple):  # data, (X, y)
        return {"content": [array_digest(np.asarray(part)) for part in value]}
    return {}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return value.item()
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return str(np.dtype(value))
    if isinstance(value, (list, tuple, range)):
        return [_plain(part) for part in value]
    raise TypeError(f"{type(value).__name__} is not a number, text or list of them")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "another array" if "digest" in value else f"a {value.get('given')} of other content"
    return str(value)

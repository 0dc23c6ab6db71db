"""Results in an HDF5 file, one group per result."""

import builtins
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from krylovh.storage.atomic import replace_file
from krylovh.storage.errors import CorruptFileError
from krylovh.storage.image import open_image, read_record, sealed_image
from krylovh.storage.layout import Axes, Record, attribute, check_name, from_record, plain_value, to_record
from krylovh.storage.lock import locked
from krylovh.storage.provenance import Facts, environment, provenance_of

__all__ = ["ResultStore"]

Mode = Literal["a", "r", "w"]


class ResultStore:
    """A file of named results that survives its writer.

    The file is never changed in place.  Each save reads it, writes old and new results into a new file beside it, and
    gives that the name of the old one in a single step; a lock keeps a second writer out meanwhile.  So a ``kill -9``
    at any moment leaves the old file or the new one, a full disk leaves the old one, readers need no lock, and what
    :meth:`save` has returned from is on the disk.  One save takes time proportional to the size of the file:
    :meth:`save_all` stores many results in one.  The same results give the same bytes, in whatever order they came.

    A symbolic link is followed: it stays, and the file it leads to is replaced.  A replaced file keeps its permission
    bits.

    Parameters
    ----------
    path : str or path-like
        Opened anew by every method, so that a store can be shared by threads and processes.
    mode : {"a", "r", "w"}
        "a" adds to the file, or creates it at the first save; "r" only reads, and the file must exist and be sound;
        "w" starts afresh: the first save replaces whatever file is there, which is left alone until then.
    timeout : float
        Seconds to wait for another writer.

    Raises
    ------
    CorruptFileError
        The file is damaged, or not one of results.
    UntrustedFileError
        The file asks for what results never need, such as links into other files.
    UnsupportedFormatError
        The file is of a newer release.
    FileLockedError
        Another writer did not finish in time.
    OSError
        The file cannot be read or written: missing, a directory, no permission, no space.

    See Also
    --------
    krylovh.storage.image : The layout of the file.

    Examples
    --------
    >>> import tempfile
    >>> from krylovh import Estimate, Status
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = ResultStore(Path(folder.name, "run.h5"))
    >>> store.save("trace", Estimate(10.0, 0.5, (8.9, 11.1), 30, 7, Status.CONVERGED, "hutchinson"))
    >>> store.list()
    ['trace']
    >>> print(store.load("trace"))
    10 +- 0.5 (95 %: 8.9 to 11.1; hutchinson, 30 products, seed 7)
    >>> store.provenance("trace")["seed"]
    7
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], mode: Mode = "a", *, timeout: float = 10.0) -> None:
        if mode not in ("a", "r", "w"):
            raise ValueError(f"mode must be 'a', 'r' or 'w', got {mode!r}")
        self.path = Path(path)
        self.mode = mode
        self.timeout = timeout
        self._replace = mode == "w"
        if mode == "r":
            self.list()

    def __repr__(self) -> str:
        return f"ResultStore({str(self.path)!r}, {self.mode!r})"

    def save(
        self,
        name: str,
        result: Any,
        *,
        objective: Any = None,
        provenance: Mapping[str, Any] | None = None,
        created: str | None = None,
        dimensions: Axes | Mapping[str, Axes] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Store one result; when this returns, it is on the disk.

        Parameters
        ----------
        name : str
            1 to 255 bytes of UTF-8 without "/" and NUL.
        result : EigenResult, Estimate, SpectralDensity, Tridiagonalization, ndarray, or mapping of str to ndarray
            Other dataclasses after :func:`krylovh.storage.layout.register`.
        objective : Objective, optional
            Whose formula, net and data go into the provenance.
        provenance : mapping, optional
            Further facts: numbers, text, tuples of numbers.  They win over what is found automatically.
        created : str, optional
            The time of day.  Not stored unless given, so that the same results give the same bytes.
        dimensions : tuple of str, or mapping of str to tuple of str, optional
            For plain arrays: what their axes are called.
        overwrite : bool
            Whether a result of that name is replaced.

        Raises
        ------
        ValueError
            The name cannot be used, or is taken and ``overwrite`` is False.
        TypeError
            Something cannot be stored; the message names it.
        """
        facts = self._facts(result, objective, provenance, created)
        self._update({name: _documented(to_record(result, dimensions), facts)}, overwrite)

    def save_all(
        self,
        results: Mapping[str, Any],
        *,
        objective: Any = None,
        provenance: Mapping[str, Any] | None = None,
        created: str | None = None,
        dimensions: Mapping[str, Axes | Mapping[str, Axes]] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Store several results in one step: all of them, or none.

        The parameters are those of :meth:`save`; ``dimensions`` are given by the name of the result.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = ResultStore(Path(folder, "run.h5"))
        ...     store.save_all({"a": np.zeros(1), "b": np.ones(1)})
        ...     store.list()
        ['a', 'b']
        """
        common = self._facts(None, objective, provenance, created)
        self._update(
            {
                name: _documented(to_record(result, (dimensions or {}).get(name)), {**_seed_of(result), **common})
                for name, result in results.items()
            },
            overwrite,
        )

    def load(self, name: str) -> Any:
        """Return a result as it was saved, bit for bit.

        Raises
        ------
        KeyError
            There is no result of that name.
        """
        return self._decoded(name, self._record(name))

    def provenance(self, name: str) -> Facts:
        """Return what a result was computed from and with.

        Raises
        ------
        KeyError
            There is no result of that name.
        """
        return {key: plain_value(value) for key, value in self._record(name).provenance.items()}

    def list(self) -> builtins.list[str]:
        """Return the names of the results, sorted; none if the file does not exist yet."""
        with self._opened() as opened:
            return sorted(opened[0]) if opened else []

    def delete(self, name: str) -> None:
        """Remove a result.

        Raises
        ------
        KeyError
            There is no result of that name.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = ResultStore(Path(folder, "run.h5"))
        ...     store.save("a", np.zeros(1))
        ...     store.delete("a")
        ...     "a" in store
        False
        """
        with self._writing() as (target, records):
            if name not in records:
                raise self._missing(name, sorted(records))
            del records[name]
            replace_file(target, sealed_image(records))

    def __contains__(self, name: object) -> bool:
        return name in self.list()

    def __iter__(self) -> Iterator[str]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self.list())

    def _update(self, new: Mapping[str, Record], overwrite: bool) -> None:
        for name in new:
            check_name("result", name)
        with self._writing() as (target, records):
            taken = sorted(set(new) & set(records))
            if taken and not overwrite:
                raise ValueError(f"{self.path}: there is a result {taken[0]!r} already; overwrite=True replaces it")
            replace_file(target, sealed_image({**records, **new}))
            self._replace = False

    @contextmanager
    def _writing(self) -> Iterator[tuple[Path, dict[str, Record]]]:
        """Hold the lock; yield the file and all that is in it."""
        if self.mode == "r":
            raise io.UnsupportedOperation(f"{self.path} was opened for reading only")
        with locked(self.path, timeout=self.timeout) as target:
            yield target, {} if self._replace else self._all_records()

    def _all_records(self) -> dict[str, Record]:
        with self._opened() as opened:
            if not opened:
                return {}
            file, size = opened
            return {name: read_record(file, name, size) for name in file}

    def _record(self, name: str) -> Record:
        with self._opened(must_exist=True) as opened:
            names = sorted(opened[0]) if opened else []
            record = read_record(opened[0], name, opened[1]) if opened and name in names else None
        if record is None:
            raise self._missing(name, names)
        return record

    @contextmanager
    def _opened(self, must_exist: bool = False) -> Iterator[tuple[Any, int] | None]:
        """Yield the open file and its size, or None where there is no file and none is needed."""
        if self._replace or not (must_exist or self.mode == "r" or _exists(self.path)):
            yield None
            return
        with open_image(self.path) as opened:
            yield opened

    def _decoded(self, name: str, record: Record) -> Any:
        try:
            return from_record(record)
        except CorruptFileError as error:
            raise CorruptFileError(f"{self.path}: result {name!r}: {error}") from None

    def _missing(self, name: str, names: builtins.list[str]) -> KeyError:
        return KeyError(f"{self.path} has no result {name!r}; it has {', '.join(names) or 'none'}")

    @staticmethod
    def _facts(
        result: Any, objective: Any, provenance: Mapping[str, Any] | None, created: str | None
    ) -> dict[str, Any]:
        facts: dict[str, Any] = {**environment(), **_seed_of(result)}
        if objective is not None:
            facts |= provenance_of(objective)
        if created is not None:
            facts["created"] = created
        return {**facts, **(provenance or {})}


def _exists(path: Path) -> bool:
    """Tell whether there is a file; if that cannot be told, the error is not taken for a no."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _seed_of(result: Any) -> dict[str, int]:
    seed = getattr(result, "seed", None)
    return {} if seed is None else {"seed": seed}


def _documented(record: Record, facts: Mapping[str, Any]) -> Record:
    """Return the record with its provenance."""
    provenance = {check_name("fact", key): attribute(key, value) for key, value in facts.items()}
    return Record(record.kind, record.attributes, record.arrays, record.dimensions, record.absent, provenance)

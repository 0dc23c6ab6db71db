"""The file of a run: what is in it, and which of two generations counts.

A checkpoint is a result file (``krylovh.storage.image``: HDF5, sealed, with a digest per record), replaced as a
whole whenever it is saved, and under a kernel lock as long as the run lasts.  Its records are

::

    /run                     kind = "RunHeader"
        task                 the public function, "eigsh"
        format               version of this layout, 1
        generation           how often the run was saved
        finished             whether the run has ended
        seed                 in decimal digits
        arguments            JSON: numbers, text and booleans that the function was called with; {"digest": SHA-256} for
                             arrays and results, {"given": type} for what no file can hold
        larger               the same for arguments that a resumed run may change
        fingerprint          JSON: what the run depends on, digests of weights, data and so on, by field
        machine              JSON: versions, threads, processor
        notes                JSON: text of the program that has started the run
        state                name of the piece of work in which the run was
        numbers              JSON: what of its state is not an array, by name
        arrays               JSON: [name, dtype, shape, by columns] for each array of the state, in the order of
        state_values         all arrays of the state, one after the other, float64
        unit_table           JSON, UTF-8 as bytes (uint8): for each finished unit [name, products made by then,
                             [[dtype, shape, by columns] for each of its arrays]], in the order of
        unit_values          all arrays of all units, one after the other, float64
        product              a product with a vector that is always the same, where the operator is nothing else
    /argument <name>         arguments that are arrays or results
    /result                  once the run has ended: its result, as any other result file has it

so that ``ResultStore(path).load("result")`` reads the answer.  An array is stored "by columns" if it was so in memory:
the order decides about the last bits of what is computed from it.

The generation before is kept under the same name with ``.previous`` at the end.  When a run is opened both are looked
at, and the sound one with the larger generation is taken: a number that is counted up, since clocks can go back.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krylovh.storage.atomic import replace_file
from krylovh.storage.errors import CorruptFileError, UnsupportedFormatError, UntrustedFileError
from krylovh.storage.image import open_image, read_record, sealed_image
from krylovh.storage.layout import Record, from_record, register

Array = NDArray[Any]
Unit = tuple[str, int, tuple[Array, ...]]  # name, products made by then, arrays

__all__ = ["RunHeader", "SavedRun", "Unit", "newest", "pack", "packed_units", "save_generation", "unpack"]

FORMAT = 1


@dataclass(frozen=True)
class RunHeader:
    """The record ``/run``."""

    task: str
    format: int
    generation: int
    finished: bool
    seed: str
    arguments: str
    larger: str
    fingerprint: str
    machine: str
    notes: str
    state: str
    numbers: str
    arrays: str
    state_values: Array
    unit_table: Array
    unit_values: Array
    product: Array


register(RunHeader, {})


@dataclass(frozen=True)
class SavedRun:
    """What a file holds."""

    header: RunHeader
    records: dict[str, Record]

    def state(self) -> dict[str, Any]:
        """Return the state of the piece of work in which the run was."""
        table = json.loads(self.header.arrays)
        arrays = unpack([entry[1:] for entry in table], self.header.state_values)
        return {**dict(zip((entry[0] for entry in table), arrays, strict=True)), **json.loads(self.header.numbers)}

    def units(self) -> list[Unit]:
        """Return the finished units."""
        table = json.loads(bytes(self.header.unit_table) or b"[]")
        arrays = iter(unpack([entry for _, _, entries in table for entry in entries], self.header.unit_values))
        return [(name, products, tuple(next(arrays) for _ in entries)) for name, products, entries in table]


def pack(arrays: Iterable[Array]) -> tuple[list[list[Any]], Array]:
    """Return arrays as a table of [dtype, shape, by columns], and all their values in one array.

    Examples
    --------
    >>> pack([np.eye(2), np.array([True])])
    ([['<f8', [2, 2], False], ['|b1', [1], False]], array([1., 0., 0., 1., 1.]))
    """
    table, parts = [], [np.zeros(0)]
    for array in arrays:
        by_columns = array.ndim > 1 and array.flags.f_contiguous and not array.flags.c_contiguous
        table.append([array.dtype.str, list(array.shape), bool(by_columns)])
        parts.append(array.ravel(order="F" if by_columns else "C").astype(np.float64, copy=False))
    return table, np.concatenate(parts)


def unpack(table: list[list[Any]], values: Array) -> list[Array]:
    """Return the arrays again.

    Raises
    ------
    CorruptFileError
        The table does not fit the values.

    Examples
    --------
    >>> unpack(*pack([np.eye(2), np.array([True])]))[1]
    array([ True])
    """
    sizes = [math.prod(shape) for _, shape, _ in table]
    if sum(sizes) != values.size or any(size < 0 for size in sizes):
        raise CorruptFileError("the arrays of a run do not have the sizes that they should have")
    arrays, first = [], 0
    for (dtype, shape, by_columns), size in zip(table, sizes, strict=True):
        part = values[first : first + size].reshape(shape, order="F" if by_columns else "C")
        arrays.append(part.astype(np.dtype(dtype)))
        first += size
    return arrays


def packed_units(units: list[Unit]) -> tuple[Array, Array]:
    """Return units as the bytes of their table, and their values.

    Examples
    --------
    >>> table, values = packed_units([("block 0", 4, (np.ones(2),))])
    >>> bytes(table), values
    (b'[["block 0", 4, [["<f8", [2], false]]]]', array([1., 1.]))
    """
    entries, values = pack(array for _, _, arrays in units for array in arrays)
    rest = iter(entries)
    table = [[name, products, [next(rest) for _ in arrays]] for name, products, arrays in units]
    return np.frombuffer(json.dumps(table).encode(), dtype=np.uint8), values


def newest(target: Path) -> SavedRun | None:
    """Return the sound generation with the largest counter; None where there is no file at all.

    Raises
    ------
    CorruptFileError, UntrustedFileError, UnsupportedFormatError, OSError
        There are files, and none of them is sound.
    """
    found: list[SavedRun] = []
    failure: Exception | None = None
    for path in (target, _previous(target)):
        try:
            found.append(_load(path))
        except FileNotFoundError:
            continue
        except (CorruptFileError, UntrustedFileError, UnsupportedFormatError) as error:
            failure = failure or error
    if not found and failure is not None:
        raise failure
    return max(found, key=lambda saved: saved.header.generation, default=None)


def save_generation(target: Path, records: dict[str, Record]) -> None:
    """Replace the file, and keep the one before.

    Raises
    ------
    OSError
        What was there is there still.
    """
    image = sealed_image(records)
    if target.exists():
        _keep_previous(target)
    replace_file(target, image)


def _load(path: Path) -> SavedRun:
    with open_image(path) as (file, size):
        if "run" not in file:
            raise CorruptFileError("holds results, and is not the checkpoint of a run")
        records = {name: read_record(file, name, size) for name in file}
        header = from_record(records["run"])
        if not isinstance(header, RunHeader):
            raise CorruptFileError("holds results, and is not the checkpoint of a run")
        if header.format > FORMAT:
            raise UnsupportedFormatError(
                f"is a checkpoint of version {header.format}; this release reads versions up to {FORMAT}"
            )
        return SavedRun(header, records)


def _previous(target: Path) -> Path:
    return target.with_name(f"{target.name}.previous")


def _keep_previous(target: Path) -> None:
    """Let the name of the generation before lead to the present file, which stays where it is."""
    link, previous = target.with_name(f".{target.name}.link"), _previous(target)
    try:
        link.unlink(missing_ok=True)
        os.link(target, link)
        os.replace(link, previous)
    except OSError:
        # a file system without hard links, or something is wrong with the folder, which this will show
        replace_file(previous, target.read_bytes())

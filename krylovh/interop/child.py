"""Bytes of strangers are parsed by a process of its own, which has nothing to lose.

Libraries written in C parse ONNX and torch files, and a file can be made to bring them down or to eat all memory.  So
a child reads the file from a descriptor, with limits on memory, time and output, and passes on plain arrays and JSON
in an npz file, which the parent reads with its own checks.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from krylovh.storage.errors import CorruptFileError, UntrustedFileError
from krylovh.storage.npz import read_npz

__all__ = ["parse_in_child"]

_SECONDS = 120
_REFUSED, _MISSING = 3, 4  # exit codes of the readers, besides 0


def parse_in_child(reader: str, raw: BinaryIO, path: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Run a reader on a file, and return its header and its arrays.

    Parameters
    ----------
    reader : str
        ``"onnx_reader"`` or ``"torch_reader"``: a script beside this file.
    raw : binary file
        Handed over as a descriptor: what was checked is what is read.
    path : Path
        For messages.

    Raises
    ------
    CorruptFileError
        The reader says so, crashed, or did not come to an end.
    UntrustedFileError
        The file asks for what is refused, or for more memory than its size explains.
    ImportError
        The package that reads the format is not installed.

    Examples
    --------
    >>> with tempfile.TemporaryFile() as raw:
    ...     parse_in_child("onnx_reader", raw, Path("empty.onnx"))
    Traceback (most recent call last):
        ...
    krylovh.storage.errors.CorruptFileError: empty.onnx: ...
    """
    size = raw.seek(0, 2)
    raw.seek(0)
    script = Path(__file__).with_name(f"{reader}.py")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaint:
        try:
            finished = subprocess.run(
                [sys.executable, "-I", str(script), str(size)],
                stdin=raw, stdout=output, stderr=complaint, env=environment, timeout=_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CorruptFileError(f"{path}: damaged, it is parsed without end") from None
        complaint.seek(0)
        message = " ".join(complaint.read(2000).decode("utf-8", "replace").split())[-500:]
        if finished.returncode == _MISSING:
            raise ImportError(message)
        if finished.returncode == _REFUSED:
            raise UntrustedFileError(f"{path}: {message}")
        if finished.returncode < 0:
            name = signal.Signals(-finished.returncode).name
            raise CorruptFileError(f"{path}: damaged, its parser ends by {name}")
        if finished.returncode:
            raise CorruptFileError(f"{path}: {message or 'damaged, its parser fails'}")
        output.seek(0)
        _, arrays = read_npz(output, path, lambda name: True)
    header = json.loads(bytes(arrays.pop("header").view(np.uint8)))
    return header, arrays

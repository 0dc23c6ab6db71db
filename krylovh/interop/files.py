"""A net from a file of any supported format, told by its content."""

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from krylovh.interop.assembly import Outputs
from krylovh.network import Network
from krylovh.storage.atomic import open_regular
from krylovh.storage.errors import CorruptFileError, UntrustedFileError
from krylovh.storage.npz import damage_named

__all__ = ["load_network"]

Reader = Callable[[BinaryIO, Path, Any, Any], Network]

_FORMATS = "npz, HDF5, safetensors, ONNX, Keras (.keras, .h5) and state dicts of torch (.pt)"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x78\x9c": "zlib", b"\x78\x01": "zlib",
               b"\x78\xda": "zlib", b"\x04\x22\x4d\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstandard"}  # fmt: skip


def load_network(
    path: str | os.PathLike[str],
    activations: str | Sequence[str] | None = None,
    *,
    outputs: Outputs | None = None,
) -> Network:
    """Read a net from a file: npz, HDF5, safetensors, ONNX, Keras, or a state dict of torch.

    The format is told by the content, whatever the name.  Files may come from strangers: nothing in them is run,
    sizes are compared before memory is taken, and what a C library parses is parsed in a process of its own.  Pickles
    (joblib files of scikit-learn, whole modules of torch) are programs and are refused.

    Parameters
    ----------
    path : str or path-like
    activations : str or sequence of str, optional
        One name for all hidden layers, or a name per layer.  Needed for files that hold weights alone (safetensors,
        state dicts, Keras weights); instead of those in the file for npz and HDF5; refused for files that say what the
        net computes.
    outputs : "logits" or "model", optional
        What becomes of a softmax or logistic function at the end of ONNX and Keras models.  The losses of
        :class:`krylovh.Objective` act on logits: "logits" leaves it out.  "model" keeps a logistic function, for losses
        of probabilities.  If not given, softmax is left out, which no Network could have, and for a logistic function
        the file must say that the model is a classifier (skl2onnx) or was trained with a cross-entropy (Keras).

    Returns
    -------
    Network
        With ``origin``: :func:`krylovh.to_source` hands vectors back in the order and shapes of the file.

    Raises
    ------
    ValueError
        The file is damaged (``CorruptFileError``), asks for what is refused (``UntrustedFileError``), or holds what no
        Network computes (``UnsupportedModelError``, with the name of the node); or an argument is missing.
    ImportError
        The package that reads the format is not installed; the message says which.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "net.npz")
    ...     np.savez(file, **{"fc1.weight": np.ones((3, 2)), "fc2.weight": np.ones((1, 3))})
    ...     load_network(file, "tanh")
    Network(2-3-1, 9 parameters)
    """
    path = Path(path)
    with open_regular(path) as raw:
        read = _reader(raw, path)
        raw.seek(0)
        return read(raw, path, activations, outputs)


def _reader(raw: BinaryIO, path: Path) -> Reader:
    """Tell the format by the first bytes."""
    from krylovh.interop import keras_files, onnx_files, state_dicts

    start = raw.read(512)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return keras_files.read_hdf5
    if start.startswith(b"PK\x03\x04") or start.startswith(b"PK\x05\x06"):
        return _zip_reader(raw, path)
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        raise UntrustedFileError(
            f"{path}: is a pickle, which runs code when it is read (joblib, scikit-learn, old files of torch); if you "
            "trust it, load it yourself and pass the object to Network.from_sklearn or Network.from_torch"
        )
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise UntrustedFileError(
                f"{path}: is compressed by {name}, as pickles of joblib are; supported: {_FORMATS}"
            )
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 40:
        return state_dicts.read_safetensors
    if start[257:262] == b"ustar":
        raise UntrustedFileError(f"{path}: is a tar archive (old files of torch hold a pickle); supported: {_FORMATS}")
    if start[:1] == b"\x08" or (path.suffix == ".onnx" and start):  # the version of ONNX, the first field of a model
        return onnx_files.read_onnx
    found = f"the bytes {start[:8]!r}" if start else "an empty file"
    raise CorruptFileError(f"{path}: found {found}; supported: {_FORMATS}")


def _zip_reader(raw: BinaryIO, path: Path) -> Reader:
    from krylovh.interop import keras_files, state_dicts, torch_files

    with damage_named(path, "zip"), zipfile.ZipFile(raw) as archive:
        names = archive.namelist()
    if "config.json" in names and "model.weights.h5" in names:
        return keras_files.read_keras
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return torch_files.read_torch
    return state_dicts.read_npz_network

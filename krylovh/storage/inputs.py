"""Nets and data from files of arrays: ``.npz`` or HDF5, told apart by their first bytes.

A net is either ``theta, widths, activations`` with optional ``sources`` and ``bias``, as :func:`save_network` writes
it, or a chain of layers ``layers.0.weight`` (out, in), ``layers.0.bias`` (out,), ``layers.1.weight``, ... with
``activations``; in HDF5 ``layers/0/weight`` is the same.  Data are ``X``, ``y`` and optionally ``sample_weight``.
``activations`` and ``sources`` are JSON text, ``activations`` also one name or an array of names; in HDF5 they may be
attributes.  Arrays of other names are not read.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from krylovh.storage.atomic import open_regular, replace_file
from krylovh.storage.digest import content_digest
from krylovh.storage.errors import CorruptFileError
from krylovh.storage.image import check_bytes, hdf5_image, open_hdf5
from krylovh.storage.lock import locked
from krylovh.storage.npz import npz_bytes, read_npz
from krylovh.storage.structure import attributes_of, survey

if TYPE_CHECKING:  # imported on use: it brings Numba, which results on disk do not need
    from krylovh.network import Network

Arrays = dict[str, NDArray[Any]]

__all__ = ["Data", "load_data", "load_network", "network_of_file", "save_network"]

_LAYER = re.compile(r"layers\.(0|[1-9][0-9]{0,4})\.(weight|bias)")
_TOPOLOGY = ("theta", "widths", "activations", "sources", "bias")


class Data(NamedTuple):
    """Samples: inputs (N, d), targets (N,) or (N, c), weights (N,) or None."""

    X: NDArray[Any]
    y: NDArray[Any]
    sample_weight: NDArray[Any] | None


def load_data(path: str | os.PathLike[str]) -> Data:
    """Read samples from ``.npz`` or HDF5.

    Returns
    -------
    Data
        The tuple ``(X, y, sample_weight)``.

    Raises
    ------
    ValueError
        An array is missing, or its shape or dtype does not fit; the message has path, key, found and needed.
        ``CorruptFileError`` and ``UntrustedFileError`` are of this type.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "data.npz"), X=np.zeros((3, 2)), y=np.arange(3))
    ...     X, y, sample_weight = load_data(Path(folder, "data.npz"))
    >>> X.shape, y, sample_weight
    ((3, 2), array([0, 1, 2]), None)
    """
    path = Path(path)
    with open_regular(path) as raw:
        names, arrays = _read(raw, path, ("X", "y", "sample_weight").__contains__)
    with _naming(path):
        for key in ("X", "y"):
            if key not in arrays:
                raise ValueError(f"data need arrays 'X' and 'y', {key!r} is missing; found {_listed(names)}")
        X = _numbers("X", arrays["X"], (2,))
        y = _numbers("y", arrays["y"], (1, 2), len(X))
        has_weights = "sample_weight" in arrays
        return Data(X, y, _numbers("sample_weight", arrays["sample_weight"], (1,), len(X)) if has_weights else None)


def load_network(path: str | os.PathLike[str], activations: str | Sequence[str] | None = None) -> "Network":
    """Read a net from ``.npz`` or HDF5.

    Parameters
    ----------
    path : str or path-like
    activations : str or sequence of str, optional
        Instead of those in the file: one name for all hidden layers, or a name per layer.

    Raises
    ------
    ValueError
        An array is missing or does not fit; the message has path, key, found and needed.
        ``CorruptFileError`` and ``UntrustedFileError`` are of this type.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "net.npz")
    ...     np.savez(file, **{"layers.0.weight": np.ones((3, 2)), "layers.1.weight": np.ones((1, 3))})
    ...     load_network(file, "tanh")
    Network(2-3-1, 9 parameters)
    """
    path = Path(path)
    with open_regular(path) as raw:
        return network_of_file(raw, path, activations)


def network_of_file(raw: BinaryIO, path: Path, activations: str | Sequence[str] | None = None) -> "Network":
    """Read a net from an open file; see :func:`load_network`.

    Examples
    --------
    >>> import io
    >>> raw = io.BytesIO(npz_bytes({"layers.0.weight": np.ones((3, 2))}))
    >>> network_of_file(raw, Path("example.npz"), ["tanh"])
    Network(2-3, 6 parameters)
    """
    from krylovh.network import Network

    names, arrays = _read(raw, path, lambda name: name in (*_TOPOLOGY, "digest") or name.startswith("layers."))
    with _naming(path):
        digest = arrays.pop("digest", None)
        if digest is not None and _text(digest) != _digest(
            {name: arrays[name] for name in _TOPOLOGY if name in arrays}
        ):
            raise CorruptFileError(
                "the net does not match its SHA-256 digest; a file changed on purpose must not have one"
            )
        layers = {name: array for name, array in arrays.items() if name.startswith("layers.")}
        if layers and "theta" in arrays:
            raise ValueError(f"has both 'theta' and {min(layers)!r}; needed is one of the two forms of a net")
        for key in () if layers else ("theta", "widths"):
            if key not in arrays:
                forms = "'theta', 'widths' and 'activations', or 'layers.0.weight', ..."
                raise ValueError(f"{key!r} is missing; a net needs {forms}; found {_listed(names)}")
        if activations is None:
            if "activations" not in arrays:
                raise ValueError(f"'activations' is missing; store it or pass activations=; found {_listed(names)}")
            activations = _activations(arrays["activations"])
        return Network(activations=activations, **(_chain(layers) if layers else _network(arrays)))


def save_network(path: str | os.PathLike[str], net: "Network") -> None:
    """Write a net, so that the file is at every moment the old or the new one.

    Parameters
    ----------
    path : str or path-like
        Ends with ``.npz``, ``.h5`` or ``.hdf5``.
    net : Network

    Raises
    ------
    ValueError
        Another ending.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from krylovh import Network
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_network(Path(folder, "net.h5"), Network((2, 3, 1), "tanh", np.arange(13.0)))
    ...     load_network(Path(folder, "net.h5")).theta[-1]
    np.float64(12.0)
    """
    path = Path(path)
    arrays = {"theta": net.theta, "widths": np.array(net.widths), "bias": np.array(net.bias)}
    texts = {"activations": json.dumps(net.activations), "sources": json.dumps(net.sources)}
    texts["digest"] = _digest({**arrays, **{key: np.array(text) for key, text in texts.items()}})
    if path.suffix == ".npz":
        content = npz_bytes({**arrays, **{key: np.array(text) for key, text in texts.items()}})
    elif path.suffix in (".h5", ".hdf5"):
        content = hdf5_image(arrays, texts)
    else:
        raise ValueError(f"{path}: the name of a net's file must end with .npz, .h5 or .hdf5, got {path.suffix!r}")
    with locked(path) as target:
        replace_file(target, content)


def _read(raw: BinaryIO, path: Path, wanted: Callable[[str], bool]) -> tuple[list[str], Arrays]:
    """Return the names of all arrays in a file, and those arrays that are wanted."""
    start = raw.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return _read_hdf5(raw, path, wanted)
    if start.startswith(b"PK"):
        return read_npz(raw, path, wanted)
    found = f"the bytes {start!r}" if start else "an empty file"
    raise CorruptFileError(f"{path}: needed is a .npz or HDF5 file, found {found}")


def _read_hdf5(raw: Any, path: Path, wanted: Callable[[str], bool]) -> tuple[list[str], Arrays]:
    check_bytes(raw, path)
    with open_hdf5(raw, path) as (file, size):
        datasets = {name.replace("/", "."): dataset for name, dataset in survey(file, size).items()}
        arrays: Arrays = {name: np.asarray(value) for name, value in attributes_of(file).items() if wanted(name)}
        for name, dataset in datasets.items():
            if wanted(name):
                is_text = h5py.check_string_dtype(dataset.dtype) is not None
                arrays[name] = np.asarray(dataset.asstr()[()] if is_text else dataset[()])
        return sorted({*datasets, *arrays}), arrays


def _digest(arrays: Arrays) -> str:
    """Return the digest of a net's arrays and texts: what reading gives back, in HDF5 as in npz."""
    return content_digest(
        {name: _text(array.item()) if array.dtype.kind in "OSU" else array for name, array in arrays.items()}
    )


def _network(arrays: Arrays) -> dict[str, Any]:
    """Return the arguments of Network."""
    widths = arrays["widths"]
    if widths.ndim != 1 or widths.dtype.kind not in "iu":
        raise ValueError(f"'widths' must be a list of integers, got shape {widths.shape} and dtype {widths.dtype}")
    bias: list[bool] | bool = True
    if "bias" in arrays:
        bias = [bool(value) for value in _numbers("bias", arrays["bias"], (1,), len(widths) - 1)]
    sources = _sources(arrays["sources"]) if "sources" in arrays else None
    theta = _numbers("theta", arrays["theta"], (1,))
    return {"widths": [int(width) for width in widths], "theta": theta, "sources": sources, "bias": bias}


def _chain(layers: Arrays) -> dict[str, Any]:
    """Return the arguments of Network; theta is the weights and biases, one after the other."""
    for name in layers:
        if not _LAYER.fullmatch(name):
            raise ValueError(f"{name!r} is not of the form 'layers.<number>.weight' or 'layers.<number>.bias'")
    depth = 1 + max(int(name.split(".")[1]) for name in layers)
    widths: list[int] = []
    parts: list[NDArray[Any]] = []
    for l in range(depth):
        key = f"layers.{l}.weight"
        if key not in layers:
            raise ValueError(f"{key!r} is missing; there are layers up to {depth - 1}")
        weight = _numbers(key, layers[key], (2,))
        if widths and weight.shape[1] != widths[-1]:
            raise ValueError(f"{key!r} must have shape (out, {widths[-1]}), as the layer before, got {weight.shape}")
        widths += [weight.shape[0]] if widths else [weight.shape[1], weight.shape[0]]
        parts.append(weight.ravel())
        key = f"layers.{l}.bias"
        if key in layers:
            parts.append(_numbers(key, layers[key], (1,), weight.shape[0]))
    bias = [f"layers.{l}.bias" in layers for l in range(depth)]
    return {"widths": widths, "theta": np.concatenate(parts), "bias": bias}


def _numbers(key: str, array: NDArray[Any], ndims: tuple[int, ...], rows: int | None = None) -> NDArray[Any]:
    """Return an array of numbers of the right number of axes and rows."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{key!r} must hold real numbers, got dtype {array.dtype}")
    if array.ndim not in ndims:
        needed = " or ".join(map(str, ndims))
        raise ValueError(f"{key!r} must have {needed} axes, got shape {array.shape}")
    if rows is not None and len(array) != rows:
        raise ValueError(f"{key!r} must have {rows} rows, got shape {array.shape}")
    return array


def _activations(value: NDArray[Any]) -> str | list[str]:
    """Return one name or a list of names from text, JSON text or an array of text."""
    names: Any = [_text(item) for item in value.ravel()] if value.ndim else _text(value.item())
    if isinstance(names, str) and names.lstrip().startswith("["):
        names = _json("activations", names)
    if not isinstance(names, str) and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"'activations' must be a name or a list of names, got {str(names)[:100]!r}")
    return names


def _sources(value: NDArray[Any]) -> Any:
    """Return the edges into each layer from JSON text: ``[[[0, "dense"]], [[1, "dense"], [0, "identity"]]]``."""
    layers = _json("sources", _text(value.item()) if value.ndim == 0 else str(value))
    if not isinstance(layers, list):
        raise ValueError(f"'sources' must be a list, one entry per layer, got {str(layers)[:100]}")
    for edges in layers:
        if not isinstance(edges, list) or not all(
            isinstance(edge, list) and [type(part) for part in edge] == [int, str] for edge in edges
        ):
            raise ValueError(f"'sources' must be, for each layer, a list of [layer, kind], got {str(edges)[:100]}")
    return [[(edge[0], edge[1]) for edge in edges] for edges in layers]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key!r} must be JSON text, got {text[:100]!r} ({error})") from None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the path before the message of whatever is wrong with the content."""
    try:
        yield
    except CorruptFileError as error:
        raise CorruptFileError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:10]) or "nothing"
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")

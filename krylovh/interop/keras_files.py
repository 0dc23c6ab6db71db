"""Keras models and weights in files, read without Keras.

A ``.keras`` file is a zip of a configuration (JSON) and weights (HDF5).  An ``.h5`` file holds the configuration as an
attribute, or weights alone, in the layouts of Keras 2 and Keras 3.
"""

import json
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from krylovh.interop.assembly import Outputs, UnsupportedModelError
from krylovh.interop.keras_models import network_of_config, saved_names
from krylovh.interop.parameters import Origin, Piece
from krylovh.interop.state_dicts import no_outputs, of_state_dict
from krylovh.network import Network
from krylovh.storage.errors import CorruptFileError, UntrustedFileError
from krylovh.storage.image import check_bytes, open_hdf5
from krylovh.storage.inputs import network_of_file
from krylovh.storage.npz import damage_named
from krylovh.storage.structure import INFLATED_LIMIT, RATIO_LIMIT, SMALL, attributes_of, child_of, survey

Array = NDArray[Any]

__all__ = ["read_hdf5", "read_keras"]

_VARIABLE = re.compile(r"(?:_layer_checkpoint_dependencies|layers)/([^/]+)/vars/([0-9]{1,4})")
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}


def read_keras(raw: BinaryIO, path: Path, activations: str | Sequence[str] | None, outputs: Outputs | None) -> Network:
    """Read a ``.keras`` file."""
    if activations is not None:
        raise ValueError(f"{path}: activations= is for files of weights alone; this model says what it applies")
    with damage_named(path, ".keras"), zipfile.ZipFile(raw) as archive, tempfile.TemporaryFile() as weights:
        sizes = _checked(archive, path, raw.seek(0, 2))
        config = _json(archive.read(sizes["config.json"]), path)
        with archive.open(sizes["model.weights.h5"]) as member:
            while piece := member.read(1 << 20):
                weights.write(piece)
        datasets = _datasets(weights, path)[0]
    names = {stored: label for label, stored in saved_names(config, str(path)).items()}
    arrays: dict[str, list[Array]] = {}
    for stored, group in _variables(datasets).items():
        if stored in names:
            arrays[names[stored]] = group
    return network_of_config(config, arrays, str(path), outputs=outputs)


def read_hdf5(raw: BinaryIO, path: Path, activations: str | Sequence[str] | None, outputs: Outputs | None) -> Network:
    """Read an HDF5 file: a net of this library, or a model or weights of Keras."""
    datasets, attributes, order = _datasets(raw, path)
    if "model_config" in attributes:
        if activations is not None:
            raise ValueError(f"{path}: activations= is for files of weights alone; this model says what it applies")
        config = _json(str(attributes["model_config"]).encode(), path)
        training = attributes.get("training_config")
        if isinstance(config, dict) and training is not None:
            config.setdefault("compile_config", _json(str(training).encode(), path))
        return network_of_config(config, _legacy(datasets, order, "model_weights/"), str(path), outputs=outputs)
    if "layer_names" in attributes:
        return _weights(_legacy(datasets, order, ""), path, activations, outputs)
    variables = _variables(datasets)
    if variables:
        ordered = dict(sorted(variables.items(), key=lambda item: _number_of(item[0])))
        return _weights(ordered, path, activations, outputs)
    no_outputs(path, outputs)
    raw.seek(0)
    return network_of_file(raw, path, activations)


def _datasets(raw: BinaryIO, path: Path) -> tuple[dict[str, Array], dict[str, Any], dict[str, list[str]]]:
    """Return the arrays of weights, the attributes of the root, and the names of each layer's weights in order."""
    check_bytes(raw, path)
    with open_hdf5(raw, path) as (file, size):
        attributes: dict[str, Any] = dict(attributes_of(file))
        arrays = {}
        for name, dataset in survey(file, size).items():
            is_weight = _VARIABLE.fullmatch(name) or name.startswith("model_weights/") or "layer_names" in attributes
            if is_weight and dataset.dtype.kind in "fiu":
                arrays[name] = np.asarray(dataset[()])
        group = child_of(file, "model_weights") if "model_weights" in file else file
        order: dict[str, list[str]] = {}
        for label in map(_text, np.asarray(attributes_of(group).get("layer_names", [])).reshape(-1)):
            if label in group:
                names: Any = attributes_of(child_of(group, label)).get("weight_names", [])
                order[label] = [_text(name) for name in np.asarray(names).reshape(-1)]
    return arrays, attributes, order


def _variables(datasets: dict[str, Array]) -> dict[str, list[Array]]:
    """Return the weights of each layer in the layout of Keras 3: ``layers/<name>/vars/<number>``."""
    found: dict[str, dict[int, Array]] = {}
    for name, array in datasets.items():
        match = _VARIABLE.fullmatch(name)
        if match:
            found.setdefault(match[1], {})[int(match[2])] = array
    return {label: [group[i] for i in sorted(group)] for label, group in found.items()}


def _legacy(datasets: dict[str, Array], order: dict[str, list[str]], prefix: str) -> dict[str, list[Array]]:
    """Return the weights of each layer in the layout of Keras 2: ``<layer>/<name of the weight>``."""
    arrays: dict[str, list[Array]] = {}
    for label, names in order.items():
        group = [datasets.get(f"{prefix}{label}/{name}") for name in names]
        if any(array is None for array in group):
            raise CorruptFileError(f"layer {label[:60]!r} names weights that the file does not have")
        if group:
            arrays[label] = [array for array in group if array is not None]
    return arrays


def _weights(
    groups: dict[str, list[Array]], path: Path, activations: str | Sequence[str] | None, outputs: Outputs | None
) -> Network:
    """Return a chain of dense layers, from weights alone."""
    no_outputs(path, outputs)
    if activations is None:
        raise ValueError(f"{path}: weights alone do not say what the layers apply: pass activations=")
    state: dict[str, Array] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for label, group in groups.items():
        if len(group) not in (1, 2) or [array.ndim for array in group] != [2, 1][: len(group)]:
            raise UnsupportedModelError(
                f"{path}: layer {label[:60]!r} has weights of shapes {[array.shape for array in group][:5]}; supported "
                "are dense layers, (in, units) and (units,), where the file holds weights alone"
            )
        for kind, name, array in zip(("weight", "bias"), ("kernel", "bias"), group, strict=False):
            state[f"{label}.{kind}"] = np.ascontiguousarray(array.T)
            shapes[f"{label}/{name}"] = array.shape
    try:
        net = of_state_dict(state, activations, ordered=True)
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from None
    pieces = tuple(
        Piece(re.sub(r"\.(weight|bias)$", lambda m: "/kernel" if m[1] == "weight" else "/bias", piece.name),
              piece.start, piece.shape, transposed=len(piece.shape) == 2)
        for piece in net.origin.pieces
    )  # fmt: skip
    net.origin = Origin("keras", shapes, pieces)
    return net


def _checked(archive: zipfile.ZipFile, path: Path, file_size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members that are read, after a comparison of sizes."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in members:
            raise UntrustedFileError(f"{path}: has two members named {info.filename[:60]!r}")
        members[info.filename] = info
        if info.filename not in _MEMBERS:
            continue
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise UntrustedFileError(f"{path}: member {info.filename!r} is encrypted or compressed by unusual means")
        if info.file_size > min(INFLATED_LIMIT, max(SMALL, RATIO_LIMIT * info.compress_size)):
            raise UntrustedFileError(
                f"{path}: member {info.filename!r} inflates from {info.compress_size} to {info.file_size} bytes; "
                f"the limit is {RATIO_LIMIT} to 1"
            )
    if sum(members[name].compress_size for name in members) > file_size:
        raise UntrustedFileError(f"{path}: its members overlap")
    if members["config.json"].file_size > 1 << 26:
        raise UntrustedFileError(f"{path}: its configuration has {members['config.json'].file_size} bytes")
    return members


def _json(content: bytes, path: Path) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CorruptFileError(f"{path}: the configuration is not JSON ({type(error).__name__})") from None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number_of(label: str) -> tuple[str, int]:
    """Return ``("dense", 2)`` for ``"dense_2"``."""
    base, _, number = label.rpartition("_")
    return (base, int(number)) if number.isdigit() and base else (label, 0)

"""The formats of files that strangers may send, each with a good file and the way to read it.

A format is one line in :data:`FORMATS`.  ``checked`` tells whether a digest or checksum covers the values, so that a
changed file may only be refused or read as it was; where nothing covers them, as in plain HDF5, a changed number is a
number, and what is asked is that the reader neither crashes nor hangs nor returns anything but numbers of its shape.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from interop.test_files import safetensors
from interop.test_keras_files import B0, B1, K0, K1, dense, keras_file, sequential
from krylovh import Estimate, Network, ResultStore, Status, load_data, load_network

ESTIMATE = Estimate(1.5, 0.5, (0.0, 2.0), 30, 7, Status.CONVERGED, "hutchinson")
X, Y = np.random.default_rng(0).random((20, 3)), np.arange(20)
NET = Network((3, 4, 2), "tanh", np.random.default_rng(1).random(26))


class Format(NamedTuple):
    """How to write the good file, and how to read any file into a list of arrays."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Sequence[Any]]
    checked: bool


def write_results(path: Path) -> None:
    ResultStore(path).save_all({"trace": ESTIMATE, "values": np.arange(40.0), "flags": np.array([True, False])})


def read_results(path: Path) -> Sequence[Any]:
    store = ResultStore(path, "r")
    trace = store.load("trace")
    return [np.array([trace.value, *trace.interval]), store.load("values"), store.load("flags"), np.array(store.list())]


def read_net(path: Path) -> Sequence[Any]:
    net = load_network(path)
    return [net.theta, np.array(net.widths), np.array(net.activations)]


def read_data(path: Path) -> Sequence[Any]:
    return list(load_data(path)[:2])


def write_npz(path: Path) -> None:
    np.savez_compressed(path, X=X, y=Y)


def write_layers(path: Path) -> None:
    """Layer by layer, compressed, as another program may do."""
    with h5py.File(path, "w") as file:
        for name, array in {"layers/0/weight": np.ones((4, 3)), "layers/1/weight": np.ones((2, 4))}.items():
            file.create_dataset(name, data=array, compression="gzip", shuffle=True)
        file.attrs["activations"] = json.dumps(["tanh", "identity"])


def write_data(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["X"], file["y"] = X, Y


def write_checked_data(path: Path) -> None:
    """With the checksums that newer HDF5 files may carry, of structure and of values."""
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("X", data=X, fletcher32=True)
        file.create_dataset("y", data=Y, fletcher32=True)


def write_safetensors(path: Path) -> None:
    arrays = {"0.weight": np.ones((4, 3), np.float32), "0.bias": np.zeros(4, np.float32)}
    safetensors(path, arrays | {"1.weight": np.ones((2, 4), np.float32), "1.bias": np.zeros(2, np.float32)})


def write_keras(path: Path) -> None:
    config = sequential(dense("first", 5, "tanh"), dense("second", 3))
    keras_file(path, config, {"dense": [K0, B0], "dense_1": [K1, B1]})


def write_keras_weights(path: Path) -> None:
    """As Keras 3 writes a file of weights alone."""
    with h5py.File(path, "w") as file:
        for label, arrays in {"dense": (K0, B0), "dense_1": (K1, B1)}.items():
            for i, array in enumerate(arrays):
                file[f"layers/{label}/vars/{i}"] = array


def write_onnx(path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    arrays = {"K0": K0, "B0": B0, "K1": K1, "B1": B1}
    nodes = [
        helper.make_node("Gemm", ["x", "K0", "B0"], ["a"]),
        helper.make_node("Tanh", ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "K1", "B1"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 6), ("y", 3))]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:], weights))
    path.write_bytes(model.SerializeToString())


def read_weights(path: Path) -> Sequence[Any]:
    net = load_network(path, "tanh")
    return [net.theta, np.array(net.widths), np.array(net.activations)]


FORMATS = [
    Format("results.h5", write_results, read_results, checked=True),
    Format("net.npz", NET.save, read_net, checked=True),
    Format("net.h5", NET.save, read_net, checked=True),
    Format("data.npz", write_npz, read_data, checked=True),
    Format("layers.h5", write_layers, read_net, checked=False),
    Format("data.h5", write_data, read_data, checked=False),
    Format("checked.h5", write_checked_data, read_data, checked=False),  # fletcher32 misses some bursts
    Format("net.safetensors", write_safetensors, read_weights, checked=False),
    Format("net.keras", write_keras, read_net, checked=True),  # a zip, whose members have checksums
    Format("keras.weights.h5", write_keras_weights, read_weights, checked=False),
    Format("net.onnx", write_onnx, read_net, checked=False),
]

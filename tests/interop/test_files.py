"""Files of weights: formats told by content, orders that are known or refused, pickles that are never opened."""

import gzip
import json
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from krylovh import Network, UnsupportedModelError, load_network, to_sklearn, to_source, to_torch
from krylovh.storage.errors import CorruptFileError, UntrustedFileError

RNG = np.random.default_rng(3)


def safetensors(path, arrays, *, metadata=None, header=None, data=None, names=None):
    entries, content = [], b""
    for name, array in arrays.items():
        kind = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<u2": "BF16", "<i8": "I64"}[array.dtype.str]
        span = [len(content), len(content) + array.nbytes]
        entries.append((name, {"dtype": kind, "shape": list(array.shape), "data_offsets": span}))
        content += array.tobytes()
    if header is None:
        pairs = ", ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries)
        header = ("{" + pairs + "}").encode() + b" " * 3
    path.write_bytes(struct.pack("<Q", len(header)) + header + (content if data is None else data))
    return path


CHAIN = {
    "net.0.weight": RNG.standard_normal((4, 3)), "net.10.weight": RNG.standard_normal((2, 4)),
    "net.2.weight": RNG.standard_normal((4, 4)), "net.2.bias": RNG.standard_normal(4),
}  # fmt: skip


def expected(X):
    h = np.tanh(X @ CHAIN["net.0.weight"].T)
    h = np.tanh(h @ CHAIN["net.2.weight"].T + CHAIN["net.2.bias"])
    return h @ CHAIN["net.10.weight"].T


def test_numbers_in_names_give_the_order(tmp_path):
    X = RNG.standard_normal((5, 3))
    np.savez(tmp_path / "a.npz", **CHAIN)
    for path in (tmp_path / "a.npz", safetensors(tmp_path / "a", CHAIN)):
        net = load_network(path, "tanh")
        np.testing.assert_allclose(net.forward(X), expected(X), atol=1e-13)
        for name, array in to_torch(net, net.theta).items():
            np.testing.assert_array_equal(array, CHAIN[name])
        with pytest.raises(ValueError, match="pass activations="):
            load_network(path)
        with pytest.raises(ValueError, match="outputs= is for ONNX and Keras"):
            load_network(path, "tanh", outputs="logits")


def test_shapes_may_give_the_order_and_nothing_is_guessed(tmp_path):
    arrays = {"out.weight": np.ones((1, 4)), "body.weight": np.ones((4, 6)), "in.weight": np.ones((6, 3))}
    assert load_network(safetensors(tmp_path / "a", arrays), "relu").widths == (3, 6, 4, 1)
    arrays = {"out.weight": np.ones((4, 4)), "body.weight": np.ones((4, 4))}
    with pytest.raises(ValueError, match="order of the layers"):
        load_network(safetensors(tmp_path / "a", arrays), "relu")
    assert Network.from_torch(arrays, "relu").widths == (4, 4, 4)  # a dict has an order


def test_dtypes_of_safetensors(tmp_path):
    values = np.array([[1.0, -2.5]], np.float32)
    bfloat = (values.view(np.uint32) >> 16).astype("<u2")
    for array, dtype in ((values, np.float32), (values.astype("<f2"), np.float64), (values.astype("<f8"), np.float64),
                         (bfloat, np.float32)):  # fmt: skip
        net = load_network(safetensors(tmp_path / "a", {"l.weight": array}), ["tanh"])
        assert net.theta.dtype == dtype
        np.testing.assert_array_equal(net.theta, [1.0, -2.5])


GOOD = {"dtype": "F64", "shape": [2, 1], "data_offsets": [0, 16]}


def altered(**entry):
    return json.dumps({"a.weight": {**GOOD, **entry}}).encode()


HOSTILE = {
    "twice": (b'{"a.weight": %s, "a.weight": %s}' % ((json.dumps(GOOD).encode(),) * 2), "'a.weight' twice"),
    "twice within": (
        b'{"a.weight": {"dtype": "F64", "dtype": "F32", "shape": [2,1], "data_offsets": [0,16]}}',
        "twice",
    ),
    "path": (json.dumps({"../../x.weight": GOOD}).encode(), "is a path"),
    "bidi": (json.dumps({"a\u202e.weight": GOOD}).encode(), "not printable"),
    "long": (json.dumps({"a" * 10**6 + ".weight": GOOD}).encode(), "too long"),
    "huge": (altered(shape=[0, 2**60], data_offsets=[0, 0]), "shape"),
    "product": (altered(shape=[3, 1]), "declares 24 bytes"),
    "negative": (altered(shape=[-2, -1]), "shape"),
    "float": (altered(shape=[2.0, 1]), "shape"),
    "bool": (altered(shape=[True, 2]), "shape"),
    "beyond": (altered(shape=[2, 2], data_offsets=[0, 32]), "take 32 bytes, and 16 follow"),
    "reversed": (altered(data_offsets=[16, 0]), "offsets"),
    "hole": (altered(shape=[1, 1], data_offsets=[8, 16]), "overlap or leave gaps"),
    "unused": (altered(shape=[1, 1], data_offsets=[0, 8]), "take 8 bytes, and 16 follow"),
    "overlap": (
        json.dumps({"a.weight": GOOD, "b.weight": {**GOOD, "shape": [1, 1], "data_offsets": [8, 16]}}).encode(),
        "overlap",
    ),
    "dtype": (altered(dtype="I64"), "dtype 'I64'"),
    "unhashable": (altered(dtype=["F64"]), "dtype"),
    "unknown key": (altered(extra=1), "must have"),
    "list": (b"{" + b'"a":[]}', "must have"),
    "not UTF-8": (b'{"a\xff": 1}', "not JSON"),
    "nested": (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "not JSON"),
    "number": (b'{"a": NaN}', "NaN"),
    "many": (b"{" + b",".join(b'"%d":0' % i for i in range(20_000)) + b"}", "the limit is 10000"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_safetensors_are_refused(tmp_path, name):
    header, message = HOSTILE[name]
    path = safetensors(tmp_path / "net.safetensors", {}, header=header, data=np.ones(2).tobytes())
    with pytest.raises((CorruptFileError, UntrustedFileError), match=rf"net\.safetensors: .*{message}"):
        load_network(path, "tanh")


def test_safetensors_with_wrong_lengths_or_nan_are_refused(tmp_path):
    path = safetensors(tmp_path / "a", {"a.weight": np.ones((2, 1))})
    content = path.read_bytes()
    for length in (0, 1, 10**6, 2**33, 2**63):
        path.write_bytes(struct.pack("<Q", length) + content[8:])
        with pytest.raises((CorruptFileError, UntrustedFileError)):
            load_network(path, ["tanh"])
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises((CorruptFileError, UntrustedFileError)):
            load_network(path, ["tanh"])
    with pytest.raises(ValueError, match="theta must be finite"):
        load_network(safetensors(path, {"a.weight": np.full((2, 1), np.nan)}), ["tanh"])


class Marker:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def no_pickle(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was opened")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)


@pytest.mark.usefixtures("no_pickle")
def test_pickles_are_refused_unopened(tmp_path):
    marker = tmp_path / "marker"
    content = pickle.dumps({"a.weight": Marker(marker)})
    path = tmp_path / "model"
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps(Marker(marker), protocol))
        with pytest.raises(UntrustedFileError, match=r"is a pickle, which runs code.*Network\.from_sklearn"):
            load_network(path)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(UntrustedFileError, match="compressed by gzip"):
        load_network(path)
    path.write_bytes(pickle.dumps(Marker(marker), 0))
    with pytest.raises(CorruptFileError, match="supported: npz"):
        load_network(path)
    (tmp_path / "data.pkl").write_bytes(content)
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "data.pkl", "pickle")
    with pytest.raises(UntrustedFileError, match="tar archive"):
        load_network(path)
    np.savez(tmp_path / "model.npz", **{"a.weight": np.array([Marker(marker)], object)})
    with pytest.raises(UntrustedFileError, match=r"dtype object|damaged"):
        load_network(tmp_path / "model.npz", "tanh")
    assert not marker.exists()


def test_a_file_of_torch_never_runs_code(tmp_path):
    """Whatever the child is, a refusal or, without torch, what to install: the parent opens no pickle."""
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"a.weight": Marker(marker)}, 2))
        archive.writestr("model/version", "3\n")
    with pytest.raises((UntrustedFileError, ImportError), match=r"weights_only=True|pip install 'krylovh\[torch\]'"):
        load_network(path, "tanh")
    assert not marker.exists()
    with pytest.raises(ValueError, match="pass activations="):
        load_network(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "net.txt"
    for content in (b"", b"PK", b"PK\x03\x04 and no zip", b"hello", bytes(100), b"\x89HDF\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"net\.txt"):
            load_network(path)
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"0.weight": np.ones((2, 3, 1))}, r"'0.weight' must have 2 axes"),
        ({"0.weight": np.ones((2, 3), int)}, "floating point numbers"),
        ({"0.running_mean": np.ones(2)}, "'0.running_mean' belongs to no linear layer"),
        ({"0.bias": np.ones(2)}, "'0.weight' is missing"),
        ({"0.weight": np.ones((2, 3)), "0.bias": np.ones(3)}, r"'0.bias' must have shape \(2,\)"),
        ({"0.weight": np.ones((2, 3)), "1.weight": np.ones((2, 3))}, r"'1.weight' must have shape \(out, 2\)"),
        ({}, "has no layers"),
        ({"0.weight": [[1.0]]}, "must be a tensor, got list"),
    ],
)
def test_state_dicts_that_are_no_chain_are_refused(state, message):
    with pytest.raises((ValueError, UnsupportedModelError), match=message):
        Network.from_torch(state, "tanh")


def test_a_net_that_was_not_imported_has_standard_orders_alone(tmp_path):
    net = Network((2, 3, 1), "tanh", np.arange(13.0))
    with pytest.raises(ValueError, match="was not imported"):
        to_source(net, net.theta)
    with pytest.raises(ValueError, match=r"vector must have shape \(13,\)"):
        to_torch(net, np.zeros(12))
    with pytest.raises(ValueError, match="all have a bias"):
        to_sklearn(Network((2, 1), "tanh", bias=False), [1.0, 2.0])
    skip = Network((2, 3, 1), "tanh", sources=[[(0, "dense")], [(1, "dense"), (0, "dense")]])
    with pytest.raises(ValueError, match="skip connections"):
        to_torch(skip, skip.theta)
    coefs, intercepts = to_sklearn(net, np.eye(13))
    assert [c.shape for c in coefs + intercepts] == [(2, 3, 13), (3, 1, 13), (3, 13), (1, 13)]


def test_origins_follow_the_parameters(tmp_path):
    net = load_network(safetensors(tmp_path / "a", CHAIN), "tanh")
    moved = net.with_theta(2 * net.theta)
    np.testing.assert_array_equal(to_source(moved, moved.theta)["net.2.bias"], 2 * CHAIN["net.2.bias"])

"""Nets and data from files: every form is read, and every problem is named with path, key, found and needed."""

import json
import os

import h5py
import numpy as np
import pytest

from krylovh import Network, load_data, load_network
from krylovh.storage.inputs import save_network

RNG = np.random.default_rng(0)
SKIP = [[(0, "dense")], [(1, "dense"), (0, "dense")], [(2, "dense"), (1, "identity")]]


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                file[key] = value


@pytest.fixture(params=["npz", "h5", "hdf5"])
def path(request, tmp_path):
    return tmp_path / f"net.{request.param}"


def nets():
    chain = Network((3, 4, 2), ["tanh", "identity"])
    skip = Network((2, 3, 3, 3), ["relu", "gelu", "exp"], sources=SKIP, bias=[True, False, True])
    for net in (chain, skip, chain.with_theta(np.zeros(26, np.float32))):
        yield net.with_theta(RNG.standard_normal(net.num_parameters).astype(net.theta.dtype))


@pytest.mark.parametrize("net", list(nets()))
def test_a_saved_net_comes_back(path, net):
    net.save(path)
    loaded = Network.load(path)
    for key in ("widths", "activations", "sources", "bias"):
        assert getattr(loaded, key) == getattr(net, key)
    assert loaded.theta.dtype == net.theta.dtype
    assert loaded.theta.tobytes() == net.theta.tobytes()
    content = path.read_bytes()
    net.save(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_nets_are_saved_under_known_endings_only(tmp_path):
    with pytest.raises(ValueError, match=r"net\.pkl: .* must end with .npz, .h5 or .hdf5, got '.pkl'"):
        save_network(tmp_path / "net.pkl", next(nets()))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "activations",
    [
        "tanh",
        ["tanh", "identity"],
        np.array(["tanh", "identity"]),
        b"tanh",
        [b"tanh", b"identity"],
        '["tanh", "identity"]',
    ],
)
def test_every_form_of_activations_is_read(path, activations):
    if path.suffix != ".npz" and isinstance(activations, np.ndarray):
        activations = activations.tolist()
    write(path, {"theta": np.arange(13.0), "widths": [2, 3, 1], "activations": activations})
    net = load_network(path)
    assert net.activations == ("tanh", "identity")
    assert net.sources == (((0, "dense"),), ((1, "dense"),))
    assert load_network(path, "relu").activations == ("relu", "identity")
    assert load_network(path, ["sin", "exp"]).activations == ("sin", "exp")


def test_activations_may_be_an_attribute(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["theta"], file["widths"] = np.arange(13.0), [2, 3, 1]
        file.attrs["activations"] = "tanh"
    assert load_network(tmp_path / "net.h5").activations == ("tanh", "identity")


def test_layers_make_a_chain_in_the_order_of_theta(path):
    weights = [RNG.standard_normal(shape) for shape in ((3, 2), (3, 3), (1, 3))]
    bias = RNG.standard_normal(3)
    arrays = {f"layers.{l}.weight": np.asfortranarray(w) for l, w in enumerate(weights)} | {"layers.1.bias": bias}
    write(path, {**arrays, "activations": "tanh", "history": np.ones(5)})
    net = load_network(path)
    assert net.widths == (2, 3, 3, 1)
    assert net.bias == (False, True, False)
    assert np.array_equal(net.theta, np.concatenate([weights[0].ravel(), weights[1].ravel(), bias, weights[2].ravel()]))


def test_in_hdf5_layers_may_be_groups(tmp_path):
    write(tmp_path / "net.h5", {"layers/0/weight": np.ones((1, 2)), "layers/0/bias": np.zeros(1)})
    assert load_network(tmp_path / "net.h5", "tanh").theta.tolist() == [1, 1, 0]


TOPOLOGY = {"theta": np.arange(13.0), "widths": [2, 3, 1], "activations": "tanh"}
LAYERS = {"layers.0.weight": np.ones((3, 2)), "layers.1.weight": np.ones((1, 3)), "activations": "tanh"}


def without(arrays, key):
    return {name: value for name, value in arrays.items() if name != key}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": [1.0], "b": [2.0]}, "'theta' is missing; a net needs 'theta', .* found 'a', 'b'"),
        (without(TOPOLOGY, "widths"), "'widths' is missing"),
        (without(TOPOLOGY, "activations"), "'activations' is missing; store it or pass activations="),
        (TOPOLOGY | LAYERS, "has both 'theta' and 'layers.0.weight'"),
        (TOPOLOGY | {"widths": [2.0, 3.0, 1.0]}, "'widths' must be a list of integers, .* dtype float64"),
        (TOPOLOGY | {"widths": 3}, r"'widths' must be a list of integers, got shape \(\)"),
        (TOPOLOGY | {"widths": [2, -3, 1]}, "widths"),
        (TOPOLOGY | {"theta": np.arange(12.0)}, r"theta must have shape \(13,\), got \(12,\)"),
        (TOPOLOGY | {"theta": np.ones((13, 1))}, r"'theta' must have 1 axes, got shape \(13, 1\)"),
        (TOPOLOGY | {"theta": np.ones(13, complex)}, "'theta' must hold real numbers, got dtype complex128"),
        (TOPOLOGY | {"theta": np.full(13, np.nan)}, "theta must be finite"),
        (TOPOLOGY | {"activations": "sigmund"}, "unknown activation 'sigmund'"),
        (TOPOLOGY | {"activations": 3.0}, "unknown activation '3.0'"),
        (TOPOLOGY | {"activations": "[1, 2]"}, "'activations' must be a name or a list of names"),
        (TOPOLOGY | {"activations": "[broken"}, "'activations' must be JSON text"),
        (TOPOLOGY | {"activations": "[" * 100_000}, "'activations' must be JSON text"),
        (TOPOLOGY | {"bias": [True]}, r"'bias' must have 2 rows, got shape \(1,\)"),
        (TOPOLOGY | {"sources": "{}"}, "'sources' must be a list"),
        (TOPOLOGY | {"sources": "[[[0.5, \"dense\"]]]"}, "'sources' must be, for each layer, a list of"),
        (TOPOLOGY | {"sources": json.dumps([[[0, "dense"]]])}, "sources must have one entry for each of the 2 layers"),
        (TOPOLOGY | {"sources": [1, 2]}, "'sources' must be JSON text"),
        (without(LAYERS, "layers.0.weight"), "'layers.0.weight' is missing; there are layers up to 1"),
        (LAYERS | {"layers.1.weight": np.ones((1, 4))}, r"'layers.1.weight' must have shape \(out, 3\).* \(1, 4\)"),
        (LAYERS | {"layers.1.bias": np.ones(2)}, r"'layers.1.bias' must have 1 rows, got shape \(2,\)"),
        (LAYERS | {"layers.0.weight": np.ones(6)}, "'layers.0.weight' must have 2 axes"),
        (LAYERS | {"layers.01.weight": np.ones((1, 1))}, "'layers.01.weight' is not of the form"),
        (LAYERS | {"layers.1.wieght": np.ones((1, 1))}, "'layers.1.wieght' is not of the form"),
        (LAYERS | {"layers.99999.weight": np.ones((1, 1))}, "'layers.2.weight' is missing"),
    ],
)  # fmt: skip
def test_every_problem_of_a_net_is_named(tmp_path, arrays, message):
    for file in (tmp_path / "net.npz", tmp_path / "net.h5"):
        write(file, arrays)
        with pytest.raises(ValueError, match=rf"{file.name}: {message}"):
            load_network(file)


def test_data_with_and_without_weights(path):
    X, y, w = RNG.random((4, 2)), np.arange(4), np.ones(4, np.float32)
    write(path, {"X": X, "y": y})
    data = load_data(path)
    assert data.sample_weight is None
    write(path, {"X": np.asfortranarray(X), "y": y, "sample_weight": w, "names": [b"a"]})
    for found, expected in zip(load_data(path), (X, y, w), strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.ones((2, 2)), "target": [0, 1]}, "data need .*, 'X' is missing; found 'data', 'target'"),
        ({"X": np.ones((2, 2))}, ".*'y' is missing; found 'X'"),
        ({"X": np.ones(2), "y": [0, 1]}, r"'X' must have 2 axes, got shape \(2,\)"),
        ({"X": np.ones((2, 2)), "y": [0, 1, 2]}, r"'y' must have 2 rows, got shape \(3,\)"),
        ({"X": np.ones((2, 2)), "y": 1}, r"'y' must have 1 or 2 axes, got shape \(\)"),
        ({"X": np.ones((2, 2)), "y": [b"a", b"b"]}, "'y' must hold real numbers"),
        ({"X": np.ones((2, 2)), "y": [0, 1], "sample_weight": [1.0]}, "'sample_weight' must have 2 rows"),
        ({f"array {i}": [i] for i in range(30)}, ".* and 20 more"),
    ],
)  # fmt: skip
def test_every_problem_of_data_is_named(tmp_path, arrays, message):
    for file in (tmp_path / "data.npz", tmp_path / "data.h5"):
        write(file, arrays)
        with pytest.raises(ValueError, match=rf"{file.name}: {message}"):
            load_data(file)


@pytest.mark.parametrize("load", [load_data, load_network])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe text", b"\x80\x04pickle", b"PK", b"\x89HDF\r\n\x1a\n" + bytes(100)]
)
def test_other_files_are_refused_by_name(tmp_path, load, content):
    (tmp_path / "net.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.npz: "):
        load(tmp_path / "net.npz")


@pytest.mark.parametrize("load", [load_data, load_network])
def test_files_that_cannot_be_opened_keep_the_systems_error(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="missing"):
        load(tmp_path / "missing.npz")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not an ordinary file"):
        load(tmp_path / "pipe")


def test_a_truncated_net_is_refused(path):
    next(nets()).save(path)
    content = path.read_bytes()
    end = content.rfind(b"krylovh sha-256 ")  # of HDF5: a file that lost only its seal is whole
    end = len(content) - 1 if end < 0 else end
    for size in range(0, end, end // 12):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=path.name):
            load_network(path)

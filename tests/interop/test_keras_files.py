"""Keras files made by hand, as Keras 2 and 3 write them; their nets against plain NumPy."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from krylovh import UnsupportedModelError, load_network, to_keras
from krylovh.storage.errors import CorruptFileError, UntrustedFileError

RNG = np.random.default_rng(2)
X = RNG.standard_normal((4, 6))
K0, B0, K1, B1 = (RNG.standard_normal(shape).astype(np.float32) for shape in ((6, 5), (5,), (5, 3), (3,)))
STATISTICS = [RNG.uniform(0.5, 2, 5).astype(np.float32) for _ in range(4)]  # gamma, beta, mean, variance


def layer(kind, name, **config):
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config}}


def dense(name, units, activation="linear", **config):
    return layer("Dense", name, units=units, activation=activation, use_bias=True, **config)


def sequential(*layers, **more):
    first = layer("InputLayer", "input", batch_shape=[None, 6])
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers]}, **more}


def keras_file(path, config, groups, *, compression=zipfile.ZIP_STORED, more=()):
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for label, arrays in groups.items():
            for i, array in enumerate(arrays):
                file[f"layers/{label}/vars/{i}"] = array
        file.create_group("optimizer/vars")
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", image.getvalue())
        for name, content in more:
            archive.writestr(name, content)
    return path


def test_a_keras_3_file(tmp_path):
    config = sequential(dense("first", 5, "tanh"), layer("Dropout", "d", rate=0.5), dense("second", 3, "softmax"))
    path = keras_file(tmp_path / "net.keras", config, {"dense": [K0, B0], "dense_1": [K1, B1]})
    net = load_network(path)
    assert (net.widths, net.activations, net.origin.link) == ((6, 5, 3), ("tanh", "identity"), "softmax")
    assert net.theta.dtype == np.float32
    np.testing.assert_allclose(net.forward(X), np.tanh(X @ K0 + B0) @ K1 + B1, atol=1e-5)
    for ours, theirs in zip(to_keras(net, net.theta), (K0, B0, K1, B1), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_loss_says_what_a_sigmoid_at_the_end_is(tmp_path):
    config = sequential(dense("first", 5, "relu"), dense("second", 3, "sigmoid"))
    groups = {"dense": [K0, B0], "dense_1": [K1, B1]}
    path = keras_file(tmp_path / "net.keras", config, groups)
    with pytest.raises(UnsupportedModelError, match=r"'second' \(Dense\).*outputs='logits'"):
        load_network(path)
    assert load_network(path, outputs="model").activations == ("relu", "logistic")
    keras_file(path, {**config, "compile_config": {"loss": "binary_crossentropy"}}, groups)
    assert load_network(path).activations == ("relu", "identity")
    loss = {"class_name": "BinaryCrossentropy", "config": {}}
    keras_file(path, {**config, "compile_config": {"loss": loss}}, groups)
    assert load_network(path).origin.link == "logistic"


def functional(version):
    """tanh, then a residual branch with batch normalisation, joined with the input."""

    def sources(*names):
        if version == 2:
            return [[[name, 0, 0, {}] for name in names]]
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in names]
        return [{"args": tensors if len(names) == 1 else [tensors], "kwargs": {}}]

    layers = [
        layer("InputLayer", "x", batch_shape=[None, 6]), dense("a", 5, "tanh"), dense("b", 5),
        layer("BatchNormalization", "n", epsilon=1e-3, axis=-1), layer("Activation", "s", activation="silu"),
        layer("Add", "sum"), layer("Concatenate", "both", axis=-1), dense("out", 3),
    ]  # fmt: skip
    inbound = [[], sources("x"), sources("a"), sources("b"), sources("n"), sources("a", "s"), sources("sum", "x"),
               sources("both")]  # fmt: skip
    for entry, nodes in zip(layers, inbound, strict=True):
        entry["inbound_nodes"] = nodes
        entry["name"] = entry["config"]["name"]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["out", 0, 0]] if version == 2 else ["out", 0, 0]}
    return {"class_name": "Functional", "config": {"name": "net", "layers": layers, **ends}}


KB, KO = RNG.standard_normal((5, 5)).astype(np.float32), RNG.standard_normal((11, 3)).astype(np.float32)


def expected_of_functional():
    a = np.tanh(X @ K0 + B0)
    gamma, beta, mean, variance = STATISTICS
    b = (a @ KB + B0 - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    return np.hstack([a + b / (1 + np.exp(-b)), X]) @ KO + B1


def test_functional_models_in_both_layouts(tmp_path):
    groups = {"a": [K0, B0], "b": [KB, B0], "n": STATISTICS, "out": [KO, B1]}
    saved = {"dense": groups["a"], "dense_1": groups["b"], "batch_normalization": groups["n"], "dense_2": groups["out"]}
    nets = [load_network(keras_file(tmp_path / "net.keras", functional(3), saved))]
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(functional(2))
        file.attrs["keras_version"] = "2.15.0"
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [name.encode() for name in ("x", *groups)]
        weights.create_group("x").attrs["weight_names"] = np.array([], "S1")
        for label, arrays in groups.items():
            names = [f"{label}/w{i}:0" for i in range(len(arrays))]
            weights.create_group(label).attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, arrays, strict=True):
                weights[label][name] = array
    nets.append(load_network(tmp_path / "net.h5"))
    for net in nets:
        assert net.sources == (((0, "dense"),), ((1, "dense"),), ((1, "identity"), (2, "identity")),
                               ((3, "dense"), (0, "dense")))  # fmt: skip
        np.testing.assert_allclose(net.forward(X), expected_of_functional(), atol=1e-10)
        with pytest.raises(ValueError, match=r"'n' \(BatchNormalization\) was folded into 'b/kernel'"):
            to_keras(net, net.theta)


@pytest.mark.parametrize("layout", ["keras 2", "keras 3"])
def test_weights_alone_need_activations(tmp_path, layout):
    path = tmp_path / "w.weights.h5"
    with h5py.File(path, "w") as file:
        if layout == "keras 2":
            file.attrs["layer_names"] = [b"zeta", b"alpha"]
            for label, kernel, bias in ((b"zeta", K0, B0), (b"alpha", K1, B1)):
                group = file.create_group(label)
                group.attrs["weight_names"] = [label + b"/kernel:0", label + b"/bias:0"]
                group[label + b"/kernel:0"], group[label + b"/bias:0"] = kernel, bias
        else:
            file["layers/dense_10/vars/0"], file["layers/dense_10/vars/1"] = K1, B1
            file["layers/dense_2/vars/0"], file["layers/dense_2/vars/1"] = K0, B0
    with pytest.raises(ValueError, match="pass activations="):
        load_network(path)
    net = load_network(path, "relu")
    np.testing.assert_allclose(net.forward(X), np.maximum(X @ K0 + B0, 0) @ K1 + B1, atol=1e-5)
    for ours, theirs in zip(to_keras(net, net.theta), (K0, B0, K1, B1), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (sequential(layer("Conv1D", "conv", filters=2), dense("out", 3)), r"layer 'conv' \(Conv1D\)"),
        (sequential(layer("LSTM", "cell", units=2), dense("out", 3)), r"layer 'cell' \(LSTM\)"),
        (sequential(layer("Lambda", "own", function="gAAAA"), dense("out", 3)), r"layer 'own' \(Lambda\)"),
        (sequential(layer("LeakyReLU", "leaky", negative_slope=0.3), dense("out", 3)), r"layer 'leaky'"),
        (sequential(layer("ELU", "elu", alpha=0.5), dense("out", 3)), r"layer 'elu'"),
        (sequential(dense("out", 5, "relu6")), r"layer 'out'.*activation 'relu6'"),
        (sequential(dense("out", 5, {"class_name": "function", "module": "mine", "config": "tanh",
                                     "registered_name": "mine>tanh"})), r"activation 'mine>tanh'"),
        (sequential({**dense("out", 3), "module": "mine"}), r"layer 'out' \(Dense\): comes from mine"),
        (sequential(dense("out", 3), dense("out", 3)), "two layers named 'out'"),
        (sequential(dense("out", 9)), r"kernel must have shape \(6, 9\), got \(6, 5\)"),
        ({"class_name": "Mine", "config": {"layers": []}}, "is a Mine; supported are Sequential"),
        ({"class_name": "Sequential", "config": {"layers": [3]}}, "layer 0 has no configuration"),
        ([], "is a list"),
        ("{" * 10, "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(tmp_path, config, message):
    path = keras_file(tmp_path / "net.keras", config, {"dense": [K0, B0]})
    with pytest.raises(ValueError, match=rf"net\.keras: .*{message}"):
        load_network(path)


def test_functional_models_that_go_in_circles_are_refused(tmp_path):
    config = functional(2)
    config["config"]["layers"][1]["inbound_nodes"] = [[["out", 0, 0, {}]]]
    path = keras_file(tmp_path / "net.keras", config, {})
    with pytest.raises(UnsupportedModelError, match="depends on its own output"):
        load_network(path)
    config["config"]["layers"][1]["inbound_nodes"] = [[["x", 0, 0, {}]]] * 2
    keras_file(path, config, {})
    with pytest.raises(UnsupportedModelError, match="layer 'a' is applied 2 times"):
        load_network(path)


def test_hostile_files_are_refused(tmp_path):
    path = tmp_path / "net.keras"
    config, groups = sequential(dense("out", 5)), {"dense": [K0, B0]}
    padded = {**config, "padding": " " * (32 << 20)}
    keras_file(path, padded, groups, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UntrustedFileError, match=r"'config.json' inflates from \d+ to \d+ bytes"):
        load_network(path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        keras_file(path, config, groups, more=[("config.json", "{}")])
    with pytest.raises(UntrustedFileError, match=r"two members named 'config.json'"):
        load_network(path)
    keras_file(path, config, groups)
    content = path.read_bytes()
    for size in range(100, len(content), 1501):
        path.write_bytes(content[:size])
        with pytest.raises((CorruptFileError, UntrustedFileError)):
            load_network(path)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file["model_weights"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(UntrustedFileError, match="external link"):
        load_network(tmp_path / "net.h5")

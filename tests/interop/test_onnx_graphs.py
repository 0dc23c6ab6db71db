"""ONNX graphs of the shapes that exporters write, against onnx's reference evaluator; what is refused, by name."""

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from krylovh import Network, Objective, UnsupportedModelError, hessian_matrix, load_network, to_source
from krylovh.storage.errors import CorruptFileError, UntrustedFileError
from oracles import complex_step_hessian

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

RNG = np.random.default_rng(11)
X = RNG.standard_normal((6, 5))


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op}_{outputs.split()[0]}", **attributes)


def constant(name, value, dtype=np.float64):
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def weights(**shapes):
    return [constant(name, RNG.standard_normal(shape)) for name, shape in shapes.items()]


def model(nodes, initializers=(), *, output="y", axes=("N", 5), opset=20, kind=TensorProto.DOUBLE, more=()):
    info = helper.make_tensor_value_info("x", kind, list(axes))
    outputs = [helper.make_tensor_value_info(output, kind, None), *more]
    graph = helper.make_graph(nodes, "example", [info], outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets)


def reference(proto, x=X):
    return np.asarray(ReferenceEvaluator(proto).run(None, {"x": x})[0])


DENSE = [node("Gemm", "x W b", "h", transB=1)]
LAST = [node("MatMul", "z V", "m"), node("Add", "m c", "y")]
SHAPES = {"W": (7, 5), "b": (7,), "V": (7, 3), "c": (3,)}

PATTERNS = {
    "relu": [node("Relu", "h", "z")],
    "tanh": [node("Tanh", "h", "z")],
    "logistic": [node("Sigmoid", "h", "z")],
    "leaky_relu": [node("LeakyRelu", "h", "z", alpha=0.01)],
    "elu": [node("Elu", "h", "z")],
    "selu": [node("Selu", "h", "z")],
    "softplus": [node("Exp", "h", "e"), node("Add", "e one", "f"), node("Log", "f", "z")],
    "softsign": [node("Abs", "h", "e"), node("Add", "one e", "f"), node("Div", "h f", "z")],
    "silu": [node("Sigmoid", "h", "s"), node("Mul", "s h", "z")],
    "mish": [node("Softplus", "h", "s"), node("Tanh", "s", "t"), node("Mul", "h t", "z")],
    "sin": [node("Sin", "h", "z")],
    "gelu": [
        node("Div", "h root2", "d"), node("Erf", "d", "e"), node("Add", "e one", "f"), node("Mul", "h f", "g"),
        node("Mul", "g half", "z"),
    ],
    "gelu_tanh": [
        node("Pow", "h three", "p"), node("Mul", "p cubic", "q"), node("Add", "h q", "r"), node("Mul", "r slope", "s"),
        node("Tanh", "s", "t"), node("Add", "t one", "u"), node("Mul", "h half", "v"), node("Mul", "v u", "z"),
    ],
}  # fmt: skip
NUMBERS = [
    constant(name, value)
    for name, value in {
        "one": 1.0, "half": 0.5, "root2": np.sqrt(2.0), "three": 3.0, "cubic": 0.044715, "slope": np.sqrt(2 / np.pi),
    }.items()
]  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_activations_of_exporters(name):
    proto = model([*DENSE, *PATTERNS[name], *LAST], [*weights(**SHAPES), *NUMBERS])
    net = Network.from_onnx(proto, check=True)
    assert (net.widths, net.activations) == ((5, 7, 3), (name, "identity"))
    # attributes are float32, and the reference evaluates erf in float32
    bound = 1e-6 if name in ("leaky_relu", "selu", "gelu") else 1e-12
    np.testing.assert_allclose(net.forward(X), reference(proto), rtol=bound, atol=bound)


def test_gelu_and_swish_as_operators():
    for name, operation in {
        "gelu": node("Gelu", "h", "z"),
        "gelu_tanh": node("Gelu", "h", "z", approximate="tanh"),
        "silu": node("Swish", "h", "z"),
    }.items():
        proto = model([*DENSE, operation, *LAST], weights(**SHAPES), opset=24 if name == "silu" else 20)
        assert Network.from_onnx(proto).activations[0] == name


def residual():
    """tanh(x A + a), twice a residual block, concatenated with the input: asymmetric widths throughout."""
    nodes = [
        node("Flatten", "x", "x0"), node("Gemm", "x0 A a", "h0", transB=1), node("Tanh", "h0", "h"),
        node("MatMul", "h B", "p"), node("Sigmoid", "p", "q"), node("MatMul", "q C", "r"), node("Add", "cc r", "s"),
        node("Add", "h s", "t"), node("Identity", "t", "t1"), node("Dropout", "t1", "t2"),
        node("Concat", "t2 x0", "j", axis=1), node("Gemm", "j D d", "y"),
    ]  # fmt: skip
    return model(nodes, weights(A=(4, 5), a=(4,), B=(4, 6), C=(6, 4), cc=(4,), D=(9, 3), d=(3,)))


def test_a_residual_block_has_the_right_hessian():
    proto = residual()
    net = Network.from_onnx(proto, check=True)
    assert net.widths == (5, 4, 6, 4, 3)
    assert net.sources[2] == ((2, "dense"), (1, "identity"))
    assert net.sources[3] == ((3, "dense"), (0, "dense"))
    y = RNG.integers(0, 3, 6)
    H = hessian_matrix(Objective(net, X, y, loss="softmax_cross_entropy"))
    expected = complex_step_hessian(net, net.theta, X, y, loss="softmax_cross_entropy")
    np.testing.assert_allclose(H, expected, atol=1e-12 * abs(H).max())
    np.testing.assert_allclose(net.forward(X), reference(proto), atol=1e-12)


def test_vectors_go_back_to_the_initializers():
    proto = residual()
    net = Network.from_onnx(proto)
    arrays = to_source(net, net.theta)
    assert list(arrays) == ["A", "a", "B", "C", "cc", "D", "d"]
    for tensor in proto.graph.initializer:
        np.testing.assert_array_equal(arrays[tensor.name], numpy_helper.to_array(tensor))
    columns = to_source(net, np.stack([net.theta, 2 * net.theta], axis=1))
    np.testing.assert_array_equal(columns["D"][..., 1], 2 * arrays["D"])


def test_a_pre_activation_that_two_consumers_need_is_made_once():
    nodes = [*DENSE, node("Relu", "h", "r"), node("Add", "r h", "z"), *LAST]
    proto = model(nodes, weights(**SHAPES))
    net = Network.from_onnx(proto, check=True)
    assert net.num_parameters == 7 * 5 + 7 + 7 * 3 + 3


def test_batch_normalization_is_folded_before_and_after():
    statistics = [constant(k, RNG.uniform(0.5, 2, 7)) for k in ("g1", "o1", "m1", "v1", "g2", "o2", "m2", "v2")]
    nodes = [
        *DENSE, node("BatchNormalization", "h g1 o1 m1 v1", "n1"), node("Relu", "n1", "z1"),
        node("BatchNormalization", "z1 g2 o2 m2 v2", "z"), *LAST,
    ]  # fmt: skip
    proto = model(nodes, [*weights(**SHAPES), *statistics])
    net = Network.from_onnx(proto, check=True)
    assert net.widths == (5, 7, 3)
    np.testing.assert_allclose(net.forward(X), reference(proto), atol=1e-12)
    with pytest.raises(ValueError, match=r"BatchNormalization_n1.* was folded into 'W'"):
        to_source(net, net.theta)


def test_inputs_that_are_scaled_are_folded():
    nodes = [node("Sub", "x mean", "u"), node("Div", "u deviation", "v"), node("Gemm", "v W b", "y", transB=1)]
    initializers = [*weights(W=(3, 5), b=(3,)), constant("mean", RNG.standard_normal(5)),
                    constant("deviation", RNG.uniform(1, 2, (1, 5)))]  # fmt: skip
    proto = model(nodes, initializers)
    np.testing.assert_allclose(Network.from_onnx(proto).forward(X), reference(proto), atol=1e-12)
    scaler = [node("Scaler", "x", "v", domain="ai.onnx.ml", offset=[0.5], scale=[2.0]),
              node("Gemm", "v W b", "y", transB=1)]  # fmt: skip
    net = Network.from_onnx(model(scaler, initializers[:2]))
    W, b = (numpy_helper.to_array(tensor) for tensor in initializers[:2])
    np.testing.assert_allclose(net.forward(X), (X - 0.5) * 2 @ W.T + b, atol=1e-12)


def test_images_are_flattened():
    initializers = [*weights(W=(6, 3), b=(1, 3)), constant("shape", [-1, 6], np.int64)]
    for flatten in (node("Flatten", "x", "f"), node("Reshape", "x shape", "f")):
        proto = model([flatten, node("MatMul", "f W", "m"), node("Add", "b m", "y")], initializers, axes=(2, 2, 3))
        net = Network.from_onnx(proto)
        x = RNG.standard_normal((2, 2, 3))
        np.testing.assert_allclose(net.forward(x.reshape(2, 6)), reference(proto, x), atol=1e-13)
    assert to_source(net, net.theta)["b"].shape == (1, 3)


@pytest.mark.parametrize(
    ("tail", "link", "function"),
    [
        ([node("Softmax", "l", "y")], "softmax", lambda z: softmax(z, axis=1)),
        ([node("LogSoftmax", "l", "y", axis=1)], "log_softmax", lambda z: log_softmax(z, axis=1)),
        ([node("Softmax", "l", "p"), node("Log", "p", "y")], "log_softmax", lambda z: log_softmax(z, axis=1)),
    ],
)
def test_softmax_at_the_end_is_left_out(tail, link, function):
    nodes = [*DENSE, node("Tanh", "h", "z"), node("MatMul", "z V", "m"), node("Add", "m c", "l"), *tail]
    proto = model(nodes, weights(**SHAPES))
    net = Network.from_onnx(proto, check=True)
    assert net.origin.link == link
    np.testing.assert_allclose(function(net.forward(X)), reference(proto), atol=1e-12)
    with pytest.raises(UnsupportedModelError, match=rf"{tail[0].name}.*outputs='logits'"):
        Network.from_onnx(proto, outputs="model")


def test_a_logistic_function_at_the_end_is_not_guessed():
    nodes = [node("Gemm", "x W b", "l", transB=1), node("Sigmoid", "l", "y")]
    proto = model(nodes, weights(W=(3, 5), b=(3,)))
    with pytest.raises(UnsupportedModelError, match=r"Sigmoid_y.*outputs='logits'.*outputs='model'"):
        Network.from_onnx(proto)
    logits, kept = (Network.from_onnx(proto, outputs=outputs, check=True) for outputs in ("logits", "model"))
    assert (logits.activations, kept.activations) == (("identity",), ("logistic",))
    np.testing.assert_allclose(expit(logits.forward(X)), kept.forward(X), rtol=1e-13)


def test_the_tail_of_a_binary_classifier_is_one_logit():
    label = helper.make_tensor_value_info("label", TensorProto.INT64, None)
    nodes = [
        node("Gemm", "x W b", "l", transB=1), node("Sigmoid", "l", "p"), node("Sub", "one p", "q"),
        node("Concat", "q p", "y", axis=1), node("ArgMax", "y", "label", axis=1),
    ]  # fmt: skip
    proto = model(nodes, [*weights(W=(1, 5), b=(1,)), NUMBERS[0]], more=[label])
    net = Network.from_onnx(proto, check=True)
    assert (net.widths, net.origin.link) == ((5, 1), "binary")


DECLARED = {
    "Conv": ([node("Conv", "x K", "y")], {"K": (2, 1, 3)}, (2, 1, 5)),
    "LSTM": ([node("LSTM", "x K R", "y", hidden_size=2)], {"K": (1, 8, 5), "R": (1, 8, 2)}, (2, 1, 5)),
    "Attention": ([helper.make_node("Attention", ["x"], ["y"], name="Attention_y", domain="com.other")], {}, ("N", 5)),
    "TreeEnsembleClassifier": (
        [helper.make_node("TreeEnsembleClassifier", ["x"], ["y"], name="TreeEnsembleClassifier_y",
                          domain="ai.onnx.ml")],
        {}, ("N", 5),
    ),
    "LinearClassifier": (
        [helper.make_node("LinearClassifier", ["x"], ["y"], name="LinearClassifier_y", domain="ai.onnx.ml",
                          coefficients=[1.0] * 5)], {}, ("N", 5),
    ),
    "HardSigmoid": ([*DENSE, node("HardSigmoid", "h", "y")], {"W": (7, 5), "b": (7,)}, ("N", 5)),
    "MatMul": ([node("MatMul", "x W", "h"), node("Transpose", "h", "t"), node("MatMul", "h t", "y")], {"W": (5, 4)},
               ("N", 5)),
    "Mul": ([node("Gemm", "x W", "h", transB=1), node("Gemm", "x V", "k", transB=1), node("Mul", "h k", "y")],
            {"W": (4, 5), "V": (4, 5)}, ("N", 5)),
    "Gemm": ([node("Gemm", "x W", "h"), node("Tanh", "h", "t"), node("Gemm", "t W", "y")], {"W": (5, 5)}, ("N", 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_not_supported_is_refused_by_name(name):
    nodes, shapes, axes = DECLARED[name]
    proto = model(nodes, weights(**shapes), axes=axes)
    last = nodes[-1].name if name not in ("MatMul",) else "Transpose_t"
    with pytest.raises(UnsupportedModelError, match=last):
        Network.from_onnx(proto)


def test_a_file_is_read_by_a_process_of_its_own(tmp_path):
    proto = residual()
    path = tmp_path / "net.bin"  # told by its content
    path.write_bytes(proto.SerializeToString())
    net = load_network(path)
    np.testing.assert_array_equal(net.theta, Network.from_onnx(proto).theta)
    assert Network.from_onnx(path, check=True).origin.library == "onnx"
    with pytest.raises(ValueError, match="activations= is for files of weights alone"):
        load_network(path, "tanh")


def external(tmp_path, location, *, length=None, offset=0):
    proto = model([node("MatMul", "x W", "y")], weights(W=(5, 2)))
    (tensor,) = proto.graph.initializer
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length or len(content)}.items():
        tensor.external_data.add(key=key, value=str(value))
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    return content


def test_values_beside_the_model_are_read_from_its_folder_only(tmp_path):
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    content = external(folder, "data/w.bin", offset=3)
    (folder / "data/w.bin").write_bytes(b"abc" + content)
    net = load_network(folder / "net.onnx")
    assert net.weights(1).T.tobytes() == content
    (tmp_path / "secret").write_bytes(content)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    for location in ("../secret", str(tmp_path / "secret"), "link", "up/secret", "data/../../secret", "", "data"):
        external(folder, location)
        with pytest.raises(UntrustedFileError, match="'W'"):
            load_network(folder / "net.onnx")
    for wrong in ({"length": 8}, {"offset": 90}, {"offset": -1}):
        external(folder, "data/w.bin", **wrong)
        with pytest.raises(CorruptFileError, match="'W'"):
            load_network(folder / "net.onnx")


def damaged():
    good = [node("MatMul", "x W", "y")]
    yield (
        "cycle",
        model([node("Add", "x a", "b"), node("Add", "b x", "a"), node("MatMul", "a W", "y")], weights(W=(5, 2))),
    )
    yield "twice", model(good, weights(W=(5, 2)) * 2)
    yield "missing", model([node("MatMul", "nothing W", "y")], weights(W=(5, 2)))
    yield "opset", model(good, weights(W=(5, 2)), opset=1_000_000)
    for shape in ([-1, 2], [2**62, 2], [2**33, 2**33], [5, 3], [0, 2**40]):
        proto = model(good, weights(W=(5, 2)))
        proto.graph.initializer[0].ClearField("dims")
        proto.graph.initializer[0].dims.extend(shape)
        yield str(shape), proto
    yield "redefined", model([node("Relu", "x", "W"), *good], weights(W=(5, 2)))
    yield "width", model(good, weights(W=(4, 2)))
    yield "nan", model(good, [constant("W", np.full((5, 2), np.nan))])


@pytest.mark.parametrize(("name", "proto"), list(damaged()), ids=lambda value: value if isinstance(value, str) else "")
def test_damaged_models_are_refused(name, proto):
    with pytest.raises(ValueError, match=r"W|'a'|nothing|opset|Add|initializers|theta|takes 4 inputs, and is given 5"):
        Network.from_onnx(proto)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    content = residual().SerializeToString()
    for bad in (b"\x08", content[:50], content[:-20], b"\x08\x07" + bytes(100), b"not a model"):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"net\.onnx"):
            load_network(path)

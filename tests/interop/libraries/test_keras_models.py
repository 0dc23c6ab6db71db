"""Keras models, live and from files: the exact Hessian is that of Keras's own loss, by torch's autograd."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autodiff import in_source_order
from keras import layers
from torch.autograd.functional import hessian

from krylovh import Network, Objective, UnsupportedModelError, hessian_matrix, load_network, to_keras

BOUND = 1e-10
RNG = np.random.default_rng(4)


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(5)
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def inputs():
    return RNG.standard_normal((9, 6))


def hessian_of(model, forward, loss, keras_loss, X, y):
    """By torch's autograd of Keras's formulas, in the order of ``get_weights``.

    The formulas are tied to Keras by the value of its own loss; Keras itself multiplies matrices in float32.
    """
    weights = [torch.as_tensor(array) for array in model.get_weights()]
    sizes = [w.numel() for w in weights]
    targets = torch.as_tensor(y)

    def value(flat):
        parts = [part.reshape(w.shape) for part, w in zip(flat.split(sizes), weights, strict=True)]
        return loss(forward(torch.as_tensor(X), *parts), targets) + sum(
            penalty * (part**2).sum() for penalty, part in zip(penalties(model), parts, strict=True)
        )

    flat = torch.cat([w.reshape(-1) for w in weights])
    outputs = model.predict(X.reshape(len(X), *model.input_shape[1:]), verbose=0)
    theirs = float(keras_loss(y, outputs)) + sum(float(keras.ops.convert_to_numpy(penalty)) for penalty in model.losses)
    assert float(value(flat)) == pytest.approx(theirs, rel=1e-5)
    return hessian(value, flat).numpy()


def penalties(model):
    """The factor of the squares of each array of weights."""
    factors = []
    for layer in model.layers:
        regularizer = getattr(layer, "kernel_regularizer", None)
        factors += [float(regularizer.l2) if regularizer else 0.0, 0.0][: len(layer.get_weights())]
    return factors


def classifier():
    return keras.Sequential([
        layers.Input((2, 3)), layers.Flatten(), layers.Dense(5, activation="tanh"), layers.Dropout(0.2),
        layers.Dense(4, activation="gelu"), layers.Dense(3, activation="softmax"),
    ])  # fmt: skip


def residual():
    x = keras.Input((6,))
    h = layers.Dense(5, activation="silu")(x)
    g = layers.Dense(4, activation="softplus", use_bias=False)(h)
    h = layers.Add()([h, layers.Dense(5)(g)])
    return keras.Model(x, layers.Dense(2)(layers.Concatenate()([h, x])))


def test_the_hessian_of_a_classifier_from_a_file_is_that_of_keras(tmp_path):
    model = classifier()
    model.save(tmp_path / "net.keras")
    X, y = inputs(), RNG.integers(0, 3, 9)

    def forward(x, a, b, c, d, e, f):
        return F.gelu(torch.tanh(x @ a + b) @ c + d) @ e + f

    expected = hessian_of(model, forward, F.cross_entropy, keras.losses.SparseCategoricalCrossentropy(), X, y)
    for net in (Network.from_keras(model), load_network(tmp_path / "net.keras")):
        assert net.origin.link == "softmax"
        H = in_source_order(to_keras, net, hessian_matrix(Objective(net, X, y, loss="softmax_cross_entropy")))
        assert abs(H - expected).max() <= BOUND * abs(expected).max()


def test_the_hessian_of_a_residual_net_is_that_of_keras(tmp_path):
    model = residual()
    model.save(tmp_path / "net.keras")
    X, y = inputs(), RNG.standard_normal((9, 2))

    def forward(x, a, b, c, d, e, f, g):
        h = F.silu(x @ a + b)
        return torch.cat([h + F.softplus(h @ c) @ d + e, x], dim=1) @ f + g

    expected = hessian_of(model, forward, F.mse_loss, keras.losses.MeanSquaredError(), X, y)
    for net in (Network.from_keras(model), load_network(tmp_path / "net.keras")):
        H = in_source_order(to_keras, net, hessian_matrix(Objective(net, X, y, loss="squared_error")))
        assert abs(2 / 2 * H - expected).max() <= BOUND * abs(expected).max()  # 2/C with C = 2 outputs


def test_ridge_and_binary_cross_entropy_have_the_factors_of_keras():
    penalty = keras.regularizers.L2(0.3)
    model = keras.Sequential([
        layers.Input((6,)), layers.Dense(4, activation="tanh", kernel_regularizer=penalty),
        layers.Dense(3, activation="sigmoid"),
    ])  # fmt: skip
    model.compile(loss="binary_crossentropy")
    net = Network.from_keras(model)
    X, y = inputs(), RNG.integers(0, 2, (9, 3)).astype(float)
    H = in_source_order(to_keras, net, hessian_matrix(Objective(net, X, y, loss="binary_cross_entropy"))) / 3
    H += 2 * 0.3 * np.diag(np.arange(len(H)) < 24)  # l sum(w^2), without 1/2, on the first kernel
    bce = keras.losses.BinaryCrossentropy()

    def forward(x, a, b, c, d):
        return torch.tanh(x @ a + b) @ c + d

    expected = hessian_of(model, forward, F.binary_cross_entropy_with_logits, bce, X, y)
    assert abs(H - expected).max() <= BOUND * abs(expected).max()


def test_every_layout_of_weights_is_read(tmp_path):
    model = classifier()
    model.save_weights(tmp_path / "net.weights.h5")
    activations = ["tanh", "gelu", "identity"]
    net = load_network(tmp_path / "net.weights.h5", activations)
    for ours, theirs in zip(to_keras(net, net.theta), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ([layers.Reshape((6, 1)), layers.Conv1D(2, 3), layers.Flatten(), layers.Dense(2)], r"\(Conv1D\)"),
        ([layers.Reshape((3, 2)), layers.LSTM(3), layers.Dense(2)], r"\(LSTM\)"),
        ([layers.Dense(4), layers.LeakyReLU(), layers.Dense(2)], r"\(LeakyReLU\)"),
        ([layers.Dense(4), layers.LayerNormalization(), layers.Dense(2)], r"\(LayerNormalization\)"),
        ([layers.Dense(2, activation="sigmoid")], "outputs='logits'"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tail, message):
    model = keras.Sequential([layers.Input((6,)), *tail])
    with pytest.raises(UnsupportedModelError, match=message):
        Network.from_keras(model)


def test_batch_normalization_is_folded():
    model = keras.Sequential([
        layers.Input((6,)), layers.Dense(5), layers.BatchNormalization(), layers.Activation("relu"), layers.Dense(2)
    ])  # fmt: skip
    model.layers[1].set_weights([RNG.uniform(0.5, 2, 5) for _ in range(4)])
    net = Network.from_keras(model)
    X = inputs()
    np.testing.assert_allclose(net.forward(X), model.predict(X, verbose=0), atol=1e-5)
    with pytest.raises(ValueError, match=r"BatchNormalization.* was folded"):
        to_keras(net, net.theta)

"""ONNX files as torch and skl2onnx write them: Hessians by torch.func of the model that was exported."""

import logging
import warnings

import numpy as np
import pytest
import torch
from autodiff import autodiff_hessian, in_source_order
from skl2onnx import to_onnx
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from test_torch_modules import modules
from torch import nn

from krylovh import Network, Objective, UnsupportedModelError, hessian_matrix, load_network, to_sklearn, to_source

BOUND = 1e-10
RNG = np.random.default_rng(6)
X = RNG.standard_normal((12, 5))
LABELS = RNG.integers(0, 3, 12)


def export(module, path, example, **options):
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), verbose=False, **options)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("exporter", [{"dynamo": True, "opset_version": 20}, {"dynamo": False, "opset_version": 17}],
                         ids=["dynamo", "TorchScript"])  # fmt: skip
@pytest.mark.parametrize("name", ["with bias", "without bias", "residual", "shared", "activations"])
def test_the_hessian_of_an_exported_module(tmp_path, name, exporter):
    module = modules()[name].double().eval()
    export(module, tmp_path / "net.onnx", torch.as_tensor(X[:1]), **exporter)
    net = Network.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(net.forward(X), module(torch.as_tensor(X)).detach().numpy(), atol=1e-7)
    own = Network.from_torch(module)
    # constants of activations may be float32 in the file; the weights are the module's, bit by bit
    assert sorted(net.theta) == sorted(own.theta)
    H = hessian_matrix(Objective(net, X, LABELS, loss="softmax_cross_entropy"))
    expected = autodiff_hessian(module, nn.CrossEntropyLoss(), X, LABELS)
    np.testing.assert_allclose(np.linalg.eigvalsh(H), np.linalg.eigvalsh(expected), atol=BOUND * abs(expected).max())
    shapes = {key: tuple(parameter.shape) for key, parameter in module.named_parameters()}
    if set(net.origin.shapes) == set(shapes):  # the exporter has kept the names
        H = in_source_order(lambda net, v: [to_source(net, v)[key] for key in shapes], net, H)
        assert abs(H - expected).max() <= BOUND * abs(expected).max()


class Perceptron(nn.Module):
    """scikit-learn's, in its layout: coefs (in, out), all of them before all intercepts."""

    def __init__(self, model):
        super().__init__()
        self.coefs = nn.ParameterList([nn.Parameter(torch.tensor(c)) for c in model.coefs_])
        self.intercepts = nn.ParameterList([nn.Parameter(torch.tensor(b)) for b in model.intercepts_])
        self.hidden = {"tanh": torch.tanh, "relu": torch.relu, "logistic": torch.sigmoid}[model.activation]
        self.alpha = model.alpha

    def forward(self, x):
        for l, (coef, intercept) in enumerate(zip(self.coefs, self.intercepts, strict=True)):
            x = x @ coef + intercept
            x = self.hidden(x) if l < len(self.coefs) - 1 else x
        return x, sum((coef**2).sum() for coef in self.coefs)


def objective_of(loss, alpha, samples):
    """scikit-learn's: the mean loss, and alpha / (2 N) on the coefs."""
    losses = {
        "multiclass": lambda z, y: nn.functional.cross_entropy(z, y),
        "binary": lambda z, y: nn.functional.binary_cross_entropy_with_logits(z, y[:, None].double()),
        "multilabel": lambda z, y: (
            nn.functional.binary_cross_entropy_with_logits(z, y.double(), reduction="sum") / samples
        ),
        "regression": lambda z, y: 0.5 * ((z[:, 0] - y) ** 2).sum() / samples,
    }
    return lambda outputs, y: losses[loss](outputs[0], y) + alpha / (2 * samples) * outputs[1]


CASES = {
    "multiclass": (MLPClassifier((7, 4), activation="tanh"), LABELS),
    "binary": (MLPClassifier((7,), activation="logistic"), (LABELS > 0) * 1),
    "multilabel": (
        MLPClassifier((7,), activation="tanh"),
        np.stack([LABELS > 0, LABELS == 1, X[:, 0] > 0], axis=1) * 1,
    ),
    "regression": (MLPRegressor(hidden_layer_sizes=(7, 4), activation="tanh"), RNG.standard_normal(12)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_hessian_of_scikit_learns_own_objective(tmp_path, name):
    model, y = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(solver="lbfgs", alpha=0.9, max_iter=10, random_state=0).fit(X, y)
    expected = autodiff_hessian(Perceptron(model), objective_of(name, model.alpha, len(X)), X, y)
    objective = Objective.from_sklearn(model, X, y)
    H = in_source_order(
        lambda net, v: [array for group in to_sklearn(net, v) for array in group],
        objective.net,
        hessian_matrix(objective),
    )
    assert abs(H - expected).max() <= BOUND * abs(expected).max()

    (tmp_path / "net.onnx").write_bytes(to_onnx(model, X[:1]).SerializeToString())
    net = load_network(tmp_path / "net.onnx")
    np.testing.assert_array_equal(net.theta, objective.net.theta)
    targets = objective.targets.as_given
    same = Objective(net, X, targets, loss=objective.loss, l2=0.9 / len(X) * net.weight_mask())
    H = hessian_matrix(same)
    coefs_first = sorted(net.origin.shapes, key=lambda name: not name.startswith("coefficient"))
    H = in_source_order(lambda net, v: [to_source(net, v)[key] for key in coefs_first], net, H)
    assert abs(H - expected).max() <= BOUND * abs(expected).max()
    assert Network.from_onnx(tmp_path / "net.onnx", check=True).num_parameters == len(H)


def test_a_pipeline_is_folded_and_other_classifiers_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(4,), max_iter=3)).fit(X, X[:, 0])
    net = Network.from_onnx(to_onnx(model, X[:1]))
    np.testing.assert_allclose(net.forward(X)[:, 0], model.predict(X), atol=1e-6)
    for other, operator in (
        (DecisionTreeClassifier(), "TreeEnsembleClassifier"),
        (LogisticRegression(), "LinearClassifier"),
    ):
        with pytest.raises(
            UnsupportedModelError, match=rf"node '.*' \(ai.onnx.ml.{operator}\) is not supported; supported"
        ):
            Network.from_onnx(to_onnx(other.fit(X, LABELS), X[:1].astype(np.float32)))


def test_convolutions_are_refused_by_name(tmp_path):
    module = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 2))
    export(module, tmp_path / "net.onnx", torch.ones(1, 1, 5), dynamo=False)
    with pytest.raises(UnsupportedModelError, match=r"node '.*' \(Conv\) is not supported; supported are Gemm"):
        load_network(tmp_path / "net.onnx")

"""The operator on torch's autograd: a real symmetric operator for dense nets, convolutions and attention alike."""

import numpy as np
import pytest
import torch
from autodiff import autodiff_hessian
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from krylovh import (
    HessianOperator,
    Network,
    Objective,
    TorchHessianOperator,
    cg,
    check_operator,
    eigsh,
    spectral_density,
    trace,
)


class Transformer(nn.Module):
    """One block of attention over five positions, and a mean over them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.block(self.embed(x)).mean(dim=1))


def problems():
    torch.manual_seed(0)
    convolutional = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2), nn.Softplus(), nn.Flatten(), nn.Linear(8, 3)
    )
    return {
        "convolutional": (convolutional.double(), torch.randn(9, 1, 8, 8, dtype=torch.float64)),
        "transformer": (Transformer().double(), torch.randn(9, 5, 2, dtype=torch.float64)),
    }


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("name", problems())
def test_eigenvalues_density_and_trace_are_those_of_the_dense_matrix(name):
    module, X = problems()[name]
    module.eval()
    expected = autodiff_hessian(module, nn.CrossEntropyLoss(), X, LABELS, row_by_row=name == "transformer")
    assert abs(expected - expected.T).max() <= 1e-12 * abs(expected).max()
    H = TorchHessianOperator(module, nn.CrossEntropyLoss(), [(X[:4], LABELS[:4]), (X[4:], LABELS[4:])])
    n = len(expected)
    assert H.shape == (n, n)
    norm = np.linalg.norm(expected, 2)
    assert abs(H @ np.eye(n) - expected).max() <= 1e-10 * norm
    assert H.num_products == n
    values = np.linalg.eigvalsh(expected)
    result = eigsh(H, 3, which="LA", tol=1e-9, rng=0)
    assert result.converged.all()
    np.testing.assert_allclose(np.sort(result.eigenvalues), values[-3:], atol=1e-8 * norm)
    density = spectral_density(H, num_probes=3, num_steps=20, rng=0)
    nodes, weights = density.nodes[0], density.weights[0]
    known = np.isfinite(nodes)
    assert weights[known].sum() == pytest.approx(1.0, abs=1e-10)
    assert values[0] - 1e-9 * norm <= nodes[known].min() <= nodes[known].max() <= values[-1] + 1e-9 * norm
    estimate = trace(H, method="hutchinson", num_products=60, rng=0)
    assert abs(estimate.value - np.trace(expected)) <= 5 * estimate.standard_error
    solution = cg(H.damped(norm), np.ones(n), rtol=1e-8)
    np.testing.assert_allclose((expected + norm * np.eye(n)) @ solution.x, np.ones(n), atol=1e-6)


def dense():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    X, y = torch.randn(23, 5, dtype=torch.float64), torch.randint(0, 3, (23,))
    return module, X, y


def test_it_equals_the_operator_of_dense_nets():
    module, X, y = dense()
    net = Network.from_torch(module)
    l2 = 0.3 * net.weight_mask()
    objective = Objective(net, X.numpy(), y.numpy(), loss="softmax_cross_entropy", l2=l2)
    loader = DataLoader(TensorDataset(X, y), batch_size=5)  # the last batch is smaller
    T = TorchHessianOperator(module, nn.CrossEntropyLoss(), loader, l2=l2)
    V = np.random.default_rng(0).standard_normal((T.shape[0], 4))
    expected = HessianOperator(objective) @ V
    np.testing.assert_allclose(T @ V, expected, atol=1e-10 * abs(expected).max())
    np.testing.assert_allclose(T.gradient(), objective.gradient(), atol=1e-12)
    assert T.value() == pytest.approx(objective.value(), rel=1e-12)
    np.testing.assert_array_equal(T.theta, net.theta)
    summed = TorchHessianOperator(module, nn.CrossEntropyLoss(reduction="sum"), loader, reduction="sum", l2=23 * l2)
    np.testing.assert_allclose(summed @ V, 23 * expected, atol=1e-10 * abs(23 * expected).max())


def test_it_is_a_symmetric_operator_of_real_vectors():
    module, X, y = dense()
    T = TorchHessianOperator(module, nn.CrossEntropyLoss(), [(X, y)])
    check = check_operator(T, rng=0)
    assert check.symmetry_error <= 1e-12 if hasattr(check, "symmetry_error") else check
    v = np.arange(T.shape[0])
    np.testing.assert_array_equal(T @ v, (T @ v.astype(float)[:, None])[:, 0])
    np.testing.assert_allclose(T @ (1j * v), 1j * (T @ v))
    assert T.T is T
    np.testing.assert_array_equal(T @ v, T @ v)


def test_training_afterwards_changes_nothing():
    module, X, y = dense()
    T = TorchHessianOperator(module, nn.CrossEntropyLoss(), [(X, y)])
    before = T @ np.ones(T.shape[0])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(T @ np.ones(T.shape[0]), before)


def test_a_part_of_the_parameters_is_a_block_of_the_matrix():
    module, X, y = dense()
    whole = TorchHessianOperator(module, nn.CrossEntropyLoss(), [(X, y)]) @ np.eye(66)
    part = TorchHessianOperator(module, nn.CrossEntropyLoss(), [(X, y)], parameters=["2.bias", "0.bias"])
    rows = [*range(63, 66), *range(35, 42)]
    np.testing.assert_allclose(part @ np.eye(10), whole[np.ix_(rows, rows)], atol=1e-14)
    assert {name: array.shape for name, array in part.split(np.arange(10)).items()} == {"2.bias": (3,), "0.bias": (7,)}
    module[0].requires_grad_(False)
    assert TorchHessianOperator(module, nn.CrossEntropyLoss(), [(X, y)]).names == ("2.weight", "2.bias")


def test_float32_modules_give_float32_products():
    module, X, y = dense()
    exact = TorchHessianOperator(module, nn.CrossEntropyLoss(), [(X, y)]) @ np.ones(66)
    T = TorchHessianOperator(module.float(), nn.CrossEntropyLoss(), [(X.float(), y)])
    assert T.dtype == np.float32 == (T @ np.ones(66)).dtype
    np.testing.assert_allclose(T @ np.ones(66), exact, atol=1e-5)


def test_a_loss_that_is_linear_in_a_parameter_is_no_error():
    module = nn.Linear(2, 1).double()
    X, y = torch.ones(3, 2, dtype=torch.float64), torch.zeros(3)
    T = TorchHessianOperator(module, lambda outputs, targets: outputs.mean(), [(X, y)])
    np.testing.assert_array_equal(T @ np.ones(3), np.zeros(3))


def test_misuse_is_named():
    module, X, y = dense()
    loss = nn.CrossEntropyLoss()
    with pytest.raises(TypeError, match="batches must be iterable again and again"):
        TorchHessianOperator(module, loss, iter([(X, y)]))
    with pytest.raises(ValueError, match=r"'1' is a .*|1 is a Dropout in training mode.*module.eval"):
        TorchHessianOperator(nn.Sequential(nn.Linear(5, 3), nn.Dropout()), loss, [(X, y)])
    with pytest.raises(ValueError, match="BatchNorm1d in training mode"):
        TorchHessianOperator(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), loss, [(X, y)])
    with pytest.raises(ValueError, match="parameters names 'nothing'"):
        TorchHessianOperator(module, loss, [(X, y)], parameters=["nothing"])
    with pytest.raises(ValueError, match="one dtype and one device"):
        TorchHessianOperator(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), loss, [(X, y)])
    with pytest.raises(TypeError, match="loss must return a scalar"):
        TorchHessianOperator(module, nn.CrossEntropyLoss(reduction="none"), [(X, y)]) @ np.ones(66)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        TorchHessianOperator(module, loss, [(X * float("nan"), y)]) @ np.ones(66)
    with pytest.raises(ValueError, match="empty data set"):
        TorchHessianOperator(module, loss, []) @ np.ones(66)
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got dict"):
        TorchHessianOperator({}, loss, [(X, y)])

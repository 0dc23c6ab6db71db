"""Modules of torch: the exact Hessian of the imported net is that of the module's own loss by torch.func."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autodiff import autodiff_hessian, in_source_order
from torch import nn

from krylovh import Network, Objective, UnsupportedModelError, hessian_matrix, load_network, to_torch
from krylovh.storage.errors import UntrustedFileError

BOUND = 1e-10


class Residual(nn.Module):
    """tanh, a residual block without bias, SiLU by hand, and the input joined to the last layer."""

    def __init__(self):
        super().__init__()
        self.first, self.inner = nn.Linear(5, 7), nn.Linear(7, 6)
        self.back, self.last = nn.Linear(6, 7, bias=False), nn.Linear(12, 3)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        h = torch.tanh(self.first(x.view(x.size(0), -1)))
        h = h + self.back(F.gelu(self.inner(h)))
        h = h * torch.sigmoid(h)
        return self.last(torch.cat([self.dropout(h), x], dim=1))


class SharedPreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x):
        h = self.a(x)
        return self.b(F.softplus(h) + h)


def modules():
    torch.manual_seed(3)
    return {
        "with bias": nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.SiLU(), nn.Linear(4, 3)),
        "without bias": nn.Sequential(nn.Linear(5, 7, bias=False), nn.GELU("tanh"), nn.Linear(7, 3, bias=False)),
        "residual": Residual(),
        "shared": SharedPreActivation(),
        "activations": nn.Sequential(
            nn.Flatten(), nn.Linear(5, 6), nn.Mish(), nn.Linear(6, 4), nn.ELU(), nn.Linear(4, 5), nn.SELU(),
            nn.Linear(5, 4), nn.Softplus(), nn.Linear(4, 6), nn.Softsign(), nn.Identity(), nn.Linear(6, 4),
            nn.LeakyReLU(), nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", modules())
def test_the_hessian_is_that_of_the_module(name):
    module = modules()[name].double().eval()
    rng = np.random.default_rng(1)
    X, labels, values = rng.standard_normal((11, 5)), rng.integers(0, 3, 11), rng.standard_normal((11, 3))
    binary = (values > 0) * 1.0
    net = Network.from_torch(module)
    assert list(to_torch(net, net.theta)) == [key for key, _ in module.named_parameters()]
    for key, parameter in module.named_parameters():
        np.testing.assert_array_equal(to_torch(net, net.theta)[key], parameter.detach().numpy())
    wanted = [
        (nn.CrossEntropyLoss(), labels, Objective(net, X, labels, loss="softmax_cross_entropy"), 1.0),
        # mean over samples and outputs, no 1/2: 2/C of the objective here
        (nn.MSELoss(), values, Objective(net, X, values, loss="squared_error"), 2 / 3),
        (nn.BCEWithLogitsLoss(), binary, Objective(net, X, binary, loss="binary_cross_entropy"), 1 / 3),
    ]  # fmt: skip
    for loss, y, objective, factor in wanted:
        H = factor * in_source_order(lambda net, v: to_torch(net, v).values(), net, hessian_matrix(objective))
        expected = autodiff_hessian(module, loss, X, y)
        assert abs(H - expected).max() <= BOUND * abs(expected).max()


def test_float32_modules_keep_their_dtype_and_state_dicts_their_order(tmp_path):
    module = modules()["with bias"]
    net = Network.from_torch(module)
    assert net.theta.dtype == np.float32
    again = Network.from_torch(module.state_dict(), ["tanh", "silu", "identity"])
    torch.save(module.state_dict(), tmp_path / "state.pt")
    loaded = load_network(tmp_path / "state.pt", ["tanh", "silu", "identity"])
    for other in (again, loaded):
        assert other.theta.tobytes() == net.theta.tobytes()
        assert list(to_torch(other, other.theta)) == list(module.state_dict())


def test_batch_normalization_in_evaluation_is_folded():
    module = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.BatchNorm1d(7, affine=False),
                           nn.Linear(7, 3, bias=False), nn.LogSoftmax(1))  # fmt: skip
    for part in (module[1], module[3]):
        part.running_mean.normal_()
        part.running_var.uniform_(0.5, 2.0)
    nn.init.normal_(module[1].weight)
    module.eval()
    net = Network.from_torch(module)
    X = np.random.default_rng(0).standard_normal((9, 5))
    z = net.with_theta(net.theta.astype(np.float64)).forward(X)
    expected = module.double()(torch.as_tensor(X)).detach().numpy()
    np.testing.assert_allclose(torch.as_tensor(z).log_softmax(1).numpy(), expected, atol=1e-12)
    assert net.origin.link == "log_softmax"
    with pytest.raises(ValueError, match=r"BatchNorm1d.* was folded"):
        to_torch(net, net.theta)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 5)

    def forward(self, x):
        return self.a(torch.tanh(self.a(x)))


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x):
        return self.a(x) * self.b(x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(6, 2)), r"Sequential: node '_0' \(Conv1d\)"),
        (nn.Sequential(nn.Linear(5, 4), nn.Hardtanh(), nn.Linear(4, 2)), r"node '_1' \(Hardtanh\)"),
        (nn.Sequential(nn.Linear(5, 4), nn.LeakyReLU(0.2), nn.Linear(4, 2)), "negative_slope must be 0.01, got 0.2"),
        (nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 2)), r"\(LayerNorm\)"),
        (nn.Sequential(nn.Linear(5, 4), nn.Sigmoid()), "outputs='logits'"),
        (Tied(), "tied weights"),
        (Product(), r"node 'mul' \(mul\): of two layers only sums"),
        (nn.LSTM(5, 4), "LSTM"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(module, message):
    with pytest.raises(UnsupportedModelError, match=message):
        Network.from_torch(module.eval())


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are about to leave torch
        return torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.eye(3).to_sparse(), "dense tensor, got a torch.sparse_coo one"),
        (quantised(), "quantised"),
        (torch.empty(3, 3, device="meta"), "meta"),
        (torch.eye(3, dtype=torch.complex64), "complex64"),
        (torch.ones(3, 3, dtype=torch.int64), "int64"),
        ({"nested": torch.eye(3)}, "must be a tensor, got dict"),
    ],
)
def test_tensors_of_other_kinds_are_refused(tmp_path, tensor, message):
    with pytest.raises(UnsupportedModelError, match=f"'0.weight'.*{message}"):
        Network.from_torch({"0.weight": tensor}, ["tanh"])
    torch.save({"0.weight": tensor}, tmp_path / "state.pt")
    with pytest.raises(UntrustedFileError, match=r"state\.pt: "):
        load_network(tmp_path / "state.pt", ["tanh"])


def test_files_of_torch_that_are_no_state_dict_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    for content in (modules()["with bias"], [torch.eye(3)], torch.eye(3)):
        torch.save(content, path)
        with pytest.raises(UntrustedFileError, match=r"model\.pt: .*(weights_only=True|state dict)"):
            load_network(path, "tanh")
    tensor = torch.ones(3)
    torch.save({"0.weight": tensor[None].expand(10**6, 3)}, path)  # 12 MB out of a kilobyte
    with pytest.raises(UntrustedFileError, match="expanded or tied"):
        load_network(path, "tanh")
    torch.save({"0.weight": torch.eye(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UntrustedFileError, match="is a pickle"):
        load_network(path, "tanh")

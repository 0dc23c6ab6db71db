"""The eight nets of the NeuralFoil wheel, npz files of a torch Sequential: products against torch's autograd."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from autodiff import autodiff_product
from torch import nn

from krylovh import HessianOperator, Objective, load_network, to_torch

FOLDER = Path(find_spec("neuralfoil").submodule_search_locations[0]) / "nn_weights_and_biases"
SIZES = ("xxsmall", "xsmall", "small", "medium", "large", "xlarge", "xxlarge", "xxxlarge")


@pytest.mark.parametrize("size", SIZES)
def test_products_with_the_hessian(size):
    path = FOLDER / f"nn-{size}.npz"
    net = load_network(path, "silu")
    with np.load(path, allow_pickle=False) as archive:
        state = {name: torch.as_tensor(archive[name]) for name in archive}
    numbers = sorted(int(name.split(".")[1]) for name in state if name.endswith("weight"))
    module = nn.Module()
    module.net = nn.Sequential(*(
        nn.SiLU() if i % 2 else nn.Linear(*reversed(state[f"net.{i}.weight"].shape)) for i in range(numbers[-1] + 1)
    ))  # fmt: skip
    module.forward = lambda x: module.net(x)
    module.load_state_dict(state)
    module.double()
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((6, net.widths[0])), rng.standard_normal((6, net.widths[-1]))
    objective = Objective(net, X, y, loss="squared_error", dtype=np.float64)
    np.testing.assert_allclose(net.with_theta(net.theta.astype(float)).forward(X),
                               module(torch.as_tensor(X)).detach().numpy(), rtol=1e-10)  # fmt: skip
    H = HessianOperator(objective)
    order = [name for name, _ in module.named_parameters()]
    for _ in range(2):
        v = rng.standard_normal(net.num_parameters)
        flat = np.concatenate([to_torch(net, v)[name].ravel() for name in order])
        ours = np.concatenate([to_torch(net, H @ v)[name].ravel() for name in order])
        # mean over samples and outputs, without 1/2
        theirs = autodiff_product(module, nn.MSELoss(), X, y, flat) * net.widths[-1] / 2
        assert abs(ours - theirs).max() <= 1e-10 * abs(theirs).max()

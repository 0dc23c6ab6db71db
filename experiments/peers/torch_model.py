"""The net and its loss in torch, for the tools that stand on it."""

import itertools
import os

import torch
from torch.nn import functional

torch.set_num_threads(len(os.sched_getaffinity(0)))


def describe():
    capability = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, {capability}"


def tensors(arrays):
    return [torch.from_numpy(array.copy()) for array in arrays]


def loss_of(problem):
    """Return the loss as a function of the parameters (weight, bias, weight, ...), and the parameters."""
    X, labels, theta = problem.data()
    X, labels = tensors((X, labels))

    def loss(*parameters):
        z = X
        *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
        for weight, bias in hidden:
            z = torch.tanh(functional.linear(z, weight, bias))
        return functional.cross_entropy(functional.linear(z, *last), labels)

    return loss, tuple(tensors(problem.split(theta)))


def module_of(problem):
    """Return the net as a module, with X and the labels."""
    X, labels, theta = problem.data()
    layers = []
    for a, b in itertools.pairwise(problem.widths):
        layers += [torch.nn.Linear(a, b, dtype=getattr(torch, problem.dtype)), torch.nn.Tanh()]
    module = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), problem.split(theta), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return module, *tensors((X, labels))


def rows_of(blocks):
    """Join products (k, *shape) per parameter into rows (k, num_parameters)."""
    return torch.cat([block.reshape(len(block), -1) for block in blocks], dim=1).numpy()


def row_of(blocks):
    """Join one product into one row."""
    return torch.cat([block.reshape(-1) for block in blocks]).numpy()

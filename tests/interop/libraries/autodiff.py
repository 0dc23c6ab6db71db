"""The Hessian of a torch module's own loss, by torch alone: what imported nets are compared with."""

import numpy as np
import torch
from torch.autograd.functional import hvp
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel


def _of_flat(module, loss, X, y):
    """Return the loss as a function of one flat vector, and that vector, in the order of ``parameters()``."""
    named = {name: parameter.detach() for name, parameter in module.named_parameters()}
    sizes = [parameter.numel() for parameter in named.values()]

    def value(flat):
        parts = flat.split(sizes)
        values = {name: part.reshape(named[name].shape) for name, part in zip(named, parts, strict=True)}
        return loss(functional_call(module, values, (X,)), y)

    return value, torch.cat([parameter.reshape(-1) for parameter in named.values()])


def autodiff_hessian(module, loss, X, y, *, row_by_row=False):
    value, flat = _of_flat(module, loss, torch.as_tensor(X), torch.as_tensor(y))
    with sdpa_kernel(SDPBackend.MATH):  # the only form of attention that torch differentiates twice
        if row_by_row:  # backward twice, without vmap, through which attention gets an asymmetric matrix
            return torch.autograd.functional.hessian(value, flat).numpy()
        return torch.func.hessian(value)(flat).detach().numpy()


def autodiff_product(module, loss, X, y, v):
    value, flat = _of_flat(module, loss, torch.as_tensor(X), torch.as_tensor(y))
    return hvp(value, flat, torch.as_tensor(v))[1].detach().numpy()


def ordered(arrays):
    """Concatenate the arrays of a source: (size, k) each."""
    return np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])


def in_source_order(to_source, net, H):
    """Return a Hessian in theta's order in that of the source, where ``to_source`` hands vectors back."""
    rows = ordered(to_source(net, H))  # its rows permuted
    return ordered(to_source(net, rows.T))  # H is symmetric

"""Nets of other libraries in, and vectors in their order and shape back."""

from krylovh.interop.assembly import UnsupportedModelError
from krylovh.interop.files import load_network
from krylovh.interop.parameters import Origin, from_source, to_keras, to_sklearn, to_source, to_torch
from krylovh.interop.torch_hessian import TorchHessianOperator

__all__ = [
    "Origin",
    "TorchHessianOperator",
    "UnsupportedModelError",
    "from_source",
    "load_network",
    "to_keras",
    "to_sklearn",
    "to_source",
    "to_torch",
]

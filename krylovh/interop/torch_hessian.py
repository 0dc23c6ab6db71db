"""The Hessian of any torch module as a SciPy LinearOperator, for nets that are not dense.

Products are made by torch's autograd, differentiating the gradient of each batch once more along a vector (Pearlmutter
1994).  So convolutional nets and transformers are open to everything here that asks for no more than a real symmetric
operator: eigenvalues, densities, traces, solves.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from krylovh.operators.curvature import DampedOperator
from krylovh.operators.real_symmetric import RealSymmetricOperator
from krylovh.regularization import check_l2

Array = NDArray[Any]

__all__ = ["TorchHessianOperator"]

_STOCHASTIC = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
_DEPENDS_ON_BATCH = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")


class TorchHessianOperator(RealSymmetricOperator):
    """The exact Hessian of a loss of a torch module, seen through products.

    With ``reduction="mean"`` it belongs to ``sum_b n_b loss(module(x_b), y_b) / sum_b n_b``, where n_b is the number of
    samples of batch b: for a loss that is a mean over the samples of its batch, the mean over all samples whatever the
    batches.  With ``"sum"`` it belongs to ``sum_b loss(module(x_b), y_b)``.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode if it has dropout or batch normalisation.  Its parameters and buffers are copied: what
        training does to them afterwards changes nothing here.
    loss : callable
        ``loss(outputs, targets)``, a scalar tensor, such as ``torch.nn.CrossEntropyLoss()``.
    batches : iterable of (inputs, targets)
        Gone through in every product, one batch on the device at a time: a list, or a ``DataLoader``.  Not a
        generator, which ends after one pass.
    reduction : "mean" or "sum"
        What ``loss`` does over the samples of a batch.
    l2 : float or array_like, shape (n,)
        Adds l2/2 theta^2 to the objective.
    parameters : sequence of str, optional
        Names of the parameters to differentiate by, in this order; all that require a gradient if not given, in the
        order of ``module.named_parameters()``.

    Attributes
    ----------
    names : tuple of str
        The parameters, in the order of the vectors, each row by row.

    Raises
    ------
    ImportError
        torch is not installed.
    ValueError, TypeError
        No parameter, parameters of several dtypes or devices, dropout or batch normalisation in training mode, or
        batches that can be gone through only once.
    FloatingPointError
        In a product or value, if the loss is not finite.

    Notes
    -----
    Attention is computed by its plain formula, the only form that torch differentiates twice.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Linear(2, 1, bias=False).double()
    >>> batch = (torch.eye(2).double(), torch.zeros(2, 1).double())
    >>> H = TorchHessianOperator(module, torch.nn.MSELoss(), [batch])  # (1/2) sum of squares
    >>> H @ np.eye(2)
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(
        self,
        module: Any,
        loss: Callable[[Any, Any], Any],
        batches: Iterable[tuple[Any, Any]],
        *,
        reduction: Literal["mean", "sum"] = "mean",
        l2: ArrayLike = 0.0,
        parameters: Sequence[str] | None = None,
    ) -> None:
        torch = _torch()
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        if iter(batches) is batches:
            raise TypeError("batches must be iterable again and again, such as a list or a DataLoader, got an iterator")
        _require_deterministic(module)
        available = dict(module.named_parameters())
        chosen = [name for name, p in available.items() if p.requires_grad] if parameters is None else list(parameters)
        for name in chosen:
            if name not in available:
                raise ValueError(f"parameters names {name!r}, the module has {', '.join(available)}")
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"parameters must name at least one parameter, each of them once, got {chosen}")
        kinds = {(p.dtype, p.device) for p in (available[name] for name in chosen)}
        if len(kinds) > 1:
            raise ValueError(f"parameters must have one dtype and one device, got {sorted(map(str, kinds))}")
        ((dtype, self.device),) = kinds
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"parameters must be float32 or float64, got {dtype}")
        super().__init__(
            np.float64 if dtype == torch.float64 else np.float32, sum(available[name].numel() for name in chosen)
        )
        self.module, self.loss, self.batches, self.reduction = module, loss, batches, reduction
        self.names = tuple(chosen)
        self._values = {name: tensor.detach().clone() for name, tensor in available.items()}
        self._values |= {name: tensor.detach().clone() for name, tensor in module.named_buffers()}
        self._training = module.training
        self.l2 = check_l2(l2, self.shape[0])

    @property
    def theta(self) -> Array:
        """The parameters at which the Hessian is taken, as one vector of shape (n,)."""
        return np.concatenate([self._values[name].cpu().numpy().ravel() for name in self.names])

    def value(self) -> float:
        """Return the objective."""
        total, samples = 0.0, 0
        with _twice_differentiable():
            for inputs, targets in self.batches:
                loss, weight = self._loss(dict(self._values), inputs, targets)
                total += weight * float(loss.detach())
                samples += weight
        theta = self.theta.astype(np.float64)
        return total / self._divisor(samples) + 0.5 * float(np.sum(self.l2 * theta * theta) if self.l2.size else 0.0)

    def gradient(self) -> Array:
        """Return the gradient of the objective, shape (n,)."""
        return self._accumulated(None)[:, 0]

    def damped(self, damping: float) -> DampedOperator:
        """Return ``H + damping * I``."""
        return DampedOperator(self, damping)

    def split(self, vector: ArrayLike) -> dict[str, Array]:
        """Return a vector of shape (n,) as arrays by the names and in the shapes of the parameters."""
        values = np.asarray(vector)
        if values.shape != self.shape[:1]:
            raise ValueError(f"vector must have shape {self.shape[:1]}, got {values.shape}")
        arrays, start = {}, 0
        for name in self.names:
            tensor = self._values[name]
            arrays[name] = values[start : start + tensor.numel()].reshape(tuple(tensor.shape))
            start += tensor.numel()
        return arrays

    def _multiply(self, V: Array) -> Array:
        return self._accumulated(np.asarray(V, self.dtype))

    def _accumulated(self, V: Array | None) -> Array:
        """Return the products with the columns of ``V`` (n, k), or the gradient (n, 1); sums are float64."""
        torch = _torch()
        columns = 1 if V is None else V.shape[1]
        total, samples = np.zeros((self.shape[0], columns)), 0
        directions = None if V is None else [self._tensors(V[:, j]) for j in range(columns)]
        with _twice_differentiable():
            for inputs, targets in self.batches:
                values = dict(self._values)
                leaves = [values[name].detach().requires_grad_() for name in self.names]
                values.update(zip(self.names, leaves, strict=True))
                loss, weight = self._loss(values, inputs, targets)
                gradients = torch.autograd.grad(loss, leaves, create_graph=V is not None, materialize_grads=True)
                samples += weight
                if directions is None:
                    total[:, 0] += weight * self._flat(gradients)
                    continue
                for j, direction in enumerate(directions):
                    dependent = [(g, v) for g, v in zip(gradients, direction, strict=True) if g.requires_grad]
                    if dependent:  # otherwise the loss is linear in all parameters
                        outputs, vectors = zip(*dependent, strict=True)
                        last = j == columns - 1
                        products = torch.autograd.grad(
                            outputs, leaves, vectors, retain_graph=not last, materialize_grads=True
                        )
                        total[:, j] += weight * self._flat(products)
        total /= self._divisor(samples)
        if self.l2.size:
            total += np.reshape(self.l2, (-1, 1)) * (self.theta[:, None] if V is None else V)
        return total.astype(self.dtype)

    def _loss(self, values: dict[str, Any], inputs: Any, targets: Any) -> tuple[Any, int]:
        """Return the loss of a batch, and what it counts in the sum."""
        torch = _torch()
        before = self.module.training
        if before != self._training:
            raise ValueError("the module's mode was changed by train() or eval(); make the operator anew")
        inputs, targets = _moved(inputs, self.device), _moved(targets, self.device)
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        loss = self.loss(torch.func.functional_call(self.module, values, arguments), targets)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise TypeError("loss must return a scalar tensor: a sum or mean over the samples of the batch")
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"the loss is {float(loss.detach())}: it has no derivatives")
        return loss.reshape(()), len(arguments[0]) if self.reduction == "mean" else 1

    def _divisor(self, samples: int) -> int:
        if samples == 0:
            raise ValueError("batches is an empty data set: at least one sample is needed")
        return samples if self.reduction == "mean" else 1

    def _tensors(self, v: Array) -> list[Any]:
        torch = _torch()
        return [torch.tensor(part, device=self.device) for part in self.split(v).values()]

    def _flat(self, tensors: Sequence[Any]) -> NDArray[np.float64]:
        parts = [tensor.detach().cpu().numpy().ravel() for tensor in tensors]
        return np.concatenate(parts).astype(np.float64)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {type(self.module).__name__}, {self.shape[0]} parameters, {self.dtype}>"


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("TorchHessianOperator needs torch: pip install 'krylovh[torch]'") from error
    return torch


def _twice_differentiable() -> AbstractContextManager[Any]:
    """Have attention computed in the form that can be differentiated twice."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)  # type: ignore[no-any-return]


def _require_deterministic(module: Any) -> None:
    for name, part in module.named_modules():
        kind = type(part).__name__
        if part.training and (kind in _DEPENDS_ON_BATCH or (kind in _STOCHASTIC and part.p > 0)):
            reason = "random" if kind in _STOCHASTIC else "a function of the batch, not of each sample"
            raise ValueError(
                f"{name or 'module'} is a {kind} in training mode: the loss is {reason}; call module.eval()"
            )


def _moved(item: Any, device: Any) -> Any:
    """Return tensors on the device."""
    if isinstance(item, (tuple, list)):
        return tuple(_moved(part, device) for part in item)
    return item.to(device) if hasattr(item, "to") else item

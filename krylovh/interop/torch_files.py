"""State dicts in files of torch.

Such a file is a pickle in a zip.  It is read by ``torch.load(weights_only=True)`` alone, whose unpickler builds tensors
and calls nothing else, in a process of its own, by a release of torch in which that is safe; whole modules and anything
else that needs more are refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from krylovh.interop.assembly import Outputs
from krylovh.interop.child import parse_in_child
from krylovh.interop.state_dicts import no_outputs, of_state_dict
from krylovh.network import Network

__all__ = ["read_torch"]


def read_torch(raw: BinaryIO, path: Path, activations: str | Sequence[str] | None, outputs: Outputs | None) -> Network:
    """Read the state dict of a chain from a file that ``torch.save`` wrote."""
    no_outputs(path, outputs)
    if activations is None:
        raise ValueError(f"{path}: weights alone do not say what the layers apply: pass activations=")
    header, arrays = parse_in_child("torch_reader", raw, path)
    named: dict[str, Any] = {name: arrays[f"array{i}"] for i, name in enumerate(header["names"])}
    try:
        return of_state_dict(named, activations, ordered=True, library="torch")
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from None

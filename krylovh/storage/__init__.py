"""Results, nets and data on disk."""

from krylovh.storage.checkpoint import Checkpoint
from krylovh.storage.errors import CheckpointMismatchError, CheckpointWarning
from krylovh.storage.inputs import load_data, load_network
from krylovh.storage.store import ResultStore

__all__ = [
    "Checkpoint",
    "CheckpointMismatchError",
    "CheckpointWarning",
    "ResultStore",
    "load_data",
    "load_network",
]

"""Results, nets and data on disk."""

from krylovh.storage.inputs import load_data, load_network
from krylovh.storage.store import ResultStore

__all__ = ["ResultStore", "load_data", "load_network"]

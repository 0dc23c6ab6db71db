"""Files made by hand to do harm, or to be taken for something they are not.

Each entry of :data:`HOSTILE` is a name, the ending of the file, a function that writes it, and who is to refuse it:
``data``, ``net`` or ``results``.  Those that :mod:`storage.test_hostile` tests one by one are here as well.
"""

import gzip
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from storage.test_hostile import GOOD, NPZ, npy, npz
from storage.test_hostile import HOSTILE as STRUCTURES

MANY = 1 << 40


class Evil:
    """Leaves a file behind when unpickled."""

    def __reduce__(self) -> Any:
        return open, ("marker", "w")


class Hostile(NamedTuple):
    name: str
    ending: str
    write: Callable[[Path], Any]
    reader: str


HOSTILE: list[Hostile] = []


def add(name: str, ending: str, write: Callable[[Path], Any], reader: str = "data") -> None:
    HOSTILE.append(Hostile(name, ending, write, reader))


def add_bytes(name: str, ending: str, content: bytes, reader: str = "data") -> None:
    add(name, ending, lambda path: path.write_bytes(content), reader)


def add_hdf5(name: str, build: Callable[[Any], Any], reader: str = "data", **options: Any) -> None:
    """Add a file that HDF5 itself writes; for ``results`` what is built lies in a group of a file of results."""

    def write(path: Path) -> None:
        with h5py.File(path, "w", **options) as file:
            if reader == "results":
                file.attrs.update(format="krylovh results", format_version=1)
                build(file.create_group("result"))
            else:
                build(file)

    add(name, "h5", write, reader)


# Structures that HDF5 allows and arrays do not need

for build, _ in STRUCTURES:
    add_hdf5(build.__name__, build)
    add_hdf5(f"{build.__name__} in a result", build, "results")


def absolute_external_link(file: Any) -> None:
    file["X"] = h5py.ExternalLink("/etc/passwd", "/")


def link_to_itself(file: Any) -> None:
    file["X"] = h5py.SoftLink("/X")


def two_links_in_a_ring(file: Any) -> None:
    file["X"], file["y"] = h5py.SoftLink("/y"), h5py.SoftLink("/X")


def external_storage_of_devices(file: Any) -> None:
    file.create_dataset("X", (2, 2), "f8", external=[("/dev/zero", 0, 32)])


def deflated_twice(file: Any) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4096, 4096))
    plan.set_deflate(9)
    plan.set_deflate(9)
    space = h5py.h5s.create_simple((4096, 4096))
    h5py.Dataset(h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_DOUBLE, space, plan))[:] = 0.0


def raw_type(kind: Any) -> Callable[[Any], None]:
    def build(file: Any) -> None:
        h5py.h5d.create(file.id, b"X", kind, h5py.h5s.create_simple((2, 2)))

    return build


def nbit_filter(file: Any) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((2, 2))
    plan.set_filter(h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((2, 2)), plan)


def attribute_of_80_kB(file: Any) -> None:
    file.attrs["activations"] = "x" * 80_000


def ragged_attribute(file: Any) -> None:
    rows = np.empty(1, object)
    rows[0] = np.ones(2)
    file.attrs.create("activations", rows, dtype=h5py.vlen_dtype(np.float64))


def compound_attribute(file: Any) -> None:
    file.attrs["activations"] = np.zeros(2, [("a", "f8"), ("b", "i4")])


for build in (absolute_external_link, link_to_itself, two_links_in_a_ring, external_storage_of_devices,
              deflated_twice, nbit_filter, ragged_attribute, compound_attribute):  # fmt: skip
    add_hdf5(build.__name__, build)
add_hdf5("an attribute of 80 kB", attribute_of_80_kB, libver="latest")
add_hdf5("a type of time", raw_type(h5py.h5t.UNIX_D32LE))
add_hdf5("a bit field", raw_type(h5py.h5t.STD_B8LE))

# Bytes that begin like HDF5

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def plain_hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["X"], file["y"] = np.ones((4, 2)), np.ones(4)
    return buffer.getvalue()


PLAIN = plain_hdf5()


def patched(offset: int, new: bytes) -> bytes:
    return PLAIN[:offset] + new + PLAIN[offset + len(new) :]


add_bytes("only a signature", "h5", SIGNATURE)
add_bytes("a signature and zeros", "h5", SIGNATURE + bytes(5000))
add_bytes("a superblock of version 77", "h5", patched(8, b"\x4d"))
add_bytes("offsets of 3 bytes", "h5", patched(13, b"\x03"))
add_bytes("a base address beyond the end", "h5", patched(24, struct.pack("<Q", MANY)))
add_bytes("an end beyond the file", "h5", patched(40, struct.pack("<Q", MANY)))
add_bytes("a root that is the superblock", "h5", patched(64, struct.pack("<Q", 0)))
add_bytes("a root beyond the end", "h5", patched(64, struct.pack("<Q", MANY)))
add_bytes("half an HDF5 file", "h5", PLAIN[: len(PLAIN) // 2])
add_bytes("a block of a user before it", "h5", bytes(512) + PLAIN)
add_bytes("text after the signature", "h5", SIGNATURE + b"__import__('os').system('touch marker')\n" * 200)

# What is no file of arrays at all

add_bytes("an empty file", "npz", b"")
add_bytes("a pickle", "npz", pickle.dumps(Evil()))
add_bytes("a pickle named .h5", "h5", pickle.dumps(Evil()), "net")
add_bytes("a pickle in a file of results", "h5", pickle.dumps(Evil()), "results")
add_bytes("a bare .npy", "npz", GOOD)
add_bytes("a .npy of objects", "npz", npy(np.array([Evil()]), allow_pickle=True))
add_bytes("a compressed pickle", "npz", gzip.compress(pickle.dumps(Evil())))
add_bytes("a gzip bomb", "npz", gzip.compress(bytes(32 << 20)))
add_bytes("a script", "npz", b"#!/bin/sh\ntouch marker\n")
add_bytes("a model of torch", "npz", npz([("model/data.pkl", pickle.dumps(Evil())), ("model/version", b"3\n")]), "net")
add("a link to a device", "npz", lambda path: path.symlink_to("/dev/zero"))
add("a link to itself", "npz", lambda path: path.symlink_to(path.name))
add("a directory", "npz", lambda path: path.mkdir())
add("a pipe", "npz", os.mkfifo)

# Zips

for name, content in NPZ.items():
    add_bytes(f"npz: {name}", "npz", content)


def header(text: str) -> bytes:
    """Return a .npy member with this header and 32 bytes of values."""
    encoded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + bytes(32)


HEADERS = {
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (4,), }",
    "objects in a structure": "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (4,), }",
    "a shape of 2^63": f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({1 << 63},), }}",
    "a shape whose product overflows": f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({1 << 62}, 16), }}",
    "nothing, 2^63 times": f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {1 << 63}), }}",
    "a shape of floats": "{'descr': '<f8', 'fortran_order': False, 'shape': (4.0,), }",
    "a shape of text": "{'descr': '<f8', 'fortran_order': False, 'shape': 'four', }",
    "an unknown type": "{'descr': '<q9', 'fortran_order': False, 'shape': (4,), }",
    "text of 2 GB": f"{{'descr': '<U{1 << 29}', 'fortran_order': False, 'shape': (1,), }}",
    "brackets": "(" * 5000,
    "a call": "__import__('os').system('touch marker')",
    "an extra key": "{'descr': '<f8', 'fortran_order': False, 'shape': (4,), 'code': 'x'}",
    "60 kB of spaces": " " * 60_000,
}
for name, text in HEADERS.items():
    add_bytes(f"npy header: {name}", "npz", npz([("X.npy", header(text)), ("y.npy", GOOD)]))


def edited_zip(edit: Callable[[bytearray, int], None]) -> bytes:
    """Return a zip whose directory, which begins at the second argument, has been edited."""
    content = bytearray(npz([("X.npy", GOOD), ("y.npy", GOOD)]))
    edit(content, content.index(b"PK\x01\x02"))
    return bytes(content)


def put(offset: int, new: bytes) -> Callable[[bytearray, int], None]:
    def edit(content: bytearray, directory: int) -> None:
        content[directory + offset : directory + offset + len(new)] = new

    return edit


add_bytes("zip: encrypted", "npz", edited_zip(put(8, b"\x01\x00")))
add_bytes("zip: a method that does not exist", "npz", edited_zip(put(10, b"\x63\x00")))
add_bytes("zip: a stored member of 4 GB", "npz", edited_zip(put(24, b"\xfe\xff\xff\xff")))
add_bytes("zip: a member beyond the end", "npz", edited_zip(put(42, b"\x00\xff\xff\x7f")))
add_bytes("zip: another name before the bytes", "npz", edited_zip(put(46, b"Z")))
add_bytes("zip: LZMA", "npz", npz([("X.npy", GOOD), ("y.npy", GOOD)], zipfile.ZIP_LZMA))
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    add_bytes("zip: two members of one name", "npz", npz([("X.npy", GOOD), ("y.npy", GOOD), ("X.npy", GOOD)]))
add_bytes("zip: a path out of the folder", "npz", npz([("../../X.npy", GOOD), ("y.npy", GOOD)]))
add_bytes("zip: an absolute path", "npz", npz([("/X.npy", GOOD), ("y.npy", GOOD)]))
add_bytes("zip: no arrays", "npz", npz([]))

# Nets and data that contradict themselves

NET = {
    "theta": np.zeros(26), "widths": np.array([3, 4, 2]), "activations": json.dumps(["tanh", "identity"]),
}  # fmt: skip
LAYERS = {"layers.0.weight": np.zeros((4, 3)), "layers.1.weight": np.zeros((2, 4)), "activations": NET["activations"]}
DATA = {"X": np.zeros((4, 3)), "y": np.zeros(4)}
NEWER = {name: value for name, value in NET.items() if name != "theta"}


def edges(*layers: Any) -> str:
    return json.dumps(layers)


CONTRADICTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "a net of petabytes": ("net", NET | {"widths": np.array([MANY, MANY])}),
    "widths whose product overflows": ("net", NET | {"widths": np.array([1 << 62, 1 << 62, 4])}),
    "negative widths": ("net", NET | {"widths": np.array([3, -4, 2])}),
    "a width of zero": ("net", NET | {"widths": np.array([3, 0, 2])}),
    "widths of floats": ("net", NET | {"widths": np.array([3.0, 4.0, 2.0])}),
    "one width": ("net", NET | {"widths": np.array([3])}),
    "a table of widths": ("net", NET | {"widths": np.array([[3, 4, 2]])}),
    "no theta": ("net", NEWER),
    "theta that is too short": ("net", NET | {"theta": np.zeros(25)}),
    "theta that is text": ("net", NET | {"theta": np.array("zeros")}),
    "complex theta": ("net", NET | {"theta": np.zeros(26, complex)}),
    "theta with NaN": ("net", NET | {"theta": np.full(26, np.nan)}),
    "theta with infinity": ("net", NET | {"theta": np.full(26, np.inf)}),
    "an unknown activation": ("net", NET | {"activations": json.dumps(["os.system", "identity"])}),
    "too many activations": ("net", NET | {"activations": json.dumps(["tanh"] * 5)}),
    "activations that are numbers": ("net", NET | {"activations": json.dumps([1, 2])}),
    "activations nested 50,000 times": ("net", NET | {"activations": "[" * 50_000}),
    "activations that are not JSON": ("net", NET | {"activations": "['tanh', __import__('os')]"}),
    "no activations": ("net", {name: value for name, value in NET.items() if name != "activations"}),
    "edges from the future": ("net", NET | {"sources": edges([[2, "dense"]], [[1, "dense"]])}),
    "an edge to itself": ("net", NET | {"sources": edges([[0, "dense"]], [[2, "dense"]])}),
    "edges from nowhere": ("net", NET | {"sources": edges([[0, "dense"]], [[-1, "dense"]])}),
    "an edge of an unknown kind": ("net", NET | {"sources": edges([[0, "dense"]], [[1, "evil"]])}),
    "the same edge twice": ("net", NET | {"sources": edges([[0, "dense"]], [[1, "dense"], [1, "dense"]])}),
    "an identity between widths that differ": ("net", NET | {"sources": edges([[0, "identity"]], [[1, "dense"]])}),
    "too few lists of edges": ("net", NET | {"sources": edges([[0, "dense"]])}),
    "edges that are a mapping": ("net", NET | {"sources": json.dumps({"a": 1})}),
    "edges of true and false": ("net", NET | {"sources": edges([[True, "dense"]], [[1, "dense"]])}),
    "edges with NaN": ("net", NET | {"sources": '[[[NaN, "dense"]], [[1e999, "dense"]]]'}),
    "too many biases": ("net", NET | {"bias": np.ones(7, bool)}),
    "both forms of a net": ("net", NET | LAYERS),
    "a layer that is missing": ("net", LAYERS | {"layers.3.weight": np.zeros((2, 2))}),
    "layer 99999": ("net", LAYERS | {"layers.99999.weight": np.zeros((2, 2))}),
    "a layer of another name": ("net", LAYERS | {"layers.0.weight_hh": np.zeros((2, 2))}),
    "layers that do not fit": ("net", LAYERS | {"layers.1.weight": np.zeros((2, 5))}),
    "a weight of three axes": ("net", LAYERS | {"layers.1.weight": np.zeros((2, 4, 1))}),
    "a bias that is too long": ("net", LAYERS | {"layers.1.bias": np.zeros(3)}),
    "a layer in another script": ("net", LAYERS | {"layers.٣.weight": np.zeros((2, 2))}),
    "no inputs": ("data", {"y": np.zeros(4)}),
    "inputs of one axis": ("data", DATA | {"X": np.zeros(4)}),
    "inputs that are text": ("data", DATA | {"X": np.array([["a", "b"]] * 4)}),
    "complex inputs": ("data", DATA | {"X": np.zeros((4, 3), complex)}),
    "more targets than inputs": ("data", DATA | {"y": np.zeros(5)}),
    "targets of three axes": ("data", DATA | {"y": np.zeros((4, 1, 1))}),
    "weights of other samples": ("data", DATA | {"sample_weight": np.ones(3)}),
}


def write_npz(arrays: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def write_hdf5(arrays: dict[str, Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                text = isinstance(value, str) or value.dtype.kind == "U"
                data = np.array(value, object) if text else value
                file.create_dataset(name, data=data, dtype=h5py.string_dtype() if text else None)

    return write


for number, (name, (reader, arrays)) in enumerate(CONTRADICTIONS.items()):
    add(name, *(("npz", write_npz(arrays)) if number % 2 else ("h5", write_hdf5(arrays))), reader)

"""Files that ask for more than arrays are refused before a value is read, and cost neither memory nor time."""

import io
import pickle
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from krylovh import ResultStore, load_data
from krylovh.storage.errors import CorruptFileError, UntrustedFileError
from krylovh.storage.structure import survey

GIGANTIC = 1 << 50


def external_link(file):
    file["X"] = h5py.ExternalLink("secret.h5", "/X")


def soft_link(file):
    file["data"] = np.ones((2, 2))
    file["X"] = h5py.SoftLink("/data")


def link_in_a_group(file):
    file.create_group("a/b")["X"] = h5py.ExternalLink("secret.h5", "/X")


def second_link(file):
    file["X"] = np.ones((2, 2))
    file["Z"] = file["X"]


def cycle(file):
    file.create_group("a")["b"] = file["/"]


def external_storage(file):
    file.create_dataset("X", (2, 2), "f8", external=[("secret.bin", 0, 32)])


def virtual_dataset(file):
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource("secret.h5", "X", (2, 2))
    file.create_virtual_dataset("X", layout)


def petabytes_contiguous(file):
    file.create_dataset("X", (GIGANTIC,), "f8")


def petabytes_in_chunks(file):
    file.create_dataset("X", (GIGANTIC,), "f8", chunks=(1024,))[0] = 1.0


def petabytes_of_nothing_compressed(file):
    file.create_dataset("X", (GIGANTIC,), "f8", chunks=(1024,), compression="gzip")[0] = 1.0


def bomb(file):
    file.create_dataset("X", data=np.zeros((2048, 2048)), chunks=(2048, 2048), compression="gzip", compression_opts=9)


def huge_chunk(file):
    file.create_dataset("X", (1, 1), "f8", chunks=(1 << 10, 1 << 12), maxshape=(None, None), compression="gzip")[:] = (
        1.0
    )


def lzf_filter(file):
    file.create_dataset("X", data=np.ones((2, 2)), compression="lzf")


def scale_offset_filter(file):
    file.create_dataset("X", data=np.ones((2, 2), int), scaleoffset=0)


def unknown_filter(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((2, 2))
    plan.set_filter(32_123, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((2, 2))
    h5py.Dataset(h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_DOUBLE, space, plan))[:] = 1.0


def object_references(file):
    file["y"] = np.ones(2)
    file.create_dataset("X", data=np.array([file["y"].ref]), dtype=h5py.ref_dtype)


def region_references(file):
    file["y"] = np.ones(2)
    file.create_dataset("X", (1,), h5py.regionref_dtype)[0] = file["y"].regionref[:1]


def ragged(file):
    file.create_dataset("X", (1,), h5py.vlen_dtype(np.float64))[0] = np.ones(3)


def compound(file):
    file["X"] = np.zeros(2, [("a", "f8"), ("b", "i4")])


def opaque(file):
    file["X"] = np.zeros(2, "V7")


def enumeration(file):
    file.create_dataset("X", data=np.zeros(2, int), dtype=h5py.enum_dtype({"RED": 0, "BLUE": 1}, "i8"))


def array_type(file):
    file.create_dataset("X", (2,), np.dtype(("f8", (3,))))


def named_type(file):
    file["X"] = np.dtype("f8")


def empty(file):
    file["X"] = h5py.Empty("f8")


def nested(file):
    file["/".join("abcdefghijklm")] = 1.0


def reference_attribute(file):
    file["y"] = np.ones(2)
    file.attrs.create("activations", file["y"].ref, dtype=h5py.ref_dtype)


def empty_attribute(file):
    file.attrs["activations"] = h5py.Empty("S1")


HOSTILE = [
    (external_link, "X' is a soft or external link"),
    (soft_link, "X' is a soft or external link"),
    (link_in_a_group, "a/b/X' is a soft or external link"),
    (second_link, "second link to the same object"),
    (cycle, "second link to the same object"),
    (external_storage, "keeps its values in another file"),
    (virtual_dataset, "is a virtual dataset"),
    (petabytes_contiguous, "declares 9007199254740992 bytes and stores 0"),
    (petabytes_in_chunks, "declares 9007199254740992 bytes and stores 8192"),
    (petabytes_of_nothing_compressed, "declares 9007199254740992 bytes and stores"),
    (bomb, "declares 33554432 bytes and stores"),
    (huge_chunk, "declares 33554432 bytes and stores"),
    (lzf_filter, "uses filter 32000"),
    (scale_offset_filter, "uses filter 6"),
    (unknown_filter, "uses filter 32123"),
    (object_references, "holds neither numbers nor text"),
    (region_references, "holds neither numbers nor text"),
    (ragged, "holds neither numbers nor text"),
    (compound, "holds neither numbers nor text"),
    (opaque, "holds neither numbers nor text"),
    (enumeration, "holds neither numbers nor text"),
    (array_type, "holds neither numbers nor text"),
    (named_type, "is neither a group nor a dataset"),
    (empty, "is empty"),
    (nested, "nested more than 8 groups deep"),
    (reference_attribute, "attribute 'activations' of .* holds neither numbers nor text"),
    (empty_attribute, "attribute 'activations' of .* is empty"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the files that a hostile file would like to read."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        file["X"] = np.full((2, 2), 42.0)
    (tmp_path / "secret.bin").write_bytes(np.full(4, 42.0).tobytes())
    return tmp_path


@pytest.mark.parametrize(("build", "message"), HOSTILE)
def test_hostile_hdf5_files_are_refused_as_data(folder, build, message):
    with h5py.File("data.h5", "w") as file:
        build(file)
    tracemalloc.start()
    with pytest.raises(UntrustedFileError, match=rf"data\.h5: .*{message}"):
        load_data("data.h5")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(("build", "message"), HOSTILE)
def test_hostile_hdf5_files_are_refused_as_results(folder, build, message):
    with h5py.File("run.h5", "w") as file:
        file.attrs.update(format="krylovh results", format_version=1)
        build(file.create_group("result"))
    with pytest.raises(UntrustedFileError, match=rf"run\.h5: result 'result': .*{message}"):
        ResultStore("run.h5", "r").load("result")


@pytest.mark.parametrize("link", [h5py.ExternalLink("secret.h5", "/"), h5py.SoftLink("/other"), h5py.SoftLink("/")])
def test_a_result_that_is_a_link_is_refused(folder, link):
    with h5py.File("run.h5", "w") as file:
        file.attrs.update(format="krylovh results", format_version=1)
        file["result"] = link
    with pytest.raises(UntrustedFileError, match="soft or external link"):
        ResultStore("run.h5", "r").load("result")
    with pytest.raises(UntrustedFileError, match="soft or external link"):
        ResultStore("run.h5").save("a", np.ones(1))


def test_datasets_that_share_their_bytes_are_refused():
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        for name in "abc":
            file[name] = np.ones(1000)
        with pytest.raises(UntrustedFileError, match="claim 24000 bytes of a file of 10000"):
            survey(file, 10_000)


def test_ordinary_compression_is_read(folder):
    X = np.round(np.random.default_rng(0).random((1000, 50)), 1)
    with h5py.File("data.h5", "w") as file:
        file.create_dataset("X", data=X, compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("y", data=np.zeros(1000), chunks=(100,), compression="gzip")
    assert np.array_equal(load_data("data.h5").X, X)


# .npz


def npz(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


GOOD = npy(np.ones((2, 2)))
HUGE = GOOD.replace(b"(2, 2)", b"(%d,)" % GIGANTIC)


class Marker:
    """Leaves a file behind when unpickled."""

    def __reduce__(self):
        return open, ("marker", "w")


NPZ = {
    "object arrays": npz([("X.npy", npy(np.array([Marker()]), allow_pickle=True)), ("y.npy", GOOD)]),
    "a bare pickle": npz([("X.npy", pickle.dumps(Marker())), ("y.npy", GOOD)]),
    "a thousandfold member": npz([("X.npy", npy(np.zeros((2048, 2048))))], zipfile.ZIP_DEFLATED),
    "a giant shape": npz([("X.npy", HUGE)]),
    "a negative shape": npz([("X.npy", GOOD.replace(b"(2, 2)", b"(-2,2)"))]),
    "a shape that is too small": npz([("X.npy", GOOD.replace(b"(2, 2)", b"(2, 1)"))]),
    "a structured dtype": npz([("X.npy", npy(np.zeros(2, [("a", "f8")])))]),
    "a date": npz([("X.npy", npy(np.zeros(2, "M8[s]")))]),
    "an empty member": npz([("X.npy", b"")]),
    "a half header": npz([("X.npy", GOOD[:30])]),
    "a header that is code": npz([("X.npy", GOOD.replace(b"'fortran", b"__import"))]),
    "another .npy version": npz([("X.npy", GOOD[:6] + b"\x09\x00" + GOOD[8:])]),
    "a member that is no array": npz([("X.npy", GOOD), ("../../evil", b"x")]),
    "another compression": npz([("X.npy", GOOD)], zipfile.ZIP_BZIP2),
    "too many members": npz([(f"{i}.npy", b"") for i in range(10_001)]),
    "no zip": b"PK\x03\x04 and nothing else",
    "a truncated zip": npz([("X.npy", GOOD), ("y.npy", GOOD)])[:-30],
}


@pytest.mark.parametrize("case", list(NPZ))
def test_hostile_npz_files_are_refused(folder, case):
    (folder / "data.npz").write_bytes(NPZ[case])
    tracemalloc.start()
    with pytest.raises((UntrustedFileError, CorruptFileError), match=r"data\.npz: "):
        load_data("data.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    assert not (folder / "marker").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(folder):
    (folder / "data.npz").write_bytes(npz([("X.npy", GOOD), ("X.npy", GOOD)]))
    with pytest.raises(UntrustedFileError, match="two members"):
        load_data("data.npz")


def test_a_member_that_lies_about_its_size_is_refused(folder):
    """The directory says 2 kB; the data inflate to 32 MB."""
    content = bytearray(npz([("X.npy", npy(np.zeros((2048, 2048))))], zipfile.ZIP_DEFLATED))
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (2000).to_bytes(4, "little")
    (folder / "data.npz").write_bytes(content)
    with pytest.raises(CorruptFileError, match="Bad CRC"):
        load_data("data.npz")


def test_members_that_overlap_are_refused(folder):
    content = npz([("X.npy", npy(np.ones((64, 64)))), ("y.npy", GOOD)])
    start = content.index(b"PK\x01\x02")
    end = content.rindex(b"PK\x01\x02")
    extra = content[start:end].replace(b"X.npy", b"Z.npy")
    tail = bytearray(content[content.rindex(b"PK\x05\x06") :])
    tail[8:12] = (3).to_bytes(2, "little") * 2
    tail[12:16] = (len(content) - start - len(tail) + len(extra)).to_bytes(4, "little")
    (folder / "data.npz").write_bytes(content[:end] + extra + content[end : len(content) - len(tail)] + tail)
    with pytest.raises(UntrustedFileError, match="overlap"):
        load_data("data.npz")


def test_flipped_bits_in_npz_files_change_no_value(folder):
    X = np.random.default_rng(0).random((20, 3))
    content = npz([("X.npy", npy(X)), ("y.npy", npy(np.arange(20)))])
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(content), 300):
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.integers(8)
        (folder / "data.npz").write_bytes(flipped)
        try:
            data = load_data("data.npz")
        except ValueError:
            continue
        assert np.array_equal(data.X, X)
        assert np.array_equal(data.y, np.arange(20))

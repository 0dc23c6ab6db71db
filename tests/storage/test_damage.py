"""A file that is not what was written is refused, with its name; no other value ever comes out of it."""

import errno
import hashlib
import io
import os
import random

import h5py
import numpy as np
import pytest

from krylovh import EigenResult, Estimate, ResultStore, Status
from krylovh.storage import trial
from krylovh.storage.errors import CorruptFileError, UnsupportedFormatError

SEAL = 80  # bytes of the seal at the end of a file


def estimate(value=1.0):
    return Estimate(value, 0.5, (0.0, 2.0), 30, 7, Status.CONVERGED, "hutchinson")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    store = ResultStore(tmp_path_factory.mktemp("intact") / "run.h5")
    pairs = EigenResult(
        np.arange(2.0), np.eye(30, 2), np.zeros(2), np.ones(2, bool), Status.CONVERGED,
        True, 0.0, 1.0, 50, 1, "LA", 1e-8, 0,
    )  # fmt: skip
    store.save_all({"trace": estimate(), "pairs": pairs})
    return store.path.read_bytes()


def reload(path, content):
    path.write_bytes(content)
    store = ResultStore(path, "r")
    assert store.load("trace") == estimate()
    assert np.array_equal(store.load("pairs").eigenvectors, np.eye(30, 2))


def edited(image, change):
    """Return the file after another program has changed it: HDF5 drops the seal."""
    buffer = io.BytesIO(image[:-SEAL])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


# Each such file is first read in a process of its own: all of them in the long run alone
some_or_all = pytest.mark.parametrize("number", [4, pytest.param(None, marks=pytest.mark.full)], ids=["some", "all"])


def drawn(sizes, number):
    return sizes if number is None else random.Random(0).sample(sizes, number)


@some_or_all
def test_every_truncation_is_refused(image, tmp_path, number):
    short, long = range(1, 64), range(64, len(image) - SEAL, 64)
    for size in [*drawn(short, number), *drawn(long, number and 3 * number), len(image) - SEAL - 1]:
        with pytest.raises(CorruptFileError, match=r"cut\.h5: (damaged or truncated HDF5|not an HDF5)"):
            reload(tmp_path / "cut.h5", image[:size])


@some_or_all
def test_a_file_that_lost_only_its_seal_is_whole(image, tmp_path, number):
    sizes = range(len(image) - SEAL, len(image))
    for size in [sizes[0], *drawn(sizes[1:-1], number), sizes[-1]]:
        reload(tmp_path / "cut.h5", image[:size])


def test_flipped_bits_are_refused_before_hdf5_sees_them(image, tmp_path, monkeypatch):
    monkeypatch.setattr(h5py, "File", None)
    rng = random.Random(0)
    for position in rng.sample(range(len(image) - SEAL), 300):
        flipped = bytearray(image)
        flipped[position] ^= 1 << rng.randrange(8)
        with pytest.raises(CorruptFileError, match=r"bad\.h5: damaged, .* SHA-256"):
            reload(tmp_path / "bad.h5", flipped)


@pytest.mark.parametrize("filler", [0x00, 0xFF])
def test_bursts_are_refused(image, tmp_path, filler):
    rng = random.Random(1)
    for _ in range(50):
        length = rng.choice([4, 16, 512])
        start = rng.randrange(len(image) - SEAL - length)
        burst = image[:start] + bytes([filler]) * length + image[start + length :]
        if burst != image:
            with pytest.raises(CorruptFileError):
                reload(tmp_path / "bad.h5", burst)


@pytest.mark.parametrize("flips", [12, pytest.param(250, marks=pytest.mark.full)])
def test_without_the_seal_each_result_still_guards_its_own_values(image, tmp_path, flips):
    """Flip bits of unsealed files: the very same values, or an error; never other values, never another error."""
    rng = random.Random(2)
    refused = 0
    for position in rng.sample(range(len(image) - SEAL), flips):
        flipped = bytearray(image[:-SEAL])
        flipped[position] ^= 1 << rng.randrange(8)
        try:
            reload(tmp_path / "bad.h5", flipped)
        except (ValueError, KeyError):  # KeyError: the name of the result was hit
            refused += 1
    assert refused > (50 if flips == 250 else 0)


def test_bytes_that_crash_the_hdf5_library_are_refused(image, tmp_path, monkeypatch):
    from krylovh.storage import image as module

    monkeypatch.setattr(module, "_known", {})  # as if another process had written it
    monkeypatch.setattr(trial, "_READER", "import os, signal; os.kill(os.getpid(), signal.SIGABRT)")
    with pytest.raises(CorruptFileError, match=r"bad\.h5: damaged .*HDF5 library ends by SIGABRT"):
        reload(tmp_path / "bad.h5", image[:-SEAL])
    monkeypatch.setattr(trial, "_READER", "import time; time.sleep(60)")
    monkeypatch.setattr(trial, "_SECONDS", 0.2)
    with pytest.raises(CorruptFileError, match=r"bad\.h5: .* without end"):
        reload(tmp_path / "bad.h5", image[:-SEAL])
    monkeypatch.undo()
    reload(tmp_path / "whole.h5", image)  # no child reads what this process has written


def test_a_changed_value_names_file_and_result(image, tmp_path):
    def change(file):
        file["pairs/eigenvalues"][0] = 7.0

    (tmp_path / "run.h5").write_bytes(edited(image, change))
    store = ResultStore(tmp_path / "run.h5", "r")
    assert store.load("trace") == estimate()
    with pytest.raises(CorruptFileError, match=r"run\.h5: result 'pairs': .* SHA-256"):
        store.load("pairs")
    with pytest.raises(CorruptFileError, match="pairs"):  # and it is not carried over into a new, sealed file
        ResultStore(tmp_path / "run.h5").save("new", np.ones(1))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file["trace"].attrs.modify("value", 2.0),
        lambda file: file["trace"].attrs.create("value", np.float32(1.0)),
        lambda file: file["trace"].attrs.create("extra", 1),
        lambda file: file["trace"].attrs.pop("status"),
        lambda file: file["trace"].attrs.create("kind", "EigenResult"),
        lambda file: file["trace/provenance"].attrs.modify("seed", 8),
        lambda file: file.move("trace/provenance", "lost"),
        lambda file: file["trace"].create_dataset("more", data=[1.0]),
        lambda file: (file.pop("trace"), file.create_group("trace")),
        lambda file: (file.pop("trace"), file.create_dataset("trace", data=1.0)),
    ],
)
def test_every_part_of_a_result_is_covered_by_its_digest(image, tmp_path, change):
    with pytest.raises(CorruptFileError, match="result 'trace'"):
        reload(tmp_path / "run.h5", edited(image, change))


def test_a_file_that_another_program_opened_and_did_not_change_is_whole(image, tmp_path):
    reload(tmp_path / "run.h5", edited(image, lambda file: file.attrs.create("note", "seen")))


@pytest.mark.parametrize("content", [b"", b"x", b"garbage " * 100, b"PK\3\4", b"\x89HDF\r\n\x1a\n", bytes(4096)])
def test_other_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "run.h5").write_bytes(content)
    for action in (ResultStore.list, lambda store: store.load("a"), lambda store: store.save("a", np.ones(1))):
        with pytest.raises(CorruptFileError, match=r"run\.h5"):
            action(ResultStore(tmp_path / "run.h5"))
    assert (tmp_path / "run.h5").read_bytes() == content


def header(path, **attributes):
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)


def test_hdf5_files_of_other_programs_are_refused(tmp_path):
    for attributes in [{}, {"format": "other", "format_version": 1}, {"format": "krylovh results"}]:
        header(tmp_path / "run.h5", **attributes)
        with pytest.raises(CorruptFileError, match="not a file of krylovh results"):
            ResultStore(tmp_path / "run.h5", "r")
    for version in [0, -1, 1.5, "1", [1, 2]]:
        header(tmp_path / "run.h5", format="krylovh results", format_version=version)
        with pytest.raises(CorruptFileError, match="which never existed"):
            ResultStore(tmp_path / "run.h5", "r")


def test_a_newer_format_is_named_with_the_versions_that_can_be_read(tmp_path):
    header(tmp_path / "run.h5", format="krylovh results", format_version=2)
    with pytest.raises(UnsupportedFormatError, match=r"run\.h5: has format version 2; .* up to 1"):
        ResultStore(tmp_path / "run.h5").save("a", np.ones(1))


@pytest.mark.parametrize("kind", ["Unknown", "EigenResult"])
def test_a_kind_that_does_not_fit_is_named(tmp_path, kind, monkeypatch):
    from krylovh.storage import layout

    monkeypatch.setitem(layout._classes, kind, (Estimate, {}))
    record = layout.to_record(estimate())
    forged = layout.Record(kind, record.attributes, {}, {})
    monkeypatch.undo()
    with pytest.raises(CorruptFileError, match=kind):
        layout.from_record(forged)


def test_a_status_of_a_newer_release_is_named():
    from krylovh.storage import layout

    record = layout.to_record(estimate())
    with pytest.raises(CorruptFileError, match="status has the value 'bored'"):
        layout.from_record(layout.Record("Estimate", {**record.attributes, "status": "bored"}, {}, {}))


def test_a_disk_that_fails_during_reading_is_not_called_damage(image, tmp_path, monkeypatch):
    from krylovh.storage import image as module

    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "run.h5").write_bytes(image)
    monkeypatch.setattr(module, "survey", fail)
    with pytest.raises(OSError, match=r"Input/output error: .*run\.h5"):
        ResultStore(tmp_path / "run.h5").load("trace")


def test_the_seal_is_the_digest_of_all_bytes_before_it(image):
    assert image[-SEAL:] == b"krylovh sha-256 " + hashlib.sha256(image[:-SEAL]).hexdigest().encode()


def test_what_this_process_has_not_written_is_read_on_trial_once(image, tmp_path, monkeypatch):
    """Anyone can compute a seal: it says that nothing is damaged, not that the file is harmless."""
    from krylovh.storage import image as module

    asked = []
    monkeypatch.setattr(module, "read_in_child", lambda raw, path: asked.append(path.name))
    reload(tmp_path / "own.h5", image)
    assert asked == []
    monkeypatch.setattr(module, "_known", {})
    reload(tmp_path / "sealed.h5", image)
    reload(tmp_path / "the same bytes without it.h5", image[:-SEAL])
    reload(tmp_path / "bare.h5", image[:-1])
    assert asked == ["sealed.h5", "bare.h5"]


def test_no_more_digests_are_remembered_than_are_useful(monkeypatch):
    from krylovh.storage import image as module

    monkeypatch.setattr(module, "_known", {})
    monkeypatch.setattr(module, "_KNOWN_LIMIT", 3)
    for number in range(10):
        module.hdf5_image({"x": np.full(2, number)}, {})
    assert len(module._known) == 3


def test_addresses_that_no_file_has_are_damage_and_not_a_failing_disk(tmp_path):
    from krylovh import load_data

    np.savez(tmp_path / "data.npz", X=np.ones((3, 2)), y=np.ones(3))
    content = bytearray((tmp_path / "data.npz").read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 16 : end + 20] = (int.from_bytes(content[end + 16 : end + 20], "little") + 500).to_bytes(4, "little")
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"data\.npz: damaged or truncated"):
        load_data(tmp_path / "data.npz")


def test_a_header_that_is_no_python_is_damage(tmp_path):
    import zipfile

    from krylovh import load_data

    header = b"(" * 117 + b"\n"
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(CorruptFileError, match=r"data\.npz: damaged or truncated"):
        load_data(tmp_path / "data.npz")

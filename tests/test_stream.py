"""Rows read from memory maps, HDF5 datasets and other sources: the same rows, ahead of use, and what goes wrong."""

import copy
import pickle
import threading
import time

import h5py
import numpy as np
import pytest

from krylovh.sources import in_memory, is_source
from krylovh.stream import RowStream

ROWS, WIDTH = 37, 5
SPANS = [(0, 10), (10, 20), (20, 30), (30, 37)]


class Sliceable:
    """The least that a source has to be; counts what is read, and can fail."""

    def __init__(self, rows, fails_at=None):
        self.rows, self.shape, self.dtype, self.fails_at = rows, rows.shape, rows.dtype, fails_at
        self.reads = []

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.reads.append((rows.start, rows.stop))
        if self.fails_at is not None and rows.stop > self.fails_at:
            raise OSError(f"row {self.fails_at} cannot be read")
        return self.rows[rows]


def stored(kind, rows, folder):
    if kind == "sliceable":
        return Sliceable(rows)
    if kind.startswith("memmap"):
        mapped = np.memmap(folder / "rows", rows.dtype, "w+", 24, rows.shape)
        mapped[:] = rows
        mapped.flush()
        return np.memmap(folder / "rows", rows.dtype, kind[-1], 24, rows.shape)
    file = h5py.File(folder / "rows.h5", "w")
    options = {"chunks": (8, 3), "compression": "gzip"} if kind == "gzip" else {}
    return file.create_dataset("group/rows", data=rows, **options)


def collected(stream, spans=SPANS, num_kept=0):
    return np.concatenate([block.copy() for block in stream.blocks(spans, num_kept)]).reshape(-1, stream.shape[1])


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("krylovh-read-ahead")]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stored_dtype", [np.uint8, ">i4", np.float64, np.float32])
@pytest.mark.parametrize("kind", ["sliceable", "memmap r", "memmap c", "hdf5", "gzip"])
def test_rows_are_those_of_the_source(kind, stored_dtype, dtype, tmp_path):
    rows = (50 * np.random.default_rng(0).random((ROWS, WIDTH))).astype(stored_dtype)
    stream = RowStream("X", stored(kind, rows, tmp_path), dtype)
    expected = rows.astype(dtype)
    for num_kept in (0, 1, 4, 4):
        assert np.array_equal(collected(stream, num_kept=num_kept), expected)
    assert np.array_equal(stream[3:30:4], expected[3:30:4])
    assert stream[9:2].shape == (0, WIDTH)
    part = stream.subset(slice(5, 25))
    assert isinstance(part, RowStream)
    assert np.array_equal(collected(part, [(0, 15), (15, 20)]), expected[5:25])
    assert np.array_equal(collected(part.subset(slice(-3, None)), [(0, 3)]), expected[22:25])
    for chosen in (slice(None, None, -2), [7, 7, -1, 0], rows[:, 0] > 20):
        assert np.array_equal(stream.subset(chosen), expected[chosen])
    assert not reading_threads()


def test_blocks_cannot_be_written_and_what_is_kept_is_read_once():
    source = Sliceable(np.ones((ROWS, WIDTH)))
    stream = RowStream("X", source, np.float64)
    for _ in range(3):
        for block in stream.blocks(SPANS, 2):
            with pytest.raises(ValueError, match="read-only"):
                block[0] = 2
    assert sorted(source.reads) == sorted(SPANS[:2] + 3 * SPANS[2:])


def test_the_next_rows_are_read_while_these_are_in_use():
    source = Sliceable(np.ones((ROWS, WIDTH)))
    blocks = RowStream("X", source, np.float64).blocks(SPANS)
    next(blocks)
    deadline = time.monotonic() + 10
    while len(source.reads) < 2:
        assert time.monotonic() < deadline, "nothing was read ahead"
        time.sleep(0.001)
    blocks.close()
    assert source.reads == SPANS[:2]  # one run ahead, no more
    assert not reading_threads()


def test_a_failure_of_the_reader_reaches_the_caller_and_the_stream_goes_on_after_it():
    source = Sliceable(np.arange(ROWS * WIDTH, dtype=float).reshape(ROWS, WIDTH), fails_at=25)
    stream = RowStream("X", source, np.float64)
    with pytest.raises(OSError, match="row 25 cannot be read"):
        collected(stream)
    assert not reading_threads()
    source.fails_at = None
    assert np.array_equal(collected(stream), source.rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_is_named_by_its_index_in_all_rows(value):
    rows = np.zeros((ROWS, WIDTH))
    rows[23, 4] = rows[31, 0] = value
    with pytest.raises(ValueError, match=r"X must be finite in float32, found .* at index \(23, 4\)"):
        collected(RowStream("X", Sliceable(rows), np.float32))
    large = RowStream("X", Sliceable(np.full((ROWS, WIDTH), 3e38, np.float32)), np.float32)  # only their sum overflows
    assert np.all(collected(large) == np.float32(3e38))


def test_sources_that_are_refused():
    with pytest.raises(ValueError, match=r"X must have shape \(N, d\), got \(37,\)"):
        RowStream("X", Sliceable(np.zeros(ROWS)), np.float64)
    with pytest.raises(TypeError, match="X must be a real array, got dtype complex128"):
        RowStream("X", Sliceable(np.zeros((2, 2), complex)), np.float64)
    short = Sliceable(np.zeros((ROWS, WIDTH)))
    short.shape = (40, WIDTH)
    with pytest.raises(ValueError, match=r"X\[30:40\] must have shape \(10, 5\), got \(7, 5\)"):
        collected(RowStream("X", short, np.float64), [(0, 30), (30, 40)])
    with pytest.raises(TypeError, match="X is read by slices of rows, got 3"):
        RowStream("X", short, np.float64)[3]


def test_what_counts_as_a_source(tmp_path):
    rows = np.zeros((ROWS, WIDTH))
    mapped = stored("memmap r", rows, tmp_path)
    assert is_source(mapped)
    assert is_source(Sliceable(rows))
    assert is_source(stored("hdf5", rows, tmp_path))
    assert not any(is_source(value) for value in (rows, np.asarray(mapped), mapped + 1, [[0.0]], ((0.0,),), None, 3.0))
    assert type(in_memory("y", mapped)) is np.ndarray
    assert np.array_equal(in_memory("y", Sliceable(rows[:, 0])), rows[:, 0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
@pytest.mark.parametrize("kind", ["sliceable", "memmap r", "memmap c", "hdf5"])
def test_copies_open_the_file_again(kind, duplicate, tmp_path):
    rows = np.random.default_rng(1).random((ROWS, WIDTH))
    stream = RowStream("X", stored(kind, rows, tmp_path), np.float64).subset(slice(3, 33))
    twin = duplicate(stream)
    assert np.array_equal(collected(twin, [(0, 20), (20, 30)]), rows[3:33])
    if kind != "sliceable":
        assert twin.source is not stream.source


def test_a_pickle_holds_the_name_of_the_file_and_not_the_rows(tmp_path):
    rows = np.zeros((10_000, WIDTH))
    for kind in ("memmap r", "hdf5"):
        stream = RowStream("X", stored(kind, rows, tmp_path)[:] if kind == "memmap r" else
                           stored(kind, rows, tmp_path), np.float64)  # fmt: skip
        assert len(pickle.dumps(stream)) < 2000


def test_a_file_that_is_closed_gone_or_changed_is_named(tmp_path):
    dataset = stored("hdf5", np.zeros((ROWS, WIDTH)), tmp_path)
    stream = RowStream("X", dataset, np.float64)
    pickled = pickle.dumps(stream)
    dataset.file.close()
    closed = "is a dataset of an HDF5 file that is closed"
    for use in (lambda: collected(stream), lambda: pickle.dumps(stream), lambda: in_memory("X", dataset),
                lambda: RowStream("X", dataset, np.float64)):  # fmt: skip
        with pytest.raises(ValueError, match=f"X {closed}"):
            use()
    stored("hdf5", np.zeros((ROWS + 1, WIDTH)), tmp_path).file.close()
    with pytest.raises(ValueError, match=r"X has changed: /group/rows of .*rows.h5 is now \(38, 5\)"):
        pickle.loads(pickled)
    (tmp_path / "rows.h5").unlink()
    with pytest.raises(ValueError, match=r"X cannot be opened again: /group/rows of .*rows.h5"):
        pickle.loads(pickled)

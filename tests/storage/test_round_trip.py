"""What is saved comes back bit for bit, and other programs can read it too."""

import dataclasses
import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray

from krylovh import (
    BlockSolveResult,
    ChebyshevDensity,
    DiagonalEstimate,
    EigenResult,
    Estimate,
    InverseDiagonal,
    MatrixFunctionResult,
    ResultStore,
    SolveResult,
    SpectralDensity,
    Status,
    Tridiagonalization,
)
from krylovh.storage.layout import from_record, register, to_record

NAN_WITH_PAYLOAD = np.array([0x7FF80000DEADBEEF, 0xFFF8000000000001], np.uint64).view(np.float64)
ODD_VALUES = np.array([*NAN_WITH_PAYLOAD, -0.0, 5e-324, np.inf, -1e308])


def eigen_result(k=3, n=5, **fields):
    values = {
        "eigenvalues": np.arange(k, dtype=float), "eigenvectors": np.asfortranarray(np.eye(n, k)),
        "residual_norms": np.full(k, 1e-9), "converged": np.arange(k) % 2 == 0, "status": Status.BUDGET,
        "set_verified": False, "orthogonality": 1e-16, "operator_norm": 2.0, "num_products": np.int64(40),
        "num_restarts": 2, "which": "LA", "tol": 1e-8, "seed": 7,
    }  # fmt: skip
    return EigenResult(**(values | fields))


RESULTS = {
    "eigenpairs": eigen_result(),
    "no eigenpairs": eigen_result(k=0),
    "odd eigenvalues": eigen_result(k=6, n=6, eigenvalues=ODD_VALUES, seed=2**120 + 1),
    "trace": Estimate(-0.0, np.nan, (-np.inf, np.inf), 1, 7, Status.CONVERGED, "hutchinson"),
    "logdet": Estimate(1.0, 0.1, (0.5, 1.5), 90, 7, Status.CONVERGED, "lanczos quadrature", 0.25),
    "diagonal": DiagonalEstimate(*np.ones((4, 3)), True, 30, 2**100, Status.BUDGET, "xdiag"),
    "density": SpectralDensity(np.array([[1.0, np.nan]]), np.array([[1.0, np.nan]]), 9, 2, 0, Status.CONVERGED),
    "exact density": SpectralDensity(np.ones((2, 1)), np.ones((2, 1)), 9, 2, 0, Status.CONVERGED, np.ones(2, bool)),
    "deflated density": SpectralDensity(
        np.ones((2, 1)), np.full((2, 1), 7 / 9), 9, 2, 0, Status.CONVERGED, np.ones(2, bool), 1e-7, np.arange(2.0), 1e-9
    ),
    "density without outliers": SpectralDensity(
        np.ones((2, 1)), np.ones((2, 1)), 9, 2, 0, Status.BUDGET, None, 0.0, np.empty(0), np.inf
    ),
    "moments": ChebyshevDensity(np.array([[1.0, 0.5, np.nan]]), (-1.0, 2.0), 9, 2, 0, Status.BUDGET),
    "lanczos": Tridiagonalization(np.ones(2), np.ones(1), np.eye(4, 2), np.zeros(4), 0.0, 2, Status.BREAKDOWN),
    "without Q": Tridiagonalization(np.ones(1), np.ones(0), None, np.zeros(4), 0.5, 1, Status.CONVERGED),
    "function": MatrixFunctionResult(ODD_VALUES, Status.BUDGET, np.inf, 0.5, 3, 3, 1e-8),
    "inverse": InverseDiagonal(np.ones(2), np.zeros(2), 3, 9, 7, Status.BUDGET),
    "solution": SolveResult(ODD_VALUES, Status.BOUNDARY, 0.5, np.nan, 1, 3, None, np.ones(2), 1e-6, "cg"),
    "saddle": SolveResult(np.ones(2), Status.NEGATIVE_CURVATURE, 1.0, 1.0, 0, 2, np.eye(2)[0], np.ones(1), 0.0, "cg"),
    "solutions": BlockSolveResult(
        np.eye(4, 2), (Status.CONVERGED, Status.NEGATIVE_CURVATURE), np.zeros(2), np.zeros(2), 2, 7,
        np.full((4, 2), np.nan), np.ones((3, 2)), 1e-6, "shifted_cg", np.array([0.0, -1.0]),
    ),
    "no solutions": BlockSolveResult(
        np.zeros((4, 0)), (), np.zeros(0), np.zeros(0), 0, 0, None, np.ones((1, 0)), 1e-6, "block_cg"
    ),
}  # fmt: skip


def same_bits(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same_bits, a, b))
    if isinstance(a, float):
        return isinstance(b, float) and same_bits(np.array(a), np.array(b))
    return a == b


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "run.h5")


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_comes_back_bit_for_bit(store, name):
    store.save(name, RESULTS[name])
    loaded = store.load(name)
    assert type(loaded) is type(RESULTS[name])
    for field in dataclasses.fields(loaded):
        before, after = getattr(RESULTS[name], field.name), getattr(loaded, field.name)
        assert same_bits(before, after), field.name
        if isinstance(field.type, type):
            assert type(after) is field.type, field.name


@pytest.mark.parametrize(
    "dtype", ["?", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8", "c8", "c16"]
)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (7,), (2, 3, 4)])
def test_plain_arrays_of_every_type_and_shape_come_back(store, dtype, order, shape):
    dtype = np.dtype(dtype).newbyteorder(order)
    size = int(np.prod(shape))
    bits = np.random.default_rng(0).integers(0, 256, size * dtype.itemsize, dtype=np.uint8)
    array = (bits % 2).view(bool).reshape(shape) if dtype.kind == "b" else bits.view(dtype).reshape(shape)
    store.save("a", array)
    assert same_bits(store.load("a"), array)


@pytest.mark.parametrize("view", ["fortran", "strided", "reversed", "read-only", "memory map"])
def test_memory_layout_does_not_matter_and_inputs_are_not_touched(store, tmp_path, view):
    base = np.arange(24.0).reshape(4, 6)
    array = {
        "fortran": np.asfortranarray(base), "strided": base[::2, 1::3], "reversed": base[::-1, ::-1],
        "read-only": base.copy(), "memory map": np.memmap(tmp_path / "m", np.float64, "w+", shape=(4, 6)),
    }[view]  # fmt: skip
    array.flags.writeable = False
    before = array.copy()
    store.save("a", array)
    assert same_bits(store.load("a"), np.ascontiguousarray(before))
    assert np.array_equal(array, before)
    assert store.load("a").flags.writeable


def test_several_arrays_under_one_name(store):
    store.save("curve", {"x": np.arange(3.0), "y": np.ones(3)}, dimensions={"x": ("point",), "y": ("point",)})
    assert {k: v.tolist() for k, v in store.load("curve").items()} == {"x": [0, 1, 2], "y": [1, 1, 1]}


def test_a_density_from_before_there_were_outliers_is_read():
    record = to_record(RESULTS["exact density"])
    attributes = {name: value for name, value in record.attributes.items() if name != "outlier_error"}
    old = dataclasses.replace(record, attributes=attributes, absent=())
    loaded = from_record(old)
    assert loaded.outliers is None
    np.testing.assert_array_equal(loaded.cumulative([0.0, 1.0]), [0.0, 1.0])
    assert loaded.outlier_error == 0.0


def test_a_new_class_needs_one_line(store):
    @dataclasses.dataclass(frozen=True)
    class Table:
        rows: np.ndarray
        label: str | None
        ratio: float | None = None

    register(Table, {"rows": ("row",)})
    store.save("t", Table(np.ones(2), None, 1.5))
    assert store.load("t").ratio == 1.5
    assert store.load("t").label is None


def test_loaded_results_are_independent_copies(store):
    store.save("a", np.zeros(2))
    store.load("a")[:] = 1
    assert store.load("a").tolist() == [0, 0]


# Names and refusals


@pytest.mark.parametrize("name", ["a b", "λ₁ größte", "🙂", "x" * 255, "..a", "-", "\n", "provenance", "kind"])
def test_names_of_results_may_be_any_text(store, name):
    store.save(name, np.ones(1))
    assert store.list() == [name]
    assert name in store
    assert store.load(name).tolist() == [1]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256, "é" * 128, "\ud800"])
def test_names_that_hdf5_would_change_are_refused(store, name):
    with pytest.raises(ValueError):
        store.save(name, np.ones(1))
    assert not store.path.exists()


def test_misuse_names_what_is_wrong_and_writes_nothing(store):
    cases = [
        (TypeError, "cannot store a list", [1.0], {}),
        (TypeError, "values must be an array of numbers", np.array([object()]), {}),
        (TypeError, "values must be an array of numbers", np.array(["text"]), {}),
        (TypeError, "masked", np.ma.masked_array([1.0], [True]), {}),
        (TypeError, "'b' must be an array", {"a": np.ones(1), "b": 2.0}, {}),
        (ValueError, "reserved", {"digest": np.ones(1)}, {}),
        (ValueError, "cannot have the dimensions", np.ones(1), {"dimensions": ("x", "y")}),
        (ValueError, "cannot be the name of a dimension", np.ones(1), {"dimensions": ("a b",)}),
        (ValueError, "cannot be the name of a dimension", np.ones(1), {"dimensions": ("values",)}),
        (ValueError, "'eigenpair' has length 3 and, in residual_norms, 2", eigen_result(residual_norms=np.ones(2)), {}),
        (ValueError, "cannot be given", eigen_result(), {"dimensions": ("x",)}),
        (ValueError, "which must be text without NUL", eigen_result(which="L\0A"), {}),
        (ValueError, "note must be text .* at most 60000 bytes", np.ones(1), {"provenance": {"note": "x" * 80_000}}),
        (TypeError, "note must be a number, text", np.ones(1), {"provenance": {"note": {"a": 1}}}),
    ]
    for error, message, result, options in cases:
        with pytest.raises(error, match=message):
            store.save("a", result, **options)
    assert not store.path.exists()
    with pytest.raises(ValueError, match="mode must be"):
        ResultStore(store.path, "r+")
    with pytest.raises(TypeError, match="must be a dataclass"):
        register(dict, {})
    with pytest.raises(ValueError, match="has no fields"):
        register(Estimate, {"nothing": ("x",)})


# The store as a collection


def test_overwriting_has_to_be_asked_for(store):
    store.save("a", np.zeros(1))
    with pytest.raises(ValueError, match="overwrite=True"):
        store.save("a", np.ones(1))
    assert store.load("a") == 0
    store.save("a", np.ones(1), overwrite=True)
    assert store.load("a") == 1


def test_save_all_stores_all_or_nothing(store):
    store.save("b", np.zeros(1))
    with pytest.raises(ValueError, match="'b' already"):
        store.save_all({"a": np.ones(1), "b": np.ones(1)})
    assert store.list() == ["b"]
    store.save_all({"a": np.ones(2), **RESULTS}, dimensions={"a": ("eigenvalue",)})
    assert len(store) == 2 + len(RESULTS)
    assert list(store) == store.list() == sorted({"a", "b", *RESULTS})


def test_delete_and_missing_names(store):
    assert store.list() == []
    with pytest.raises(FileNotFoundError, match=r"run\.h5"):
        store.load("a")
    with pytest.raises(KeyError, match="it has none"):
        store.delete("a")
    store.save_all({"a": np.zeros(1), "b": np.ones(1)})
    store.delete("a")
    for method in (store.load, store.provenance, store.delete):
        with pytest.raises(KeyError, match=r"no result 'a'; it has b"):
            method("a")
    assert store.load("b") == 1


def test_modes(store):
    with pytest.raises(FileNotFoundError):
        ResultStore(store.path, "r")
    store.save("old", np.zeros(1))
    reader = ResultStore(store.path, "r")
    with pytest.raises(io.UnsupportedOperation, match="reading only"):
        reader.save("a", np.zeros(1))
    writer = ResultStore(store.path, "w")
    assert store.list() == ["old"]  # the old file stays until the first save
    assert writer.list() == []
    with pytest.raises(KeyError):
        writer.load("old")
    writer.save("a", np.zeros(1))
    writer.save("b", np.zeros(1))
    assert store.list() == ["a", "b"]


def test_a_fresh_file_may_replace_garbage(tmp_path):
    Path(tmp_path, "run.h5").write_bytes(b"garbage")
    ResultStore(tmp_path / "run.h5", "w").save("a", np.ones(1))
    assert ResultStore(tmp_path / "run.h5", "r").load("a") == 1


def test_threads_share_a_store(store):
    def work(thread):
        for i in range(3):
            store.save(f"{thread}-{i}", np.full(1, i))
            store.load(f"{thread}-{i}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(store) == 12


# The bytes


def test_the_same_results_give_the_same_bytes_in_any_order(tmp_path):
    one, two = ResultStore(tmp_path / "1.h5"), ResultStore(tmp_path / "2.h5")
    one.save_all(RESULTS)
    time.sleep(1.1)  # HDF5 counts whole seconds
    for name in reversed(RESULTS):
        two.save(name, np.zeros(3))
        two.save(name, RESULTS[name], overwrite=True)
    assert one.path.read_bytes() == two.path.read_bytes()


def test_large_results_cost_little_more_than_their_values(store):
    store.save("a", np.zeros(10**6))
    assert store.path.stat().st_size < 8 * 10**6 + 20_000


# Other readers


@pytest.mark.parametrize(
    ("name", "variable", "dims"),
    [
        ("eigenpairs", "eigenvectors", ("parameter", "eigenpair")),
        ("no eigenpairs", "converged", ("eigenpair",)),
        ("density", "nodes", ("probe", "step")),
        ("exact density", "exact", ("probe",)),
        ("lanczos", "Q", ("parameter", "step")),
        ("exact", "values", ("eigenvalue",)),
    ],
)
def test_xarray_shows_named_dimensions(store, name, variable, dims):
    store.save("exact", np.arange(4.0), dimensions=("eigenvalue",))
    store.save_all(RESULTS)
    with xarray.open_dataset(store.path, group=name, engine="h5netcdf") as dataset:
        assert dataset[variable].dims == dims
        expected = store.load(name)
        expected = expected if name == "exact" else getattr(expected, variable)
        assert same_bits(np.ascontiguousarray(dataset[variable].values), expected)
        assert dataset.attrs["kind"] in (type(RESULTS[name]).__name__ if name in RESULTS else "array")


def test_xarray_shows_numbers_and_provenance(store):
    store.save("trace", Estimate(1.5, 0.5, (0.5, 2.5), 30, 7, Status.CONVERGED, "hutchinson"))
    with xarray.open_dataset(store.path, group="trace", engine="h5netcdf") as dataset:
        assert dataset.attrs["value"] == 1.5
        assert dataset.attrs["interval"].tolist() == [0.5, 2.5]
        assert dataset.attrs["method"] == "hutchinson"
    with xarray.open_dataset(store.path, group="trace/provenance", engine="h5netcdf") as dataset:
        assert dataset.attrs["seed"] == 7

"""Objectives whose samples lie in files: equal to those in memory, whatever is kept."""

import copy
import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

import krylovh.objective
import oracles
from cases import problem
from krylovh import GaussNewtonOperator, HessianOperator, Network, Objective
from test_stream import Sliceable

SAMPLES = 1500
LIMITS = [0, 320_000, 600_000, 870_000, None]  # bytes; in float64 the linearisation takes 828 kB


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Several chunks even of few samples."""
    monkeypatch.setattr(krylovh.objective, "CHUNK_BYTES", 4096)


@pytest.fixture
def stored(tmp_path):
    """A function that stores X, y and weights and returns them as they lie in the file."""
    files = []

    def store(kind, **arrays):
        if kind == "hdf5":
            files.append(h5py.File(tmp_path / f"{len(files)}.h5", "w"))
            return {name: files[-1].create_dataset(name, data=array) for name, array in arrays.items()}
        if kind == "sliceable":
            return {name: Sliceable(np.asarray(array)) for name, array in arrays.items()}
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        return {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in arrays}

    yield store
    for file in files:
        file.close()


def pair(store, kind="hdf5", dtype=np.float64, **options):
    """The same objective in memory and in a file."""
    plain, (net, _, X, y), settings = problem(
        "skip", weighted=True, ridge=True, num_samples=SAMPLES, dtype=dtype, threads=2
    )
    arrays = store(kind, X=X, y=y, sample_weight=settings["sample_weight"])
    return plain, Objective(net, **arrays, loss=settings["loss"], l2=settings["l2"], threads=2, **options)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kind", ["hdf5", "memmap", "sliceable"])
def test_everything_equals_the_objective_in_memory(kind, limit, dtype, stored):
    plain, streamed = pair(stored, kind, dtype, memory_limit=limit)
    tolerance = 20 * float(np.finfo(dtype).eps)
    assert streamed.digest() == plain.digest()
    assert streamed.value() == pytest.approx(plain.value(), rel=tolerance)
    gradient = plain.gradient()
    assert np.linalg.norm(streamed.gradient() - gradient) <= tolerance * np.linalg.norm(gradient)
    V = np.random.default_rng(0).standard_normal((len(gradient), 3)).astype(dtype)
    for operator in (HessianOperator, GaussNewtonOperator):
        expected, H = operator(plain) @ V, operator(streamed)
        for product in (H @ V, np.column_stack([H @ v for v in V.T]), H @ V):
            assert np.linalg.norm(product - expected) <= tolerance * np.linalg.norm(expected)
    assert np.array_equal(streamed.y, plain.y)
    assert np.array_equal(streamed.X[5:9], plain.X[5:9])


def test_what_is_kept_grows_with_the_limit_and_changes_no_bits(stored):
    cuts, products = [], []
    for limit in LIMITS:
        _, streamed = pair(stored, memory_limit=limit)
        H = HessianOperator(streamed)
        cuts.append(streamed.plan().partition)
        products += [H @ np.ones(H.shape[0]) for _ in range(3)]
    assert [cut.num_chunks for cut in cuts] == [6] * 5
    assert [cut.num_kept for cut in cuts] == [0, 1, 3, 6, 6]
    assert [cut.num_read_once for cut in cuts] == [0, 0, 0, 2, 6]
    assert all(np.array_equal(product, products[0]) for product in products)


def test_integers_are_converted(stored):
    rng = np.random.default_rng(1)
    X, y = rng.integers(0, 256, (300, 4), np.uint8), rng.integers(0, 3, 300, np.uint8)
    net = Network((4, 5, 3), "tanh", 1e-2 * rng.standard_normal(43))
    plain = Objective(net, X, y, loss="softmax_cross_entropy", dtype=np.float32)
    streamed = Objective(net, **stored("hdf5", X=X, y=y), loss="softmax_cross_entropy", dtype=np.float32)
    assert streamed.digest() == plain.digest()
    assert streamed.value() == pytest.approx(plain.value(), rel=1e-6)


def test_at_reads_and_checks_nothing_anew(stored, monkeypatch):
    plain, streamed = pair(stored, "sliceable", memory_limit=2**20)
    theta = plain.net.theta + 0.1
    assert streamed.value() == pytest.approx(plain.value(), rel=1e-13)
    source = streamed.X.source
    reads = len(source.reads)
    other = streamed.at(theta)
    assert other.X is streamed.X
    assert other.y.base is streamed.y.base
    assert other.sample_weight is streamed.sample_weight
    assert other.value() == pytest.approx(plain.at(theta).value(), rel=1e-13)
    assert len(source.reads) == reads  # the rows fit into the limit and are kept
    monkeypatch.setattr("krylovh.objective.Data", lambda *_: pytest.fail("data were checked again"))
    assert plain.at(theta).X is plain.X


def test_subsets_of_slices_stay_in_the_file(stored):
    plain, streamed = pair(stored, memory_limit=0)
    for rows in (slice(100, 600), np.arange(SAMPLES) % 3 == 0, [5, 5, 1]):
        part = streamed.subset(rows)
        assert part.digest() == plain.subset(rows).digest()
        assert isinstance(part.X, np.ndarray) != isinstance(rows, slice)
        assert part.value() == pytest.approx(plain.subset(rows).value(), rel=1e-13)
    with pytest.raises(ValueError, match="empty data set"):
        streamed.subset(slice(5, 5))


def test_what_is_not_finite_is_found_at_the_first_use():
    X = np.ones((SAMPLES, 2))
    X[500, 1] = np.nan
    objective = Objective(Network((2, 1), "tanh"), Sliceable(X), np.ones(SAMPLES), loss="squared_error", memory_limit=0)
    for use in (objective.value, objective.gradient, objective.digest, lambda: HessianOperator(objective) @ np.ones(3)):
        with pytest.raises(ValueError, match=r"X must be finite in float64, found nan at index \(500, 1\)"):
            use()
    X[500, 1] = 1.0
    assert np.isfinite(objective.value())


def test_shapes_are_checked_at_once():
    net = Network((2, 1), "tanh")
    with pytest.raises(ValueError, match=r"X must have shape \(N, 2\), got \(5, 3\)"):
        Objective(net, Sliceable(np.ones((5, 3))), np.ones(5), loss="squared_error")
    with pytest.raises(ValueError, match="X is an empty data set"):
        Objective(net, Sliceable(np.ones((0, 2))), np.ones(0), loss="squared_error")


def test_a_pass_that_is_broken_off_leaves_no_thread_and_the_objective_in_order(stored):
    _, streamed = pair(stored, memory_limit=0)
    H = HessianOperator(streamed)
    v = np.ones(H.shape[0])
    expected = H @ v
    before = threading.active_count()

    def interrupted(error):
        for chunk in streamed.chunks():
            if chunk.start > 0:
                raise error

    for error in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error):
            interrupted(error)
        assert threading.active_count() == before
    for _ in streamed.chunks():
        break
    gc.collect()
    assert threading.active_count() == before
    assert np.array_equal(H @ v, expected)


@pytest.mark.parametrize("limit", LIMITS[:3])
def test_threads_share_an_objective_in_a_file(limit, stored):
    _, streamed = pair(stored, memory_limit=limit)
    operators = [HessianOperator(streamed), GaussNewtonOperator(streamed)]
    V = np.random.default_rng(2).standard_normal((12, streamed.num_parameters))
    expected = [A @ v for A in operators for v in V]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda job: job[0] @ job[1], [(A, v) for A in operators for v in V])
        assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda objective: pickle.loads(pickle.dumps(objective))])
def test_copies_open_the_file_again_and_have_the_same_bits(duplicate, stored):
    _, streamed = pair(stored, memory_limit=320_000)
    v = np.ones(streamed.num_parameters)
    expected = HessianOperator(streamed) @ v
    twin = duplicate(streamed)
    assert twin.X.source is not streamed.X.source
    assert np.array_equal(HessianOperator(twin) @ v, expected)


def test_a_closed_file_is_named(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["X"], file["y"] = np.ones((5, 2)), np.ones(5)
        X, y = file["X"], file["y"]
        objective = Objective(Network((2, 1), "tanh"), X, y, loss="squared_error")
    with pytest.raises(ValueError, match="X is a dataset of an HDF5 file that is closed"):
        objective.value()
    with pytest.raises(ValueError, match="y is a dataset of an HDF5 file that is closed"):
        Objective(Network((2, 1), "tanh"), np.ones((5, 2)), y, loss="squared_error")


@pytest.mark.parametrize("limit", [None, 0])
def test_a_million_samples_add_up_in_float32(limit):
    rng = np.random.default_rng(3)
    count = 1_000_000
    X, y = rng.standard_normal((count, 3)).astype(np.float32), rng.integers(0, 2, count)
    theta = rng.standard_normal(8).astype(np.float32)
    net = Network((3, 2), ["identity"], theta)
    objective = Objective(net, X, y, loss="softmax_cross_entropy", memory_limit=limit, threads=1)
    weights, biases = oracles.split(net, theta.astype(float))
    p = oracles.softmax(X.astype(float) @ weights[1, 0].T + biases[1])
    slope = p - np.eye(2)[y]
    expected = np.concatenate([(slope.T @ X.astype(float)).ravel(), slope.sum(0)]) / count
    bound = np.finfo(np.float32).eps * np.log2(count)
    assert np.linalg.norm(objective.gradient() - expected) <= bound * np.linalg.norm(expected)
    value = -np.log(p[np.arange(count), y]).mean()
    assert objective.value() == pytest.approx(value, rel=1e-8)

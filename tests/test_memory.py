"""The plan of memory: what is kept within which limit, and that a process takes no more than it says."""

import json
import subprocess
import sys

import numpy as np
import pytest

from krylovh import Network, Objective
from krylovh.memory import BUFFER_BYTES, BufferPool, Partition, partition

CASES = [
    dict(num_samples=n, lanes=lanes, rows=rows, limit=limit, kept_bytes=kept, row_bytes=row, unconverted_bytes=row // 4,
         stored_rows=stored)
    for n in (5, 1000, 60_001) for lanes in (1, 5) for rows in (5, 700) for kept in (1000, 300_000)
    for row in (0, 800) for stored in (1, 64) for limit in (0, 10**6, 10**8, 2 * 10**10)
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_a_partition_covers_all_samples_within_the_limit(case):
    cut = partition(**case)
    n, limit, kept, row = (case[name] for name in ("num_samples", "limit", "kept_bytes", "row_bytes"))
    starts, stops = zip(*cut.spans, strict=True)
    assert (starts[0], stops[-1], starts[1:]) == (0, n, stops[:-1])
    assert stops[0] >= min(n, case["lanes"])  # no lane without rows in the first chunk
    assert len(cut.spans) == cut.num_chunks
    assert 0 <= cut.num_read_once <= (cut.num_chunks if row else 0)
    assert cut.num_read_once == 0 or cut.num_kept == cut.num_chunks  # linearisations first
    turns = min(2, cut.num_chunks - cut.num_read_once)
    buffers = cut.rows * (kept * (cut.num_kept < cut.num_chunks) + turns * row + case["unconverted_bytes"])
    taken = cut.rows_of(cut.num_kept) * kept + cut.rows_of(cut.num_read_once) * row + buffers
    assert taken <= max(limit, BUFFER_BYTES, case["lanes"] * (kept + 3 * row))
    if cut.num_kept < cut.num_chunks and cut.num_kept:
        assert limit - taken < cut.rows * kept  # not one more would have fitted


def test_chunks_are_cut_between_the_pieces_of_a_file():
    cut = partition(10_000, 2, 1000, 0, kept_bytes=100, row_bytes=8, stored_rows=300)
    assert cut.rows == 900
    assert partition(10_000, 2, 1000, 0, kept_bytes=100, row_bytes=8, stored_rows=3000).rows == 1000
    assert partition(500, 2, 1000, 0, kept_bytes=100, row_bytes=8, stored_rows=300).rows == 500


def test_buffers_are_given_to_one_pass_at_a_time():
    pool = BufferPool()
    first, second = pool.take(list), pool.take(list)
    assert first is not second
    pool.give_back(first)
    pool.give_back(second)
    assert pool.take(list) is second
    assert pool.take(lambda: 3) == 3  # only one set is kept


def test_the_plan_allocates_nothing_and_grows_with_the_block():
    net = Network((10, 300, 300, 3), "tanh")
    objective = Objective(net, np.ones((5000, 10)), np.ones((5000, 3)), loss="squared_error", memory_limit=0, threads=2)
    plan, block = objective.plan(), objective.plan(16)
    assert objective._value is None
    assert plan.partition == block.partition
    assert plan.kept == 0 < plan.chunk
    assert plan.product < block.product < 40 * plan.product
    assert plan.peak == plan.data + plan.parameters + plan.chunk + max(plan.product, plan.gradient)
    assert str(block).count("16 vectors") == 1
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        objective.plan(0)


def test_lanes_are_bounded_by_the_memory_of_their_gradients():
    net = Network((1000, 1000, 1), "tanh", bias=False)  # 8 MB per lane
    data = {"X": np.ones((200, 1000)), "y": np.ones(200), "loss": "squared_error", "threads": 64}
    assert Objective(net, **data).lanes == 64
    assert Objective(net, **data, memory_limit=0).lanes == BUFFER_BYTES // (8 * net.num_parameters) == 8
    assert Objective(net, **data, memory_limit=2**30).lanes == 2**27 // (8 * net.num_parameters) == 16
    assert Objective(Network((1000, 2), "tanh"), **data | {"y": np.ones((200, 2))}, memory_limit=0).lanes == 64


PROGRAM = """
import json, sys
from pathlib import Path
import h5py
import numpy as np
from krylovh import HessianOperator, Network, Objective

def resident(what):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(what)))

path, kind, widths, num_samples, limit, threads = json.loads(sys.argv[1])
tiny = Objective(Network((2, 2), "tanh"), np.eye(2), np.eye(2), loss="squared_error", threads=2)
HessianOperator(tiny) @ np.ones(6)
with h5py.File(path, "w") as file:
    file.create_dataset("X", (num_samples, widths[0]), np.uint8, fillvalue=1, chunks=(256, widths[0]))
net = Network(widths, "tanh")
net = net.with_theta(net.random_theta(0) / 100)
v = np.ones(net.num_parameters)
y = np.ones((num_samples, widths[-1]))
with h5py.File(path) as file:
    if kind == "memmap":
        np.save(path + ".npy", file["X"][:])
    X = {"hdf5": lambda: file["X"], "memmap": lambda: np.load(path + ".npy", mmap_mode="r"),
         "memory": lambda: np.ones((num_samples, widths[0]))}[kind]()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    objective = Objective(net, X, y, loss="squared_error", memory_limit=limit, threads=threads)
    plan = objective.plan()
    H = HessianOperator(objective)
    for _ in range(2):
        H @ v
    print(json.dumps([resident("VmHWM") - before, plan.peak, plan.limited]))
"""


def memory_of(*case):
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(case)], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(
    ("kind", "widths", "num_samples", "limit", "threads"),
    [
        ("hdf5", (784, 64, 10), 30_000, 100_000_000, 2),
        ("memmap", (784, 64, 10), 30_000, 100_000_000, 2),
        ("memory", (784, 64, 10), 30_000, 40_000_000, 2),
        ("hdf5", (1000, 1000, 1), 1000, 10**8, 64),  # a million parameters, on 64 simulated threads
        pytest.param("hdf5", (784, 256, 128, 10), 60_000, 500_000_000, 2, marks=pytest.mark.full),
        pytest.param("memory", (784, 256, 128, 10), 60_000, None, 2, marks=pytest.mark.full),
    ],
)
def test_the_peak_of_memory_is_within_the_plan(kind, widths, num_samples, limit, threads, tmp_path):
    taken, planned, limited = memory_of(str(tmp_path / "data"), kind, widths, num_samples, limit, threads)
    assert taken <= 1.2 * planned
    assert taken >= 0.5 * planned  # the plan is no empty promise either
    assert limit is None or limited <= max(limit, BUFFER_BYTES)


def test_spans_of_a_partition():
    assert Partition(5, 5, 1, 0).spans == [(0, 5)]
    assert Partition(7, 3, 2, 0).rows_of(2) == 6
    assert Partition(7, 3, 3, 0).rows_of(3) == 7

"""The file of a run: which run it belongs to, who may write it, which generation counts, and what it may cost."""

import json
import os
import shutil
import warnings

import numpy as np
import pytest

from krylovh import (
    Checkpoint,
    CheckpointMismatchError,
    CheckpointWarning,
    HessianOperator,
    Network,
    Objective,
    ResultStore,
    eigsh,
    hessian_matrix,
    minimize,
    resume,
    trace,
)
from krylovh.storage import checkpoint as checkpoint_module
from krylovh.storage.errors import CorruptFileError, FileLockedError, UnsupportedFormatError
from krylovh.storage.image import sealed_image
from krylovh.storage.layout import to_record
from krylovh.storage.lock import locked
from krylovh.storage.run_file import newest
from tests.resumed import Counted, Stopped, differing, often

SPECTRUM = np.sort(np.random.default_rng(2).standard_normal(150))


def make_objective(seed=0, rows=slice(None), widths=(3, 4, 2), theta=0.0, **changes):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    net = Network(widths, "tanh")
    parameters = net.random_theta(5)
    parameters[0] += theta
    options = {"loss": "squared_error", "l2": 1e-3, "threads": 1, **changes}
    return Objective(net.with_theta(parameters), X[rows], y[rows], **options)


def stopped_run(path, limit=25, **keywords):
    with pytest.raises(Stopped):
        eigsh(Counted(SPECTRUM, limit), **{"k": 3, "rng": 0, **keywords}, checkpoint=often(path))
    return path


OTHERS = {
    "weights": {"theta": 1e-12},
    "data": {"seed": 1},
    "samples": {"rows": slice(0, 19)},
    "order of the data": {"rows": np.r_[1, 0, 2:20]},
    "loss": {"loss": "huber"},
    "reduction": {"reduction": "sum"},
    "regulariser": {"l2": 2e-3},
    "dtype": {"dtype": np.float32},
    "architecture": {"widths": (3, 5, 2)},
}


@pytest.mark.parametrize("field", OTHERS)
def test_a_run_of_another_objective_is_refused_and_the_field_named(field, tmp_path):
    file = tmp_path / "run.h5"
    minimize(make_objective(), max_iterations=2, checkpoint=file)
    with pytest.raises(CheckpointMismatchError, match=f"its {field.split(' ')[-1]} is"):
        minimize(make_objective(**OTHERS[field]), max_iterations=2, checkpoint=file)
    H = HessianOperator(make_objective())
    trace(H, num_products=4, rng=0, checkpoint=tmp_path / "trace.h5")
    with pytest.raises(CheckpointMismatchError, match=r"its \w+ is"):
        trace(HessianOperator(make_objective(**OTHERS[field])), num_products=4, rng=0, checkpoint=tmp_path / "trace.h5")


@pytest.mark.parametrize(
    ("field", "changes"),
    [("which", {"which": "SA"}), ("ncv", {"ncv": 30}), ("v0", {"v0": np.ones(150)}), ("seed", {"rng": 1})],
)
def test_another_argument_is_refused_and_named(field, changes, tmp_path):
    file = stopped_run(tmp_path / "run.h5")
    with pytest.raises(CheckpointMismatchError, match=f"its {field} is"):
        eigsh(Counted(SPECTRUM), **{"k": 3, "rng": 0, **changes}, checkpoint=file)


def test_another_operator_is_refused_whatever_it_is(tmp_path):
    file = stopped_run(tmp_path / "run.h5")
    with pytest.raises(CheckpointMismatchError, match="products with the operator differ"):
        resume(file, Counted(SPECTRUM * (1 + 1e-9)))
    with pytest.raises(CheckpointMismatchError, match="operator is Counted, here ndarray"):
        resume(file, np.diag(SPECTRUM))
    with pytest.raises(CheckpointMismatchError, match="a run of eigsh, here is one of trace"):
        trace(Counted(SPECTRUM), checkpoint=file)
    A = np.diag(SPECTRUM)
    trace(A, num_products=5, rng=0, checkpoint=tmp_path / "matrix.h5")
    A[3, 3] += 1e-15
    with pytest.raises(CheckpointMismatchError, match="its matrix is"):
        resume(tmp_path / "matrix.h5", A)


def test_another_machine_gives_a_warning_and_the_right_answer(tmp_path, monkeypatch):
    file = stopped_run(tmp_path / "run.h5")
    machine = checkpoint_module.machine()
    monkeypatch.setattr(
        checkpoint_module, "machine", lambda: {**machine, "numba": "0.1", "blas": "another, 64 threads"}
    )
    with pytest.warns(CheckpointWarning, match="other blas, numba"):
        found = resume(file, Counted(SPECTRUM))
    np.testing.assert_allclose(found.eigenvalues, eigsh(Counted(SPECTRUM), 3, rng=0).eigenvalues, atol=1e-12)


def test_of_two_resumes_at_once_one_wins(tmp_path):
    file = stopped_run(tmp_path / "run.h5")
    with locked(file), pytest.raises(FileLockedError, match=f"process {os.getpid()}"):
        resume(Checkpoint(file, timeout=0.05), Counted(SPECTRUM))
    assert resume(file, Counted(SPECTRUM)).status.value == "converged"


def test_the_generation_before_is_taken_where_the_newest_is_damaged(tmp_path):
    file = stopped_run(tmp_path / "run.h5", 60)
    generation = newest(file).header.generation
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert newest(file).header.generation == generation - 1
    found = resume(file, Counted(SPECTRUM))
    assert differing(found, eigsh(Counted(SPECTRUM), 3, rng=0)) == []
    both = tmp_path / "both.h5"
    for name in ("both.h5", "both.h5.previous"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"both\.h5"):
        resume(both, Counted(SPECTRUM))


def test_the_newest_is_found_by_its_counter_not_by_the_clock(tmp_path):
    file = stopped_run(tmp_path / "run.h5", 60)
    previous = tmp_path / "run.h5.previous"
    generation = newest(file).header.generation
    newer, older = file.read_bytes(), previous.read_bytes()
    file.write_bytes(older)
    previous.write_bytes(newer)
    os.utime(file, (2e9, 2e9))
    os.utime(previous, (1e9, 1e9))
    assert newest(file).header.generation == generation
    file.unlink()
    assert newest(file).header.generation == generation


@pytest.mark.parametrize(
    ("array", "refused"),
    [
        ("process_basis", "not orthonormal"),
        ("process_T", "not one of this operator"),
        ("process_residual", "not one of this operator"),
    ],
)
def test_a_basis_that_was_altered_is_refused_though_all_digests_fit(array, refused, tmp_path):
    file = stopped_run(tmp_path / "run.h5", 30)
    saved = newest(file)
    state = saved.state()
    first = 0
    values = saved.header.state_values.copy()
    for name, _, shape, _ in json.loads(saved.header.arrays):
        if name == array:
            values[first + int(np.argmax(np.abs(state[array].ravel(order="K"))))] += 1e-6
        first += int(np.prod(shape))
    header = type(saved.header)(**{**vars(saved.header), "state_values": values})
    (tmp_path / "run.h5.previous").unlink()
    file.write_bytes(sealed_image({"run": to_record(header)}))
    with pytest.raises(ValueError, match=refused):
        resume(file, Counted(SPECTRUM))


def test_the_answer_can_be_read_as_any_other_result(tmp_path):
    expected = eigsh(Counted(SPECTRUM), 3, rng=0, checkpoint=tmp_path / "run.h5")
    assert differing(expected, ResultStore(tmp_path / "run.h5", "r").load("result")) == []


def test_a_file_of_something_else_is_neither_read_nor_overwritten(tmp_path):
    file = tmp_path / "results.h5"
    ResultStore(file).save("a", np.ones(2))
    before = file.read_bytes()
    with pytest.raises(CorruptFileError, match="not the checkpoint of a run"):
        eigsh(Counted(SPECTRUM), 3, checkpoint=file)
    assert file.read_bytes() == before
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        resume(tmp_path / "none.h5", Counted(SPECTRUM))


def test_a_newer_layout_and_a_task_that_is_none_are_refused(tmp_path):
    file = stopped_run(tmp_path / "run.h5")
    (tmp_path / "run.h5.previous").unlink()
    saved = newest(file)
    for change, error in (({"format": 2}, UnsupportedFormatError), ({"task": "load_network"}, ValueError)):
        header = type(saved.header)(**{**vars(saved.header), **change})
        file.write_bytes(sealed_image({**saved.records, "run": to_record(header)}))
        with pytest.raises(error, match=r"version 2|must be one of diagonal"):
            resume(file, Counted(SPECTRUM))


def test_a_folder_that_is_gone_does_not_end_the_run(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    expected, calls = eigsh(Counted(SPECTRUM), 3, rng=0), []

    def remove_once(done, total):
        calls.append(done)
        if len(calls) == 2:
            shutil.rmtree(folder)

    with pytest.warns(CheckpointWarning, match="goes on, but cannot be saved") as warned:
        found = eigsh(Counted(SPECTRUM), 3, rng=0, progress=remove_once, checkpoint=often(folder / "run.h5"))
    assert len(warned) == 1
    assert differing(expected, found) == []


def test_a_save_that_fails_is_tried_again(tmp_path, monkeypatch):
    real, failures = checkpoint_module.save_generation, []

    def full_disk_at_first(target, records):
        if len(failures) < 4:
            failures.append(target)
            raise OSError(28, "No space left on device", str(target))
        real(target, records)

    monkeypatch.setattr(checkpoint_module, "save_generation", full_disk_at_first)
    with pytest.warns(CheckpointWarning, match="No space left"):
        expected = eigsh(Counted(SPECTRUM), 3, rng=0, checkpoint=often(tmp_path / "run.h5"))
    finished = Counted(SPECTRUM)
    assert differing(expected, resume(tmp_path / "run.h5", finished)) == []
    assert finished.count == 1  # the product that tells an operator


def test_saves_take_no_more_than_their_share_of_the_time(tmp_path, monkeypatch):
    """A clock that the products and saves move alone: 2 ms a product, and 30 ms a save."""
    now, saves = [0.0], []
    real = checkpoint_module.save_generation

    class SlowOperator(Counted):
        def _matmat(self, V):
            now[0] += 0.002 * V.shape[1]
            return super()._matmat(V)

    def slow_save(target, records):
        real(target, records)
        now[0] += 0.03
        saves.append(now[0])

    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint_module, "save_generation", slow_save)
    trace(SlowOperator(SPECTRUM), num_products=149, rng=0, block_size=1, checkpoint=tmp_path / "a.h5")
    assert len(saves) == 2  # the first, and that of the end: nothing else is worth it in 0.3 s
    saves.clear()
    now[0] = 0.0
    minimum = 0.03 * 19
    spectrum = np.random.default_rng(0).standard_normal(3000)
    trace(SlowOperator(spectrum), num_products=2500, rng=0, block_size=1, checkpoint=tmp_path / "b.h5")
    assert 6 <= len(saves) <= 12
    assert np.diff(saves[:-1]).min() >= minimum
    assert 0.03 * (len(saves) - 2) <= 0.05 * now[0]


def test_what_was_noted_and_what_has_to_be_given_again_is_told(tmp_path):
    objective = make_objective()
    file = Checkpoint(tmp_path / "run.h5", notes={"model": "net.npz"})
    minimize(objective, max_iterations=2, preconditioner=lambda o, d: np.eye(o.num_parameters), checkpoint=file)
    run = Checkpoint(file.path).describe()
    assert (run.task, run.notes, run.missing) == ("minimize", {"model": "net.npz"}, ("preconditioner",))
    assert run.finished
    assert run.num_products > 0
    assert run.arguments["max_iterations"] == 2


def test_misuse_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"overhead must be in \(0, 1\), got 1"):
        Checkpoint(tmp_path / "a.h5", overhead=1)
    with pytest.raises(FileNotFoundError, match="missing"):
        hessian_matrix(make_objective(), checkpoint=tmp_path / "missing" / "a.h5")


def test_no_warning_without_a_reason(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eigsh(Counted(SPECTRUM), 3, rng=0, checkpoint=tmp_path / "run.h5")


def test_a_result_that_costs_more_to_save_than_the_run_did_is_made_again(tmp_path, monkeypatch):
    file, d = tmp_path / "run.h5", SPECTRUM
    monkeypatch.setattr(checkpoint_module, "_SECONDS_PER_BYTE", 1.0)
    found = trace(Counted(d), num_products=20, rng=0, checkpoint=file)
    assert not Checkpoint(file).describe().finished
    monkeypatch.undo()
    again = Counted(d)
    assert differing(resume(file, again), found) == []
    assert again.count == 21  # one tells the operator from others
    assert Checkpoint(file).describe().finished

"""The job that a process belongs to, where no MPI is there; what happens under mpiexec is tested by make test-mpi."""

import sys

import numpy as np
import pytest

from fake_mpi import run
from krylovh import HessianOperator, Network, Objective
from krylovh.distributed import Ranks, is_first, is_launched, leaving, on_first, petsc_matrix, spread_over_ranks, world
from krylovh.distributed.job import LAUNCHERS, interrupts


@pytest.mark.parametrize("variable", LAUNCHERS)
def test_a_launcher_without_mpi4py_is_told_what_to_install(monkeypatch, variable):
    assert not is_launched()
    monkeypatch.setenv(variable, "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert is_launched()
    with pytest.raises(ImportError, match=r"mpi4py is missing; pip install 'krylovh\[mpi\]'"):
        world()


def test_the_command_line_says_so_in_one_line(monkeypatch, tmp_path, capsys):
    from krylovh.cli import main

    np.savez(tmp_path / "net.npz", theta=np.zeros(2), widths=[1, 1], activations=np.array(["identity"]))
    np.savez(tmp_path / "data.npz", X=np.ones((2, 1)), y=np.ones(2))
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    arguments = [str(tmp_path / name) for name in ("net.npz", "data.npz")]
    with pytest.raises(SystemExit) as ended:
        main(["spectrum", *arguments, "--loss", "squared_error", "-o", str(tmp_path / "run.h5")])
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "mpi4py is missing" in message


def test_a_process_that_is_alone_needs_nothing():
    assert world() is None
    assert is_first()
    assert leaving(3, "not converged")
    objective = spread_over_ranks(Network((1, 1), "identity"), [[1.0]], [1.0], loss="squared_error")
    assert type(objective) is Objective
    assert on_first(objective, lambda: 5) == 5


def test_an_interrupt_is_kept_and_a_second_one_is_not():
    interrupts._keep(2, None)
    assert interrupts.pending
    with pytest.raises(KeyboardInterrupt):
        interrupts._keep(2, None)
    with pytest.raises(KeyboardInterrupt):
        run(2, lambda comm: Ranks(comm).sum(np.ones(1), lambda array: None))
    assert not interrupts.pending


def test_values_of_all_kinds_are_gathered_in_the_order_of_the_ranks():
    def program(comm):
        ranks = Ranks(comm)
        return ranks.gather({"rank": comm.Get_rank(), "x": "y" * comm.Get_rank()}), ranks.agree(comm.Get_rank() + 1.5)

    gathered, agreed = run(3, program)[2]
    assert [one["rank"] for one in gathered] == [0, 1, 2]
    assert [len(one["x"]) for one in gathered] == [0, 1, 2]
    assert agreed == 1.5


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(28, "No space left on device", "run.h5"), OSError, r"\(on rank 1\): 'run.h5'"),
        (KeyError("lost"), KeyError, "rank 1: 'lost'"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), RuntimeError, "rank 1: UnicodeDecodeError: 'utf-8' codec"),
        (type("Local", (ValueError,), {})("here"), RuntimeError, "rank 1: Local: here"),
    ],
)
def test_errors_of_all_kinds_are_raised_on_all_ranks(error, kind, words):
    def fail():
        raise error

    def program(comm):
        Ranks(comm).together(fail if comm.Get_rank() == 1 else lambda: None)

    with pytest.raises(kind, match=words):
        run(3, program)


def test_rank_0_alone_writes_and_all_get_its_error():
    done = []

    def program(comm):
        ranks = Ranks(comm)
        ranks.on_first(lambda: done.append(comm.Get_rank()))
        ranks.on_first(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError, match="rank 0: division by zero"):
        run(4, program)
    assert done == [0]


def test_ranks_are_not_pickled():
    import pickle

    with pytest.raises(TypeError, match="ranks of a communicator cannot be pickled"):
        pickle.dumps(run(1, Ranks)[0])


def test_a_matrix_of_petsc_needs_petsc(monkeypatch):
    monkeypatch.setitem(sys.modules, "petsc4py", None)
    H = HessianOperator(Objective(Network((1, 1), "identity"), [[1.0]], [1.0], loss="squared_error"))
    with pytest.raises(ImportError, match="petsc4py is missing"):
        petsc_matrix(H, None)

"""A small trained net and its data on disk, and the program as a function."""

import json

import numpy as np
import pytest

from krylovh import Network, Objective, minimize
from krylovh.cli import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A regression net at a minimum, so that everything that needs one can be asked of it."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    y = np.tanh(X @ [1.0, -2.0]) + 0.1 * rng.standard_normal(30)
    net = Network((2, 3, 1), "tanh")
    net = net.with_theta(net.random_theta(0))
    theta = minimize(Objective(net, X, y, loss="squared_error", l2=0.05), tol=1e-10).x
    net.with_theta(theta).save(folder / "net.npz")
    np.savez(folder / "data.npz", X=X, y=y)
    np.savez(folder / "more.npz", X=X[:5] + 0.1, y=y[:5])
    return folder


@pytest.fixture
def krylovh(trained, tmp_path, monkeypatch, capsys):
    """Run the program in a folder of its own with the net and its data; return exit code, stdout and stderr."""
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)

    def run(*words, squared_error=True):
        words = [str(word) for word in words]
        if squared_error and "--loss" not in words and words[0] not in ("show", "plot", "report", "compare", "run"):
            words += ["--loss", "squared_error", "--l2", "0.05"]
        with pytest.raises(SystemExit) as exit_:
            main(words)
        shown = capsys.readouterr()
        return exit_.value.code or 0, shown.out, shown.err

    return run


@pytest.fixture
def answer(krylovh):
    """Run the program with --json; return what it prints."""

    def run(*words):
        code, out, err = krylovh(*words, "--json")
        assert code == 0, err
        return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    return run

"""The demonstration on the real net: every estimate against the exact spectrum."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg as spla

from krylovh import HessianOperator, Network, ResultStore, Status
from krylovh.cli import main
from krylovh.cli.demo import digits_objective

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "-o", str(folder / "demo.h5"), "--picture", str(folder / "demo.png")])
    assert not exit_.value.code
    return folder, ResultStore(folder / "demo.h5", "r")


def test_the_net_was_at_a_minimum_of_this_very_objective():
    """Lbfgs stops where its own gradient is small: a wrong factor in the ridge would show here."""
    objective = digits_objective()
    assert objective.num_parameters == 3466
    assert np.abs(objective.gradient()).max() <= 2e-4
    assert objective.value() < 0.1


def test_eigenpairs_equal_the_exact_ones(demo):
    _, store = demo
    exact = store.load("exact")
    assert exact.shape == (3466,)
    for name, truth in (("largest", exact[-10:]), ("smallest", exact[:5])):
        result = store.load(name)
        assert result.status == Status.CONVERGED
        assert result.set_verified
        assert (np.abs(result.eigenvalues - truth) <= result.residual_norms + 1e-14).all()


def test_arpack_agrees(demo):
    _, store = demo
    values = spla.eigsh(HessianOperator(digits_objective()), k=3, which="LA", rng=0, return_eigenvectors=False)
    assert np.allclose(np.sort(values), store.load("largest").eigenvalues[-3:], rtol=1e-9, atol=0)


def test_trace_lies_in_its_interval_and_the_exact_curve_in_the_band(demo):
    _, store = demo
    exact = store.load("exact")
    low, high = store.load("trace").interval
    assert low <= exact.sum() <= high
    density = store.load("density")
    points = np.union1d(exact, np.concatenate([density.grid(3000), density.grid(3000, scale="signed_log")]))
    lower, upper = density.band(points)
    share = np.searchsorted(exact, points, side="right") / len(exact)
    assert ((lower <= share) & (share <= upper)).all()


def test_provenance_tells_what_was_computed(demo):
    folder, store = demo
    facts = store.provenance("density")
    assert facts["objective"].startswith("(1/N) sum_n -log softmax(z_n)[y_n], N = 1797 + sum_i (l2_i/2) theta_i^2")
    assert facts["seed"] == 0
    assert (folder / "demo.png").stat().st_size > 50_000


def test_the_code_in_the_readme_runs(tmp_path):
    codes = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(codes) == 2
    setup = (
        "import numpy as np\nrng = np.random.default_rng(0)\ntheta = 0.1 * rng.standard_normal(3466)\n"
        "X, y = rng.standard_normal((50, 64)), rng.integers(0, 10, 50)\n"
    )
    result = subprocess.run([sys.executable, "-c", setup + codes[1]], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "10 eigenpairs (LA), converged" in result.stdout


def test_five_lines_draw_the_spectrum_of_a_net_of_scikit_learn(tmp_path):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[0]
    assert len([line for line in code.splitlines() if line]) == 5
    setup = (
        "from sklearn.datasets import load_iris\nfrom sklearn.neural_network import MLPClassifier\n"
        "X, y = load_iris(return_X_y=True)\nmodel = MLPClassifier((8,), solver='lbfgs', max_iter=500, random_state=0)\n"
        "model.fit(X, y)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", setup + code], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "spectrum.png").read_bytes().startswith(b"\x89PNG")


def test_the_commands_of_the_program_in_the_readme_run(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    net = Network((4, 3, 3), "tanh")
    net.with_theta(net.random_theta(0)).save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", X=rng.standard_normal((20, 4)), y=rng.integers(0, 3, 20))
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^krylovh (.*?)(?:  +#.*)?$", (ROOT / "README.md").read_text(), re.M)
    assert [command.split()[0] for command in commands] == ["spectrum", "show", "plot", "report"]
    for command in commands:
        with pytest.raises(SystemExit) as exit_:
            main(command.split())
        assert not exit_.value.code
    assert {"run.h5", "spectrum.png", "report.html"} <= {path.name for path in tmp_path.iterdir()}


def test_the_commands_in_the_readme_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()):
        assert f"\n{target}:" in makefile

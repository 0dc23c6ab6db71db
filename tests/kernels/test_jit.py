"""When old machine code may be used again, and what the compiler is allowed to do."""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import krylovh.kernels
import numba
import numpy as np
import pytest
from krylovh.kernels import jit
from numba.core.dispatcher import Dispatcher

import krylovh
from cases import problem
from krylovh import EmpiricalFisherOperator, GaussNewtonOperator, HessianOperator, JacobianOperator, Objective, kernels

ENTRIES = (kernels.linearize, kernels.product, kernels.forward)
SCRIPT = """
import warnings
from pathlib import Path
import krylovh, krylovh.kernels
from krylovh import Network
assert Path(krylovh.kernels.__file__).is_relative_to({folder!r}), krylovh.kernels.__file__
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(float(Network((1, 1), ["leaky_relu"], [1.0, 0.0]).forward([[-2.0]])[0, 0]))
hits = sum(krylovh.kernels.forward.side_by_side.stats.cache_hits.values())
print(hits)
for warning in caught:
    print(warning.category.__name__, str(warning.message).replace("\\n", " "))
"""


class Copy:
    """A copy of the library with a cache of its own, run in processes of its own."""

    def __init__(self, folder):
        self.library, self.cache = folder / "library", folder / "cache"
        ignored = shutil.ignore_patterns("__pycache__", "kernels")
        shutil.copytree(Path(krylovh.__file__).parent, self.library / "krylovh", ignore=ignored)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(kernels.__file__).parent, self.library / "krylovh" / "kernels", ignore=ignored)

    def run(self):
        """Return leaky_relu(-2) by the compiled kernel, the cache hits, and the warnings."""
        environment = os.environ | {"PYTHONPATH": str(self.library), "NUMBA_CACHE_DIR": str(self.cache)}
        script = SCRIPT.format(folder=str(self.library))
        finished = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            cwd=self.library,
            capture_output=True,
            text=True,
            timeout=600,  # far more than it takes, for a machine that is busy
        )
        assert finished.returncode == 0, finished.stderr
        value, hits, *warned = finished.stdout.splitlines()
        return float(value), int(hits), warned

    def edit(self, file, old, new):
        path = self.library / "krylovh" / "kernels" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def files(self, suffix):
        return [path for path in self.cache.rglob(f"forward.forward*.{suffix}")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    copy = Copy(tmp_path_factory.mktemp("jit"))
    assert copy.run() == (-0.02, 0, [])  # compiled
    return copy


# They compile all kernels three times, which is why they are among the tests of faults
@pytest.mark.faults
def test_machine_code_is_taken_from_the_cache(copy):
    assert copy.run() == (-0.02, 1, [])


@pytest.mark.faults
@pytest.mark.parametrize(("suffix", "content"), [("nbi", b""), ("nbc", bytes(range(256)) * 8)], ids=["index", "code"])
def test_a_damaged_cache_is_compiled_anew_with_one_warning(copy, suffix, content):
    for path in copy.files(suffix):
        path.write_bytes(content)
    value, hits, warned = copy.run()
    assert (value, hits) == (-0.02, 0)
    assert len(warned) == 1
    assert warned[0].startswith("RuntimeWarning the cache of compiled kernels in ")
    assert "cannot be read" in warned[0]
    assert copy.run() == (-0.02, 1, [])


@pytest.mark.faults
def test_an_edit_of_another_kernel_file_is_seen(copy):
    copy.edit("activations.py", "LEAKY_SLOPE = 0.01", "LEAKY_SLOPE = 0.25")
    assert copy.run() == (-0.5, 0, [])
    copy.edit("activations.py", "LEAKY_SLOPE = 0.25", "LEAKY_SLOPE = 0.01")


def doubled(a, out):
    for i in numba.prange(len(a)):
        out[i] = 2 * a[i]


def result_of(kernel, parallel=True):
    out = np.empty(3)
    kernel(parallel, np.ones(3), out)
    return out


def test_both_versions_of_a_kernel_are_cached_side_by_side(monkeypatch, tmp_path):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    for hits in (0, 1):
        kernel = jit.kernel(doubled)
        for version, parallel in ((kernel.side_by_side, True), (kernel.in_turn, False)):
            assert np.array_equal(result_of(kernel, parallel), [2, 2, 2])
            assert sum(version.stats.cache_hits.values()) == hits


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch):
    def no_folder(*_):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit, "KernelCache", no_folder)
    with pytest.warns(RuntimeWarning, match="compiled kernels are not cached: .*no locator") as caught:
        kernel = jit.kernel(doubled)
    assert len(caught) == 1
    assert np.array_equal(result_of(kernel), [2, 2, 2])


@pytest.mark.parametrize("method", ["load_overload", "save_overload"])
def test_whatever_the_cache_raises_costs_one_warning(method, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jit.FunctionCache, method, fail)
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    kernel = jit.kernel(doubled)
    with pytest.warns(RuntimeWarning, match="No space left on device") as caught:
        assert np.array_equal(result_of(kernel), [2, 2, 2])
    assert len([w for w in caught if "No space" in str(w.message)]) == 1


def dispatchers():
    for module in pkgutil.iter_modules(kernels.__path__):
        for name, value in vars(importlib.import_module(f"krylovh.kernels.{module.name}")).items():
            if isinstance(value, jit.Kernel):
                yield pytest.param(value.side_by_side, id=f"{module.name}.{name}")
                yield pytest.param(value.in_turn, id=f"{module.name}.{name} in turn")
            elif isinstance(value, Dispatcher):
                yield pytest.param(value, id=f"{module.name}.{name}")


@pytest.mark.parametrize("dispatcher", list(dispatchers()))
def test_nan_and_infinity_keep_their_meaning_in_compiled_code(dispatcher):
    allowed = dispatcher.targetoptions.get("fastmath", False)
    assert allowed is not True
    assert set(allowed or ()) <= {"reassoc", "contract"}
    assert dispatcher.targetoptions["error_model"] == "numpy"
    assert dispatcher.targetoptions["nogil"]


def test_formulas_whose_rounding_is_designed_are_not_rearranged():
    from krylovh.kernels import activations, losses

    for function in (activations.normal_distribution, activations.decay, losses.neumaier, losses.softmax_labels):
        assert not function.targetoptions.get("fastmath")


def test_nan_guards_fire_in_compiled_code():
    objective, *_ = problem()
    v = np.full(objective.num_parameters, np.nan)
    assert np.isnan(HessianOperator(objective) @ v).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_compilation_per_dtype_serves_every_net_and_input(dtype):
    settings = [
        {}, {"topology": "skip", "loss": "squared_error"}, {"topology": "residual", "loss": "huber", "threads": 1},
        {"topology": "identity_only", "weighted": True, "ridge": True, "memory_limit": 0}, {"num_samples": 1},
        {"activation": "relu", "loss": "poisson", "reduction": "sum", "threads": 3}, {"loss": "binary_cross_entropy"},
    ]  # fmt: skip
    for options in settings:
        objective, (net, _, X, y), given = problem(dtype=dtype, **options)
        frozen = X.copy()
        frozen.flags.writeable = False
        for variant in (X.tolist(), np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], frozen):
            Objective(net, variant, y, **given).value()
            net.forward(variant)
        n = objective.num_parameters
        vectors = [np.ones(n), np.ones(2 * n)[::2], np.ones((n, 3)), np.ones((n, 3), order="F"), np.ones(n, np.int8)]
        vectors.append(np.broadcast_to(np.float32(1), n))  # read-only
        H, J = HessianOperator(objective), JacobianOperator(objective)
        operators = [H, GaussNewtonOperator(objective), EmpiricalFisherOperator(objective), J]
        for operator in (*operators, HessianOperator(objective, accumulation=np.float64)):
            for v in vectors:
                operator @ v
        H.quadratic_form(vectors[2]), J.T @ np.ones(J.shape[0]), J.T @ np.ones((J.shape[0], 2))
        H.block(1, 1) @ np.ones(H.block(1, 1).shape[1])
    for entry in ENTRIES:
        signatures = entry.side_by_side.signatures
        dtypes = [str(signature[4].dtype) for signature in signatures]  # that of theta
        assert dtypes.count(np.dtype(dtype).name) == 1, signatures

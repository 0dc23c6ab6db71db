"""Imports run strictly downward: the table of who may import whom, checked on the syntax tree of every file."""

import ast
import subprocess
import sys
from pathlib import Path

import krylovh.kernels
import pytest

import krylovh

PACKAGE = Path(krylovh.__file__).parent
KERNELS = Path(krylovh.kernels.__file__).parent

MODEL = [
    "kernels", "threads", "sources", "memory", "stream", "regularization", "targets", "data",
    "network", "objective", "operators", "exact",
]  # fmt: skip
SHARED = ["agreement", "checks", "blas", "progress", "recording"]
ALGORITHM = ["results", "krylov", "stochastic"]

# part -> the parts of the library it may import besides itself
ALLOWED = {
    "kernels": set(),
    "checks": set(),
    "blas": set(),
    "threads": {"checks", "blas"},
    "sources": set(),
    "memory": set(),
    "stream": {"memory", "sources"},
    "regularization": {"checks"},
    "targets": {"kernels", "checks", "sources"},
    "data": {"checks", "memory", "sources", "stream", "targets"},
    "network": {"kernels", "checks", "threads"},
    "objective": {"kernels", "checks", "threads", "memory", "sources", "stream", "regularization", "targets", "data",
                  "network"},
    "operators": {"kernels", "checks", "threads", "memory", "network", "objective"},
    "progress": set(),
    "agreement": set(),
    "recording": {"agreement"},
    "exact": {"kernels", "checks", "blas", "threads", "network", "objective", "operators", "progress", "recording"},
    "results": set(),
    "krylov": {"agreement", "progress", "recording", "results", "blas", "checks"},
    "stochastic": {"progress", "recording", "results", "krylov", "blas", "checks"},
    "scipy_compat": {"results", "krylov"},
    "approximations": {"checks", "progress", "objective", "operators", "exact", "krylov", "stochastic"},
    "applications": {"checks", "progress", "threads", "network", "objective", "operators", "exact", "results", "krylov",
                     "stochastic", "regularization", "memory", "data", "blas", "recording"},
    "storage": {"results", "network", "objective", "agreement"},
    "distributed": {"checks", "threads", "sources", "stream", "network", "objective"},
    "resumption": {"storage", "agreement"},
    "interop": {"checks", "regularization", "network", "objective", "operators", "applications", "storage"},
    "plotting": {"results"},
    "report": {"results", "storage"},
    "cli": {"plotting", "report", "storage", "interop", "distributed", "applications", "approximations", "resumption",
            *MODEL, *SHARED, *ALGORITHM} - {"kernels"},
}  # fmt: skip
# Network.save, and what makes nets and objectives of other libraries' models: imported when they are called
EXCEPTIONS = {("network", "storage"), ("network", "interop"), ("objective", "interop")}
OUTSIDE_OF_KERNELS = {"numpy", "numba", "llvmlite"}


def part_of(path):
    if KERNELS in path.parents:
        return "kernels"
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


FILES = sorted({*PACKAGE.rglob("*.py"), *KERNELS.rglob("*.py")} - {PACKAGE / "__init__.py"})


def public_home(name):
    """Where a name that is imported from the package itself really lives."""
    return krylovh._HOME[name].split(".")[0] if name in krylovh._HOME else name


def imported_modules(tree):
    """Yield each module that is imported, in full, wherever in the file the statement is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module == "krylovh":
                yield from (f"krylovh.{public_home(alias.name)}" for alias in node.names if alias.name[0] != "_")
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{part_of(path)}-{path.stem}")
def test_imports_run_downward(path):
    part = part_of(path)
    assert part in ALLOWED, f"{path} belongs to no part of the library: add it to the table"
    for module in imported_modules(ast.parse(path.read_text())):
        top, *rest = module.split(".")
        if top == "krylovh":
            if not rest:  # the package itself, for its version
                continue
            target = rest[0]
            assert target in ALLOWED, f"{path} imports {module}"
            assert target in ALLOWED[part] | {part} or (part, target) in EXCEPTIONS, f"{path} must not import {module}"
        elif part == "kernels":
            assert top in OUTSIDE_OF_KERNELS or top in sys.stdlib_module_names, f"{path} must not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{part_of(path)}-{path.stem}")
def test_relative_imports_are_within_the_kernels_only(path):
    levels = {node.level for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    assert levels <= ({0, 1} if part_of(path) == "kernels" else {0})


def test_the_two_columns_meet_nowhere():
    for model in MODEL:
        assert not ALLOWED[model] & set(ALGORITHM)
    for algorithm in ALGORITHM:
        assert not ALLOWED[algorithm] & set(MODEL)


def test_the_table_has_no_cycle():
    def reach(part, seen):
        assert part not in seen, f"cycle through {part}"
        for other in ALLOWED[part]:
            reach(other, seen | {part})

    for part in ALLOWED:
        reach(part, frozenset())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{part_of(path)}-{path.stem}")
def test_the_library_does_not_print(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_importing_the_package_loads_neither_numba_nor_scipy():
    code = "import sys, krylovh; sys.exit(' '.join({'numba', 'scipy', 'h5py', 'matplotlib'} & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert finished.stderr.strip() == ""


def test_every_public_name_can_be_loaded_and_nothing_else():
    for name in krylovh.__all__:
        assert getattr(krylovh, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        krylovh.no_such_name  # noqa: B018

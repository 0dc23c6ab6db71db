"""A pytest plugin: SciPy's own tests, with this library's functions in the place of SciPy's.

Give it as ``-p krylovh_in_scipy`` with this folder on the path.  It replaces functions before the test modules of SciPy
import them, keeps the tests that call one of the replaced functions, and skips those that ask for what is documented as
not served: complex operators, generalised problems (``M``) and shift-invert modes (``sigma``, ``mode``, ``OPinv``).
"""

from importlib import import_module

import pytest

from krylovh import scipy_compat

REPLACED = {scipy_compat.cg, scipy_compat.minres, scipy_compat.eigsh}
for module in ("_isolve", "_eigen.arpack", "_eigen.arpack.arpack"):
    # the package has attributes of the names of its modules, so that import statements would find something else
    namespace = import_module(f"scipy.sparse.linalg.{module}")
    for function in REPLACED:
        if hasattr(namespace, function.__name__):
            setattr(namespace, function.__name__, function)

#: tests of SciPy that reach eigsh through a helper
SYMMETRIC = {"test_symmetric_modes", "test_hermitian_modes", "test_symmetric_starting_vector"}


def pytest_collection_modifyitems(config, items):
    kept, dropped = [], []
    for item in items:
        (kept if concerns_us(item) else dropped).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


def concerns_us(item):
    """Whether a test calls a replaced function: as its parameter, or by name."""
    module = item.module.__name__.rpartition(".")[2]
    if module == "test_iterative":
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        return any(getattr(value, "solver", value) in REPLACED for value in parameters if not isinstance(value, str))
    if module == "test_arpack":
        return item.originalname in SYMMETRIC or "eigsh" in item.function.__code__.co_names
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except NotImplementedError as error:
        pytest.skip(f"not served: {error}")

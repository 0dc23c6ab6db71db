"""What holds for all tests: which are collected, and who compiles the kernels.

Where tests run in two processes, each compiles the kernels of one dtype for both.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from cases import problem
from krylovh import HessianOperator, hessian_matrix

DTYPES = {"gw0": np.float64, "gw1": np.float32}


#: tests against libraries that are no requirement, in an environment of their own: make test-interop
LIBRARIES = Path(__file__).parent / "interop" / "libraries"


def pytest_ignore_collect(collection_path, config):
    named = any(Path(argument).resolve().is_relative_to(LIBRARIES) for argument in config.args)
    return True if collection_path == LIBRARIES and not named else None


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    dtype = DTYPES.get(os.environ.get("PYTEST_XDIST_WORKER"))
    if dtype is not None:
        objective = problem(dtype=dtype)[0]
        HessianOperator(objective) @ np.ones((objective.num_parameters, 2), dtype)
        hessian_matrix(objective)

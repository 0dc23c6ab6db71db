"""Kernels are compiled once: where tests run in two processes, each compiles those of one dtype for both."""

import os

import numpy as np
import pytest

from cases import problem
from krylovh import HessianOperator, hessian_matrix

DTYPES = {"gw0": np.float64, "gw1": np.float32}


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    dtype = DTYPES.get(os.environ.get("PYTEST_XDIST_WORKER"))
    if dtype is not None:
        objective = problem(dtype=dtype)[0]
        HessianOperator(objective) @ np.ones((objective.num_parameters, 2), dtype)
        hessian_matrix(objective)

"""Examples of what needs a library that is no requirement are run where it is installed (make test-interop)."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["krylovh/interop/torch_hessian.py"]

"""How the kernels are compiled, and when old machine code may be used again.

Numba's cache on disk asks only whether the file of the cached function itself has changed: after an edit of a helper
in another file, or an upgrade of the package, it would go on running the old code.  Here every cached entry carries a
digest of all kernel sources.  A cache that cannot be read is compiled anew, and one that cannot be written is done
without; both are said once.
"""

import contextlib
import functools
import hashlib
import warnings
from pathlib import Path

import numba
from numba.core.caching import FunctionCache

__all__ = ["JIT_DISABLED", "SOURCE_DIGEST", "kernel", "subroutine"]

# without the interpreter lock; division by zero gives infinity or NaN, as in NumPy
OPTIONS = {"nogil": True, "error_model": "numpy"}
FASTMATH = {"reassoc", "contract"}

JIT_DISABLED = bool(numba.config.DISABLE_JIT)


def digest_of_sources(folder):
    """Return the SHA-256 of all Python files in ``folder``, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


SOURCE_DIGEST = digest_of_sources(Path(__file__).parent)


class KernelCache(FunctionCache):
    """Numba's cache of compiled functions, keyed on all kernel sources and indifferent to damage."""

    def __init__(self, function, parallel):
        super().__init__(function)
        self._parallel = parallel

    def _index_key(self, sig, codegen):
        return (SOURCE_DIGEST, self._parallel, super()._index_key(sig, codegen))

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a truncated or foreign file can raise anything at all from pickle
            self._warn("read", error)
            with contextlib.suppress(OSError):
                self._cache_file.flush()  # an unreadable index would stop the next save as well
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._warn("written", error)

    def _warn(self, verb, error):
        warnings.warn(
            f"the cache of compiled kernels in {self.cache_path} cannot be {verb} ({error!r}); compiling anew",
            RuntimeWarning,
            stacklevel=2,
        )


class Kernel:
    """An entry point in two versions: its ``prange`` loops side by side, or one turn after the other.

    The second is compiled only where threads cannot be used; the results are the same.
    """

    def __init__(self, function):
        self.side_by_side = self._compiled(function, parallel=True)
        self.in_turn = self._compiled(function, parallel=False)
        functools.update_wrapper(self, function)

    def __call__(self, parallel, *arguments):
        """Run the version that ``parallel`` names."""
        if parallel:
            self.side_by_side(*arguments)
        else:
            self.in_turn(*arguments)

    @staticmethod
    def _compiled(function, parallel):
        compiled = numba.njit(**OPTIONS, fastmath=FASTMATH, parallel=parallel)(function)
        if not JIT_DISABLED:
            try:
                compiled._cache = KernelCache(function, parallel)
            except RuntimeError as error:  # no folder that can be written
                if parallel:  # said once
                    warnings.warn(f"compiled kernels are not cached: {error}", RuntimeWarning, stacklevel=4)
        return compiled


def kernel(function):
    """Compile an entry point: cached on disk, without the interpreter lock, parallel where it says ``prange``.

    Only reassociation and contraction are allowed to the compiler: NaN and infinity keep their meaning.
    """
    return Kernel(function)


def subroutine(function):
    """Compile a function that only kernels call, under the same rules for floating point."""
    return numba.njit(**OPTIONS, fastmath=FASTMATH, no_cfunc_wrapper=True, no_cpython_wrapper=True)(function)


def exact_subroutine(function):
    """Compile a function whose rounding errors are part of its design: no reassociation, no contraction."""
    return numba.njit(**OPTIONS)(function)

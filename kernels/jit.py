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

import llvmlite.binding
import numba
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc

__all__ = ["JIT_DISABLED", "SOURCE_DIGEST", "exact_subroutine", "kernel", "routine", "subroutine"]

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

    def __init__(self, function, version):
        super().__init__(function)
        self._version = version

    def _index_key(self, sig, codegen):
        return (SOURCE_DIGEST, self._version, super()._index_key(sig, codegen))

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


def cached(compiled, function, version, says):
    """Give a compiled function its cache on disk; ``says``: warn where there is no folder for it."""
    try:
        compiled._cache = KernelCache(function, version)
    except RuntimeError as error:  # no folder that can be written
        if says:
            warnings.warn(f"compiled kernels are not cached: {error}", RuntimeWarning, stacklevel=5)
    return compiled


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
        if not Routine.all_linked:
            Routine.link_all()
        if parallel:
            self.side_by_side(*arguments)
        else:
            self.in_turn(*arguments)

    @staticmethod
    def _compiled(function, parallel):
        compiled = numba.njit(**OPTIONS, fastmath=FASTMATH, parallel=parallel)(function)
        return compiled if JIT_DISABLED else cached(compiled, function, parallel, says=parallel)


class Routine:
    """A function that is compiled once, and called by compiled code by its name, as that of a foreign library is."""

    all_linked = JIT_DISABLED

    def __init__(self, function, signatures):
        self._function, self._signatures = function, signatures
        self._compiled = []
        ROUTINES.append(self)

    def symbol(self, version):
        """Return the name under which compiled code finds a version."""
        return f"krylovh_{self._function.__name__}_{version}"

    def link(self):
        """Compile all versions, or take them from the cache, and tell the linker where they are."""
        options = {**OPTIONS, "fastmath": FASTMATH}
        for version, signature in self._signatures.items():
            compiled = CFunc(self._function, (signature.args, signature.return_type), {}, options)
            cached(compiled, self._function, version, says=False).compile()
            llvmlite.binding.add_symbol(self.symbol(version), compiled.address)
            self._compiled.append(compiled)  # which owns the machine code

    @classmethod
    def link_all(cls):
        """Link all routines: code that calls one can only be loaded after that."""
        for routine in ROUTINES:
            routine.link()
        cls.all_linked = True


ROUTINES = []


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


def routine(**signatures):
    """Compile a function for the given Numba signatures, by name of version, under the rules of a subroutine."""
    return lambda function: Routine(function, signatures)

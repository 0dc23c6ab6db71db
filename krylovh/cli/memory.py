"""Memory, asked for before it is taken: what a command will need, against what this process can still get."""

import resource
from pathlib import Path

from krylovh.cli.failures import MEMORY, Failure

__all__ = ["available_memory", "require_address_space", "require_memory"]

_LIBRARIES = 800_000_000  # bytes of address space that Numba, LLVM and two BLAS with their threads take
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Return the bytes that this process can still take, None where the system does not tell.

    It is the least of what the machine has available, what its control group leaves, and what the limit of its
    address space (``ulimit -v``) leaves.

    Examples
    --------
    >>> available = available_memory()
    >>> available is None or available > 0
    True
    """
    limits = [_machine(), _group(), _address_space()]
    known = [max(limit, 0) for limit in limits if limit is not None]
    return min(known) if known else None


def require_memory(needed: int, what: str) -> None:
    """Refuse with exit code 6 what needs more memory than there is.

    Examples
    --------
    >>> require_memory(0, "nothing")
    >>> require_memory(10**18, "the full matrix")
    Traceback (most recent call last):
        ...
    krylovh.cli.failures.Failure: the full matrix needs 1000000000.0 GB of memory; ... GB are available
    """
    available = available_memory()
    if available is not None and needed > available:
        raise Failure(MEMORY, f"{what} needs {needed / 1e9:.1f} GB of memory; {available / 1e9:.1f} GB are available")


def require_address_space() -> None:
    """Refuse a limit of the address space (``ulimit -v``) under which the libraries themselves cannot be loaded."""
    left = _address_space()
    if left is not None and left < _LIBRARIES:
        raise Failure(
            MEMORY, f"the libraries need {_LIBRARIES / 1e9:.1f} GB of address space; {left / 1e9:.1f} GB are left"
        )


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _group() -> int | None:
    try:
        limit = (_CONTROL_GROUP / "memory.max").read_text().strip()
        used = int((_CONTROL_GROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used


def _address_space() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return limit
    return limit - pages * resource.getpagesize()

"""Progress of long work, on request: a bar on standard error or the caller's own function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

ProgressFunction = Callable[[int, int], None]
Progress = bool | ProgressFunction

__all__ = ["Progress", "ProgressFunction", "reporting"]


def _silent(done: int, total: int) -> None:
    pass


@contextmanager
def reporting(progress: Progress, label: str) -> Iterator[ProgressFunction]:
    """Yield a function to be called with (steps done, steps in all).

    ``progress`` is False (nothing is shown), True (a bar with the time that remains, on standard error), or a
    function that is called in the same way.

    Examples
    --------
    >>> seen = []
    >>> with reporting(lambda done, total: seen.append((done, total)), "trace") as report:
    ...     report(1, 2)
    >>> seen
    [(1, 2)]
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield _silent
    else:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

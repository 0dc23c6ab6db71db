"""Progress of long work, on request: a bar on standard error or under a notebook's cell, or the caller's function."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

ProgressFunction = Callable[[int, int], None]
Progress = bool | ProgressFunction

_REFRESH = 0.2  # seconds between two pictures of a notebook's line

__all__ = ["Progress", "ProgressFunction", "in_notebook", "reporting"]


def _silent(done: int, total: int) -> None:
    pass


@contextmanager
def reporting(progress: Progress, label: str) -> Iterator[ProgressFunction]:
    """Yield a function to be called with (steps done, steps in all).

    ``progress`` is False (nothing is shown), True (a bar with the time that remains, on standard error or under
    the cell of a notebook), or a function that is called in the same way.

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
    elif in_notebook():
        yield from _cell_output(label)
    else:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def in_notebook() -> bool:
    """Tell whether this is a notebook: a kernel of Jupyter runs the code, and shows output under cells.

    Examples
    --------
    >>> in_notebook()
    False
    """
    if "IPython" not in sys.modules:  # whoever runs a notebook has imported it
        return False
    from IPython import get_ipython

    return type(get_ipython()).__name__ == "ZMQInteractiveShell"


def _cell_output(label: str) -> Iterator[ProgressFunction]:
    """Yield a function that keeps one line under the cell up to date, without widgets; the line vanishes in the end."""
    from IPython.display import HTML, display

    start = shown = time.monotonic()
    handle = display(HTML(""), display_id=True)

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < _REFRESH and done < total:
            return
        shown = now
        left = f", {(now - start) / done * (total - done):.0f} s left" if 0 < done < total else ""
        meter = f'<progress value="{done}" max="{total}" style="vertical-align: middle"></progress>'
        handle.update(HTML(f"{escape(label)} {meter} {done}/{total}{left}"))

    try:
        yield report
    finally:
        handle.update(HTML(""))

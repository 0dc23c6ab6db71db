"""Progress: who is told what, in a terminal and in a notebook."""

import sys
import types

import numpy as np
import pytest

from krylovh import trace
from krylovh.progress import in_notebook, reporting


class Line:
    """What a notebook shows at one place."""

    def __init__(self):
        self.states = []

    def update(self, shown):
        self.states.append(shown)


@pytest.fixture
def notebook(monkeypatch):
    """A kernel of Jupyter, as far as its Python side is asked for; return the line that it shows."""
    line, shell = Line(), type("ZMQInteractiveShell", (), {})()
    display = types.ModuleType("IPython.display")
    display.HTML = str
    display.display = lambda shown, display_id: line
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return line


def test_a_notebook_shows_a_line_and_removes_it(notebook, capsys):
    assert in_notebook()
    with reporting(True, "a<b") as report:
        report(1, 4)
        report(4, 4)
    assert "a&lt;b" in notebook.states[0]
    assert 'value="4" max="4"' in notebook.states[-2]
    assert notebook.states[-1] == ""
    assert capsys.readouterr() == ("", "")


def test_the_line_is_not_drawn_more_often_than_one_sees(notebook):
    with reporting(True, "many") as report:
        for i in range(1000):
            report(i, 1000)
    assert len(notebook.states) < 10


def test_the_line_vanishes_when_work_fails(notebook):
    def fails():
        with reporting(True, "work") as report:
            report(1, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert notebook.states[-1] == ""


def test_an_algorithm_reports_to_a_notebook(notebook):
    trace(np.eye(50), num_products=16, rng=0, progress=True)
    assert 'value="16" max="16"' in notebook.states[-2]


def test_a_plain_interpreter_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()

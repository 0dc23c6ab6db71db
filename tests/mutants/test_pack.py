"""The pack of faults fits the code: every old line is there, once, and at least sixty of them are."""

import ast
import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("mutants_run", Path(__file__).with_name("run.py"))
run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run)

pytestmark = pytest.mark.skipif(
    not (run.ROOT / "krylovh").is_dir() or not (run.ROOT / "kernels").is_dir(), reason="the sources are not here"
)


def test_every_fault_can_be_put_in_and_leaves_python_behind():
    mutants = run.load()
    assert len(mutants) >= 60
    assert len({(mutant.file, mutant.old) for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        source = (run.ROOT / mutant.file).read_text(encoding="utf-8")
        ast.parse(source.replace(mutant.old, mutant.new))


def test_faults_are_spread_over_the_library():
    places = {mutant.file.split("/")[0 if mutant.file.startswith("kernels") else 1] for mutant in run.load()}
    assert {"kernels", "operators", "exact", "krylov", "stochastic", "storage", "applications", "cli"} <= places


def test_every_file_with_a_fault_has_tests_of_its_own():
    for mutant in run.load():
        assert run.mirrored(mutant.file) or mutant.file.count("/") == 1, mutant.file


def test_an_old_line_that_is_gone_is_named(tmp_path):
    pack = tmp_path / "pack.toml"
    pack.write_text('[[mutant]]\nfile = "krylovh/network.py"\nwhy = "x"\nold = "no such line"\nnew = "y"\n')
    with pytest.raises(SystemExit, match="the old line occurs 0 times: no such line"):
        run.load(pack)

"""The pages of the documentation name what there is, and nothing else."""

import importlib.util
import re
from pathlib import Path

import pytest

import krylovh

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"

pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="the tests of a wheel run without the pages")


def test_the_reference_lists_every_public_name():
    listed = re.findall(r"^   ([A-Za-z_.]+)$", (PAGES / "reference" / "index.md").read_text(), re.M)
    assert len(listed) == len(set(listed))
    assert set(krylovh.__all__) <= set(listed)


def test_every_code_that_the_theory_shows_exists():
    shown = 0
    for page in sorted((PAGES / "theory").glob("*.md")):
        for path, name in re.findall(r"literalinclude\} (\S+)\n:pyobject: (\S+)", page.read_text()):
            source = (page.parent / path).resolve().read_text()
            *_, last = name.split(".")
            assert re.search(rf"^ *(def|class) {last}\b", source, re.M), f"{page.name}: {name} of {path}"
            shown += 1
    assert shown > 20


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in PAGES.rglob("*.md"):
        for block in re.findall(r"\{toctree\}\n(.*?)```", page.read_text(), re.S):
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / line).resolve() for line in lines}
    pages = {page.with_suffix("").resolve() for page in [*PAGES.rglob("*.md"), *PAGES.glob("notebooks/*.ipynb")]}
    built = {page for page in pages if "generated" not in page.parts}
    assert built - {(PAGES / "index").resolve()} <= listed


def test_the_headlines_of_the_front_page_are_what_the_tables_say():
    spec = importlib.util.spec_from_file_location("headlines", ROOT / "experiments" / "headlines.py")
    headlines = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(headlines)
    shown = (ROOT / "README.md").read_text().split(headlines.BEGIN)[1].split(headlines.END)[0]
    assert shown == headlines.block((ROOT / "experiments" / "README.md").read_text())
    assert shown.count("\n") >= 10

"""How the documentation is built: ``make docs``."""

import sys
from pathlib import Path

from krylovh import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "krylovh"
author = "The krylovh developers"
copyright = "The krylovh developers, MIT licence"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without a network
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "result_fields",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
default_role = "literal"

# Reference: types stand in the docstrings, where shapes stand too
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_class_members_toctree = False

# Other projects are linked by their addresses, not by their inventories: the build needs no network
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}

# Pages
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
math_numfig = False
nitpicky = True
nitpick_ignore_regex = [
    ("py:mod", r"krylovh\..*"),  # chapters of the code that docstrings point to, and the reference does not list
    ("py:obj", r"krylovh\.storage\.image"),
]

# Notebooks and examples: what fails, fails the build
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parents[1] / "build" / "docs" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
doctest_global_setup = "import krylovh; import numpy as np"  # ``krylovh`` for conditions of examples
doctest_test_doctest_blocks = ""  # those in docstrings are run by the tests

html_theme = "pydata_sphinx_theme"
html_title = "krylovh"
html_static_path = ["_static"]
html_css_files = ["krylovh.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}

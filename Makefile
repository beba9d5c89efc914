# make demo | test | test-full | native | lint | docs | check | wheel | clean
#   VENV=…           use (and install into) another virtual environment
#   INSTALL=none     VENV has pnpkit[dev,io,docs] and the example plugin already; .ci/run, with the wheel
#   PNPKIT_DATA=…    the folder of real data and weights, for demo and test

PYTHON  ?= python3
VENV    ?= .venv
INSTALL ?= editable
WORKERS ?= 2
BIN     := $(VENV)/bin

ifneq ($(INSTALL),none)
READY := $(VENV)/.pnpkit-installed
DOCS  := $(VENV)/.pnpkit-docs
endif

.PHONY: demo test test-full native lint docs check wheel clean

demo: $(READY) native
	$(BIN)/pnpkit demo --out demo_report
	$(BIN)/pnpkit bench quick --store demo_report/bench
	$(BIN)/pnpkit report --store demo_report/bench --out demo_report/bench.html

# One thread a worker: two pools on the same cores were seen 100 times slower.
test test-full check: export OMP_NUM_THREADS = 1
test test-full check: export MKL_NUM_THREADS = 1
test test-full check: export OPENBLAS_NUM_THREADS = 1
test test-full check: export NUMBA_NUM_THREADS = 1
test-full: SELECT = -m "" --timeout 3000
test-full: export PNPKIT_FULL = 1

# Without a compiler everything else works, and the tests of the C++ backend are skipped.
native: $(READY)
	$(BIN)/pnpkit native build || echo "going on without the C++ backend"

test test-full: $(READY) native
	$(BIN)/pytest -n $(WORKERS) $(SELECT)
	$(BIN)/pnpkit check --all

check: $(READY)
	$(BIN)/pnpkit check --all

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(READY) $(DOCS)
	$(BIN)/mkdocs build --strict

wheel: $(READY)
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf build dist site demo_report .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -print | xargs rm -rf

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.pnpkit-installed: pyproject.toml examples/plugin/pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e ".[dev,io]"
	$(BIN)/pip install --quiet -e examples/plugin
	touch $@

$(VENV)/.pnpkit-docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e ".[docs]"
	touch $@

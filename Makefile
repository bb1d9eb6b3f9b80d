# Two commands need nothing but make and Python 3.11 or newer: `make demo` and `make test`.
# Each makes its own virtual environment from the lock and builds or finds the control plane; the second time is quick.

# The first of these that runs and is new enough (a name on PATH may be a shim of a version that is not installed).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-up demo-down test test-unit lint format crds openapi lock devcluster clean

help:  ## Say what there is.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/it" >&2; exit 1; }
	@echo "== virtual environment in $(VENV), from the lock"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

devcluster: $(READY)  ## Build the local control plane's binaries, unless they are there.
	@$(BIN)/engine-ops devcluster build

demo: devcluster  ## Start a control plane and the operator, apply the samples, print the answers.
	@$(BIN)/python examples/demo.py

demo-up: devcluster  ## The same, and leave it running.
	@$(BIN)/python examples/demo.py --keep

demo-down: $(READY)  ## End what demo-up left running.
	@$(BIN)/python examples/demo.py --down

test: devcluster  ## Run every test.
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile $(PYTEST_ARGS)

test-unit: $(READY)  ## Run the tests that need no control plane.
	@$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

lint: $(READY)  ## Check style, types, layers and that generated files are up to date.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/engine-ops crds --check crds --docs docs/api-reference.md
	@$(BIN)/engine-ops openapi --check docs/openapi.json

format: $(READY)  ## Format the code.
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

crds: $(READY)  ## Generate the custom resource definitions and their reference from the models.
	@$(BIN)/engine-ops crds --output crds --docs docs/api-reference.md

openapi: $(READY)  ## Generate the REST API's OpenAPI document from its routes.
	@$(BIN)/engine-ops openapi --output docs/openapi.json

lock: $(READY)  ## Resolve the dependencies anew, with hashes (needs uv): to run, to develop, to build the wheel.
	@uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet \
	  --extra ml --upgrade --output-file requirements.lock
	@uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet \
	  --extra devcluster --extra plot --extra parquet --extra pandas --extra ml --group dev --constraint requirements.lock --output-file requirements-dev.lock
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	  uv pip compile - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
	  --constraint requirements-dev.lock --output-file requirements-build.lock

clean:  ## Remove the virtual environment and caches of tools.
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

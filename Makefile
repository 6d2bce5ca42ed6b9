# Needs python3 (3.11 or newer) and make, nothing else: the first target that needs an environment makes .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
SEEDS  ?= 10000

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test acceptance check simulate bench chaos docs format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## run the demonstration: three coordinators, one is killed (ARGS="--tickets 120 --json")
	@$(BIN)/pointsman demo $(ARGS)

test: $(STAMP) ## run the tests on all cores (ARGS="-k name" narrows them, ARGS="-n 0" is one process)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal --ignore=tests/acceptance --ignore=tests/chaos $(ARGS)

# One after the other: each has the machine to itself, because all of them look at how long things take.
acceptance: $(STAMP) ## run the tests on real processes that are killed, stopped, cut off and replaced
	$(BIN)/python -m pytest tests/acceptance tests/chaos $(ARGS)

check: $(STAMP) ## format, lint, types, import contracts, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/vulture

simulate: $(STAMP) ## run the simulator over SEEDS=10000 schedules on all cores, and see each guard's mutant caught
	$(BIN)/python -m pointsman.testing.sim --seeds $(SEEDS) $(ARGS)
	$(BIN)/python -m pointsman.testing.sim --seeds 200 --coverage
	$(BIN)/python -m pointsman.testing.sim --store sqlite --seeds 300
	$(BIN)/python -m pointsman.testing.sim --mutants --seeds 2000

bench: $(STAMP) ## measure throughput (w1) and latency at rest (w5), one JSON object each
	@$(BIN)/python -m benchmarks w1 --json $(ARGS)
	@$(BIN)/python -m benchmarks w5 --json $(ARGS)

chaos: $(STAMP) ## real faults on real processes, the long form; writes docs/reference/failure-drills.md
	@$(BIN)/pointsman chaos --page docs/reference/failure-drills.md $(ARGS)

docs: $(STAMP) ## write the pages that follow from the code, and build the documentation into site/
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

format: $(STAMP) ## format the code and repair what lint can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and everything built or cached
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The project itself is built without isolation, by the locked build backend: nothing unpinned is fetched.
$(STAMP): pyproject.toml requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv --clear $(VENV) || { echo "python's venv module is incomplete: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

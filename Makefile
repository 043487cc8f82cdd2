# What developers and CI run. Needs make and Python >= 3.11 with venv; uv makes it faster when it is on PATH.
VENV := .venv
BIN := $(VENV)/bin
MINUTES := 10
INSTALL := $(shell command -v uv >/dev/null 2>&1 \
	&& echo 'uv pip install --quiet --python $(BIN)/python' \
	|| echo '$(BIN)/python -m pip install --quiet --disable-pip-version-check')
unexport PYTHONDONTWRITEBYTECODE # tests start hundreds of processes: each would compile all it imports
UV = $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo up test unit lint types house docs bench chaos conformance faults fuzz containers lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/runtime ## workflows on simulated providers; needs no key and no server
	@$(BIN)/goblin demo

up: $(VENV)/runtime ## everything on this machine: servers, API, workers, scheduler
	@$(BIN)/goblin up

test: lint types house ## all that CI asks for
	$(BIN)/pytest -m 'not chaos' -n 4 --dist loadfile --no-loadscope-reorder

unit: $(VENV)/dev ## the quick tests only
	$(BIN)/pytest tests/unit

lint: $(VENV)/dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev ## mypy, strict
	$(BIN)/mypy

house: $(VENV)/dev ## import-linter: every import points to a lower floor
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/dev ## the page about providers, made from the catalog
	$(BIN)/python -m providers.document > docs/providers.md

bench: $(VENV)/bench ## ratios against plain Celery, the SDK and DBOS
	$(BIN)/python -m bench

chaos: $(VENV)/dev ## kill whatever can be killed: a mix for MINUTES=10, the rest once; GOBLIN_SEED=N repeats
	GOBLIN_CHAOS_MINUTES=$(MINUTES) $(BIN)/pytest -s -m chaos --override-ini timeout=900 tests/chaos

conformance: $(VENV)/dev ## dialects and vendors' clients against the simulator, as tables of cases
	$(BIN)/python -m tests.conformance.table

faults: $(VENV)/dev ## sixteen faults of providers through the real queue, as a table
	$(BIN)/python -m tests.acceptance.sixteen

fuzz: $(VENV)/dev ## spoilt bytes into every decoder, for MINUTES=10
	$(BIN)/python -m tests.conformance.fuzz --minutes $(or $(MINUTES),10)

containers: $(VENV)/dev ## the compose stack: built, used, a worker killed, taken down; needs Docker
	$(BIN)/pytest --override-ini timeout=1200 tests/containers/smoke.py

lock: $(BIN)/python ## resolve the constraints anew (UPGRADE=--upgrade for the newest)
	@[ -x "$(UV)" ] || $(INSTALL) uv
	$(call resolve,constraints.txt,--extra embedded --extra bedrock)
	$(call resolve,constraints-dev.txt,--extra embedded --extra bedrock --extra dev --constraints constraints.txt)
	$(call resolve,constraints-bench.txt,--extra embedded --extra bedrock --extra dev --extra bench --constraints constraints-dev.txt)

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@.ci/venv $(VENV)

# A stamp per set of packages, so that a repeat is instant. The larger sets contain the smaller ones.
$(VENV)/runtime: constraints.txt pyproject.toml | $(BIN)/python
	$(call install,constraints.txt)

$(VENV)/dev: constraints-dev.txt pyproject.toml | $(BIN)/python
	$(call install,constraints-dev.txt)
	@touch $(VENV)/runtime

$(VENV)/bench: constraints-bench.txt pyproject.toml | $(BIN)/python
	$(call install,constraints-bench.txt)
	@touch $(VENV)/runtime $(VENV)/dev

# The lock is whole: nothing is left to resolve. pip before 23.3 would look for the newest of a package that another one wants
# with an extra, and refuse it for its hash.
define install
	@echo "installing $(1) into $(VENV)"
	@$(INSTALL) --no-deps --require-hashes -r $(1)
	@$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@
endef

# The build backend is locked with the rest: the project itself is built without fetching anything.
define resolve
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'])" \
	| $(UV) pip compile --quiet --universal --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	  $(UPGRADE) $(2) --output-file $(1) pyproject.toml -
endef

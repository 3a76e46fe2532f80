# make help: what there is. Every environment is made from the one requirements.lock.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON :=
VENV := $(if $(PYTHON),.venv-$(notdir $(PYTHON)),.venv)
BIN := $(VENV)/bin
PYTEST_ARGS :=
TESTS :=
# As many test processes as cores, and no more than four: each of them holds torch.
SPREAD := --numprocesses=logical --maxprocesses=4 --dist=worksteal --durations=10
UV := $(or $(shell command -v uv),$(BIN)/uv)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=…  another Python (path or version)   TESTS=…  some of the tests, by their paths"
	@echo "  PYTEST_ARGS=…  more arguments for pytest"

.PHONY: demo
demo: $(VENV)/.ready ## A real service under load, its inferences as spans, and their table
	@$(BIN)/python scripts/demo.py

.PHONY: demo-gpu
demo-gpu: $(VENV)/.ready ## The demo on a simulated GPU: what GPU telemetry looks like
	@$(BIN)/python scripts/demo_gpu.py

.PHONY: test
test: $(VENV)/.ready ## The environment and all tests
	$(BIN)/python -m pytest $(SPREAD) $(TESTS) $(PYTEST_ARGS)

.PHONY: check
check: lint test ## Before a commit: format, lint, types, import contract, names, all tests

.PHONY: check-all
check-all: check demo test-oldest test-newest-python test-export test-virtual-gpu test-recipes test-lowest test-backends test-tensorflow test-programs ## All there is, whole

.PHONY: lint
lint: $(VENV)/.ready ## The checks that need no test run
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter
	$(BIN)/python scripts/signals.py --check
	$(BIN)/python scripts/options.py --check

.PHONY: format
format: $(VENV)/.ready ## Format the sources and repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: test-oldest
test-oldest: ## The tests on the oldest supported pair, Python 3.10 and torch 2.4
	@$(call test-on,3.10)

.PHONY: test-newest-python
test-newest-python: ## The tests on Python 3.13
	@$(call test-on,3.13)

.PHONY: test-export
test-export: $(VENV)/.ready ## All tests, each of their spans through the export helper
	$(BIN)/python -m pytest -p tests.support.through_helper $(PYTEST_ARGS)

.PHONY: test-recipes
test-recipes: $(VENV)/.ready ## Every command and sample of the documents, from the built wheel
	$(BIN)/python -m pytest tests/install --ignore tests/install/test_lowest.py $(PYTEST_ARGS)

.PHONY: test-lowest
test-lowest: $(VENV)/.ready ## The wheel with the lowest versions that its metadata allows
	$(BIN)/python -m pytest tests/install/test_lowest.py $(PYTEST_ARGS)

# Without that Python: skipped with its reason, and in CI an error.
test-on = if sh scripts/find_python.sh $(1) >/dev/null; then \
	    $(MAKE) --no-print-directory test PYTHON=$(1); \
	  elif [ "$$CI" = true ]; then exit 1; \
	  else echo "Skipped the tests on Python $(1)." >&2; fi

.PHONY: test-tensorflow
test-tensorflow: $(VENV)/.ready .cache/tensorflow/.ready ## The tests on profiles that TensorFlow makes
	WARPSPAN_TENSORFLOW=.cache/tensorflow/bin/python \
	  $(BIN)/python -m pytest tests/tensorflow $(PYTEST_ARGS)

.cache/tensorflow/.ready: tests/tensorflow/requirements.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .cache/tensorflow
	$(UV) pip install --quiet --python .cache/tensorflow/bin/python --requirements $<
	@touch $@

.PHONY: test-programs
test-programs: $(VENV)/.ready .cache/programs/.ready ## The tests on real programs of many kinds
	WARPSPAN_PROGRAMS=.cache/programs/bin/python \
	  $(BIN)/python -m pytest $(SPREAD) $(or $(TESTS),tests/programs) $(PYTEST_ARGS)

.cache/programs/.ready: tests/programs/requirements.txt pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .cache/programs
	$(UV) pip sync --quiet --python .cache/programs/bin/python $<
	$(UV) pip install --quiet --python .cache/programs/bin/python --no-deps --editable .
	@touch $@

.PHONY: lock-programs
lock-programs: $(UV) ## Resolve the packages of test-programs again
	$(UV) pip compile tests/programs/requirements.in --constraint requirements.lock --quiet \
	  --python-version 3.11 --no-header --no-annotate --output-file tests/programs/requirements.txt

.PHONY: test-virtual-gpu
test-virtual-gpu: $(VENV)/.ready ## The tests on a GPU, on a virtual one under the CUDA build of torch
	PYTHONPATH=tests/virtual_gpu $(BIN)/python -m virtual_gpu --devices 2 -- \
	  $(BIN)/python -m pytest tests/gpu tests/virtual_gpu $(PYTEST_ARGS)

.PHONY: backends
backends: ## Build the real backends of test-backends from pinned Go modules, into a cache
	@$$(sh scripts/find_python.sh $(PYTHON)) tests/backends/binaries.py

.PHONY: test-backends
test-backends: $(VENV)/.ready backends ## The tests on the real Collector, Jaeger, Tempo, Prometheus
	$(BIN)/python -m pytest --durations=10 $(or $(TESTS),tests/backends) $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/.ready ## What an inference pays, against no telemetry and hand-written telemetry
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.stalls

.PHONY: soak
soak: $(VENV)/.ready ## A mixed load with faults for twenty minutes: what grows, what is lost (SECONDS=…)
	$(BIN)/python -m benchmarks.soak --seconds $(or $(SECONDS),1200)

.PHONY: bench-backends
bench-backends: $(VENV)/.ready backends ## What an inference feels of faults behind the exporter
	$(BIN)/python -m benchmarks.backends

.PHONY: gpu-check
gpu-check: ## The proof on a GPU with PYTHON=python3 as it is there; writes gpu-check.json
	@PYTHONPATH=src:.cache/gpu-packages $(or $(PYTHON),$(BIN)/python) scripts/gpu_check.py

.PHONY: gpu-packages
gpu-packages: $(UV) ## What gpu-check needs beside torch, in .cache/gpu-packages
	$(UV) pip install --quiet --target .cache/gpu-packages --constraint requirements.lock \
	  $(if $(PYTHON),--python-version $(PYTHON)) . pytest hypothesis pyyaml transformers

.PHONY: signals
signals: $(VENV)/.ready ## Write the constants and pages made from registry.yaml and config.py
	$(BIN)/python scripts/signals.py
	$(BIN)/python scripts/options.py

.PHONY: dashboards
dashboards: $(VENV)/.ready ## Write Grafana's dashboards from scripts/dashboard_*.py
	$(BIN)/python scripts/dashboards.py

.PHONY: lock
lock: $(UV) ## Resolve requirements.lock again (all to the newest: LOCK_ARGS=--upgrade)
	$(UV) pip compile pyproject.toml --all-extras --group dev --universal --quiet \
	  --python-version 3.10 --no-python-downloads --no-header $(LOCK_ARGS) \
	  --output-file requirements.lock

.PHONY: clean
clean: ## Remove environments, caches and what runs have written
	rm -rf .venv* .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis dist build \
	  warpspan-*.jsonl gpu-check.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml scripts/environment.sh
	@sh scripts/environment.sh $(VENV) "$(PYTHON)"
	@touch $@

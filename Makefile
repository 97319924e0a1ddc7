# Everything a developer or a newcomer runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
DEMO := examples/models/llama_tiny.onnx
OUT := out

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch check format docs bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e '.[ort]'
	@touch $@

# torch first: the constraint names its CPU build, and nothing that depends on torch may choose another
$(VENV)/dev: $(VENV)/base
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/base ## install the package and optimize the small transformer in examples/models
	@mkdir -p $(OUT)
	@echo "== what is in the model"
	@$(BIN)/tautomer inspect $(DEMO)
	@echo
	@echo "== what becomes of it, and how the result compares"
	@$(BIN)/tautomer optimize $(DEMO) $(OUT)/llama_tiny_fast.onnx --force

test: $(VENV)/dev ## install the development extras and run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

# in an environment of its own, whose torch comes from wherever pip finds that version
OTHER := $(VENV)-torch-$(TORCH)
test-torch: ## run the torch tests on another version: make test-torch TORCH=2.11.0
	$(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/pip install --quiet --disable-pip-version-check torch==$(TORCH) -e '.[dev]'
	$(OTHER)/bin/python -m pytest tests/torch

check: $(VENV)/dev ## ruff, mypy --strict, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev ## rewrite the sources the way `make check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/dev ## rewrite docs/operations.md from the definitions
	$(BIN)/python -m benchmarks.operations_page --write

bench: $(VENV)/dev ## list the benchmarks; each is a command of its own
	@$(BIN)/python -m benchmarks | sed 's|^    python|    $(BIN)/python|'

clean: ## remove what these targets made
	rm -rf $(VENV) $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

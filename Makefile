# The two commands of the README are `make demo` and `make test`; the others serve whoever works on the code.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin

.PHONY: help setup demo test check test-vm bench lock clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: ## install what is missing (Debian packages, .venv)
	@scripts/setup.sh

demo: setup ## measure overlay against routed and print the result
	@$(BIN)/testbed run experiments/overlay_vs_routed.yaml

test: setup check ## every test: unit, golden, property, dataplane
	@$(BIN)/python -m pytest -n 3 --dist worksteal -q # on 2 processors: half of the time a test waits

check: setup ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup ## the benchmarks, side by side, as ratios
	@$(BIN)/python -m benchmarks

test-vm: setup ## smoke experiment, Services, mode switches on a stock kernel with the kernel datapath (virtme-ng)
	@scripts/test_vm.sh

lock: ## pin the newest versions of requirements.in, with hashes
	@scripts/lock.sh

clean: ## remove the virtual environment and caches, never results
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

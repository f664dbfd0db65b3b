# `make help` lists the targets. EXTRA=gpu selects TensorFlow's CUDA build when .venv is made.
PYTHON ?= python3
EXTRA ?= cpu
VENV := .venv
BIN := $(VENV)/bin
# Tests of a file share fixtures. Slow files are first (tests/conftest.py), so that both workers end at the same time.
PYTEST := -n 2 --dist loadfile --no-loadscope-reorder
LOCK := --universal --python-version 3.11 --quiet --upgrade --generate-hashes --custom-compile-command 'make lock' \
	--no-emit-index-url --no-emit-find-links
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install new repro sweep experiments params test quick faults check format ui lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-13s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Make .venv from the hashed lock file

$(VENV)/.installed: requirements/uv.txt requirements/$(EXTRA).txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); manyheads needs Python 3.11 to 3.13: make PYTHON=python3.12 ..." >&2; exit 5; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/$(EXTRA).txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m manyheads plots
	@touch $@

new: install ## Look at your data and write its configuration: NAME=wine FROM=~/wine.csv
	@python -m manyheads new "$(NAME)" --from "$(FROM)" $(ARGS)

repro: install ## Run stages that are out of date, print the test metrics; ARGS='data=wine' to choose
ifdef ARGS
	python -m manyheads params $(ARGS)
else
	@python -m manyheads params --check >/dev/null 2>&1 || echo \
		"note: params.yaml differs from the default composition of conf/; if you edited conf/, run make params first" >&2
endif
	dvc repro
	@python -m manyheads results

sweep: install ## Sweep loss weights on the sample and compare; ARGS='+sweep=loss_weights ...' for another sweep
	dvc repro --quiet split
	python -m manyheads train --multirun $(or $(ARGS),+sweep=sample hydra/launcher=joblib)

experiments: install ## Run the other systems on synthetic data; the workspace does not change
	for name in posts questions objects numbers; do dvc exp run --temp -S experiment=$$name || exit 1; done

params: install ## Compose conf/ into params.yaml; ARGS='experiment=hour' for another choice
	python -m manyheads params $(ARGS)

test: install ## Run all tests
	pytest $(PYTEST)

quick: install ## Run the tests that start no process and train little, in a minute
	pytest $(PYTEST) -m 'not slow'

faults: install ## Try every fault of the catalogue, then kill commands at random; ARGS='--kills 200 --seed 7'
	pytest $(PYTEST) $$(python tests/faults/catalogue.py)
	python tests/faults/storm.py $(ARGS)

check: install ## Lint, formatting, types, layers of packages, and params.yaml against conf/
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python -m manyheads params --check

format: install ## Format, and fix what the linter can fix
	ruff check --fix .
	ruff format .

ui: install ## Serve the MLflow UI and print the address of the runs; PORT=5001 for another port
	@python -m manyheads ui --port $(or $(PORT),5000)

lock: install ## Update the lock files from pyproject.toml
	echo 'uv>=0.9' | uv pip compile - $(LOCK) --output-file requirements/uv.txt
	for extra in cpu gpu; do \
		uv pip compile pyproject.toml --extra $$extra --extra export --group dev $(LOCK) --output-file requirements/$$extra.txt; \
	done

clean: ## Remove .venv and caches; data, models and runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

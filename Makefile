# Everything runs in .venv, which `make install` makes from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
HOME_DIR ?= .vigil
WORKERS := --numprocesses auto --dist loadfile --no-loadscope-reorder # the tests of a file share fixtures

.PHONY: help install demo serve test test-fast soak bench check lock notebook notebooks docs pictures screenshots wheel clean

help: ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## Virtual environment with the locked dependencies.

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Vigil needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: install ## The main job on the simulated ward.
	$(BIN)/vigil run --home $(HOME_DIR)

serve: install ## The prediction API of the last champion on 127.0.0.1.
	$(BIN)/vigil serve --home $(HOME_DIR)

test: install ## All tests.
	$(BIN)/python -m pytest $(WORKERS)

test-fast: install ## Unit tests: no database, no server, no training of a ward.
	$(BIN)/python -m pytest $(WORKERS) tests/unit

soak: install ## What takes long: 100 kills, 20,000 bad bodies, the API against its document (SOAK="kills --kills 10").
	$(BIN)/python -m tests.soak $(SOAK)

bench: install ## Measure beside the alternatives and rewrite docs/benchmarks.md (BENCH="--cinc2019 ZIP --meds-tab BIN").
	$(BIN)/python -m tests.benchmarks $(BENCH)

check: install ## Style, types, and the direction of imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: ## Resolve pyproject.toml anew into requirements.lock (needs uv).
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock

notebook: install ## Open the notebooks in JupyterLab.
	VIGIL_HOME=$(abspath $(HOME_DIR)) $(BIN)/jupyter-lab notebooks

notebooks: install ## Execute the notebooks from top to bottom and keep their plots; those of open cohorts if notebooks/data is there.
	VIGIL_HOME=$(abspath $(HOME_DIR)) $(BIN)/jupyter-execute --inplace \
		$(if $(wildcard notebooks/data),notebooks/*.ipynb,notebooks/0[1-4]_*.ipynb)

wheel: install ## The distribution for other environments, in dist/.
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

docs: install ## The documentation site, in docs/_build/html; a broken link is an error.
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . docs/_build/html

pictures: install ## Draw the diagrams of the site anew (needs npx and chromium).
	PUPPETEER_SKIP_DOWNLOAD=1 $(BIN)/python docs/pictures/draw.py

screenshots: install ## Take pictures of every page at three widths (needs chromium): build/screenshots, and a few in docs/pages.
	$(BIN)/python -m tests.support.screenshots

clean: ## Remove what the jobs made.
	rm -rf $(HOME_DIR)

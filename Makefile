PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo check lint types layers test test-faults soak fuzz bench bench-quick lock clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Tidemark needs Python 3.11 or newer; %s is %d.%d. Name another one: make PYTHON=python3.12 setup" % (sys.executable, *sys.version_info[:2]))'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup
	$(BIN)/tidemark demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

check: lint types layers test

test: setup
	$(BIN)/pytest -m "not faults and not soak"

test-faults: setup
	$(BIN)/pytest -m faults

soak: setup
	$(BIN)/pytest -m soak -s

fuzz: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/fuzz/requirements.txt
	$(BIN)/python -m tests.fuzz

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: setup
	$(BIN)/python -m benchmarks.pipeline --messages 150000 $(ARGS)

lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--all-extras -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .tidemark .mypy_cache .ruff_cache .hypothesis .fuzz

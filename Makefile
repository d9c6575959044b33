PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo check lint types layers test test-faults soak fuzz bench bench-quick lock clean
.DELETE_ON_ERROR:

NATIVE := $(VENV)/.native

setup: $(NATIVE)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Tidemark needs Python 3.11 or newer; %s is %d.%d. Name another one: make PYTHON=python3.12 setup" % (sys.executable, *sys.version_info[:2]))'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# The compiled hot path, where a Rust toolchain is at hand; everything works without it, more slowly.
$(NATIVE): $(STAMP) native/Cargo.toml $(wildcard native/src/*.rs)
	@if ! cargo --version > /dev/null 2>&1; then \
		echo "no Rust toolchain (cargo) here: the hot path runs in pure Python"; \
	elif ! VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet --release -m native/Cargo.toml; then \
		echo "the compiled hot path could not be built, see above: it runs in pure Python"; \
	fi
	@touch $(NATIVE)

demo: setup
	$(BIN)/tidemark demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if cargo --version > /dev/null 2>&1; then cd native && cargo fmt --check; fi

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
	rm -rf $(VENV) native/target .tidemark .mypy_cache .ruff_cache .hypothesis .fuzz

# make run    a working endpoint with a local model, no account needed; options: make run ARGS='--port 9000'
# make engine   the second engine for local models, llama-cpp-python, compiled for this machine: some minutes
# make litellm  what providers with a wire of their own need: Anthropic, Google, Vertex, Azure, Bedrock
# make test   every test, with the real components
# make check  format, lint, types, architecture
# make faults every fault of the table played, and FAULTS.md written anew
# make bench  what the gateway costs beside the raw baseline

# The first that runs and is new enough; a name on the PATH alone may be a shim of something not installed.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
CONFIG ?= gateway.yaml
ARGS ?=

.PHONY: install litellm engine run models sdks test check format chaos faults bench schema clean

install: .venv/installed

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local]'
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,litellm,dev]'
	@touch $@

litellm: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,litellm]'

engine: install
	$(BIN)/gateway engine build

models: install
	@$(BIN)/gateway models add smollm2 minilm

run: models
	$(BIN)/gateway serve --config $(CONFIG) $(ARGS)

test: .venv/installed-dev models
	$(BIN)/python -m pytest

# Clients that cannot live beside the gateway's own packages: openai 3.x and the one for Node.
sdks: .venv-openai3/installed tests/e2e/node/node_modules/installed

.venv-openai3/installed: tests/e2e/sdk3/requirements.txt | .venv/bin/python
	@$(BIN)/python -m venv --clear .venv-openai3
	.venv-openai3/bin/python -m pip install --quiet --requirement tests/e2e/sdk3/requirements.txt
	@touch $@

tests/e2e/node/node_modules/installed: tests/e2e/node/package.json .venv-openai3/installed
	cd tests/e2e/node && PATH="$(CURDIR)/.venv-openai3/bin:$$PATH" npm install --silent --no-package-lock --no-audit --no-fund
	@touch $@

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A seeded random campaign of faults on loopback: make chaos FAULTS=100000 SEED=7
FAULTS ?= 5000
SEED ?= 1
chaos: .venv/installed-dev
	$(BIN)/python -m tests.support.campaign --faults $(FAULTS) --seed $(SEED)

# Plays every fault of the table and writes FAULTS.md; that it is current: make faults && git diff --exit-code FAULTS.md
faults: .venv/installed-dev
	$(BIN)/python -m tests.faults.matrix

bench: .venv/installed-dev
	$(BIN)/python -m bench

schema: install
	$(BIN)/python -m gateway.config.schema config/gateway.schema.json

clean:
	rm -rf .venv .venv-openai3 tests/e2e/node/node_modules build dist *.egg-info

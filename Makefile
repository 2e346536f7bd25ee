# make repro   the whole pipeline on the embedded demo (JOBS=2 runs trainings side by side)
# make test    the tests, notebooks included;  make test-full adds the slow ones,
#              make test-slurm is trainings under a Slurm on this machine,
#              make test-browser is every notebook in JupyterLab and Chromium
# make golden  writes anew what tests/test_golden.py compares with;  make golden BASE=<commit> tells
#              which numbers of which method moved since that commit
# make setup   the environment alone, in .venv; every other target makes it first
# make lab     JupyterLab in the repository;   make clean removes what make made
# make notebooks   the demo's outputs in notebooks/
# make bench   how fast this machine is;  make gpu-check  whether its GPU computes as the CPU, how fast
PYTHON ?= python3
# auto: one stage per GPU; without any, one per core, four at most.
JOBS ?= auto

ifneq (,$(findstring :,$(CURDIR)))
$(error $(CURDIR): a colon in the path of the repository divides PATH; move it elsewhere)
endif

# The environment's own tools first; one thread per process unless a run's settings say otherwise.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := true
# DVC keeps pickles there; its default, /var/tmp/dvc, is open to everybody on the machine.
ifndef DVC_SITE_CACHE_DIR
export DVC_SITE_CACHE_DIR := $(shell mkdir -p .dvc/tmp && mkdir -p -m 700 .dvc/tmp/site && \
  cd .dvc/tmp/site && pwd)
endif
export OMP_NUM_THREADS ?= 1
# Whatever the user's locale is; and for a user whom the machine does not know by name, as in docker.
export PYTHONUTF8 := 1
export LOGNAME := $(or $(LOGNAME),$(shell id -un 2>/dev/null),user)

.PHONY: setup repro test test-full test-slurm test-browser golden notebooks lab lint bench gpu-check clean
READY := .venv/.ready
# It holds the path of the checkout: in a copied or moved one the environment is made anew.
ifneq ($(CURDIR),$(shell cat $(READY) 2>/dev/null))
.PHONY: $(READY)
endif

# DVC needs git, which a downloaded zip lacks; git says what it has against somebody else's folder.
.PHONY: git
git:
	@test -e .git || git init --quiet
	@git rev-parse --git-dir > /dev/null

repro: git $(READY)
	python -m infoseg.pipeline repro --jobs $(JOBS)

# The tests, and every notebook from top to bottom on what it makes on the spot, whose outputs are
# compared where tagged. Two at a time; tests/conftest.py says what stays together.
PYTEST = rm -rf build/notebooks && python -m pytest tests notebooks --nbval-lax --nbval-current-env \
  -n 2 --no-loadscope-reorder

test: git $(READY)
	$(PYTEST) -m "not slow and not slurm and not browser"

test-full: $(READY)
	$(PYTEST) -m "not slurm and not browser"

# As root, with Debian's slurm-wlm and munge.
test-slurm: $(READY)
	python -m pytest tests/test_slurm.py -m slurm

# With Debian's chromium.
test-browser: $(READY)
	python -m pytest tests/test_browser.py -m browser

# Outputs of the demo in the notebooks that are committed, after `make repro`: five minutes.
SHOW = python -m infoseg.pipeline show
notebooks: $(READY)
	$(SHOW) notebooks/01_prepare.ipynb runs/demo/prepare/outdoor.ipynb
	$(SHOW) notebooks/02_train.ipynb runs/demo/outdoor/infoseg/train.ipynb
	$(SHOW) notebooks/03_evaluate.ipynb runs/demo/evaluations/outdoor/evaluate.ipynb
	$(SHOW) notebooks/04_tables.ipynb runs/demo/tables/tables.ipynb
	$(SHOW) notebooks/05_figures.ipynb runs/demo/tables/figures.ipynb
	for words in "00_paper profile=demo" "07_your_pictures steps=1000" 08_open_choices \
	  "09_persons_rule profile=tiny"; do \
	  set -- $$words; made=build/shown/$$1.ipynb; \
	  python -m infoseg.pipeline run notebooks/$$1.ipynb $$made $$2 && \
	  $(SHOW) notebooks/$$1.ipynb $$made || exit 1; done

golden: $(READY)
	python tests/golden.py $(if $(BASE),compare $(BASE),renew)

lint: $(READY)
	ruff check .
	ruff format --check .
	python -m infoseg.pipeline check README.md notebooks/*.ipynb

setup: $(READY)

lab: $(READY)
	jupyter lab

bench: $(READY)
	python -m benchmarks

gpu-check: $(READY)
	python -m benchmarks.gpu

# --no-deps: everything is pinned in the lock file; the marker comes last, so that an interrupted
# installation is begun again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv --clear .venv || \
	  { echo "There is no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing packages into .venv; a few minutes"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock || \
	  { echo "pip could not install requirements.lock; pip's message is above. If it speaks of a" \
	    "connection, HTTPS_PROXY or PIP_INDEX_URL may have to be set"; exit 1; }
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@pwd -P > $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a learner, a contributor and CI run. Needs Python (see min_python in settings.ini) with pip and venv, and make.
PYTHON ?= python3
# Exact versions of everything, so that the course still runs in two years; `make test CONSTRAINTS=` takes the newest instead.
CONSTRAINTS ?= constraints.txt

# Large pages for large arrays, and what was freed is kept for the next one: a fifth off a 3D training step. Of Linux's C library from 2.35 on; others take no notice.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=268435456

# Containers often forbid Python to keep what it has compiled, and then each of the thousand processes that tests start compiles all that it imports: pandas came in 1.2 s, and comes in 0.3; fastai in 11.5, and in 4.6.
unexport PYTHONDONTWRITEBYTECODE

bin := .venv/bin
stamp := .venv/.whole
min_python := $(shell sed -n 's/^min_python *= *//p' settings.ini)

.DEFAULT_GOAL := help
.PHONY: help course test quick lint hooks fuzz audit lab bench memory colab archive site export outputs constraints clean distclean

help:  ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1  /p' $(MAKEFILE_LIST) | awk -F'  ' '{printf "  make %-12s %s\n", $$1, $$2}'

# The stamp is written last: a set-up that was interrupted has none, and is begun afresh.
$(stamp): settings.ini setup.py pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.version_info >= tuple(map(int, "$(min_python)".split("."))) or sys.exit( \
	    "medtut needs Python $(min_python) or newer, and $(PYTHON) is %d.%d: try make PYTHON=..." % sys.version_info[:2])'
	@echo "Setting up .venv, once: some minutes, about 8 GB. If it is interrupted, run the same command again."
	@test -f $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@$(bin)/python -m pip install --disable-pip-version-check --quiet $(addprefix -c ,$(CONSTRAINTS)) uv
	@$(bin)/python tools/install.py $(addprefix -c ,$(CONSTRAINTS)) -e '.[lessons,real,dev]'
	@touch $@

course: $(stamp)  ## Run lessons and capstones top to bottom, then build the site
	@$(bin)/python tools/run.py
	@$(MAKE) --no-print-directory site
	@echo "To learn: make lab, which opens lesson 0. For work: nbs/at_work.ipynb, or the site's page At work."

# A process for each core, as memory allows (tools/machine.py).
WORKERS ?= $(shell $(bin)/python tools/machine.py)

test: $(stamp)  ## Run all tests, the notebooks and what `make lint` runs among them
	@$(bin)/python -m pytest --numprocesses $(WORKERS)

quick: $(stamp)  ## Run what takes seconds: all but the trainings, kills and set-ups
	@$(bin)/python -m pytest --numprocesses $(WORKERS) -m "not minutes"

lint: $(stamp)  ## Look for faults without running the code: ruff, mypy, density
	@$(bin)/ruff check .
	@$(bin)/mypy
	@$(bin)/python tools/style.py --check

hooks: $(stamp)  ## Install nbdev's git hooks: clean notebooks in commits, merges by cell
	@$(bin)/nbdev-install-hooks

# How many times the random input of `make test`, and its seed: the day's, so that each day sees other input and a failure can be had again.
FUZZ ?= 20
FUZZ_SEED ?= $(shell date +%Y%m%d)

fuzz: $(stamp)  ## Random input, damaged files and kill -9, for long (FUZZ=20 times that of `make test`)
	@echo "FUZZ=$(FUZZ) FUZZ_SEED=$(FUZZ_SEED)"
	@MEDTUT_FUZZ=$(FUZZ) MEDTUT_FUZZ_SEED=$(FUZZ_SEED) $(bin)/python -m pytest tests/test_fuzz.py tests/test_crash.py tests/test_dicom_damaged.py tests/test_rle.py

audit:  ## Compare constraints.txt with the known vulnerabilities (needs the network, and uv where there is no .venv)
	@$(or $(wildcard $(bin)/uvx),uvx) pip-audit --strict --disable-pip --no-deps --requirement $(CONSTRAINTS)

lab: $(stamp)  ## Open JupyterLab on the notebooks, at lesson 0
	@$(bin)/jupyter lab nbs/00_start.ipynb

# A folder with OHIF's prebuilt files (`npm pack @ohif/app`, then package/dist), if the viewer is wanted
OHIF ?=

archive: $(stamp)  ## Start an archive with phantoms and results (OHIF=folder: with the viewer), until Ctrl-C
	@$(bin)/python tools/archive.py $(if $(OHIF),--ohif $(OHIF))

bench: $(stamp)  ## Compare with other libraries, and write the site's page on it
	@$(bin)/python tools/bench.py
	@$(bin)/python tools/readme.py

memory: $(stamp)  ## Measure the memory of scan and export_slices over up to 20,000 files
	@$(bin)/python benchmarks/memory.py

colab: $(stamp)  ## Run what is offered in Colab in a new environment like it: some 10 GB for a while, most of an hour
	@$(bin)/python tools/colab.py

site: $(stamp)  ## Build the site into _docs/html
	@$(bin)/sphinx-build -M html nbs _docs -W --keep-going --quiet
	@echo "Open $(CURDIR)/_docs/html/index.html"

export: $(stamp)  ## After editing a notebook: write medtut/, README.md and what pages quote, clean the notebooks
	@$(bin)/nbdev-export
	@$(bin)/nbdev-clean
	@$(bin)/python tools/readme.py

outputs: $(stamp)  ## Run all notebooks, store their outputs and times, then export
	@$(bin)/python tools/run.py --save
	@$(MAKE) --no-print-directory export

constraints: $(stamp)  ## Renew constraints.txt: the newest versions that fit together
	@$(bin)/uv pip compile pyproject.toml --all-extras --universal --python-version $(min_python) --upgrade --quiet \
	    --no-annotate --no-emit-index-url --custom-compile-command 'make constraints' --output-file constraints.txt

clean:  ## Remove what was built
	rm -rf _docs build dist *.egg-info .pytest_cache
	find . -path ./.venv -prune -o -name __pycache__ -print -o -name .ipynb_checkpoints -print | xargs rm -rf

distclean: clean  ## Remove .venv too
	rm -rf .venv

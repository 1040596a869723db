# make dataset | test | lint | types | bench | claims-syn4seg | claims-adapt | claims-flexseg | claims-clouds | claims-cgaug | claims-iccld | help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RECIPE ?= syn4seg-mini
# glibc gives large blocks back to the system after each tensor; keeping them halves the time of small models on a CPU
export MALLOC_TRIM_THRESHOLD_ ?= 1000000000
export MALLOC_MMAP_THRESHOLD_ ?= 1000000000
export GOMP_SPINCOUNT ?= 10000

.PHONY: dataset test lint types bench claims-syn4seg claims-adapt claims-flexseg claims-clouds claims-cgaug claims-iccld help

dataset: $(VENV)/.installed  ## install into .venv and make the dataset of RECIPE (default: syn4seg-mini)
	$(BIN)/synthgen run $(RECIPE)

test: $(VENV)/.installed-dev  ## run the test suite; says at the end what took longest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=15 --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.installed-dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy
	$(BIN)/mypy

bench: $(VENV)/.installed-dev  ## measure again: all rows of benchmarks/results.csv, or ROWS="name ..."
	$(BIN)/python -m benchmarks.run $(ROWS)

claims-syn4seg: $(VENV)/.installed-dev  ## measure every table of docs/results/syn4seg.md again (hours); TABLES_ONLY=1 only writes the page
	$(BIN)/python -m benchmarks.claims_syn4seg $(if $(TABLES_ONLY),--tables-only)

claims-adapt: $(VENV)/.installed-dev  ## measure what is claimed for `synthgen adapt` again (3 hours): rows adapt/*
	$(BIN)/python -m benchmarks.run adapt/

claims-flexseg: $(VENV)/.installed-dev  ## measure every table of docs/results/flexseg.md again (4 hours); TABLES_ONLY=1 only writes the page
	$(BIN)/python -m benchmarks.claims_flexseg $(if $(TABLES_ONLY),--tables-only)

claims-clouds: $(VENV)/.installed-dev  ## measure every table of docs/results/clouds.md again (6 to 7 hours); TABLES_ONLY=1 only writes the page
	$(BIN)/python -m benchmarks.claims_clouds $(if $(TABLES_ONLY),--tables-only)

claims-cgaug: $(VENV)/.installed-dev  ## measure every table of docs/results/cgaug.md again (4 hours); TABLES_ONLY=1 only writes the page
	$(BIN)/python -m benchmarks.claims_cgaug $(if $(TABLES_ONLY),--tables-only)

claims-iccld: $(VENV)/.installed-dev  ## measure every table of docs/results/iccld.md again (4 hours); TABLES_ONLY=1 only writes the page
	$(BIN)/python -m benchmarks.claims_iccld $(if $(TABLES_ONLY),--tables-only)

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $(VENV)/.installed $@

# `make lab` opens the course, `make test` tests it; both set it up first. install.py makes .venv, `course` does the rest.
#   make lab ARGS="--no-browser --port 8899"      arguments for JupyterLab (or for pytest, `course run`, `course build`)
#   make PYTHON=python3.12 setup                  another Python, 3.11 to 3.14
#   make setup ARGS=--cpu                         arguments for install.py
BIN := .venv/bin
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)
TESTS := --numprocesses 2 --dist loadscope --no-loadscope-reorder --nbval-lax --nbval-current-env --nbval-cell-timeout 300

# runs install.py with the first Python that the course runs with; $(1) are its arguments
define INSTALL
@for python in $(PYTHONS); do \
  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
    exec $$python install.py $(1); fi; \
done; \
echo "set-up: no Python 3.11 to 3.14 among: $(PYTHONS); install one from https://www.python.org/downloads/" \
  "(Debian, Ubuntu: sudo apt install python3 python3-venv; macOS: brew install python@3.13)" \
  "or name yours: make PYTHON=/path/to/python3" >&2; exit 1
endef

.DEFAULT_GOAL := lab
.PHONY: lab run setup setup-dev test build lint site weights

setup:
	$(call INSTALL,$(if $(filter setup,$(MAKECMDGOALS)),$(ARGS)))

setup-dev:  # what tests, builder and site need, too
	$(call INSTALL,--dev)

lab: setup
	@$(BIN)/course doctor || { echo "To open the course all the same: $(BIN)/course lab" >&2; exit 1; }
	@exec $(BIN)/course lab $(ARGS)

test: setup-dev
	@mkdir -p build && exec env -u COURSE_PROFILE -u COURSE_DATA -u MPLBACKEND \
	  COURSE_GRADES="$(CURDIR)/build/tests.jsonl" OMP_NUM_THREADS=1 TQDM_DISABLE=1 \
	  $(BIN)/python -m pytest $(TESTS) tests $(wildcard solutions/*.ipynb) $(ARGS)

run: setup
	@$(BIN)/course run --fresh $(ARGS)

build: setup-dev
	@$(BIN)/course build $(ARGS)

lint: setup-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

site: setup-dev
	@$(BIN)/course site $(ARGS)

weights: setup-dev
	@$(BIN)/python -m course_utils.tools.pretrain $(ARGS)

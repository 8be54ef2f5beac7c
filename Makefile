# Every target does its own set-up: `make test` and `make demo` work in a fresh clone.
# VENV=path uses another environment, PYTHON=python3.12 another interpreter (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.polyclock-installed

export MUJOCO_GL ?= egl
# Two workers with one thread each: more threads on two cores only wait for each other. The demo may use all cores.
WORKERS ?= 2
check test test-slow: export OMP_NUM_THREADS = 1

.PHONY: venv rendering check format tree test test-slow demo
.DEFAULT_GOAL := test

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed and $(PYTHON) is older; try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "no virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[hf,log,sim,formats,experts,dev]' -c constraints.txt
	@touch $@

# The simulated worlds draw off screen. Where that does not work, this says what to install, and their tests fail.
rendering: $(STAMP)
	@$(BIN)/python tools/check_rendering.py || true

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Draws the tree in README.md anew.
tree: $(STAMP)
	$(BIN)/python tools/draw_tree.py

test: $(STAMP) rendering
	$(BIN)/python -m pytest -n $(WORKERS)

# Work stealing: slow tests differ in length by the hundredfold.
test-slow: $(STAMP) rendering
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow --durations=0 --durations-min=0.1

demo: $(STAMP) rendering
	PATH="$(abspath $(BIN)):$$PATH" bash tools/demo.sh

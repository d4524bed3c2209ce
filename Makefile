# make train: a run on this machine, ending in a report.   make test: everything that must hold.
# make drills: kill what a run lives on, one thing after another, and write docs/drills.md.
# make parity: record anew what TRL computes, and compare.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where pip looks for a CPU build of torch besides the places it is configured for; harmless where it cannot be reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
READY := $(VENV)/.ready-$(shell cat pyproject.toml requirements/cpu.txt | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# TRL, which tests/parity and benchmarks/learner.py compare with, needs another transformers than vLLM allows.
PEER := .venv-parity
PEER_READY := $(PEER)/.ready-$(shell cksum < requirements/parity.txt | cut -d' ' -f1)
PEER_PIP := $(PEER)/bin/python -m pip --disable-pip-version-check --quiet

export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1

.PHONY: train test drills parity setup lint clean laboratory

train: setup
	$(BIN)/python -m launch.train $(ARGS)

test: setup lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

drills: setup
	$(BIN)/python -m tests.resilience.drills $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

parity: setup $(PEER_READY)
	$(PEER)/bin/python -m tests.parity.record
	$(BIN)/python -m pytest tests/parity

laboratory: setup
	$(BIN)/python -m launch.laboratory $(ARGS)

setup: $(READY)

$(READY):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or 3.12, or run make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { echo "Entrain needs Python 3.11 or 3.12, and $(PYTHON) is `$(PYTHON) --version`; run make PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV): a few minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --retries 1 --extra-index-url $(TORCH_INDEX) torch==2.13.0+cpu || { echo "no CPU build of torch found: taking pip's default build"; $(PIP) install torch==2.13.0; }
	$(PIP) install --no-deps -r requirements/cpu.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-*
	@touch $@

$(PEER_READY):
	@echo "setting up $(PEER): a few minutes the first time"
	$(PYTHON) -m venv $(PEER)
	$(PEER_PIP) install --retries 1 --extra-index-url $(TORCH_INDEX) torch==2.13.0+cpu || { echo "no CPU build of torch found: taking pip's default build"; $(PEER_PIP) install torch==2.13.0; }
	$(PEER_PIP) install --no-deps -r requirements/parity.txt
	@rm -f $(PEER)/.ready-*
	@touch $@

clean:
	rm -rf $(VENV) $(PEER) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

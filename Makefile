PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types soak soak-ranks fuzz systems bench table clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	touch $@

# Prepare the text that ships, train a small model, report its perplexity, print a sample.
demo: $(VENV)/installed
	$(BIN)/rnnlm prepare data/ferry.txt --out runs/demo-data --force
	rm -rf runs/demo
	$(BIN)/rnnlm train configs/demo.yaml --run-dir runs/demo
	$(BIN)/rnnlm eval runs/demo
	$(BIN)/rnnlm sample runs/demo --prime "The ferry" --length 400 --temperature 0.7
	$(BIN)/rnnlm report runs/demo

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 -rs

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

# Train, kill, damage, resume for ten minutes at most; every run must come back equal.
soak: $(VENV)/installed
	$(BIN)/python tests/robustness/soak.py $(ARGS)

# Start on four ranks, kill, resume on one to three, 20 times; every run must come back equal.
soak-ranks: $(VENV)/dev
	$(BIN)/python tests/robustness/soak_ranks.py $(ARGS)

# 10,000 mutated files; each is refused in one line or loads the original.
fuzz: $(VENV)/dev
	$(BIN)/python tests/robustness/fuzz.py $(ARGS)

# All simulated systems, one thing hidden at a time; the suite goes through two of them.
systems: $(VENV)/dev
	EVERY_SYSTEM=1 $(BIN)/python -m pytest tests/robustness/test_elsewhere.py

$(VENV)/bench: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

# What is measured and how: tests/bench/README.md; e.g. make bench ARGS="train --quick"
bench: $(VENV)/bench
	$(BIN)/python -m tests.bench $(ARGS)

# What models reach on two texts, as Markdown. It takes hours; after an interruption it goes on.
# How long, and what is trained: configs/sweeps/table-*.yaml
table: $(VENV)/installed
	$(BIN)/rnnlm sweep configs/sweeps/table-ferry.yaml --workers 1 --markdown
	$(BIN)/rnnlm sweep configs/sweeps/table-tinyshakespeare.yaml --workers 1 --markdown

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .hypothesis

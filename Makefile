# Everything runs from .venv, which every target sees to by itself.

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-zero test lint storm bench cost-table lambda-package image-package lock clean
READY := .venv/.ready

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ { printf "make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## install everything into .venv

demo: $(READY) ## start the whole system here and watch a model answer
	@.venv/bin/python -m local.demo

demo-zero: $(READY) ## the same from a stopped GPU: it wakes, answers, counts down and stops itself
	@.venv/bin/python -m local.demo --asleep

test: $(READY) ## run all tests and print the coverage; a part: make test ARGS="tests/unit --no-cov"
	@.venv/bin/python -m pytest $(if $(ARGS),$(ARGS),--cov)

lint: $(READY) ## check style, types and import directions
	@.ci/lint

storm: $(READY) ## send 1,000 jobs through a storm of faults; another one: make storm ARGS="--jobs 3000 --seed 1"
	@.venv/bin/python -m tests.process.storm $(ARGS)

bench: $(READY) ## run all benchmarks and make benchmarks/README.md of them; some of them: make bench ONLY="queue scale"
	@.venv/bin/python -m benchmarks $(ONLY)

cost-table: $(READY) ## write what both Terraform profiles cost into docs/cost.md; needs Terraform and its AWS provider
	@.venv/bin/python -m tests.infra.cost_table

lambda-package: $(READY) ## build the Lambda zips for x86_64 and arm64 into dist/
	@.venv/bin/python .ci/lambda_package.py

image-package: $(READY) ## build what goes onto the GPU's machine image into dist/tl-fif-node.tar.gz
	@.venv/bin/python .ci/image_package.py

lock: ## choose new versions for requirements.lock and ami/requirements.lock
	@.ci/setup venv
	@.venv/bin/python .ci/lock.py || .venv/bin/python .ci/lock.py --extra-index-url https://download.pytorch.org/whl/cpu

clean: ## remove .venv and every cache and build product
	@rm -rf .venv build dist htmlcov *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .ci/npm/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Written by the last line of the script, so that an interrupted set-up is never taken for a finished one.
$(READY): requirements.lock pyproject.toml VERSION
	@PYTHON="$(PYTHON)" .ci/setup

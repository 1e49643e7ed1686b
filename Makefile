# Every target sees to its environment itself: .venv holds everything, .venv-tools the little that packs, deploys and asks.

.DEFAULT_GOAL := help
.PHONY: help setup tools demo demo-zero test test-fast lint storm bench cost-table reference licences sbom audit \
	lambda-package image-package lock bake deploy rollback rollback-form smoke announce bump check-bump release-notes release labels clean
READY := .venv/.ready
TOOLS := .venv-tools/.ready

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ { printf "make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## install everything into .venv

tools: $(TOOLS) ## install what packs, deploys and smokes into .venv-tools; the targets that need it do so by themselves

demo: $(READY) ## start the whole system here and watch a model answer
	@.venv/bin/python -m local.demo

demo-zero: $(READY) ## the same from a stopped GPU: it wakes, answers, counts down and stops itself
	@.venv/bin/python -m local.demo --asleep

test: $(READY) ## run all tests and print the coverage; a part: make test ARGS="tests/unit --no-cov"
	@.venv/bin/python -m pytest $(if $(ARGS),$(ARGS),--cov)

test-fast: $(READY) ## run the tests that need no engine, stop at the first that fails, and write the coverage to htmlcov/
	@.venv/bin/python -m pytest tests/unit tests/contract tests/simulation --maxfail=1 \
		--cov=router_lambda --cov=client --cov-report=term --cov-report=html

lint: $(READY) ## check style, types and import directions
	@.ci/lint

storm: $(READY) ## send 1,000 jobs through a storm of faults; another one: make storm ARGS="--jobs 3000 --seed 1"
	@.venv/bin/python -m tests.process.storm $(ARGS)

bench: $(READY) ## run all benchmarks and make benchmarks/README.md of them; some of them: make bench ONLY="queue scale"
	@.venv/bin/python -m benchmarks $(ONLY)

cost-table: $(READY) ## write what both Terraform profiles cost into docs/cost.md; needs Terraform and its AWS provider
	@.venv/bin/python -m tests.infra.cost_table

reference: $(READY) ## write docs/configuration.md, docs/api.md and docs/adr/README.md from what they describe
	@.venv/bin/python .ci/reference.py

licences: $(READY) ## write docs/licences.md: under which terms everything is that is installed
	@.venv/bin/python .ci/licences.py

sbom: $(READY) ## write a bill of materials in CycloneDX's form into dist/, one for each lock
	@.venv/bin/python .ci/sbom.py

audit: $(READY) ## ask whether a version that is locked has a known weakness; asks the advisories of PyPI
	@.venv/bin/python .ci/audit.py $(ARGS)

lambda-package: $(TOOLS) ## build the Lambda zips for x86_64 and arm64 into dist/
	@.venv-tools/bin/python .ci/lambda_package.py

image-package: $(TOOLS) ## build what goes onto the GPU's machine image into dist/tl-fif-node.tar.gz
	@.venv-tools/bin/python .ci/image_package.py

bake: image-package ## bake the GPU's image if its sources are new; needs AWS and Terraform
	@.venv-tools/bin/python -m terraform.build_image $(ARGS)

deploy: lambda-package ## publish new versions of the functions and lead the calls over to them, step by step; needs AWS
	@.venv-tools/bin/python -m terraform.deploy $(ARGS)

rollback: $(TOOLS) ## lead the calls back to the versions before the last deployment; needs AWS
	@.venv-tools/bin/python -m terraform.rollback $(ARGS)

rollback-form: ## the same for what somebody typed into a form: TO and TLFIF_NAME of the environment, looked at first
	@.github/rollback.sh

smoke: $(TOOLS) ## ask a running system one question, from sign-in to the end of the reply; see docs/smoke.md
	@.venv-tools/bin/python -m tests.e2e.smoke $(ARGS)

announce: $(TOOLS) ## post a summary to Slack: make announce ARGS="FILE"
	@.venv-tools/bin/python -m terraform.slack $(ARGS)

bump: ## raise the version, everywhere: make bump PART=minor (or patch, major, 1.2.3)
	@python3 .ci/version.py bump $(PART)

check-bump: ## say whether what changed since BASE asks for a new version: make check-bump BASE=origin/main
	@python3 .ci/version.py check --base $(BASE)

release-notes: ## print what CHANGELOG.md says of this version
	@python3 .ci/version.py notes

release: ## make a release of this version on GitHub; needs gh
	@.github/release.sh

labels: ## make the labels of the issues on GitHub; needs gh
	@.github/labels.sh

lock: ## choose new versions for every lock; keep those that there are: make lock ARGS=--keep; needs Python 3.11 and 3.12
	@.ci/setup venv
	@.venv/bin/python .ci/lock.py $(ARGS) || \
		.venv/bin/python .ci/lock.py $(ARGS) --extra-index-url https://download.pytorch.org/whl/cpu

clean: ## remove .venv, .venv-tools and every cache and build product
	@rm -rf .venv .venv-tools build dist htmlcov *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .ci/npm/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Written by the last line of the script, so that an interrupted set-up is never taken for a finished one.
$(READY): requirements.lock pyproject.toml VERSION
	@PYTHON="$(PYTHON)" .ci/setup

$(TOOLS): .ci/tools.lock
	@PYTHON="$(PYTHON)" .ci/setup tools
